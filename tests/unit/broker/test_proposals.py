"""Proposals by the clock: they expire, are numbered on, capped, forgotten and destroyed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.config import Retention as Settings
from broker.container import Broker
from broker.person_roles import PersonRole
from broker.policy import Action, Caller, Grant
from broker.services.proposals import MOST_WAITING, Proposals
from broker.services.retention import DAY, Retention
from broker.store import audit, destruction, proposals, studies
from linkage.errors import Conflict
from linkage.proposal_messages import Ask, ProposalRequest
from linkage.sealing import Identity
from tests.broker_world import World, make_world
from tests.proposing import says

KEY = Identity.generate("reader", kem="X25519").public()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> World:
    url = new_postgres_url() if request.param == "postgresql" else None
    return make_world(tmp_path, url=url)


@pytest.fixture
def broker(world: World) -> Iterator[Broker]:
    made = Broker.at(world.home)
    made.studies.register("console", world.signed, custodian_fingerprint=None)
    made.accounts.invite("ada", [PersonRole("researcher", world.study_id)])
    with made.database.change() as connection:
        studies.set_state(connection, world.study_id, "open", 1)
    yield made
    made.database.close()


def grants(broker: Broker, world: World) -> tuple[Grant, Grant]:
    """Return the researcher's grant, and that of the enclave's agent."""
    roles = frozenset({PersonRole("researcher", world.study_id)})
    ada = Caller("ada", None, person=True, roles=roles)
    enclave = Caller("enclave", world.study_id)
    return (
        broker.studies.grant(ada, Action.PROPOSE, study_id=world.study_id),
        broker.studies.grant(enclave, Action.SETTLE_PROPOSAL, study_id=world.study_id),
    )


def wish(words: str) -> ProposalRequest:
    return ProposalRequest(party="enclave", body=Ask(specification=words, reader=KEY))


def test_after_a_fortnight_nobody_does_it_any_more(broker: Broker, world: World) -> None:
    clock = [1_800_000_000.0]
    service = Proposals(broker.database, now=lambda: clock[0])
    ada, enclave = grants(broker, world)
    made, begun = service.make(ada, wish("one")), service.make(ada, wish("two"))
    assert begun.made_at == made.made_at + 1, "the order is plain, though the second is the same"
    agent = world.actor("enclave")
    service.begin(enclave, begun.proposal_id, says(agent, begun.proposal_id, "begun"))
    clock[0] = made.made_at + 14 * DAY - 0.5
    assert len(service.all(enclave, waiting=True)) == 2
    clock[0] = made.made_at + 14 * DAY
    assert [one.state for one in service.all(ada)] == ["expired", "waiting"]
    assert [one.proposal_id for one in service.all(enclave, waiting=True)] == [begun.proposal_id]
    with pytest.raises(Conflict, match="expired"):
        service.begin(enclave, made.proposal_id, says(agent, made.proposal_id, "begun"))
    settled = says(agent, begun.proposal_id, "done", result="question-1")
    assert service.settle(enclave, begun.proposal_id, settled).result == "question-1"
    with pytest.raises(Conflict, match="expired"):
        service.settle(enclave, made.proposal_id, says(agent, made.proposal_id, "refused"))
    # It is no more waiting, so the same words are a new wish.
    assert service.make(ada, wish("one")).proposal_id != made.proposal_id


def test_one_person_does_not_fill_the_table(broker: Broker, world: World) -> None:
    ada, _ = grants(broker, world)
    first = broker.proposals.make(ada, wish("0"))
    for number in range(1, MOST_WAITING):
        broker.proposals.make(ada, wish(str(number)))
    with pytest.raises(Conflict, match="wait already"):
        broker.proposals.make(ada, wish("one more"))
    assert broker.proposals.make(ada, wish("0")) == first
    broker.proposals.withdraw(ada, first.proposal_id)
    broker.proposals.make(ada, wish("one more"))


def test_nobodys_asks_hide_another_persons(
    broker: Broker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.services.proposals.MOST_WAITING", 3)
    ada, enclave = grants(broker, world)
    mine = broker.proposals.make(ada, wish("mine"))
    broker.accounts.invite("bob", sorted(ada.caller.roles, key=str))
    bob = replace(ada, caller=replace(ada.caller, name="bob"))
    his = [broker.proposals.make(bob, wish(str(number))).proposal_id for number in range(3)]
    assert [one.proposal_id for one in broker.proposals.asks(ada)] == [mine.proposal_id]
    assert [one.proposal_id for one in broker.proposals.asks(bob)] == his[::-1]
    assert [one.proposal_id for one in broker.proposals.asks(enclave)] == his[::-1]
    emil = frozenset({PersonRole("steward", world.study_id, "enclave")})
    steward = replace(ada, caller=replace(ada.caller, name="emil", roles=emil))
    assert len(broker.proposals.asks(steward)) == 3
    other = frozenset({PersonRole("steward", world.study_id, "imaging")})
    assert broker.proposals.asks(replace(ada, caller=replace(steward.caller, roles=other))) == []
    admin = replace(ada, caller=Caller("root", None))
    assert [one.body for one in broker.proposals.asks(admin)] == [None] * 3


def test_nor_does_one_person_in_a_day(
    broker: Broker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.services.proposals.MOST_A_DAY", 3)
    clock = [1_800_000_000.0]
    service = Proposals(broker.database, now=lambda: clock[0])
    ada, _ = grants(broker, world)
    for number in range(3):
        made = service.make(ada, wish(str(number)))
        service.withdraw(ada, made.proposal_id)
    with pytest.raises(Conflict, match="in a day"):
        service.make(ada, wish("one more"))
    clock[0] += DAY + 3
    service.make(ada, wish("one more"))


@pytest.mark.parametrize(
    "changed",
    [
        {"specification": "x" * 65_537},
        {"specification": "ü" * 40_000},
        {"specification": "\0"},
        {"specification": ""},
        {"reader": KEY.model_dump() | {"name": "x" * 65}},
        {"reader": KEY.model_dump() | {"sealing": "x" * 4_000}},
        {"extra": 1},
        {"kind": "steal"},
    ],
)
def test_what_is_no_ask(changed: dict[str, Any]) -> None:
    sound = wish("x" * 65_536).model_dump(mode="json")
    assert ProposalRequest.model_validate(sound)
    with pytest.raises(ValidationError):
        ProposalRequest.model_validate({**sound, "body": {**sound["body"], **changed}})


def test_they_are_forgotten_by_the_inboxes_clock_and_with_the_study(
    broker: Broker, world: World
) -> None:
    ada, _ = grants(broker, world)
    made = [broker.proposals.make(ada, wish(words)) for words in ("one", "two")]
    config = world.home.config.model_copy(update={"retention": Settings(inbox_days=3)})
    home, last = replace(world.home, config=config), made[-1].made_at + 3 * DAY

    def at(seconds: float) -> Retention:
        return Retention(broker.database, broker.blobs, home, now=lambda: seconds)

    assert [(one.rule, one.subject, one.blobs) for one in at(0).due()] == [
        ("inbox_days", one.proposal_id, 0) for one in made
    ]
    assert at(last - 1).enforce() == 1
    assert [one.proposal_id for one in broker.proposals.all(ada)] == [made[1].proposal_id]
    with broker.database.read() as connection:
        entries = [json.loads(one.entry) for one in audit.walk(connection)]
    (applied,) = [one for one in entries if one["action"] == "retention rule applied"]
    assert applied["detail"] == {"rule": "inbox_days", "deleted": 1, "blobs": 0}
    assert "proposal" in destruction.tables()
    with broker.database.change() as connection:
        assert destruction.count(connection, "proposal", world.study_id) == 1
        assert destruction.forget(connection, "proposal", world.study_id) == 1
        assert proposals.of_study(connection, world.study_id) == []
