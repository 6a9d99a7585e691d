"""One subject's rows as bytes and back."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.cohort.row_tables import ROW_TABLES
from linkage.errors import PackageRefused
from sites.cohort.bundle import (
    BUNDLE_SCHEMAS,
    SERIES_SCHEMA,
    SMALLEST_BUNDLE,
    bundle_from_bytes,
    bundle_to_bytes,
    bundles_to_bytes,
)


def series_rows(count: int, **values: object) -> pa.Table:
    row = {"study_uid": "1.2", "modality": "CT", "date_frame": "shifted", "instances": 3}
    rows = [row | {"series_uid": f"1.2.{n}"} | values for n in range(count)]
    return pa.Table.from_pylist(rows, schema=SERIES_SCHEMA)


@settings(deadline=None)
@given(st.integers(0, 60))
def test_rows_survive_and_the_length_tells_little(count: int) -> None:
    rows = series_rows(count)
    content = bundle_to_bytes({"series": rows})
    assert bundle_from_bytes(content)["series"].equals(rows)
    assert len(content) >= SMALLEST_BUNDLE
    assert len(content).bit_count() == 1


def test_subjects_with_one_and_with_five_series_look_alike() -> None:
    assert len(bundle_to_bytes({"series": series_rows(1)})) == len(
        bundle_to_bytes({"series": series_rows(5)})
    )


def test_other_columns_and_missing_values_are_refused_on_both_ends() -> None:
    rows = series_rows(2)
    with pytest.raises(PackageRefused, match="other columns"):
        bundle_to_bytes({"series": rows.append_column("PatientID", pa.array(["a", "b"]))})
    with pytest.raises(PackageRefused, match="'modality'"):
        bundle_to_bytes({"series": series_rows(2, modality=None)})
    for uid in ("../../etc", "", "1" * 65, "1.2\n"):
        with pytest.raises(PackageRefused, match="malformed 'study_uid'"):
            bundle_to_bytes({"series": series_rows(2, study_uid=uid)})
    with pytest.raises(PackageRefused, match="unknown 'date_frame'"):
        bundle_to_bytes({"series": series_rows(2, date_frame="guessed")})


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"ARROW1\0\0", b"\xff\xff\xff\xff"])
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(PackageRefused):
        bundle_from_bytes(content)


def test_a_bundle_cut_short_or_of_another_schema_is_refused() -> None:
    content = bundle_to_bytes({"series": series_rows(40)})
    with pytest.raises(PackageRefused):
        bundle_from_bytes(content[: len(content) // 4])
    with pytest.raises(PackageRefused, match="another version"):
        bundle_from_bytes(b"LCB1" + content[4:])
    for name, table in BUNDLE_SCHEMAS.items():
        with pytest.raises(PackageRefused, match="other columns"):
            bundle_to_bytes({name: table.empty_table().drop_columns(table.names[-1])})
    with pytest.raises(PackageRefused, match="no table 'persons'"):
        bundle_to_bytes({"persons": series_rows(1)})


def full_bundle() -> dict[str, pa.Table]:
    """Return one row of every table of a bundle, all columns that must be there and some more."""
    rows: dict[str, dict[str, object]] = {
        "features": {"study_uid": "1.2", "source": "SR", "feature": "Diameter", "value": 6.5},
        "events": {"node": "condition", "date_frame": "index", "start_day": -3},
        "files": {"kind": "SEG", "series_uid": "1.2.9", "object_id": "dg.X/1"},
    }
    made = {name: pa.Table.from_pylist([row], BUNDLE_SCHEMAS[name]) for name, row in rows.items()}
    return {"series": series_rows(2, date_frame="index", study_day=40), **made}


def test_all_four_tables_come_back() -> None:
    tables = full_bundle()
    content = bundle_to_bytes(tables)
    assert bundle_from_bytes(content) == tables
    assert len(content) == SMALLEST_BUNDLE
    alone = bundle_from_bytes(bundle_to_bytes({"files": tables["files"]}))
    assert list(alone) == list(BUNDLE_SCHEMAS)
    assert [table.num_rows for table in alone.values()] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("features", "source", "rumour"),
        ("features", "study_uid", None),
        ("features", "series_uid", "../x"),
        ("events", "node", "death"),
        ("events", "date_frame", "guessed"),
        ("files", "kind", None),
        ("files", "study_uid", "a"),
    ],
)
def test_words_and_uids_are_checked_in_every_table(table: str, column: str, value: str) -> None:
    row = full_bundle()[table].to_pylist()[0] | {column: value}
    with pytest.raises(PackageRefused, match=f"{table} of a subject .* {column!r}"):
        bundle_to_bytes({table: pa.Table.from_pylist([row], BUNDLE_SCHEMAS[table])})


def test_many_bundles_at_once_read_the_same_as_one_by_one() -> None:
    one = full_bundle()
    other = {"series": series_rows(3, modality="MR"), "files": one["files"]}
    both = {
        name: pa.concat_tables([one[name], other.get(name, schema.empty_table())])
        for name, schema in BUNDLE_SCHEMAS.items()
    }
    spans = {name: {"a": (0, one[name].num_rows)} for name in BUNDLE_SCHEMAS}
    for name, table in other.items():
        spans[name]["b"] = (one[name].num_rows, table.num_rows)
    made = {a: bundle_from_bytes(b) for a, b in bundles_to_bytes(both, spans, ["a", "b"])}
    assert made["a"] == one
    assert made["b"] == bundle_from_bytes(bundle_to_bytes(other))
    both["series"] = series_rows(5, date_frame="guessed")
    with pytest.raises(PackageRefused, match="'date_frame'"):
        next(bundles_to_bytes(both, spans, ["a"]))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_bundle_is_refused_or_read_never_worse(data: st.DataObject) -> None:
    content = bytearray(bundle_to_bytes(full_bundle()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(16, 4000))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PackageRefused):
        bundle_from_bytes(bytes(content))


def test_stewards_are_told_every_column() -> None:
    assert {name: tuple(schema.names) for name, schema in BUNDLE_SCHEMAS.items()} == ROW_TABLES
