"""
Runs: asking for one, and saying how far it is. The worker finds what is queued by itself, so
nothing that was accepted depends on this process staying alive.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from broker import audit
from broker.blobs import Blobs
from broker.policy import Grant
from broker.services import agreements, lifecycle
from broker.store import assertions, governance, reviews, runs, studies
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotFound
from linkage.run_messages import RunBasis, RunRequest, RunState, RunWork

SOFTWARE = version("commons-linkage")
_FAILED = "the run failed; the broker's admin can read why"
"""All that a party is told of it."""
_NOT_BEGUN: dict[str, Any] = {
    name: runs.RunRow.__dataclass_fields__[name].default
    for name in (
        "state", "stage", "stage_began", "progress", "seconds", "work", "sequence",
        "result_digest", "report", "failure", "finished_at",
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Runs:
    """The linkage runs of the studies."""

    database: Database
    blobs: Blobs

    def start(self, grant: Grant, request: RunRequest, *, allow_missing: bool = False) -> RunState:
        """
        Queue a run over every uploader's newest complete dataset version and assertion list of
        the study's epoch.

        The same datasets, lists, seed and software give the run that is there, unless it failed.
        With `request.of` it takes over the pairs of that run, and all that this was asked for,
        and decides anew for the precision of the request.

        Raises Conflict naming the uploaders that have no complete dataset version, and where the
        pairs of the other run cannot be taken over.
        """
        study = grant.study
        with self.database.change() as connection:
            row = wanted_run(connection, grant, request, allow_missing=allow_missing)
            same = runs.find_same(connection, row)
            if same:
                return _state(same, grant)
            lifecycle.begin(connection, study.id, grant.caller.actor)
            runs.add(connection, row)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="run queued",
                study_id=study.id,
                subject=row.id,
                detail={
                    "inputs": row.inputs,
                    "seed": row.seed,
                    "software": row.software,
                    "second_look": row.looks,
                    "asserted": row.asserted,
                    "precision": "" if row.precision is None else str(row.precision),
                    "reviewed": row.reviewed,
                    "opted_out": row.opted_out,
                    **({"purpose": row.purpose} if row.purpose else {}),
                    **({"of": row.of_run} if row.of_run else {}),
                },
            )
        return _state(row, grant)

    def cancel(self, grant: Grant, run_id: str) -> RunState:
        """
        End a run that is queued, running or waiting, and forget what it has found so far.

        Twice is once. A worker that is at it stops at its next step. Raises Conflict where it has
        ended otherwise.
        """
        with self.database.change() as connection:
            row = existing(connection, grant.study.id, run_id)
            if row.state == "cancelled":
                return _state(row, grant)
            if row.state in runs.OVER:
                raise Conflict(f"the run is {row.state} already", hint="nothing is to be cancelled")
            blobs = runs.drop_intermediates(connection, run_id)
            now = int(time.time())
            runs.change(connection, run_id, state="cancelled", finished_at=now)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="run cancelled",
                study_id=row.study_id,
                subject=run_id,
                detail={"stage": row.stage},
            )
            state = _state(existing(connection, grant.study.id, run_id), grant)
        # Whoever is killed here leaves blobs that no row names: the worker's sweep finds them.
        for blob_id in blobs:
            self.blobs.delete(blob_id)
        return state

    def state(self, grant: Grant, run_id: str) -> RunState:
        """
        Return a run. Its report, figures and why it failed are for admins: counts would help
        probing, and a failure may name how many records look alike.
        """
        with self.database.read() as connection:
            return _state(existing(connection, grant.study.id, run_id), grant)

    def page(self, grant: Grant, *, limit: int, before: str | None = None) -> list[RunState]:
        """
        Return at most `limit` of the study's runs, newest first, without their reports. before: a
        run; those that were asked for before it. Raises NotFound where it is none of the study.
        """
        with self.database.read() as connection:
            after = existing(connection, grant.study.id, before) if before else None
            rows = runs.page(connection, grant.study.id, limit=limit, before=after)
        return [_state(row, grant) for row in rows]

    def all(self, grant: Grant) -> list[RunState]:
        """Return all runs of the study with their reports, newest first; for the console."""
        with self.database.read() as connection:
            rows = runs.of_study(connection, grant.study.id, reports=True)
        return [_state(row, grant) for row in rows]


def wanted_run(
    connection: Connection, grant: Grant, request: RunRequest, *, allow_missing: bool
) -> runs.RunRow:
    """Return the run that a request is for, made or not. Raises Conflict as `Runs.start`."""
    if request.of is not None:
        return _again(connection, grant, request, request.of)
    config = grant.study.config
    purpose = config.agreed.purpose(request.purpose)
    inputs, missing = _inputs(connection, grant, purpose)
    if len(inputs) < 2 or (missing and not allow_missing):
        _, left = agreements.linkable(config, purpose, today=agreements.utc_today())
        if not missing and left:
            said = "; ".join(f"{uploader} {why}" for uploader, why in left.items())
            raise Conflict(
                f"fewer than two may be linked: {said}",
                hint="agree anew, and have the custodian sign the next epoch",
            )
        raise Conflict(
            f"no complete dataset version from: {', '.join(missing)}",
            hint="they must upload first; allow_missing=true links the others, if two",
        )
    return run_over_all(connection, grant, request)


def run_over_all(connection: Connection, grant: Grant, request: RunRequest) -> runs.RunRow:
    """Return the run that a request is for over whatever datasets there are."""
    study = grant.study
    purpose = study.config.agreed.purpose(request.purpose)
    inputs, _ = _inputs(connection, grant, purpose)
    return runs.RunRow(
        id=f"run-{secrets.token_hex(8)}",
        study_id=study.id,
        seed=request.seed,
        epoch=study.config.study.epoch,
        inputs=json.dumps(inputs, sort_keys=True),
        software=SOFTWARE,
        started_at=int(time.time()),
        looks=int(request.second_look and study.config.looks is not None),
        asserted=_asserted(connection, grant),
        precision=request.precision,
        reviewed=json.dumps(reviews.closed(connection, study.id)),
        purpose=purpose,
        opted_out=_opted_out(connection, study.id, inputs),
    )


def _again(connection: Connection, grant: Grant, request: RunRequest, of: str) -> runs.RunRow:
    """Return a run that decides anew about the pairs of another. Raises Conflict."""
    source = finished(connection, grant.study.id, of)
    require_newest(source, runs.newest_finished(connection, grant.study.id))
    if source.software != SOFTWARE:
        raise Conflict(
            "the run was made by another version of the software", hint="start a whole run"
        )
    if runs.find_intermediate(connection, of, runs.WEIGHTS) is None:
        raise Conflict(
            "the pairs of the run are not kept any more",
            hint="start a whole run; [worker] keep_pairs_days says how long pairs stay",
        )
    if _opted_out(connection, grant.study.id, json.loads(source.inputs)) != source.opted_out:
        raise Conflict(
            "records were opted out since that run, or are opted out no longer",
            hint="start a whole run, which minds that",
        )
    return replace(
        source,
        id=f"run-{secrets.token_hex(8)}",
        precision=request.precision,
        of_run=of,
        started_at=int(time.time()),
        **_NOT_BEGUN,
    )


def _inputs(connection: Connection, grant: Grant, purpose: str) -> tuple[dict[str, int], list[str]]:
    """Return dataset numbers by uploader, and who is missing; who agreed to none of it is not."""
    found: dict[str, int] = {}
    missing: list[str] = []
    study, epoch = grant.study, grant.study.config.study.epoch
    uploaders, _ = agreements.linkable(study.config, purpose, today=agreements.utc_today())
    for uploader in uploaders:
        row = studies.newest_dataset(connection, study.id, uploader, state="complete", epoch=epoch)
        bad = studies.newest_dataset(
            connection, study.id, uploader, state="quarantined", epoch=epoch
        )
        if bad and (row is None or bad.number > row.number):
            # Not the one before instead: the newer may leave out who has opted out.
            missing.append(f"{uploader} (version {bad.number} is in quarantine)")
            continue
        if row:
            found[uploader] = row.number
            continue
        older = studies.newest_dataset(connection, study.id, uploader, state="complete")
        missing.append(f"{uploader} (only of epoch {older.epoch})" if older else uploader)
    return found, missing


def require_newest(row: runs.RunRow, newest: runs.RunRow | None) -> None:
    """Raises Conflict where `newest`, a finished run, is over newer dataset versions than `row`."""
    if newest is None:
        return
    mine, theirs = json.loads(row.inputs), json.loads(newest.inputs)
    newer = any(number > mine.get(uploader, number) for uploader, number in theirs.items())
    if newest.epoch > row.epoch or (newest.epoch == row.epoch and newer):
        raise Conflict(
            f"{newest.id} is over newer dataset versions and has ended meanwhile",
            hint="its result stands; nothing is to be done",
        )


def _asserted(connection: Connection, grant: Grant) -> str:
    study = grant.study
    newest = assertions.newest(connection, study.id, study.config.study.epoch)
    uploaders = study.config.uploaders
    return json.dumps({u: n for u, n in newest.items() if u in uploaders}, sort_keys=True)


def _opted_out(connection: Connection, study_id: str, inputs: dict[str, int]) -> str:
    newest = governance.newest_opt_outs(connection, study_id)
    return json.dumps({u: n for u, n in newest.items() if u in inputs}, sort_keys=True)


def existing(connection: Connection, study_id: str, run_id: str) -> runs.RunRow:
    """Return the study's run. Raises NotFound, also for a run of another study."""
    row = runs.find(connection, run_id)
    if row is None or row.study_id != study_id:
        raise NotFound("there is no such run in this study", hint="GET .../runs lists them")
    return row


