"""
A whole run through a real broker at size: sealed packages to person IDs.

    python -m tests.benchmarks.bench_scale 100000 [--parties 2] [--workers 1 2] [--cores 1] [--json]
    python -m tests.benchmarks.bench_scale 100000 --renewed .01

Makes simulated people (those of `linkage people`, scale_world.py), half of each party's in common
with another's, encodes, seals and uploads them, then runs the broker's server and workers as
processes of their own on SQLite. Prints for each number of workers: seconds by stage, the largest
sum of the resident memory of all broker processes, precision and recall against the truth, and what
the run said of itself. Encodings are kept in --folder, so they are made once.

With --renewed, each party uploads a second version, in which so large a share of its records is
new and as many are gone, and it is run again: on the broker that kept what the first run compared,
and on a broker that never saw the first version.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from broker.store import people
from broker.store.engine import Database
from linkage.matching.dataset import Dataset
from linkage.records import EncodedRecords, FixedColumn
from linkage.run_messages import RunRequest
from tests.benchmarks.scale_world import Scale, scale_world, study_text
from tests.broker_packages import pack
from tests.broker_world import World, make_world, running

PART_RECORDS = 40_000
POLL_SECONDS = 0.5


class Memory:
    """The largest sum of resident memory of some processes, in bytes, while it watches them."""

    def __init__(self, world: World) -> None:
        self.peak, self.processor = 0, 0.0
        self._world = world
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        watched = [Path(f"/proc/{process.pid}") for process in self._world.processes]
        began = sum(map(_processor, watched))
        while not self._ended.wait(POLL_SECONDS / 2):
            self.peak = max(self.peak, sum(map(_resident, watched)))
            self.processor = sum(map(_processor, watched)) - began


def _resident(process: Path) -> int:
    """Return a process's resident memory in bytes, proc(5)."""
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processor(process: Path) -> float:
    """Return the seconds of processor time that a process took, all its threads, proc(5)."""
    user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def rows_of(dataset: Dataset, rows: slice) -> Dataset:
    """Return some rows of a dataset, with what it attests of the whole."""

    def cut(columns: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
        return {n: FixedColumn(c.values[rows], c.present[rows]) for n, c in columns.items()}

    held = dataset.records
    some = EncodedRecords(
        held.pseudonyms[rows], held.groups[rows], cut(held.clks), cut(held.match_keys)
    )
    return Dataset(dataset.party, some, dataset.collisions)


def versions(made: Scale, renewed: float) -> list[Scale]:
    """Return the dataset versions to upload, in order; one where nothing is renewed."""
    if not renewed:
        return [made]
    found = []
    for last in (False, True):
        datasets, person = [], {}
        for one in made.datasets:
            gone = round(len(one.records) * renewed / (1 + renewed))
            rows = slice(gone, None) if last else slice(None, len(one.records) - gone)
            datasets.append(rows_of(one, rows))
            person[one.party] = made.person[one.party][rows]
        found.append(Scale(tuple(datasets), person))
    return found


def measure(uploaded: list[Scale], text: str, workers: int, cores: int) -> Iterator[dict[str, Any]]:
    """Upload version after version to a new broker, run after each, and yield the figures."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), study_id="scale", text=text)
        config = world.home.path / "config.toml"
        config.write_text(config.read_text() + f"\n[worker]\ncores = {cores}\n")
        with running(world, worker=False):
            for version, made in enumerate(uploaded, start=1):
                sealed = _upload(world, made, version)
                for number in range(workers if version == 1 else 0):
                    world.work(f"worker-{number + 1}")
                with Memory(world) as memory:
                    began = time.perf_counter()
                    run = _run(world)
                    wall = time.perf_counter() - began
                if run["state"] != "done":
                    raise SystemExit(run["failure"])
                spent = {
                    "seal_and_upload_seconds": round(sealed, 1),
                    "wall_seconds": round(wall, 1),
                    "processor_seconds": round(memory.processor, 1),
                    "peak_bytes": memory.peak,
                }
                yield _figures(run, made, version) | spent | _scores(world, made, version)


def _upload(world: World, made: Scale, version: int) -> float:
    """Upload a version of every dataset; return the seconds."""
    began = time.perf_counter()
    for dataset in made.datasets:
        parts = -(-len(dataset.records) // PART_RECORDS)
        package = pack(
            world.signed,
            world.identities[dataset.party],
            dataset.records,
            dataset=version,
            parts=parts,
            collisions=dict(dataset.collisions),
        )
        world.upload(package)
    return time.perf_counter() - began


def _figures(run: dict[str, Any], made: Scale, version: int) -> dict[str, Any]:
    report = run["report"]
    return {
        "version": version,
        "records": sum(len(d.records) for d in made.datasets),
        "stages": run["seconds"],
        "report": {
            name: report[name]
            for name in ("pairs_compared", "candidates", "persons", "estimated_precision")
        }
        | {"estimated_recall": report["estimated_recall"], "losses": report["losses"]}
        | {"reuse": report.get("reuse")},
        "digest": run["result_digest"],
    }


def _run(world: World) -> dict[str, Any]:
    """Start a run and wait for its end."""
    admin = world.actor("admin")
    answer = admin.post(f"{world.path}/runs", RunRequest(seed=1)).raise_for_status()
    path = f"{world.path}/runs/{answer.json()['run_id']}"
    while True:
        response = admin.get(path)
        if response.status_code == 401:  # a token lives for fifteen minutes
            admin.token = ""
            continue
        run: dict[str, Any] = response.raise_for_status().json()
        if run["state"] in ("done", "failed"):
            return run
        time.sleep(POLL_SECONDS)


def _scores(world: World, made: Scale, version: int) -> dict[str, float]:
    """Return precision and recall over the pairs of all two parties, by the truth."""
    ids: dict[str, Any] = {}
    database = Database(world.home.database_url())
    with database.read() as connection:
        for dataset in made.datasets:
            names, persons = people.members_at(connection, world.study_id, dataset.party, version)
            given = np.frombuffer(persons, "V16")
            # Members come in the order of their pseudonyms' bytes.
            halves = np.ascontiguousarray(dataset.records.pseudonyms).view(">u8")
            order = np.lexsort((halves[:, 1], halves[:, 0]))
            if dataset.records.pseudonyms[order].tobytes() != names:
                raise SystemExit(f"{dataset.party}: the members are not its records")
            ids[dataset.party] = np.empty(len(given), "V16")
            ids[dataset.party][order] = given
    database.close()
    right = linked = true = 0
    for one, other in combinations(ids, 2):
        i, j = _equal(ids[one], ids[other])
        right += int((made.person[one][i] == made.person[other][j]).sum())
        linked += len(i)
        true += len(np.intersect1d(made.person[one], made.person[other]))
    return {"precision": right / max(1, linked), "recall": right / max(1, true)}


def _equal(one: Any, other: Any) -> tuple[Any, Any]:
    """Return the places of equal person IDs, each at most once a party."""
    _, number = np.unique(np.concatenate([one, other]), return_inverse=True)
    left, right = number[: len(one)], number[len(one) :]
    _, i, j = np.intersect1d(left, right, return_indices=True)
    return i, j


def main() -> None:
    """Measure as the command line asks."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    arguments.add_argument("records", type=int, help="records of each party")
    arguments.add_argument("--parties", type=int, default=2)
    arguments.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--cores", type=int, default=1, help="of each worker; 0: all")
    arguments.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "scale")
    arguments.add_argument("--renewed", type=float, default=0, help="share of a second version")
    arguments.add_argument("--json", action="store_true")
    asked = arguments.parse_args()
    records = round(asked.records * (1 + asked.renewed))
    population = records * (3 if asked.parties > 2 else 2)
    made = scale_world(asked.parties, records, population, asked.folder)
    text = study_text([d.party for d in made.datasets], records)
    uploaded = versions(made, asked.renewed)
    for workers in asked.workers:
        # The last version once more, where nothing is there to be taken over.
        for several in (uploaded, uploaded[1:]) if asked.renewed else (uploaded,):
            for found in measure(several, text, workers, asked.cores):
                _show(found | {"workers": workers, "cores": asked.cores}, asked)


def _show(found: dict[str, Any], asked: argparse.Namespace) -> None:
    if asked.json:
        print(json.dumps(found), flush=True)
        return
    stages = ", ".join(f"{name} {spent:.1f}" for name, spent in found["stages"].items())
    print(
        f"{asked.parties} x {asked.records:,}, {found['workers']} workers of {asked.cores} cores: "
        f"{found['wall_seconds']} s (processor {found['processor_seconds']} s; {stages}), "
        f"peak {found['peak_bytes'] / 1e9:.2f} GB, precision {found['precision']:.4f}, "
        f"recall {found['recall']:.4f}",
        flush=True,
    )
    print(f"  {found['report']}\n  {found['digest']}", flush=True)


if __name__ == "__main__":
    main()
