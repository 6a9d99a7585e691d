"""
How long a cohort takes at full size: `linkage-site bench-cohort`.

    measured = run(Plan(index=Path("idc_index.parquet"), omop=folder, ...))

Three stages, each in a process of its own because each is another party's or another day's work,
by the same functions as in earnest: the imaging commons answers and encrypts its rows, the enclave
counts, the enclave opens the rows of its own persons and delivers. Not in the times: sealing of the
answer as a whole, the network, the broker. Peak memory is the largest of the stages.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from linkage import delivery
from linkage.cohort.spec import CohortSpec
from linkage.pseudonyms import format_id
from linkage.study_parts import CountRules
from sites.answer_parts import pack_answer, unpack_answer
from sites.cohort.attrition import Attrition
from sites.cohort.bench_data import CREATININE, LUNG_CANCER
from sites.cohort.bundle import unpadded
from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.counts import CountAsked, answer_counts
from sites.cohort.imaging import evaluate
from sites.cohort.join import Terms, asked_of, deliver, matches_table
from sites.cohort.ledger import Ledger, UnsafeFolder
from sites.cohort.omop import OmopSource
from sites.cohort.tables import connect, count_of, read_file

QUESTION = f"""
[cohort]
id = "bench"
title = "CT of persons with lung cancer and a measured creatinine"
purpose = "Measure how long a cohort takes."

[imaging]
modality = "CT"

[[clinical.concepts]]
domain = "condition"
concept_id = {LUNG_CANCER}

[[clinical.concepts]]
domain = "measurement"
concept_id = {CREATININE}
"""
"""What is asked where no specification is given."""

_KEY = hashlib.sha256(b"bench-cohort: a key that protects nothing").digest()
_MEGABYTE = 1024 * 1024
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What is measured. index: series table in the columns of the Imaging Data Commons; omop: folder
    of tables; linked: subjects that are also persons; work: an empty folder for what is made.
    """

    index: Path
    omop: Path
    work: Path
    linked: int
    spec: CohortSpec
    minimum_cell: int = 11

    @property
    def imaging(self) -> ImagingConfig:
        return ImagingConfig(
            file=self.index, record_id=("collection_id", "PatientID"), date_frame="shifted"
        )


def run(plan: Plan, *, told: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """
    Measure all stages and return the figures.

    told: called with the name of each stage as it begins. Raises what the stages raise.
    """
    plan.work.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Any] = {}
    for name, stage in (
        ("the imaging commons answers", imaging_stage),
        ("the enclave counts", clinical_stage),
        ("the enclave opens and joins", delivery_stage),
    ):
        told(name)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as one:
            found = one.submit(stage, plan).result()
        peak = max(measured.get("peak_memory_mb", 0), found.pop("peak_memory_mb"))
        measured |= found | {"peak_memory_mb": peak}
    return measured


def imaging_stage(plan: Plan) -> dict[str, Any]:
    """Answer the imaging half, and encrypt the rows of every subject that fits."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "imaging_seconds"):
        answer = evaluate(plan.imaging, plan.spec.imaging)
        # As in an answer: one question ID for each subject, and which of them qualify.
        ids = [_question_id(record_id) for record_id in answer.record_ids]
        matrix = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
        everybody = _subjects(plan)
        packed = pack_answer(answer.attrition, matrix, size=len(everybody))
        (plan.work / "answer").write_bytes(packed)
    with _timed(seconds, "encryption_seconds"):
        rows = [
            delivery.encrypt_rows(_KEY, record_id.encode(), bundle)
            for record_id, bundle in answer.packed()
        ]
        (plan.work / "rows").write_bytes(delivery.pack_rows(rows))
    # Linked are the first subjects in an order that has nothing to do with what they have.
    linked = sorted(everybody, key=lambda one: hashlib.sha256(one.encode()).digest())
    (plan.work / "linked").write_text(json.dumps(linked[: plan.linked]), encoding="utf-8")
    return {
        "series": answer.attrition.steps[0].series,
        "subjects": len(everybody),
        "subjects_that_fit": len(answer.record_ids),
        **seconds,
        "peak_memory_mb": _peak(),
    }


def clinical_stage(plan: Plan) -> dict[str, Any]:
    """Count the enclave's own persons who fit both halves."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "clinical_seconds"):
        answer = unpack_answer((plan.work / "answer").read_bytes())
        with OmopSource.open(OmopConfig(path=plan.omop)) as source:
            own = {person: _question_id(one).hex() for one, person in _linked(plan, source)}
            counts = answer_counts(
                {one.tobytes().hex() for one in answer.question_ids},
                own,
                plan.spec.clinical,
                source,
                ledger=Ledger(
                    UnsafeFolder(plan.work), bytes(32), CountRules(), minimum=plan.minimum_cell
                ),
                asked=CountAsked(question="bench", run="bench", at=0.0),
            )
            size = {
                "persons": count_of(source.table("person").count()),
                "clinical_rows": _clinical_rows(source),
            }
    return {
        **size,
        "persons_linked": len(own),
        "persons_counted": counts.persons,
        **seconds,
        "peak_memory_mb": _peak(),
    }


