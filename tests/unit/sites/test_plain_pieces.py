"""The fast way through a delimited file gives what Python's reader gives, row for row."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sites.config import SourceConfig
from sites.sources.base import BadRow
from sites.sources.lines import plain_columns, text_array
from sites.sources.opening import open_source

FIELDS = ("first_name", "last_name")
CELLS = ("Ada", " Grace ", "", "Zoë", "O'Neil", "x y", "12", "ß", "NaN", "null", "-")


def _read(path: Path, **changes: object) -> tuple[list[tuple[object, ...]], list[BadRow]]:
    columns = {"first_name": "first", "last_name": "last"}
    config = SourceConfig.model_validate(
        {
            "file": path,
            "record_id": "id",
            "columns": columns,
            "on_bad_row": "quarantine",
            **changes,
        }
    )
    found: list[tuple[object, ...]] = []
    bad: list[BadRow] = []
    for batch in open_source(config, FIELDS).batches():
        cells = (batch.columns[field].to_pylist() for field in FIELDS)
        found += zip(batch.numbers.tolist(), batch.record_ids.to_pylist(), *cells, strict=True)
        bad += batch.bad
    return found, bad


def _text(seed: int, end: str) -> str:
    """About 3.5 MB of rows: mostly good, some ragged, blank, without id, or a second header."""
    draw = random.Random(seed)
    lines = [f"{i};{draw.choice(CELLS)};{draw.choice(CELLS)};more" for i in range(160_000)]
    for _ in range(draw.choice([0, 3, 200])):
        row = draw.choice(["", ";;;", " ;x;y;z", "7;x", "7;a;b;c;d", "id;first;last;rest"])
        lines[draw.randrange(len(lines))] = row
    return end.join(lines) + draw.choice(["", end, end + end])


@pytest.mark.parametrize(("seed", "end"), [(1, "\n"), (2, "\r\n"), (3, "\n"), (4, "\r")])
def test_the_fast_way_reads_what_the_reference_reads(tmp_path: Path, seed: int, end: str) -> None:
    text = _text(seed, end)
    fast, slow = tmp_path / "fast.csv", tmp_path / "slow.csv"
    fast.write_bytes(f"id;first;last;rest{end}{text}".encode())
    # A quotation mark anywhere before sends all that follows through Python's reader.
    slow.write_bytes(f'"id";first;last;rest{end}{text}'.encode())
    assert _read(fast) == _read(slow)


def test_a_broken_quotation_late_in_the_file_is_named_by_its_line(tmp_path: Path) -> None:
    rows = [f"{i};Ada;Lovelace" for i in range(200_000)]
    rows[150_000] = '150000;"Ada"x;Lovelace'
    path = tmp_path / "people.csv"
    path.write_text("id;first;last\n" + "\n".join(rows) + "\n")
    found, bad = _read(path)
    assert len(found) == 199_999
    assert [one.number for one in bad] == [150_002]


def test_only_plain_pieces_are_taken() -> None:
    at = {"a": 0, "b": 1}
    taken = plain_columns("1,x\n2,y\n", ",", width=2, at=at)
    assert taken is not None
    assert {name: column.to_pylist() for name, column in taken.items()} == {
        "a": ["1", "2"],
        "b": ["x", "y"],
    }
    for piece in ('1,"x"\n', "1,x\n2\n", "1,x\r2,y\n", f"1,{'x' * 140_000}\n"):
        assert plain_columns(piece, ",", width=2, at=at) is None


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=9))
def test_cells_become_the_array_that_arrow_makes_of_them(cells: list[str]) -> None:
    made = text_array(cells)
    made.validate(full=True)
    assert made.equals(pa.array(cells, pa.string()))
