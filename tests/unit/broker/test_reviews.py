"""Who may read which case, answers taken back, and the database's counting against the rules."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from sqlalchemy import text

from broker.person_roles import parse_role
from broker.policy import Action, Caller, Grant
from broker.registered import RegisteredStudy
from broker.services.reviews import Reviews
from broker.store import reviews, runs, studies
from broker.store.engine import Database
from broker.store.reviews import OPEN, CaseRow, ReviewRow
from linkage.errors import Conflict, NotFound
from linkage.review import ANSWERS, READINGS, Answer, Reading, agreement, agreement_counted, verdict
from linkage.sealing import Identity
from tests.broker_world import STUDY as TEXT
from tests.broker_world import sign_for

SIGNED, _ = sign_for(Identity.generate("broker", kem="X25519").public(), "small-study")
ROW = studies.StudyRow(
    id="small-study",
    study_hash=SIGNED.study_hash,
    signed=SIGNED.model_dump_json(),
    registered_at=0,
)
STUDY = RegisteredStudy.of(ROW)
RUN = "run-1"
assert "review" not in TEXT


def reviewer(name: str) -> Grant:
    roles = frozenset({parse_role("reviewer:small-study")})
    return Grant(Caller(name, None, person=True, roles=roles), Action.REVIEW, STUDY)


ADMIN = Grant(Caller("root", None), Action.READ_REVIEW, STUDY)
ADA, BEN, CLEO, DAN = (reviewer(name) for name in ("ada", "ben", "cleo", "dan"))


@pytest.fixture
def database(database: Database) -> Database:
    """A study with a run in review: forty cases."""
    fields = json.dumps({"first_name": "equal", "sex": "missing"})
    with database.change() as connection:
        studies.add_study(connection, ROW)
        runs.add(
            connection,
            runs.RunRow(
                id=RUN, study_id="small-study", seed=1, epoch=1, inputs="{}", software="x",
                state="done", started_at=1,
            ),
        )  # fmt: skip
        row = ReviewRow(run_id=RUN, study_id="small-study", state=OPEN, reviewers="[]", opened_at=1)
        reviews.add(connection, row)
        cases = [
            CaseRow(run_id=RUN, case_id=f"{n:016x}", one="claims", other="imaging", fields=fields)
            for n in range(40)
        ]
        reviews.add_cases(connection, cases)
    return database


@pytest.fixture
def service(database: Database) -> Reviews:
    return Reviews(database)


def free_to(database: Database, who: Grant) -> set[str]:
    with database.read() as connection:
        return set(reviews.open_to(connection, RUN, who.caller.actor))


def test_what_the_database_lets_read_is_what_the_rule_says(
    database: Database, service: Reviews
) -> None:
    """Every sequence of answers of up to three readers, one case each."""
    everything = [
        answers for n in range(READINGS + 1) for answers in itertools.product(ANSWERS, repeat=n)
    ]
    assert len(everything) == 40
    said: dict[str, list[Answer]] = {}
    for number, answers in enumerate(everything):
        case_id = f"{number:016x}"
        for who, answer in zip((ADA, BEN, CLEO), answers, strict=False):
            if verdict(said.get(case_id, [])) is not None:
                with pytest.raises(Conflict, match="meanwhile"):
                    service.keep(who, RUN, case_id, answer)
                break
            service.keep(who, RUN, case_id, answer)
            said.setdefault(case_id, []).append(answer)
    undecided = {f"{n:016x}" for n in range(40) if verdict(said.get(f"{n:016x}", [])) is None}
    assert free_to(database, DAN) == undecided
    assert free_to(database, ADA) == {f"{0:016x}"}
    state = service.state(ADMIN, RUN)
    assert state.undecided == len(undecided)
    assert state.standing is not None
    told = state.standing.model_dump(exclude={"version"})
    assert sum(told.values()) == 40
    assert (told["unread"], told["once"]) == (1, 3)
    ends = [verdict(answers) for answers in said.values()]
    assert [told[one] for one in ("same", "different", "unsure")] == [
        ends.count("same"),
        ends.count("different"),
        ends.count("unsure"),
    ]
    assert state.readers == {
        f"person/{name}": sum(len(answers) > n for answers in said.values())
        for n, name in enumerate(("ada", "ben", "cleo"))
    }


def test_agreement_counted_by_the_database_is_that_of_the_readings(
    database: Database, service: Reviews
) -> None:
    rng = random.Random(3)
    readings = []
    for number in range(40):
        for place, who in enumerate(rng.sample([ADA, BEN, CLEO, DAN], k=2), start=1):
            answer: Answer = rng.choice(("same", "same", "different", "unsure"))
            service.keep(who, RUN, f"{number:016x}", answer)
            readings.append(Reading(f"{number:016x}", place, who.caller.actor, answer))
    with database.read() as connection:
        counted = agreement_counted(reviews.pairs_read(connection, RUN))  # type: ignore[arg-type]
    assert counted == agreement(readings)
    assert len(counted) == 6


def test_an_answer_is_taken_back_and_given_anew(database: Database, service: Reviews) -> None:
    first = service.next_case(ADA, RUN)
    assert first.case is not None
    case_id = first.case.case_id
    after = service.decide(ADA, RUN, case_id, "same")
    assert after.left == first.left - 1
    with pytest.raises(Conflict, match="you have decided"):
        service.keep(ADA, RUN, case_id, "different")
    with pytest.raises(NotFound, match="no answer"):
        service.take_back(BEN, RUN, case_id)
    again = service.take_back(ADA, RUN, case_id)
    assert again == first
    with pytest.raises(NotFound, match="no answer"):
        service.take_back(ADA, RUN, case_id)
    service.keep(ADA, RUN, case_id, "different")
    assert [(one.case_id, one.answer) for one in service.own_last(ADA, RUN)] == [
        (case_id, "different")
    ]
    with database.read() as connection:
        history = connection.execute(text("SELECT * FROM review_undone")).mappings().all()
        standing = reviews.decisions(connection, RUN)
        log = connection.execute(text("SELECT number, entry FROM audit ORDER BY number")).all()
    assert [(one["case_id"], one["answer"], one["reviewer"]) for one in history] == [
        (case_id, "same", "person/ada")
    ]
    assert [(one.answer, one.reading) for one in standing] == [("different", 1)]
    entries = {number: json.loads(entry) for number, entry in log}
    named = [entries[history[0][name]]["action"] for name in ("entry", "undone_entry")]
    assert named == ["case decided", "decision taken back"]
    assert entries[standing[0].entry]["action"] == "case decided"
    # Neither what was decided nor what was taken back is in the log.
    assert {tuple(one["detail"]) for one in entries.values()} == {("case", "reviewer")}


def test_the_newest_answer_is_the_first_to_be_taken_back(service: Reviews) -> None:
    """All within one second, so that the clock cannot tell."""
    made = []
    for _ in range(15):
        found = service.next_case(ADA, RUN).case
        assert found is not None
        service.keep(ADA, RUN, found.case_id, "unsure")
        made.append(found.case_id)
    assert [one.case_id for one in service.own_last(ADA, RUN)] == made[:4:-1]
    service.take_back(ADA, RUN, made[-1])
    assert service.own_last(ADA, RUN)[0].case_id == made[-2]


def test_taking_back_tells_nothing_of_what_others_said(
    database: Database, service: Reviews
) -> None:
    """Whether others agree or not, one's own case is open to one again, and nothing else moves."""
    for n, (ben, cleo) in enumerate(itertools.product(ANSWERS[:2], repeat=2)):
        case_id = f"{n:016x}"
        service.keep(ADA, RUN, case_id, "same")
        service.keep(BEN, RUN, case_id, ben)
        if ben != "same":
            service.keep(CLEO, RUN, case_id, cleo)
        before = service.state(ADA, RUN)
        service.take_back(ADA, RUN, case_id)
        assert case_id in free_to(database, ADA)
        service.keep(ADA, RUN, case_id, "different")
        after = service.state(ADA, RUN)
        assert (after.left, after.mine, after.undecided) == (before.left, before.mine, None)
        assert (after.standing, after.readers, after.agreement) == (None, {}, [])
        with database.read() as connection:
            assert [one.reading for one in reviews.decisions_of(connection, RUN, case_id)] == list(
                range(1, 3 + (ben != "same"))
            )