def delivery_stage(plan: Plan) -> dict[str, Any]:
    """Open the rows of the enclave's own persons, join and write the delivery."""
    seconds: dict[str, float] = {}
    peak: dict[str, int] = {}
    with (
        _children_watched(peak),
        _timed(seconds, "delivery_seconds"),
        OmopSource.open(OmopConfig(path=plan.omop)) as source,
    ):
        encrypted = dict(delivery.unpack_rows((plan.work / "rows").read_bytes()))
        pairs, images = [], {}
        for record_id, person in _linked(plan, source):
            name = delivery.row_id(_KEY, record_id.encode())
            if name not in encrypted:
                continue
            secret = delivery.row_key(_KEY, record_id.encode())
            content = delivery.decrypt_rows(secret, name, encrypted.pop(name))
            cohort_id = format_id(_question_id(record_id))
            pairs.append((cohort_id, person))
            images[cohort_id] = [unpadded(content)]
        made = deliver(
            asked=asked_of(plan.spec),
            terms=Terms(study_id="bench", minimum_cell=plan.minimum_cell, image_retrieval="mirror"),
            matches=matches_table(pairs),
            images=images,
            source=source,
            out=plan.work / "delivery",
            imaging_attrition=Attrition(side="imaging", steps=(), notes=()),
        )
    return {
        "persons_delivered": made.persons,
        "series_delivered": made.series,
        **seconds,
        **({"peak_memory_mb": _peak()} | peak),
    }


def _subjects(plan: Plan) -> list[str]:
    """Return all record ids of the index: what a site has in its map, whoever fits."""
    con = connect()
    try:
        raw = read_file(con, plan.index, "index")
        ids = (raw.collection_id + "/" + raw.PatientID).name("id")
        column = raw.select(ids).distinct().order_by("id").to_pyarrow()["id"]
        return [one for one in column.to_pylist() if one]
    finally:
        con.disconnect()


def _linked(plan: Plan, source: OmopSource) -> Iterator[tuple[str, int]]:
    """Yield the record id of each linked subject and the person it is; persons lie spread out."""
    persons: pa.ChunkedArray = source.table("person").person_id.to_pyarrow()
    linked = json.loads((plan.work / "linked").read_text(encoding="utf-8"))
    step = max(1, len(persons) // max(1, len(linked)))
    yield from zip(linked, sorted(persons.to_pylist())[::step], strict=False)


def _clinical_rows(source: OmopSource) -> int:
    """Return the rows of the tables that hold what happened to persons."""
    names = "condition_occurrence drug_exposure procedure_occurrence measurement observation"
    tables = [name for name in (*names.split(), "visit_occurrence") if source.has(name)]
    return sum(count_of(source.table(name).count()) for name in tables)


def _question_id(record_id: str) -> bytes:
    return hashlib.sha256(record_id.encode()).digest()[:16]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begun, busy = time.perf_counter(), _busy()
    yield
    seconds[name] = round(time.perf_counter() - begun, 2)
    # On a machine that others use too, this is what can be compared.
    seconds[f"{name.removesuffix('_seconds')}_cpu_seconds"] = round(_busy() - busy, 2)


def _busy() -> float:
    """Return the processor seconds of all threads, and of processes that were started and ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@contextmanager
def _children_watched(found: dict[str, int]) -> Iterator[None]:
    """
    Leave in `found` the most memory that this process and those that it started had together, in
    MB: cohort.duckdb is written by one of its own. Nothing where there is no /proc.

    Looked up, not asked for: a child's ru_maxrss begins with its parent's.
    """
    ended, most = threading.Event(), 0

    def look() -> None:
        nonlocal most
        while not ended.wait(_LOOK_S):
            most = max(most, sum(_resident(pid) for pid in ("self", *_children())))

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
    if most:
        found["peak_memory_mb"] = max(_peak(), round(most / 1024))


def _children() -> list[str]:
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return own.read_text().split()
    except OSError:
        return []


def _resident(pid: str) -> int:
    """Return the memory that a process has now, in kB; 0 if it is no more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def _peak() -> int:
    """Return the most memory this process has had, in MB. Linux counts in kB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / _MEGABYTE if sys.platform == "darwin" else peak / 1024)
