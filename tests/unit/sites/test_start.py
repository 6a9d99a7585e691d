"""`linkage-site init`, at a terminal and by program: a site file that works, or none."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from linkage.study import FIELDS
from sites.cli import app
from sites.config import load_site
from sites.guide import date_formats, kind_of
from sites.sources.columns import shown
from sites.sources.names import USUAL_NAMES, like_a_value, usual_field
from sites.sources.opening import open_source
from tests.unit.sites.test_dicom_source import ADA, image
from tests.unit.sites.test_fhir_source import ADA as FHIR_ADA

CANARY = "Canaryson"
PEOPLE = (
    "PatientID;fname;LName;Birth_Dt;Gender;Race\n"
    f"p1;Ada;{CANARY};12/31/1915;F;5\np2;Grace;;12/09/1906;F;5\n"
)
PROGRAM = (sys.executable, "-m", "sites.cli", "init")


def run(*arguments: object, cwd: Path) -> Result:
    """Run the command where there is no terminal."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(app, ["init", *map(str, arguments)], env={"COLUMNS": "200"})
    assert CANARY not in done.stdout + done.stderr
    return done


def people(folder: Path, text: str = PEOPLE) -> Path:
    path = folder / "people.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_program_gives_everything_and_gets_a_file_that_works(tmp_path: Path) -> None:
    people(tmp_path)
    done = run("new", "--party", "north", "--source", "people.txt", "--yes", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert 'delimiter ";"' in done.stdout
    assert "50% have one" in done.stdout
    assert "not used" in done.stdout
    text = (tmp_path / "new" / "site.toml").read_text("utf-8")
    assert CANARY not in text
    config = load_site(tmp_path / "new" / "site.toml")
    assert config.party == "north"
    assert config.source.date_format == "MM/DD/YYYY"
    fields = ("first_name", "last_name", "date_of_birth", "sex")
    [batch] = open_source(config.source, fields).batches()
    assert batch.record_ids.to_pylist() == ["p1", "p2"]


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    people(tmp_path)
    given = ("--party", "north", "--source", "people.txt")
    done = run("new", *given, "--dry-run", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert 'party = "north"' in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.txt"]
    assert run("new", *given, "--yes", cwd=tmp_path).exit_code == 0
    before = (tmp_path / "new" / "site.toml").read_bytes()
    again = run("new", *given, "--yes", cwd=tmp_path)
    assert again.exit_code == 3
    assert "is not overwritten" in again.stderr
    assert (tmp_path / "new" / "site.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "options", "code", "said"),
    [
        (PEOPLE, (), 2, "--party is needed"),
        (PEOPLE, ("--party", "north"), 2, "--source is needed"),
        (PEOPLE, ("--party", "north", "--source", "people.txt"), 2, "--yes is needed"),
        (PEOPLE, ("--party", "north", "--source", "gone.txt", "--yes"), 4, "no such file"),
        (PEOPLE, ("--party", "North!", "--source", "people.txt", "--yes"), 3, "not a valid name"),
        (PEOPLE.replace("12/31", "12/11"), "", 4, "fits MM/DD/YYYY and DD/MM/YYYY"),
        (PEOPLE.replace("12/31/1915", "1915").replace("12/09/", ""), "", 4, "no usual format"),
        (PEOPLE.partition("\n")[2], "", 4, "row 1 looks like a record"),
        ("a;b;c\nx;y;z\n", "", 4, "fewer than two usual column names"),
        # Born and MI are usual names of columns, and here a surname and a state.
        (f"7;{CANARY};Born;MI;12/31/1915\n" + PEOPLE, "", 4, "column 1 looks like a number"),
        (f"{CANARY};Born;MI;{CANARY}@x.org\n" + PEOPLE, "", 4, "column 4 looks like an e-mail"),
        (PEOPLE.replace("PatientID", "key"), "", 2, "--record-id is needed"),
        (PEOPLE.partition("\n")[0] + "\n", "", 4, "has no record that can be read"),
    ],
)
def test_what_is_missing_or_doubtful_is_not_guessed(
    text: str, options: Any, code: int, said: str, tmp_path: Path
) -> None:
    people(tmp_path, text)
    given = options or (
        ("--party", "north", "--source", "people.txt", "--yes") if options == "" else ()
    )
    done = run("new", *given, cwd=tmp_path)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "new").exists()


def test_an_encoding_that_was_found_out_is_said(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text(PEOPLE, encoding="utf-16")
    done = run(".", "--party", "north", "--source", "people.txt", "--yes", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "encoding utf-16-le: the file is marked so" in done.stdout


def test_options_settle_what_is_doubtful(tmp_path: Path) -> None:
    people(tmp_path, PEOPLE.replace("12/31", "12/11").replace("PatientID", "key"))
    given = ("--party", "north", "--source", "people.txt", "--yes", "--record-id", "key")
    done = run(".", *given, "--date-format", "DD/MM/YYYY", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    config = load_site(tmp_path / "site.toml")
    assert config.source.date_format == "DD/MM/YYYY"
    assert 'file = "people.txt"' in (tmp_path / "site.toml").read_text()  # it moves with its folder


def make(kind: str, folder: Path) -> tuple[str, list[str]]:
    """Write a source of a kind; return its name and the fields it has."""
    if kind == "parquet":
        pq.write_table(pa.table({"id": [1], "given": ["Ada"], "surname": [CANARY]}), folder / "p")
        return "p", ["first_name", "last_name"]
    if kind == "fhir":
        (folder / "Patient.ndjson").write_text(json.dumps(FHIR_ADA))
        return "Patient.ndjson", list(FIELDS)
    if kind == "dicom":
        image(folder / "scans" / "1", **{**ADA, "PatientName": f"{CANARY}^Ada"})
        return "scans", ["first_name", "middle_name", "last_name", "date_of_birth", "sex"]
    with closing(sqlite3.connect(folder / "cdm.db")) as connection:
        connection.executescript(
            "CREATE TABLE person (person_id INTEGER, year_of_birth INTEGER, month_of_birth INTEGER,"
            " day_of_birth INTEGER, gender_concept_id INTEGER);"
            "CREATE TABLE names (person_id INTEGER, given TEXT);"
            "INSERT INTO person VALUES (1, 1915, 12, 10, 8532);"
            f"INSERT INTO names VALUES (1, '{CANARY}')"
        )
    return "cdm.db", ["first_name", "date_of_birth", "sex"]


@pytest.mark.parametrize("kind", ["parquet", "fhir", "dicom", "omop"])
def test_every_kind_is_found_out(kind: str, tmp_path: Path) -> None:
    name, fields = make(kind, tmp_path)
    assert kind_of(str(tmp_path / name)) == kind
    more = ("--pii-table", "names") if kind == "omop" else ()
    done = run(".", "--party", "north", "--source", name, "--yes", *more, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    config = load_site(tmp_path / "site.toml")
    assert config.source.kind == kind
    assert all(field in done.stdout for field in fields)
    [batch] = open_source(config.source, tuple(fields)).batches()
    assert len(batch) == 1


def test_a_database_without_persons_is_asked_by_query(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.executescript(
            f"CREATE TABLE p (id, given); INSERT INTO p VALUES (1, '{CANARY}')"
        )
    given = ("--party", "north", "--source", "clinic.db", "--yes")
    done = run(".", *given, cwd=tmp_path)
    assert (done.exit_code, "--query is needed" in done.stderr) == (2, True)
    assert run(".", *given, "--query", "SELECT * FROM p", cwd=tmp_path).exit_code == 0
    assert load_site(tmp_path / "site.toml").source.kind == "sql"


def test_a_folder_of_other_files_is_no_source(tmp_path: Path) -> None:
    people(tmp_path)
    done = run("new", "--party", "north", "--source", ".", "--yes", cwd=tmp_path)
    assert done.exit_code == 4
    assert "without Parquet, FHIR or DICOM files" in done.stderr


def test_sql_by_a_url_that_is_kept_in_a_file(postgres_url: str, tmp_path: Path) -> None:
    kept = tmp_path / "url"
    kept.write_text(postgres_url)
    kept.chmod(0o600)
    query = "SELECT 'p1' AS id, 'Ada' AS given, DATE '1915-12-10' AS dob"
    given = ("--party", "north", "--url-file", "url", "--query", query)
    done = run(".", *given, "--yes", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    source = load_site(tmp_path / "site.toml").source
    assert source.date_format is None  # a date that is a date needs none
    [batch] = open_source(source, ("first_name", "date_of_birth")).batches()
    assert len(batch) == 1
    url = postgres_url.replace("postgres:@", f"postgres:{CANARY}@")
    again = run("two", "--party", "north", "--source", url, "--query", query, "--yes", cwd=tmp_path)
    assert again.exit_code == 3
    assert "holds a password" in again.stderr


class Terminal:
    """A person at a pseudo-terminal: waits for words, then types."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.seen = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(cwd)
            os.environ.update(
                PYTHONPATH=str(Path(__file__).parents[3]), COLUMNS="200", NO_COLOR="1"
            )
            os.execv(PROGRAM[0], [*PROGRAM, *arguments])  # noqa: S606

    def answer(self, question: str, text: str) -> None:
        start, limit = len(self.seen), time.monotonic() + 240
        while question not in self.seen[start:]:
            assert time.monotonic() < limit, f"never asked {question!r}: {self.seen}"
            if not self._read():
                raise AssertionError(f"ended before {question!r}: {self.seen}")
        os.write(self._fd, text.encode() + b"\n")

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], 240)[0]:
            return False
        try:
            data = os.read(self._fd, 4096)
        except OSError:
            return False  # Linux says so when the other side has closed
        self.seen += data.decode(errors="replace")
        return bool(data)


def test_a_person_is_asked_and_may_correct(tmp_path: Path) -> None:
    people(tmp_path, PEOPLE.replace("LName", "surname").replace("Race", "family_name"))
    person = Terminal("new", cwd=tmp_path)
    person.answer("party id", "North Hospital")
    person.answer("not a valid name: 2 to 64 small letters", "north")
    person.answer("Your records", "gone.txt")
    person.answer("no such file, or it cannot be read: check the path", "people.txt")
    person.answer("Kind of source [delimited]", "csv")
    person.answer("there is no such kind: one of", "")
    person.answer("column for last_name", "3")
    person.answer("Date format [MM/DD/YYYY]", "month first")
    person.answer("needs YYYY exactly once", "")
    person.answer("Write new/site.toml?", "y")
    assert person.end() == 0, person.seen
    assert CANARY not in person.seen
    source: Any = load_site(tmp_path / "new" / "site.toml").source
    assert source.columns["last_name"] == ("surname",)
    assert source.date_format == "MM/DD/YYYY"


def test_enter_does_not_choose_between_formats_that_fit_alike(tmp_path: Path) -> None:
    people(tmp_path, PEOPLE.replace("12/31", "12/11"))
    person = Terminal("new", "--party", "commons", "--contributor", "north", cwd=tmp_path)
    person.answer("Your records", "people.txt")
    person.answer("Kind of source", "")
    person.answer("several formats alike", "")
    person.answer("Date format: ", "DD/MM/YYYY")
    person.answer("Write new/site.toml?", "y")
    assert person.end() == 0, person.seen
    assert "--name north" in person.seen
    site = load_site(tmp_path / "new" / "site.toml")
    assert (site.party, site.contributor) == ("commons", "north")
    assert site.source.date_format == "DD/MM/YYYY"


def test_a_person_may_say_no(tmp_path: Path) -> None:
    people(tmp_path)
    person = Terminal("--party", "north", "--source", "people.txt", cwd=tmp_path)
    person.answer("Kind of source", "")
    person.answer("Date format", "")
    person.answer("Write site.toml?", "n")
    assert person.end() == 0
    assert "Nothing was written" in person.seen
    assert not (tmp_path / "site.toml").exists()


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["1915-12-10"], ["YYYY-MM-DD"]),
        (["19151210"], ["YYYYMMDD"]),
        (["12/31/1915", "1/2/1915"], ["MM/DD/YYYY"]),
        (["31/12/1915"], ["DD/MM/YYYY"]),
        (["01/02/1915"], ["MM/DD/YYYY", "DD/MM/YYYY"]),
        (["12/31/15"], ["MM/DD/YY"]),
        (["17-JUL-1985", "05-Jan-1990"], ["DD-MON-YYYY"]),
        (["17-JUL-85"], ["DD-MON-YY"]),
        (["12/31/1915"] * 9 + ["unknown"], ["MM/DD/YYYY"]),
        (["12/31/1915"] * 8 + ["unknown"] * 2, []),
        ([], []),
    ],
)
def test_date_formats_are_proposed_only_where_they_fit(
    texts: list[str], formats: list[str]
) -> None:
    assert date_formats(texts) == formats


def test_no_usual_name_means_two_fields() -> None:
    for field, names in USUAL_NAMES.items():
        for name in names:
            assert usual_field(name) == field
            assert usual_field(f"Patient {name}".upper()) in (
                field,
                "" if field == "record_id" else field,
            )


def test_columns_that_look_like_values_are_shown_by_number() -> None:
    values = ("12/31/1915", "1915-12-31", "31 Dec 1915", "19151231", "617-253-1000", "02139", "7",
              "ada@site.org", "12 Main St", "123-45-6789")  # fmt: skip
    assert all(map(like_a_value, values))
    assert not any(like_a_value(name) for names in USUAL_NAMES.values() for name in names)
    assert shown(["id", "12/31/1915"]) == ["id", "(column 2, looks like a date)"]