def finished(connection: Connection, study_id: str, run_id: str) -> runs.RunRow:
    """Return a run that is done; without run_id the newest. Raises NotFound or Conflict."""
    if not run_id:
        newest = runs.newest_finished(connection, study_id)
        if newest is None:
            raise Conflict("no run of the study is done yet", hint="the broker admin starts one")
        return newest
    row = existing(connection, study_id, run_id)
    if row.state != "done":
        raise Conflict(
            f"the run is {row.state}, not done", hint="wait for it, or start another one"
        )
    return row


def _state(row: runs.RunRow, grant: Grant) -> RunState:
    shown = grant.is_admin
    return RunState.model_validate(
        {
            "run_id": row.id,
            "study_id": row.study_id,
            "state": row.state,
            "stage": row.stage,
            "progress": row.progress,
            "seconds": json.loads(row.seconds) if shown else {},
            "work": _work(row) if shown else None,
            "result_digest": row.result_digest if shown else None,
            "report": row.read_report() if shown and row.report else None,
            "failure": row.failure if shown or not row.failure else _FAILED,
            "precision": row.precision if shown else None,
            "of": row.of_run if shown else None,
            "purpose": row.purpose,
            "asked_at": row.started_at if shown else None,
            "ended_at": row.finished_at if shown else None,
            "basis": _basis(row) if shown else None,
        }
    )


def _basis(row: runs.RunRow) -> RunBasis:
    return RunBasis(
        epoch=row.epoch,
        seed=row.seed,
        inputs=json.loads(row.inputs),
        asserted=json.loads(row.asserted),
        opted_out=json.loads(row.opted_out),
        reviewed=json.loads(row.reviewed),
        second_look=bool(row.looks),
        software=row.software,
    )


def _work(row: runs.RunRow) -> RunWork | None:
    """Return what the search for candidates has done; None before its first chunk ended."""
    work: dict[str, Any] = json.loads(row.work)
    if not work:
        return None
    done, everything = work.pop("done"), work.pop("all")
    took = json.loads(row.seconds).get(work.pop("stage"), 0.0)
    return RunWork(
        **work,
        comparisons_per_second=round(work["comparisons_done"] / took, 1) if took else 0.0,
        seconds_left=round(took * (everything - done) / done, 1) if done and took else None,
    )
