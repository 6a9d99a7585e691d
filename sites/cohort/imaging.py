"""
The imaging party's side: which of its subjects fit, and the series rows of each.

    answer = evaluate(config, criteria)
    answer.record_ids                 the local record ids that qualify, sorted
    answer.rows_of(record_id)         that subject's rows, SERIES_SCHEMA
    answer.attrition                  series, studies and subjects after every criterion

Nothing here is told who matched, and nothing clinical ever comes here.

Rule for the record id: the values of `record_id`'s columns joined by "/". In the Imaging Data
Commons PatientID is not unique over collections, so a file in which one record id has two
collections is refused. A study or a series that belongs to two subjects is left out: nobody can
tell whose it is (one StudyInstanceUID of the Imaging Data Commons belongs to two patients).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import NotFound, SourceRefused
from sites.cohort.attrition import Attrition, Step
from sites.cohort.bundle import SERIES_SCHEMA, UID
from sites.cohort.config import REQUIRED_SERIES_COLUMNS, SERIES_COLUMNS, ImagingConfig
from sites.cohort.spec import ImagingCriteria, NumberRange, imaging_in_words
from sites.cohort.tables import connect, count_of, no_values_in_errors, read_file

_FREE_TEXT = ("study_description", "series_description", "reference", "file_name", "object_id")
_SHORTEST_CONTAINED = 4
"""A shorter record id, such as "7", is found in any text by chance: it must be the whole text."""


@dataclass(frozen=True, slots=True, eq=False)
class ImagingAnswer:
    """
    Who fits at the imaging party.

    record_ids: local record ids, ascending. attrition: exact, not yet suppressed.
    rows: SERIES_SCHEMA, all subjects, ordered by record id, study UID, series UID.
    """

    record_ids: tuple[str, ...]
    attrition: Attrition
    rows: pa.Table
    spans: dict[str, tuple[int, int]]

    def rows_of(self, record_id: str) -> pa.Table:
        """Return the series rows to deliver for one subject. Raises NotFound if it doesn't fit."""
        if record_id not in self.spans:
            raise NotFound(
                "a record does not fit the imaging criteria", hint="ask only for record_ids"
            )
        first, count = self.spans[record_id]
        return self.rows.slice(first, count)

    def subjects(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield every record id that fits, with its rows."""
        for record_id in self.record_ids:
            yield record_id, self.rows_of(record_id)


def evaluate(config: ImagingConfig, criteria: ImagingCriteria) -> ImagingAnswer:
    """
    Evaluate the imaging half of a cohort specification.

    Raises SourceRefused where the file lacks a column that is needed, or record ids are not
    unique over collections.
    """
    con = connect()
    try:
        with no_values_in_errors(config.file.name):
            return _evaluate(con, config, criteria)
    finally:
        con.disconnect()


def _evaluate(con: Any, config: ImagingConfig, criteria: ImagingCriteria) -> ImagingAnswer:
    raw = read_file(con, config.file, "series_file")
    columns = _columns_of(raw, config)
    _check_columns(columns, criteria, config)
    series = con.create_table("series", _canonical(raw, columns, config), temp=True)
    _refuse_ambiguous_ids(series, config)
    steps = [_step("series of the commons", series)]
    series = _attributable(series)
    steps.append(_step("whose subject, study and series are certain", series))
    asked = [] if criteria.any else imaging_in_words(criteria)
    for label, condition in zip(asked, _conditions(series, criteria), strict=True):
        series = series.filter(condition)
        steps.append(_step(label, series))
    rows = series.order_by("record_id", "study_uid", "series_uid").to_pyarrow()
    spans = _spans(rows["record_id"])
    attrition = Attrition(side="imaging", steps=tuple(steps), notes=_notes(rows))
    names = SERIES_SCHEMA.names
    return ImagingAnswer(tuple(spans), attrition, rows.select(names).cast(SERIES_SCHEMA), spans)


def _columns_of(raw: Any, config: ImagingConfig) -> dict[str, str]:
    """Return meaning -> column of the file, for what the file has; names match case apart."""
    by_lower = {column.lower(): column for column in raw.columns}
    found = {}
    for meaning, default in SERIES_COLUMNS.items():
        wanted = config.columns.get(meaning, default)
        if wanted.lower() in by_lower:
            found[meaning] = by_lower[wanted.lower()]
        elif meaning in config.columns:
            raise SourceRefused(
                file=config.file.name,
                rule=f"has no column {wanted!r} for {meaning!r}",
                hint="correct [imaging.columns] in the site file",
            )
    for column in config.record_id:
        if column.lower() not in by_lower:
            raise SourceRefused(
                file=config.file.name,
                rule=f"has no column {column!r}, which record_id names",
                hint="correct record_id in [imaging] of the site file",
            )
    return found


def _check_columns(
    columns: dict[str, str], criteria: ImagingCriteria, config: ImagingConfig
) -> None:
    asked = {name for name in SERIES_COLUMNS if getattr(criteria, name, None)}
    for meaning in (*REQUIRED_SERIES_COLUMNS, *sorted(asked)):
        if meaning not in columns:
            raise SourceRefused(
                file=config.file.name,
                rule=f"has no column for {meaning!r}",
                hint=f"name it in [imaging.columns] of the site file: {meaning} = '...', "
                "or drop that criterion from the cohort",
            )


def _canonical(raw: Any, columns: dict[str, str], config: ImagingConfig) -> Any:
    """Return the expression of SERIES_SCHEMA's columns, `record_id` first, and `blanked`."""
    by_lower = {column.lower(): column for column in raw.columns}
    parts = [_text(raw, by_lower[column.lower()]) for column in config.record_id]
    record_id = parts[0]
    for part in parts[1:]:
        record_id = record_id + "/" + part
    made = {"record_id": record_id}
    for field in SERIES_SCHEMA:
        made[field.name] = _column(raw, columns, field)
    made["modality"] = made["modality"].upper()
    made["size_bytes"] = _size(raw, columns)
    made["date_frame"] = ibis.ifelse(made["study_date"].isnull(), "absent", config.date_frame)
    if config.wadors_root:
        made["wadors_uri"] = ibis.literal(f"{config.wadors_root}/studies/") + made["study_uid"]
    subject = [
        part
        for part, column in zip(parts, config.record_id, strict=True)
        if column.lower() != columns.get("collection", "").lower()
    ]
    return raw.select(**_blanked(made, subject))


def _blanked(made: dict[str, Any], subject: list[Any]) -> dict[str, Any]:
    """Return the columns without any free text that holds the subject's own record id."""
    blanked = ibis.literal(0, "int64")
    for name in _FREE_TEXT:
        tells = ibis.literal(False)
        for part in subject:
            within = (part.length() >= _SHORTEST_CONTAINED) & made[name].lower().contains(
                part.lower()
            )
            tells = tells | within | (made[name].lower() == part.lower())
        tells = tells.fill_null(False)
        made[name] = ibis.ifelse(tells, ibis.null("string"), made[name])
        blanked = blanked + tells.cast("int64")
    return {**made, "blanked": blanked}


def _column(raw: Any, columns: dict[str, str], field: pa.Field) -> Any:
    kind = {"string": "string", "date32[day]": "date", "double": "float64", "int64": "int64"}[
        str(field.type)
    ]
    if field.name not in columns:
        return ibis.null(kind)
    if kind == "string":
        return _text(raw, columns[field.name])
    column = raw[columns[field.name]]
    if kind != "date":
        return column.try_cast(kind)
    if column.type().is_date() or column.type().is_timestamp():
        return column.cast("date")
    text = _text(raw, columns[field.name])
    compact = text.re_replace(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")  # DICOM's own DA
    return compact.try_cast("date")


def _text(raw: Any, column: str) -> Any:
    return raw[column].cast("string").strip().nullif("")


def _size(raw: Any, columns: dict[str, str]) -> Any:
    size = ibis.null("int64")
    if "size_bytes" in columns:
        size = raw[columns["size_bytes"]].try_cast("int64")
    if "size_mb" in columns:
        megabytes = raw[columns["size_mb"]].try_cast("float64")
        size = size.coalesce((megabytes * 1_000_000).round(0).cast("int64"))
    return size


def _refuse_ambiguous_ids(series: Any, config: ImagingConfig) -> None:
    several = series.group_by("record_id").agg(n=series.collection.nunique()).filter(ibis._.n > 1)
    if (count := count_of(several.count())) > 0:
        raise SourceRefused(
            file=config.file.name,
            rule=f"{count} record ids occur in more than one collection",
            hint='PatientID is not unique over collections: record_id = ["collection_id", '
            '"PatientID"], and the same ids in the identifier file',
        )


def _attributable(series: Any) -> Any:
    """Leave out rows without ids, and studies and series that belong to two subjects."""
    known = series.filter(
        series.record_id.notnull()
        & series.modality.notnull()
        & series.study_uid.re_search(UID)
        & series.series_uid.re_search(UID)
    )
    for uid in ("study_uid", "series_uid"):
        owners = known.group_by(uid).agg(owners=known.record_id.nunique())
        known = known.semi_join(owners.filter(owners.owners == 1), uid)
    first = ibis.row_number().over(group_by="series_uid", order_by=["study_uid", "reference"])
    return known.mutate(nth=first).filter(ibis._.nth == 0).drop("nth")


def _conditions(series: Any, criteria: ImagingCriteria) -> list[Any]:
    """Return one condition a criterion, in the order of `imaging_in_words`; null never fits."""
    made = []
    if criteria.collection:
        made.append(series.collection.isin(criteria.collection))
    if criteria.modality:
        made.append(series.modality.isin(criteria.modality))
    if criteria.body_part:
        one_space = series.body_part.re_replace(r"\s+", " ")
        made.append(one_space.upper().isin(criteria.body_part))
    if criteria.manufacturer:
        name = series.manufacturer.re_replace(r"\s+", " ").upper()
        made.append(ibis.or_(*(name.contains(part) for part in criteria.manufacturer)))
    ranges = [(series.slice_thickness, criteria.slice_thickness), (series.kvp, criteria.kvp)]
    return made + [_within(column, bounds) for column, bounds in ranges if bounds]


def _within(column: Any, bounds: NumberRange) -> Any:
    low = -float("inf") if bounds.min is None else bounds.min
    high = float("inf") if bounds.max is None else bounds.max
    return (column >= low) & (column <= high)


def _step(label: str, series: Any) -> Step:
    counted = series.agg(
        series=series.count(),
        studies=series.study_uid.nunique(),
        subjects=series.record_id.nunique(),
    ).to_pyarrow()
    row = counted.to_pylist()[0]
    return Step(label=label, subjects=row["subjects"], studies=row["studies"], series=row["series"])


def _spans(record_ids: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Return record id -> (first row, rows), for rows ordered by record id."""
    spans: dict[str, tuple[int, int]] = {}
    for row, record_id in enumerate(record_ids.to_pylist()):
        first, count = spans.get(record_id, (row, 0))
        spans[record_id] = (first, count + 1)
    return spans


def _notes(rows: pa.Table) -> tuple[str, ...]:
    notes = []
    blanked = pc.sum(rows["blanked"]).as_py() or 0
    undated = pc.sum(pc.equal(rows["date_frame"], "absent")).as_py() or 0
    if blanked:
        notes.append(f"{blanked} texts of series were left out: they hold the record id itself")
    if undated:
        notes.append(f"{undated} series have no study date")
    return tuple(notes)
