"""An operator's slips: the wrong file, an export of Excel, a semicolon list, a lifted opt-out."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from linkage.errors import SourceRefused
from linkage.governance import OptOutState
from linkage.study import parse_study
from sites.asserting import read_assertions
from sites.cli import app
from sites.config import SourceConfig
from sites.confirming import agreed_to
from sites.opting_out import CANNOT_BE_RECALLED, statement
from sites.sources.opening import open_source
from tests.studies import STUDY


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_who_gives_the_one_file_for_the_other_is_told(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('party = "alpha"\n[source]\nfile = "people.csv"\n')
    (tmp_path / "study.toml").write_text(STUDY)
    for words, said in (
        (("profile", "--site", tmp_path / "study.toml"), "this is a study file"),
        (("study", "check", site), "this is a site file"),
        (("profile", "--site", tmp_path), "is a folder"),
    ):
        done = call(*words)
        assert (done.exit_code, said in done.stderr) == (3, True), done.stderr


def test_a_rehearsal_says_at_once_whose_records_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    words: list[str | Path] = ["rehearse", tmp_path / "study.toml", "--out", tmp_path / "out"]
    for party in ("alpha", "beta"):
        site = f'party = "{party}"\n[source]\nfile = "{party}.csv"\ndate_format = "YYYYMMDD"\n'
        (tmp_path / f"{party}.toml").write_text(site)
        words += ["--site", tmp_path / f"{party}.toml"]
    (tmp_path / "alpha.csv").touch()
    for more in ([], ["--dry-run"]):
        done = call(*words, *more)
        assert done.exit_code == 4, done.stderr
        assert "beta.csv: there is no such file" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["sep=;\r\n", "SEP=,\n"])
def test_a_line_for_excel_is_no_header(tmp_path: Path, line: str) -> None:
    (tmp_path / "p.csv").write_text(f"\ufeff{line}id;first;last\r\n1;Ada;Lovelace\r\n", newline="")
    config = SourceConfig.model_validate({"file": tmp_path / "p.csv"})
    with pytest.raises(SourceRefused) as caught:
        list(open_source(config, ("first_name", "last_name")).batches())
    assert "a line for Excel" in caught.value.message
    assert caught.value.hint == "delete that line"


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_list_may_be_separated_as_spreadsheets_do(tmp_path: Path, delimiter: str) -> None:
    text = "record_id,assertion_id,verdict\n4711,one,same\n".replace(",", delimiter)
    (tmp_path / "a.csv").write_text("\ufeff" + text, encoding="utf-8")
    (found,) = read_assertions(tmp_path / "a.csv")
    assert (found.record_id, found.assertion_id, found.verdict) == ("4711", "one", "same")


def test_a_list_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="there is no such file"):
        read_assertions(tmp_path / "none.csv")
    assert "there is no such file" in call("study", "verify", tmp_path / "none.json").stderr


@pytest.mark.parametrize(("records", "warned"), [(0, False), (1, True), (None, True)])
def test_who_lifts_the_last_opt_out_reads_nothing_of_earlier_ones(
    records: int | None, warned: bool
) -> None:
    state = OptOutState(
        uploader="alpha", number=2, epoch=1, size=1, digest="0" * 64, records=records
    )
    assert (CANNOT_BE_RECALLED in statement(state)) == warned


def test_second_looks_name_no_field_that_nobody_can_be_asked_about() -> None:
    study = parse_study(STUDY + "[second_look]\n")
    said = str(agreed_to(study, "alpha")["second looks"])
    assert said.endswith("over first_name, last_name, date_of_birth, sex")
