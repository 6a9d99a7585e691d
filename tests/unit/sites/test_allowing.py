"""A person's word about a question stands, whoever writes at the same time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from pathlib import Path

import pytest

from linkage.errors import Conflict
from sites import forgotten
from sites.allowing import allow, allowed_by, forget, said_at, withdraw
from sites.session import Session
from tests.unit.sites.test_agent import QUESTION, session


def test_a_yes_of_the_portal_is_no_later_than_it_was_said(tmp_path: Path) -> None:
    """It is looked at first and kept later: a person may have taken the yes back between."""
    here, _ = session(tmp_path)
    now = int(time.time())
    for _ in range(2):  # the second time after a kill
        allow(here, QUESTION, by="person", said_at=now - 60)
        assert said_at(here, QUESTION) == (now - 60, True)
    assert withdraw(here, QUESTION.question_id)
    for at in (now - 60, now - 30):
        with pytest.raises(Conflict, match="later than that"):
            allow(here, QUESTION, by="person", said_at=at)
        assert allowed_by(here, QUESTION) is None
    allow(here, QUESTION, by="person", said_at=now + 60)
    assert allowed_by(here, QUESTION) == "person"


def test_a_policy_neither_writes_over_a_person_nor_takes_its_yes_back(tmp_path: Path) -> None:
    here, _ = session(tmp_path)
    allow(here, QUESTION, by="policy")
    assert allowed_by(here, QUESTION) == "policy"
    allow(here, QUESTION, by="person")
    allow(here, QUESTION, by="policy")
    forget(here, QUESTION.question_id)
    assert allowed_by(here, QUESTION) == "person"
    assert withdraw(here, QUESTION.question_id)
    allow(here, QUESTION, by="policy")
    forget(here, QUESTION.question_id)
    assert allowed_by(here, QUESTION) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda here: allow(here, QUESTION, by="person"),
        lambda here: withdraw(here, QUESTION.question_id),
        lambda here: forget(here, QUESTION.question_id),
    ],
    ids=["allow", "withdraw", "forget"],
)
def test_one_waits_for_the_other(tmp_path: Path, change: Callable[[Session], object]) -> None:
    here, _ = session(tmp_path)
    with ThreadPoolExecutor() as pool:
        with here.vault.alone("allowed"):
            waiting = pool.submit(change, here)
            with pytest.raises(StillWaiting):
                waiting.result(timeout=0.5)
        waiting.result(timeout=60)


def test_two_who_accept_what_is_lost_lose_nothing(tmp_path: Path) -> None:
    here, broker = session(tmp_path)
    lost = QUESTION.model_copy(update={"question_id": "question-2", "counted": True})
    broker.questions = lambda _study, *, reports: (lost,)

    def cannot(_session: Session, _question: object) -> None:
        raise Conflict("its data are gone", hint="")

    with ThreadPoolExecutor() as pool, here.vault.alone("accepted"):
        second = pool.submit(forgotten.accept, here, cannot)
        with pytest.raises(StillWaiting):
            second.result(timeout=0.5)
        first = {"question-1": {"epoch": 1, "at": 1, "run": "run-1"}}
        here.vault.keep("counts/accepted", json.dumps(first).encode())
    assert [one.subject for one in second.result()] == ["question-2"]
    assert forgotten.accepted(here).keys() == {"question-1", "question-2"}
