"""
How fast this machine turns records into encodings, beside clkhash itself.

    result = bench_encode(1_000_000)

Two jobs on simulated people. Plain: five fields to CLKs, from records in memory to bits in
memory, every processor used by both; clkhash 0.18.3, which cannot be installed beside a current
`cryptography`, runs in an environment of its own, with its own worker processes. Hardened: six
fields from a CSV file to a sealed package with ten match keys, by the program `linkage-site`
itself, its start and its reading included. Every bit of the plain job is compared.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import mmap
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.memory import watch
from linkage.evaluation.mistakes import RATES, as_registered
from linkage.evaluation.population import draw_persons, draw_vitals, stream
from linkage.messages import BROKER, CUSTODIAN
from linkage.schema import clk_schema, parse_schema, schema_hash
from linkage.sealing import Identity, write_secret
from linkage.signed_study import sign_study
from linkage.study import ClkSpec, StudyConfig, parse_study

if TYPE_CHECKING:
    from linkage.encoding.clk import PlainClks

CLKHASH = "0.18.3"
PLAIN = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
HARDENED = (*PLAIN, "street")
_SLICE = 25_000

Record = tuple[str, ...]
Progress = Callable[[str], None]

_HEAD = """
[study]
id = "benchmark"
title = "Benchmark"
purpose = "measuring speed"
release_gate_exception = "simulated people, whose encodings nobody keeps"
"""
_PARTY = """
[[party]]
id = "{id}"
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex", "street"]
"""
_PLAIN_CLK = """
[[clk]]
id = "plain"
length = 1024
fields = [
    { field = "first_name", bits = 60 }, { field = "middle_name", bits = 40 },
    { field = "last_name", bits = 60 }, { field = "date_of_birth", bits = 80 },
    { field = "sex", bits = 20 },
]
"""
_HARDENED_CLK = """
[[clk]]
id = "all"
diffusion = 10
fields = [
    { field = "first_name" }, { field = "middle_name", bits = 60 }, { field = "last_name" },
    { field = "date_of_birth", bits = 140 }, { field = "sex", bits = 40 },
    { field = "street", bits = 140 },
]
"""
_RULES = (
    ("first_name", "middle_name:initial", "last_name"),
    ("last_name", "date_of_birth"),
    ("first_name", "date_of_birth"),
    ("first_name:3", "middle_name:initial", "date_of_birth"),
    ("last_name:sound", "date_of_birth", "sex"),
    ("first_name", "last_name", "date_of_birth:month_day"),
    ("first_name", "last_name", "date_of_birth:year"),
    ("street", "first_name"),
    ("street", "middle_name:initial", "last_name"),
    ("street:house_number", "first_name", "last_name"),
)
_SITE = """
party = "one"
[source]
file = "people.csv"
record_id = "id"
date_format = "YYYYMMDD"
[source.columns]
first_name = "first_name"
middle_name = "middle_name"
last_name = "last_name"
date_of_birth = "date_of_birth"
sex = "sex"
street = "street"
[broker]
url = "https://broker.invalid"
custodian = "{fingerprint}"
"""

# Runs in clkhash's own environment: nothing of ours is there.
_CLKHASH_PROGRAM = """
import csv, hashlib, json, sys, time
from importlib.metadata import version
from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict
if __name__ == "__main__":
    rows = [tuple(row) for row in csv.reader(open(sys.argv[1], newline=""))]
    schema = from_json_dict(json.load(open(sys.argv[2])))
    secret = open(sys.argv[3], "rb").read()
    start = time.perf_counter()
    clks = generate_clks(rows, schema, secret)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for clk in clks:
        digest.update(clk.tobytes())
    print(json.dumps({"seconds": seconds, "digest": digest.hexdigest(),
                      "version": version("clkhash")}))
