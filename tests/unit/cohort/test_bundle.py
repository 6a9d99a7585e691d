"""One subject's rows as bytes and back."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.errors import PackageRefused
from sites.cohort.bundle import SERIES_SCHEMA, SMALLEST_BUNDLE, rows_from_bytes, rows_to_bytes


def series_rows(count: int, **values: object) -> pa.Table:
    row = {"study_uid": "1.2", "modality": "CT", "date_frame": "shifted", "instances": 3}
    rows = [row | {"series_uid": f"1.2.{n}"} | values for n in range(count)]
    return pa.Table.from_pylist(rows, schema=SERIES_SCHEMA)


@settings(deadline=None)
@given(st.integers(0, 60))
def test_rows_survive_and_the_length_tells_little(count: int) -> None:
    rows = series_rows(count)
    content = rows_to_bytes(rows)
    assert rows_from_bytes(content).equals(rows)
    assert len(content) >= SMALLEST_BUNDLE
    assert len(content).bit_count() == 1


def test_subjects_with_one_and_with_five_series_look_alike() -> None:
    assert len(rows_to_bytes(series_rows(1))) == len(rows_to_bytes(series_rows(5)))


def test_other_columns_and_missing_values_are_refused_on_both_ends() -> None:
    rows = series_rows(2)
    with pytest.raises(PackageRefused, match="other columns"):
        rows_to_bytes(rows.append_column("PatientID", pa.array(["a", "b"])))
    with pytest.raises(PackageRefused, match="'modality'"):
        rows_to_bytes(series_rows(2, modality=None))
    for uid in ("../../etc", "", "1" * 65, "1.2\n"):
        with pytest.raises(PackageRefused, match="malformed 'study_uid'"):
            rows_to_bytes(series_rows(2, study_uid=uid))
    with pytest.raises(PackageRefused, match="date frame"):
        rows_to_bytes(series_rows(2, date_frame="guessed"))


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"ARROW1\0\0", b"\xff\xff\xff\xff"])
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(PackageRefused):
        rows_from_bytes(content)


def test_a_bundle_cut_short_or_of_another_schema_is_refused() -> None:
    content = rows_to_bytes(series_rows(40))
    with pytest.raises(PackageRefused):
        rows_from_bytes(content[: len(content) // 4])
    sink = pa.BufferOutputStream()
    table = pa.table({"study_uid": ["1"]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(PackageRefused, match="other columns"):
        rows_from_bytes(sink.getvalue().to_pybytes())
