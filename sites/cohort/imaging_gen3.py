"""
An imaging commons kept in Gen3 with MIDRC's data model, from its node exports (TSV).

case -> imaging_study -> cr, ct ... _series_file; beside them conditions, medications, procedures,
measurements, observations, visits, annotations, annotation files and radiology reports. Property
names: github.com/uc-cdis/midrc_dictionary, gdcdictionary/schemas.

MIDRC has no dates: days count from the case's index_event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ibis
import pyarrow as pa

from sites.cohort.bundle import EVENT_NODES, EVENTS_SCHEMA, FEATURES_SCHEMA, FILES_SCHEMA
from sites.cohort.config_imaging import REQUIRED_SERIES_COLUMNS, ImagingConfig
from sites.cohort.imaging_nodes import SERIES_NODES, Nodes, first, only, together
from sites.cohort.imaging_series import Source, as_schema, record_id_columns

_FROM_SERIES = {
    "series_uid": ("series_uid",),
    "modality": ("modality",),
    "manufacturer": ("manufacturer",),
    "manufacturer_model": ("manufacturer_model_name",),
    "series_description": ("series_description", "series_name"),
    "slice_thickness": ("slice_thickness",),
    "kvp": ("kvp",),
    "tube_current": ("xray_tube_current", "tube_current"),
    "exposure_time": ("exposure_time",),
    "pixel_spacing": ("pixel_spacing", "imager_pixel_spacing"),
    "repetition_time": ("repetition_time",),
    "echo_time": ("echo_time",),
    "magnetic_field_strength": ("magnetic_field_strength",),
    "instances": ("number_of_instances",),
    "size_bytes": ("file_size",),
    "object_id": ("object_id",),
    "file_name": ("file_name",),
    "md5sum": ("md5sum",),
}
_FROM_STUDY = {
    "study_uid": ("study_uid",),
    "study_day": ("days_to_study",),
    "study_date": ("study_date",),
    "study_description": ("study_description",),
    "body_part": ("body_part_examined",),
    "anatomic_site": ("loinc_system",),
    "loinc_contrast": ("loinc_contrast",),
    "subject_age": ("age_at_imaging",),
}

_EVENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "condition": {
        "code": ("condition_code",),
        "code_system": ("condition_code_system",),
        "name": ("condition_name",),
        "start_day": ("days_to_condition_start", "days_to_condition"),
        "end_day": ("days_to_condition_end",),
    },
    "medication": {
        "code": ("medication_code",),
        "code_system": ("medication_code_system",),
        "name": ("medication_name", "medication_type"),
        "value_text": ("medication_status",),
        "start_day": ("days_to_medication_start", "days_to_medication"),
        "end_day": ("days_to_medication_end",),
    },
    "procedure": {
        "code": ("procedure_code",),
        "code_system": ("procedure_code_system",),
        "name": ("procedure_name", "test_method"),
        "start_day": ("days_to_procedure", "days_to_procedure_start"),
        "end_day": ("days_to_procedure_end",),
    },
    "measurement": {
        "code": ("measurement_code", "test_code"),
        "code_system": ("measurement_code_system", "test_code_system"),
        "name": ("measurement_name", "test_name"),
        "value": ("measurement_value", "test_result_numeric", "test_value"),
        "value_text": ("test_result_text", "measurement_result_text"),
        "unit": ("measurement_unit", "test_unit", "test_units"),
        "start_day": ("test_days_from_index", "days_to_measurement", "days_to_test"),
    },
    "observation": {
        "name": ("observation_name",),
        "value_text": ("observation_answer",),
        "start_day": ("days_to_observation",),
    },
    "visit": {
        "name": ("visit_type",),
        "value_text": ("discharge_type",),
        "start_day": ("days_to_hospital_admission", "days_to_visit"),
        "end_day": ("days_to_hospital_discharge",),
    },
}
_ICU = {"start_day": ("days_to_icu_admission",), "end_day": ("days_to_icu_discharge",)}

_FILES = {
    "annotation_file": "annotation",
    "case_annotation_file": "annotation",
    "imaging_study_annotation_file": "annotation",
    "series_annotation_file": "annotation",
    "dicom_annotation_file": "annotation",
    "structured_report": "SR",
    "segmentation_file": "SEG",
    "radiology_report": "radiology_report",
    "supplementary_file": "supplementary",
}
_ANNOTATIONS = ("annotation", "imaging_study_annotation", "series_annotation", "radiology_report")
_LINKED_FILES = ("annotation_file", "dicom_annotation_file")
"""Through which an annotation may link to its study."""
_NO_FINDING = (
    *("type", "id", "project_id", "submitter_id", "state", "created_datetime", "updated_datetime"),
    *("case_ids", "instance_uids", "annotator_id", "annotation_method", "annotation_name"),
    *("file_name", "file_size", "file_state", "md5sum", "object_id", "error_type", "data_format"),
    *("data_type", "data_category", "modality", "study_description", "body_part_examined"),
    *("study_uid", "series_uid", "report_generation_method", "report_modification_method"),
    *("software_version", "software_versions"),
)
"""Properties of an annotation or report that say what it is, not what was found."""


def open_gen3(con: Any, config: ImagingConfig) -> Source:
    """Open kind "gen3". Raises SourceRefused where case, imaging_study or all series are absent."""
    nodes = Nodes(con, config.place)
    case = nodes.needed("case")
    ids = record_id_columns(case, config, "case")
    parts = {f"record_{n}": case[column] for n, column in enumerate(ids)}
    record_id = ibis.null("string")
    for n, column in enumerate(ids):
        record_id = case[column] if n == 0 else record_id + "/" + case[column]
    cases = case.select(
        **_keys(case),
        **parts,
        record_id=record_id,
        collection=first(case, "project_id"),
        index_event=first(case, "index_event"),
        subject_sex=first(case, "sex"),
        age_at_index=first(case, "age_at_index"),
    )
    cases = con.create_table("gen3_case", cases, temp=True)
    studies = nodes.linked(
        _picked(nodes.needed("imaging_study"), _FROM_STUDY, "cases", "case_ids"),
        "cases",
        cases,
        otherwise=("case_ids",),
    )
    studies = con.create_table("gen3_study", studies, temp=True)
    files = _series_files(nodes, studies)
    files = con.create_table(
        "gen3_series", files.order_by("file_submitter_id", "file_id"), temp=True
    )
    is_dicom = files.data_format.upper().isin(("DCM", "DICOM")).fill_null(True)
    made = files.filter(is_dicom).mutate(
        body_part=only(files.body_part),
        contrast=only(files.contrast_bolus_agent).coalesce(_single(files.loinc_contrast)),
        subject_age=files.subject_age.coalesce(files.age_at_index),
    )
    raw = con.create_table("gen3_raw", made, temp=True)
    columns = {name: name for name in _said(nodes)}
    for n, column in enumerate(ids):
        if column == "project_id":
            columns["collection"] = f"record_{n}"
    return Source(
        con=con,
        name=config.place.name,
        raw=raw,
        columns=columns,
        record_id=tuple(parts),
        config=config,
        features=partial(_features, nodes, studies, files),
        events=partial(_events, nodes, cases),
        files=lambda _: _files(nodes, cases, studies, files, files.filter(~is_dicom)),
        notes=nodes.notes,
    )


def _said(nodes: Nodes) -> set[str]:
    """
    Return what the export has columns for: MIDRC's model has none for the tube voltage, and who
    asks for it is told so, not that nobody fits.
    """
    tables = [table for node in SERIES_NODES if (table := nodes.read(node)) is not None]
    of_series = {column for table in tables for column in table.columns}
    of_study = set(nodes.needed("imaging_study").columns)
    found = {*REQUIRED_SERIES_COLUMNS, "collection", "index_event", "subject_sex", "subject_age"}
    found |= {name for name, names in _FROM_SERIES.items() if of_series & set(names)}
    found |= {name for name, names in _FROM_STUDY.items() if of_study & set(names)}
    if "contrast_bolus_agent" in of_series or "loinc_contrast" in found:
        found.add("contrast")
    return found - {"loinc_contrast"}


def _keys(table: Any) -> dict[str, Any]:
    return {name: first(table, name) for name in ("id", "submitter_id", "project_id")}


def _picked(table: Any, wanted: Mapping[str, tuple[str, ...]], *links: str) -> Any:
    """Return the wanted properties of a node under our names, its keys, and its links."""
    linking = [c for c in table.columns if c.split(".")[0] in links]
    made = {name: first(table, *names) for name, names in wanted.items()}
    return table.select(**_keys(table), **{c: table[c] for c in linking}, **made)


def _series_files(nodes: Nodes, studies: Any) -> Any:
    """Return all series files with the columns of their study and case."""
    tables = [table for node in SERIES_NODES if (table := nodes.read(node)) is not None]
    rows = together(tables) if tables else nodes.needed("ct_series_file")
    more = {"data_format": ("data_format",), "contrast_bolus_agent": ("contrast_bolus_agent",)}
    rows = _picked(rows, {**_FROM_SERIES, **more}, "imaging_studies")
    rows = nodes.linked(rows, "imaging_studies", studies.drop(*_links(studies)))
    return rows.rename(file_id="id", file_submitter_id="submitter_id").drop(*_links(rows))


def _links(table: Any) -> list[str]:
    return [column for column in table.columns if "." in column or column == "case_ids"]


def _single(loinc: Any) -> Any:
    """Return LOINC's W or WO; with and without in one study says nothing of a single series."""
    return ibis.ifelse(loinc.isin(("W", "WO")), loinc, ibis.null("string"))


