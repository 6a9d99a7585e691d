"""`linkage-site profile` as an operator runs it: files for the owner only, a dry run, one JSON."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sites.cli import app
from tests.studies import STUDY, cast, vault_of
from tests.unit.sites.test_profile import person, written

SITE = """\
party = "alpha"
[source]
file = "people.csv"
record_id = "id"
date_format = "MM/DD/YYYY"
[source.columns]
first_name = "first"
last_name = "last"
date_of_birth = "dob"
sex = "sex"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's folder: 60 people, a site file, a study file."""
    written(tmp_path, map(person, range(60)))
    (tmp_path / "site.toml").write_text(SITE, encoding="utf-8")
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str, study: bool = True) -> Result:
    given = ["profile", "--site", str(folder / "site.toml"), *arguments]
    return CliRunner().invoke(app, given + (["--study", str(folder / "study.toml")] * study))


def test_the_page_and_the_json_are_for_their_owner_only(folder: Path) -> None:
    done = run(folder, "--out", str(folder / "profile"))
    assert done.exit_code == 0, done.output
    assert "Ready" in done.output
    files = {path.name: path for path in (folder / "profile").iterdir()}
    assert files.keys() == {"profile.html", "profile.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert stat.S_IMODE((folder / "profile").stat().st_mode) == 0o700
    assert json.loads(files["profile.json"].read_text(encoding="utf-8"))["records"] == 60


def test_a_second_profile_takes_the_place_of_the_first(folder: Path) -> None:
    page = folder / "out" / "profile.html"
    page.parent.mkdir()
    page.write_text("old")
    page.chmod(0o644)
    assert run(folder, "--out", str(page.parent)).exit_code == 0
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_page_needs_nothing_from_outside(folder: Path) -> None:
    run(folder, "--out", str(folder / "profile"))
    text = (folder / "profile" / "profile.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<img|<link|@import|url\(", text)


def test_json_is_all_that_is_printed(folder: Path) -> None:
    found = json.loads(run(folder, "--json").stdout)
    assert found["version"] == 1
    assert [one["field"] for one in found["fields"]][:2] == ["first_name", "last_name"]
    assert found["effect"]["study"] == "small-study"


def test_a_dry_run_reads_and_writes_nothing(folder: Path) -> None:
    (folder / "people.csv").write_text("nothing of the kind", encoding="utf-8")
    done = run(folder, "--out", str(folder / "profile"), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "first_name, last_name, date_of_birth, sex" in done.output
    assert not (folder / "profile").exists()


def test_without_a_study_it_says_what_is_missing(folder: Path) -> None:
    done = run(folder, study=False)
    assert done.exit_code == 0, done.output
    assert "--study" in done.output


def test_the_signed_study_of_the_private_folder_is_the_default(folder: Path) -> None:
    everyone = cast()
    vault_of(everyone, "alpha", folder / "private")
    fingerprint = everyone.signed.pin("custodian").fingerprint
    (folder / "site.toml").write_text(
        f'{SITE}\n[broker]\nurl = "https://broker.test"\ncustodian = "{fingerprint}"\n',
        encoding="utf-8",
    )
    assert json.loads(run(folder, "--json", study=False).stdout)["effect"]["study"] == "small-study"


def test_a_folder_that_cannot_be_written_is_named_without_a_trace(folder: Path) -> None:
    (folder / "taken").write_text("a file")
    done = run(folder, "--out", str(folder / "taken"))
    assert done.exit_code == 4
    assert "Traceback" not in done.output
