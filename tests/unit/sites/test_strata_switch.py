"""One switch, [strata] send: what an operator reads, and an install that cannot draw marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linkage.messages import CUSTODIAN
from linkage.strata import Stratum, attested
from sites.cli import app
from sites.strata_config import marks_told
from tests.isolated import CHECKOUT, packages_of, run_python
from tests.studies import vault_of
from tests.unit.sites.test_strata import EVERYONE, source

CUSTODIANS = EVERYONE.signed.pin(CUSTODIAN).fingerprint
NO = "none: [strata] send is not true here; the study would take sex, birth-decade, race"
YES = "sex, birth-decade, race; epsilon 3.5 together"


def site(folder: Path, more: str = "") -> Path:
    """Write a site's folder; return its site file. more: its last lines."""
    vault_of(EVERYONE, "alpha", folder / "private")
    source(folder, 40)
    (folder / "site.toml").write_text(
        f"""party = "alpha"
[source]
file = "people.csv"
record_id = "id"
date_format = "MM/DD/YYYY"
[source.columns]
first_name = "first"
last_name = "last"
date_of_birth = "dob"
sex = "sex"
[source.subgroups]
race = "race"
[broker]
url = "https://broker.invalid"
custodian = "{CUSTODIANS}"
{more}""",
        encoding="utf-8",
    )
    return folder / "site.toml"


def said(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(one) for one in words])
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("more", "told"),
    [("", NO), ("[strata]\nsend = false\n", NO), ("[strata]\nsend = true\n", YES)],
    ids=["silent", "no", "yes"],
)
def test_every_command_says_which_marks_would_leave(tmp_path: Path, more: str, told: str) -> None:
    """A dry run, the tokenization and the dry run of the upload: the same line."""
    file = site(tmp_path, more)
    assert told in said("tokenize", "--site", file, "--dry-run")
    as_json = json.loads(said("tokenize", "--site", file, "--dry-run", "--json"))
    assert as_json["marks_of_groups"].startswith(told)
    assert told in said("tokenize", "--site", file)
    assert told in said("submit", "--site", file, "--dry-run")
    assert (tmp_path / "private" / "kept" / "strata").exists() == (told == YES)


def test_a_study_without_groups_is_told_nothing_of_marks() -> None:
    assert marks_told((), ()) == {}
    one = Stratum(id="sex", groups=("female",))
    assert marks_told((one,), attested((one,))) == {"marks of groups": "sex; epsilon 1 together"}


TOKENIZE = """
from sites.cli import app
app(["tokenize", "--site", {site!r}, "--workers", "0", *{more}])
"""


def test_an_install_of_a_site_draws_no_marks_and_says_what_is_missing(tmp_path: Path) -> None:
    """With what the site's lock holds, where OpenDP is not; all else works as ever."""
    packages = packages_of("site", tmp_path / "packages")
    assert not (packages / "opendp").exists()
    (tmp_path / "yes").mkdir()
    yes = str(site(tmp_path / "yes", "[strata]\nsend = true\n"))
    for more in ([], ["--dry-run"]):
        done = run_python(TOKENIZE.format(site=yes, more=more), packages, CHECKOUT)
        told = " ".join(done.stderr.split())
        assert done.returncode == 4, told
        assert "OpenDP, is not installed" in told
        assert 'pip install "commons-linkage[site,marks]"' in told
    assert not (tmp_path / "yes" / "private" / "packages" / "1").exists()
    (tmp_path / "no").mkdir()
    no = str(site(tmp_path / "no"))
    done = run_python(TOKENIZE.format(site=no, more=[]), packages, CHECKOUT)
    assert done.returncode == 0, done.stderr


def test_an_install_with_the_extra_draws_them(tmp_path: Path) -> None:
    packages = packages_of("marks", tmp_path / "packages")
    (tmp_path / "site").mkdir()
    file = str(site(tmp_path / "site", "[strata]\nsend = true\n"))
    done = run_python(TOKENIZE.format(site=file, more=[]), packages, CHECKOUT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "private" / "kept" / "strata").is_dir()
