"""Second looks through a real broker: who answers, who is silent, who lies, and what is left."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text

from broker.container import Broker
from broker.decided_again import PAIRS
from broker.run_reuse import STAYING
from broker.store.engine import Database
from linkage.look_tables import BITS_SET, FILTER_BITS, answers_to_arrow, names_of
from linkage.matching.engine import link
from linkage.run_messages import RunRequest
from tests.broker_looks import (
    Held,
    Site,
    answer_all,
    datasets,
    everyone,
    held_by,
    make_look_world,
    stream,
    upload,
    waits,
)
from tests.broker_world import PROGRAM, World, problem, running, wait_for


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Held]:
    return held_by(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, held: dict[str, Held]) -> Iterator[World]:
    made = make_look_world(tmp_path_factory.mktemp("looks"), most_per_record=3, most_per_run=300)
    with running(made):
        upload(made, held)
        yield made


@pytest.fixture(scope="module")
def people(world: World, held: dict[str, Held]) -> dict[str, Site]:
    return everyone(world, held)


@pytest.fixture(scope="module")
def without(world: World) -> dict[str, Any]:
    """The run that leaves the second look out."""
    request = RunRequest(seed=1, second_look=False)
    started = world.actor("admin").post(f"{world.path}/runs", request).raise_for_status()
    return finish(world, started.json()["run_id"])


@pytest.fixture(scope="module")
def answered(world: World, people: dict[str, Site]) -> dict[str, Any]:
    """The run that everybody answers."""
    run_id = begin(world, 1)
    answer_all(list(people.values()), run_id)
    return finish(world, run_id)


def begin(world: World, seed: int) -> str:
    """Start a run, and wait until it waits."""
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest(seed=seed))
    run_id = str(answer.raise_for_status().json()["run_id"])
    wait_for(waits(world, run_id), 300)
    return run_id


def finish(world: World, run_id: str) -> dict[str, Any]:
    ended = world.finish(f"{world.path}/runs/{run_id}", 300)
    assert ended["state"] == "done", ended["failure"]
    return ended


def end_now(world: World, run_id: str) -> None:
    path = f"{world.path}/second-looks/{run_id}/end"
    world.actor("admin").post(path).raise_for_status()


def console(world: World, command: str, *more: str) -> str:
    """Run `linkage-broker look` on the broker's machine; return what it says."""
    words = [PROGRAM, "look", command, world.study_id, *more, "--home", str(world.home.path)]
    return subprocess.run(words, capture_output=True, check=True, text=True, timeout=120).stdout


def rows(world: World, sql: str, **values: object) -> list[Any]:
    with Database(world.home.database_url()).read() as connection:
        return list(connection.execute(text(sql), values))


def judged(site: Site, run_id: str) -> str:
    """Wait until the worker has read what was sent; return the state."""
    wait_for(lambda: site.state(run_id).state != "sent", 300)
    return site.state(run_id).state


def test_without_it_a_run_gives_what_it_gave_before(
    held: Mapping[str, Held], without: dict[str, Any], world: World
) -> None:
    assert without["result_digest"] == plain_digest(world, held)
    assert without["report"]["second_look"] is None


def plain_digest(world: World, held: Mapping[str, Held]) -> str:
    """The digest of the same linkage without a broker, and without second looks."""
    rules = {rule.id: rule.fields for rule in world.signed.study.match_key}
    return link(datasets(held), seed=1, rules=rules).digest


def test_everybody_answers(
    answered: dict[str, Any], without: dict[str, Any], world: World, people: dict[str, Site]
) -> None:
    told = answered["report"]["second_look"]
    assert told["uncertain"] >= 3
    assert told["decoys"] >= told["uncertain"]
    assert told["pairs_answered"] == told["pairs_asked"] == told["uncertain"] + told["decoys"]
    assert told["answered"] == told["questions"]
    assert (told["silent"], told["refused"]) == ([], {})
    # Quality as the program says it, before and after.
    before, after = told["before"]["overall"], answered["report"]["overall"]
    # What lies below thresholds is said of the run's own estimate alone.
    alone = {name: one for name, one in without["report"]["overall"].items() if name != "below"}
    assert before == alone
    assert after["chosen"]["f1"] > before["chosen"]["f1"]
    assert answered["seconds"]["second look"] >= told["waited_seconds"]
    tiers = rows(world, "SELECT DISTINCT tier FROM link WHERE until IS NULL")
    assert ("second look",) in [tuple(one) for one in tiers]
    assert nothing_is_left(world, answered["run_id"])


