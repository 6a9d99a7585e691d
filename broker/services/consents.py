"""
Consents: a release beyond the enclave waits until every party's steward has agreed to it.

Each decision is signed with the party's key over the terms that its site was shown, kept, and
handed to whoever fetches the release, so that a broker cannot do without one of them unnoticed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from pydantic import ValidationError

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services import agreements, uses
from broker.services.releases import (
    DENIED,
    WAITING,
    existing,
    needs_consent,
    release_state,
    terms_of,
)
from broker.store import jobs, releases
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, LinkageError, NotAllowed
from linkage.release_messages import ReleaseConsent, ReleaseState

CANCELLED = "cancelled by the broker's admin"


@dataclass(frozen=True, slots=True)
class Consents:
    """The stewards' decisions about releases."""

    database: Database

    def decide(self, grant: Grant, release_id: str, consent: ReleaseConsent) -> ReleaseState:
        """
        Take a party's signed decision. The last approval queues the release, a denial ends it.

        Raises NotAllowed for another party's, and for an approval once the last day of the study
        or of somebody who would get IDs is over; PackageRefused for one not signed by the party,
        Conflict where it is about other terms or the release waits no more.
        """
        study, party = grant.study, grant.party
        if consent.party != party:
            raise NotAllowed("a party decides for itself only", hint="sign in as that party")
        consent.verify(study.pin(party))
        with self.database.change() as connection:
            row = existing(connection, grant, release_id)
            named = (consent.study_id, consent.release_id, consent.terms_hash)
            if named != (study.id, row.id, terms_of(study, row).hash):
                raise Conflict(
                    "the decision is about another release or other terms",
                    hint="read the release again and sign what it now says",
                )
            before = jobs.approvals(connection, row.id)
            if before.get(party) == consent.decision:
                return release_state(connection, row, grant)
            if row.state != WAITING:
                raise Conflict(
                    f"the release is {row.state}: nothing is decided any more",
                    hint="ask the broker's admin; what was given out cannot be recalled",
                )
            if consent.decision == "approve":
                uses.require_job(connection, study, row, today=agreements.utc_today())
            now = int(time.time())
            text = consent.model_dump_json()
            jobs.set_approval(connection, row.id, party, consent.decision, text, now)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action=f"release decided: {consent.decision}",
                study_id=study.id,
                subject=row.id,
                detail={"terms": consent.terms_hash},
            )
            decided = before | {party: consent.decision}
            if consent.decision == "deny":
                jobs.change(connection, row.id, state=DENIED, finished_at=now)
            elif all(decided.get(one.id) == "approve" for one in study.config.party):
                jobs.change(connection, row.id, state="queued")
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action="release queued",
                    study_id=study.id,
                    subject=row.id,
                    detail={"consents": len(study.config.party)},
                )
            return release_state(connection, existing(connection, grant, release_id), grant)

    def cancel(self, grant: Grant, release_id: str) -> ReleaseState:
        """
        End a release that still waits for consent, as the broker's admin; the same again is one.

        Raises Conflict where it waits no more: what was made cannot be recalled.
        """
        with self.database.change() as connection:
            row = existing(connection, grant, release_id)
            if row.state == DENIED and row.failure == CANCELLED:
                return release_state(connection, row, grant)
            if row.state != WAITING:
                raise Conflict(
                    f"the release is {row.state}: it waits for nobody",
                    hint="a release that was made is superseded by the next, not taken back",
                )
            now = int(time.time())
            jobs.change(connection, row.id, state=DENIED, failure=CANCELLED, finished_at=now)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="release cancelled",
                study_id=grant.study.id,
                subject=row.id,
            )
            return release_state(connection, existing(connection, grant, release_id), grant)


def require_consents(connection: Connection, study: RegisteredStudy, row: jobs.JobRow) -> None:
    """
    Raises NotAllowed naming the parties, all of today's, without whose signed approval of exactly
    these terms a release may not be made.
    """
    if row.kind != "release":
        return
    methods = bool(json.loads(row.request).get("methods"))
    if not needs_consent(study, list(releases.audience_of(row)), methods=methods):
        return
    terms, texts = terms_of(study, row), jobs.approval_texts(connection, row.id)
    missing = []
    for party in study.config.party:
        try:
            consent = ReleaseConsent.model_validate_json(texts.get(party.id, ""))
            consent.verify(study.pin(party.id))
            named = (consent.release_id, consent.terms_hash, consent.party, consent.decision)
            agreed = named == (row.id, terms.hash, party.id, "approve")
        except (ValidationError, LinkageError):
            agreed = False
        if not agreed:
            missing.append(party.id)
    if missing:
        raise NotAllowed(
            f"not consented to by: {', '.join(missing)}",
            hint="start the release again; every party's steward has to consent to it",
        )
