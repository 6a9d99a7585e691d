"""
Proposals: what a person decides or asks in a browser, kept until the party's agent has done it.

A proposal decides nothing: the party's agent takes it up if its site file names the person, and
what it then signs passes the same checks here as if the steward had run the command. The agent
begins a proposal before it acts, and from then on nobody withdraws it; so what is withdrawn or
expired was never done. The audit log has the digest of what was proposed, never its text.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter

from broker import audit
from broker.person_roles import PersonRole
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services import releases, standing
from broker.services.accounts import effective_roles
from broker.services.questions import require_approvals, two_sides
from broker.services.settling import require_said, require_signed
from broker.store import accounts, proposals
from broker.store.engine import Connection, Database
from broker.store.jobs import JobRow
from broker.store.proposals import WAITING, ProposalRow
from linkage.errors import Conflict, NotAllowed, NotFound
from linkage.messages import QuestionRequest
from linkage.proposal_messages import (
    LASTS_DAYS,
    Allow,
    Ask,
    Body,
    Consent,
    Decide,
    Deliver,
    ProposalRequest,
    ProposalSaid,
    ProposalState,
    ProposedRemark,
    body_digest,
)

MOST_WAITING, MOST_A_DAY = 100, 500
"""Proposals of one person in one study: that wait, and that were made in a day."""

_VOIDS = {"decide": ("decide", "allow", "deliver"), "consent": ("consent",)}
"""By kind, what a newer one takes the place of: a decision is more than a yes or an order."""

_DAY_S = 86_400
_LASTS_S = LASTS_DAYS * _DAY_S
_BODY: TypeAdapter[Body] = TypeAdapter(Body)


@dataclass(frozen=True, slots=True)
class Proposals:
    """What people propose to the parties' agents. now: Unix seconds, a parameter for tests."""

    database: Database
    now: Callable[[], float] = time.time

    def make(self, grant: Grant, request: ProposalRequest) -> ProposalState:
        """
        Keep a person's proposal; the same again, while it waits, is one. A steward's newer one
        about the same question or release takes the place of that person's older one.

        Raises NotAllowed where the person has not the role, NotFound and Conflict where it is about
        no question or release, or another than the person read.
        """
        study, body, person = grant.study, request.body, grant.caller.name
        _require_role(grant, request)
        with self.database.change() as connection:
            _require_sense(connection, grant, request, today=self._today())
            mine = [
                row
                for row in proposals.of_study(connection, study.id, waiting=True)
                if row.person == person and self._standing(connection, row)[0] == WAITING
            ]
            text = body.canonical().decode()
            for row in mine:
                if (row.party, row.body) == (request.party, text):
                    return self._state(connection, row, grant)
            if len(mine) >= MOST_WAITING:
                raise Conflict(
                    f"{MOST_WAITING} proposals of yours wait already",
                    hint="withdraw those that you want no more",
                )
            since = int(self.now()) - _DAY_S
            if proposals.count_since(connection, study.id, person, since) >= MOST_A_DAY:
                raise Conflict(
                    f"you have made {MOST_A_DAY} proposals in a day", hint="go on tomorrow"
                )
            made = ProposalRow(
                id=f"proposal-{secrets.token_hex(8)}",
                study_id=study.id,
                party=request.party,
                person=person,
                kind=body.kind,
                about=body.about,
                body=text,
                # One after the other: which of two decisions is the newer must be plain.
                made_at=max(
                    int(self.now()), proposals.newest(connection, study.id, request.party) + 1
                ),
            )
            for row in mine:
                self._replace(connection, grant, row, made)
            proposals.add(connection, made)
            told = {"party": made.party, "kind": made.kind, "about": made.about}
            _record(connection, grant, made, "proposal made", **told, digest=body_digest(body))
            return self._state(connection, made, grant)

    def all(self, grant: Grant, *, waiting: bool = False) -> list[ProposalState]:
        """
        Return the proposals that concern the caller, oldest first: a party's own, a person's own,
        those to a steward's party; an admin is shown all, without what they say.
        """
        with self.database.read() as connection:
            rows = proposals.of_study(connection, grant.study.id, waiting=waiting)
            seen = [self._state(connection, row, grant) for row in rows if _concerns(row, grant)]
        return [one for one in seen if one.state == WAITING or not waiting]

    def about(self, grant: Grant, question_id: str) -> list[ProposalState]:
        """Return what concerns a question or release, as `all`, and the ask that it came of."""
        with self.database.read() as connection:
            rows = proposals.about(connection, grant.study.id, question_id)
            return [self._state(connection, row, grant) for row in rows if _concerns(row, grant)]

    def asks(self, grant: Grant) -> list[ProposalState]:
        """Return the newest asks of which no question came yet, as `all`; newest first."""
        caller, study_id = grant.caller, grant.study.id
        mine = [one for one in caller.roles if (one.kind, one.study_id) == ("steward", study_id)]
        stewards = [one.party or "" for one in mine]
        parties = None if grant.is_admin else stewards if caller.person else [caller.name]
        with self.database.read() as connection:
            rows = proposals.asks(
                connection, study_id, person=caller.name, parties=parties, most=MOST_WAITING
            )
            return [self._state(connection, row, grant) for row in rows if _concerns(row, grant)]

    def one(self, grant: Grant, proposal_id: str) -> ProposalState:
        """Return a proposal. Raises NotFound where it is not the caller's to see."""
        with self.database.read() as connection:
            row = _existing(connection, grant, proposal_id)
            return self._state(connection, row, grant)

    def begin(self, grant: Grant, proposal_id: str, said: ProposalSaid) -> ProposalState:
        """
        Note that the party's agent carries it out now: nobody withdraws it any more. The same again
        is one. Raises PackageRefused unless the party signed that, Conflict where it does not wait.
        """
        require_said(grant.study, grant.party, proposal_id, said, ("begun",))
        with self.database.change() as connection:
            row = _existing(connection, grant, proposal_id)
            state, note = self._standing(connection, row)
            if state != WAITING:
                raise Conflict(
                    f"the proposal is {state}{': ' * bool(note)}{note}",
                    hint="nothing is to be done for it",
                )
            if row.begun_at is None:
                proposals.change(connection, row.id, begun_at=int(self.now()))
                _record(connection, grant, row, "proposal begun")
            return self._state(connection, _existing(connection, grant, proposal_id), grant)

    def settle(self, grant: Grant, proposal_id: str, said: ProposalSaid) -> ProposalState:
        """
        Take what the party's agent says became of it; the same again is one.

        Raises PackageRefused unless the party signed that; Conflict where it waits no more, or was
        done without having been begun, or is a decision that the party has not signed.
        """
        require_said(grant.study, grant.party, proposal_id, said, ("done", "refused"))
        with self.database.change() as connection:
            row = _existing(connection, grant, proposal_id)
            if (row.state, row.note, row.result) == (said.state, said.note, said.result):
                return self._state(connection, row, grant)
            state, _ = self._standing(connection, row)
            if state != WAITING:
                raise Conflict(f"the proposal is {state}", hint="nothing is to be done for it")
            if said.state == "done" and row.begun_at is None:
                raise Conflict("the proposal was not begun", hint="begin it, then do it")
            if said.state == "done":
                require_signed(connection, row, _BODY.validate_json(row.body))
            proposals.change(
                connection,
                row.id,
                state=said.state,
                note=said.note,
                result=said.result,
                done_at=int(self.now()),
            )
            told = {"kind": row.kind, "result": said.result}
            _record(connection, grant, row, f"proposal {said.state}", **told)
            return self._state(connection, _existing(connection, grant, proposal_id), grant)

    def withdraw(self, grant: Grant, proposal_id: str) -> ProposalState:
        """
        Take a proposal of one's own back; the same again is one. Raises Conflict once the party's
        agent has begun it.
        """
        with self.database.change() as connection:
            row = _existing(connection, grant, proposal_id)
            if row.person != grant.caller.name:
                raise NotAllowed("another person's proposal", hint="its own person withdraws it")
            state, _ = self._standing(connection, row)
            if row.begun_at is not None and state == WAITING:
                raise Conflict(
                    "the party's agent is carrying it out",
                    hint="wait until it is done; a decision is then replaced by another",
                )
            if state in ("done", "refused"):
                raise Conflict(f"the proposal is {state} already", hint="propose something else")
            if row.state == WAITING:
                now = int(self.now())
                proposals.change(connection, row.id, state="withdrawn", done_at=now)
                _record(connection, grant, row, "proposal withdrawn")
            return self._state(connection, _existing(connection, grant, proposal_id), grant)

    def _replace(
        self, connection: Connection, grant: Grant, row: ProposalRow, newer: ProposalRow
    ) -> None:
        """Withdraw what this newer decision of the same person makes void."""
        same = (row.party, row.about) == (newer.party, newer.about)
        void = _VOIDS.get(newer.kind, ())
        if same and row.kind in void and row.begun_at is None:
            proposals.change(
                connection,
                row.id,
                state="withdrawn",
                done_at=int(self.now()),
                note=f"replaced by {newer.id}",
            )
            _record(connection, grant, row, "proposal withdrawn", by=newer.id)

    def _standing(self, connection: Connection, row: ProposalRow) -> tuple[str, str]:
        """Return state and note as they are now: what has expired no row says."""
        if row.state != WAITING or row.begun_at is not None:
            return row.state, row.note
        if self.now() >= row.made_at + _LASTS_S:
            return "expired", f"nobody took it up in {LASTS_DAYS} days"
        account = accounts.find(connection, row.person)
        gone = account is None or account.disabled_at is not None
        if gone or _role_for(row) not in effective_roles(connection, row.person):
            return "withdrawn", "its person may not propose this any more"
        return row.state, row.note

    def _state(self, connection: Connection, row: ProposalRow, grant: Grant) -> ProposalState:
        body = _BODY.validate_json(row.body)
        state, note = self._standing(connection, row)
        words = isinstance(body, Ask | ProposedRemark)
        return ProposalState.model_validate(
            {
                "proposal_id": row.id,
                "study_id": row.study_id,
                "party": row.party,
                "person": row.person,
                "made_at": row.made_at,
                "state": state,
                "kind": row.kind,
                "about": row.about,
                "begun": row.begun_at is not None and state == WAITING,
                # A refusal of an ask quotes the criteria's names: the researcher's own.
                "note": "" if words and grant.is_admin else note,
                "done_at": row.done_at,
                "body": None if words and grant.is_admin else body,
                "result": row.result,
                "command": body.command if state == WAITING else "",
            }
        )

    def _today(self) -> dt.date:
        return dt.datetime.fromtimestamp(self.now(), dt.UTC).date()