def test_a_place_given_back_is_read_by_another_and_then_taken(
    database: Database, service: Reviews
) -> None:
    case_id = f"{7:016x}"
    service.keep(ADA, RUN, case_id, "same")
    service.keep(BEN, RUN, case_id, "different")
    service.keep(CLEO, RUN, case_id, "unsure")
    assert case_id not in free_to(database, DAN)
    service.take_back(ADA, RUN, case_id)
    service.keep(DAN, RUN, case_id, "different")
    assert case_id not in free_to(database, ADA)
    with pytest.raises(Conflict, match="meanwhile"):
        service.keep(ADA, RUN, case_id, "same")


def test_a_closed_review_gives_nothing_back(service: Reviews) -> None:
    case_id = f"{7:016x}"
    service.keep(ADA, RUN, case_id, "same")
    service.close(Grant(ADMIN.caller, Action.OPEN_REVIEW, STUDY), RUN)
    with pytest.raises(Conflict, match="the review is closing"):
        service.take_back(ADA, RUN, case_id)
    assert [one.answer for one in service.own_last(ADA, RUN)] == ["same"]


def test_the_next_cases_are_those_that_come_one_by_one(service: Reviews) -> None:
    ahead, left = service.upcoming(ADA, RUN, most=3)
    assert left == 40
    for one in ahead:
        assert service.next_case(ADA, RUN).case == one
        service.keep(ADA, RUN, one.case_id, "same")
    other, _ = service.upcoming(BEN, RUN, most=3)
    assert other != ahead, "the order is each reviewer's own"
    begun, _ = service.upcoming(BEN, RUN, most=2, first=ahead[2].case_id)
    assert [one.case_id for one in begun] == [ahead[2].case_id, other[0].case_id]
