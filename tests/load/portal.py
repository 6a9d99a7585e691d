"""
How long the server takes for each page of the portal over a broker that has gone on for years:
`python -m tests.load.portal [--database both]`, `make bench-portal`.

50 studies, 500 runs, a million records, a review of 10,000 pairs, 20,000 audit entries; one run is
of twelve parties, with all the sets that these can make. Every page that the application has is
fetched as each role that may see it, over HTTP on loopback, one request
after the other, so a time holds the whole way there and back; `cpu` is what the server's processor
did for one of them, which other programs beside it hardly change. Progress on standard error; on
standard output one line of JSON: milliseconds by page. Exit code 0 if 95 % of each page's answers
took less than 100 ms, but for the run of twelve and what counts links; else 1.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from broker import audit
from broker.container import Broker
from broker.store import bulk, reviews, runs
from broker.store.reviews import CaseRow, DecisionRow, ReviewRow
from broker.store.tables import link, membership, person
from broker.web.pages import addresses
from tests.broker_world import World, make_world, packages, running
from tests.drill.stand import postgres
from tests.people import Person, signed_in
from tests.protocol.worlds import beside
from tests.questions import question

LIMIT_MS = 100
STUDIES, RUNS, RECORDS, PAIRS, ENTRIES, QUESTIONS = 50, 500, 1_000_000, 10_000, 20_000, 40
TWELVE, CHANGED = 12, 100_000
OF_TWELVE = f"run-{STUDIES:016x}"
"""The run of twelve parties: larger than what the limit is for; so are all links of a million
records, which a page counts by itself."""
ROLES = ("admin", "auditor", "steward:STUDY:imaging", "researcher:STUDY", "reviewer:STUDY")
_AGREEMENTS = ("equal", "similar", "different", "missing")


def main(
    database: Annotated[str, typer.Option(help="sqlite, postgresql or both.")] = "both",
    times: Annotated[int, typer.Option(help="Each page is fetched so often by each role.")] = 40,
) -> None:
    """Measure every page."""
    named = ("sqlite", "postgresql") if database == "both" else (database,)
    found = {name: measure(name, times) for name in named}
    print(json.dumps(found))
    slow = {
        f"{name} {page}": one["p95"]
        for name, pages in found.items()
        for page, one in pages.items()
        if one["p95"] >= LIMIT_MS and not page.endswith(OF_TWELVE) and "/compare/links" not in page
    }
    if slow:
        print(f"slower than {LIMIT_MS} ms: {slow}", file=sys.stderr)
    sys.exit(1 if slow else 0)


def measure(database: str, times: int) -> dict[str, dict[str, float]]:
    """Return p50, p95 and bytes of each page as each role that may see it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linkage-portal-")))
        url = stack.enter_context(postgres()).new_url() if database == "postgresql" else None
        world = make_world(folder, url=url)
        stack.enter_context(running(world))
        names = furnish(world)
        # The worker has nothing to do any more; what it would poll is no page's time.
        worker = world.processes.pop()
        worker.terminate()
        worker.wait(60)
        people = {
            role.partition(":")[0]: signed_in(
                world.home, world.url, role.partition(":")[0], role.replace("STUDY", world.study_id)
            )
            for role in ROLES
        }
        found = {}
        for page in pages(names):
            for role, who in people.items():
                if who.client.get(page).status_code == 200:
                    one = fetch(who, page, times, server=world.processes[0].pid)
                    found[f"{role} {page.replace(world.study_id, 'STUDY')}"] = one
                    print(f"{database} {role} {page}: {one}", file=sys.stderr)
        return found


def fetch(who: Person, page: str, times: int, *, server: int) -> dict[str, float]:
    """Fetch a page so many times; return milliseconds and the size of its answer."""
    took, size, before = [], 0, busy(server)
    for _ in range(times):
        began = time.perf_counter()
        size = len(who.client.get(page).content)
        took.append((time.perf_counter() - began) * 1000)
    cut = statistics.quantiles(took, n=20, method="inclusive")
    spent = (busy(server) - before) / times
    return {
        "p50": round(statistics.median(took), 1),
        "p95": round(cut[18], 1),
        "cpu": round(spent, 1),
        "bytes": size,
    }


