"""
Questions and deliveries: who asks, who answers which side, who has approved.

The imaging criteria are shown to the imaging party only, the clinical ones to the enclave only.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from dataclasses import dataclass, replace

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services import uses
from broker.services.once import made_before, remember
from broker.services.releases import job_state
from broker.services.remarks import open_asks
from broker.services.runs import finished
from broker.services.standing import (
    decisions_of,
    existing,
    last_day,
    other_epoch,
    require_progress,
    require_rows,
    require_use,
    stopped,
    successor,
)
from broker.store import jobs, question_pages
from broker.store.engine import Connection, Database
from linkage.commitments import half_digest, require_committed
from linkage.errors import Conflict, NotAllowed
from linkage.messages import (
    COHORT_REPORT,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_COUNTS,
    READER,
    Approval,
    DeliveryStand,
    JobState,
    QuestionRequest,
    QuestionState,
)


@dataclass(frozen=True, slots=True)
class Questions:
    """The cohort questions of the studies, their approvals and deliveries."""

    database: Database

    def ask(self, grant: Grant, request: QuestionRequest, *, key: str | None = None) -> JobState:
        """
        Queue a question; the same idempotency key makes one. Raises Conflict for a study without
        imaging party and enclave, PackageRefused where its hash does not commit to what it asks,
        NotAllowed where the run's purpose is not the use that it asks for.
        """
        two_sides(grant.study)
        request.canonical()
        require_committed(request)
        if request.expires and request.expires < _today().isoformat():
            raise Conflict("the question's last day is over", hint="name a later day")
        row = jobs.JobRow(
            id=f"question-{secrets.token_hex(8)}",
            study_id=grant.study.id,
            kind="question",
            run_id=request.run_id,
            request=json.dumps(request.model_dump(mode="json")),
            asked_at=int(time.time()),
            terms=json.dumps(
                {
                    "study_hash": grant.study.study_hash,
                    "epoch": grant.study.config.study.epoch,
                }
            ),
        )
        with self.database.change() as connection:
            if before := made_before(connection, grant, key, row):
                return job_state(before)
            run = uses.finished_for(connection, grant.study, request.run_id)
            uses.require_use(connection, grant.study, "questions", run, two_sides(grant.study))
            grant.study.config.agreed.require_use(request.use, run.purpose)
            asked, row = row, replace(row, run_id=run.id)
            jobs.add(connection, row)
            remember(connection, grant, key, asked)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="question asked",
                study_id=row.study_id,
                subject=row.id,
                detail={
                    "run": row.run_id,
                    "spec_hash": request.spec_hash,
                    "expires": request.expires,
                    "use": request.use,
                    "reader": request.reader.fingerprint if request.reader else "",
                },
            )
        return job_state(row)

    def all(self, grant: Grant, *, reports: bool = False) -> list[QuestionState]:
        """
        Return the study's questions, newest first.

        reports: say to the enclave, which shares them, of which question's delivery a report is
        here. Nobody is told unasked: sites of earlier versions refuse a key that they don't know.
        """
        with self.database.read() as connection:
            rows = jobs.of_kind(connection, grant.study.id, "question")
            return [_state(connection, row, grant, reports=reports) for row in rows]

    def state(self, grant: Grant, question_id: str) -> QuestionState:
        """Return a question as this caller may see it. Raises NotFound."""
        with self.database.read() as connection:
            return _state(connection, existing(connection, grant.study, question_id), grant)

    def decide(self, grant: Grant, question_id: str, approval: Approval) -> QuestionState:
        """
        Take a party's signed decision, in place of an earlier one.

        Raises NotAllowed for another party's, and for an approval where a side delivers no rows;
        PackageRefused for one not signed by the party; Conflict where it is about another
        specification or signed study, older than the one that is here, or approves what has
        ended or begun. A denial or revocation is taken at any time: from then on nobody uses
        what was delivered.
        """
        study, party = grant.study, grant.party
        if approval.party != party:
            raise NotAllowed("a party decides for itself only", hint="sign in as that party")
        approval.verify(study.pin(party))
        with self.database.change() as connection:
            row = existing(connection, grant.study, question_id)
            self._require_decidable(connection, study, row, approval)
            before = decisions_of(connection, row.id).get(party)
            if before == approval:
                return _state(connection, row, grant)
            text = approval.to_json().decode()
            jobs.set_approval(connection, row.id, party, approval.decision, text, int(time.time()))
            delivery = jobs.delivery_of(connection, row.id)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action=f"question decided: {approval.decision}",
                study_id=study.id,
                subject=row.id,
                detail={
                    "spec_hash": approval.spec_hash,
                    "before": before.decision if before else "",
                    "expires": approval.expires,
                    "delivery": delivery.id if delivery else "",
                },
            )
            return _state(connection, row, grant)

    def _require_decidable(
        self,
        connection: Connection,
        study: RegisteredStudy,
        row: jobs.JobRow,
        approval: Approval,
    ) -> None:
        asked = QuestionRequest.model_validate_json(row.request)
        named = (approval.study_id, approval.question_id, approval.spec_hash)
        if named != (study.id, row.id, asked.spec_hash):
            raise Conflict(
                "the decision is about another question or specification",
                hint="read the question again and sign what it now says",
            )
        before = decisions_of(connection, row.id).get(approval.party)
        if before is not None and approval.decided_at < before.decided_at:
            raise Conflict(
                "a later decision of this party is here already",
                hint="decide again; is the clock of the steward's machine right?",
            )
        if approval.decision == "deny":
            return
        if approval.decision == "revoke":
            if before is None or before.decision not in ("approve", "revoke"):
                raise Conflict(
                    f"{approval.party!r} has approved nothing that it could take back",
                    hint="to say no to the question: linkage-cohort deny",
                )
            return
        require_rows(study)
        if approval.study_hash != study.study_hash:
            raise Conflict(
                "the decision was made under another signed study than today's",
                hint="fetch the signed study, confirm it, then decide again",
            )
        stop = other_epoch(study, row)
        last = last_day(row, {})
        if stop or (last and _today().isoformat() > last):
            reason = stop.reason if stop else f"its last day was {last}"
            raise Conflict(f"the question has ended: {reason}", hint="it must be asked anew")
        if jobs.delivery_of(connection, row.id) and before != approval:
            raise Conflict(
                "the delivery of this question has begun", hint="a new question starts anew"
            )

    def deliver(self, grant: Grant, question_id: str) -> JobState:
        """
        Queue the delivery; the same again is one. Raises NotAllowed naming who has not approved.
        """
        with self.database.change() as connection:
            question = existing(connection, grant.study, question_id)
            require_rows(grant.study)
            require_approvals(connection, grant.study, question.id)
            require_use(connection, question, today=_today())
            if begun := jobs.delivery_of(connection, question.id):
                return job_state(begun)
            require_progress(connection, grant.study, question, today=_today())
            run = finished(connection, grant.study.id, question.run_id)
            uses.require_use(connection, grant.study, "deliveries", run, two_sides(grant.study))
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


def require_approvals(connection: Connection, study: RegisteredStudy, question_id: str) -> None:
    """Raises NotAllowed naming who of those who have to has not approved a question's delivery."""
    decided = jobs.approvals(connection, question_id)
    waiting = [p for p in two_sides(study) if decided.get(p) != "approve"]
    denied = [p for p in decided if decided[p] != "approve"]
    if waiting or denied:
        raise NotAllowed(
            f"not approved by: {', '.join(sorted({*waiting, *denied}))}",
            hint="their stewards decide with `linkage-cohort approve`",
        )


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