def _require_role(grant: Grant, request: ProposalRequest) -> None:
    """Raises NotAllowed unless the person may propose this kind to this party."""
    role = _role(grant.study, request.body.kind, request.party)
    if not grant.caller.person or role not in grant.caller.roles:
        raise NotAllowed(
            f"{grant.caller.actor!r} may not propose this to {request.party!r}",
            hint="a researcher of the study asks, of the enclave; a party's steward does the rest",
        )


def _role(study: RegisteredStudy, kind: str, party: str) -> PersonRole | None:
    """Return the role by which a person proposes this; None: nobody does."""
    if kind != "ask":
        known = party in {one.id for one in study.config.party}
        return PersonRole("steward", study.id, party) if known else None
    _, enclave = two_sides(study)
    return PersonRole("researcher", study.id) if party == enclave else None


def _role_for(row: ProposalRow) -> PersonRole:
    if row.kind == "ask":
        return PersonRole("researcher", row.study_id)
    return PersonRole("steward", row.study_id, row.party)


def _require_sense(
    connection: Connection, grant: Grant, request: ProposalRequest, *, today: dt.date
) -> None:
    """Refuse at once what no agent could do. Raises NotFound, Conflict, NotAllowed."""
    study, body = grant.study, request.body
    last = getattr(body, "until", None) or getattr(body, "expires", None)
    if last is not None and last < today:
        raise Conflict(f"{last} is over already", hint="name today or a later day, UTC")
    if isinstance(body, Consent):
        row = releases.existing(connection, grant, body.release_id)
        if body.terms_hash != releases.terms_of(study, row).hash:
            raise Conflict("the release has other terms", hint="read the release again")
        if row.state != releases.WAITING:
            raise Conflict(
                f"the release is {row.state}: nothing is decided any more",
                hint="load the page again; the broker's admin may ask for another",
            )
    elif isinstance(body, Decide | ProposedRemark | Allow | Deliver):
        asked = standing.existing(connection, study, body.question_id)
        if QuestionRequest.model_validate_json(asked.request).spec_hash != body.spec_hash:
            raise Conflict("the question has another hash", hint="read the question again")
        if isinstance(body, Allow | Deliver):
            _require_doable(connection, study, request, asked, today=today)
    if isinstance(body, Decide) and body.decision == "approve":
        standing.require_rows(study)
    if isinstance(body, ProposedRemark) and body.answers:
        _, enclave = two_sides(study)
        if request.party != enclave:
            raise NotAllowed("the enclave answers, or the researcher", hint="ask back instead")


