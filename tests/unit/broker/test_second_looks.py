"""Second looks at the broker, without processes: two workers at once, lost blobs, late answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from broker.container import Broker
from broker.look_answers import AnswerReader, questions_name
from broker.policy import Action, Caller
from broker.registered import RegisteredStudy
from broker.scratch import Scratch
from broker.second_look import LookingRun, SecondLooker
from broker.services.runs import require_newest
from broker.services.second_looks import answer_context
from broker.store import runs, second_looks, studies
from broker.store.second_looks import RequestRow
from linkage.errors import Conflict
from linkage.look_tables import Answers, answers_to_arrow, names_of, questions_from_arrow
from linkage.matching import weights
from linkage.matching.dataset import Shape
from linkage.matching.estimates import estimate
from linkage.matching.second_look import looks_from_arrow
from linkage.matching.weights import Comparison, Weights
from linkage.messages import BROKER, CUSTODIAN, Deactivation
from linkage.records import Bytes2D, FixedColumn
from linkage.sealing import Identity, seal
from linkage.study import FIELDS
from tests.broker_looks import stream
from tests.broker_world import STUDY, World, make_world

PARTIES = ("enclave", "imaging")
PEOPLE = 40
LOOKS = "\n[second_look]\nmost_runs = 2\nwait_hours = 1\n"


def some_weights() -> Weights:
    """Half of the pairs are in doubt."""
    rows = np.arange(PEOPLE, dtype=np.uint32)
    p = np.where(rows % 2, 0.5, 0.99)
    made = estimate(p, p, float(PEOPLE))
    return Weights((Comparison(PARTIES, rows, rows, p, made),), made, ())


def pseudonyms() -> dict[str, Bytes2D]:
    return {
        party: np.random.default_rng([1, *party.encode()]).integers(
            0, 256, (PEOPLE, 16), dtype=np.uint8
        )
        for party in PARTIES
    }


@dataclass(slots=True)
class Place:
    """A broker with one run whose pairs are weighed."""

    world: World
    broker: Broker
    identity: Identity
    run: LookingRun

    @property
    def looker(self) -> SecondLooker:
        return SecondLooker(self.broker, self.identity)

    @property
    def reader(self) -> AnswerReader:
        return AnswerReader(self.broker, self.identity)

    def request(self, party: str) -> RequestRow:
        with self.broker.database.read() as connection:
            row = second_looks.request(connection, self.run.row.id, party)
        assert row
        return row

    def waiting(self) -> list[str]:
        with self.broker.database.read() as connection:
            return second_looks.waiting(connection)

    def answer(self, party: str, data: bytes | None = None) -> None:
        """Send what nobody holds: every question answered, every field missing."""
        row = self.request(party)
        study = self.run.study
        if data is None:
            batch = self.run.scratch.get_batch(questions_name(party))
            asked = questions_from_arrow(batch, study.config, party, most=row.questions)
            none = FixedColumn(np.zeros((len(asked), 128), np.uint8), np.zeros(len(asked), bool))
            made = Answers(party, asked.nonces, dict.fromkeys(FIELDS, none), {})
            data = stream(answers_to_arrow(made))
        sealed = seal(
            data,
            sender=self.world.identities[party],
            recipient=self.identity.public(),
            context=answer_context(study.id, party, row.run_id, row.digest),
        )
        grant = self.broker.studies.grant(
            Caller(party, study.id), Action.ANSWER_LOOK, study_id=study.id
        )
        expected = self.broker.second_looks.expect(grant, row.run_id)
        with self.broker.blobs.receiving() as received:
            received.write(sealed, cap=expected.cap)
            self.broker.second_looks.take(expected, received)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = make_world(tmp_path, text=STUDY + LOOKS)
    broker, identity = Broker.at(world.home), Identity.load(world.home.identity_file)
    broker.studies.register("console", world.signed, custodian_fingerprint=None)
    yield Place(world, broker, identity, begun(broker, identity, world, "run-1"))
    broker.database.close()


def begun(broker: Broker, identity: Identity, world: World, run_id: str) -> LookingRun:
    row = runs.RunRow(
        id=run_id,
        study_id=world.study_id,
        seed=1,
        epoch=1,
        inputs='{"enclave": 1, "imaging": 1}',
        software="tests",
        state="running",
        started_at=1,
        looks=1,
    )
    with broker.database.change() as connection:
        runs.add(connection, row)
        found = studies.find_study(connection, world.study_id)
    assert found
    scratch = Scratch(broker, identity, world.study_id, run_id)
    scratch.put_table("weights", weights.to_arrow(some_weights()))
    shapes = [Shape(party, PEOPLE, PEOPLE, (), (), {}, {}) for party in PARTIES]
    return LookingRun(row, RegisteredStudy.of(found), scratch, shapes)


def blobs(place: Place) -> set[str]:
    return {path.name for path in place.world.home.blobs.glob("??/*")}


def named(place: Place) -> set[str]:
    from broker.store import blobs as blob_rows

    with place.broker.database.read() as connection:
        return blob_rows.named(connection)


def test_two_workers_at_once_ask_once_and_remember_what_was_sent(place: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda _: place.looker.ask(place.run, pseudonyms()), range(4)))
    assert asked == [True] * 4
    kept = looks_from_arrow(place.run.scratch.get_table("looks"))
    nonces = {nonce for one in kept.comparisons for nonce in names_of(one.nonces)}
    for party in PARTIES:
        batch = place.run.scratch.get_batch(questions_name(party))
        asked_of = questions_from_arrow(batch, place.run.study.config, party, most=10_000)
        assert nonces < set(names_of(asked_of.nonces)), "cover questions are among them"
        sealed = place.broker.blobs.read(place.request(party).blob_id)
        assert hashlib.sha256(sealed).hexdigest() == place.request(party).digest
    assert blobs(place) == named(place), "what the others made is gone"


def test_the_same_datasets_and_seed_ask_the_same_and_others_do_not(place: Place) -> None:
    def nonces(run: LookingRun) -> set[bytes]:
        place.looker.ask(run, pseudonyms())
        found = looks_from_arrow(run.scratch.get_table("looks"))
        return {nonce for one in found.comparisons for nonce in names_of(one.nonces)}

    again = begun(place.broker, place.identity, place.world, "run-2")
    assert (first := nonces(place.run)) == nonces(again)
    for other in (
        replace(place.run.row, id="run-3", seed=2),
        replace(place.run.row, id="run-3", inputs='{"enclave": 2, "imaging": 1}'),
    ):
        made = place.looker._draw(replace(place.run, row=other))(16 * 100)
        assert not first & {made[at : at + 16] for at in range(0, len(made), 16)}


def test_a_third_run_of_an_epoch_that_allows_two_does_not_ask(place: Place) -> None:
    assert place.looker.ask(place.run, pseudonyms())
    second = begun(place.broker, place.identity, place.world, "run-2")
    assert place.looker.ask(second, pseudonyms())
    third = begun(place.broker, place.identity, place.world, "run-3")
    assert not place.looker.ask(third, pseudonyms())
    assert b"2 runs of an epoch" in third.scratch.get("look-report")
    assert place.waiting() == ["run-1", "run-2"]


def test_answers_are_accepted_and_the_run_goes_on(place: Place) -> None:
    place.looker.ask(place.run, pseudonyms())
    place.reader.tend()
    assert place.waiting() == ["run-1"]
    for party in PARTIES:
        place.answer(party)
        with pytest.raises(Conflict, match="not read yet"):
            place.answer(party)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: place.reader.tend(), range(4)))
    place.reader.tend()
    assert {place.request(party).state for party in PARTIES} == {"accepted"}
    assert place.waiting() == []


def test_an_answer_that_the_broker_lost_is_asked_for_again(place: Place) -> None:
    place.looker.ask(place.run, pseudonyms())
    place.answer("imaging")
    place.broker.blobs.delete(place.request("imaging").answer_blob_id or "")
    place.reader.tend()
    row = place.request("imaging")
    assert (row.state, row.refusals, row.answer_blob_id) == ("refused", 1, None)
    assert "nothing is wrong at the site" in row.refusal
    place.answer("imaging")
    place.reader.tend()
    assert place.request("imaging").state == "accepted"


def test_what_came_in_time_is_read_and_nothing_after(place: Place) -> None:
    place.looker.ask(place.run, pseudonyms())
    place.answer("imaging")
    with place.broker.database.change() as connection:
        second_looks.hurry(connection, "run-1", 1.0)
    with pytest.raises(Conflict, match="went on without"):
        place.answer("enclave")
    # Nobody ends the wait before what was sent is read.
    place.reader._end("run-1")
    assert place.waiting() == ["run-1"]
    place.reader.tend()
    assert place.waiting() == []
    assert place.request("imaging").state == "accepted"


def test_an_answer_judged_after_the_run_went_on_changes_nothing(place: Place) -> None:
    place.looker.ask(place.run, pseudonyms())
    place.answer("imaging")
    with place.broker.database.change() as connection:
        second_looks.end(connection, "run-1", 1.0)
    place.reader._judge("run-1", "imaging")
    assert place.request("imaging").state == "sent"


def test_a_run_that_failed_while_it_waited_leaves_nothing_but_that_it_asked(place: Place) -> None:
    place.looker.ask(place.run, pseudonyms())
    place.answer("imaging", b"whatever")
    with place.broker.database.change() as connection:
        gone = runs.drop_intermediates(connection, "run-1")
        runs.change(connection, "run-1", state="failed", finished_at=2)
    for blob in gone:
        place.broker.blobs.delete(blob)
    assert blobs(place) == set()
    assert place.waiting() == []
    place.reader.tend()
    with place.broker.database.read() as connection:
        assert second_looks.sent(connection) == second_looks.went_on(connection) == []
        assert second_looks.runs_that_asked(connection, place.world.study_id, 1) == 1


def test_a_key_out_of_use_ends_the_wait(place: Place) -> None:
    place.looker.ask(place.run, pseudonyms())
    notice = Deactivation(
        study_id=place.world.study_id,
        epoch=1,
        key_check=place.world.signed.key_check,
        date="2026-11-21",
        reason="a laptop was stolen",
    ).sign(place.world.identities[CUSTODIAN])
    place.broker.studies.deactivate("console", notice)
    with pytest.raises(Conflict, match="out of use"):
        place.answer("imaging")
    place.reader.tend()
    assert place.waiting() == []
    again = begun(place.broker, place.identity, place.world, "run-2")
    assert not place.looker.ask(again, pseudonyms())
    assert b"out of use" in again.scratch.get("look-report")


def test_no_run_takes_the_place_of_one_over_newer_datasets(place: Place) -> None:
    mine = place.run.row
    require_newest(mine, None)
    require_newest(mine, mine)
    require_newest(mine, replace(mine, inputs='{"enclave": 1}'))
    for newer in (replace(mine, inputs='{"enclave": 1, "imaging": 2}'), replace(mine, epoch=2)):
        with pytest.raises(Conflict, match="newer dataset versions"):
            require_newest(mine, newer)
        require_newest(newer, mine)


def test_questions_open_for_their_site_only(place: Place) -> None:
    from broker.second_look import questions_context
    from linkage.errors import PackageRefused
    from linkage.sealing import unseal

    place.looker.ask(place.run, pseudonyms())
    sealed = place.broker.blobs.read(place.request("imaging").blob_id)
    signed = place.run.study
    for who, run_id in (("enclave", "run-1"), ("imaging", "run-2")):
        with pytest.raises(PackageRefused):
            unseal(
                sealed,
                sender=signed.pin(BROKER),
                recipient=place.world.identities[who],
                context=questions_context(signed, who, run_id),
            )
