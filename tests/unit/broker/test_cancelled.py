"""A run that is cancelled in the moment in which a worker begins it stays cancelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.container import Broker
from broker.policy import Action, Caller
from broker.runs import RunMaker
from broker.store import runs
from linkage.errors import Conflict
from linkage.sealing import Identity
from tests.broker_world import make_world


def test_who_cancels_a_run_that_is_being_begun_has_cancelled_it(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    broker = Broker.at(world.home)
    broker.studies.register("console", world.signed, custodian_fingerprint=None)
    row = runs.RunRow(
        id="run-1",
        study_id="small-study",
        seed=1,
        epoch=1,
        inputs="{}",
        software="1",
        state="queued",
        started_at=1,
    )
    with broker.database.change() as connection:
        runs.add(connection, row)
    maker = RunMaker(broker, Identity.load(world.home.identity_file))
    maker._opened("run-1")  # the worker has looked, and found it going
    grant = broker.studies.grant(Caller("console", None), Action.CANCEL_RUN, study_id="small-study")
    assert broker.runs.cancel(grant, "run-1").state == "cancelled"
    with pytest.raises(Conflict, match="the run has ended"):
        maker._begin("run-1")
    with broker.database.read() as connection:
        found = runs.find(connection, "run-1")
    assert found is not None
    assert found.state == "cancelled"
    broker.database.close()
