"""Bad input is normal input: every fault of a file names file, row, field and remedy, no value."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from linkage.errors import SiteRefused, SourceRefused
from sites.config import DelimitedConfig, SiteConfig, SourceConfig, load_site
from sites.sources import base, delimited
from sites.sources.base import RawBatch
from sites.sources.opening import open_source

FIELDS = ("first_name", "last_name")
GOOD = "id,first,last\n1,Ada,Lovelace\n2,Grace,Hopper\n"
SECRET = "Lovelace"


def source(path: Path, **changes: object) -> SourceConfig:
    columns = {"first_name": "first", "last_name": ["surname", "last"]}
    return SourceConfig.model_validate(
        {"file": path, "record_id": "id", "columns": columns, **changes}
    )


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "people.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(config: SourceConfig, fields: tuple[str, ...] = FIELDS) -> list[RawBatch]:
    return list(open_source(config, fields).batches())


def rows(config: SourceConfig) -> list[tuple[str, ...]]:
    return [
        row
        for batch in read(config)
        for row in zip(
            batch.record_ids.to_pylist(),
            *(batch.columns[field].to_pylist() for field in FIELDS),
            strict=True,
        )
    ]


EVERYONE = [("1", "Ada", "Lovelace"), ("2", "Grace", "Hopper")]


def test_records_come_as_they_stand_without_outer_blanks(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("Ada", "  Ada "))
    [batch] = read(source(path))
    assert rows(source(path)) == EVERYONE
    assert batch.numbers.tolist() == [2, 3]
    assert batch.bad == []
    assert batch.done == batch.total == path.stat().st_size


@pytest.mark.parametrize("header", ["ID,First,SURNAME", "\ufeffId, first ,Last", "i_d,FIRST,last"])
def test_headers_may_drift(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, GOOD.replace("id,first,last", header))
    assert rows(source(path)) == EVERYONE


@pytest.mark.parametrize("delimiter", [",", "|", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_encoding_and_line_ends_are_found_out(
    tmp_path: Path, delimiter: str, encoding: str, end: str
) -> None:
    text = GOOD.replace(",", delimiter).replace("\n", end)
    path = write(tmp_path, text.encode(encoding))
    config = SourceConfig.model_validate({"file": path})
    assert rows(config) == EVERYONE
    opened = open_source(config, FIELDS)
    list(opened.batches())
    assert f'delimiter "{delimiter}"'.replace("\t", "\\t") in opened.notes
    assert any("utf-16" in note for note in opened.notes) == encoding.startswith("utf-16")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_a_last_row_without_a_line_end_is_read_and_said(tmp_path: Path, end: str) -> None:
    whole = GOOD.rstrip("\n").replace("\n", end or "\n")
    config = source(write(tmp_path, whole + end))
    assert rows(config) == EVERYONE
    opened = open_source(config, FIELDS)
    list(opened.batches())
    assert any("no line end" in note for note in opened.notes) == (not end)


def test_old_exports_are_windows_1252(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("Ada", "Zoë").encode("cp1252"))
    opened = open_source(source(path), FIELDS)
    assert next(opened.batches()).columns["first_name"][0].as_py() == "Zoë"
    list(opened.batches())
    assert any("windows-1252" in note for note in opened.notes)


def test_a_late_accent_settles_the_encoding(tmp_path: Path) -> None:
    head = GOOD + "".join(f"{i},Ada,Lovelace\n" for i in range(3, 90_000))
    for encoding in ("utf-8", "cp1252"):
        path = write(tmp_path, (head + "x,Zoë,Washburne\n").encode(encoding))
        assert rows(source(path))[-1] == ("x", "Zoë", "Washburne")


@pytest.mark.parametrize("size", [4, 7, 64])
def test_pieces_may_end_anywhere(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'id,first,last\r\n1,"Zoë\r\nAnn ""Z""","Ł, O\'Neil"\r\n2,Ünal,Œuvre\r\n'
    for module in ("files", "text"):
        monkeypatch.setattr(f"sites.sources.{module}.CHUNK_BYTES", size)
    monkeypatch.setattr("sites.sources.text.LONGEST_ROW", 1000)
    for encoding in ("utf-8", "utf-16"):
        path = write(tmp_path, text.encode(encoding))
        assert rows(source(path)) == [
            ("1", 'Zoë\r\nAnn "Z"', "Ł, O'Neil"),
            ("2", "Ünal", "Œuvre"),
        ]


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_compression_is_told_by_content(tmp_path: Path, packer: str) -> None:
    packed = (
        gzip.compress(GOOD.encode())
        if packer == "gzip"
        else pa.compress(GOOD.encode(), codec="zstd", asbytes=True)
    )
    opened = open_source(source(write(tmp_path, packed)), FIELDS)
    assert sum(map(len, opened.batches())) == 2
    assert f"compressed with {packer}" in opened.notes


