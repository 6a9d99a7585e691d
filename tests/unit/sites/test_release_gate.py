"""A site seals nothing under a study that was not measured, and everyone reads the verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linkage.errors import SourceRefused, StudyRefused
from linkage.messages import BROKER, CUSTODIAN
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy
from linkage.study import load_study, parse_study
from sites import cli
from sites.demo import prepare_demo
from sites.tokenizer import tokenize
from sites.vault import Vault
from tests.studies import EXCEPTION, STUDY, Cast, cast, certified, excepted, vault_of
from tests.unit.sites.test_tokenizer import PEOPLE, source

PASSED = "passed for 200,000 people (2026-11-21)"
EVERYONE = cast()


def without_certificate(everyone: Cast) -> SignedStudy:
    bare = everyone.signed.model_copy(update={"certificate": None})
    return bare.sign(everyone.identities[CUSTODIAN])


@pytest.fixture
def desk(tmp_path: Path) -> list[str | Path]:
    """A custodian's folder: the arguments of `study sign`, but for study and certificate."""
    people = {name: Identity.generate(name) for name in (CUSTODIAN, BROKER, "alpha", "beta")}
    people[CUSTODIAN].save(tmp_path / "custodian.key")
    EVERYONE.key.save(tmp_path / "study.key")
    words: list[str | Path] = ["--key", tmp_path / "study.key", "--out", tmp_path / "signed.json"]
    words += ["--custodian", tmp_path / "custodian.key"]
    for name in (BROKER, "alpha", "beta"):
        path = tmp_path / f"{name}.json"
        path.write_text(people[name].public().model_dump_json())
        words += ["--public", path]
    return words


def call(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    return done.exit_code, " ".join((done.stdout + done.stderr).split())


def study_file(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def certificate_file(folder: Path, **figures: float) -> Path:
    made = certified(parse_study(STUDY))
    assert made is not None
    path = folder / "certificate.json"
    path.write_text(json.dumps(made.model_dump(mode="json") | figures))
    return path


def test_signing_needs_a_certificate_and_says_how_to_make_one(
    desk: list[str | Path], tmp_path: Path
) -> None:
    code, said = call("study", "sign", study_file(tmp_path, STUDY), *desk)
    assert code == 3
    assert "it has no release-gate certificate" in said
    assert "linkage attack study.toml --out gate" in said
    assert not (tmp_path / "signed.json").exists()


def test_a_passing_certificate_is_signed_into_the_study(
    desk: list[str | Path], tmp_path: Path
) -> None:
    gate = ("--certificate", certificate_file(tmp_path))
    code, said = call("study", "sign", study_file(tmp_path, STUDY), *desk, *gate)
    assert code == 0, said
    assert PASSED in said
    code, said = call("study", "verify", tmp_path / "signed.json")
    assert (code, PASSED in said) == (0, True)


def test_a_failing_certificate_is_refused_with_its_reasons(
    desk: list[str | Path], tmp_path: Path
) -> None:
    failing = certificate_file(tmp_path, draws=3, combined_reidentified=0.3)
    gate = ("--certificate", failing)
    code, said = call("study", "sign", study_file(tmp_path, STUDY), *desk, *gate)
    assert code == 3
    assert "(1) key draws: 3, needed 5 or more" in said
    assert "(2) CLKs and match keys together: 30.00% re-identified" in said
    code, said = call("study", "sign", study_file(tmp_path, excepted(STUDY)), *desk, *gate)
    assert code == 0, said
    assert f"EXCEPTION: {EXCEPTION}" in said
    assert "EXCEPTED FROM (2) CLKs and match keys together" in said, "loud"
    code, said = call("study", "verify", tmp_path / "signed.json")
    assert (code, f"EXCEPTION: {EXCEPTION}" in said) == (0, True)


def test_a_file_that_is_no_certificate_is_refused(desk: list[str | Path], tmp_path: Path) -> None:
    for text in ("{}", "not JSON", json.dumps({"verdict": "passed"})):
        other = tmp_path / "other.json"
        other.write_text(text)
        code, said = call(
            "study", "sign", study_file(tmp_path, STUDY), *desk, "--certificate", other
        )
        assert code == 5
        assert "no certificate of the release gate" in said


def test_a_file_that_is_not_there_is_said_to_be_missing(
    desk: list[str | Path], tmp_path: Path
) -> None:
    study = study_file(tmp_path, STUDY)
    for option in ("--certificate", "--public"):
        for path in (tmp_path / "nowhere.json", tmp_path):
            code, said = call("study", "sign", study, *desk, option, path)
            assert code == 5
            assert "there is no such file" in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STUDY, "to be measured for 200,000 records with `linkage attack"),
        (STUDY.replace("records = 100_000\n", ""), "write records = N into every [[party]]"),
        (excepted(STUDY), f"EXCEPTION: {EXCEPTION}"),
    ],
)
def test_checking_a_study_file_says_what_signing_will_need(
    tmp_path: Path, text: str, told: str
) -> None:
    code, said = call("study", "check", study_file(tmp_path, text))
    assert code == 0
    assert told in said


