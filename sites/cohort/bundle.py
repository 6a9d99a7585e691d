"""
What the imaging commons delivers of one subject, as bytes: encrypted under that subject's row key.

    content = bundle_to_bytes({"series": series, "features": features})
    tables = bundle_from_bytes(content)          all four tables, each of its schema

Four tables, BUNDLE_SCHEMAS: the subject's series, image features (measurements and findings),
clinical events that the commons itself holds, and files that come with the images. A table that
is left out is empty. The bytes are filled up with zeros to a power of two, because the enclave also
holds the bundles that it can't open, and their length would tell how much there is of an unmatched
subject. No record id and no PatientID is in it: the enclave knows the subject by the row ID alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import PackageRefused

UID = r"^[0-9.]{1,64}$"
"""A DICOM UID, PS3.5 9.1. Nothing else may become part of a path or an address."""

DATE_FRAMES = ("true", "shifted", "index", "unknown", "absent")
"""
What a date or day is worth. index: days from an index event, no calendar date; absent: none.
"""

FEATURE_SOURCES = ("SR", "table", "mi_cdm", "node")
"""Where a feature was read: DICOM SR, a table of features, MI-CDM tables, a Gen3 node."""

EVENT_NODES = ("condition", "medication", "procedure", "measurement", "observation", "visit")
"""The clinical nodes of MIDRC's data model that are delivered, by their Gen3 names."""

ACQUISITION = (
    "tube_current",
    "exposure_time",
    "pixel_spacing",
    "repetition_time",
    "echo_time",
    "magnetic_field_strength",
)
"""Acquisition parameters beside slice_thickness and kvp: mA, ms, mm, ms, ms, tesla."""


def _schema(needed: Mapping[str, pa.DataType], more: Mapping[str, pa.DataType]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in needed.items()]
    return pa.schema(fields + [pa.field(name, kind) for name, kind in more.items()])


_TEXT, _NUMBER, _DATE, _DAY, _COUNT = (
    pa.string(),
    pa.float64(),
    pa.date32(),
    pa.int32(),
    pa.int64(),
)

