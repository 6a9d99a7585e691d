"""What became of a record: its persons over the runs, why, and which releases held it."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import pytest

from broker.cli import app
from broker.policy import Action, Caller
from broker.services.persons import Persons
from broker.services.studies import Studies
from broker.store import people, runs
from broker.store.engine import Database
from linkage.matching.identity import assign
from linkage.matching.links import TIERS
from linkage.matching.solve import Entities
from linkage.matching.weights import MODEL_VERSION
from linkage.messages import ReleaseRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, running

ENCLAVE_FIRST = range(60, 180)
ENCLAVE_THEN = range(80, 200)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("history"))) as made:
        yield made


def history(world: World, *words: str) -> tuple[int, str]:
    """Ask on the console; return the exit code and what was said."""
    out, code = io.StringIO(), 0
    command = ["person", "history", world.study_id, *words, "--home", str(world.home.path)]
    with redirect_stdout(out), redirect_stderr(out):
        try:
            app(command, prog_name="linkage-broker")
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue()


def told(world: World, *words: str) -> dict[str, Any]:
    code, text = history(world, *words, "--json")
    assert code == 0, text
    found: dict[str, Any] = json.loads(text)
    return found


def submit(world: World, party: str, held: range, dataset: int = 1) -> None:
    records = encoded(world.signed, party, held)
    world.upload(pack(world.signed, world.identities[party], records, dataset=dataset))


def record_of(world: World, party: str, person: int) -> str:
    return encoded(world.signed, party, [person]).pseudonyms[0].tobytes().hex()


def test_a_withdrawn_record_leaves_its_person_and_the_past_stays(world: World) -> None:
    submit(world, "imaging", range(120))
    submit(world, "enclave", ENCLAVE_FIRST)
    submit(world, "claims", range(60, 120))
    first = world.run()
    assert first["state"] == "done", first["failure"]
    assert set(first["report"]["links"]) <= set(TIERS)
    asked = world.actor("admin").post(f"{world.path}/releases", ReleaseRequest()).json()
    assert world.finish(f"{world.path}/jobs/{asked['job_id']}")["state"] == "done"
    submit(world, "enclave", ENCLAVE_THEN, dataset=2)  # 60 to 79 are withdrawn
    second = world.run()
    assert second["state"] == "done", second["failure"]

    gone = record_of(world, "enclave", 70)
    now = told(world, gone)
    assert (now["kind"], now["uploader"], now["withdrawn"]) == ("record", "enclave", True)
    assert (now["then"]["person"], now["then"]["records"]) == (None, [])
    assert [one["job"] for one in now["given_out"]] == [asked["job_id"]]
    before = told(world, gone, "--run", first["run_id"])
    person = before["then"]["person"]
    assert [one["person"] for one in before["stays"]] == [person]
    assert before["stays"][0]["until"]["run"] == second["run_id"]
    records = {one["record"] for one in before["then"]["records"]}
    assert records >= {gone, record_of(world, "imaging", 70)}
    assert {(one["method"], one["model"]) for one in before["then"]["links"]} == {
        ("probabilistic", MODEL_VERSION)
    }
    assert {one for link in before["then"]["links"] for one in (link["left"], link["right"])} == (
        records
    )
    # The others of the person stay who they are.
    after = told(world, person)
    assert after["then"]["person"] == person
    assert {one["record"] for one in after["then"]["records"]} == records - {gone}
    # A record that came later was nobody's then, and in no release.
    late = told(world, record_of(world, "enclave", 190), "--run", first["run_id"])
    assert (late["then"]["person"], late["given_out"]) == (None, [])

    # Each by its own clock: midnight may lie between two runs, or between them and now.
    began, ended = (
        dt.datetime.fromtimestamp(run["ended_at"], dt.UTC).date() for run in (first, second)
    )
    assert told(world, gone, "--on", f"{ended}")["then"]["run"] == second["run_id"]
    code, said = history(world, gone, "--on", f"{began - dt.timedelta(days=1)}")
    assert (code, "no run of the study had ended" in said) == (1, True)
    code, said = history(world, gone, "--run", first["run_id"])
    assert (code, person in said, "probabilistic" in said) == (0, True, True)
    entries = world.actor("admin").get("/v1/audit", limit=1000).json()
    asked_for = [one for one in entries if one["action"] == "person history read"]
    assert len(asked_for) >= 5
    assert gone not in json.dumps(entries)
    assert person not in json.dumps(entries)


@pytest.mark.parametrize("name", ["0" * 32, "zz", "0" * 31, "'; --"])
def test_a_name_that_nobody_knows(world: World, name: str) -> None:
    if not world.actor("admin").get(f"{world.path}/runs").json():
        pytest.skip("needs the run of the test above")
    code, said = history(world, name)
    assert code == 1
    assert "no run of the study has known" in said
    assert name not in said.replace(world.study_id, "")


def test_a_merged_person_is_followed(world: World) -> None:
    """Written as a run writes: two persons of the first run are one in the third."""
    database = Database(world.home.database_url())
    with database.change() as connection:
        known = people.everyone(connection, world.study_id)
        held = np.flatnonzero(known.since > 0)
        imaging = known.uploaders.index("imaging")
        pseudonyms = {
            who: known.pseudonyms[held][known.uploader[held] == number]
            for number, who in enumerate(known.uploaders)
        }
        persons = known.persons[held]
        _, of = np.unique(persons.view("S16").ravel(), return_inverse=True)
        mine = np.flatnonzero(known.uploader[held] == imaging)[:2]
        of = np.where(of == of[mine[1]], of[mine[0]], of)
        entities = Entities(
            {w: of[known.uploader[held] == n] for n, w in enumerate(known.uploaders)}, len(of)
        )
        changes = assign(known.previous(), entities, pseudonyms)
        sequence = runs.next_sequence(connection, world.study_id)
        people.write(connection, world.study_id, sequence, known, pseudonyms, changes)
        row = runs.RunRow(
            id="run-merged",
            study_id=world.study_id,
            seed=9,
            epoch=1,
            inputs="{}",
            software="test",
            state="done",
            sequence=sequence,
            started_at=1,
            finished_at=int(dt.datetime.now(dt.UTC).timestamp()),
        )
        runs.add(connection, row)
    ended, into = (one[0].tobytes().hex() for one in changes.merged)
    grant = Studies(database, world.home).grant(
        Caller("console", None), Action.READ_RUN, study_id=world.study_id
    )
    found = Persons(database).history(grant, ended)
    assert (found["merged_into"], found["followed"], found["then"]["person"]) == (
        into,
        [into],
        into,
    )
    assert "merged into person" in history(world, ended)[1]
    earlier = [
        r for r in world.actor("admin").get(f"{world.path}/runs").json() if r["result_digest"]
    ]
    then = Persons(database).history(grant, ended, run_id=earlier[0]["run_id"])
    assert (then["followed"], then["then"]["person"]) == ([], ended)
    database.close()
