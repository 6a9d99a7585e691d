"""Taking datasets back, without a server: what was computed of them goes, once."""

from __future__ import annotations

from pathlib import Path

from broker.container import Broker
from broker.policy import Action, Caller
from broker.store import runs, studies
from linkage.errors import NotFound
from linkage.governance import Withdrawal
from tests.broker_world import World, make_world


def dataset(number: int) -> studies.DatasetRow:
    return studies.DatasetRow(
        study_id="small-study",
        uploader="imaging",
        number=number,
        epoch=1,
        manifest='{"parts": []}',
        manifest_hash="0" * 64,
        state="complete",
        announced_at=0,
        completed_at=1,
    )


def linked(broker: Broker, number: int) -> str:
    """Put a run over a dataset version in place; return the blob of its pairs."""
    run_id, blob = f"run-{number}", broker.blobs.put(b"pairs").blob_id
    with broker.database.change() as connection:
        studies.add_dataset(connection, dataset(number))
        row = runs.RunRow(
            id=run_id,
            study_id="small-study",
            seed=1,
            epoch=1,
            inputs="{}",
            software="1",
            state="done",
            started_at=1,
        )
        runs.add(connection, row)
        runs.set_intermediate(connection, run_id, runs.WEIGHTS, blob)
    return blob


def there(broker: Broker, blob: str) -> bool:
    try:
        return broker.blobs.read(blob) == b"pairs"
    except NotFound:
        return False


def test_a_withdrawal_that_comes_again_touches_nothing_that_came_since(tmp_path: Path) -> None:
    world: World = make_world(tmp_path)
    broker = Broker.at(world.home)
    broker.studies.register("console", world.signed, custodian_fingerprint=None)
    grant = broker.studies.grant(
        Caller("imaging", "small-study"),
        Action.WITHDRAW,
        study_id="small-study",
        uploader="imaging",
    )
    said = Withdrawal(study_id="small-study", uploader="imaging", newest=1)
    signed = said.sign(world.identities["imaging"])
    first = linked(broker, 1)
    [gone] = broker.uploads.withdraw(grant, signed)
    assert (gone.dataset, gone.state, there(broker, first)) == (1, "withdrawn", False)
    since = linked(broker, 2)
    assert broker.uploads.withdraw(grant, signed) == []
    assert there(broker, since)
    broker.database.close()
