"""
The life cycle of a study, and what each state allows:

    draft -> open -> linking -> closed -> destroyed
                 <-  reopened  <-

A study is a **draft** until every party has confirmed the hash of what the custodian signed, then
**open**; its first run makes it **linking**. **Closed**, it takes nothing new, and what was given
out stays readable; an admin may reopen it. **Destroyed** is final. A new epoch is a draft again, as
its terms are new. Rehearsals, where one machine plays everybody, are open at once; so is what was
registered before this was asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from broker import audit
from broker.policy import Action
from broker.registered import RegisteredStudy
from broker.store import governance, studies
from broker.store.engine import Connection, Database
from linkage.admin_messages import DestructionOrdered
from linkage.errors import Conflict, NotFound
from linkage.governance import (
    Confirmation,
    Confirmations,
    ConfirmationState,
    DestructionCertificate,
    State,
)

DRAFT: State = "draft"
OPEN: State = "open"
LINKING: State = "linking"
CLOSED: State = "closed"
DESTROYED: State = "destroyed"

IN_USE = (OPEN, LINKING)
"""States in which a study takes uploads, runs, releases, questions."""

_IN_EVERY_STATE = frozenset(
    {
        Action.REGISTER_STUDY,
        Action.READ_STUDY,
        Action.READ_CONFIRMATIONS,
        Action.READ_DESTRUCTION,
        Action.READ_HEADS,
        Action.READ_AUDIT,
        Action.DESTROY_STUDY,  # twice is once; what is not closed the order itself refuses
    }
)
_BUT_DESTROYED = frozenset(
    {
        Action.WITHDRAW,
        Action.WITHDRAW_OFFER,
        Action.OPT_OUT,
        Action.CLOSE_STUDY,
        Action.CHANGE_ACCESS,
        Action.CHANGE_STORAGE,
        Action.CANCEL_RELEASE,
        Action.COMPARE_RUNS,
    }
)
_DRAFT_TOO = frozenset({Action.CONFIRM, Action.ANSWER_LOOK, Action.END_LOOK})

_REMEDY = {
    DRAFT: "every party runs linkage-site confirm first; linkage-broker study show says who has",
    CLOSED: "the broker's admin may reopen it: linkage-broker study reopen",
    DESTROYED: "nothing of it is left; its certificate stays: linkage-site certificate",
}


def require_allowed(action: Action, row: studies.StudyRow) -> None:
    """Raises Conflict where the study's state does not allow the action, whoever asks."""
    if row.state in IN_USE or action in _IN_EVERY_STATE:
        return
    if row.state != DESTROYED and (action in _BUT_DESTROYED or action.name.startswith("READ_")):
        return
    if row.state == DRAFT and action in _DRAFT_TOO:
        return
    raise Conflict(
        f"the study is {_said(row.state)}; nobody may {action.value}", hint=_REMEDY[_of(row)]
    )


def require(connection: Connection, study_id: str, *states: State) -> studies.StudyRow:
    """
    Return the study if it is in one of these states; default: in use. Within the transaction of a
    change, since the study may have been closed after the caller was let in. Raises Conflict.
    """
    row = studies.find_study(connection, study_id)
    if row is None:
        raise NotFound("there is no such study here", hint="check the study's id")
    if row.state not in (states or IN_USE):
        raise Conflict(
            f"the study is {_said(row.state)}",
            hint=_REMEDY.get(_of(row), "linkage-broker study show says more"),
        )
    return row


def require_meant(study_id: str, confirm: str) -> None:
    """Raises Conflict where the study's id was not typed once more: a slip closes no study."""
    if confirm != study_id:
        raise Conflict(
            "the study's id was not given twice",
            hint=f"to be sure that it is this one, give {study_id} as confirm; at the console:"
            f" linkage-broker study destroy {study_id} --confirm {study_id}",
        )


def begin(connection: Connection, study_id: str, actor: str) -> None:
    """A run was started: from now on the study is linking."""
    row = require(connection, study_id)
    if row.state == OPEN:
        _move(connection, row, LINKING, actor)