def test_comparing_two_signed_studies_compares_their_verdicts(tmp_path: Path) -> None:
    for name, signed in (("a", EVERYONE.signed), ("b", without_certificate(EVERYONE))):
        (tmp_path / name).write_text(signed.model_dump_json())
    code, said = call("study", "compare", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert f"signed, release gate {PASSED} -> NOT PASSED" in said


def site_file(folder: Path, everyone: Cast, signed: SignedStudy) -> Path:
    vault = vault_of(everyone, "alpha", folder / "private")
    vault.signed_study_file.write_text(signed.model_dump_json())
    source(folder)
    told = signed.pin(CUSTODIAN).fingerprint
    path = folder / "site.toml"
    path.write_text(
        'party = "alpha"\n[source]\nkind = "delimited"\nfile = "people.csv"\nrecord_id = "id"\n'
        'date_format = "MM/DD/YYYY"\n'
        'columns = { first_name = "first", last_name = "last", date_of_birth = "dob",'
        ' sex = "sex" }\n'
        f'[broker]\nurl = "https://broker.example"\ncustodian = "{told}"\n'
    )
    return path


@pytest.mark.threat("T23")
def test_a_site_seals_nothing_under_an_unmeasured_study(tmp_path: Path) -> None:
    """The gate guards against whoever holds the broker, so the broker's word is not enough."""
    site = site_file(tmp_path, EVERYONE, without_certificate(EVERYONE))
    for more in ((), ("--dry-run",)):
        code, said = call("tokenize", "--site", site, *more)
        assert code == 3
        assert "does not pass the release gate" in said
        assert "What to do:" in said
    assert not (tmp_path / "private" / "packages").exists()


def test_the_verdict_is_shown_where_records_are_sealed(tmp_path: Path) -> None:
    site = site_file(tmp_path, EVERYONE, EVERYONE.signed)
    for more in (("--dry-run",), ()):
        code, said = call("tokenize", "--site", site, "--workers", "0", *more)
        assert code == 0, said
        assert f"release gate {PASSED}" in said


def test_an_exception_is_shown_where_records_are_sealed(tmp_path: Path) -> None:
    everyone = cast(excepted(STUDY.replace("records = 100_000\n", "")))
    assert everyone.signed.certificate is None
    site = site_file(tmp_path, everyone, everyone.signed)
    code, said = call("tokenize", "--site", site, "--workers", "0")
    assert code == 0, said
    assert f"release gate EXCEPTION: {EXCEPTION}" in said


@pytest.mark.threat("T02")
@pytest.mark.parametrize("declared", [len(PEOPLE), len(PEOPLE) - 1])
def test_no_more_records_are_sealed_than_declared(tmp_path: Path, declared: int) -> None:
    everyone = cast(STUDY.replace("records = 100_000", f"records = {declared}", 1))
    site = site_file(tmp_path, everyone, everyone.signed)
    vault = Vault(tmp_path / "private")
    if declared == len(PEOPLE):
        done = tokenize(source(tmp_path), "alpha", everyone.signed, vault)
        assert done.records == declared
        return
    with pytest.raises(SourceRefused, match="at most 4 for 'alpha'") as refused:
        tokenize(source(tmp_path), "alpha", everyone.signed, vault)
    assert "raise records in the study file" in refused.value.hint
    assert not vault.package(1).exists()
    code, said = call("tokenize", "--site", site, "--dry-run")
    assert code == 4
    assert re.search(r"holds 5 records, the study declares at most 4", said)


@pytest.mark.threat("T23")
def test_tokenizing_itself_asks_for_the_gate(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    with pytest.raises(StudyRefused, match="no release-gate certificate"):
        tokenize(source(tmp_path), "alpha", without_certificate(EVERYONE), vault)


@pytest.mark.parametrize(("persons", "declared"), [(300, 20_000), (10_001, 20_002)])
def test_the_demo_declares_as_many_as_it_simulates(
    tmp_path: Path, persons: int, declared: int
) -> None:
    study = load_study(prepare_demo(tmp_path / "out", persons, 1).plan.study_file)
    assert [party.records for party in study.party] == [declared] * 3
