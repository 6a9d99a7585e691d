"""Clerical review at a real broker: reviewers with known errors, and the run that counts them."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from broker.console import console_caller
from broker.container import Broker
from broker.policy import Action, Grant
from broker.review_cases import CASES
from broker.scratch import Scratch
from broker.store.engine import Database
from linkage.errors import Conflict, NotAllowed, NotFound
from linkage.look_tables import names_of
from linkage.matching.review_cases import ShownCase, cases_from_json
from linkage.review import Answer
from linkage.review_messages import NextCase, ReviewDecision, ReviewRequest
from linkage.run_messages import RunRequest
from linkage.sealing import Identity
from tests.broker_looks import (
    Held,
    answer_all,
    everyone,
    held_by,
    study_text,
    upload,
    waits,
)
from tests.broker_world import PROGRAM, World, crash, make_world, problem, running, wait_for
from tests.integration.test_matching_quality import FILES
from tests.people import signed_in

ERRORS = {"ada": (0.95, 0.95), "ben": (0.9, 0.95), "cleo": (0.95, 0.9)}
REVIEW = "\n[review]\nmost_pairs = 60\nsample = 40\ndecoys = 0.4\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module")
def held(folder: Path) -> dict[str, Held]:
    return held_by(folder)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    held: dict[str, Held],
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    """A broker with a finished run, whose look compared two fields and so left many in doubt."""
    fields = '["first_name", "middle_name"]'
    made = make_world(
        tmp_path_factory.mktemp("reviews"),
        study_id="three-commons",
        text=study_text(most_per_record=3, most_per_run=300, fields=fields) + REVIEW,
        url=new_postgres_url() if request.param == "postgresql" else None,
    )
    with running(made):
        upload(made, held)
        yield made


@pytest.fixture(scope="module")
def run(world: World, held: dict[str, Held]) -> dict[str, Any]:
    return linked(world, held)


def linked(world: World, held: dict[str, Held]) -> dict[str, Any]:
    """Start a run, let every site answer, and wait for its end."""
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest())
    run_id = str(answer.raise_for_status().json()["run_id"])
    wait_for(waits(world, run_id), 300)
    answer_all(list(everyone(world, held).values()), run_id)
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(world.actor("admin").get(f"{world.path}/runs/{run_id}").json())
        return found["state"] not in ("queued", "running")

    wait_for(ended, 300)
    assert found["state"] == "done", found["failure"]
    return found


def grant(broker: Broker, world: World, action: Action = Action.READ_REVIEW) -> Grant:
    return broker.studies.grant(console_caller(), action, study_id=world.study_id)


def cases(world: World, run_id: str) -> dict[str, ShownCase]:
    """What only a worker can read: the pairs behind the cases."""
    identity = Identity.load(world.home.identity_file)
    sealed = Scratch(Broker.at(world.home), identity, world.study_id, run_id).get(CASES)
    return {one.case.case_id: one for one in cases_from_json(sealed)}


@pytest.fixture(scope="module")
def person_of(folder: Path, held: dict[str, Held]) -> dict[bytes, str]:
    """The true person of every record."""
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    found = {}
    for party, (name, delimiter, record_id, truth_column, _) in FILES.items():
        path = folder / f"{party}{Path(name).suffix}"
        with path.open(encoding="utf-8") as file:
            ids = [row[record_id] for row in csv.DictReader(file, delimiter=delimiter)]
        of = {row[truth_column]: row["truth_id"] for row in truth}
        names = names_of(held[party].encoded.records.pseudonyms)
        found.update({name: of[one] for name, one in zip(names, ids, strict=True)})
    return found


def quality(world: World, person_of: dict[bytes, str]) -> float:
    """F1 of the newest run, over all pairs of records of different parties."""
    with Database(world.home.database_url()).read() as connection:
        members = text("SELECT uploader, pseudonym, person_id FROM membership WHERE until IS NULL")
        now = [tuple(row) for row in connection.execute(members)]
    said: dict[Any, set[Any]] = {}
    true: dict[Any, set[Any]] = {}
    for uploader, name, person in now:
        said.setdefault(bytes(person), set()).add((uploader, bytes(name)))
        true.setdefault(person_of[bytes(name)], set()).add((uploader, bytes(name)))
    pairs = [
        {
            two
            for one in found.values()
            for two in combinations(sorted(one), 2)
            if two[0][0] != two[1][0]
        }
        for found in (said, true)
    ]
    return 2 * len(pairs[0] & pairs[1]) / (len(pairs[0]) + len(pairs[1]))


def rows(world: World, sql: str) -> list[Any]:
    with Database(world.home.database_url()).read() as connection:
        return list(connection.execute(text(sql)))


def open_review(world: World, run_id: str) -> None:
    broker = Broker.at(world.home)
    made = grant(broker, world, Action.OPEN_REVIEW)
    assert broker.reviews.open(made, run_id, sorted(ERRORS)).state in ("opening", "open")
    wait_for(lambda: broker.reviews.state(made, run_id).state == "open", 60)


@pytest.mark.long
def test_a_run_prepares_what_reviewers_see(world: World, run: dict[str, Any]) -> None:
    run_id, told = run["run_id"], run["report"]["review"]
    assert told["doubts"] >= 10
    assert told["checks"] == 40
    assert told["decoys"] >= 40
    assert told["cases"] <= told["doubts"] + told["checks"] + told["decoys"]
    hidden = cases(world, run_id)
    open_review(world, run_id)
    nothing_tells(world, hidden)
    broker = Broker.at(world.home)
    a_reviewer_is_blind(broker, grant(broker, world), run_id)


@pytest.mark.long
def test_reviewers_read_and_are_judged(
    world: World, run: dict[str, Any], person_of: dict[bytes, str]
) -> None:
    run_id = run["run_id"]
    hidden = cases(world, run_id)
    broker = Broker.at(world.home)
    admin = grant(broker, world)
    open_review(world, run_id)
    rng = np.random.default_rng(8)
    at_work = list(ERRORS)
    while at_work:
        name = str(rng.choice(at_work))
        found = broker.reviews.next_case(admin, run_id, name).case
        if found is None:  # others may still disagree
            at_work.remove(name)
            continue
        ends = [person_of[one] for one in hidden[found.case_id].pseudonyms]
        same = ends[0] == ends[1]
        right = rng.random() < ERRORS[name][0 if same else 1]
        answer: Answer = "same" if same == right else "different"
        broker.reviews.decide(admin, run_id, found.case_id, answer, name)
        at_work = list(ERRORS)
    state = broker.reviews.state(admin, run_id)
    assert (state.undecided, state.left) == (0, 0)
    assert sum(state.readers.values()) == state.readings >= 2 * state.cases
    assert state.figures is None
    # What the figures are worth is tested on many reviewers (unit/core/test_review).
    assert len(state.agreement) == 3
    assert sum(one["cases"] for one in state.agreement) == state.cases
    assert sum(one["agreed"] for one in state.agreement) / state.cases > 0.7
    closing(world, run_id)
    figures = broker.reviews.state(admin, run_id).figures
    assert figures is not None
    assert figures["doubts_decided"]["open"] == 0
    for one in figures["reviewers"]:
        assert one["sensitivity"]["value"] > 0.7
        assert one["specificity"]["of"] >= 3
    checked = figures["precision"]
    assert checked["read"]["of"] >= 35
    assert checked["corrected"]["low"] <= checked["estimated"]["value"]
    assert figures["evidence"]["same"] + figures["evidence"]["different"] >= 10
    no_trace_of_pairs(world, hidden)


@pytest.mark.long
def test_the_next_run_counts_what_was_decided(
    world: World, run: dict[str, Any], held: dict[str, Held], person_of: dict[bytes, str]
) -> None:
    """After the test above: the review is closed."""
    before = quality(world, person_of)
    admin = world.actor("admin")
    figures = admin.get(f"{world.path}/reviews/{run['run_id']}").json()["figures"]
    again = linked(world, held)
    known = again["report"]["reviewed"]
    assert again["run_id"] != run["run_id"]
    assert known["pairs"] == figures["evidence"]["same"] + figures["evidence"]["different"]
    assert known["unknown_records"] == 0
    assert again["report"]["links"].get("reviewed", 0) > 0
    # These reviewers err once in ten to twenty, and a second look leaves them little to mend: of
    # some 340 links a few more may be wrong afterwards, with keys that are drawn anew each time.
    assert quality(world, person_of) > before - 0.02
    same = admin.post(f"{world.path}/runs", RunRequest()).json()["run_id"]
    assert same == again["run_id"], "the same datasets and reviews are the same run"


def nothing_tells(world: World, hidden: dict[str, ShownCase]) -> None:
    """The database has agreements under random ids, and nothing by which a case is told."""
    shown = rows(world, "SELECT * FROM review_case")
    assert {one.case_id for one in shown} == set(hidden)
    for one in shown:
        known = {"run_id", "case_id", "one", "other", "fields"}
        assert set(one._mapping) == known | {"readings", "said_same", "said_different"}
        words = json.loads(one.fields)
        assert set(words) <= {"first_name", "middle_name"}
        assert set(words.values()) <= {"equal", "similar", "different", "missing"}
    assert rows(world, "SELECT 1 FROM review_case WHERE fields LIKE '%probab%'") == []


def a_reviewer_is_blind(broker: Broker, admin: Grant, run_id: str) -> None:
    """What one reviewer is shown does not depend on what another has said."""
    before = broker.reviews.next_case(admin, run_id, "ben")
    assert before.case is not None
    case_id = before.case.case_id
    told: NextCase = broker.reviews.decide(admin, run_id, case_id, "same", "ada")
    assert told.case is not None
    assert told.case.case_id != case_id
    assert broker.reviews.next_case(admin, run_id, "ben") == before
    # The same again is one; another answer, an unknown case and a stranger are refused.
    broker.reviews.decide(admin, run_id, case_id, "same", "ada")
    with pytest.raises(Conflict, match="you have decided"):
        broker.reviews.decide(admin, run_id, case_id, "different", "ada")
    with pytest.raises(NotFound):
        broker.reviews.decide(admin, run_id, "0" * 16, "same", "ada")
    with pytest.raises(NotAllowed, match="not named"):
        broker.reviews.next_case(admin, run_id, "mallory")
    broker.reviews.decide(admin, run_id, case_id, "same", "ben")
    with pytest.raises(Conflict, match="meanwhile"):
        broker.reviews.decide(admin, run_id, case_id, "different", "cleo")


def closing(world: World, run_id: str) -> None:
    """The worker dies while the review is to be closed; another one closes it, once."""
    crash(world.processes[-1])
    path = f"{world.path}/reviews/{run_id}/close"
    for _ in range(2):
        answer = world.actor("admin").post(path).raise_for_status().json()
        assert answer["state"] == "closing"
    world.work()
    at = f"{world.path}/reviews/{run_id}"
    admin = world.actor("admin")
    wait_for(lambda: admin.get(at).json()["state"] == "closed", 90)
    assert world.actor("admin").post(path).json()["state"] == "closed"
    said = rows(world, "SELECT count(*) FROM audit WHERE entry LIKE '%\"review closed\"%'")
    assert said[0][0] == 1


def no_trace_of_pairs(world: World, hidden: dict[str, ShownCase]) -> None:
    """The cases are gone, and the audit log has case ids and reviewers, no answer, no record."""
    assert rows(world, "SELECT 1 FROM review_case") == []
    entries = [one[0] for one in rows(world, "SELECT entry FROM audit")]
    decided = [json.loads(one) for one in entries if '"case decided"' in one]
    assert len(decided) == rows(world, "SELECT count(*) FROM review_decision")[0][0]
    assert {tuple(sorted(one["detail"])) for one in decided} == {("case", "reviewer")}
    names = {name.hex() for one in hidden.values() for name in one.pseudonyms}
    assert not [name for name in names if any(name in one for one in entries)]


@pytest.mark.long
def test_reviewers_with_accounts_and_without_a_right(
    world: World, run: dict[str, Any], held: dict[str, Held]
) -> None:
    """Over HTTP: a person with the role reads and decides, nobody else does."""
    run_id = run["run_id"]
    made = world.actor("admin").post(f"{world.path}/runs", RunRequest(seed=4)).json()["run_id"]
    wait_for(waits(world, made), 300)
    answer_all(list(everyone(world, held).values()), made)
    at = f"{world.path}/runs/{made}"
    admin = world.actor("admin")
    wait_for(lambda: admin.get(at).json()["state"] == "done", 300)
    reviews = f"{world.path}/reviews"
    assert problem(world.actor("imaging").post(reviews, ReviewRequest()))[0] == 403
    assert world.actor("admin").post(reviews, ReviewRequest()).status_code == 202
    mine = f"{reviews}/{made}"
    admin = world.actor("admin")
    wait_for(lambda: admin.get(mine).json()["state"] == "open", 90)
    assert problem(world.actor("admin").get(f"{mine}/next"))[0] == 403
    reviewer = signed_in(world.home, world.url, "rita", f"reviewer:{world.study_id}")
    stranger = signed_in(world.home, world.url, "otto", f"researcher:{world.study_id}")
    assert stranger.call("GET", f"{mine}/next").status_code == 403
    shown = reviewer.call("GET", f"{mine}/next").raise_for_status().json()
    assert set(shown["case"]) == {"version", "run_id", "case_id", "parties", "fields"}
    at = f"{mine}/cases/{shown['case']['case_id']}/decision"
    body = ReviewDecision(answer="same").model_dump(mode="json")
    after = reviewer.call("PUT", at, json=body).raise_for_status().json()
    assert after["left"] == shown["left"] - 1
    assert reviewer.call("PUT", at, json=body | {"answer": "maybe"}).status_code == 422
    told = reviewer.call("GET", mine).raise_for_status().json()
    assert (told["mine"], told["figures"], told["readers"]) == (1, None, {})
    assert problem(world.actor("enclave").get(mine))[0] == 403
    words = [PROGRAM, "review", "status", world.study_id, made, "--home", str(world.home.path)]
    said = subprocess.run(words, capture_output=True, check=True, text=True, timeout=120).stdout
    assert "person/rita" in said
    assert run_id not in said
