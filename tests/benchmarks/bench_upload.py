"""
Upload many gigabytes through a real server process over HTTP, and watch memory on both sides.

    python -m tests.benchmarks.bench_upload --gb 5
    python -m tests.benchmarks.bench_upload --gb 2 --body-mb 2000 --store http://127.0.0.1:4568
    python -m tests.benchmarks.bench_upload --records 6000000

Parts of a dataset version (8 MiB each, at most 16), or with --body-mb relayed bodies of that size,
which the enclave then fetches. The bytes are random and signed as a site signs them, so the server
does all that it always does: spool, digest, verify the signature, sync, place, row, audit entry.
With --records a dataset version of real records, which the worker opens. Prints one line of JSON.

--bucket keeps the packages in moto's server, which takes every request's body into memory and
holds each object twice. For gigabytes, --store names an S3 server that is running already and
writes to disk: the benchmark makes a bucket there, with the keys of --store-keys (a file as the AWS
tools write it), for instance s3rver from npm (`npx s3rver --directory FOLDER --port 4568`).
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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import numpy as np

from broker.blob_bucket import Credentials
from broker.config import Home, load_home
from linkage.messages import (
    BROKER,
    DATASET_PART,
    PART_BYTES,
    QUESTION_ANSWER,
    Manifest,
    Part,
)
from linkage.records import EncodedRecords, FixedColumn
from linkage.run_messages import RunRequest
from linkage.sealing import Context
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import HTTP, STUDY, World, make_world, opened, packages, running
from tests.questions import question as asking
from tests.s3_store import s3_store

MB = 1_000_000
_MOST_SECONDS = 1800
"""For a run or question to end on a busy machine."""
_PART_RECORDS = 25_000
_KEYS = "[default]\naws_access_key_id = S3RVER\naws_secret_access_key = S3RVER\n"


@dataclass(frozen=True, slots=True)
class Running:
    """An S3 server that somebody else started. keys: a file of its keys, None for s3rver's own."""

    endpoint: str
    keys: Path | None

    def give_to(self, home: Home) -> None:
        """Have a broker keep its packages there, in a new bucket."""
        file = home.path / "s3-credentials"
        file.touch(mode=0o600)
        file.write_text(self.keys.read_text() if self.keys else _KEYS)
        known = Credentials.load(file)
        bucket = f"sealed-{os.getpid()}"
        boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=known.access_key,
            aws_secret_access_key=known.secret_key,
            region_name="us-east-1",
        ).create_bucket(Bucket=bucket)
        config = home.path / "config.toml"
        config.write_text(
            f'{config.read_text()}\n[blobs]\nurl = "s3://{bucket}/broker"\n'
            f'endpoint = "{self.endpoint}"\ncredentials_file = "s3-credentials"\n'
            # It puts a body of 2 GB together from its pieces in one request, on a busy disk.
            "silent_seconds = 300\n"
            # s3rver is older than the checksums that clients put around bodies.
            f"checksums = {'true' if self.keys else 'false'}\n"
        )


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


def send_parts(world: World, total: int, at_once: int) -> dict[str, Any]:
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
    took = time.perf_counter() - started
    return {"bytes": sum(part.size for part in manifest.parts), "seconds": round(took, 2)}


