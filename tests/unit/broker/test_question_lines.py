"""Questions by pages: each stands where its own page says, and no query is made per question."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pytest
from sqlalchemy import event

from broker.policy import Action, Caller, Grant
from broker.registered import RegisteredStudy
from broker.services import standing
from broker.services.overviews import Overviews
from broker.services.question_lines import PAGE, QuestionLines
from broker.services.questions import Questions
from broker.store import jobs, overviews, releases, runs, studies
from broker.store.engine import Connection, Database
from linkage.messages import (
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_COUNTS,
    READER,
    Approval,
    Decision,
)
from linkage.question_messages import Remark
from linkage.sealing import Identity
from tests.broker_world import sign_for
from tests.questions import question

SIGNED, IDENTITIES = sign_for(Identity.generate("broker", kem="X25519").public(), "small-study")
ROW = studies.StudyRow(
    id="small-study",
    study_hash=SIGNED.study_hash,
    signed=SIGNED.model_dump_json(),
    registered_at=0,
)
GRANT = Grant(Caller("imaging", "small-study"), Action.READ_QUESTION, RegisteredStudy.of(ROW))
STAGES = (
    "prepared",
    "failed",
    "ended",
    "asked",
    "answered",
    "counted",
    "approved",
    "delivery-prepared",
    "delivery-failed",
    "delivery-ready",
    "rows-sent",
)


@pytest.fixture
def database(database: Database) -> Database:
    with database.change() as connection:
        studies.add_study(connection, ROW)
        runs.add(
            connection,
            runs.RunRow(
                id="run-1",
                study_id="small-study",
                seed=1,
                epoch=1,
                inputs="{}",
                software="1",
                started_at=1,
            ),
        )
        for number in range(55):
            _put(connection, number, STAGES[number % len(STAGES)])
    return database


def _put(connection: Connection, number: int, stage: str) -> None:
    """Put a question of this stage in place, as services and worker would leave it."""
    name, at = f"question-{number:03}", STAGES.index(stage)
    asked = question("run-1", title=f"{stage} {number}", expires="2999-01-01")
    job = jobs.JobRow(
        id=name,
        study_id="small-study",
        kind="question",
        run_id="run-1",
        request=json.dumps(asked.model_dump(mode="json")),
        asked_at=1000 + number // 3,
        state={"prepared": "running", "failed": "failed"}.get(stage, "done"),
        failure="no run" if stage == "failed" else None,
        terms=json.dumps({"study_hash": SIGNED.study_hash, "epoch": 1}),
    )
    jobs.add(connection, job)
    if stage == "ended":
        _decide(connection, name, asked.spec_hash, "imaging", "deny")
    if at >= STAGES.index("answered"):
        _send(connection, name, QUESTION_ANSWER, "imaging", "enclave")
    if at >= STAGES.index("counted"):
        _send(connection, name, QUESTION_COUNTS, "enclave", READER)
        said = Remark(
            study_id="small-study",
            question_id=name,
            spec_hash=asked.spec_hash,
            author="imaging",
            text="Why CT alone?",
            said_at=1,
        )
        jobs.add_remark(connection, name, 1, "imaging", said.model_dump_json(), 1)
    if at >= STAGES.index("approved"):
        for party in ("imaging", "enclave"):
            _decide(connection, name, asked.spec_hash, party, "approve")
    if not stage.startswith(("delivery", "rows")):
        return
    state = {"delivery-prepared": "queued", "delivery-failed": "failed"}.get(stage, "done")
    for again in range(2 if stage == "delivery-ready" else 1):
        jobs.add(
            connection,
            jobs.JobRow(
                id=f"delivery-{number:03}-{again}",
                study_id="small-study",
                kind="delivery",
                run_id="run-1",
                about=name,
                request="{}",
                asked_at=2000 + again,
                state="failed" if again < (stage == "delivery-ready") else state,
                failure="a full disk",
            ),
        )
    if stage == "rows-sent":
        _send(connection, f"delivery-{number:03}-0", DELIVERY_ROWS, "imaging", "enclave")


def _decide(
    connection: Connection, name: str, spec_hash: str, party: str, decision: Decision
) -> None:
    made = Approval(
        study_id="small-study",
        question_id=name,
        spec_hash=spec_hash,
        party=party,
        decision=decision,
    )
    jobs.set_approval(connection, name, party, decision, made.model_dump_json(), 1)


def _send(connection: Connection, subject: str, purpose: str, sender: str, to: str) -> None:
    row = jobs.ItemRow(
        id=f"{purpose}-{subject}",
        study_id="small-study",
        sender=sender,
        recipient=to,
        purpose=purpose,
        subject=subject,
        blob_id=f"{hash((purpose, subject)) % 2**64:032x}",
        size=1,
        digest="0" * 64,
        placed_at=1,
    )
    jobs.add_item(connection, row)


def test_every_question_once_newest_first_and_where_it_stands(database: Database) -> None:
    lines = QuestionLines(database)
    first = lines.page(GRANT, 1)
    assert (first.number, first.last, first.questions, len(first.lines)) == (1, 3, 55, PAGE)
    found = [line for number in (1, 2, 3) for line in lines.page(GRANT, number).lines]
    states = Questions(database).all(GRANT)
    assert [line.question_id for line in found] == [one.question_id for one in states]
    assert [line.stage for line in found] == [line.title.split()[0] for line in found]
    for line, state in zip(found, states, strict=True):
        assert (line.stage == "ended") == bool(state.stopped)
        assert (line.counted, line.asks) == (state.counted, state.open_asks)
        assert lines.line(GRANT, line.question_id) == line
        if line.stage == "delivery-failed":
            assert (line.why, state.delivery_id) == ("a full disk", None)
            assert state.delivery
            assert state.delivery.failure == "a full disk"
        if line.stage == "delivery-ready":
            assert line.delivery_id == state.delivery_id, "the newer, which did not fail"
    assert lines.page(GRANT, 99) == lines.page(GRANT, 3)
    assert lines.line(GRANT, "question-999") is None


def test_what_waits_for_a_party_is_what_still_stands(database: Database) -> None:
    over = question("run-1", expires="2020-01-01").model_dump(mode="json")
    with database.change() as connection:
        jobs.change(connection, "question-003", request=json.dumps(over))
        jobs.change(connection, "question-004", terms='{"study_hash": "another", "epoch": 0}')
        undecided = overviews.undecided(connection, "small-study", "imaging")
        today = dt.datetime.now(dt.UTC).date()
        standing_still = [
            row.id
            for row in undecided
            if not standing.stopped(connection, row, today=today)
            and not standing.other_epoch(GRANT.study, row)
        ]
    assert {"question-003", "question-004"} < {row.id for row in undecided}
    assert list(Overviews(database).questions(GRANT, "imaging")) == standing_still
    assert standing_still
    assert len(standing_still) == len(undecided) - 2


def test_withdrawn_records_end_a_delivery_and_none_that_failed(database: Database) -> None:
    lines, pages = QuestionLines(database), Overviews(database)
    waiting = pages.questions(GRANT, "imaging")
    failed, sent = (
        next(one for n in (1, 2, 3) for one in lines.page(GRANT, n).lines if one.stage == stage)
        for stage in ("delivery-failed", "rows-sent")
    )
    with database.change() as connection:
        for asked, state in ((waiting[0], "failed"), (waiting[1], "done")):
            row = jobs.find(connection, sent.delivery_id)
            assert row is not None
            row = replace(row, id=f"delivery-of-{asked}", about=asked, state=state)
            jobs.add(connection, row)
            releases.set_affected(connection, row.id, {"imaging": 1}, 1)
        for delivery in (failed.delivery_id, sent.delivery_id):
            releases.set_affected(connection, delivery, {"imaging": 1}, 1)
    states = {one.question_id: bool(one.stopped) for one in Questions(database).all(GRANT)}
    shown = [lines.line(GRANT, one) for one in (failed.question_id, sent.question_id, *waiting[:2])]
    ended = {one.question_id: one.stage == "ended" for one in shown if one}
    assert list(ended.values()) == [False, True, False, True]
    assert ended.items() <= states.items()
    assert pages.questions(GRANT, "imaging") == (waiting[0], *waiting[2:])


def test_no_query_is_made_per_question(database: Database) -> None:
    asked: list[str] = []
    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: asked.append(statement),
    )
    QuestionLines(database).page(GRANT, 1)
    assert len([one for one in asked if one.startswith("SELECT")]) <= 8
    asked.clear()
    Overviews(database).questions(GRANT, "imaging")
    assert len([one for one in asked if one.startswith("SELECT")]) <= 4
