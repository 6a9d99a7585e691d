"""
Dry runs: what a run would link, who would be missing, and about how long it would take.

Datasets are judged by their manifests, so nothing is opened. Time and memory are of rates: those
of this broker's own last runs where it has made some, else those of docs/performance.md.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from broker.config import WorkerSettings
from broker.policy import Grant
from broker.run_work import work_of
from broker.services import agreements
from broker.services.runs import run_over_all, wanted_run
from broker.store import runs, studies
from broker.store.engine import Connection, Database
from linkage.errors import Conflict
from linkage.matching import planning
from linkage.matching.dataset import Shape
from linkage.matching.planning import AFFORDABLE, Comparison
from linkage.messages import Manifest
from linkage.run_messages import ForecastDataset, RunForecast, RunRequest

COMPARISONS_PER_SECOND = 380e6
"""Of CLKs of 2,048 bits, by one core (docs/performance.md)."""
SECONDS_PER_RECORD = 60e-6
"""For all but comparing: 1,000,000 by 1,000,000 took 114 s beside it (docs/performance.md)."""
MEMORY_MIB, MEMORY_PER_RECORD = 450.0, 1.3 / 1024
"""Of a worker: 640 MiB for 40,000 records, 1,360 for 600,000, 2,900 for two million."""
_TELLING_SECONDS = 5.0
"""Stages of fewer seconds tell start-up, no rate."""
_LAST_RUNS = 5
_DECISIONS = ("weights", "solve", "identity")


@dataclass(frozen=True, slots=True)
class Rates:
    """comparisons: of CLKs a second. record: seconds for each. runs: that were measured."""

    comparisons: float
    record: float
    runs: int


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What a run would do."""

    database: Database
    worker: WorkerSettings

    def of(self, grant: Grant, request: RunRequest, *, allow_missing: bool = False) -> RunForecast:
        """Return what `Runs.start` would do for this request. Starts and writes nothing."""
        with self.database.read() as connection:
            refusal = ""
            try:
                row = wanted_run(connection, grant, request, allow_missing=allow_missing)
            except Conflict as error:
                refusal = str(error)
                row = run_over_all(connection, grant, request)
            inputs: dict[str, int] = json.loads(row.inputs)
            config = grant.study.config
            _, left = agreements.linkable(config, row.purpose, today=agreements.utc_today())
            datasets = [
                _dataset(connection, grant, one, inputs.get(one), left.get(one, ""))
                for one in config.uploaders
            ]
            same = None if refusal else runs.find_same(connection, row)
            rates = self._rates(connection, grant.study.id)
            shapes = [
                _shape(connection, grant, one, number) for one, number in sorted(inputs.items())
            ]
        whole = request.of is None
        try:
            first, second = self._work(shapes) if whole and len(shapes) > 1 else (0, 0)
        except Conflict as error:
            first, second, refusal = 0, 0, refusal or str(error)
        records = sum(s.records for s in shapes)
        seconds = (first + second) / rates.comparisons + records * rates.record
        return RunForecast(
            study_id=grant.study.id,
            would_start=not refusal and same is None,
            refusal=refusal,
            datasets=datasets,
            same_run=same.id if same else None,
            same_state=same.state if same else None,
            phases=2 if second else 1,
            comparisons=first,
            comparisons_second=second,
            minutes=round(seconds / 60, 1),
            memory_mib=math.ceil(MEMORY_MIB + records * MEMORY_PER_RECORD),
            measured_runs=rates.runs,
            second_look=bool(row.looks),
            wait_hours=_wait(grant) if row.looks and whole else 0.0,
            reviews=len(json.loads(row.reviewed)),
        )

    def _work(self, shapes: list[Shape]) -> tuple[int, int]:
        """Return the work of both phases in comparisons; of the second no more than it may be."""
        given = self.worker.affordable_comparisons
        affordable = AFFORDABLE if given is None else given
        chunks = planning.plan(shapes, affordable=affordable)
        rest = planning.staged(shapes, affordable)
        return sum(map(work_of, chunks)), sum(_most(c) for c in rest)

    def _rates(self, connection: Connection, study_id: str) -> Rates:
        cores = self.worker.cores or os.cpu_count() or 1
        measured = list(_measured(runs.last_done(connection, study_id, _LAST_RUNS)))
        compared = [one for one, _ in measured if one]
        by_record = [one for _, one in measured if one]
        return Rates(
            comparisons=median(compared) if compared else COMPARISONS_PER_SECOND * cores,
            record=median(by_record) if by_record else SECONDS_PER_RECORD,
            runs=max(len(compared), len(by_record)),
        )


