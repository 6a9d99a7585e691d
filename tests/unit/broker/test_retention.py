"""Retention rules: what is due, when, and that nothing else goes. The clock is a parameter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.config import Retention as Settings
from broker.container import Broker
from broker.services.retention import DAY, Retention
from broker.store import audit, jobs, runs, studies
from tests.broker_world import STUDY, World, make_world, sign_for

TEXT = STUDY + "\n[retention]\npackages_days = 10\ninbox_days = 40\n"


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> World:
    url = new_postgres_url() if request.param == "postgresql" else None
    return make_world(tmp_path, text=TEXT, url=url)


def test_what_is_due_is_deleted_and_nothing_else(world: World) -> None:
    rules = Settings(packages_days=30, old_epochs_days=5, intermediates_days=2, inbox_days=3)
    config = world.home.config.model_copy(update={"retention": rules})
    home = replace(world.home, config=config)
    broker = Broker.at(home)
    broker.studies.register("console", world.signed, custodian_fingerprint=None)
    study_id, database, blobs = world.study_id, broker.database, broker.blobs
    stored = {name: blobs.put(name.encode()).blob_id for name in ("old", "new", "left", "item")}
    start = 1_800_000_000
    with database.change() as connection:
        for number, epoch, name in ((1, 1, "old"), (2, 2, "new")):
            row = studies.DatasetRow(
                study_id=study_id,
                uploader="imaging",
                number=number,
                epoch=epoch,
                manifest=json.dumps({"parts": [1], "records": 5}),
                manifest_hash="0" * 64,
                state="complete",
                announced_at=start,
                completed_at=start,
            )
            studies.add_dataset(connection, row)
            studies.add_part(connection, row, 1, stored[name])
        run = runs.RunRow(
            id="run-1",
            study_id=study_id,
            seed=1,
            epoch=1,
            inputs="{}",
            software="tests",
            state="done",
            started_at=start,
            finished_at=start,
        )
        runs.add(connection, run)
        runs.set_intermediate(connection, "run-1", "weights", stored["left"])
        jobs.add_item(
            connection,
            jobs.ItemRow(
                id="item-1",
                study_id=study_id,
                sender="broker",
                recipient="enclave",
                purpose="crosswalk",
                subject="release-1",
                blob_id=stored["item"],
                size=4,
                digest="0" * 64,
                placed_at=start,
            ),
        )
    second = TEXT.replace('title = "A small study"', 'title = "A small study"\nepoch = 2')
    signed, _ = sign_for(world.home.public(), study_id, text=second, identities=world.identities)
    broker.studies.register("console", signed, custodian_fingerprint=None)
    with database.change() as connection:
        row = studies.find_study(connection, study_id)
        assert row
        rotated = row.registered_at

    def at(seconds: float) -> Retention:
        return Retention(database, blobs, home, now=lambda: seconds)

    due = {(one.rule, one.subject): one.at for one in at(0).due()}
    assert due == {
        ("intermediates_days", "run-1"): start + 2 * DAY,
        ("inbox_days", "item-1"): start + 3 * DAY,
        ("old_epochs_days", "imaging/1"): rotated + 5 * DAY,
    }
    assert at(start + 2 * DAY - 1).enforce() == sum(t < start + 2 * DAY for t in due.values())
    assert at(max(due.values())).enforce() == 3 - sum(t < start + 2 * DAY for t in due.values())
    assert at(2 * max(due.values())).enforce() == 0
    left = {path.name for path in world.home.blobs.glob("??/*")}
    assert left == {stored["new"]}
    with database.read() as connection:
        assert studies.newest_dataset(connection, study_id, "imaging", state="complete")
        gone = studies.find_dataset(connection, study_id, "imaging", 1)
        assert gone is not None
        assert gone.state == studies.DESTROYED
        entries = [json.loads(one.entry) for one in audit.walk(connection)]
    applied = [one["detail"] for one in entries if one["action"] == "retention rule applied"]
    assert {one["rule"]: (one["deleted"], one["blobs"]) for one in applied} == {
        "intermediates_days": (1, 1),
        "inbox_days": (1, 1),
        "old_epochs_days": (1, 1),
    }

    broker.lifecycle.close("console", study_id)
    (closed,) = at(0).due()
    assert (closed.rule, closed.subject) == ("packages_days", "imaging/2")
    assert at(closed.at - 1).enforce() == 0, "the study file's ten days, not the broker's thirty"
    assert closed.at - rotated <= 11 * DAY
    assert at(closed.at).enforce() == 1
    assert not list(world.home.blobs.glob("??/*"))
    database.close()