def _events(nodes: Nodes, cases: Any) -> pa.Table:
    """Load EVENTS_SCHEMA of all cases, record_id first."""
    owner = cases.select("id", "submitter_id", "project_id", "record_id")
    tables = []
    for node in EVENT_NODES:
        if (table := nodes.read(node)) is None:
            continue
        for wanted, name in ((_EVENTS[node], ""), (_ICU if node == "visit" else {}, "ICU stay")):
            if not wanted:
                continue
            rows = nodes.linked(
                _picked(table, wanted, "cases", "case_ids"), "cases", owner, otherwise=["case_ids"]
            )
            rows = rows.mutate(node=ibis.literal(node))
            rows = rows.mutate(name=ibis.literal(name)) if name else rows
            rows = rows.filter(rows.start_day.notnull()) if name else rows
            day = rows.start_day.try_cast("float64")
            rows = rows.mutate(date_frame=ibis.ifelse(day.isnull(), "absent", "index"))
            tables.append(rows.drop(*_links(rows)))
    return _owned(tables, EVENTS_SCHEMA)


def _owned(tables: Sequence[Any], schema: pa.Schema) -> pa.Table:
    """Load the rows of all tables one by one: in one query Ibis spends far more time on its SQL."""
    whole = pa.schema([pa.field("record_id", pa.string()), *schema])
    return pa.concat_tables([whole.empty_table(), *(as_schema(one, whole) for one in tables)])


