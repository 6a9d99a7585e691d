"""What an agent may do by itself, when it tries again, and that it is alone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from linkage.errors import AlreadySent, Conflict, HistoryAltered, NotAllowed, NotFound
from linkage.messages import Approval, QuestionState
from sites.agent import Agent, Event, only_one, status_of
from sites.agent_config import AgentConfig
from sites.agent_pace import Backoff, Stop
from sites.agent_tasks import Task, forget_old_policy, judge, refuse
from sites.allowing import allow, allowed_by, require_answerable, withdraw
from sites.cohort.ledger import Entry
from sites.config import load_site
from sites.count_ledger import ledger_of, small_answers
from sites.outbox import send_once, sweep, was_forgotten, was_sent
from sites.questions import decide
from sites.session import Session
from sites.vault import Vault
from tests.questions import question, shown
from tests.studies import cast, vault_of
from tests.unit.sites.test_tokenizer import source

EVERYONE = cast()
QUESTION = shown(question(imaging={"modality": ["CT"]}), "imaging")


class Relaying:
    """A broker that shows one question and takes what comes."""

    def __init__(self) -> None:
        self.approvals: list[Approval] = []
        self.sent: list[bytes] = []
        self.away = False

    def question(self, _study: str, _question: str) -> QuestionState:
        return QUESTION

    def approve(self, approval: Approval) -> QuestionState:
        self.approvals.append(approval)
        return QUESTION

    def relay(self, _study: str, _to: str, _purpose: str, _subject: str, sealed: bytes) -> None:
        self.sent.append(sealed)
        if self.away:
            raise ConnectionResetError


def session(folder: Path, policy: str = "") -> tuple[Session, Any]:
    """Return the imaging commons' session with these lines of [agent]."""
    broker: Any = Relaying()
    file = folder / "site.toml"
    file.write_text(f'party = "alpha"\nprivate = "private"\n[agent]\n{policy}\n')
    site = load_site(file).model_copy(update={"source": source(folder)})
    vault = Vault(site.private)
    if not vault.folder.exists():
        vault = vault_of(EVERYONE, "alpha", site.private)
    return Session(site, vault, EVERYONE.signed, EVERYONE.identities["alpha"], broker), broker


def task(kind: Any = "answer", purpose: str = "", **changed: Any) -> Task:
    asked = QUESTION.model_copy(update=changed)
    subject = asked.question_id if kind in ("answer", "count") else "delivery-1"
    return Task(kind, subject, asked, purpose)


@pytest.mark.parametrize("kind", ["answer", "count"])
def test_without_a_policy_a_person_says_yes_first(tmp_path: Path, kind: str) -> None:
    here, _ = session(tmp_path)
    judged = judge(here, task(kind))
    assert not judged.go
    assert not judged.deny
    assert "linkage-site allow question-1" in judged.said
    with pytest.raises(NotAllowed, match="nobody of 'alpha' said yes"):
        require_answerable(here, QUESTION)
    allow(here, QUESTION, by="person")
    assert judge(here, task(kind)).go
    require_answerable(here, QUESTION)
    # The yes is for the question as it read: a broker that changes it has none.
    other = {"imaging": {"any": True}}
    assert not judge(here, task(kind, **other)).go
    with pytest.raises(NotAllowed):
        require_answerable(here, QUESTION.model_copy(update=other))
    assert withdraw(here, "question-1")
    assert not withdraw(here, "question-1")
    assert not judge(here, task(kind)).go


@pytest.mark.threat("T22")
@pytest.mark.parametrize("kind", ["rows", "join"])
def test_no_policy_and_no_yes_gives_rows_out_but_the_stewards_approval(
    tmp_path: Path, kind: str
) -> None:
    here, _ = session(tmp_path, 'questions = "auto"\ndeliveries = "approved"')
    allow(here, QUESTION, by="person")
    judged = judge(here, task(kind))
    assert not judged.go
    assert "linkage-cohort approve question-1" in judged.said
    decide(here, "question-1", "approve")
    assert judge(here, task(kind)).go
    assert not judge(here, task(kind, title="Another one")).go
    closed, _ = session(tmp_path, 'deliveries = "refuse"')
    assert not judge(closed, task(kind)).go
    with pytest.raises(ValidationError):
        AgentConfig.model_validate({"deliveries": "auto"})