def _require_doable(
    connection: Connection,
    study: RegisteredStudy,
    request: ProposalRequest,
    asked: JobRow,
    *,
    today: dt.date,
) -> None:
    """Refuse a yes or an order about a question that has ended, or by the wrong side."""
    imaging, enclave = two_sides(study)
    order = isinstance(request.body, Deliver)
    if request.party not in ((enclave,) if order else (imaging, enclave)):
        raise NotAllowed(
            "a delivery is ordered by the enclave; counts are allowed by either side",
            hint="its stewards do that",
        )
    standing.require_progress(connection, study, asked, today=today)
    if order:
        standing.require_rows(study)
        require_approvals(connection, study, asked.id)


def _concerns(row: ProposalRow, grant: Grant) -> bool:
    """May the caller see it?"""
    caller = grant.caller
    if grant.is_admin:
        return True
    if not caller.person:
        return row.party == caller.name
    steward = PersonRole("steward", grant.study.id, row.party)
    return row.person == caller.name or steward in caller.roles


def _existing(connection: Connection, grant: Grant, proposal_id: str) -> ProposalRow:
    row = proposals.find(connection, grant.study.id, proposal_id)
    if row is None or not _concerns(row, grant):
        raise NotFound(
            "there is no such proposal for you in this study", hint="GET .../proposals lists them"
        )
    return row


def _record(
    connection: Connection, grant: Grant, row: ProposalRow, action: str, **detail: str
) -> None:
    told: Mapping[str, str] = detail
    audit.record(
        connection,
        actor=grant.caller.actor,
        action=action,
        study_id=row.study_id,
        subject=row.id,
        detail=told,
    )