@pytest.mark.parametrize(
    "bomb", [b"a" * 200_000_000, b'"\n",' * 50_000_000], ids=["one line", "one row"]
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, bomb: bytes) -> None:
    path = write(tmp_path, gzip.compress(GOOD.encode() + bomb, 1))
    del bomb
    tracemalloc.start()
    try:
        with pytest.raises(SourceRefused, match="row 4") as caught:
            read(source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "longer than" in caught.value.message
    assert peak < 60_000_000


@pytest.mark.parametrize(
    ("line", "field", "rule"),
    [
        (" ,Ada,Lovelace", "record_id", "has no record id"),
        ("3,Ada", "", "has 2 columns where the header has 3"),
        ("3,Ada,Lovelace,x", "", "has 4 columns where the header has 3"),
        ("id,first,last", "", "repeats the header"),
        ('3,"Ada" L,Lovelace', "", "has a broken quotation mark"),
        ("3,A\0da,Lovelace", "", "holds a NUL character"),
    ],
)
def test_a_bad_row_is_left_out_and_told(tmp_path: Path, line: str, field: str, rule: str) -> None:
    path = write(tmp_path, GOOD + line + "\n4,Mary,Shelley\n")
    [batch] = read(source(path))
    assert batch.record_ids.to_pylist() == ["1", "2", "4"]
    assert batch.numbers.tolist() == [2, 3, 5]
    [bad] = batch.bad
    assert (bad.number, bad.field, bad.rule) == (4, field, rule)
    assert bad.hint
    assert SECRET not in f"{bad.rule}{bad.hint}"


def test_lines_swallowed_by_an_open_quotation_mark_are_counted(tmp_path: Path) -> None:
    text = 'a,b,c\n1,"x\ny",z\n' + '2,"Ren,D\n3,Ada,L\n4,"Mary",S\n5,Alan,T\n'
    path = write(tmp_path, GOOD.replace("1,Ada,Lovelace\n", text))
    [batch] = read(source(path))
    assert batch.record_ids.to_pylist() == ["a", "1", "5", "2"]
    assert batch.bad[0].rule == "has a broken quotation mark"
    assert batch.bad[0].hint.startswith("lines 5 to 7 are left out; ")
    # The two lines of record 1 are one row, as a spreadsheet shows them.
    assert batch.bad[0].number == 4
    assert batch.numbers.tolist() == [2, 3, 7, 8]


def test_blank_rows_are_counted_and_left_out(tmp_path: Path) -> None:
    [batch] = read(source(write(tmp_path, GOOD.replace("2,", "\n,,\n2,") + "\n")))
    assert batch.record_ids.to_pylist() == ["1", "2"]
    assert batch.numbers.tolist() == [2, 5]
    assert batch.bad == []


def test_batches_keep_row_numbers_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(delimited, "BATCH_RECORDS", 21)
    lines = [f"{n},A,B" if n % 10 else "" if n % 20 else f'{n},"x"y,B' for n in range(2, 200)]
    found = read(source(write(tmp_path, "id,first,last\n" + "\n".join(lines) + "\n")))
    assert len(found) > 5
    assert [n for b in found for n in b.numbers.tolist()] == [n for n in range(2, 200) if n % 10]
    assert [str(n) for b in found for n in b.numbers] == [
        one for b in found for one in b.record_ids.to_pylist()
    ]
    assert [bad.number for b in found for bad in b.bad] == list(range(20, 200, 20))


def test_usual_names_are_known(tmp_path: Path) -> None:
    header = "PatientID,PatientFirstName,SURNAME,Birth_Dt,Gender,Zip Code\n"
    path = write(tmp_path, header + "1,Ada,Lovelace,12/10/1915,F,02139\n")
    opened = open_source(
        SourceConfig.model_validate({"file": path, "date_format": "MM/DD/YYYY"}),
        ("first_name", "last_name", "date_of_birth", "sex", "zip"),
    )
    [batch] = opened.batches()
    assert {name: column[0].as_py() for name, column in batch.columns.items()} == {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "date_of_birth": "12/10/1915",
        "sex": "F",
        "zip": "02139",
    }
    assert "zip: column 6, 'Zip Code', by its usual name" in opened.notes


def test_more_columns_come_under_the_name_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "id,first,last,RACE_CD\n1,Ada,Lovelace,5\n")
    [batch] = open_source(source(path), FIELDS, {"race": ("race", "race cd")}).batches()
    assert batch.columns["race"].to_pylist() == ["5"]
    with pytest.raises(SourceRefused, match=r"no column for race") as caught:
        list(open_source(source(path), FIELDS, {"race": ("ethnic",)}).batches())
    assert 'race = "..." under [source.subgroups]' in caught.value.hint