def test_no_record_and_no_run_is_asked_more_than_the_study_allows(
    answered: dict[str, Any], people: dict[str, Site]
) -> None:
    told = answered["report"]["second_look"]
    assert told["pairs_asked"] <= 300
    # Each as much as the study allows, however much of it is asked for cover's sake.
    assert set(told["questions"].values()) == {300}
    assert 0 < 2 * told["pairs_asked"] < 900
    for site in people.values():
        asked = site.kept[answered["run_id"]]
        assert len(asked) == told["questions"][site.party]
        assert set(Counter(names_of(asked.pseudonyms)).values()) == {2}
        assert set(Counter(asked.partners).values()) == {150}
        nonces = names_of(asked.nonces)
        assert nonces == sorted(nonces), "the order is that of the nonces, which says nothing"


def nothing_is_left(world: World, run_id: str) -> bool:
    """Neither questions nor answers; only the weighed pairs stay, and that it asked."""
    assert not rows(world, "SELECT 1 FROM look_request WHERE run_id = :r", r=run_id)
    named = rows(world, "SELECT name FROM intermediate WHERE run_id = :r", r=run_id)
    stays = {one[0] for one in named if not one[0].startswith(STAYING)}
    assert stays <= {*PAIRS}
    assert rows(world, "SELECT 1 FROM second_look WHERE run_id = :r", r=run_id)
    if not rows(world, "SELECT 1 FROM look_request"):
        Broker.at(world.home).sweep(older_than=0.0)
        parts = {
            one[0]
            for table in ("part", "intermediate")
            for one in rows(world, f"SELECT blob_id FROM {table}")
        }
        assert {path.name for path in world.home.blobs.glob("??/*")} == parts
    return True


def test_a_run_goes_on_without_who_is_silent(world: World, people: dict[str, Site]) -> None:
    run_id = begin(world, 2)
    answer_all([people["imaging"], people["claims"]], run_id)
    assert judged(people["imaging"], run_id) == judged(people["claims"], run_id) == "accepted"
    path = f"{world.path}/second-looks/{run_id}"
    assert problem(people["imaging"].send(run_id))[:2] == (409, "conflict")
    assert problem(world.actor("imaging").post(f"{path}/end"))[0] == 403
    shown = world.actor("admin").get(f"{world.path}/second-looks").json()
    assert {one["uploader"]: one["state"] for one in shown} == {
        "imaging": "accepted", "enclave": "asked", "claims": "accepted",
    }  # fmt: skip
    progress = world.actor("admin").get(f"{world.path}/runs/{run_id}").json()
    assert (progress["stage"], progress["progress"]) == ("second look", pytest.approx(2 / 3))
    said = console(world, "list")
    assert [line.split()[2] for line in said.splitlines()] == ["accepted", "asked", "accepted"]
    assert "missed" in console(world, "end", run_id)
    late = people["enclave"].put(run_id, b"too late")
    assert problem(late)[0] in (404, 409)
    told = finish(world, run_id)["report"]["second_look"]
    assert told["silent"] == ["enclave"]
    by_pair = {tuple(one["parties"]): one["pairs_answered"] for one in told["comparisons"]}
    assert by_pair.pop(("claims", "imaging")) > 0
    assert set(by_pair.values()) <= {0}
    assert problem(world.actor("admin").post(f"{path}/end"))[0] == 404
    assert nothing_is_left(world, run_id)


def test_nobody_answers_in_time(world: World, without: dict[str, Any]) -> None:
    run_id = begin(world, 3)
    with Database(world.home.database_url()).change() as connection:
        connection.execute(text("UPDATE second_look SET until = 1 WHERE over_at IS NULL"))
    ended = finish(world, run_id)
    assert ended["result_digest"] == without["result_digest"]
    told = ended["report"]["second_look"]
    assert told["silent"] == ["claims", "enclave", "imaging"]
    assert (told["pairs_answered"], told["links_gained"], told["links_lost"]) == (0, 0, 0)


def lies(site: Site, run_id: str, other: Site) -> Iterator[tuple[str, bytes]]:
    """Yield what a lying site seals, and a part of the rule that it is refused by."""
    good = answers_to_arrow(site.made(run_id))
    n = good.num_rows

    def changed(name: str, values: pa.Array) -> bytes:
        at = good.schema.names.index(name)
        return stream(good.set_column(at, good.schema.field(name), values))

    nonces = good.column("nonce").to_pylist()
    yield "no table of answers", b"not Arrow at all"
    nan = pa.RecordBatch.from_pydict({"nonce": nonces, "field:sex": [float("nan")] * n})
    yield "other columns", stream(nan)
    theirs = names_of(other.asked(run_id).nonces)
    strange = [one for one in theirs if one not in set(nonces)][:n]
    yield (
        "not asked",
        changed("nonce", pa.array([*strange, *nonces[len(strange) :]], pa.binary(16))),
    )
    full = pa.array([b"\xff" * 128] * n, pa.binary(128))
    yield "64 bits set", changed("field:last_name", full)
    yield "does not share", changed("field:ssn", good.column("field:last_name"))


