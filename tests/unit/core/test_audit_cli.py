"""`linkage audit`: what an auditor types, and is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linkage.audit_chain import START, AuditHead, chained, export_lines
from linkage.cli import app
from linkage.messages import CUSTODIAN
from linkage.sealing import Identity
from tests.broker_world import sign_for

BROKER = Identity.generate("broker", kem="X25519")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A log of three entries whose second has a head, which two parties keep; a third forked."""

    def head(text: bytes, entries: list[bytes]) -> AuditHead:
        at = START
        for one in entries:
            at = chained(at, one)
        made = AuditHead(sequence=1, previous=START, hash=at, at=1_800_000_000 + len(text))
        return made.sign(BROKER)

    entries = [json.dumps({"number": n}, separators=(",", ":")).encode() for n in (1, 2, 3)]
    here, there = head(b"", entries[:2]), head(b"x", entries[:1])
    hashes = [START]
    for one in entries:
        hashes.append(chained(hashes[-1], one))
    pairs = list(zip(entries, hashes[1:], strict=True))
    lines = export_lines(BROKER.public(), [*pairs[:2], here, pairs[2]])
    (tmp_path / "log.jsonl").write_bytes(b"".join(lines))
    for name, one in {"a": here, "b": here, "c": there}.items():
        (tmp_path / name).write_bytes(one.canonical() + b"\n")
    (tmp_path / "public.json").write_text(BROKER.public().model_dump_json())
    return tmp_path


def run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *map(str, words)])
    return done.exit_code, done.output


def test_a_clock_that_no_calendar_holds_is_told_in_seconds() -> None:
    """A head is what the broker says; whoever shows one must not break over it."""
    head = AuditHead(sequence=1, previous=START, hash=START, at=2**53 - 1)
    assert head.moment == "second 9007199254740991"
    assert head.model_copy(update={"at": 1_800_000_000}).moment == "2027-01-15 08:00:00 UTC"


def test_the_verdict_says_what_it_does_not_cover(files: Path) -> None:
    log, key = files / "log.jsonl", ("--broker", files / "public.json")
    code, said = run("verify", log, *key, "--heads", files / "a", "--heads", files / "b")
    assert code == 0
    assert "Up to entry 2 nothing was altered" in said
    assert "2 heads of 2 files vouch for the entries up to 2. CAUTION: for the 1 after it" in said
    told = json.loads(run("verify", log, *key, "--heads", files / "a", "--json")[1])
    assert (told["entries"], told["signed_entries"], told["vouched_entries"]) == (3, 2, 2)
    code, said = run("verify", log, *key, "--alone")
    assert code == 0
    assert "CAUTION: the log was compared with no party's heads" in said


def test_a_signed_study_of_nobody_known_is_said(files: Path) -> None:
    signed, people = sign_for(BROKER.public(), "audited", rehearsal=False)
    (files / "study.json").write_text(signed.model_dump_json())
    study = ("--study", files / "study.json")
    told = ("--custodian", people[CUSTODIAN].public().fingerprint)
    heads = ("--heads", files / "a")
    for words in (("verify", files / "log.jsonl", *heads), ("compare", files / "a", files / "b")):
        code, said = run(*words, *study)
        assert (code, "CAUTION: whose signed study this is" in said) == (0, True)
        code, said = run(*words, *study, *told)
        assert (code, "whose signed study" in said) == (0, False)


@pytest.mark.threat("T20")
def test_two_parties_find_a_fork_without_the_log(files: Path) -> None:
    key = ("--broker", files / "public.json")
    code, said = run("compare", files / "a", files / "b", *key)
    assert (code, "one history up to there" in said) == (0, True)
    code, _ = run("compare", files / "a", files / "c", *key)
    assert code == 3
    code, _ = run("verify", files / "log.jsonl", *key, "--heads", files / "c")
    assert code == 3


def test_what_is_missing_is_asked_for(files: Path) -> None:
    log, key = files / "log.jsonl", ("--broker", files / "public.json")
    for words in (
        ("verify", log, *key),
        ("verify", log, "--alone"),
        ("verify", log, "--alone", *key, "--study", files / "x"),
        ("compare", files / "a", *key),
        ("compare", files / "a", files / "a", *key),
    ):
        assert run(*words)[0] == 2, words
    assert run("verify", log, "--alone", "--broker", log)[0] == 7
    assert run("verify", files / "a", "--alone", *key)[0] == 4
