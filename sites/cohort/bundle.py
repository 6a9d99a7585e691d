"""
One subject's imaging rows as bytes, and back: what is encrypted under that subject's row key.

Arrow IPC stream of SERIES_SCHEMA, one row a DICOM series, filled up with zeros to a power of two,
because the enclave also holds the bundles that it can't open, and their length would tell how many
series an unmatched subject has. No record id and no PatientID is in it: the enclave knows the
subject by the row ID alone.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import PackageRefused

UID = r"^[0-9.]{1,64}$"
"""A DICOM UID, PS3.5 9.1. Nothing else may become part of a path or an address."""

DATE_FRAMES = ("true", "shifted", "unknown", "absent")

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
    ]
)
"""
One row a series. modality: DICOM code, capitals. slice_thickness: mm; kvp: kV. study_date: as the
commons gives it, in the frame `date_frame` (one of DATE_FRAMES). size_bytes: of the whole series.
reference: S3 or DRS address. wadors_uri: of the study. object_id: Gen3, dg.XXXX/uuid.
"""

SMALLEST_BUNDLE = 16 * 1024
LARGEST_BUNDLE = 256 * 1024 * 1024
LARGEST_ROWS = 1_000_000


def rows_to_bytes(rows: pa.Table) -> bytes:
    """Return `rows` (SERIES_SCHEMA) as padded bytes. Raises PackageRefused for other columns."""
    checked = checked_rows(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SERIES_SCHEMA) as writer:
        writer.write_table(checked)
    content: bytes = sink.getvalue().to_pybytes()
    return content.ljust(max(SMALLEST_BUNDLE, 1 << (len(content) - 1).bit_length()), b"\0")


def rows_from_bytes(content: bytes) -> pa.Table:
    """Return the rows, SERIES_SCHEMA. Raises PackageRefused for other, damaged or huge content."""
    if len(content) > LARGEST_BUNDLE:
        raise PackageRefused("the rows of a subject are too large", hint=_HINT)
    try:
        with pa.ipc.open_stream(pa.BufferReader(content)) as reader:
            if not reader.schema.equals(SERIES_SCHEMA):
                raise PackageRefused("the rows of a subject have other columns", hint=_HINT)
            batches, count = [], 0
            for batch in reader:
                batch.validate(full=True)
                count += batch.num_rows
                if count > LARGEST_ROWS:
                    raise PackageRefused("a subject has too many series", hint=_HINT)
                batches.append(batch)
    except (pa.ArrowException, OSError, ValueError):
        raise PackageRefused("the rows of a subject are damaged", hint=_HINT) from None
    return checked_rows(pa.Table.from_batches(batches, SERIES_SCHEMA))


_HINT = "ask for the delivery again; both ends must run the same version"


def checked_rows(rows: pa.Table) -> pa.Table:
    """Return `rows` if they are series rows. Raises PackageRefused, naming the column."""
    if not rows.schema.equals(SERIES_SCHEMA):
        raise PackageRefused("the rows of a subject have other columns", hint=_HINT)
    for field in SERIES_SCHEMA:
        if not field.nullable and rows[field.name].null_count:
            raise PackageRefused(f"rows of a subject lack {field.name!r}", hint=_HINT)
    for name in ("study_uid", "series_uid"):
        if not pc.all(pc.match_substring_regex(rows[name], UID), min_count=0).as_py():
            raise PackageRefused(f"rows of a subject have a malformed {name!r}", hint=_HINT)
    frames = set(rows["date_frame"].to_pylist())
    if not frames <= set(DATE_FRAMES):
        raise PackageRefused("rows of a subject have an unknown date frame", hint=_HINT)
    return rows
