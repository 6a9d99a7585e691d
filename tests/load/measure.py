"""One measurement: a broker with many sites on one database, its worker linking, locust polling."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import STUDY, World, make_world, running, wait_for
from tests.drill.stand import postgres
from tests.protocol.worlds import beside

MOST_PARTIES = 20
"""Of one study; more sites make more studies."""
LIMIT_MS = 200
"""What 99 % of the status calls have to stay below."""
TOKEN_S = 60
"""An access token's life here: short, so that sites sign in again all the time."""
_LOCUST = str(Path(sys.executable).with_name("locust"))
_FILE = Path(__file__).with_name("locustfile.py")


def study_text(sites: int) -> str:
    """Return a study of so many parties, the first the imaging one, the second the enclave."""
    head, _, rest = STUDY.partition("[[party]]")
    fields = '["first_name", "last_name", "date_of_birth", "sex"]'
    parties = ""
    for number in range(sites):
        kind = {0: 'kind = "imaging"\n', 1: 'kind = "enclave"\n'}.get(number, "")
        parties += f'[[party]]\nid = "site-{number:02}"\n{kind}'
        parties += f"records = 1_000_000\nfields = {fields}\n\n"
    return head + parties + "[[clk]]" + rest.partition("[[clk]]")[2]


def measure(
    database: str,
    *,
    minutes: float,
    sites: int,
    records: int,
    pause: float,
    linking: bool,
    keep: Path | None,
) -> dict[str, Any]:
    """Return the figures of one database. records: of each of the two parties that are linked."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linkage-load-")))
        url = stack.enter_context(postgres()).new_url() if database == "postgresql" else None
        world = make_world(folder, text=study_text(min(sites, MOST_PARTIES)), url=url)
        config = world.home.path / "config.toml"
        text = config.read_text()
        config.write_text(f"{text}\n[tokens]\naccess_seconds = {TOKEN_S}\n")
        stack.enter_context(running(world))
        studies = [world]
        while (left := sites - len(studies) * MOST_PARTIES) > 0:
            text = study_text(min(left, MOST_PARTIES))
            studies.append(beside(world, f"study-{len(studies)}", text=text))
        for one in studies:
            _furnish(one, records if one is world else 20)
        plan = {
            "pause": [0.5 * pause, 1.5 * pause],
            "sites": {
                f"{one.study_id}/{party.id}": one.identities[party.id].signing_pem().decode()
                for one in studies
                for party in one.signed.study.party
            },
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        _say(f"{database}: {sites} sites for {minutes} minutes ...")
        with _linking(world) if linking else _nothing() as runs:
            started, cpu = time.monotonic(), _cpu(world)
            loads = [os.getloadavg()[0]]
            table = _poll(world, folder, minutes, sites)
            loads.append(os.getloadavg()[0])
            seconds = time.monotonic() - started
            used = {name: round((_cpu(world)[name] - cpu[name]) / seconds, 2) for name in cpu}
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            for file in [*folder.glob("locust*"), *world.home.path.glob("*.log")]:
                (keep / f"{database}-{file.name}").write_bytes(file.read_bytes())
        told = _figures(table)
        told |= {
            "runs_done": len(runs),
            "cpu": used,
            "load_average": [round(one, 1) for one in loads],
            "processors": os.cpu_count(),
        }
        _say(f"  {json.dumps(told)}")
        return told


def _furnish(world: World, records: int) -> None:
    """Upload for the two parties that are linked; announce a dataset version of every other."""
    for number, party in enumerate(one.id for one in world.signed.study.party):
        people = (
            range(20)
            if number > 1
            else range(number * records // 2, number * records // 2 + records)
        )
        package = pack(world.signed, world.identities[party], encoded(world.signed, party, people))
        if number < 2:
            world.upload(package)
        else:
            actor = world.actor(party)
            actor.post(f"{world.path}/datasets", package.manifest).raise_for_status()


@contextmanager
def _linking(world: World) -> Iterator[list[str]]:
    """Start one run after another; yield the list of those that are done."""
    over, done = threading.Event(), list[str]()

    def begin(seed: int) -> str:
        admin = world.actor("admin")
        body = RunRequest(seed=seed)
        answer = admin.post(f"{world.path}/runs", body, allow_missing="true").raise_for_status()
        return str(answer.json()["run_id"])

    def go_on() -> None:
        seed = 1
        run_id = first
        admin = world.actor("admin")
        since = time.monotonic()
        while not over.wait(0.5):
            if time.monotonic() - since > TOKEN_S / 2:
                admin, since = world.actor("admin"), time.monotonic()
            state = admin.get(f"{world.path}/runs/{run_id}").raise_for_status().json()
            if state["state"] == "failed":
                raise RuntimeError(f"a run failed: {state['failure']}")
            if state["state"] == "done":
                done.append(run_id)
                seed += 1
                run_id = begin(seed)

    first = begin(1)
    admin = world.actor("admin")
    path = f"{world.path}/runs/{first}"
    wait_for(lambda: admin.get(path).json()["state"] != "queued", 60)
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join(60)


@contextmanager
def _nothing() -> Iterator[list[str]]:
    yield []


def _poll(world: World, folder: Path, minutes: float, sites: int) -> list[dict[str, str]]:
    """Let locust poll; return the rows of its statistics."""
    done = subprocess.run(
        [
            *(_LOCUST, "--headless", "--locustfile", str(_FILE), "--host", world.url),
            *("--users", str(sites), "--spawn-rate", "10", "--stop-timeout", "10"),
            *("--run-time", f"{round(minutes * 60)}s", "--csv", str(folder / "locust")),
            *("--only-summary", "--reset-stats", "--exit-code-on-error", "0"),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"LOAD_PLAN": str(folder / "plan.json")},
        timeout=minutes * 60 + 120,
    )
    (folder / "locust.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    with (folder / "locust_stats.csv").open() as file:
        return list(csv.DictReader(file))


def _figures(table: list[dict[str, str]]) -> dict[str, Any]:
    by_name = {row["Name"]: _row(row) for row in table}
    everything = by_name.pop("Aggregated")
    status = [one for name, one in by_name.items() if name != "token"]
    slowest = max(one["p99_ms"] for one in status)
    return {
        "ok": slowest < LIMIT_MS and not everything["errors"],
        "calls": everything["calls"],
        "calls_per_second": everything["per_second"],
        "errors": everything["errors"],
        "p50_ms": everything["p50_ms"],
        "p95_ms": everything["p95_ms"],
        "p99_ms": everything["p99_ms"],
        "p99_of_the_slowest_status_call_ms": slowest,
        "by_call": by_name,
    }


def _row(row: dict[str, str]) -> dict[str, Any]:
    return {
        "calls": int(row["Request Count"]),
        "errors": int(row["Failure Count"]),
        "per_second": round(float(row["Requests/s"]), 1),
        "p50_ms": float(row["50%"]),
        "p95_ms": float(row["95%"]),
        "p99_ms": float(row["99%"]),
        "most_ms": round(float(row["Max Response Time"]), 1),
    }


def _cpu(world: World) -> dict[str, float]:
    """Return the processor seconds of server and worker, children included."""
    found = {}
    for name, process in zip(("server", "worker"), world.processes, strict=False):
        one = psutil.Process(process.pid)
        times = [each.cpu_times() for each in (one, *one.children(recursive=True))]
        found[name] = sum(each.user + each.system for each in times)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