def test_the_policy_follows_the_purpose(tmp_path: Path) -> None:
    here, _ = session(
        tmp_path,
        'questions = "refuse"\n[[agent.purpose]]\nid = "care"\nquestions = "auto"\n'
        '[[agent.purpose]]\nid = "teaching"\nquestions = "ask"\ndeliveries = "refuse"',
    )
    assert judge(here, task(purpose="care")).said == "by policy for purpose 'care'"
    waits = judge(here, task(purpose="teaching"))
    assert (waits.go, waits.deny) == (False, False)
    for purpose in ("", "commercial"):
        no = judge(here, task(purpose=purpose))
        assert (no.go, no.deny) == (False, True)
    decide(here, "question-1", "approve")
    assert judge(here, task("rows", purpose="care")).go
    assert not judge(here, task("rows", purpose="teaching")).go


def test_a_denial_goes_before_every_policy_and_is_sent_once(tmp_path: Path) -> None:
    here, broker = session(tmp_path, 'questions = "refuse"')
    assert judge(here, task()).deny
    refuse(here, task())
    assert [one.decision for one in broker.approvals] == ["deny"]
    assert not judge(here, task()).deny, "said before"
    open_now, _ = session(tmp_path, 'questions = "auto"')
    assert not judge(open_now, task()).go
    with pytest.raises(NotAllowed, match="denied this question"):
        allow(open_now, QUESTION, by="policy")


def test_after_many_small_numbers_a_person_looks_whatever_the_policy(tmp_path: Path) -> None:
    here, _ = session(tmp_path, 'questions = "auto"\nsmall_counts = 2')
    with ledger_of(here).held() as book:
        for n, (persons, again) in enumerate([(25, ""), (400, ""), (30, "q0"), ("too few", "")]):
            book.keep(answered(f"q{n}", persons, same_as=again))
    assert small_answers(ledger_of(here)) == 1, "large, the same again, and nobody count for none"
    assert judge(here, task("count")).go
    steps = [("all", 300), ("some", 40)]
    with ledger_of(here).held() as book:
        book.keep(answered("q4", 300, attrition=steps))
        book.keep(answered("q5", 20, epoch=2))
    assert small_answers(ledger_of(here)) == 2
    assert small_answers(ledger_of(here), but="q4") == 1
    waits = judge(here, task("count"))
    assert not waits.go
    assert not waits.deny
    assert "linkage-site allow question-1" in waits.said
    assert judge(here, task("answer")).go, "the imaging commons makes no counts"
    allow(here, QUESTION, by="person")
    assert judge(here, task("count")).go


def answered(name: str, persons: Any, *, same_as: str = "", epoch: int = 1, **more: Any) -> Entry:
    return Entry(
        question=name,
        run="run-1",
        epoch=epoch,
        at=0.0,
        asked="ab" * 32,
        answer={"persons": persons, "attrition": [], **more},
        exact=1,
        same_as=same_as,
    )


def test_a_yes_of_a_policy_ends_with_the_policy(tmp_path: Path) -> None:
    here, _ = session(tmp_path, 'questions = "auto"')
    assert judge(here, task()).go
    allow(here, QUESTION, by="policy")
    assert allowed_by(here, QUESTION) == "policy"
    strict, _ = session(tmp_path)
    assert not judge(strict, task()).go
    require_answerable(strict, QUESTION)
    forget_old_policy(strict, task())
    assert allowed_by(strict, QUESTION) is None
    allow(strict, QUESTION, by="person")
    forget_old_policy(strict, task())
    assert judge(strict, task()).go


def test_a_steward_who_asked_back_holds_the_policy(tmp_path: Path) -> None:
    here, _ = session(tmp_path, 'questions = "auto"')
    judged = judge(here, task(open_asks=("alpha",)))
    assert not judged.go
    assert "asked back" in judged.said
    assert judge(here, task(open_asks=("beta",))).go


def test_the_site_file_says_what_is_wrong_with_a_policy() -> None:
    for wrong in (
        {"every": 1},
        {"questions": "yes"},
        {"rows": "auto"},
        {"purpose": [{"id": "care"}, {"id": "care"}]},
    ):
        with pytest.raises(ValidationError):
            AgentConfig.model_validate(wrong)


def test_what_failed_is_tried_again_later_each_time() -> None:
    backoff, now = Backoff(60), 1000.0
    assert not backoff.holds("x", now)
    waits = [backoff.failed("x", now) for _ in range(12)]
    assert 40 <= waits[0] <= 60
    assert 80 <= waits[1] <= 120
    assert all(600 <= wait <= 900 for wait in waits[6:])
    assert backoff.holds("x", now + 599)
    assert not backoff.holds("x", now + 900)
    assert not backoff.holds("y", now)
    backoff.went_well("x")
    assert not backoff.holds("x", now)
    assert Backoff(3600).failed("x", now) > 2000, "never sooner than it looks anyway"


