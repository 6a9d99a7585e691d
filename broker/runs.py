"""
A linkage run as a durable workflow: open -> candidates -> weights -> solve -> identity.

Every line of `RunMaker.run` is a step, and the candidates are cut into tasks, workflows of their
own, which any worker may pull from their queue (broker.run_plan). A large run looks for candidates
twice: by its keys, and when those tell who is linked for certain, among the rest. A worker that
dies is started again under its name and goes on after the last finished step; a step that was cut
short is repeated and gives the same bytes. Between steps only numbers travel; the results lie
sealed (broker.scratch).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from broker import (
    audit,
    decided_again,
    durable,
    opted_out,
    rehearsed,
    results,
    review_cases,
    run_plan,
    run_progress,
    run_reuse,
    second_look,
)
from broker.asserted import settled
from broker.container import Broker
from broker.durable import StepFailed
from broker.packages import OpenedDatasets, open_dataset
from broker.registered import RegisteredStudy
from broker.run_progress import FIRST, REST
from broker.run_reuse import Reused
from broker.scratch import Scratch, stream_of
from broker.second_look import LookingRun, SecondLooker
from broker.services import agreements
from broker.store import runs, studies
from broker.store.engine import Connection
from linkage.errors import Conflict, NotFound
from linkage.matching import candidates, group_rates, links, solve, weights
from linkage.matching.dataset import Dataset, representatives, shape_of
from linkage.matching.identity import result_digest
from linkage.matching.loss import losses
from linkage.matching.planning import AFFORDABLE, SAMPLE, drawn
from linkage.matching.reusing import ReusingFinder
from linkage.matching.reviewed import Reviewed, over
from linkage.sealing import KeyHolder

RUNS = "linkage-runs"
TASKS = "linkage-tasks"
_log = structlog.get_logger("linkage.worker")


@dataclass(frozen=True, slots=True, eq=False)
class OpenRun:
    """
    What a worker holds of a run in memory: its study as it was in the run's epoch, and its inputs
    by uploader. finder: what it has worked out is kept for all of the run's tasks.
    """

    row: runs.RunRow
    study: RegisteredStudy
    inputs: dict[str, int]
    scratch: Scratch
    datasets: OpenedDatasets
    finder: ReusingFinder


class RunMaker:
    """Makes linkage runs. identity: the broker's own private keys."""

    def __init__(
        self, broker: Broker, identity: KeyHolder, *, today: agreements.Today = agreements.utc_today
    ) -> None:
        self._broker, self._identity, self._today = broker, identity, today
        self._looks = SecondLooker(broker, identity)
        self._open: dict[str, OpenRun] = {}
        self._lock = threading.Lock()

    def run(self, run_id: str, part: str = "") -> None:
        """
        The workflow of one run. It ends where the run waits for a second look; then another one
        goes on, of the part second_look.PART (broker.second_look).
        """
        try:
            if part == second_look.PART:
                self._step("look", self._look, run_id)
            else:
                for uploader in self._step("begin", self._begin, run_id):
                    self._step(f"open {uploader}", self._open_dataset, run_id, uploader)
                if not self._step("take over", self._take_over, run_id):
                    durable.all_of(TASKS, run_id, self._step("plan", self._plan, run_id))
                    first, count = self._step("rest", self._rest, run_id)
                    durable.all_of(TASKS, run_id, count, first=first)
                    self._step("weights", self._weights, run_id)
                    if self._step("ask", self._ask, run_id):
                        return
            self._step("solve", self._solve, run_id)
            self._step("identity", self._identity_stage, run_id)
        except StepFailed as failed:
            self._fail(run_id, failed.failure)

    def run_task(self, run_id: str, number: int) -> None:
        """The workflow of one task: the candidates of a few chunks."""
        self._step("candidates", self._candidates, run_id, number)

    def give_up(self, run_id: str, cause: str) -> None:
        """Fail a run whose workflow will give no result any more."""
        self._fail(run_id, f"{cause}. Hint: start it again; the worker's log may say more")

    def end_what_is_over(self) -> None:
        """Fail the runs, waiting ones too, of which an agreement ended or the study was closed."""
        with self._broker.database.read() as connection:
            ended = agreements.ended_runs(connection, today=self._today())
        for run_id, cause in ended.items():
            self._fail(run_id, cause)

    def _step(self, name: str, function: Callable[..., Any], run_id: str, *args: Any) -> Any:
        return durable.step(name, self._unless_over, function, run_id, *args)

    def _unless_over(self, function: Callable[..., Any], run_id: str, *args: Any) -> Any:
        """Do a step; raises Conflict where the run was cancelled, so that its workflow ends."""
        self._require_going(run_id)
        return function(run_id, *args)

    def _require_going(self, run_id: str) -> None:
        with self._broker.database.read() as connection:
            self._require_going_in(connection, run_id)

    def _require_going_in(self, connection: Connection, run_id: str) -> None:
        row = runs.find(connection, run_id)
        if row is None or row.state in runs.OVER:
            raise Conflict("the run has ended", hint="start another one")
        agreements.require_run(connection, row, today=self._today())

    # Steps. Each takes and returns JSON.

    def _begin(self, run_id: str) -> list[str]:
        opened = self._opened(run_id)
        with self._broker.database.change() as connection:
            # Here again: who cancels it in this moment is told that it is cancelled.
            self._require_going_in(connection, run_id)
            runs.change(connection, run_id, state="running", stage="open", progress=0.0)
            audit.record(
                connection,
                actor="worker",
                action="run started",
                study_id=opened.study.id,
                subject=run_id,
            )
        return sorted(opened.inputs)

    def _open_dataset(self, run_id: str, uploader: str) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, "open", done=sorted(opened.inputs).index(uploader)):
            return len(self._dataset(opened, uploader).records)

    def _take_over(self, run_id: str) -> bool:
        opened = self._opened(run_id)
        if opened.row.of_run is None:
            return False
        with self._stage(run_id, "weights"):
            source = Scratch(self._broker, self._identity, opened.study.id, opened.row.of_run)
            decided_again.take_over(source, opened.scratch, opened.row.precision)
        return True

    def _plan(self, run_id: str) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, FIRST):
            shapes = [shape_of(self._dataset(opened, one)) for one in sorted(opened.inputs)]
            affordable = self._broker.home.config.worker.affordable_comparisons
            plan = run_plan.put_first(
                opened.scratch, shapes, AFFORDABLE if affordable is None else affordable
            )
        return len(plan.tasks)

    def _rest(self, run_id: str) -> tuple[int, int]:
        opened = self._opened(run_id)
        plan = run_plan.read(opened.scratch)
        if not plan.staged:
            return len(plan.tasks), 0
        with self._stage(run_id, "rest"):
            people = {p: representatives(self._dataset(opened, p).records) for p in opened.inputs}
            planned = run_plan.put_rest(opened.scratch, people)
        self._show(run_id, REST, 0.0)
        return planned

    def _candidates(self, run_id: str, number: int) -> None:
        opened = self._opened(run_id)
        plan = run_plan.read(opened.scratch)
        for one in plan.tasks[number]:
            self._require_going(run_id)
            if not opened.finder.knows(plan.chunks[one]):
                opened.finder.know(run_plan.rows(opened.scratch))
            found = opened.finder.find(plan.chunks[one])
            run_reuse.keep(opened.scratch, opened.finder, plan.chunks[one], one)
            name = run_plan.candidates_name(one)
            counted = run_progress.of_chunk(run_id, plan, one, found)
            opened.scratch.put_all({name: stream_of(candidates.to_arrow(found))}, counted)

    def _weights(self, run_id: str) -> None:
        opened = self._opened(run_id)
        with self._stage(run_id, "weights"):
            plan = run_plan.read(opened.scratch)
            found = run_plan.found(opened.scratch, plan)
            rules = {rule.id: rule.fields for rule in opened.study.config.match_key}
            decided = self._reviewed(opened).weights
            made = weights.weigh(
                plan.shapes,
                found,
                rules=rules,
                looks=over(None, decided),
                precision=opened.row.precision,
            )
            opened.scratch.put_table("weights", weights.to_arrow(made))
            sampled = {
                c.one.party: drawn(self._dataset(opened, c.one.party), SAMPLE, opened.row.seed)
                for c in plan.in_two
            }
            run_plan.put_losses(opened.scratch, losses(plan.in_two, found, made, sampled))
            tiers = links.tiers_of(made, found, reviewed=second_look.pairs_of(decided))
            opened.scratch.put_table("tiers", links.tiers_to_arrow(tiers))

    def _ask(self, run_id: str) -> bool:
        opened = self._opened(run_id)
        if not opened.row.looks:
            return False
        with self._stage(run_id, second_look.STAGE):
            names = {p: self._dataset(opened, p).records.pseudonyms for p in opened.inputs}
            return self._looks.ask(_looking(opened), names)

    def _look(self, run_id: str) -> None:
        opened = self._opened(run_id)
        with self._stage(run_id, second_look.STAGE):
            plan = run_plan.read(opened.scratch)
            found, decided = run_plan.found(opened.scratch, plan), self._reviewed(opened).weights
            self._looks.look(_looking(opened), found, decided)

    def _solve(self, run_id: str) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, "solve"):
            made = second_look.final_weights(opened.scratch)
            datasets = {p: self._dataset(opened, p) for p in opened.inputs}
            groups = {p: one.records.groups for p, one in datasets.items()}
            said = settled(self._broker, self._identity, opened.study, opened.row, datasets)
            opened.scratch.put("asserted", json.dumps(said.report).encode())
            entities = solve.solve(made, groups, asserted=said.asserted)
            told = self._reviewed(opened).report(entities)
            opened.scratch.put("reviewed", json.dumps(told).encode())
            opened.scratch.put_table("entities", solve.to_arrow(entities))
            tiers = second_look.final_tiers(opened.scratch)
            made_links = links.links_of(made, tiers, entities, groups, asserted=said.asserted.same)
            opened.scratch.put_table("links", links.to_arrow(made_links))
        return entities.count

    def _identity_stage(self, run_id: str) -> None:
        opened = self._opened(run_id)
        with self._stage(run_id, "identity"):
            entities = solve.from_arrow(opened.scratch.get_table("entities"))
            pseudonyms = {p: self._dataset(opened, p).records.pseudonyms for p in opened.inputs}
            plan = run_plan.read(opened.scratch)
            made = second_look.final_weights(opened.scratch)
            home = self._broker.home
            rehearsed.keep_probabilities(home, opened.study, run_id, made, pseudonyms)
            report = results.report_of(
                plan.shapes, plan.chunks, made, entities, seed=opened.row.seed
            )
            report["second_look"] = second_look.report_of(opened.scratch)
            report["losses"] = run_plan.losses(opened.scratch)
            report["strata"] = group_rates.report_of(
                opened.study.config.strata,
                {p: self._dataset(opened, p).records for p in opened.inputs},
                entities,
                minimum=opened.study.config.study.minimum_cell,
            )
            report["reuse"] = run_reuse.report_of(self._broker, opened.scratch, run_id)
            report["asserted"] = json.loads(opened.scratch.get("asserted"))
            report["reviewed"] = json.loads(opened.scratch.get("reviewed"))
            report["review"] = review_cases.prepare(
                opened.scratch, opened.study, made, entities, pseudonyms
            )
        results.publish(
            self._broker,
            opened.row,
            entities=entities,
            pseudonyms=pseudonyms,
            links=links.from_arrow(opened.scratch.get_table("links")),
            digest=result_digest(entities, pseudonyms),
            report=report,
            keep=(*decided_again.kept(home.config.worker), *review_cases.KEPT),
        )
        _log.info("run done", run=run_id)

    # How

    def forget_all_but(self, unfinished: Collection[str]) -> None:
        """Drop the opened encodings of runs that have ended, here or at another worker."""
        with self._lock:
            self._open = {r: opened for r, opened in self._open.items() if r in unfinished}

    def _opened(self, run_id: str) -> OpenRun:
        """Return the run in memory; after a restart it is read and opened again."""
        with self._lock:
            if run_id not in self._open:
                self._open[run_id] = self._read(run_id)
            return self._open[run_id]

    def _read(self, run_id: str) -> OpenRun:
        with self._broker.database.read() as connection:
            row = runs.find(connection, run_id)
            study = studies.find_study_at(connection, row.study_id, row.epoch) if row else None
        if row is None or study is None:
            raise NotFound("the run is gone", hint="start another one")
        if row.state in runs.OVER:
            raise Conflict(f"the run is {row.state} already", hint="start another one")
        scratch = Scratch(self._broker, self._identity, study.id, run_id)
        registered, inputs = RegisteredStudy.of(study), json.loads(row.inputs)
        lists: dict[str, int] = json.loads(row.opted_out)

        def opened(uploader: str) -> Dataset:
            whole = open_dataset(
                self._broker, self._identity, registered, uploader, inputs[uploader]
            )
            if uploader not in lists:
                return whole
            names = opted_out.opted_out(
                self._broker, self._identity, study.id, uploader, lists[uploader]
            )
            return opted_out.without(whole, names)

        datasets = OpenedDatasets(opened)
        earlier = Reused(self._broker, self._identity, row).earlier
        finder = ReusingFinder(datasets.of, seed=row.seed, earlier=earlier)
        return OpenRun(row, registered, inputs, scratch, datasets, finder)

    def _reviewed(self, opened: OpenRun) -> Reviewed:
        datasets = {p: self._dataset(opened, p) for p in opened.inputs}
        return review_cases.reviewed(self._broker, self._identity, opened.row, datasets)

    def _dataset(self, opened: OpenRun, uploader: str) -> Dataset:
        return opened.datasets.of(uploader)

    @contextmanager
    def _stage(self, run_id: str, stage: str, *, done: int = 0) -> Iterator[None]:
        """Show that the run is in `stage`, then how long the stage has taken so far."""
        self._show(run_id, stage, done / max(1, len(self._opened(run_id).inputs)))
        yield
        self._show(run_id, stage, None)

    def _show(self, run_id: str, stage: str, progress: float | None) -> None:
        """Write stage, progress (None: as it is) and the stage's seconds by the clock."""
        with self._broker.database.change() as connection:
            run_progress.show(connection, run_id, stage, progress)

    def _fail(self, run_id: str, failure: str) -> None:
        with self._broker.database.change() as connection:
            row = runs.find(connection, run_id)
            if row is None or row.state in runs.OVER:
                return
            blobs = runs.drop_intermediates(connection, run_id)
            now = int(time.time())
            runs.change(connection, run_id, state="failed", failure=failure, finished_at=now)
            audit.record(
                connection,
                actor="worker",
                action="run failed",
                study_id=row.study_id,
                subject=run_id,
                detail={"failure": failure},
            )
        for blob_id in blobs:
            self._broker.blobs.delete(blob_id)
        _log.warning("run failed", run=run_id, failure=failure)


def _looking(opened: OpenRun) -> LookingRun:
    shapes = run_plan.read(opened.scratch).shapes
    return LookingRun(opened.row, opened.study, opened.scratch, shapes)