def _of_series(nodes: Nodes, rows: Any, studies: Any, files: Any) -> Any:
    """Return rows that link to a study or to a series file with study_uid and series_uid."""
    keyed = studies.select("id", "submitter_id", "project_id", its_study=studies.study_uid)
    rows = nodes.linked(rows, "imaging_studies", keyed)
    series = files.select(
        id=files.file_id,
        submitter_id=files.file_submitter_id,
        project_id=files.project_id,
        study_of_series=files.study_uid,
        its_series=files.series_uid,
    )
    links = [f"{node}s" for node in SERIES_NODES]
    names = [c for link in links for c in rows.columns if c == f"{link}.submitter_id"]
    ids = [c for link in links for c in rows.columns if c == f"{link}.id"]
    rows = rows.mutate(
        **{"series_files.submitter_id": first(rows, *names), "series_files.id": first(rows, *ids)}
    )
    rows = nodes.linked(rows, "series_files", series)
    own_study, own_series = first(rows, "study_uid"), first(rows, "series_uid")
    return rows.mutate(
        study_uid=ibis.coalesce(rows.study_of_series, rows.its_study, own_study),
        series_uid=rows.its_series.coalesce(own_series),
    )


def _through_files(nodes: Nodes, name: str, rows: Any, studies: Any, files: Any) -> Any:
    """Return rows of which those without a study have that of the annotation file they link to."""
    for node in _LINKED_FILES:
        linking = [c for c in rows.columns if c.split(".")[0] == f"{node}s"]
        if not linking or (table := nodes.read(node)) is None:
            continue
        placed = _of_series(nodes, table, studies, files)
        target = placed.select(**_keys(placed), **{f"study_of_{node}": placed.study_uid})
        target = nodes.con.create_table(f"gen3_{node}_of_{name}", target, temp=True)
        rows = nodes.linked(rows, f"{node}s", target)
        rows = rows.mutate(study_uid=rows.study_uid.coalesce(rows[f"study_of_{node}"]))
    return rows


