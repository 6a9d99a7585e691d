"""
What a party receives, byte by byte on the wire, does not tell whether its records matched.

Two studies on one real broker differ only in whom the other parties hold: exactly the people of the
party that looks, or none of them. A proxy between it and the broker keeps all that passes. Second
looks: test_broker_look_traffic.
"""

from __future__ import annotations

import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from scipy import stats

from tests.broker_packages import encoded
from tests.broker_world import HTTP, World, make_world, running
from tests.protocol.worlds import beside, crosswalk, linked, released

PEOPLE = 100
EVERYBODY = ("imaging", "enclave", "claims")
ERROR = 1e-6
"""Chance that a statistical test here fails though nothing is wrong."""


@dataclass
class Tap:
    """A proxy that keeps what passes: one exchange a connection, (to the broker, from it)."""

    url: str
    exchanges: list[tuple[bytes, bytes]] = field(default_factory=list)

    def serve(self, listening: socket.socket) -> None:
        place = urlsplit(self.url)
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            with near, socket.create_connection((place.hostname, place.port)) as far:
                asked = near.recv(1 << 20)
                far.sendall(asked)
                heard = b""
                while more := far.recv(1 << 20):
                    heard += more
                near.sendall(heard)
            self.exchanges.append((asked, heard))


@contextmanager
def tapped(url: str) -> Iterator[tuple[str, Tap]]:
    """Yield the address of a proxy before the broker, and what it heard."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tap = Tap(url)
        thread = threading.Thread(target=tap.serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", tap
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("traffic"))) as made:
        yield made


@dataclass(frozen=True)
class Played:
    """A study that went through a run and some releases, and what the imaging party fetched."""

    study: World
    run: dict[str, Any]
    releases: tuple[str, ...]
    exchanges: list[tuple[bytes, bytes]]


def play(world: World, study_id: str, people: Callable[[str], range]) -> Played:
    """
    Link, release thrice, then call every address there is as the imaging party. Ids of studies are
    in answers: those that are compared have ids of one length.
    """
    study = beside(world, study_id)
    run = linked(study, {p: encoded(study.signed, p, people(p)) for p in EVERYBODY})
    assert run["state"] == "done", run["failure"]
    releases = tuple(released(study, run, *EVERYBODY) for _ in range(3))
    site = study.actor("imaging")
    inbox = site.get(f"{study.path}/inbox").raise_for_status().json()
    items = [one["item_id"] for one in inbox["items"]]
    token = site.sign_in().json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    with tapped(world.url) as (url, tap):
        for path in addresses(world, study, run, releases[0], items):
            httpx.get(url + path, headers=headers)
    return Played(study, run, releases, tap.exchanges)


def addresses(
    world: World, study: World, run: dict[str, Any], release: str, items: list[str]
) -> list[str]:
    """Every address that can be read, each of the inbox's items included."""
    described = HTTP.get(f"{world.url}/openapi.json").json()["paths"]
    named = {
        "study_id": study.study_id,
        "uploader": "imaging",
        "dataset": "1",
        "run_id": run["run_id"],
        "job_id": release,
        "release_id": release,
        "question_id": "question-1",
        "item_id": "ITEM",
    }
    found = []
    for path, ways in sorted(described.items()):
        if "get" not in ways or path.startswith("/health"):
            continue
        filled = re.sub(r"{(\w+)}", lambda m: named.get(m.group(1), "1"), path)
        found += [filled.replace("ITEM", item) for item in (items if "ITEM" in filled else [""])]
    return found


@pytest.fixture(scope="module")
def hits(world: World) -> Played:
    """Everybody of the imaging party is at both others."""
    return play(world, "all-there", lambda party: range(PEOPLE))


@pytest.fixture(scope="module")
def misses(world: World) -> Played:
    """Nobody is; the others share people of their own."""
    return play(
        world, "none-here", lambda p: range(PEOPLE) if p == "imaging" else range(500, 500 + PEOPLE)
    )


def form(exchange: tuple[bytes, bytes]) -> tuple[int, bytes, list[tuple[str, int]], int]:
    """Return what of an exchange somebody on the way, or the party, could go by."""
    asked, heard = exchange
    head, _, body = heard.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = [
        (name.decode(), len(value))
        for name, _, value in (line.partition(b": ") for line in lines)
        # Signed meanwhile or not, by the clock and not by the study.
        if name.lower() != b"linkage-audit-head"
    ]
    return len(asked), status, headers, len(body)


@pytest.mark.threat("T07")
def test_everything_on_the_wire_has_the_same_form_and_size(
    hits: Played, misses: Played, record_property: Callable[[str, object], None]
) -> None:
    assert hits.run["report"]["overlaps"].get("claims+enclave+imaging", 0) >= PEOPLE - 6
    assert not any("imaging+" in k or "+imaging" in k for k in misses.run["report"]["overlaps"])
    assert len(hits.exchanges) == len(misses.exchanges) >= 15
    for one, other in zip(hits.exchanges, misses.exchanges, strict=True):
        assert form(one) == form(other), (one[0].split(b"\r\n")[0], one[1], other[1])
    answered = sum(one[1].startswith(b"HTTP/1.1 200") for one in hits.exchanges)
    assert answered >= 10
    heard = sum(len(one[1]) for one in hits.exchanges)
    record_property("answers compared byte by byte", len(hits.exchanges))
    record_property("their bytes", heard)


@pytest.mark.threat("T07")
def test_ids_and_their_order_are_drawn_alike(
    hits: Played, misses: Played, record_property: Callable[[str, object], None]
) -> None:
    """The k-th smallest ID of a release is distributed as any other's; rows have no order."""
    drawn, orders = [], []
    for played in (hits, misses):
        rows = [crosswalk(played.study, "imaging", one) for one in played.releases]
        assert [len(one) for one in rows] == [PEOPLE] * len(rows)
        # 64 bits, of which the tables' own mark takes none at the front.
        values = np.concatenate(
            [[int.from_bytes(i[:8]) / 2.0**64 for i in one.values()] for one in rows]
        )
        assert len(set(values.tolist())) == len(values), "one ID a record: nobody is there twice"
        drawn.append(values)
        assert stats.kstest(values, "uniform").pvalue > ERROR
        orders += [
            stats.spearmanr([int.from_bytes(n[:6]) for n in one], range(len(one))).pvalue
            for one in rows
        ]
    alike = stats.ks_2samp(*drawn).pvalue
    record_property("IDs with and without any match, p of being drawn alike", f"{alike:.2f}")
    assert alike > ERROR
    assert min(orders) > ERROR


def test_no_call_takes_longer_for_who_matched(
    hits: Played, misses: Played, record_property: Callable[[str, object], None]
) -> None:
    """Of calls by turns, the medians; told, and bound only against what would be plain to see."""
    ratios = {}
    for name in ("", "/runs", "/inbox"):
        times: dict[str, list[float]] = {"hits": [], "misses": []}
        sites = [(k, p.study.actor("imaging"), p) for k, p in (("hits", hits), ("misses", misses))]
        for _ in range(40):
            for kind, site, played in sites:
                began = time.perf_counter()
                site.get(played.study.path + name).raise_for_status()
                times[kind].append(time.perf_counter() - began)
        one, other = (statistics.median(times[kind][2:]) for kind in ("hits", "misses"))
        ratios[name or "/"] = round(one / other, 2)
    record_property("median time of calls, all against none matched", str(ratios))
    assert all(0.2 < ratio < 5 for ratio in ratios.values()), ratios