"""


@dataclass(frozen=True, slots=True)
class EncodeBench:
    """
    Rates in records a second; ratio: of plain CLKs, ours to clkhash's. identical: every bit.
    Ours are medians of `repeats` runs, those of the plain job before and after clkhash's, which is
    long enough for one. hardened_seconds: of the whole program. peak_memory_mb: of all its
    processes together, what they share counted once. workers: of the hardened job.
    """

    records: int
    processors: int
    workers: int
    repeats: int
    records_per_second: float
    hardened_records_per_second: float
    hardened_seconds: float
    clkhash_records_per_second: float
    ratio: float
    identical: bool
    clkhash_version: str
    peak_memory_mb: float


def bench_encode(
    records: int,
    *,
    workers: int = 2,
    repeats: int = 3,
    folder: Path | None = None,
    clkhash_python: Path | None = None,
    progress: Progress = lambda step: None,
) -> EncodeBench:
    """
    Run both jobs on `records` simulated people.

    folder: where files are made (several hundred bytes a record; default: the system's temporary
    folder). clkhash_python: a Python that has clkhash; default: an environment made once in the
    user's cache, which needs a package index. Raises LinkageError with a remedy.
    """
    if not 1_000 <= records <= 100_000_000:
        raise LinkageError("a benchmark of encoding needs 1,000 to 100,000,000 records")
    theirs_python = clkhash_python or clkhash_environment(progress)
    processors = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=folder) as made:
        work = Path(made)
        progress("simulating people")
        people = _people(records)
        progress("writing the site's file")
        _write_site(work, people)
        plain = [tuple(record) for record in zip(*(people[f] for f in PLAIN), strict=True)]
        del people
        secret = os.urandom(32)
        progress("plain CLKs, ours")
        runs = [_plain(plain, secret, processors) for _ in range(repeats)]
        _write_for_clkhash(work, plain, secret)
        progress(f"plain CLKs, clkhash on {processors} processors")
        theirs = _clkhash(work, theirs_python)
        progress("plain CLKs, ours again")
        runs += [_plain(plain, secret, processors) for _ in range(repeats)]
        del plain
        ours, digests = median(seconds for seconds, _ in runs), {digest for _, digest in runs}
        progress("hardened encodings, CSV file to sealed package")
        spent = median(_tokenize(work, workers) for _ in range(repeats))
        progress("the same once more, for its memory")
        peak = [0.0]
        _tokenize(work, workers, peak)
    return EncodeBench(
        records=records,
        processors=processors,
        workers=workers,
        records_per_second=records / ours,
        hardened_records_per_second=records / spent,
        hardened_seconds=spent,
        clkhash_records_per_second=records / theirs["seconds"],
        ratio=theirs["seconds"] / ours,
        repeats=repeats,
        identical=digests == {theirs["digest"]},
        clkhash_version=theirs["version"],
        peak_memory_mb=peak[0],
    )


def clkhash_environment(progress: Progress = lambda step: None) -> Path:
    """
    Return the Python of an environment that holds clkhash 0.18.3 alone; made at the first call.

    Raises LinkageError where it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "commons-linkage" / f"clkhash-{CLKHASH}"
    python = home / "bin" / "python"
    if (home / "ready").exists():
        return python
    progress(f"making an environment for clkhash {CLKHASH}")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", f"clkhash=={CLKHASH}"],
    ):
        if subprocess.run(command, capture_output=True).returncode:
            raise LinkageError(
                f"an environment for clkhash {CLKHASH} cannot be made in {home}",
                hint="it needs a package index; or give a Python that has it, --clkhash-python",
            )
    (home / "ready").touch()
    return python


def _people(count: int) -> dict[str, list[str]]:
    """Return columns of `count` simulated people, as an imaging commons would hold them."""
    persons = draw_persons(draw_vitals(count, stream(1, 0, 1)), 0, 1, stream(1, 0, 2))
    fields = as_registered(persons, RATES["imaging"], stream(1, 0, 3))
    return {name: list(fields[name]) for name in HARDENED}


def _plain(records: list[Record], secret: bytes, processors: int) -> tuple[float, str]:
    """
    Return seconds and SHA-256 of all plain CLKs.

    The children are forked, so that they have the records without copying them, and write into
    one shared map.
    """
    global _job
    schema = parse_schema(clk_schema(*_plain_study()))
    _warm_up(records[:100], secret)
    start = time.perf_counter()
    width = schema.length // 8
    shared = mmap.mmap(-1, len(records) * width)
    _job = (records, secret, shared)
    starts = range(0, len(records), _SLICE)
    with multiprocessing.get_context("fork").Pool(processors) as pool:
        for _ in pool.imap_unordered(_encode_slice, starts):
            pass
    seconds = time.perf_counter() - start
    _job = None
    return seconds, hashlib.sha256(shared).hexdigest()


_job: tuple[Sequence[Record], bytes, mmap.mmap] | None = None


def _encode_slice(start: int) -> None:
    assert _job is not None  # noqa: S101 (set before the children are forked)
    records, secret, shared = _job
    filters = _encoded(records[start : start + _SLICE], secret)
    shared[start * filters.shape[1] : start * filters.shape[1] + filters.size] = filters.tobytes()


