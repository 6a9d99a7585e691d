"""
Second looks through a real broker and real sites: three commons of simulated people.

All sites answer, one is silent, one has another source by now; and nothing that any of them holds
is found anywhere but in its source.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkage.run_messages import RunRequest, RunState
from sites.demo import prepare_demo
from sites.look_ledger import Ledger
from sites.rehearsal import SECOND_LOOK_STAGE, Actors, RehearsalPlan, actors
from sites.second_looks import Outcome, answer_looks, asked_of
from sites.tokenizer import tokenize
from sites.upload import submit_dataset
from tests.silent import Silent
from tests.test_no_leaks import CANARY, leaking_files, plant

pytestmark = pytest.mark.long

PEOPLE = 700
FILES = {"imaging_pii.psv": "|", "enclave_pii.csv": ",", "claims_pii.csv": ","}
WAIT_S = 60.0
"""How long a run waits for the silent site."""


def _plan(folder: Path, limits: str) -> RehearsalPlan:
    prepared = prepare_demo(folder, PEOPLE, 5)
    study = prepared.plan.study_file
    text = study.read_text(encoding="utf-8").partition("[second_look]")[0]
    study.write_text(text + limits, encoding="utf-8")
    for name, delimiter in FILES.items():
        plant(folder / "commons" / name, delimiter)
    return dataclasses.replace(prepared.plan, keep=True)


def _uploaded(people: Actors) -> None:
    for uploader, session in people.uploaders.items():
        tokenize(session.site.source, uploader, people.signed, session.vault, workers=0)
        submit_dataset(session, 1)


def _started(people: Actors, seed: int) -> RunState:
    """Start a run and wait until it asks or ends."""
    study = people.signed.study.study.id
    run = people.admin.start_run(study, RunRequest(seed=seed))
    while run.state in ("queued", "running") and not _asks(people):
        people.broker.check()
        time.sleep(0.2)
        run = people.admin.run(study, run.run_id)
    return run


def _asks(people: Actors) -> bool:
    return any(one.state == "asked" for s in people.uploaders.values() for one in asked_of(s))


def _ended(people: Actors, run: RunState) -> RunState:
    study = people.signed.study.study.id
    while run.state in ("queued", "running"):
        people.broker.check()
        time.sleep(0.2)
        run = people.admin.run(study, run.run_id)
    assert run.state == "done", run.failure
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("looks")


@pytest.fixture(scope="module")
def people(folder: Path) -> Iterator[Actors]:
    limits = f"[second_look]\nmost_runs = 2\nwait_hours = {WAIT_S / 3600}\n"
    with actors(_plan(folder, limits), Silent()) as everyone:
        _uploaded(everyone)
        yield everyone


def _one(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    assert outcome.fault is None, outcome.said
    return outcome


def test_all_sites_answer_and_the_run_uses_it(people: Actors) -> None:
    run = _started(people, 1)
    assert run.stage == SECOND_LOOK_STAGE
    for session in people.uploaders.values():
        entry = _one(answer_looks(session)).entry
        assert entry is not None
        assert entry.answered == entry.questions > 0
        assert max(entry.asked.values()) <= 5
        assert answer_looks(session) == []
    looked = (_ended(people, run).report or {})["second_look"]
    assert looked["silent"] == []
    assert looked["refused"] == {}
    assert looked["pairs_answered"] == looked["pairs_asked"] > looked["uncertain"]
    assert all(asked_of(session) == [] for session in people.uploaders.values())


def test_a_silent_site_and_a_changed_source_hold_nothing_up(people: Actors, folder: Path) -> None:
    run = _started(people, 2)
    imaging, claims = people.uploaders["imaging"], people.uploaders["claims"]
    file = folder / "commons" / "claims_pii.csv"
    whole = file.read_text(encoding="utf-8")
    head, *rows = whole.splitlines(keepends=True)
    file.write_text(head + "".join(rows[: -len(rows) // 10]), encoding="utf-8")
    assert _one(answer_looks(imaging)).state == "answered"
    less = _one(answer_looks(claims)).entry
    file.write_text(whole, encoding="utf-8")
    assert less is not None
    assert less.gone > 0
    assert less.answered + less.gone == less.questions
    looked = (_ended(people, run).report or {})["second_look"]
    assert looked["silent"] == ["enclave"]
    asked = {frozenset(one["parties"]): one for one in looked["comparisons"]}
    both = asked[frozenset(("imaging", "claims"))]
    assert 0 < both["pairs_answered"] < both["pairs_asked"]
    assert sum(one["pairs_answered"] for one in asked.values()) == both["pairs_answered"]


def test_the_third_run_asks_nobody_and_the_account_says_what_was_asked(people: Actors) -> None:
    run = _ended(people, _started(people, 3))
    assert (run.report or {})["second_look"]["pairs_asked"] == 0
    for uploader, session in people.uploaders.items():
        runs = Ledger(session.vault, 1).entries()
        assert len(runs) == (1 if uploader == "enclave" else 2)


def test_nothing_is_left_in_the_clear(people: Actors, folder: Path) -> None:
    commons = folder / "commons"
    for party, session in people.sessions.items():
        names = session.vault.load_map(1)
        assert CANARY["record_id"] in names.values(), party
    assert leaking_files(folder, but=lambda path: commons in path.parents) == []
