"""
Faults other than kills: the database stopped, a disk full, the clock put forward and back.

Each is there for a few seconds in the middle of an upload and of a run. What a caller gets
meanwhile must be a clean refusal; once it is mended, all must go on by itself within a minute,
or the run have failed with cause and remedy, and give the same digest.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.broker_world import wait_for
from tests.drill.stand import Postgres, Stand, standing
from tests.drill.workload import Refused, Workload, packages_of

MOST_SECONDS = 60.0
"""Clean error or resumption within so many seconds (issue: faults)."""
_BROKEN_SECONDS = 3.0
_CLEAN = {401, 503}


class Skipped(Exception):
    """This machine cannot make the fault; the text says why."""


@dataclass(slots=True)
class Breaking:
    """
    How to break something and to mend it. refused: whether callers must be refused meanwhile.
    """

    stand: Stand
    break_it: Callable[[], None]
    mend: Callable[[], None]
    refused: bool = True


def all_faults(server: Postgres, *, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Make every fault in turn; return what each did."""
    made: dict[str, Callable[[], Any]] = {
        "postgresql stopped": lambda: stopped_database(server),
        "disk full: blobs": lambda: full_disk("blobs"),
        "disk full: database": lambda: full_disk("database"),
        "disk full: workflows": lambda: full_disk("workflows"),
        "clock put forward": lambda: wrong_clock(3600),
        "clock put back": lambda: wrong_clock(-3600),
    }
    found = {}
    for name, make in made.items():
        say(f"{name} ...")
        found[name] = survived(make)
        say(f"  {json.dumps(found[name])}")
    return found


def survived(make: Callable[[], Any]) -> dict[str, Any]:
    """Make one fault, and say how it went: ok, None where it could not be made."""
    try:
        with make() as breaking:
            return _survive(breaking)
    except Skipped as reason:
        return {"ok": None, "skipped": str(reason)}
    except Refused as refused:
        return {"ok": False, "fault": str(refused)}


def _survive(breaking: Breaking) -> dict[str, Any]:
    work = Workload(breaking.stand.world)
    work.round(1)
    clean, uploaded = _in_upload(work, breaking)
    run_id = work.start_run(2)
    _wait_until_running(work, run_id)
    breaking.break_it()
    time.sleep(_BROKEN_SECONDS)
    breaking.mend()
    began, cause = time.monotonic(), ""
    try:
        ended = work.finished(f"runs/{run_id}")
    except Refused as refused:
        cause = str(refused)
        took = time.monotonic() - began
        ended = work.finished(f"runs/{work.start_run(2)}")
    else:
        took = time.monotonic() - began
    equal = ended["result_digest"] == work.told.digests[1]
    clean = clean and (not cause or "Hint:" in cause)
    return {
        "ok": clean and equal and max(uploaded, took) < MOST_SECONDS,
        "clean_error": clean,
        "digest_equal": equal,
        "upload_resumed_seconds": round(uploaded, 1),
        "run_ended_seconds": round(took, 1),
        "run": cause or "done",
    }


def _in_upload(work: Workload, breaking: Breaking) -> tuple[bool, float]:
    """Break in the middle of an upload: was the refusal clean, and how long did it take then?"""
    first, *others = packages_of(work.world, 2)
    who, at = first.manifest.uploader, f"{work.world.path}/datasets"
    work.insist(who, "POST", at, message=first.manifest)
    work.insist(who, "PUT", f"{at}/{who}/2/parts/1", content=first.parts[0])
    breaking.break_it()
    clean = _is_refused(work, who, f"{at}/{who}/2/parts/2", first.parts[1]) or not breaking.refused
    breaking.mend()
    began = time.monotonic()
    for package in (first, *others):
        work.upload(package)
    return clean, time.monotonic() - began


def _is_refused(work: Workload, who: str, path: str, data: bytes) -> bool:
    """Ask for a few seconds; is the last answer a problem document with a remedy?"""
    actor, until, clean = work.world.actor(who), time.monotonic() + _BROKEN_SECONDS, False
    while time.monotonic() < until:
        try:
            signed_in = actor.sign_in()
            if signed_in.is_success:
                actor.token = signed_in.json()["access_token"]
                answer = actor.put(path, data)
            else:
                answer = signed_in
        except httpx.TransportError:
            clean = False
        else:
            clean = answer.status_code in _CLEAN and bool(answer.json()["hint"])
        time.sleep(0.1)
    return clean


def _wait_until_running(work: Workload, run_id: str) -> None:
    path = f"{work.world.path}/runs/{run_id}"
    wait_for(lambda: work.insist("admin", "GET", path)["stage"] != "", 60)


@contextmanager
def stopped_database(server: Postgres) -> Iterator[Breaking]:
    """PostgreSQL, stopped as by a power cut and started again."""
    with _folder() as folder, standing(folder, server.new_url()) as stand:
        yield Breaking(stand, server.stop, server.start)


@contextmanager
def full_disk(what: str) -> Iterator[Breaking]:
    """A small disk of its own for the blobs, the database or the workflows, filled to the brim."""
    with _folder() as folder, _small_disk(folder / "disk") as disk:
        url = f"sqlite:///{disk / 'broker.sqlite'}" if what == "database" else None
        stand = Stand.at(folder, url)
        home = stand.world.home.path
        # The reserve would keep callers from filling the disk; here it is full whatever they do.
        config = home / "config.toml"
        config.write_text(config.read_text() + "\n[limits]\nreserve_bytes = 0\n")
        if what == "blobs":
            shutil.rmtree(home / "blobs")
            disk.joinpath("blobs").mkdir()
            home.joinpath("blobs").symlink_to(disk / "blobs")
        elif what == "workflows":
            shutil.move(home / "workflows.sqlite", disk / "workflows.sqlite")
            home.joinpath("workflows.sqlite").symlink_to(disk / "workflows.sqlite")
        filler = disk / "filler"
        with stand.on():
            yield Breaking(stand, lambda: _fill(filler), filler.unlink, refused=what != "workflows")


@contextmanager
def wrong_clock(offset: int) -> Iterator[Breaking]:
    """Both processes' wall clock, put forward or back while they run, and put right again."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Skipped("a C compiler is needed (Debian: gcc, libc6-dev)")
    with _folder() as folder:
        library, clock = folder / "clock.so", folder / "clock"
        source = Path(__file__).with_name("clock.c")
        options = ["-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run([compiler, *options], check=True)
        clock.write_bytes(struct.pack("=q", 0))
        stand = Stand.at(folder)
        stand.environment = {"LD_PRELOAD": str(library), "DRILL_CLOCK": str(clock)}
        with stand.on():
            yield Breaking(stand, lambda: _set(clock, offset), lambda: _set(clock, 0))


def _set(clock: Path, seconds: int) -> None:
    with clock.open("r+b", buffering=0) as file:
        file.write(struct.pack("=q", seconds))


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="commons-linkage-drill-") as folder:
        yield Path(folder)


@contextmanager
def _small_disk(at: Path) -> Iterator[Path]:
    """Mount 16 MiB of memory. Raises Skipped without the right to."""
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(at)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise Skipped("only root may mount a small disk here") from None
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)