def _encoded(records: Sequence[Record], secret: bytes) -> npt.NDArray[np.uint8]:
    from linkage.encoding.columns import Coded

    # `zip(*records)` takes four times as long: it unpacks every record as an argument.
    columns = [Coded.of(list(map(itemgetter(i), records))) for i in range(len(PLAIN))]
    filters, _ = _encoder(secret).encode(columns)
    return filters


@functools.lru_cache(maxsize=1)
def _encoder(secret: bytes) -> PlainClks:
    """Return this process's encoder, which keeps the positions of n-grams over its slices."""
    from linkage.encoding.clk import PlainClks

    return PlainClks(parse_schema(clk_schema(*_plain_study())), secret)


_warm_up = _encoded
"""Compiling, or loading what was compiled before, is no part of a rate."""


def _plain_study() -> tuple[StudyConfig, ClkSpec]:
    study = parse_study(
        _HEAD + _PARTY.format(id="one") + _PARTY.format(id="two") + _PLAIN_CLK + _rules(),
        file="benchmark",
    )
    return study, study.clk[0]


def _rules() -> str:
    return "".join(
        f'[[match_key]]\nid = "rule-{i}"\nfields = {json.dumps(fields)}\n'
        for i, fields in enumerate(_RULES, start=1)
    )


def _write_site(work: Path, people: dict[str, list[str]]) -> None:
    """Write a site's folder as its operator would have it after the key ceremony."""
    count = len(people["sex"])
    with (work / "people.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", *HARDENED))
        columns = (people[field] for field in HARDENED)
        writer.writerows(zip(map(str, range(count)), *columns, strict=True))
    text = _HEAD + _PARTY.format(id="one") + _PARTY.format(id="two") + _HARDENED_CLK + _rules()
    study, key = parse_study(text, file="benchmark"), StudyKey.generate()
    actors = {name: Identity.generate(name) for name in ("one", "two", BROKER, CUSTODIAN)}
    signed = sign_study(
        text,
        {name: actor.public() for name, actor in actors.items() if name != CUSTODIAN},
        schema_hash=schema_hash(study),
        key_check=key.key_check(study),
        custodian=actors[CUSTODIAN],
    )
    write_secret(work / "private" / "identity.key", actors["one"].to_bytes())
    write_secret(work / "private" / "study.key", key.to_bytes())
    signed_text = signed.model_dump_json()
    (work / "private" / "signed-study.json").write_text(signed_text, encoding="utf-8")
    fingerprint = actors[CUSTODIAN].public().fingerprint
    (work / "site.toml").write_text(_SITE.format(fingerprint=fingerprint), encoding="utf-8")


def _write_for_clkhash(work: Path, records: Sequence[Record], secret: bytes) -> None:
    with (work / "plain.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(records)
    (work / "schema.json").write_text(json.dumps(clk_schema(*_plain_study())), encoding="utf-8")
    write_secret(work / "plain.secret", secret)


def _clkhash(work: Path, python: Path) -> dict[str, Any]:
    program = work / "clkhash_program.py"
    program.write_text(_CLKHASH_PROGRAM, encoding="utf-8")
    files = [work / name for name in ("plain.csv", "schema.json", "plain.secret")]
    try:
        done = subprocess.run([python, program, *files], capture_output=True, text=True, cwd=work)
    except OSError as fault:
        raise LinkageError(
            f"{python} cannot be run ({type(fault).__name__})",
            hint="name a Python that has clkhash, or leave out --clkhash-python: then one is made",
        ) from None
    if done.returncode:
        raise LinkageError(
            f"clkhash fails in {python}", hint="is clkhash installed there? try it by hand"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tokenize(work: Path, workers: int, peak: list[float] | None = None) -> float:
    """
    Run `linkage-site tokenize`; return its seconds. peak: where to keep the most MB it held; to
    ask that of the kernel five times a second takes a tenth of a processor.
    """
    for made in ("packages", "map-1", "kept"):
        shutil.rmtree(work / "private" / made, ignore_errors=True)  # of the run before
    program = Path(sys.executable).with_name("linkage-site")
    site = str(work / "site.toml")
    command = [str(program), "tokenize", "--site", site, "--workers", str(workers), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        sampler = threading.Thread(target=watch, args=(running, peak))
        if peak is not None:
            sampler.start()
        said = running.stderr.read() if running.stderr else b""
        running.wait()
        seconds = time.perf_counter() - start
        if peak is not None:
            sampler.join()
    if running.returncode:
        raise LinkageError(
            f"linkage-site tokenize ended with {running.returncode}: {said.decode()[-500:]}",
            hint="install commons-linkage[site]",
        )
    return seconds
