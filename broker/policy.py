"""
Who may do what: the one object-level check, which every route under /v1 passes.

A caller is an admin of this broker, or a party or a contributor of one study. Contributors
tokenize and upload for their party and get nothing back. What the table below does not allow is
refused; a study that is not the caller's does not exist for it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from broker.registered import RegisteredStudy
from linkage.errors import LinkageError, NotAllowed, NotFound

ADMIN = "admin"
PARTY = "any party of the study"
ITSELF = "whoever tokenizes it"
CONTRIBUTOR = "any contributor of the study"
ENCLAVE = "the enclave"
IMAGING = "the imaging party"

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


class Action(Enum):
    """What a caller can ask for."""

    REGISTER_STUDY = "register a study"
    READ_STUDY = "read the study"
    UPLOAD = "upload a dataset version"
    WITHDRAW = "withdraw its dataset versions"
    READ_DATASET = "read the state of a dataset version"
    START_RUN = "start a run"
    READ_RUN = "read a run"
    RELEASE = "release cross-commons IDs"
    READ_JOB = "read a job"
    ASK = "ask a question"
    READ_QUESTION = "read a question"
    APPROVE = "decide about a question"
    DELIVER = "ask for a delivery"
    READ_INBOX = "read its inbox"
    SEND = "send to another party"
    READ_LOOK = "read a second look"
    ANSWER_LOOK = "answer a second look"
    END_LOOK = "end the wait for a second look"
    ASSERT = "assert links of its records"
    READ_ASSERTIONS = "read which assertion lists were sent"
    READ_AUDIT = "read the audit log"
    READ_HEADS = "read the audit log's signed heads"


ALLOWED: Mapping[Action, frozenset[str]] = {
    Action.REGISTER_STUDY: frozenset({ADMIN}),
    Action.READ_STUDY: frozenset({ADMIN, PARTY, CONTRIBUTOR}),
    Action.UPLOAD: frozenset({ITSELF}),
    Action.WITHDRAW: frozenset({ITSELF}),
    Action.READ_DATASET: frozenset({ADMIN, ITSELF}),
    Action.START_RUN: frozenset({ADMIN}),
    Action.READ_RUN: frozenset({ADMIN, PARTY}),
    Action.RELEASE: frozenset({ADMIN}),
    Action.READ_JOB: frozenset({ADMIN, ENCLAVE}),
    Action.ASK: frozenset({ADMIN, ENCLAVE}),
    Action.READ_QUESTION: frozenset({ADMIN, PARTY}),
    Action.APPROVE: frozenset({PARTY}),
    Action.DELIVER: frozenset({ADMIN, ENCLAVE}),
    Action.READ_INBOX: frozenset({PARTY}),
    Action.SEND: frozenset({IMAGING, CONTRIBUTOR}),
    Action.READ_LOOK: frozenset({ADMIN, ITSELF}),
    Action.ANSWER_LOOK: frozenset({ITSELF}),
    Action.END_LOOK: frozenset({ADMIN}),
    Action.ASSERT: frozenset({ITSELF}),
    Action.READ_ASSERTIONS: frozenset({ADMIN, ITSELF}),
    Action.READ_AUDIT: frozenset({ADMIN}),
    Action.READ_HEADS: frozenset({ADMIN, PARTY, CONTRIBUTOR}),
}
"""The whole policy. An action that is not here is refused to everybody."""

BEFORE_EXPIRY = frozenset(
    {
        Action.UPLOAD,
        Action.START_RUN,
        Action.RELEASE,
        Action.ASK,
        Action.APPROVE,
        Action.DELIVER,
        Action.SEND,
        Action.ANSWER_LOOK,
        Action.ASSERT,
    }
)
"""What the agreement behind a study allows only until the study's last day; reading stays."""

OUTSIDE_STUDIES = frozenset({Action.REGISTER_STUDY, Action.READ_AUDIT})


@dataclass(frozen=True, slots=True)
class Caller:
    """
    An authenticated caller: an admin where study_id is None, else a party or contributor of it.
    """

    name: str
    study_id: str | None

    @property
    def actor(self) -> str:
        """The caller's name in the audit log: "admin/<name>" or "<study>/<name>"."""
        return f"{self.study_id or ADMIN}/{self.name}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A passed check: `caller` may do `action`, in `study` where it concerns one."""

    caller: Caller
    action: Action
    registered: RegisteredStudy | None = None

    @property
    def study(self) -> RegisteredStudy:
        """The study. Raises LinkageError for an action outside studies: a fault of ours."""
        if self.registered is None:
            raise LinkageError("this action concerns no study")
        return self.registered

    @property
    def party(self) -> str:
        """The caller by its name in the study. Raises NotAllowed for an admin."""
        if self.caller.study_id is None:
            raise NotAllowed(
                f"an admin may not {self.action.value}", hint="a party of the study must do it"
            )
        return self.caller.name

    @property
    def uploader(self) -> str:
        """The calling party or contributor. Raises NotAllowed for an admin."""
        return self.party

    @property
    def is_admin(self) -> bool:
        """Is the caller an admin of this broker?"""
        return self.caller.study_id is None


def check(
    caller: Caller,
    action: Action,
    registered: RegisteredStudy | None,
    *,
    study_id: str | None = None,
    uploader: str | None = None,
    today: dt.date | None = None,
) -> Grant:
    """
    Return the caller's grant. study_id, uploader: as the path names them. today: UTC; without it
    nothing that an expired study forbids is granted in a study that expires.

    Raises NotFound for a study that is not there or not the caller's, NotAllowed for the rest.
    """
    if action not in OUTSIDE_STUDIES:
        strange = caller.study_id not in (None, study_id)
        if registered is None or study_id is None or registered.id != study_id or strange:
            raise NotFound(
                "there is no such study here, or it is not yours",
                hint="check the study's id; its admin registers it with the signed study file",
            )
    roles = _roles(caller, registered, uploader)
    if not roles & ALLOWED.get(action, frozenset()):
        allowed = " or ".join(sorted(ALLOWED.get(action, frozenset()))) or "nobody"
        raise NotAllowed(f"{caller.actor!r} may not {action.value}", hint=f"allowed: {allowed}")
    if registered is not None and action in BEFORE_EXPIRY:
        last = registered.config.study.expires
        if last is not None and (today is None or today > last):
            raise NotAllowed(
                f"the study's last day was {last}",
                hint="agree anew, and have the custodian sign a study file with a later day",
            )
    return Grant(caller, action, registered if action not in OUTSIDE_STUDIES else None)


def require_id(text: str | None) -> str | None:
    """Return a path's id. Raises NotFound for what cannot be one, before any table is asked."""
    if text is not None and not _ID.fullmatch(text):
        raise NotFound("there is nothing of that name", hint="ids: small letters, digits, hyphens")
    return text


def _roles(
    caller: Caller, registered: RegisteredStudy | None, uploader: str | None
) -> frozenset[str]:
    if caller.study_id is None:
        return frozenset({ADMIN})
    if registered is None or registered.id != caller.study_id:
        return frozenset()
    study = registered.config
    roles: set[str] = set()
    if caller.name in study.uploaders and uploader in (None, caller.name):
        roles.add(ITSELF)
    found = next((p for p in study.party if p.id == caller.name), None)
    if found is not None:
        roles |= {PARTY, *{"enclave": {ENCLAVE}, "imaging": {IMAGING}}.get(found.kind, set())}
    elif caller.name in study.actors:
        roles.add(CONTRIBUTOR)
    return frozenset(roles)
