"""
The enclave's private folder is put back to an older copy, over a real broker: what was told of whom
since is charged all the same, or nothing new is told.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linkage.cohort.spec import parse_spec
from linkage.errors import Conflict, NotFound
from sites.asking import ask
from sites.cohort.ledger import _read
from sites.count_ledger import ledger_of
from sites.enclave import enter
from sites.forgotten import accept, accepted_now
from sites.offering import PERIOD_DAYS, require_remembered
from sites.questions import decide
from sites.session import Session
from sites.sharing import preview, read_report, share
from tests.broker_world import make_world, running, sign_for
from tests.cohort_world import CONDITION, TWO_PARTIES, Sites
from tests.programs import program

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SPEC = """
[cohort]
id = "chest-ct"
title = "Chest CT {number}"
purpose = "To restore a folder"
[imaging]
any = true
[clinical]
{clinical}
"""
ALL = "any = true"
ILL = f"""
[[clinical.concepts]]
domain = "condition"
concept_id = {CONDITION}
"""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("counts")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "site", imaging=range(200), enclave=range(20, 220))
        made.write_site("imaging", 'questions = "auto"')
        made.write_site("enclave", 'questions = "auto"\nsmall_counts = 1000\ncohorts = "cohorts"')
        yield made
        made.close()


def asked(sites: Sites, number: int, clinical: str = ALL) -> str:
    """Ask from the enclave's site, let the imaging party answer; return the question."""
    spec = parse_spec(SPEC.format(number=number, clinical=clinical))
    with sites.session("enclave") as session:
        made = ask(session, spec, sites.run["run_id"], folder=sites.folder / "keys")
    sites.world.finish(f"{sites.world.path}/jobs/{made.job.job_id}")
    assert [one.state for one in sites.look("imaging")] == ["done"]
    return made.job.job_id


def counted(sites: Sites, number: int, clinical: str = ALL) -> str:
    """The same, counted by the enclave's agent."""
    question = asked(sites, number, clinical)
    done = [one.state for one in sites.look("enclave") if one.subject == question]
    assert done == ["done"]
    return question


def backed_up(sites: Sites, party: str = "enclave") -> Path:
    copy = sites.folder / party / "backup"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sites.folder / party / "private", copy)
    return copy


def restore(copy: Path) -> None:
    """Put a party's private folder back to this copy of it."""
    private = copy.parent / "private"
    shutil.rmtree(private)
    shutil.copytree(copy, private)


