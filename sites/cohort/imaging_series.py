"""
One row a DICOM series: the table that every kind of imaging commons is read as.

    source = open_series(con, config)      kind "series"; others: imaging_source.open_source
    source.column("kvp")                   an Ibis column, cleaned
    delivered_rows(source, fits)           SERIES_SCHEMA of the series that fit

Values are cleaned here once: spaces, DICOM dates (DA) and ages (AS), lists such as "0.7\\0.7" whose
values are all the same. A list of several values is no value: nobody can tell which one holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import SourceRefused
from sites.cohort.bundle import ACQUISITION, FILES_SCHEMA, SERIES_SCHEMA, UID
from sites.cohort.config_imaging import REQUIRED_SERIES_COLUMNS, SERIES_COLUMNS, ImagingConfig
from sites.cohort.tables import read_file

_FREE_TEXT = (
    *("study_description", "series_description"),
    *("reference", "wadors_uri", "file_name", "object_id"),
)
_SHORTEST_CONTAINED = 4
"""A shorter record id, such as "7", is found in any text by chance: it must be the whole text."""

_YES = ("true", "yes", "y", "1", "t", "with", "w")
_NO = ("false", "no", "n", "0", "f", "without", "wo", "none", "no contrast")
_UNKNOWN = ("unknown", "not reported", "n/a", "no data", "null", "?", "wo & w", "w & wo", "w && wo")

Loader = Callable[[], pa.Table]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """
    What one imaging commons holds, opened.

    name: of the file or folder, for errors. raw: Ibis table, a row a series, in a stable order.
    columns: meaning to column of raw, for what is there. record_id: columns of raw that, joined by
    "/", are the record id. acquisition: series_uid and columns of ACQUISITION_SCHEMA that fill in
    what raw does not say. features: loads FEATURES_SCHEMA. events, files: load EVENTS_SCHEMA and
    FILES_SCHEMA with a first column record_id, null where only a study says whose it is; files is
    given the rows that fit (as delivered_rows) and may leave out those of other studies. notes:
    what was odd in the data, as far as it was read.
    """

    con: Any
    name: str
    raw: Any
    columns: Mapping[str, str]
    record_id: tuple[str, ...]
    config: ImagingConfig
    acquisition: pa.Table | None = None
    features: Loader | None = None
    events: Loader | None = None
    files: Callable[[pa.Table], pa.Table] | None = None
    notes: Sequence[str] = ()

    def column(self, meaning: str) -> Any:
        """Return the column of a name in SERIES_SCHEMA, cleaned; all null where it is not there."""
        special = {
            "size_bytes": _size,
            "subject_sex": _sex,
            "subject_age": _age,
            "contrast": _contrast,
            "study_date": _study_date,
            "index_event": _index_event,
            "date_frame": _frame,
        }
        if made := special.get(meaning):
            return made(self)
        made = _column(self.raw, self.columns, SERIES_SCHEMA.field(meaning))
        return made.upper() if meaning == "modality" else made

    def has(self, meaning: str) -> bool:
        """Tell whether anything says this of the series."""
        more = self.acquisition.schema.names if self.acquisition is not None else ()
        return meaning in self.columns or meaning in more


def open_series(con: Any, config: ImagingConfig) -> Source:
    """Open kind "series". Raises SourceRefused where file or a named column is not there."""
    raw = read_file(con, config.place, "series_file")
    by_lower = {column.lower(): column for column in raw.columns}
    columns = {}
    for meaning, default in SERIES_COLUMNS.items():
        wanted = config.columns.get(meaning, default)
        if wanted.lower() in by_lower:
            columns[meaning] = by_lower[wanted.lower()]
        elif meaning in config.columns:
            raise SourceRefused(
                file=config.place.name,
                rule=f"has no column {wanted!r} for {meaning!r}",
                hint="correct [imaging.columns] in the site file",
            )
    ids = record_id_columns(raw, config, config.place.name)
    for meaning in REQUIRED_SERIES_COLUMNS:
        if meaning not in columns:
            raise SourceRefused(
                file=config.place.name,
                rule=f"has no column for {meaning!r}",
                hint=f"name it in [imaging.columns] of the site file: {meaning} = '...'",
            )
    source = Source(con, config.place.name, raw, columns, ids, config)
    return replace(source, files=partial(_files, source))


_BESIDE_IMAGES = ("SR", "SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "PR", "KO", "REG", "DOC", "RWV")
"""Modalities of series that say something of other series: delivered as files of their study."""


def _files(source: Source, fits: pa.Table) -> pa.Table:
    """Load FILES_SCHEMA, record_id first: reports, segmentations ... that are series themselves."""
    kind = source.column("modality")
    names = ("object_id", "file_name", "md5sum", "size_bytes", "reference")
    schema = pa.schema([pa.field("record_id", pa.string()), *FILES_SCHEMA])
    studies = ibis.memtable(pa.table({"fitting_study": pc.unique(fits["study_uid"])}))
    rows = source.raw.filter(kind.isin(_BESIDE_IMAGES))
    its_study = text(rows, source.columns["study_uid"])
    rows = rows.semi_join(studies, its_study == studies.fitting_study)
    held = replace(source, raw=rows)
    made = rows.select(
        kind=held.column("modality"),
        name=held.column("series_description"),
        **{uid: text(rows, source.columns[uid]) for uid in _UIDS},
        **{name: held.column(name) for name in names},
    )
    return as_schema(made, schema)


def record_id_columns(raw: Any, config: ImagingConfig, file: str) -> tuple[str, ...]:
    """Return the columns of `raw` that record_id names, case apart. Raises SourceRefused."""
    by_lower = {column.lower(): column for column in raw.columns}
    for column in config.record_id:
        if column.lower() not in by_lower:
            raise SourceRefused(
                file=file,
                rule=f"has no column {column!r}, which record_id names",
                hint="correct record_id in [imaging] of the site file",
            )
    return tuple(by_lower[column.lower()] for column in config.record_id)


def delivered_rows(source: Source, fits: pa.Table) -> pa.Table:
    """
    Return SERIES_SCHEMA and `blanked` of the series that fit, in the order of `fits`.

    fits: nth (row of source.raw, from 0), position, record_id, study_uid, series_uid. blanked: how
    many free texts were left out because they hold the subject's own record id.
    Raises SourceRefused where the table is another one by now.
    """
    made = {name: source.column(name) for name in SERIES_SCHEMA.names if name not in _UIDS}
    made |= {f"id_{n}": text(source.raw, name) for n, name in enumerate(source.record_id)}
    made["its_series"] = text(source.raw, source.columns["series_uid"])
    rows = source.raw.select(nth=ibis.row_number(), **made)
    found = rows.inner_join(ibis.memtable(fits), "nth")
    found = found.filter(found.its_series == found.series_uid)
    if (more := source.acquisition) is not None:
        names = [name for name in more.schema.names if name != "series_uid"]
        added = more.select(["series_uid", *names])
        side = ibis.memtable(added.rename_columns(["made_of", *(f"made_{n}" for n in names)]))
        found = found.left_join(side, found.series_uid == side.made_of)
        found = found.mutate(**{n: found[n].coalesce(found[f"made_{n}"]) for n in names})
    if source.config.wadors_root:  # holds the study UID only
        uri = ibis.literal(f"{source.config.wadors_root}/studies/") + found.study_uid
        found = found.mutate(wadors_uri=uri)
    at = source.columns.get("collection", "").lower()
    own = [n for n, name in enumerate(source.record_id) if name.lower() != at]
    parts = [found[f"id_{n}"] for n in own]
    found = found.mutate(**blanked({name: found[name] for name in _FREE_TEXT}, parts))
    rows = found.select("position", *SERIES_SCHEMA.names, "blanked").order_by("position")
    table = rows.drop("position").to_pyarrow()
    if table.num_rows != fits.num_rows:
        raise SourceRefused(
            file=source.name, rule="changed while it was read", hint="answer once more"
        )
    return table.cast(pa.schema([*SERIES_SCHEMA, pa.field("blanked", pa.int64())]))


_UIDS = ("study_uid", "series_uid")


def blanked(texts: Mapping[str, Any], parts: Sequence[Any]) -> dict[str, Any]:
    """Return Ibis texts without those that hold a part of the record id, and how many: blanked."""
    count = ibis.literal(0, "int64")
    made = {}
    for name, said in texts.items():
        tells = ibis.literal(False)
        for part in parts:
            within = (part.length() >= _SHORTEST_CONTAINED) & said.lower().contains(part.lower())
            tells = tells | within | (said.lower() == part.lower())
        tells = tells.fill_null(False)
        made[name] = ibis.ifelse(tells, ibis.null("string"), said)
        count = count + tells.cast("int64")
    return {**made, "blanked": count}


def text(raw: Any, column: str) -> Any:
    """Return a column as text, without outer spaces, null where empty."""
    return raw[column].cast("string").strip().nullif("")


_KINDS = {
    "string": "string",
    "date32[day]": "date",
    "double": "float64",
    "int64": "int64",
    "int32": "int32",
    "bool": "boolean",
}


def _column(raw: Any, columns: Mapping[str, str], field: pa.Field) -> Any:
    kind = _KINDS[str(field.type)]
    if field.name not in columns:
        return ibis.null(kind)
    if kind == "string":
        return text(raw, columns[field.name])
    column = raw[columns[field.name]]
    if kind == "date":
        return day_of(raw, columns[field.name])
    if kind == "float64" and field.name in _LISTS:
        if column.type().is_string():
            return _only_number(raw, columns[field.name])
        if column.type().is_array():
            held = column.unique()
            return ibis.ifelse(held.length() == 1, held[0], None).try_cast("float64")
    if kind == "int32" and column.type().is_string():  # "12.0": Gen3 days are numbers
        return column.try_cast("float64").round(0).try_cast("int32")
    return column.try_cast(kind)


_LISTS = ("slice_thickness", "kvp", *ACQUISITION)


def _only_number(raw: Any, column: str) -> Any:
    """Return the number of a text such as 1.25, [1.25] or 0.7\\0.7; null for several numbers."""
    bare = text(raw, column).re_replace(r"[\[\]{}\s\"']", "")
    numbers = bare.re_split(r"[,;\\]").unique()
    return ibis.ifelse(numbers.length() == 1, numbers[0], ibis.null("string")).try_cast("float64")


def day_of(raw: Any, column: str) -> Any:
    """Return a column of dates, timestamps, ISO 8601 texts or DICOM DA as dates."""
    if raw[column].type().is_date() or raw[column].type().is_timestamp():
        return raw[column].cast("date")
    compact = text(raw, column).re_replace(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    return compact.try_cast("date")


def as_schema(raw: Any, schema: pa.Schema, **otherwise: str) -> pa.Table:
    """
    Return the columns of `raw` that `schema` names, case apart, cleaned; null what is not there.

    otherwise: the value of a column where it is missing or null. A UID that is none is null.
    """
    by_lower = {column.lower(): column for column in raw.columns}
    made = {}
    for field in schema:
        kind = {"double": "float64", "date32[day]": "date"}.get(str(field.type), str(field.type))
        if field.name not in by_lower:
            column = ibis.null(kind)
        elif kind == "string":
            column = text(raw, by_lower[field.name])
        elif kind == "date":
            column = day_of(raw, by_lower[field.name])
        else:
            column = raw[by_lower[field.name]].try_cast("float64").try_cast(kind)
        if field.name in ("study_uid", "series_uid"):
            column = ibis.ifelse(column.re_search(UID), column, ibis.null("string"))
        if field.name in otherwise:
            column = column.coalesce(otherwise[field.name])
        made[field.name] = column
    expression = raw.select(**made)
    for field in schema:
        if not field.nullable:
            expression = expression.filter(expression[field.name].notnull())
    return expression.to_pyarrow().cast(schema)


def _study_date(source: Source) -> Any:
    """Return the dates; all null in frame "index", where a date would be of no known calendar."""
    if source.config.date_frame == "index":
        return ibis.null("date")
    return _column(source.raw, source.columns, SERIES_SCHEMA.field("study_date"))


def _index_event(source: Source) -> Any:
    named = ibis.literal(source.config.index_event, "string")
    if "index_event" not in source.columns:
        return named
    return text(source.raw, source.columns["index_event"]).coalesce(named)


def _frame(source: Source) -> Any:
    frame = source.config.date_frame
    dated = source.column("study_day" if frame == "index" else "study_date")
    return ibis.ifelse(dated.isnull(), "absent", frame)


def _contrast(source: Source) -> Any:
    """
    Return whether a contrast agent was given: yes, no, or not known.

    Words and LOINC's W and WO (with, without) count; any other text is the name of an agent (DICOM
    ContrastBolusAgent, PS3.3 C.7.6.4), so yes. An empty value is not a no.
    """
    if "contrast" not in source.columns:
        return ibis.null("boolean")
    column = source.raw[source.columns["contrast"]]
    if column.type().is_boolean():
        return column
    said = text(source.raw, source.columns["contrast"]).re_replace(r"[\[\]\"']", "")
    said = said.re_replace(r"\s+", " ").strip().lower().nullif("")
    return ibis.cases(
        (said.isnull(), ibis.null("boolean")),
        (said.isin(_YES), True),
        (said.isin(_NO), False),
        (said.isin(_UNKNOWN), ibis.null("boolean")),
        else_=True,
    )


def _sex(source: Source) -> Any:
    """Return PatientSex (F, M, O, DICOM PS3.3 C.7.1.1) or a word for it; anything else is null."""
    if "subject_sex" not in source.columns:
        return ibis.null("string")
    letter = text(source.raw, source.columns["subject_sex"]).upper()
    return ibis.cases(
        (letter.isin(("F", "FEMALE")), "female"),
        (letter.isin(("M", "MALE")), "male"),
        (letter.isin(("O", "OTHER")), "other"),
        else_=ibis.null("string"),
    )


def _age(source: Source) -> Any:
    """Return PatientAge in years: a number, or DICOM's AS such as 045Y or 007M (PS3.5 6.2)."""
    if "subject_age" not in source.columns:
        return ibis.null("float64")
    said = text(source.raw, source.columns["subject_age"]).upper()
    number = said.re_replace(r"[DWMY]$", "").try_cast("float64")
    parts = ibis.cases(
        (said.endswith("D"), 365.25),
        (said.endswith("W"), 52.18),
        (said.endswith("M"), 12.0),
        else_=1.0,
    )
    return ibis.ifelse(
        (number >= 0) & (number <= 150 * parts), number / parts, ibis.null("float64")
    )


def _size(source: Source) -> Any:
    size = ibis.null("int64")
    if "size_bytes" in source.columns:
        size = source.raw[source.columns["size_bytes"]].try_cast("int64")
    if "size_mb" in source.columns:
        megabytes = source.raw[source.columns["size_mb"]].try_cast("float64")
        size = size.coalesce((megabytes * 1_000_000).round(0).cast("int64"))
    return size