SERIES_SCHEMA = pa.schema(
    [
        pa.field("study_uid", pa.string(), nullable=False),
        pa.field("series_uid", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("collection", pa.string()),
        pa.field("body_part", pa.string()),
        pa.field("manufacturer", pa.string()),
        pa.field("manufacturer_model", pa.string()),
        pa.field("study_date", pa.date32()),
        pa.field("date_frame", pa.string(), nullable=False),
        pa.field("study_description", pa.string()),
        pa.field("series_description", pa.string()),
        pa.field("slice_thickness", pa.float64()),
        pa.field("kvp", pa.float64()),
        pa.field("instances", pa.int64()),
        pa.field("size_bytes", pa.int64()),
        pa.field("reference", pa.string()),
        pa.field("wadors_uri", pa.string()),
        pa.field("object_id", pa.string()),
        pa.field("file_name", pa.string()),
        pa.field("md5sum", pa.string()),
        pa.field("anatomic_site", pa.string()),
        pa.field("contrast", pa.bool_()),
        pa.field("study_day", pa.int32()),
        pa.field("index_event", pa.string()),
        pa.field("subject_sex", pa.string()),
        pa.field("subject_age", pa.float64()),
        *(pa.field(name, pa.float64()) for name in ACQUISITION),
    ]
)
"""
One row a series. modality: DICOM code, capitals. slice_thickness: mm; kvp: kV. study_date: as the
commons gives it, in the frame `date_frame` (one of DATE_FRAMES). Frame "index": study_day, days
from the event that index_event names, and no study_date. size_bytes: of the whole series.
reference: S3 or DRS address. wadors_uri: of the study. object_id: Gen3, dg.XXXX/uuid.
subject_sex ("female", "male", "other"), subject_age (years at the study): as the images say, to be
held against the enclave's own (sites.cohort.report_checks).
"""

ACQUISITION_SCHEMA = pa.schema(
    [
        pa.field("series_uid", pa.string(), nullable=False),
        pa.field("contrast", pa.bool_()),
        pa.field("anatomic_site", pa.string()),
        pa.field("slice_thickness", pa.float64()),
        pa.field("kvp", pa.float64()),
        *(pa.field(name, pa.float64()) for name in ACQUISITION),
    ]
)
"""One row a series; units as SERIES_SCHEMA."""

FEATURES_SCHEMA = _schema(
    {"study_uid": _TEXT, "source": _TEXT},
    {
        "series_uid": _TEXT,
        "feature": _TEXT,
        "feature_code": _TEXT,
        "finding": _TEXT,
        "finding_code": _TEXT,
        "tracking_id": _TEXT,
        "value": _NUMBER,
        "value_text": _TEXT,
        "unit": _TEXT,
        "anatomic_site": _TEXT,
        "algorithm": _TEXT,
        "algorithm_version": _TEXT,
        "observed_date": _DATE,
        "observed_day": _DAY,
    },
)
"""
One row a measurement or a finding of an image. feature: name of what was measured; its and the
finding's code as SCHEME:VALUE where there is one. tracking_id: the same for one lesion in all its
studies. unit: UCUM. observed_date, observed_day: when, in the frame of the study's series; null
means the study's own. source: one of FEATURE_SOURCES.
"""

EVENTS_SCHEMA = _schema(
    {"node": _TEXT, "date_frame": _TEXT},
    {
        "code": _TEXT,
        "code_system": _TEXT,
        "name": _TEXT,
        "value": _NUMBER,
        "value_text": _TEXT,
        "unit": _TEXT,
        "start_day": _DAY,
        "end_day": _DAY,
        "start_date": _DATE,
        "end_date": _DATE,
    },
)
"""One row a clinical event that the imaging commons itself holds. node: one of EVENT_NODES."""

FILES_SCHEMA = _schema(
    {"kind": _TEXT},
    {
        "study_uid": _TEXT,
        "series_uid": _TEXT,
        "name": _TEXT,
        "object_id": _TEXT,
        "file_name": _TEXT,
        "md5sum": _TEXT,
        "size_bytes": _COUNT,
        "reference": _TEXT,
    },
)
"""One row a file beside the series: kind is annotation, SR, SEG, RTSTRUCT, radiology_report ..."""

BUNDLE_SCHEMAS: dict[str, pa.Schema] = {
    "series": SERIES_SCHEMA,
    "features": FEATURES_SCHEMA,
    "events": EVENTS_SCHEMA,
    "files": FILES_SCHEMA,
}

SMALLEST_BUNDLE = 16 * 1024
LARGEST_BUNDLE = 256 * 1024 * 1024
LARGEST_ROWS = 1_000_000
_HINT = "ask for the delivery again; both ends must run the same version"


def _marker() -> bytes:
    """Return 16 bytes that stand for all names and types, so that two versions don't mix."""
    told = "\n".join(f"{name}:{schema}" for name, schema in BUNDLE_SCHEMAS.items())
    return b"LCB2" + hashlib.sha256(told.encode()).digest()[:12]


_MARKER = _marker()


def bundle_to_bytes(tables: Mapping[str, pa.Table]) -> bytes:
    """
    Return one subject's tables as padded bytes.

    Layout: 16 bytes that name the schemas; then of each table in the order of BUNDLE_SCHEMAS a
    length (8 bytes, big-endian) and one Arrow IPC record batch without its schema, which both ends
    know; length 0 is an empty table. Then zeros up to a power of two.

    Raises PackageRefused for another table, other columns, or a value that breaks checked_table.
    """
    if unknown := set(tables) - set(BUNDLE_SCHEMAS):
        raise PackageRefused(f"a bundle has no table {min(unknown)!r}", hint=_HINT)
    batches = {}
    for name, schema in BUNDLE_SCHEMAS.items():
        table = tables.get(name, schema.empty_table())
        batches[name] = _one_batch(checked_table(name, table))
    return _packed(batches)


def bundles_to_bytes(
    tables: Mapping[str, pa.Table],
    spans: Mapping[str, Mapping[str, tuple[int, int]]],
    owners: Iterable[str],
) -> Iterator[tuple[str, bytes]]:
    """
    Yield each owner with its bundle. spans: first row and number of rows of an owner, by table.

    Each reads the same as what bundle_to_bytes makes of its rows, in a tenth of the time: values
    are checked once for all owners. Raises PackageRefused as bundle_to_bytes does.
    """
    whole = {}
    for name, schema in BUNDLE_SCHEMAS.items():
        if any(count > LARGEST_ROWS for _, count in spans[name].values()):
            raise PackageRefused(f"a subject has too many {name}", hint=_HINT)
        if not tables[name].schema.equals(schema):
            raise PackageRefused(f"the {name} of a subject have other columns", hint=_HINT)
        whole[name] = _one_batch(_checked_values(name, tables[name]))
    for owner in owners:
        own = {name: batch.slice(*spans[name].get(owner, (0, 0))) for name, batch in whole.items()}
        yield owner, _packed(own)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches() or [
        pa.RecordBatch.from_pylist([], schema=table.schema)
    ]
    if len(batches) > 1:  # more than 2 GiB of text in one column
        raise PackageRefused("the rows hold too much text for one delivery", hint="ask for less")
    return batches[0]


def _packed(batches: Mapping[str, pa.RecordBatch]) -> bytes:
    """Return batches of all BUNDLE_SCHEMAS as one padded bundle."""
    parts = [_MARKER]
    for name in BUNDLE_SCHEMAS:
        batch = batches[name]
        # Copied first: of a slice Arrow writes up to 63 bytes more in every column, to fill a block
        # of 64, and these are the next subjects' values.
        own = pa.concat_batches([batch])
        body = own.serialize().to_pybytes() if own.num_rows else b""
        parts += [len(body).to_bytes(8, "big"), body]
    content = b"".join(parts)
    return content.ljust(max(SMALLEST_BUNDLE, 1 << (len(content) - 1).bit_length()), b"\0")


def bundle_from_bytes(content: bytes) -> dict[str, pa.Table]:
    """
    Return one subject's tables, all of BUNDLE_SCHEMAS, in that order.

    Raises PackageRefused for content of another version, or damaged, malformed or huge.
    """
    return {
        name: checked_table(name, _table(body, BUNDLE_SCHEMAS[name]))
        for name, body in _bodies(content)
    }


def bundles_from_bytes(contents: Iterable[tuple[str, bytes]]) -> dict[str, pa.Table]:
    """
    Return the tables of many subjects together, in the order given, with a last column `owner`.

    contents: owner and bundle; an owner may have several. The same as bundle_from_bytes of each
    one, which takes 50 times as long: values are checked once for all of them, not once a bundle.
    Raises PackageRefused as bundle_from_bytes does.
    """
    found: dict[str, list[pa.Table]] = {name: [] for name in BUNDLE_SCHEMAS}
    owners: dict[str, list[str]] = {name: [] for name in BUNDLE_SCHEMAS}
    for owner, content in contents:
        for name, body in _bodies(content):
            if body:
                found[name].append(table := _table(body, BUNDLE_SCHEMAS[name]))
                owners[name] += [owner] * table.num_rows
    made = {}
    for name, schema in BUNDLE_SCHEMAS.items():
        if any(table.num_rows > LARGEST_ROWS for table in found[name]):
            raise PackageRefused(f"a subject has too many {name}", hint=_HINT)
        together = pa.concat_tables([schema.empty_table(), *found[name]]).combine_chunks()
        column = pa.array(owners[name], pa.string())
        made[name] = _checked_values(name, together).append_column("owner", column)
    return made


def unpadded(content: bytes) -> bytes:
    """Return a bundle without its padding, to keep; it reads the same. Raises PackageRefused."""
    return content[: 16 + sum(8 + len(body) for _, body in _bodies(content))]


def _bodies(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and serialized batch of each table. Raises PackageRefused."""
    if len(content) > LARGEST_BUNDLE:
        raise PackageRefused("the rows of a subject are too large", hint=_HINT)
    if content[:16] != _MARKER:
        raise PackageRefused("the rows of a subject are of another version", hint=_HINT)
    at = 16
    for name in BUNDLE_SCHEMAS:
        end = at + 8 + int.from_bytes(content[at : at + 8], "big")
        if end > len(content):
            raise PackageRefused("the rows of a subject are damaged", hint=_HINT)
        yield name, content[at + 8 : end]
        at = end


def _table(body: bytes, schema: pa.Schema) -> pa.Table:
    if not body:
        return schema.empty_table()
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(body), schema)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        raise PackageRefused("the rows of a subject are damaged", hint=_HINT) from None
    return pa.Table.from_batches([batch], schema)


def checked_table(name: str, table: pa.Table) -> pa.Table:
    """
    Return `table` if it is a bundle's table `name`. Raises PackageRefused, naming the column.

    Checked: names and types, nothing missing where a value must be, UIDs that are UIDs, known
    words for date_frame, source and node, and LARGEST_ROWS.
    """
    schema = BUNDLE_SCHEMAS[name]
    if not table.schema.equals(schema):
        raise PackageRefused(f"the {name} of a subject have other columns", hint=_HINT)
    if table.num_rows > LARGEST_ROWS:
        raise PackageRefused(f"a subject has too many {name}", hint=_HINT)
    return _checked_values(name, table)


def _checked_values(name: str, table: pa.Table) -> pa.Table:
    for field in BUNDLE_SCHEMAS[name]:
        column = table[field.name]
        if not field.nullable and column.null_count:
            raise PackageRefused(f"{name} of a subject lack {field.name!r}", hint=_HINT)
        if field.name in _UIDS and not _all(pc.match_substring_regex(column, UID)):
            raise PackageRefused(f"{name} of a subject have a malformed {field.name!r}", hint=_HINT)
        if field.name in _WORDS and not _all(pc.is_in(column, pa.array(_WORDS[field.name]))):
            raise PackageRefused(f"{name} of a subject have an unknown {field.name!r}", hint=_HINT)
    return table


_UIDS = ("study_uid", "series_uid")
_WORDS = {"date_frame": DATE_FRAMES, "source": FEATURE_SOURCES, "node": EVENT_NODES}


def _all(holds: pa.ChunkedArray) -> bool:
    """Tell whether every value holds; null, which only a nullable column has, holds."""
    return bool(pc.all(holds, min_count=0).as_py())
