"""
Encoded records: what a site sends and the broker matches. No identifier, no key.

Arrow layout, one row a record (docs/formats-packages.md):
    record_pseudonym   fixed_size_binary(16), not null
    group              uint32, not null: rows of one group are one person, as the site found
    clk:<id>           fixed_size_binary(l / 8), null where the record has no such CLK
    match_keys         fixed_size_list(fixed_size_binary(16), R), null where the rule gives no key
    strata             fixed_size_binary(V), not null: a mark a variable (linkage.strata); only
                       where the manifest attests marks
The order of `match_keys` is that of the study file; so is that of the `clk:` columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused
from linkage.study import StudyConfig

PSEUDONYM_BYTES = 16
MATCH_KEY_BYTES = 16

Bytes2D = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FixedColumn:
    """
    Fixed-width bytes that may be null: N rows of W bytes.

    values: uint8[N, W], zeros where null. present: bool[N].
    """

    values: Bytes2D
    present: Mask

    def __post_init__(self) -> None:
        if self.values.dtype != np.uint8 or self.values.ndim != 2:
            raise EncodingRefused("a column of encodings must be a uint8 matrix")
        if self.present.dtype != np.bool_ or self.present.shape != self.values.shape[:1]:
            raise EncodingRefused("a column's presence mask does not fit its values")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EncodedRecords:
    """
    One party's encoded records: N parallel rows.

    pseudonyms: uint8[N, 16], unique. groups: uint32[N], equal for duplicates within the dataset.
    clks: by CLK id; a CLK that the party does not compute is not in it.
    match_keys: by rule id, of the rules that the party computes, likewise. strata: uint8[N, V], a
    mark for each variable of the study (linkage.strata), None where the site sends none; nothing
    that matches reads them.

    Raises EncodingRefused where lengths differ or a pseudonym repeats.
    """

    pseudonyms: Bytes2D
    groups: npt.NDArray[np.uint32]
    clks: dict[str, FixedColumn]
    match_keys: dict[str, FixedColumn]
    strata: Bytes2D | None = None

    def __post_init__(self) -> None:
        n = len(self.pseudonyms)
        if self.pseudonyms.shape != (n, PSEUDONYM_BYTES) or self.groups.shape != (n,):
            raise EncodingRefused("pseudonyms and groups differ in length or width")
        for name, column in [*self.clks.items(), *self.match_keys.items()]:
            if len(column.present) != n:
                raise EncodingRefused(f"column {name!r} has another number of rows")
        if self.strata is not None and (self.strata.ndim != 2 or len(self.strata) != n):
            raise EncodingRefused("the marks of strata have another number of rows")
        if _repeats(self.pseudonyms):
            raise EncodingRefused(
                "a record pseudonym occurs twice", hint="record ids must be unique at the site"
            )

    def __len__(self) -> int:
        return len(self.pseudonyms)


def _repeats(names: Bytes2D) -> bool:
    """Return whether a row of uint8[N, 16] occurs twice; its first half alone hardly ever does."""
    halves = np.ascontiguousarray(names).view(np.uint64)
    order = np.argsort(halves[:, 0])
    first, second = halves[order].T
    if not (close := first[1:] == first[:-1]).any():
        return False
    rows = np.flatnonzero(np.concatenate([[False], close]) | np.concatenate([close, [False]]))
    return len({(int(first[row]), int(second[row])) for row in rows}) < len(rows)


def arrow_schema(study: StudyConfig, *, marked: bool = False) -> pa.Schema:
    """
    Return the Arrow schema of a part, the same for every party of the study. marked: it has the
    marks of the study's strata.
    """
    key = pa.field("item", pa.binary(MATCH_KEY_BYTES), nullable=True)
    return pa.schema(
        [
            pa.field("record_pseudonym", pa.binary(PSEUDONYM_BYTES), nullable=False),
            pa.field("group", pa.uint32(), nullable=False),
            *(pa.field(f"clk:{c.id}", pa.binary(c.length // 8)) for c in study.clk),
            pa.field("match_keys", pa.list_(key, len(study.match_key)), nullable=False),
            *([pa.field("strata", pa.binary(len(study.strata)), nullable=False)] if marked else []),
        ]
    )


def row_bytes(study: StudyConfig, *, marked: bool = False) -> int:
    """Return the most bytes that one record takes in `arrow_schema`, null bits included."""
    clks, keys = len(study.clk), len(study.match_key)
    values = PSEUDONYM_BYTES + 4 + sum(c.length // 8 for c in study.clk) + MATCH_KEY_BYTES * keys
    return values + -(-(clks + keys) // 8) + 1 + len(study.strata) * marked


def to_arrow(records: EncodedRecords, study: StudyConfig) -> pa.RecordBatch:
    """Return the records as one record batch of `arrow_schema`, with marks where they have any."""
    n = len(records)
    rules = [_or_null(records.match_keys.get(r.id), n, MATCH_KEY_BYTES) for r in study.match_key]
    keys = FixedColumn(
        values=_beside_each_other([c.values for c in rules]).reshape(-1, MATCH_KEY_BYTES),
        present=np.stack([c.present for c in rules], axis=1).reshape(-1),
    )
    schema = arrow_schema(study, marked=records.strata is not None)
    key_list = pa.FixedSizeListArray.from_arrays(
        _to_binary(keys), type=schema.field("match_keys").type
    )
    columns = [
        _to_binary(FixedColumn(records.pseudonyms, np.ones(n, dtype=bool))),
        pa.array(records.groups, type=pa.uint32()),
        *(_to_binary(_or_null(records.clks.get(c.id), n, c.length // 8)) for c in study.clk),
        key_list,
    ]
    if records.strata is not None:
        columns.append(_to_binary(FixedColumn(records.strata, np.ones(n, dtype=bool))))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def from_arrow(
    batches: Iterable[pa.RecordBatch],
    study: StudyConfig,
    party_id: str,
    *,
    rows: int | None = None,
    marked: bool = False,
) -> EncodedRecords:
    """
    Read record batches of one dataset version of a party. marked: they bear marks of strata.

    rows: how many there are in all. Where it is given, batches are read as they come and no two are
    held at a time; else all are held, and then copied.

    Raises EncodingRefused for another schema, another number of rows, nulls in columns that have
    none, or a CLK or key the party should not have.
    """
    if rows is None:
        batches = list(batches)
        rows = sum(batch.num_rows for batch in batches)
    party = study.party_named(party_id)
    held = {c.id for c in study.clks_of(party)}, {r.id for r in study.rules_of(party)}
    clks = {c.id: _empty(rows, c.length // 8) for c in study.clk if c.id in held[0]}
    rules = {r.id: _empty(rows, MATCH_KEY_BYTES) for r in study.match_key if r.id in held[1]}
    pseudonyms = _empty(rows, PSEUDONYM_BYTES)
    strata = _empty(rows, len(study.strata)) if marked else None
    groups = np.zeros(rows, np.uint32)
    start = 0
    for batch in batches:
        _require_fitting(batch, study, marked=marked)
        stop = start + batch.num_rows
        if stop > rows:
            raise _another_number()
        place = slice(start, stop)
        _fill(pseudonyms, place, batch.column("record_pseudonym"))
        groups[place] = batch.column("group").to_numpy()
        if strata is not None:
            _fill(strata, place, batch.column("strata"))
        for clk in study.clk:
            column = batch.column(f"clk:{clk.id}")
            _fill(_allowed(clks, clk.id, column, party_id), place, column)
        # Rule by rule of each record, after the other.
        flat = batch.column("match_keys").flatten()
        for number, rule in enumerate(study.match_key):
            column = flat.take(np.arange(number, len(flat), len(study.match_key)))
            _fill(_allowed(rules, rule.id, column, party_id), place, column)
        start = stop
    if start != rows:
        raise _another_number()
    return EncodedRecords(
        pseudonyms=pseudonyms.values,
        groups=groups,
        clks={c.id: clks[c.id] for c in study.clks_of(party)},
        match_keys={r.id: rules[r.id] for r in study.rules_of(party)},
        strata=None if strata is None else strata.values,
    )


def _require_fitting(batch: pa.RecordBatch, study: StudyConfig, *, marked: bool) -> None:
    expected = arrow_schema(study, marked=marked)
    if not batch.schema.equals(expected):
        raise EncodingRefused(
            "a part's columns are not those of the study",
            hint="tokenize again with the signed study file",
        )
    batch.validate(full=True)
    # Arrow's own validation lets nulls stand in columns that are declared without.
    if any(batch.column(f.name).null_count for f in expected if not f.nullable):
        raise EncodingRefused(
            "a part has nulls where every record has a value",
            hint="tokenize again with the current program",
        )


def _another_number() -> EncodingRefused:
    return EncodingRefused(
        "the parts hold another number of records than they say", hint="tokenize again"
    )


def _empty(rows: int, width: int) -> FixedColumn:
    return FixedColumn(np.zeros((rows, width), np.uint8), np.zeros(rows, dtype=bool))


def _allowed(
    columns: dict[str, FixedColumn], name: str, column: pa.FixedSizeBinaryArray, party_id: str
) -> FixedColumn | None:
    """Return where a column belongs; None where the party has none of this name, and sent none."""
    if name not in columns and column.null_count < len(column):
        raise EncodingRefused(
            f"party {party_id!r} sent {name!r}, whose fields it does not hold",
            hint="the party's fields in the study file must be those it tokenizes",
        )
    return columns.get(name)


def _or_null(column: FixedColumn | None, n: int, width: int) -> FixedColumn:
    if column is None:
        return FixedColumn(np.zeros((n, width), np.uint8), np.zeros(n, dtype=bool))
    if column.values.shape[1] != width:
        raise EncodingRefused(f"an encoding has {column.values.shape[1]} bytes, not {width}")
    return column


def _beside_each_other(columns: list[Bytes2D]) -> npt.NDArray[np.uint8]:
    """
    Return `np.stack(columns, axis=1)`; where they already are the slices of one such matrix, in its
    order, that matrix itself.
    """
    whole = columns[0].base
    n, width = columns[0].shape
    if isinstance(whole, np.ndarray) and whole.shape == (n, len(columns), width):
        slices = [whole[:, place].__array_interface__ for place in range(len(columns))]
        if [one.__array_interface__ for one in columns] == slices:
            return whole
    return np.stack(columns, axis=1)


def _to_binary(column: FixedColumn) -> pa.FixedSizeBinaryArray:
    n, width = column.values.shape
    nulls = pa.py_buffer(np.packbits(column.present, bitorder="little").tobytes())
    data = pa.py_buffer(np.ascontiguousarray(column.values).reshape(-1))
    missing = int(n - column.present.sum())
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), n, [nulls if missing else None, data], null_count=missing
    )


def _fill(to: FixedColumn | None, place: slice, column: pa.FixedSizeBinaryArray) -> None:
    """Copy an Arrow column into some rows; nothing where there is no column to fill."""
    if to is None or not len(column):
        return
    width = to.values.shape[1]
    data = np.frombuffer(column.buffers()[1], np.uint8)
    first = column.offset * width
    block = data[first : first + len(column) * width].reshape(len(column), width)
    if column.null_count:
        valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        to.values[place][valid] = block[valid]
        to.present[place] = valid
    else:
        to.values[place] = block
        to.present[place] = True