def test_only_one_agent_runs_in_a_folder(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private")
    with (
        only_one(vault),
        pytest.raises(Conflict, match=rf"runs already \(process {os.getpid()}\)"),
        only_one(vault),
    ):
        pytest.fail("two agents in one folder")
    with only_one(vault):
        pass
    with pytest.raises(Conflict, match="no agent has run here"):
        status_of(vault)


def test_the_process_ends_its_sleep_when_it_is_told() -> None:
    stop = Stop()
    with stop.on_sigterm():
        signal.raise_signal(signal.SIGTERM)
        began = time.monotonic()
        stop.sleep(60)
    assert stop.wanted
    assert time.monotonic() - began < 45
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_an_event_tells_programs() -> None:
    fault = NotFound("there is nothing", hint="wait")
    event = Event("answer of question", "question-1", "failed", fault.message, 1.5, fault)
    assert event.figures() == {
        "kind": "answer of question",
        "subject": "question-1",
        "state": "failed",
        "said": "there is nothing",
        "seconds": 1.5,
        "code": "not-found",
        "hint": "wait",
    }
    assert json.loads(json.dumps(event.figures()))
    assert dataclasses.replace(event, fault=None) == event


def test_the_same_bytes_are_sent_however_often(tmp_path: Path) -> None:
    here, broker = session(tmp_path)
    made: list[bytes] = []

    def make() -> bytes:
        made.append(os.urandom(16))
        return made[-1]

    broker.away = True
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            send_once(here, "beta", "question-answer", "question-1", make)
    assert not was_sent(here, "question-answer", "question-1")
    broker.away = False
    assert send_once(here, "beta", "question-answer", "question-1", make)
    assert not send_once(here, "beta", "question-answer", "question-1", make)
    assert was_sent(here, "question-answer", "question-1")
    assert len(made) == 1
    assert len(broker.sent) == 3
    assert len(set(broker.sent)) == 1
    assert made[0] not in broker.sent[0]
    outbox = here.vault.folder / "outbox"
    assert [path.name for path in outbox.iterdir()] == ["sent"], "sealed bytes do not stay"
    assert oct(outbox.stat().st_mode & 0o777) == "0o700"
    with pytest.raises(NotFound):
        send_once(here, "beta", "question-answer", "../question-1", make)


def test_what_was_sent_before_this_folder_was_restored_stands(tmp_path: Path) -> None:
    here, broker = session(tmp_path)
    made: list[bytes] = []

    def refuse_others(*_: Any) -> None:
        raise AlreadySent("another question-answer was sent for this subject already")

    def make() -> bytes:
        made.append(os.urandom(16))
        return made[-1]

    broker.relay = refuse_others
    assert not was_forgotten(here, "question-1")
    assert not send_once(here, "beta", "question-answer", "question-1", make)
    assert was_sent(here, "question-answer", "question-1")
    assert was_forgotten(here, "question-1")
    assert not was_forgotten(here, "question-2")
    # What was sealed anew is gone: two answers of one question tell their fillers.
    assert [path.name for path in (here.vault.folder / "outbox").iterdir()] == ["sent"]
    assert not send_once(here, "beta", "question-answer", "question-1", make)
    assert len(made) == 1


def test_two_histories_are_told_once_whichever_head_shows_them(tmp_path: Path) -> None:
    told: list[Event] = []
    agent = Agent(tmp_path / "site.toml", told.append)
    for number in (7, 8):
        fault = HistoryAltered(f"two histories: there are two heads of number {number}", hint="")
        agent._tell_new(Event("look at the broker", "", "failed", fault.message, 0.1, fault))
    for number in (7, 8):
        other = NotFound(f"there is nothing {number}", hint="")
        agent._tell_new(Event("look at the broker", "", "failed", other.message, 0.1, other))
    assert [one.fault.code for one in told if one.fault] == ["history-altered", *["not-found"] * 2]


def test_what_a_dead_process_left_half_written_goes(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private")
    outbox = vault.folder / "outbox"
    (outbox / "sent").mkdir(parents=True)
    dead, alive = outbox / ".q.rows.999999999.making", outbox / f".q.rows.{os.getpid()}.making"
    for path in (dead, alive, outbox / "q.rows"):
        path.touch()
    sweep(vault)
    assert not dead.exists()
    assert alive.exists()
    assert (outbox / "q.rows").exists()