def run(sites: Sites, *words: str, ok: bool = True, party: str = "enclave") -> str:
    """Run linkage-site at a party; return what it printed."""
    command = [program("linkage-site"), *words, "--site", str(sites.site_file(party))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stderr
    return done.stdout + done.stderr


def charges(session: Session) -> dict[str, tuple[list[int], float]]:
    """By question: who is charged for it, by number, and how much in all."""
    return {
        entry.question: (told.who.tolist(), float(np.sum(told.units)))
        for entry, told, _ in _read(session.vault)
    }


def test_what_was_answered_since_the_backup_is_charged_again(sites: Sites) -> None:
    first = counted(sites, 1)
    copy = backed_up(sites)
    second = counted(sites, 2, ILL)
    with sites.session("enclave") as session:
        before = charges(session)
        answers = [one.answer for one in ledger_of(session).entries()]
    assert list(before) == [first, second]
    assert min(units for _, units in before.values()) > 0
    restore(copy)
    third = asked(sites, 3)
    # By hand, so that nothing but this question is asked for.
    told = json.loads(run(sites, "counts", third, "--json"))
    with sites.session("enclave") as session:
        after = charges(session)
        assert [one.answer for one in ledger_of(session).entries()][:2] == answers
        assert session.broker.question(session.study_id, third).counted
    assert list(after) == [first, second, third]
    assert {name: after[name] for name in before} == before
    # The first and the third are of the same persons, who get the same answer.
    assert told["persons"] == answers[0]["persons"]


def test_nothing_new_is_counted_while_an_answer_is_lost(sites: Sites) -> None:
    sites.look("enclave")  # marks as done what the restored folder forgot
    copy = backed_up(sites)
    lost = counted(sites, 4, 'sex = ["male"]')
    with sites.session("enclave") as session:
        decide(session, lost, "deny")
        kept = charges(session)
    restore(copy)
    new = asked(sites, 5)
    (event,) = [one for one in sites.look("enclave") if one.subject == new]
    assert (event.state, type(event.fault)) == ("failed", Conflict)
    assert lost in event.said
    assert event.fault is not None
    assert "linkage-site accept-forgotten" in event.fault.hint
    with sites.session("enclave") as session:
        assert list(charges(session)) == [one for one in kept if one != lost]
        assert not session.broker.question(session.study_id, new).counted
    # A person looks, and says so.
    dry = run(sites, "accept-forgotten", "--dry-run")
    for words in ("would enter again, or accept as lost", lost, "Chest CT 4"):
        assert words in dry
    assert lost in run(sites, "accept-forgotten")
    assert [one.state for one in sites.look("enclave") if one.subject == new] == ["done"]
    rows = {one["question"]: one for one in json.loads(run(sites, "counted", "--json"))}
    assert rows[lost]["answer of"].startswith("lost; accepted on ")
    assert rows[new]["epoch"] == 1
    with sites.session("enclave") as session:
        assert accepted_now(session) == 1
        with pytest.raises(NotFound, match="every answer that left is in the ledger"):
            accept(session, enter)
    # That copy again: the acceptance is forgotten, too, and what can be is entered on the way.
    restore(copy)
    with sites.session("enclave") as session:
        assert [one.subject for one in accept(session, enter)] == [lost]
        assert new in charges(session)


def delivered(sites: Sites, number: int) -> str:
    """Have a question counted, approved, ordered and built; return it."""
    question = counted(sites, number)
    for party in ("imaging", "enclave"):
        with sites.session(party) as session:
            decide(session, question, "approve")
    sites.deliver(question)
    for party in ("imaging", "enclave"):
        states = {one.state for one in sites.look(party)}
        assert "failed" not in states
    return question


def test_a_shared_report_that_was_forgotten_is_entered_by_sharing_again(sites: Sites) -> None:
    sites.look("enclave")
    question = delivered(sites, 7)
    copy = backed_up(sites)
    with sites.session("enclave") as session:
        shared = share(session, question)
        before = charges(session)
    restore(copy)
    new = asked(sites, 8)
    said = run(sites, "counts", new, ok=False)
    assert shared.delivery_id in said
    assert f"linkage-cohort share-report {question}" in said
    with sites.session("enclave") as session:
        assert preview(session, question) == shared.report
        again = share(session, question)
        assert (again.new, again.report) == (False, shared.report)
        assert read_report(session, question, sites.folder / "keys") == shared.report
        assert charges(session) == before
    run(sites, "counts", new)


def test_a_report_is_shared_in_the_epoch_of_its_question(sites: Sites) -> None:
    sites.look("enclave")
    earlier = next(iter(_questions(sites, "Chest CT 7")))
    question = delivered(sites, 9)
    next_epoch(sites)
    with sites.session("enclave") as session:
        before = charges(session)
        for make in (preview, share):
            with pytest.raises(Conflict, match="shared in the epoch of its question") as refused:
                make(session, question)
            assert "which is epoch 2" in refused.value.message
            assert "report.html" in refused.value.hint
        assert charges(session) == before, "nothing is charged for what cannot be sent"
        assert share(session, earlier).new is False, "what was shared before stays"
        assert read_report(session, earlier, sites.folder / "keys")["persons"]
        with pytest.raises(NotFound):
            read_report(session, question, sites.folder / "keys")


def _questions(sites: Sites, title: str) -> list[str]:
    with sites.session("enclave") as session:
        found = session.broker.questions(session.study_id)
    return [one.question_id for one in found if one.title == title]


def next_epoch(sites: Sites) -> None:
    """Have the custodian sign epoch 2, the broker register it, and the sites take it."""
    world = sites.world
    text = TWO_PARTIES.replace('title = "A small study"', 'title = "A small study"\nepoch = 2')
    changed: dict[str, Any] = {"rehearsal": False, "text": text, "identities": world.identities}
    world.signed, _ = sign_for(world.home.public(), world.study_id, **changed)
    admin, known = world.actor("admin"), {"custodian_fingerprint": sites.custodian}
    admin.post("/v1/studies", world.signed, **known).raise_for_status()
    world.confirm()
    for party in ("imaging", "enclave"):
        place = sites.folder / party / "private" / "signed-study.json"
        place.write_text(world.signed.model_dump_json())


def test_a_list_that_was_forgotten_is_not_drawn_again_within_its_month(sites: Sites) -> None:
    def offer(*words: str, ok: bool = True) -> str:
        return run(sites, "offer-concepts", *words, ok=ok, party="imaging")

    copy = backed_up(sites, "imaging")
    offer()
    assert "as before" in offer()
    restore(copy)
    for words in (["--dry-run"], []):
        told = offer(*words, ok=False)
        assert "does not know of" in told
        assert "--withdraw" in told
    with sites.session("imaging") as session:
        require_remembered(session, now=time.time() + (PERIOD_DAYS + 1) * 86_400)
        assert session.vault.kept("offered") is None
    offer("--withdraw")
    assert "Offered to the researchers" in offer()
