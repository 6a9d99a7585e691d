"""The life of studies, whatever admins and parties do in whatever order."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.container import Broker
from broker.destruction import Destroyer
from broker.policy import Action, Caller
from broker.services import lifecycle
from broker.store import destruction
from linkage.errors import Conflict, LinkageError, NotFound
from linkage.governance import Confirmation
from linkage.messages import CUSTODIAN
from linkage.sealing import Identity
from tests.broker_world import STUDY, World, make_world, sign_for

PARTIES = ("imaging", "enclave", "claims")
_NUMBERS = itertools.count(1)


class Life(RuleBasedStateMachine):
    """One study against a model: its state, who has confirmed this epoch, and its epoch."""

    world: World
    broker: Broker
    destroyer: Destroyer

    @initialize()
    def register(self) -> None:
        self.study_id = f"life-{next(_NUMBERS)}"
        self.epoch, self.state, self.before = 1, "draft", ""
        self.confirmed: set[str] = set()
        self.certificate = False
        self.signed, self.identities = sign_for(
            self.world.home.public(), self.study_id, rehearsal=False
        )
        self._registers()

    @rule(party=st.sampled_from(PARTIES))
    def confirm(self, party: str) -> None:
        said = Confirmation(
            study_id=self.study_id,
            epoch=self.epoch,
            study_hash=self.signed.study_hash,
            party=party,
        ).sign(self.identities[party])
        if self.state in ("closed", "destroyed"):
            with pytest.raises(Conflict):
                self.broker.lifecycle.confirm(party, "a test", self.study_id, said)
            return
        found = self.broker.lifecycle.confirm(party, "a test", self.study_id, said)
        self.confirmed.add(party)
        if self.state == "draft" and self.confirmed == set(PARTIES):
            self.state = "open"
        assert set(found.waiting) == set(PARTIES) - self.confirmed

    @rule()
    def begin_a_run(self) -> None:
        if self.state not in ("open", "linking"):
            with pytest.raises(Conflict):
                self._begin()
            return
        self._begin()
        self.state = "linking"

    @rule()
    def rotate(self) -> None:
        text = STUDY.replace(
            'title = "A small study"', f'title = "A small study"\nepoch = {self.epoch + 1}'
        )
        before = self.signed
        self.signed, _ = sign_for(
            self.world.home.public(),
            self.study_id,
            rehearsal=False,
            text=text,
            identities=self.identities,
        )
        if self.state in ("closed", "destroyed"):
            with pytest.raises(Conflict):
                self._registers()
            self.signed = before
            return
        self._registers()
        self.epoch, self.state, self.confirmed = self.epoch + 1, "draft", set()

    @rule()
    def close(self) -> None:
        if self.state == "destroyed":
            with pytest.raises(Conflict):
                self.broker.lifecycle.close("a test", self.study_id)
            return
        self.broker.lifecycle.close("a test", self.study_id)
        if self.state != "closed":
            self.before, self.state = self.state, "closed"

    @rule()
    def reopen(self) -> None:
        if self.state != "closed":
            with pytest.raises(Conflict):
                self.broker.lifecycle.reopen("a test", self.study_id)
            return
        self.state = self.broker.lifecycle.reopen("a test", self.study_id)
        assert self.state == self.before

    @rule(named=st.booleans())
    def destroy(self, named: bool) -> None:
        confirm = self.study_id if named else "another"
        if not named or self.state not in ("closed", "destroyed"):
            with pytest.raises(Conflict):
                self.broker.lifecycle.destroy("a test", self.study_id, confirm=confirm)
            return
        self.broker.lifecycle.destroy("a test", self.study_id, confirm=confirm)
        self.state = "destroyed"

    @rule()
    def work(self) -> None:
        self.destroyer.tend()
        self.certificate = self.state == "destroyed"

    @invariant()
    def the_broker_says_the_same(self) -> None:
        if not hasattr(self, "state"):
            return
        assert self.broker.lifecycle.confirmations(self.study_id).state == self.state
        for action, states in (
            (Action.READ_STUDY, None),
            (Action.UPLOAD, ("open", "linking")),
            (Action.READ_INBOX, ("draft", "open", "linking", "closed")),
            (Action.OPT_OUT, ("draft", "open", "linking", "closed")),
            (Action.CONFIRM, ("draft", "open", "linking")),
        ):
            if states is None or self.state in states:
                self._may(action)
            else:
                with pytest.raises(Conflict):
                    self._may(action)
        try:
            made = self.broker.lifecycle.certificate(self.study_id)
        except NotFound:
            assert not self.certificate
        else:
            assert self.certificate
            made.check(self.signed)

    def _may(self, action: Action) -> None:
        caller = Caller("claims", self.study_id)
        self.broker.studies.grant(caller, action, study_id=self.study_id)

    def _begin(self) -> None:
        with self.broker.database.change() as connection:
            lifecycle.begin(connection, self.study_id, "a test")

    def _registers(self) -> None:
        told = self.signed.pin(CUSTODIAN).fingerprint
        self.broker.studies.register("a test", self.signed, custodian_fingerprint=told)


@pytest.fixture(scope="module", autouse=True)
def _broker() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        Life.world = make_world(Path(folder))
        Life.broker = Broker.at(Life.world.home)
        identity = Identity.load(Life.world.home.identity_file)
        Life.destroyer = Destroyer(Life.broker, identity)
        yield
        Life.broker.database.close()


class TestLife(Life.TestCase):  # type: ignore[name-defined,misc]
    """Run by pytest."""

    settings = settings(
        max_examples=12,
        stateful_step_count=14,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_every_table_of_a_study_is_destroyed_or_kept_for_a_reason() -> None:
    tables = destruction.tables()
    assert {"part", "dataset", "membership", "person", "link", "run", "job", "item"} <= set(tables)
    assert {"request_key", "approval", "look_request", "opt_out_list"} <= set(tables)
    assert not set(tables) & set(destruction.KEPT)
    assert not {"audit", "audit_head", "admin", "account"} & set(tables)
    # Whoever refers to another table goes first.
    assert tables.index("part") < tables.index("dataset")
    assert tables.index("look_request") < tables.index("second_look") < tables.index("run")
    assert {"part", "item", "intermediate", "look_request"} <= set(destruction.with_blobs())
    assert issubclass(Conflict, LinkageError)
