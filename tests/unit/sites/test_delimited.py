"""Bad input is normal input: every fault of a file names file, row, field and remedy, no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkage.errors import RowRejected, SiteRefused, SourceRefused
from sites.config import SiteConfig, SourceConfig, load_site
from sites.sources.delimited import read_delimited

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


def test_records_come_as_they_stand(tmp_path: Path) -> None:
    found = read_delimited(source(write(tmp_path, GOOD.replace("Ada", "  Ada "))), FIELDS)
    assert found.record_ids == ["1", "2"]
    assert found.columns == {"first_name": ["Ada", "Grace"], "last_name": ["Lovelace", "Hopper"]}
    assert found.rows == [2, 3]


@pytest.mark.parametrize("header", ["ID,First,SURNAME", "\ufeffId, first ,Last", "i_d,FIRST,last"])
def test_headers_may_drift(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, GOOD.replace("id,first,last", header))
    assert read_delimited(source(path), FIELDS).record_ids == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "changes", "rule", "remedy"),
    [
        (GOOD.replace(",", "|"), {}, "not delimited by ','", 'delimiter = "|"'),
        (GOOD.replace(",", "\t"), {}, "not delimited by ','", 'delimiter = "\\t"'),
        ("", {}, "is empty", "export"),
        ("id,first,last\n", {}, "no record", "export"),
        ("justoneword\nx\n", {}, "one column only", "delimiter"),
        (GOOD.replace("last\n", "family\n"), {}, "no column for last_name", "id, first, family"),
        (GOOD.replace("first,last", "last,surname"), {}, "no column for first_name", "its columns"),
        ("id,first,last,surname\n1,a,b,c\n", {}, "2 columns that could be last_name", "exact name"),
        (GOOD.encode() + b"3,Ren\xe9,Descartes\n", {}, "row 4", "windows-1252"),
        (GOOD, {"columns": {"first_name": "first"}}, "names no column for last_name", "last_name"),
        (GOOD + '3,"Ren,Descartes\n', {}, "no delimited text", "export itself"),
    ],
)
def test_a_bad_file_is_refused_with_a_remedy(
    tmp_path: Path, content: str | bytes, changes: dict[str, object], rule: str, remedy: str
) -> None:
    with pytest.raises(SourceRefused) as caught:
        read_delimited(source(write(tmp_path, content), **changes), FIELDS)
    assert "people.csv" in caught.value.message
    assert rule in caught.value.message
    assert remedy in caught.value.hint
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "field", "rule"),
    [
        ("1,Ada,Lovelace", "record_id", "repeats"),
        (" ,Ada,Lovelace", "record_id", "no record id"),
        ("3,Ada", "", "2 columns where the header has 3"),
        ("3,Ada,Lovelace,x", "", "4 columns where the header has 3"),
    ],
)
def test_a_bad_row_is_refused_or_quarantined(
    tmp_path: Path, line: str, field: str, rule: str
) -> None:
    path = write(tmp_path, GOOD + line + "\n4,Mary,Shelley\n")
    with pytest.raises(RowRejected) as caught:
        read_delimited(source(path), FIELDS)
    assert (caught.value.row, caught.value.field) == (4, field)
    assert rule in caught.value.message
    assert SECRET not in str(caught.value)
    found = read_delimited(source(path, on_bad_row="quarantine"), FIELDS)
    assert found.record_ids == ["1", "2", "4"]
    assert [(bad.row, bad.field) for bad in found.quarantined] == [(4, field)]
    assert rule in found.quarantined[0].rule


def test_a_file_without_a_header_shows_nobody(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match=r"row 1 \(3 columns\) holds none") as caught:
        read_delimited(source(write(tmp_path, GOOD.partition("\n")[2])), FIELDS)
    assert "Ada" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_all_rows_bad_is_no_silent_success(tmp_path: Path) -> None:
    path = write(tmp_path, "id,first,last\n,a,b\n,c,d\n")
    with pytest.raises(SourceRefused, match="2 were quarantined"):
        read_delimited(source(path, on_bad_row="quarantine"), FIELDS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="no such file"):
        read_delimited(source(tmp_path / "none.csv"), FIELDS)


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
    assert config.source.file == tmp_path / "people.csv"
    assert config.private == tmp_path / "private"
    assert config.source.date_format == "%m/%d/%Y"


def test_the_first_existing_place_counts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, GOOD)
    config = site(
        tmp_path / "folder", SITE.replace('"people.csv"', '["people.csv", "../people.csv"]')
    )
    assert config.source.file.resolve() == tmp_path / "people.csv"


@pytest.mark.parametrize(
    ("old", "new", "line", "rule"),
    [
        ("date_format", "dateformat", 5, "not a known key"),
        ('date_format = "MM/DD/YYYY"\n', "", 2, "date_of_birth column"),
        ("MM/DD/YYYY", "MM/DD/YY", 5, "needs YYYY"),
        ("first_name =", "firstname =", 7, "unknown field"),
        ('record_id = "id"', 'record_id = "id"\nencoding = "utf-9"', 5, "unknown encoding"),
    ],
)
def test_a_bad_site_file_is_refused_by_line(
    tmp_path: Path, old: str, new: str, line: int, rule: str
) -> None:
    with pytest.raises(SiteRefused, match=rule) as caught:
        site(tmp_path, SITE.replace(old, new, 1))
    assert caught.value.line == line
