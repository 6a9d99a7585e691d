"""Releases: cross-commons IDs of a finished run, for an audience that the study allows."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, replace

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services.once import made_before, remember
from broker.services.runs import finished
from broker.store import jobs
from broker.store.engine import Database
from linkage.errors import NotAllowed, NotFound
from linkage.messages import JobState, ReleaseRequest


@dataclass(frozen=True, slots=True)
class Releases:
    """Releases, and the state of every job."""

    database: Database

    def ask(self, grant: Grant, request: ReleaseRequest, *, key: str | None = None) -> JobState:
        """
        Queue a release; the same idempotency key makes one. Raises NotAllowed for an audience
        beyond the study's release_to; a rehearsal may release to all.
        """
        audience = _audience(grant.study, request.audience)
        row = jobs.JobRow(
            id=f"release-{secrets.token_hex(8)}",
            study_id=grant.study.id,
            kind="release",
            run_id=request.run_id,
            request=json.dumps({"audience": audience}),
            asked_at=int(time.time()),
        )
        with self.database.change() as connection:
            if before := made_before(connection, grant, key, row):
                return job_state(before)
            run = finished(connection, grant.study.id, request.run_id)
            asked, row = row, replace(row, run_id=run.id)
            jobs.add(connection, row)
            remember(connection, grant, key, asked)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="release queued",
                study_id=row.study_id,
                subject=row.id,
                detail={"run": row.run_id, "audience": ", ".join(audience)},
            )
        return job_state(row)

    def state(self, grant: Grant, job_id: str) -> JobState:
        """Return how far a release, question or delivery is. Raises NotFound."""
        with self.database.read() as connection:
            row = jobs.find(connection, job_id)
        if row is None or row.study_id != grant.study.id:
            raise NotFound("there is no such job in this study", hint="check the id")
        return job_state(row)


def job_state(row: jobs.JobRow) -> JobState:
    """Return a job as a message."""
    return JobState.model_validate(
        {
            "job_id": row.id,
            "study_id": row.study_id,
            "kind": row.kind,
            "state": row.state,
            "failure": row.failure,
        }
    )


def _audience(study: RegisteredStudy, asked: tuple[str, ...]) -> list[str]:
    enclave = study.config.party_of_kind("enclave")
    allowed = study.config.study.release_to or ((enclave.id,) if enclave else ())
    parties = [party.id for party in study.config.party]
    permitted = set(parties) if study.signed.rehearsal else set(allowed)
    audience = sorted(set(asked or allowed))
    if strangers := [party for party in audience if party not in permitted]:
        raise NotAllowed(
            f"the study does not release to: {', '.join(strangers)}",
            hint="release_to in the signed study file names who may get cross-commons IDs",
        )
    if not audience:
        raise NotAllowed(
            "the study has no enclave and names nobody in release_to",
            hint="the custodian signs a study file that does",
        )
    return audience
