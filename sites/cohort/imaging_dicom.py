"""
What DICOM files say beside the series table: measurements of structured reports, and how images
were made.

    read = read_dicom(files)       features: FEATURES_SCHEMA; acquisition: a row a series

Structured reports: measurement reports of TID 1500 (PS3.16), whose measurement groups hold what was
found, where, the measurements with UCUM units and the identifier that follows one lesion over
studies. Person observers, comments and other free text are never read. When something was measured
is read only where the operator says so (`report_dates`): the dates of reports need not be in the
frame of the studies', and true dates beside shifted ones would give the shift away. Whose a report
is, its study decides, never its PatientID.

Acquisition parameters: the one value that all files of a series share; a parameter that differs
from file to file, such as a modulated tube current, has no single value and is left out.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from sites.cohort.bundle import ACQUISITION_SCHEMA, FEATURES_SCHEMA
from sites.quiet_dicom import quiet

_KEYWORDS = {
    "slice_thickness": "SliceThickness",
    "kvp": "KVP",
    "tube_current": "XRayTubeCurrent",
    "exposure_time": "ExposureTime",
    "repetition_time": "RepetitionTime",
    "echo_time": "EchoTime",
    "magnetic_field_strength": "MagneticFieldStrength",
}
_TAGS = [
    *_KEYWORDS.values(),
    *("Modality", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ContrastBolusAgent"),
    *("PixelSpacing", "ImagerPixelSpacing", "AnatomicRegionSequence", "ContentSequence"),
    *("SharedFunctionalGroupsSequence", "CurrentRequestedProcedureEvidenceSequence"),
]
_DATES = ["ContentDate", "StudyDate"]
_GROUP, _TRACKING, _TRACKING_UID, _FINDING = "125007", "112039", "112040", "121071"
_SITE = ("363698007", "G-C0E3")
_DERIVATION, _ALGORITHM, _VERSION, _SOURCE_SERIES = "121401", "111001", "111003", "121232"
_DEEPEST = 12


@dataclass(slots=True)
class ReadDicom:
    """
    What was read. reports: SR files with a measurement group; passed_over: files of which nothing
    was read, by the reason; too_early: features whose date was left out: it is before the report's
    own study, or that has none.
    """

    features: pa.Table
    acquisition: pa.Table
    files: int = 0
    reports: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    too_early: int = 0

    @property
    def skipped(self) -> int:
        """How many files were passed over."""
        return sum(self.passed_over.values())


def read_dicom(files: Iterable[Path], *, report_dates: bool = False) -> ReadDicom:
    """
    Read DICOM files; what is none, or cannot be read, is counted by the reason.

    report_dates: whether the dates of reports are in the frame of the study dates. Then each
    measurement is dated: by its own Observation DateTime (0040,A032), else its group's, else the
    report's Content Date (0008,0023).
    """
    features: list[dict[str, Any]] = []
    series: dict[str, dict[str, set[Any]]] = {}
    count, reports, too_early = 0, 0, 0
    passed_over: Counter[str] = Counter()
    tags = [*_TAGS, *(_DATES if report_dates else ())]
    with quiet():
        for path in files:
            count += 1
            try:
                found = dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
                if not found.get("SeriesInstanceUID"):
                    passed_over["no series UID"] += 1  # a DICOMDIR, or cut short before it
                    continue
                rows = list(_report(found)) if found.get("ContentSequence") else []
                early = _dated(rows, found if report_dates else None)
                if found.get("Modality") != "SR":
                    _image(found, series)
            except InvalidDicomError:
                passed_over["no DICOM file"] += 1
                continue
            except Exception:
                # Whatever a broken file makes the parser raise; its text can quote the file.
                passed_over["damaged"] += 1
                continue
            too_early += early
            reports += bool(rows)
            features += rows
    order = sorted(features, key=lambda row: [str(row.get(name)) for name in FEATURES_SCHEMA.names])
    return ReadDicom(
        features=pa.Table.from_pylist(order, FEATURES_SCHEMA),
        acquisition=_acquisition(series),
        files=count,
        reports=reports,
        passed_over=dict(passed_over),
        too_early=too_early,
    )


def _report(found: Dataset) -> Iterator[dict[str, Any]]:
    """Yield a row a measurement, or an evaluation in codes, of every measurement group."""
    evidence = {
        str(instance.get("ReferencedSOPInstanceUID")): (
            str(study.get("StudyInstanceUID")),
            str(one.get("SeriesInstanceUID")),
        )
        for study in found.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for one in study.get("ReferencedSeriesSequence") or ()
        for instance in one.get("ReferencedSOPSequence") or ()
    }
    own = str(found.get("StudyInstanceUID") or "")
    for group in _groups(found, 0):
        images = {evidence[uid] for uid in _referenced(group, 0) if uid in evidence}
        studies = {study for study, _ in images} or {study for study, _ in evidence.values()}
        said = _group_says(group)
        said["study_uid"] = studies.pop() if len(studies) == 1 else own
        named = said.pop("source_series", None)
        series = {one for study, one in images if study == said["study_uid"]}
        said["series_uid"] = named or (series.pop() if len(series) == 1 else None)
        if not said["study_uid"]:
            continue
        rows = [said | row for row in _measured(group)]  # one that has its own date keeps it
        if not rows and said.get("finding"):
            rows = [said]
        yield from rows


def _dated(rows: list[dict[str, Any]], report: Dataset | None) -> int:
    """Date the rows of a report, None: of none; return how many dates could not be its own."""
    left_out = 0
    of_study = _date(report.get("StudyDate")) if report is not None else None
    content = _date(report.get("ContentDate")) if report is not None else None
    for row in rows:
        said = [row.pop("of_measurement", None), row.pop("of_group", None), content]
        if report is None:
            continue
        day = next((one for one in said if one is not None), None)
        if day is not None and (of_study is None or day < of_study):
            left_out += 1
        else:
            row["observed_date"] = day
    return left_out


def _date(value: Any) -> dt.date | None:
    """Return the day of a DICOM date or date and time, None for anything else."""
    text = str(value or "")[:8]
    try:
        return dt.datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def _groups(item: Dataset, depth: int) -> Iterator[Dataset]:
    for one in item.get("ContentSequence") or ():
        if _name(one)[1] == _GROUP:
            yield one
        elif depth < _DEEPEST:
            yield from _groups(one, depth + 1)


def _group_says(group: Dataset) -> dict[str, Any]:
    said: dict[str, Any] = {"source": "SR", "of_group": _date(group.get("ObservationDateTime"))}
    label = None
    for one in group.get("ContentSequence") or ():
        _, code = _name(one)
        if code == _TRACKING_UID:
            said["tracking_id"] = str(one.get("UID") or "") or None
        elif code == _TRACKING:
            label = _text(one)
        elif code == _FINDING:
            said["finding"], said["finding_code"] = _coded(one.get("ConceptCodeSequence"))
        elif code in _SITE:
            said["anatomic_site"] = _coded(one.get("ConceptCodeSequence"))[0]
        elif code == _SOURCE_SERIES:
            said["source_series"] = str(one.get("UID") or "") or None
        else:
            _algorithm(one, code, said)
    if not said.get("tracking_id") and label:
        said["tracking_id"] = label
    return said


def _algorithm(one: Dataset, code: str, said: dict[str, Any]) -> None:
    if code == _ALGORITHM:
        said["algorithm"] = _text(one)
    elif code == _VERSION:
        said["algorithm_version"] = _text(one)


def _measured(group: Dataset) -> Iterator[dict[str, Any]]:
    for one in group.get("ContentSequence") or ():
        name, code = _coded(one.get("ConceptNameCodeSequence"))
        kind, when = one.get("ValueType"), _date(one.get("ObservationDateTime"))
        if not name or _name(one)[1] in (_FINDING, *_SITE):
            continue
        if kind == "NUM" and one.get("MeasuredValueSequence"):
            value = one.MeasuredValueSequence[0]
            row: dict[str, Any] = {
                "of_measurement": when,
                "feature_code": code,
                "value": float(value.NumericValue),
                "unit": _unit(value.get("MeasurementUnitsCodeSequence")),
            }
            how = None
            for child in one.get("ContentSequence") or ():
                inner = _name(child)[1]
                if inner == _DERIVATION:
                    how = _coded(child.get("ConceptCodeSequence"))[0]
                elif inner in _SITE:
                    row["anatomic_site"] = _coded(child.get("ConceptCodeSequence"))[0]
                else:
                    _algorithm(child, inner, row)
            yield row | {"feature": f"{name}, {how}" if how else name}
        elif kind == "CODE" and one.get("RelationshipType") == "CONTAINS":
            said, its_code = _coded(one.get("ConceptCodeSequence"))
            found = {"feature": name, "feature_code": code, "of_measurement": when}
            yield found | {"value_text": said or its_code}


def _referenced(item: Dataset, depth: int) -> Iterator[str]:
    """Yield the images that anything below a content item refers to."""
    for one in item.get("ReferencedSOPSequence") or ():
        yield str(one.get("ReferencedSOPInstanceUID"))
    if depth < _DEEPEST:
        for child in item.get("ContentSequence") or ():
            yield from _referenced(child, depth + 1)


def _name(item: Dataset) -> tuple[str, str]:
    """Return scheme and code of a content item's concept name; empty without one."""
    codes = item.get("ConceptNameCodeSequence")
    one = codes[0] if codes else Dataset()
    return str(one.get("CodingSchemeDesignator") or ""), str(one.get("CodeValue") or "")