def busy(process: int) -> float:
    """Return how long a process has kept processors busy, milliseconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def pages(names: dict[str, str]) -> Iterator[str]:
    """Yield the address of every page that is fetched with GET."""
    for method, template in addresses():
        if method == "GET" and not template.startswith(("/sign-in", "/invitation")):
            path = "/".join(names.get(part, part) for part in template.split("/"))
            both = "/runs/compare" in path
            yield f"{path}?a={names['{run_id}']}&b={names['other']}" if both else path
            if template.endswith("/runs/{run_id}"):
                yield path.replace(names["{run_id}"], names["twelve"])


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
    _runs(broker, done["run_id"], [one.study_id for one in studies])
    _records(broker, world.study_id)
    _review(broker, world.study_id, done["run_id"])
    with broker.database.change() as connection:
        for number in range(ENTRIES):
            audit.record(
                connection,
                actor="person/somebody",
                action="run queued",
                study_id=studies[number % STUDIES].study_id,
                subject=f"run-{number:016x}",
                detail={"seed": str(number), "software": "0.1.0"},
            )
    broker.database.close()
    return {
        "{study_id}": world.study_id,
        "{run_id}": done["run_id"],
        "{review_id}": done["run_id"],
        "{question_id}": asked,
        "{account}": "admin",
        # That of a run in the same study, which comes next: see `_runs`.
        "other": f"run-{0:016x}",
        "twelve": OF_TWELVE,
    }


def _runs(broker: Broker, like: str, study_ids: list[str]) -> None:
    with broker.database.change() as connection:
        row = runs.find(connection, like)
        assert row is not None
        for number in range(RUNS - 1):
            study_id = study_ids[number % len(study_ids)]
            made = replace(
                row,
                id=f"run-{number:016x}",
                study_id=study_id,
                seed=row.seed + number + 1,
                sequence=number + 2,
                started_at=row.started_at - RUNS + number,
            )
            runs.add(connection, _of_twelve(made) if number == STUDIES else made)


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
        how = {"tier": "keys", "model": 2}
        # The next run took some of the links back, and found others.
        for at, until in ((slice(CHANGED), 2), (slice(CHANGED, half), None)):
            left, right = names[:half][at], names[half:][at]
            ties = {"left_pseudonym": left, "right_pseudonym": right, "until": until}
            bulk.insert(connection, link, len(left), shared | ties | how)
        news = {"left_pseudonym": names[:CHANGED], "right_pseudonym": names[1 : CHANGED + 1]}
        bulk.insert(connection, link, CHANGED, shared | news | how | {"since": 2})


def _review(broker: Broker, study_id: str, run_id: str) -> None:
    drawn = np.random.default_rng(8)
    fields = ("first_name", "last_name", "date_of_birth", "sex")
    cases = [
        CaseRow(
            run_id=run_id,
            case_id=f"{number:032x}",
            one="imaging",
            other="enclave",
            fields=json.dumps({name: str(drawn.choice(_AGREEMENTS)) for name in fields}),
        )
        for number in range(PAIRS)
    ]
    now = int(time.time())
    with broker.database.change() as connection:
        row = ReviewRow(
            run_id=run_id, study_id=study_id, state=reviews.OPEN, reviewers="[]", opened_at=now
        )
        reviews.add(connection, row)
        reviews.add_cases(connection, cases)
        for number in range(0, PAIRS, 2):
            decision = DecisionRow(
                run_id=run_id,
                case_id=cases[number].case_id,
                reading=1,
                reviewer="person/another",
                answer="same",
                decided_at=now,
            )
            reviews.add_decision(connection, decision)


if __name__ == "__main__":
    typer.run(main)
