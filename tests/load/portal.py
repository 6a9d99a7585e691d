"""
How long the server takes for each page of the portal over a broker that has gone on for years:
`python -m tests.load.portal [--database both]`, `make bench-portal`.

What is in the broker: tests.load.portal_world. Every page that the application has is fetched as
each role that may see it, and so are the parts that a page fetches by itself and the search for
concepts, over HTTP on loopback, one request after the other: a time holds the whole way there and
back; `cpu` is what the server's processor did for one of them, which other programs beside it
hardly change. Progress on standard error; on standard output one line of JSON: milliseconds by
page. Exit code 0 if 95 % of each page's answers took less than 100 ms, else 1. Downloads are no
pages: they are timed, and not judged.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer

from broker.web.pages import addresses
from tests.broker_world import make_world, running
from tests.drill.stand import postgres
from tests.load.portal_world import FIRST, NEXT, OF_TWELVE, UNDER_WAY, furnish, under_way
from tests.people import Person, signed_in

LIMIT_MS = 100
ROLES = ("admin", "auditor", "steward:STUDY:imaging", "researcher:STUDY", "reviewer:STUDY")
_FILE = ".jsonl"
_HTMX = {"hx-request": "true"}
SEARCHES = ("disease", "xanlo", "left of zy", "a", "zzqx", "99999", "00012345")
"""A word of most names, of some, three, a letter, one of no name, an id and a code."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that a page's reader asks for. form: posted, else it is fetched."""

    path: str
    name: str = ""
    form: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False

    def of(self, who: Person) -> httpx.Response:
        """Ask for it as somebody."""
        headers = _HTMX if self.partial else {}
        if self.form:
            return who.client.post(self.path, data={**self.form, "csrf": who.csrf}, headers=headers)
        return who.client.get(self.path, headers=headers)

    def __str__(self) -> str:
        return f"{self.path}{' ' if self.name else ''}{self.name}{', part' * self.partial}"


def main(
    database: Annotated[str, typer.Option(help="sqlite, postgresql or both.")] = "both",
    times: Annotated[int, typer.Option(help="Each page is fetched so often by each role.")] = 20,
) -> None:
    """Measure every page."""
    named = ("sqlite", "postgresql") if database == "both" else (database,)
    found = {name: measure(name, times) for name in named}
    print(json.dumps(found))
    slow = {
        f"{name} {page}": one["p95"]
        for name, pages in found.items()
        for page, one in pages.items()
        if one["p95"] >= LIMIT_MS and not page.endswith(_FILE)
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
        under_way(world, FIRST)
        people = {
            role.partition(":")[0]: signed_in(
                world.home, world.url, role.partition(":")[0], role.replace("STUDY", world.study_id)
            )
            for role in ROLES
        }
        found = {}
        for asked in everything(names):
            for role, who in people.items():
                if asked.of(who).status_code == 200:
                    one = fetch(who, asked, times, server=world.processes[0].pid)
                    found[f"{role} {asked}".replace(world.study_id, "STUDY")] = one
                    print(f"{database} {role} {asked}: {one}", file=sys.stderr)
        return found


def fetch(who: Person, asked: Asked, times: int, *, server: int) -> dict[str, float]:
    """Ask so many times; return milliseconds and the size of its answer."""
    took, size, before = [], 0, busy(server)
    for _ in range(times):
        began = time.perf_counter()
        size = len(asked.of(who).content)
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


def everything(names: Mapping[str, str]) -> Iterator[Asked]:
    """Yield every page that is fetched, as it is and as who has much to read comes to it."""
    for method, template in addresses():
        if method == "GET" and not template.startswith(("/sign-in", "/invitation")):
            path = "/".join(names.get(part, part) for part in template.split("/"))
            if "/runs/compare" in path:
                path += f"?a={FIRST}&b={NEXT}"
            elif path.endswith("/live"):
                path = path.replace(names["{run_id}"], UNDER_WAY)
            yield Asked(path)
    study = f"/studies/{names['{study_id}']}"
    for path, name in (
        (f"/runs/{OF_TWELVE}", "of twelve parties"),
        (f"/runs/{OF_TWELVE}?pair=hospital-03%2Bhospital-07", "two of twelve parties"),
        (f"/runs/{UNDER_WAY}", "under way"),
        (f"/runs/compare?a={FIRST}&b={OF_TWELVE}", "with one of twelve parties"),
        (f"/runs?before={FIRST}", "the last page"),
        (f"/reviews/{NEXT}", "a closed review"),
        ("/releases?page=20", "a later page"),
        ("/releases/affected?page=20", "a later page"),
        ("/questions?page=3", "a later page"),
    ):
        yield Asked(study + path, name)
    for path in ("/admin/people?page=5", "/admin/people?find=person-1", "/audit?action=run+queued"):
        yield Asked(path)
    yield Asked(f"{study}/runs/compare/links?a={FIRST}&b={NEXT}", "", {}, partial=True)
    for words in SEARCHES:
        form = {"act": "find-concept-0", "title": "Lungs", "concept-0-find": words}
        for partial in (True, False):
            yield Asked(f"{study}/questions/new", f"search: {words}", form, partial=partial)


if __name__ == "__main__":
    typer.run(main)