def first_state(signed_for_rehearsal: bool) -> State:
    """Return the state of a study, or an epoch, that was just registered."""
    return OPEN if signed_for_rehearsal else DRAFT


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Confirmations, and what an admin does to a study as a whole."""

    database: Database

    def confirm(self, party: str, actor: str, study_id: str, said: Confirmation) -> Confirmations:
        """
        Keep a party's signed confirmation; when it is the last one, the study opens. Twice is once.

        Raises PackageRefused where the party did not sign it, Conflict where it is about another
        party, epoch or hash.
        """
        with self.database.change() as connection:
            row = require(connection, study_id, DRAFT, *IN_USE)
            study = RegisteredStudy.of(row)
            said.verify(study.pin(party))
            epoch = study.config.study.epoch
            if (said.study_id, said.party) != (study_id, party):
                raise Conflict("the confirmation is another party's", hint="sign your own")
            if (said.epoch, said.study_hash) != (epoch, study.study_hash):
                raise Conflict(
                    "the confirmation is about another signed study than the one registered here",
                    hint="compare the study hash with the custodian; then: linkage-site confirm",
                )
            new = governance.set_confirmation(
                connection,
                governance.ConfirmationRow(
                    study_id=study_id,
                    epoch=epoch,
                    party=party,
                    study_hash=said.study_hash,
                    confirmation=said.model_dump_json(),
                    confirmed_at=int(time.time()),
                ),
            )
            if new:
                audit.record(
                    connection,
                    actor=actor,
                    action="study confirmed",
                    study_id=study_id,
                    subject=party,
                    detail={"epoch": epoch, "study_hash": said.study_hash},
                )
            found = _confirmations(connection, row)
            if row.state == DRAFT and not found.waiting:
                _move(connection, row, OPEN, "broker")
                found = found.model_copy(update={"state": OPEN})
        return found

    def confirmations(self, study_id: str) -> Confirmations:
        """Return who has confirmed the study's epoch. Raises NotFound."""
        with self.database.read() as connection:
            row = studies.find_study(connection, study_id)
            if row is None:
                raise NotFound("there is no such study here", hint="linkage-broker study list")
            return _confirmations(connection, row)

    def close(self, actor: str, study_id: str) -> State:
        """Take nothing new; runs and jobs under way end by themselves. Twice is once."""
        with self.database.change() as connection:
            row = require(connection, study_id, DRAFT, *IN_USE, CLOSED)
            if row.state != CLOSED:
                _move(connection, row, CLOSED, actor)
        return CLOSED

    def reopen(self, actor: str, study_id: str) -> State:
        """Let a closed study go on as it was. Raises Conflict for a study that is not closed."""
        with self.database.change() as connection:
            row = require(connection, study_id, DRAFT, *IN_USE, CLOSED)
            if row.state != CLOSED:
                raise Conflict(
                    f"the study is {_said(row.state)}, not closed", hint="nothing is to be reopened"
                )
            return _move(connection, row, _of(row, row.state_before or OPEN), actor)

    def destroy(self, actor: str, study_id: str, *, confirm: str) -> governance.DestructionRow:
        """
        Order the destruction of a closed study, which the worker carries out; from now on nothing
        of it is visible. Twice is once. Raises Conflict for a study that is not closed, or where
        `confirm` is not its id.
        """
        require_meant(study_id, confirm)
        with self.database.change() as connection:
            found = governance.find_destruction(connection, study_id)
            if found:
                return found
            row = require(connection, study_id, DRAFT, *IN_USE, CLOSED)
            if row.state != CLOSED:
                raise Conflict(
                    f"the study is {_said(row.state)}, not closed",
                    hint=f"parties should hear of it first: linkage-broker study close {study_id}",
                )
            made = governance.DestructionRow(
                study_id=study_id, asked_by=actor, asked_at=int(time.time())
            )
            governance.add_destruction(connection, made)
            _move(connection, row, DESTROYED, actor)
        return made

    def order_destruction(self, actor: str, study_id: str) -> DestructionOrdered:
        """The same, for a caller who has typed the id and proved who it is."""
        row = self.destroy(actor, study_id, confirm=study_id)
        return DestructionOrdered(
            study_id=row.study_id,
            asked_by=row.asked_by,
            asked_at=row.asked_at,
            finished_at=row.finished_at,
        )

    def certificate(self, study_id: str) -> DestructionCertificate:
        """Return the certificate of a study's destruction. Raises NotFound before there is one."""
        with self.database.read() as connection:
            row = governance.find_destruction(connection, study_id)
        if row is None or row.certificate is None:
            raise NotFound(
                "the study is not destroyed" if row is None else "its destruction is under way",
                hint="there is a certificate once the broker's worker has destroyed it",
            )
        return DestructionCertificate.model_validate_json(row.certificate)


def _move(connection: Connection, row: studies.StudyRow, to: State, actor: str) -> State:
    before = row.state if to == CLOSED else None
    studies.set_state(connection, row.id, to, int(time.time()), before=before)
    audit.record(
        connection,
        actor=actor,
        action=f"study {to}",
        study_id=row.id,
        detail={"before": row.state, "study_hash": row.study_hash},
    )
    return to


def _confirmations(connection: Connection, row: studies.StudyRow) -> Confirmations:
    study = RegisteredStudy.of(row)
    epoch = study.config.study.epoch
    found = governance.confirmations(connection, row.id, epoch)
    at = {one.party: one.confirmed_at for one in found if one.study_hash == row.study_hash}
    return Confirmations(
        study_id=row.id,
        epoch=epoch,
        study_hash=row.study_hash,
        state=_of(row),
        parties=tuple(
            ConfirmationState(party=party.id, confirmed_at=at.get(party.id))
            for party in study.config.party
        ),
    )


def _of(row: studies.StudyRow, state: str = "") -> State:
    """Return the state as one of this version; an unknown one is closed to be safe."""
    known: tuple[State, ...] = (DRAFT, OPEN, LINKING, CLOSED, DESTROYED)
    return next((one for one in known if one == (state or row.state)), CLOSED)


def _said(state: str) -> str:
    return "a draft that not every party has confirmed" if state == DRAFT else state