def _coded(codes: Any) -> tuple[str | None, str | None]:
    """Return meaning and SCHEME:VALUE of the first code of a sequence."""
    if not codes:
        return None, None
    one = codes[0]
    value = one.get("CodeValue") or one.get("LongCodeValue") or one.get("URNCodeValue")
    scheme = one.get("CodingSchemeDesignator")
    return str(one.get("CodeMeaning") or "") or None, f"{scheme}:{value}" if value else None


def _unit(codes: Any) -> str | None:
    if not codes:
        return None
    is_ucum = codes[0].get("CodingSchemeDesignator") == "UCUM"
    return str(codes[0].get("CodeValue" if is_ucum else "CodeMeaning") or "") or None


def _text(item: Dataset) -> str | None:
    return str(item.get("TextValue") or "").strip() or None


def _image(found: Dataset, series: dict[str, dict[str, set[Any]]]) -> None:
    """Add what one file says of how it was made to its series."""
    uid = str(found.SeriesInstanceUID)
    held = series.setdefault(uid, {name: set() for name in ACQUISITION_SCHEMA.names[1:]})
    shared = (found.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    measures = (shared.get("PixelMeasuresSequence") or [Dataset()])[0]
    for name, keyword in _KEYWORDS.items():
        _add(held[name], found.get(keyword, measures.get(keyword)))
    spacing = found.get("PixelSpacing") or measures.get("PixelSpacing")
    for one in spacing or found.get("ImagerPixelSpacing") or ():
        _add(held["pixel_spacing"], one)
    if str(found.get("ContrastBolusAgent") or "").strip():
        held["contrast"].add(True)
    site = _coded(found.get("AnatomicRegionSequence"))[0]
    if site:
        held["anatomic_site"].add(site)


def _add(held: set[Any], value: Any) -> None:
    if value not in (None, ""):
        held.add(float(value))


def _acquisition(series: dict[str, dict[str, set[Any]]]) -> pa.Table:
    rows = [
        {"series_uid": uid}
        | {name: next(iter(values)) if len(values) == 1 else None for name, values in held.items()}
        for uid, held in sorted(series.items())
    ]
    return pa.Table.from_pylist(rows, ACQUISITION_SCHEMA)