def test_a_batch_is_not_larger_than_agreed(tmp_path: Path) -> None:
    many = "id,first,last\n" + "".join(f"{i},A,B\n" for i in range(base.BATCH_RECORDS + 1))
    assert [len(batch) for batch in read(source(write(tmp_path, many)))] == [base.BATCH_RECORDS, 1]


def test_a_source_can_be_read_again(tmp_path: Path) -> None:
    opened = open_source(source(write(tmp_path, GOOD)), FIELDS)
    first, notes = [len(b) for b in opened.batches()], list(opened.notes)
    assert first == [len(b) for b in opened.batches()] == [2]
    assert opened.notes == notes


SITE = """\
party = "alpha"
[source]
file = "people.csv"
record_id = "id"
date_format = "MM/DD/YYYY"
[source.columns]
first_name = "first"
date_of_birth = "dob"
"""


def site(tmp_path: Path, text: str) -> SiteConfig:
    path = tmp_path / "site.toml"
    path.write_text(text, encoding="utf-8")
    return load_site(path)


def test_a_site_file_is_read_with_absolute_paths(tmp_path: Path) -> None:
    config = site(tmp_path, SITE)
    assert isinstance(config.source, DelimitedConfig)
    assert config.source.file == tmp_path / "people.csv"
    assert config.private == tmp_path / "private"
    assert config.source.date_format == "MM/DD/YYYY"


def test_the_first_existing_place_counts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, GOOD)
    config = site(
        tmp_path / "folder", SITE.replace('"people.csv"', '["people.csv", "../people.csv"]')
    )
    assert isinstance(config.source, DelimitedConfig)
    assert config.source.file.resolve() == tmp_path / "people.csv"


@pytest.mark.parametrize(
    ("old", "new", "line", "rule"),
    [
        ("date_format", "dateformat", 5, "not a known key"),
        ('date_format = "MM/DD/YYYY"\n', "", 2, "date_of_birth column"),
        ("MM/DD/YYYY", "MM/DD/YY", 5, "year of two digits"),
        ("MM/DD/YYYY", "MM/DD", 5, "needs YYYY exactly once"),
        ("MM/DD/YYYY", "MM/DD/YYYY hh:mm", 5, "more than year, month and day"),
        ("MM/DD/YYYY", "%m/%d/%Y", 5, "needs YYYY"),
        ("MM/DD/YYYY", "MDYYYY", 5, "needs separators"),
        ("first_name =", "firstname =", 7, "unknown field"),
        ('record_id = "id"', 'record_id = "id"\nencoding = "utf-9"', 5, "unknown encoding"),
        ('record_id = "id"', 'record_id = "id"\nencoding = "rot13"', 5, "unknown encoding"),
        ('record_id = "id"', 'record_id = "id"\nkind = "excel"', 5, "no kind of source 'excel'"),
        ('record_id = "id"', 'record_id = "id"\nkind = 3', 5, "is no text"),
        ('record_id = "id"', 'record_id = "id"\nphone_region = "usa"', 5, "pattern"),
        ('file = "people.csv"\n', "", 2, "is missing"),
    ],
)
def test_a_bad_site_file_is_refused_by_line(
    tmp_path: Path, old: str, new: str, line: int, rule: str
) -> None:
    with pytest.raises(SiteRefused, match=rule) as caught:
        site(tmp_path, SITE.replace(old, new, 1))
    assert caught.value.line == line


def test_an_unknown_key_is_told_what_its_kind_knows(tmp_path: Path) -> None:
    with pytest.raises(SiteRefused, match="not a known key") as caught:
        site(tmp_path, SITE.replace("record_id", "delimter = ','\nrecord_id"))
    assert caught.value.hint.startswith("did you mean 'delimiter'?")
    assert "record_id" in caught.value.hint