def _most(c: Comparison) -> int:
    sample = min(planning.SAMPLE_PEOPLE, c.one.people) * c.other.people * len(c.clks)
    return c.comparisons + sample


def _measured(done: list[runs.RunRow]) -> Iterator[tuple[float, float]]:
    """Yield comparisons a second and seconds a record of whole runs; 0 where too little tells."""
    for row in done:
        work: Mapping[str, Any] = json.loads(row.work)
        seconds: Mapping[str, float] = json.loads(row.seconds)
        records = sum(row.read_report().get("records", {}).values())
        took = seconds.get(work.get("stage", ""), 0.0)
        telling = took >= _TELLING_SECONDS
        others = sum(seconds.get(name, 0.0) for name in ("open", *_DECISIONS))
        yield (
            work["done"] / took if telling else 0.0,
            others / records if others >= _TELLING_SECONDS and records else 0.0,
        )


def _wait(grant: Grant) -> float:
    looks = grant.study.config.looks
    return looks.wait_hours if looks else 0.0


def _dataset(
    connection: Connection, grant: Grant, uploader: str, number: int | None, left: str
) -> ForecastDataset:
    """
    Return which dataset version of an uploader would be linked, or why none. left: why its party
    agreed to none, else "".
    """
    study, epoch = grant.study.id, grant.study.config.study.epoch
    newest = studies.newest_dataset(connection, study, uploader)
    if number is not None:
        row = studies.find_dataset(connection, study, uploader, number)
        records = Manifest.model_validate_json(row.manifest).records if row else 0
        newer = newest is not None and newest.number > number
        note = f"version {newest.number} is {newest.state}" if newest and newer else ""
        return ForecastDataset(
            uploader=uploader, state="linked", dataset=number, records=records, note=note
        )
    if left:
        return ForecastDataset(uploader=uploader, state="left out", note=left)
    if newest is None:
        return ForecastDataset(uploader=uploader, state="missing", note="has uploaded nothing")
    if newest.state == "complete" and newest.epoch != epoch:
        note = f"version {newest.number} is of epoch {newest.epoch}, the study is in {epoch}"
        return ForecastDataset(uploader=uploader, state="outdated", note=note)
    state = "quarantined" if newest.state == "quarantined" else "missing"
    why = getattr(newest, "quarantine", "") or f"is {newest.state}"
    return ForecastDataset(uploader=uploader, state=state, note=f"version {newest.number}: {why}")


def _shape(connection: Connection, grant: Grant, uploader: str, number: int) -> Shape:
    """Return what the manifest and the study say of the size of a dataset version."""
    row = studies.find_dataset(connection, grant.study.id, uploader, number)
    manifest = Manifest.model_validate_json(row.manifest) if row else None
    config = grant.study.config
    party = config.party_of_uploader(uploader)
    return Shape(
        party=uploader,
        records=manifest.records if manifest else 0,
        people=manifest.groups if manifest else 0,
        clks=tuple(c.id for c in config.clks_of(party)),
        keys=tuple(r.id for r in config.rules_of(party)),
        collisions={},
        unusable={},
    )


def forecast_lines(made: RunForecast) -> Iterator[str]:
    """Yield a forecast as the console prints it."""
    for one in made.datasets:
        told = f"version {one.dataset}, {one.records:,} records" if one.dataset else ""
        note = f"{'; ' if told and one.note else ''}{one.note}"
        yield f"  {one.uploader:<24}{one.state:<12}{told}{note}"
    if made.refusal:
        yield f"No run would start: {made.refusal}"
        return
    if made.same_run:
        yield f"No run would start: {made.same_run} is the same, and {made.same_state}."
        return
    if made.comparisons:
        second = (
            f" first, then at most {made.comparisons_second / 1e9:,.1f} billion"
            if made.phases == 2
            else ""
        )
        yield (
            f"{made.comparisons / 1e9:,.2f} billion comparisons of CLKs{second}, in"
            f" {made.phases} phase{'s' if made.phases > 1 else ''}"
        )
    else:
        yield "Nothing is compared: the pairs are there"
    basis = "of this study's last runs" if made.measured_runs else "in docs/performance.md"
    yield (
        f"About {made.minutes:,.1f} minutes of the worker and {made.memory_mib:,} MiB"
        f" (by the rates {basis})"
    )
    if made.wait_hours:
        yield f"Second look: it may wait up to {made.wait_hours:g} hours for the sites"
    if made.reviews:
        yield f"Decisions of closed reviews that count: {made.reviews:,}"