def _features(nodes: Nodes, studies: Any, files: Any) -> pa.Table:
    """Load FEATURES_SCHEMA: every property of an annotation or report that says what was found."""
    tables = []
    for node in _ANNOTATIONS:
        if (table := nodes.read(node)) is None:
            continue
        placed = _of_series(nodes, table, studies, files)
        placed = _through_files(nodes, node, placed, studies, files)
        table = nodes.con.create_table(f"gen3_found_{node}", placed, temp=True)
        links = {*_NO_FINDING, "its_study", "study_of_series", "its_series"}
        links |= {f"study_of_{node}" for node in _LINKED_FILES}
        for name in table.columns:
            if name in links or "." in name:
                continue
            value = table[name].try_cast("float64")
            tables.append(
                table.filter(table[name].notnull()).select(
                    study_uid=table.study_uid,
                    series_uid=table.series_uid,
                    feature=ibis.literal(name),
                    value=value.cast("string"),
                    value_text=ibis.ifelse(value.isnull(), table[name], ibis.null("string")),
                    algorithm=first(table, "annotation_method", "report_generation_method"),
                    algorithm_version=first(table, "software_version", "software_versions"),
                    source=ibis.literal("node"),
                )
            )
    rows = together(tables)
    return FEATURES_SCHEMA.empty_table() if rows is None else as_schema(rows, FEATURES_SCHEMA)


def _files(nodes: Nodes, cases: Any, studies: Any, files: Any, others: Any) -> pa.Table:
    """Load FILES_SCHEMA of all cases, record_id first; also image files that are not DICOM."""
    owner = cases.select("id", "submitter_id", "project_id", "record_id")
    tables = [
        others.select(
            *("record_id", "study_uid", "series_uid", "object_id", "file_name", "md5sum"),
            kind=others.data_format.upper(),
            size_bytes=others.size_bytes,
            name=others.series_description,
        )
    ]
    for node, kind in _FILES.items():
        if (table := nodes.read(node)) is None:
            continue
        table = table.drop("record_id") if "record_id" in table.columns else table
        rows = nodes.linked(table, "cases", owner, otherwise=["case_ids"])
        rows = _of_series(nodes, rows, studies, files)
        said = only(first(rows, "modality")).upper()
        is_dicom = node == "dicom_annotation_file"
        tables.append(
            rows.select(
                kind=said.coalesce(kind) if is_dicom else ibis.literal(kind),
                name=first(rows, "annotation_name", "series_description"),
                size_bytes=first(rows, "file_size"),
                **{n: rows[n] for n in ("record_id", "study_uid", "series_uid")},
                **{n: first(rows, n) for n in ("object_id", "file_name", "md5sum")},
            )
        )
    return _owned(tables, FILES_SCHEMA)
