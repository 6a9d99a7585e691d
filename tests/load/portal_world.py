"""
A broker that has gone on for years, for `tests.load.portal`: written into its tables, but for the
datasets that a real worker links, and what a real server takes.

50 studies; in one of them 500 runs, a million records, a review of 10,000 pairs, 100,000 concepts
of each of two parties, 300 releases of which records were withdrawn, 200 dataset versions of each
party; 200 accounts, 20,000 audit entries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from broker import audit
from broker.container import Broker
from broker.person_roles import parse_role
from broker.store import bulk, jobs, links, releases, reviews, runs
from broker.store.engine import Connection
from broker.store.reviews import ReviewRow
from broker.store.tables import dataset, membership, person
from linkage.matching.weights import MODEL_VERSION
from linkage.offered import Offered, OfferedConcept, digest_of, packed, to_lines
from linkage.release_messages import ReleaseTerms
from tests.broker_world import World, packages
from tests.protocol.worlds import beside
from tests.questions import question
from tests.reviewing import put_review

STUDIES, RUNS, RECORDS, PAIRS, ENTRIES, QUESTIONS = 50, 500, 1_000_000, 10_000, 20_000, 40
TWELVE, CHANGED, CONCEPTS, AFFECTED, VERSIONS, ACCOUNTS = 12, 100_000, 100_000, 300, 200, 200
FIRST, NEXT, OF_TWELVE, UNDER_WAY = (f"run-{number:016x}" for number in range(4))
"""Runs of the study, beside the real one: the first two are compared with each other."""
_SYLLABLES = "ba cor den fi gra hep ity kal lo mus nep osi pul ren sten tis ura vas xan zy".split()


def furnish(world: World) -> dict[str, str]:
    """Fill the broker; return what each name in an address's template stands for."""
    for package in packages(world).values():
        world.upload(package)
    done = world.run()
    assert done["state"] == "done", done["failure"]
    studies = [world] + [beside(world, f"study-{n:02}") for n in range(1, STUDIES)]
    admin = world.actor("admin")
    asked = ""
    for number in range(QUESTIONS):
        body = question(done["run_id"], title=f"Question {number}", purpose="To measure")
        answer = admin.post(f"{world.path}/questions", body).raise_for_status()
        asked = answer.json()["job_id"]
    broker = Broker.at(world.home)
    for number in range(ACCOUNTS):
        study = studies[number % STUDIES].study_id
        roles = [parse_role(f"{kind}:{study}") for kind in ("researcher", "reviewer")]
        broker.accounts.invite(f"person-{number:03}", roles)
    with broker.database.change() as connection:
        _runs(connection, done["run_id"], [one.study_id for one in studies])
        _versions(connection, world.study_id)
        _affected(connection, world)
        for number in range(ENTRIES):
            audit.record(
                connection,
                actor="person/somebody",
                action="run queued",
                study_id=studies[number % STUDIES].study_id,
                subject=f"run-{number:016x}",
                detail={"seed": str(number), "software": "0.1.0"},
            )
    _records(broker, world.study_id)
    for run_id, state in ((done["run_id"], reviews.OPEN), (NEXT, reviews.CLOSED)):
        with broker.database.change() as connection:
            _review(connection, world.study_id, run_id, state)
    broker.database.close()
    for party in ("enclave", "claims"):
        _offer(world, party)
    return {
        "{study_id}": world.study_id,
        "{run_id}": done["run_id"],
        "{review_id}": done["run_id"],
        "{question_id}": asked,
        "{account}": "admin",
        "{case_id}": f"{PAIRS - 1:032x}",
    }


def under_way(world: World, like: str) -> None:
    """Add a run that is under way, once no worker is there to end it."""
    broker = Broker.at(world.home)
    with broker.database.change() as connection:
        row = runs.find(connection, like)
        assert row is not None
        now = int(time.time())
        runs.add(
            connection,
            replace(
                row,
                id=UNDER_WAY,
                seed=9_999,
                state="running",
                stage="candidates",
                stage_began=now - 5.0,
                progress=0.4,
                sequence=None,
                result_digest=None,
                report=None,
                started_at=now,
                finished_at=None,
            ),
        )
    broker.database.close()


def _runs(connection: Connection, like: str, study_ids: list[str]) -> None:
    row = runs.find(connection, like)
    assert row is not None
    mine, others = study_ids[0], study_ids[1:]
    for number in range(RUNS - 1):
        made = replace(
            row,
            id=f"run-{number:016x}" if number < 3 else f"run-{number + 1:016x}",
            seed=row.seed + number + 1,
            sequence=number + 2,
            result_digest=f"{number:064x}",
            started_at=row.started_at - RUNS + number,
        )
        runs.add(connection, _of_twelve(made) if made.id == OF_TWELVE else made)
    for number, study_id in enumerate(others):
        runs.add(connection, replace(row, id=f"run-a{number:015x}", study_id=study_id))
    assert mine == row.study_id


def _of_twelve(row: runs.RunRow) -> runs.RunRow:
    """Return a run as one of twelve datasets, which have persons in all their combinations."""
    report = json.loads(row.report or "{}")
    names = [f"hospital-{n:02}" for n in range(1, TWELVE + 1)]
    compared, drawn = report["comparisons"][0], np.random.default_rng(9)
    report["records"] = report["people"] = dict.fromkeys(names, 100_000)
    report["comparisons"] = [compared | {"parties": both} for both in combinations(names, 2)]
    report["overlaps"] = {
        "+".join(inside): int(drawn.integers(1, 10_000))
        for size in range(1, TWELVE + 1)
        for inside in combinations(names, size)
    }
    return replace(row, report=json.dumps(report))


