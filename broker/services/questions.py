"""
Questions and deliveries: who asks, who answers which side, who has approved.

The imaging criteria are shown to the imaging party only, the clinical ones to the enclave only.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, replace

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services.once import made_before, remember
from broker.services.releases import job_state
from broker.services.runs import finished
from broker.store import jobs
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotAllowed, NotFound
from linkage.messages import Approval, JobState, QuestionRequest, QuestionState


@dataclass(frozen=True, slots=True)
class Questions:
    """The cohort questions of the studies, their approvals and deliveries."""

    database: Database

    def ask(self, grant: Grant, request: QuestionRequest, *, key: str | None = None) -> JobState:
        """
        Queue a question; the same idempotency key makes one. Raises Conflict for a study without
        imaging party and enclave.
        """
        two_sides(grant.study)
        request.canonical()
        row = jobs.JobRow(
            id=f"question-{secrets.token_hex(8)}",
            study_id=grant.study.id,
            kind="question",
            run_id=request.run_id,
            request=json.dumps(request.model_dump(mode="json")),
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
                action="question asked",
                study_id=row.study_id,
                subject=row.id,
                detail={"run": row.run_id, "spec_hash": request.spec_hash},
            )
        return job_state(row)

    def all(self, grant: Grant) -> list[QuestionState]:
        """Return the study's questions, newest first."""
        with self.database.read() as connection:
            rows = jobs.of_kind(connection, grant.study.id, "question")
            return [_state(connection, row, grant) for row in rows]

    def state(self, grant: Grant, question_id: str) -> QuestionState:
        """Return a question as this caller may see it. Raises NotFound."""
        with self.database.read() as connection:
            return _state(connection, _existing(connection, grant, question_id), grant)

    def decide(self, grant: Grant, question_id: str, approval: Approval) -> QuestionState:
        """
        Take a party's signed decision, in place of an earlier one.

        Raises NotAllowed for another party's, PackageRefused for one not signed by the party,
        Conflict where it is about another specification or the delivery has begun.
        """
        study, party = grant.study, grant.party
        if approval.party != party:
            raise NotAllowed("a party decides for itself only", hint="sign in as that party")
        approval.verify(study.pin(party))
        with self.database.change() as connection:
            row = _existing(connection, grant, question_id)
            asked = QuestionRequest.model_validate_json(row.request)
            named = (approval.study_id, approval.question_id, approval.spec_hash)
            if named != (study.id, row.id, asked.spec_hash):
                raise Conflict(
                    "the decision is about another question or specification",
                    hint="read the question again and sign what it now says",
                )
            if jobs.delivery_of(connection, row.id):
                raise Conflict(
                    "the delivery of this question has begun", hint="a new question starts anew"
                )
            text = approval.model_dump_json()
            jobs.set_approval(connection, row.id, party, approval.decision, text, int(time.time()))
            audit.record(
                connection,
                actor=grant.caller.actor,
                action=f"question decided: {approval.decision}",
                study_id=study.id,
                subject=row.id,
                detail={"spec_hash": approval.spec_hash},
            )
            return _state(connection, row, grant)

    def deliver(self, grant: Grant, question_id: str) -> JobState:
        """
        Queue the delivery; the same again is one. Raises NotAllowed naming who has not approved.
        """
        with self.database.change() as connection:
            question = _existing(connection, grant, question_id)
            decided = jobs.approvals(connection, question.id)
            waiting = [p for p in two_sides(grant.study) if decided.get(p) != "approve"]
            denied = [p for p in decided if decided[p] == "deny"]
            if waiting or denied:
                raise NotAllowed(
                    f"not approved by: {', '.join(sorted({*waiting, *denied}))}",
                    hint="their stewards decide with `linkage-cohort approve`",
                )
            if begun := jobs.delivery_of(connection, question.id):
                return job_state(begun)
            row = jobs.JobRow(
                id=f"delivery-{secrets.token_hex(8)}",
                study_id=grant.study.id,
                kind="delivery",
                run_id=question.run_id,
                about=question.id,
                request="{}",
                asked_at=int(time.time()),
            )
            jobs.add(connection, row)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="delivery queued",
                study_id=row.study_id,
                subject=row.id,
                detail={"question": question.id},
            )
            return job_state(row)


def two_sides(study: RegisteredStudy) -> tuple[str, str]:
    """Return the imaging party and the enclave. Raises Conflict where the study lacks one."""
    imaging = study.config.party_of_kind("imaging")
    enclave = study.config.party_of_kind("enclave")
    if imaging is None or enclave is None:
        raise Conflict(
            "a question needs an imaging party and an enclave in the study",
            hint='the study file names them with kind = "imaging" and kind = "enclave"',
        )
    return imaging.id, enclave.id


def _existing(connection: Connection, grant: Grant, question_id: str) -> jobs.JobRow:
    row = jobs.find(connection, question_id)
    if row is None or row.study_id != grant.study.id or row.kind != "question":
        raise NotFound("there is no such question in this study", hint="GET .../questions")
    return row


def _state(connection: Connection, row: jobs.JobRow, grant: Grant) -> QuestionState:
    asked = QuestionRequest.model_validate_json(row.request)
    imaging, enclave = two_sides(grant.study)
    viewer = None if grant.is_admin else grant.party
    delivery = jobs.delivery_of(connection, row.id)
    return QuestionState.model_validate(
        {
            "question_id": row.id,
            "study_id": row.study_id,
            "run_id": row.run_id,
            "title": asked.title,
            "purpose": asked.purpose,
            "spec_hash": asked.spec_hash,
            "state": row.state,
            "imaging": asked.imaging if viewer == imaging else None,
            "clinical": asked.clinical if viewer == enclave else None,
            "approvals": jobs.approvals(connection, row.id),
            "delivery_id": delivery.id if delivery else None,
            "failure": row.failure,
        }
    )
