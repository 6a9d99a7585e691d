"""
Upload many gigabytes through a real server process over HTTP, and watch memory on both sides.

    python -m tests.benchmarks.bench_upload --gb 5
    python -m tests.benchmarks.bench_upload --gb 5 --body-mb 2000 --bucket

Parts of a dataset version (8 MiB each, at most 16), or with --body-mb relayed bodies of that size.
The bytes are random and signed as a site signs them, so the server does all that it always does:
spool, digest, verify the signature, sync, place, row, audit entry. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from broker.config import load_home
from linkage.messages import (
    BROKER,
    DATASET_PART,
    PART_BYTES,
    QUESTION_ANSWER,
    Manifest,
    Part,
)
from linkage.run_messages import RunRequest
from linkage.sealing import Context
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, packages, running
from tests.questions import question as asking
from tests.s3_store import s3_store

MB = 1_000_000
_MOST_SECONDS = 1800
"""For a run or question to end on a busy machine."""


def resident_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at its highest, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(found["VmRSS"]) * 1024 / MB, int(found["VmHWM"]) * 1024 / MB


@lru_cache
def _block(seed: int) -> bytes:
    return hashlib.shake_256(str(seed).encode()).digest(1 << 20)


class Signed:
    """`size` bytes under the seal's frame: a pseudo-random megabyte again and again."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self._block = size, _block(seed % 4)

    def pieces(self) -> Iterator[bytes]:
        left = self.size
        while left:
            yield self._block[:left]
            left -= min(left, len(self._block))

    def head(self, world: World, sender: str, context: Context) -> bytes:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        signature = world.identities[sender].sign(context.info() + digest.digest())
        return b"CLS1" + signature


def parts_of(world: World, total: int, dataset: int) -> tuple[Manifest, list[tuple[bytes, Signed]]]:
    """A manifest of so many bytes in parts of 8 MiB, and what makes each part."""
    count = max(1, total // PART_BYTES)
    good = pack(
        world.signed, world.identities["imaging"], encoded(world.signed, "imaging", range(5))
    ).manifest
    made, listed = [], []
    for number in range(1, count + 1):
        details = (str(dataset), str(number), str(count))
        context = Context(world.study_id, "imaging", BROKER, DATASET_PART, details)
        body = Signed(PART_BYTES, number)
        head = body.head(world, "imaging", context)
        digest = hashlib.sha256(head)
        for piece in body.pieces():
            digest.update(piece)
        made.append((head, body))
        listed.append(
            Part(number=number, size=len(head) + body.size, records=1, digest=digest.hexdigest())
        )
    fields = {"parts": tuple(listed), "records": count, "groups": count, "dataset": dataset}
    return good.model_copy(update=fields).sign(world.identities["imaging"]), made


def send_parts(world: World, total: int, at_once: int) -> tuple[int, float]:
    """Upload a dataset version with so many connections; return bytes and seconds."""
    manifest, made = parts_of(world, total, 1)
    world.actor("imaging").post(f"{world.path}/datasets", manifest).raise_for_status()
    at = f"{world.path}/datasets/imaging/1"
    started = time.perf_counter()
    waiting = list(enumerate(made, start=1))
    lock, faults = threading.Lock(), list[str]()

    def work() -> None:
        site = world.actor("imaging")
        while True:
            with lock:
                if not waiting:
                    return
                number, (head, body) = waiting.pop()
            sealed = head + b"".join(body.pieces())
            answer = site.put(f"{at}/parts/{number}", sealed)
            # As a site's client does, where the store or the disk is busy.
            while answer.status_code == 503:
                time.sleep(float(answer.headers["retry-after"]))
                answer = site.put(f"{at}/parts/{number}", sealed)
            if answer.status_code != 204:
                faults.append(answer.text)

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(faults[0])
    world.actor("imaging").post(f"{at}/complete").raise_for_status()
    return sum(part.size for part in manifest.parts), time.perf_counter() - started


def send_bodies(world: World, total: int, size: int) -> tuple[int, float]:
    """Relay bodies of so many bytes to the enclave, one after the other."""
    world.work()
    for package in packages(world, people=40, overlap=20).values():
        world.upload(package)
    run = world.actor("admin").post(f"{world.path}/runs", RunRequest()).json()["run_id"]
    world.finish(f"{world.path}/runs/{run}", _MOST_SECONDS)
    sent, spent = 0, 0.0
    while sent < total:
        ask = asking(clinical={"n": sent})
        enclave = world.actor("enclave")
        job = enclave.post(f"{world.path}/questions", ask).raise_for_status().json()["job_id"]
        world.finish(f"{world.path}/questions/{job}", _MOST_SECONDS)
        context = Context(world.study_id, "imaging", "enclave", QUESTION_ANSWER, (job,))
        body = Signed(size, 1)
        head = body.head(world, "imaging", context)

        def pieces(head: bytes = head, body: Signed = body) -> Iterator[bytes]:
            yield head
            yield from body.pieces()

        to = {"recipient": "enclave", "purpose": QUESTION_ANSWER, "subject": job}
        started = time.perf_counter()
        world.actor("imaging").call(
            "PUT", f"{world.path}/outbox", content=pieces(), params=to
        ).raise_for_status()
        spent += time.perf_counter() - started
        sent += len(head) + size
    return sent, spent


def measure(gb: float, *, at_once: int, body_mb: int, bucket: bool, folder: Path) -> dict[str, Any]:
    """Run one upload; return throughput and memory."""
    with ExitStack() as stack:
        world = make_world(folder)
        if bucket:
            stack.enter_context(s3_store()).give_to(world.home)
        config = world.home.path / "config.toml"
        config.write_text(f"{config.read_text()}\n[limits]\ndataset_records = 1000000\n")
        world.home = load_home(world.home.path)
        stack.enter_context(running(world, worker=False))
        server = world.processes[0]
        world.actor("imaging").get(world.path).raise_for_status()
        before, _ = resident_mb(server.pid)
        total = int(gb * 1e9)
        if body_mb:
            sent, seconds = send_bodies(world, total, body_mb * MB)
        else:
            sent, seconds = send_parts(world, total, at_once)
        _, peak = resident_mb(server.pid)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    return {
        "bytes": sent,
        "seconds": round(seconds, 2),
        "mb_per_second": round(sent / MB / seconds, 1),
        "server_mb_before": round(before, 1),
        "server_mb_peak": round(peak, 1),
        "client_mb_peak": round(own, 1),
        "connections": 1 if body_mb else at_once,
        "body_mb": body_mb or round(PART_BYTES / MB, 1),
        "store": "bucket" if bucket else "folder",
    }


def main() -> None:
    """Measure as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--at-once", type=int, default=4, help="connections, for parts")
    parser.add_argument("--body-mb", type=int, default=0, help="relayed bodies of this size")
    parser.add_argument("--bucket", action="store_true", help="through a store that speaks S3")
    parser.add_argument("--folder", type=Path, help="where; default: a temporary folder")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        made = measure(
            told.gb,
            at_once=told.at_once,
            body_mb=told.body_mb,
            bucket=told.bucket,
            folder=Path(folder),
        )
    sys.stdout.write(json.dumps(made | {"cores": os.cpu_count()}) + "\n")


if __name__ == "__main__":
    main()