def _state(
    connection: Connection, row: jobs.JobRow, grant: Grant, *, reports: bool = False
) -> QuestionState:
    asked = QuestionRequest.model_validate_json(row.request)
    imaging, enclave = two_sides(grant.study)
    sees = {"imaging": grant.viewer == imaging, "clinical": grant.viewer == enclave}
    today, terms = _today(), json.loads(row.terms or "{}")
    delivery = jobs.delivery_of(connection, row.id)
    stop = stopped(connection, row, today=today)
    if stop is None and (delivery is None or delivery.state != "done"):
        stop = other_epoch(grant.study, row)
    salted = bool(asked.imaging_salt and asked.clinical_salt)
    told = reports and sees["clinical"]
    return QuestionState.model_validate(
        {
            "question_id": row.id,
            "study_id": row.study_id,
            "run_id": row.run_id,
            "asked_run": asked.run_id,
            "asked_at": row.asked_at,
            "title": asked.title,
            "purpose": asked.purpose,
            "spec_hash": asked.spec_hash,
            "expires": asked.expires,
            "reader": asked.reader,
            "use": asked.use,
            "study_hash": terms.get("study_hash", ""),
            "epoch": terms.get("epoch", 0),
            "state": row.state,
            "imaging": asked.imaging if sees["imaging"] else None,
            "clinical": asked.clinical if sees["clinical"] else None,
            "imaging_salt": asked.imaging_salt if sees["imaging"] else "",
            "clinical_salt": asked.clinical_salt if sees["clinical"] else "",
            "imaging_digest": half_digest(asked.imaging_salt, asked.imaging) if salted else "",
            "clinical_digest": half_digest(asked.clinical_salt, asked.clinical) if salted else "",
            "approvals": jobs.approvals(connection, row.id),
            "decisions": decisions_of(connection, row.id),
            "delivery_id": delivery.id if delivery else None,
            "answered": jobs.find_sent(connection, row.id, enclave, QUESTION_ANSWER) is not None,
            "counted": any(
                jobs.find_sent(connection, row.id, recipient, QUESTION_COUNTS)
                for recipient in (READER, imaging)
            ),
            "open_asks": open_asks(connection, row.id),
            "stopped": stop.reason if stop else "",
            "newer": successor(connection, row, today=today) if stop else "",
            "delivery": _delivery(connection, row.id, enclave),
            "failure": row.failure,
            "report_shared": _shared(connection, delivery) if told else None,
        }
    )


def _shared(connection: Connection, delivery: jobs.JobRow | None) -> bool:
    about = delivery.id if delivery else ""
    return jobs.find_sent(connection, about, READER, COHORT_REPORT) is not None


def _delivery(connection: Connection, question_id: str, enclave: str) -> DeliveryStand | None:
    newest = question_pages.deliveries(connection, [question_id]).get(question_id)
    if newest is None:
        return None
    sent = jobs.find_sent(connection, newest.id, enclave, DELIVERY_ROWS) is not None
    stand = {"state": newest.state, "failure": newest.failure, "sent": sent}
    return DeliveryStand.model_validate(stand)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