def _versions(connection: Connection, study_id: str) -> None:
    found = connection.execute(dataset.select().where(dataset.c.study_id == study_id))
    for row in found.mappings().all():
        for number in range(2, VERSIONS + 1):
            # The newest stays the real one, which runs are made of.
            changed = {"number": number, "state": "withdrawn" if number > 2 else "abandoned"}
            connection.execute(dataset.insert().values(**(dict(row) | changed)))


def _affected(connection: Connection, world: World) -> None:
    now, made = int(time.time()), json.dumps({"records": {"enclave": 9}, "left_out": {}})
    study_id, mark = world.study_id, releases.mark(connection, world.study_id)
    terms = ReleaseTerms(
        study_id=study_id,
        study_hash=world.signed.study_hash,
        release_id="release-0",
        run_id=FIRST,
        audience=("enclave",),
    )
    for number in range(AFFECTED):
        name = f"release-{number:016x}"
        row = jobs.JobRow(
            id=name,
            study_id=study_id,
            kind="release",
            run_id=FIRST,
            request=json.dumps({"audience": ["enclave"]}),
            state="done",
            asked_at=now - 9_000 + number,
            finished_at=now - 9_000 + number,
            number=number + 1,
            terms=terms.model_copy(update={"release_id": name}).model_dump_json(),
            made=made,
            checked=mark,
        )
        jobs.add(connection, row)
        releases.set_affected(connection, row.id, {"enclave": 10, "imaging": number}, now)
        for use in ("lung-cohort", "heart-cohort"):
            releases.set_pin(connection, row.id, "enclave", use, holds=True, now=now)


def _records(broker: Broker, study_id: str) -> None:
    drawn = np.random.default_rng(7)
    names = drawn.integers(0, 256, (RECORDS, 16), dtype=np.uint8)
    half = RECORDS // 2
    who = np.concatenate([names[:half], names[:half]])
    uploaders = ["imaging"] * half + ["enclave"] * half
    shared: dict[str, Any] = {"study_id": study_id, "since": 1, "until": None}
    with broker.database.change() as connection:
        persons = {"person_id": names[:half], "merged_into": None, "split_from": None}
        bulk.insert(connection, person, half, shared | persons)
        members = {"uploader": uploaders, "pseudonym": names, "person_id": who}
        bulk.insert(connection, membership, RECORDS, shared | members)
    # The second run takes some of the first one's links back, and finds as many others.
    kept = np.concatenate([names[half + 1 : half + 1 + CHANGED], names[half + CHANGED :]])
    for sequence, other in ((2, names[half:]), (3, kept)):
        with broker.database.change() as connection:
            links.write(connection, study_id, sequence, _links(names[:half], other))


def _links(left: Any, right: Any) -> links.LinkRows:
    count = len(left)
    return links.LinkRows(
        left=left,
        right=right,
        tier=np.zeros(count, np.int64),
        model=np.full(count, MODEL_VERSION, np.int64),
    )


def _review(connection: Connection, study_id: str, run_id: str, state: str) -> None:
    now = int(time.time())
    row = ReviewRow(
        run_id=run_id,
        study_id=study_id,
        state=state,
        reviewers="[]",
        opened_at=now,
        closed_at=now if state == reviews.CLOSED else None,
    )
    fields = ("first_name", "last_name", "date_of_birth", "sex")
    sides = ("imaging", "enclave")
    put_review(connection, row, parties=sides, fields=fields, pairs=PAIRS, readings=_readings())


def _readings() -> Iterator[tuple[int, int, str]]:
    for number in range(0, PAIRS, 2):
        yield number, 1, "another"
        if number % 4 == 0:
            yield number, 2, "a-third"


def _offer(world: World, party: str) -> None:
    concepts = list(_concepts(party))
    data = to_lines(concepts)
    head = Offered(
        study_id=world.study_id,
        party=party,
        made_at=int(time.time()) - 60,
        least=11,
        concepts=len(concepts),
        digest=digest_of(data),
        values={"modality": ("CT", "MR"), "manufacturer_model": tuple(_models())},
    ).sign(world.identities[party])
    world.actor(party).put(f"{world.path}/offered", packed(head, data)).raise_for_status()


def _models() -> Iterator[str]:
    yield from (f"Model {number}" for number in range(500))


def _concepts(party: str) -> Iterator[OfferedConcept]:
    """Yield concepts whose words are spread as words of a language are: few often, most rarely."""
    drawn = np.random.default_rng(len(party))
    words = ["".join(drawn.choice(_SYLLABLES, drawn.integers(2, 5))) for _ in range(30_000)]
    words[:6] = ["disease", "of", "disorder", "left", "neoplasm", "structure"]
    places = np.minimum(drawn.zipf(1.35, (CONCEPTS, 9)) - 1, 29_999)
    lengths = drawn.integers(2, 10, CONCEPTS)
    domains = drawn.choice(["condition", "procedure", "drug", "measurement", "unit"], CONCEPTS)
    for number in range(CONCEPTS):
        said = " ".join(words[place] for place in places[number, : lengths[number]])
        yield OfferedConcept(
            concept_id=1_000 + number,
            domain=str(domains[number]),
            name=f"{said} {number % 500}",
            vocabulary="SNOMED",
            code=f"{number:08}",
            standard="S" if number % 3 else "",
        )