def test_lies_are_refused_by_name_and_counted(world: World, people: dict[str, Site]) -> None:
    run_id = begin(world, 4)
    liar = people["imaging"]
    good = stream(answers_to_arrow(liar.made(run_id)))
    # What the server sees without opening anything.
    for sealed in (
        liar.sealed(run_id, good, says="run-0123456789abcdef"),
        liar.sealed(run_id, good, digest=people["enclave"].state(run_id).digest),
        liar.sealed(run_id, good, sender="claims"),
        b"no seal",
        b"",
    ):
        assert problem(liar.put(run_id, sealed))[:2] == (422, "package-refused")
    cap = len(good) * 2 + 64 * 1024
    assert problem(liar.put(run_id, bytes(cap * 2)))[:2] == (413, "too-large")
    assert problem(liar.put("run-0123456789abcdef", b"x"))[0] == 404
    assert liar.state(run_id).state == "asked"
    # What only the worker sees.
    for count, (rule, data) in enumerate(lies(liar, run_id, people["enclave"]), start=1):
        sealed = liar.sealed(run_id, data)
        assert liar.put(run_id, sealed).status_code == 201, rule
        assert judged(liar, run_id) == "refused"
        assert rule in liar.state(run_id).refusal
        counted = rows(
            world,
            "SELECT refusals FROM look_request WHERE run_id = :r AND uploader = 'imaging'",
            r=run_id,
        )
        assert counted[0][0] == count
    assert count == 5
    status, _, detail = problem(liar.send(run_id))
    assert status == 409
    assert detail.startswith("5 answers were refused, the last because:")
    answer_all([people["enclave"], people["claims"]], run_id)
    # Nobody is left to wait for.
    told = finish(world, run_id)["report"]["second_look"]
    assert set(told["refused"]) == {"imaging"}
    assert "does not share" in told["refused"]["imaging"]
    assert sorted(told["answered"]) == ["claims", "enclave"]
    log = world.actor("admin").get("/v1/audit", limit=1000).json()
    refused = [e for e in log if e["action"] == "second look answer refused"]
    assert len(refused) == 5
    assert nothing_is_left(world, run_id)


@pytest.mark.threat("T14")
def test_the_broker_cannot_pool_what_two_runs_ask_about_a_record(
    world: World, people: dict[str, Site], answered: dict[str, Any], record_property: Any
) -> None:
    """Every two filters of one record and field that two runs brought have chance in common."""
    run_id = begin(world, 5)
    common: list[int] = []
    for site in people.values():
        one, other = site.sent[answered["run_id"]], site.made(run_id)
        first, second = (
            {n: a.tobytes() for n, a in zip(names_of(q.nonces), q.pseudonyms, strict=True)}
            for q in (site.kept[answered["run_id"]], site.asked(run_id))
        )
        before = {first[n]: row for row, n in enumerate(names_of(one.nonces))}
        for row, nonce in enumerate(names_of(other.nonces)):
            if (earlier := before.get(second[nonce])) is None:
                continue
            for name, column in other.filters.items():
                old = one.filters[name]
                if column.present[row] and old.present[earlier]:
                    both = column.values[row] & old.values[earlier]
                    common.append(int(np.bitwise_count(both).sum()))
    end_now(world, run_id)
    finish(world, run_id)
    assert len(common) > 500
    chance = BITS_SET**2 / FILTER_BITS
    dice = np.array(common) / BITS_SET
    assert abs(dice.mean() * BITS_SET - chance) < 0.5
    assert dice.max() < 0.3
    record_property(
        "mean Dice of one record's filters in two runs (chance .0625)", f"{dice.mean():.4f}"
    )


@pytest.mark.threat("T14")
def test_nothing_clear_lies_at_the_broker(
    world: World, people: dict[str, Site], held: Mapping[str, Held]
) -> None:
    """Values and filters are in no file: while answers wait, after they are read, in no log."""
    run_id = begin(world, 6)
    answer_all([people["imaging"], people["enclave"]], run_id)
    assert judged(people["imaging"], run_id) == "accepted"
    secret = {
        value.encode()
        for one in held.values()
        for name in ("ssn", "street", "last_name")
        if name in one.columns
        for value in one.columns[name].values
        if len(value) >= 8
    }
    for site in people.values():
        for made in site.sent.values():
            for column in made.filters.values():
                secret |= {row.tobytes() for row in column.values[column.present]}
    assert len(secret) > 2000
    some = sorted(secret)[:: len(secret) // 300]
    found = [path for path in world.home.path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in found)
    for path in found:
        data = path.read_bytes()
        assert not [one for one in some if one in data], path.name
    end_now(world, run_id)
    finish(world, run_id)
