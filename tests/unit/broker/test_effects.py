"""What one look at withdrawals finds, without a server: somebody has withdrawn everything."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import text

from broker.container import Broker
from broker.effects import EffectsMaker, Made
from broker.store import jobs, releases, studies
from linkage.pseudonyms import random_ids
from linkage.sealing import Identity
from tests.broker_world import make_world

MEMBER = (
    "INSERT INTO membership (study_id, uploader, pseudonym, since, person_id)"
    " VALUES ('small-study', :who, :name, 1, :name)"
)


def job(name: str, kind: str, **columns: object) -> jobs.JobRow:
    request = json.dumps({"audience": ["enclave", "imaging"]})
    values = {"study_id": "small-study", "run_id": "run-1", "request": request, "asked_at": 1}
    return jobs.JobRow(id=name, kind=kind, **(values | columns))  # type: ignore[arg-type]


def test_all_that_was_given_out_and_is_withdrawn_is_counted(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    broker = Broker.at(world.home)
    row = studies.StudyRow(
        id="small-study",
        study_hash=world.signed.study_hash,
        signed=world.signed.model_dump_json(),
        registered_at=1,
    )
    names = {who: random_ids(5) for who in ("imaging", "enclave", "claims")}
    left_out = names["imaging"][:2].tobytes()
    with broker.database.change() as connection:
        studies.add_study(connection, row)
        connection.execute(
            text(
                "INSERT INTO run (id, study_id, seed, epoch, inputs, software, state, stage,"
                " progress, seconds, sequence, started_at) VALUES ('run-1', 'small-study', 1, 1,"
                """ '{"imaging": 1, "enclave": 1, "claims": 1}', 'x', 'done', '', 1, '{}', 1, 1)"""
            )
        )
        for who, each in names.items():
            for name in each:
                connection.execute(text(MEMBER), {"who": who, "name": name.tobytes()})
        for number, out in enumerate(({"imaging": left_out}, {"imaging": None}, {})):
            made = Made({}, out).to_json()
            given = job(f"r-{number}", "release", state="done", made=made, checked='{"imaging": 1}')
            jobs.add(connection, given)
        looking = job("effects-1", releases.EFFECTS, state="running")
        jobs.add(connection, looking)
    EffectsMaker(broker, Identity.load(world.home.identity_file)).make(looking)
    with broker.database.read() as connection:
        mark = releases.mark(connection, "small-study")
        found = [releases.affected_of(connection, f"r-{number}") for number in range(3)]
        checked = {one.checked for one in releases.given_out(connection, "small-study")}
    counts = [{who: records for who, (records, _) in one.items()} for one in found]
    assert counts == [{"imaging": 3, "enclave": 5}, {"enclave": 5}, {"imaging": 5, "enclave": 5}]
    assert checked == {mark}
    broker.database.close()