def made_up(world: World, records: int) -> Package:
    """A package of so many records whose encodings are random bits, as diffused ones look."""
    study, draw = world.signed.study, np.random.default_rng(1)
    owner = study.party_of_uploader("imaging")

    def column(width: int) -> FixedColumn:
        values = np.frombuffer(draw.bytes(records * width), np.uint8).reshape(records, width)
        return FixedColumn(values, np.ones(records, bool))

    names = np.sort(np.frombuffer(draw.bytes(records * 16), "S16")).view(np.uint8)
    rows = EncodedRecords(
        names.reshape(records, 16),
        np.arange(records, dtype=np.uint32),
        {clk.id: column(clk.length // 8) for clk in study.clks_of(owner)},
        {rule.id: column(16) for rule in study.rules_of(owner)},
    )
    parts = -(-records // _PART_RECORDS)
    return pack(world.signed, world.identities["imaging"], rows, parts=parts)


def open_records(world: World, records: int) -> dict[str, Any]:
    """Upload a dataset version and let the worker open it; return its figures."""
    package = made_up(world, records)
    size = sum(map(len, package.parts))
    started = time.perf_counter()
    world.upload(package)
    sent = time.perf_counter() - started
    worker = world.work()
    started = time.perf_counter()
    until = started + _MOST_SECONDS
    while True:
        try:
            state = opened(world, "imaging")
            break
        except TimeoutError:
            if time.perf_counter() > until:
                raise
    if state["state"] != "complete":
        raise RuntimeError(state["reason"])
    took = time.perf_counter() - started
    _, peak = resident_mb(worker.pid)
    return {
        "bytes": size,
        "seconds": round(sent, 2),
        "records": records,
        "opened_seconds_from_start": round(took, 1),
        "worker_mb_peak": round(peak, 1),
    }


def send_bodies(world: World, total: int, size: int) -> dict[str, Any]:
    """Relay bodies of so many bytes to the enclave, one after the other, which fetches each."""
    world.work()
    for package in packages(world, people=40, overlap=20).values():
        world.upload(package)
    run = world.actor("admin").post(f"{world.path}/runs", RunRequest()).json()["run_id"]
    world.finish(f"{world.path}/runs/{run}", _MOST_SECONDS)
    sent, spent, fetching = 0, 0.0, 0.0
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
        answer = world.actor("imaging").call(
            "PUT", f"{world.path}/outbox", content=pieces(), params=to
        )
        item = answer.raise_for_status().json()
        spent += time.perf_counter() - started
        sent += len(head) + size
        started = time.perf_counter()
        path = f"{world.url}{world.path}/inbox/{item['item_id']}"
        known = {"Authorization": f"Bearer {enclave.token}"}
        with HTTP.stream("GET", path, headers=known) as fetched:
            digest = hashlib.sha256()
            for piece in fetched.raise_for_status().iter_bytes():
                digest.update(piece)
        if digest.hexdigest() != item["digest"]:
            raise RuntimeError("another body came back")
        fetching += time.perf_counter() - started
    return {
        "bytes": sent,
        "seconds": round(spent, 2),
        "fetched_mb_per_second": round(sent / MB / fetching, 1),
    }


def measure(
    gb: float,
    *,
    at_once: int,
    body_mb: int,
    bucket: bool,
    folder: Path,
    store: Running | None = None,
    records: int = 0,
) -> dict[str, Any]:
    """Run one upload; return throughput and memory."""
    with ExitStack() as stack:
        text = STUDY.replace("length = 1024", "length = 2048") if records else STUDY
        world = make_world(folder, text=text.replace("100_000", str(max(100_000, records))))
        if bucket:
            stack.enter_context(s3_store()).give_to(world.home)
        if store is not None:
            store.give_to(world.home)
        world.home = load_home(world.home.path)
        stack.enter_context(running(world, worker=False))
        server = world.processes[0]
        world.actor("imaging").get(world.path).raise_for_status()
        before, _ = resident_mb(server.pid)
        total = int(gb * 1e9)
        if records:
            found = open_records(world, records)
        elif body_mb:
            found = send_bodies(world, total, body_mb * MB)
        else:
            found = send_parts(world, total, at_once)
        _, peak = resident_mb(server.pid)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    return found | {
        "mb_per_second": round(found["bytes"] / MB / found["seconds"], 1),
        "server_mb_before": round(before, 1),
        "server_mb_peak": round(peak, 1),
        "client_mb_peak": round(own, 1),
        "connections": 1 if body_mb or records else at_once,
        "body_mb": body_mb or round(PART_BYTES / MB, 1),
        "store": store.endpoint if store else "moto" if bucket else "folder",
    }


def main() -> None:
    """Measure as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--at-once", type=int, default=4, help="connections, for parts")
    parser.add_argument("--body-mb", type=int, default=0, help="relayed bodies of this size")
    parser.add_argument("--bucket", action="store_true", help="through moto's server")
    parser.add_argument("--store", help="through this S3 server, which is running")
    parser.add_argument("--store-keys", type=Path, help="a file; default: those of s3rver")
    parser.add_argument("--records", type=int, default=0, help="of a dataset version to be opened")
    parser.add_argument("--folder", type=Path, help="where; default: a temporary folder")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        made = measure(
            told.gb,
            at_once=told.at_once,
            body_mb=told.body_mb,
            bucket=told.bucket,
            folder=Path(folder),
            store=Running(told.store, told.store_keys) if told.store else None,
            records=told.records,
        )
    sys.stdout.write(json.dumps(made | {"cores": os.cpu_count()}) + "\n")


if __name__ == "__main__":
    main()
