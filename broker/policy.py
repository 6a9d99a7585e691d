"""
Who may do what: the one object-level check, which every route under /v1 passes.

A caller is an admin of this broker, a party or a contributor of one study, or a person who signed
in and has roles (`broker.person_roles`). Contributors tokenize and upload for their party and get
nothing back; persons read and propose, and what a party sends or decides is signed with its key.
What the table below does not allow is refused; a study that is not the caller's does not exist for
it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from broker.person_roles import PersonRole as PersonRole
from broker.registered import RegisteredStudy
from linkage.errors import LinkageError, NotAllowed, NotFound

ADMIN = "admin"
PARTY = "any party of the study"
ITSELF = "whoever tokenizes it"
CONTRIBUTOR = "any contributor of the study"
ENCLAVE = "the enclave"
IMAGING = "the imaging party"
STEWARD = "a steward of the party"
OPERATOR = "an operator of the party or contributor"
STAFF = "a steward or operator of whoever tokenizes it"
RESEARCHER = "a researcher of the study"
REVIEWER = "a reviewer of the study"
AUDITOR = "an auditor"
ANYBODY = "whoever signed in"
PEOPLE = frozenset({STEWARD, OPERATOR, RESEARCHER, REVIEWER, AUDITOR})
"""Roles of persons who signed in; a person with the role admin is ADMIN."""

PERSON = "person"
"""How the audit log names a person: "person/<name>". No study may be called so, nor ADMIN."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


class Action(Enum):
    """What a caller can ask for."""

    REGISTER_STUDY = "register a study"
    READ_STUDY = "read the study"
    UPLOAD = "upload a dataset version"
    WITHDRAW = "withdraw its dataset versions"
    READ_DATASET = "read the state of a dataset version"
    READ_STORAGE = "read what a study keeps here"
    CHANGE_STORAGE = "set a quota or have a version opened again"
    START_RUN = "start a run"
    CANCEL_RUN = "cancel a run"
    OPEN_REVIEW = "open or close a review"
    READ_REVIEW = "read how far a review is"
    REVIEW = "review pairs in doubt"
    READ_RUN = "read a run"
    COMPARE_RUNS = "compare two runs"
    RELEASE = "release cross-commons IDs"
    CANCEL_RELEASE = "cancel a release that waits"
    READ_RELEASE = "read a release"
    READ_AFFECTED = "read what withdrawals affected"
    CONSENT = "decide about a release"
    PIN_RELEASE = "pin a release"
    READ_JOB = "read a job"
    ASK = "ask a question"
    READ_QUESTION = "read a question"
    APPROVE = "decide about a question"
    REMARK = "ask back about a question, or answer"
    PROPOSE = "propose something to a party"
    READ_PROPOSALS = "read what was proposed to a party"
    SETTLE_PROPOSAL = "settle what was proposed to it"
    READ_COUNTS = "fetch the counts or the report sealed to a question's reader"
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
    CONFIRM = "confirm the signed study"
    READ_CONFIRMATIONS = "read who has confirmed the signed study"
    OPT_OUT = "opt records out"
    READ_OPT_OUTS = "read which opt-out lists were sent"
    OFFER = "offer what questions may name"
    WITHDRAW_OFFER = "take back what it offers questions to name"
    READ_OFFERED = "read what questions may name"
    READ_TAKEN_OUT = "read how many records are taken out"
    READ_DESTRUCTION = "read the certificate of the study's destruction"
    LIST_STUDIES = "list the studies that are there for it"
    CLOSE_STUDY = "close or reopen the study"
    DESTROY_STUDY = "destroy the study"
    READ_ACCOUNTS = "read who may sign in"
    CHANGE_ACCOUNTS = "change who may sign in"
    READ_SYSTEM = "read how this broker does"
    READ_ACCESS = "read whose access is suspended"
    CHANGE_ACCESS = "suspend or restore an access"


ALLOWED: Mapping[Action, frozenset[str]] = {
    Action.REGISTER_STUDY: frozenset({ADMIN}),
    Action.READ_STUDY: frozenset({ADMIN, PARTY, CONTRIBUTOR}) | PEOPLE,
    Action.UPLOAD: frozenset({ITSELF}),
    Action.WITHDRAW: frozenset({ITSELF}),
    Action.READ_DATASET: frozenset({ADMIN, ITSELF, STAFF}),
    Action.READ_STORAGE: frozenset({ADMIN}),
    Action.CHANGE_STORAGE: frozenset({ADMIN}),
    Action.START_RUN: frozenset({ADMIN}),
    Action.CANCEL_RUN: frozenset({ADMIN}),
    Action.OPEN_REVIEW: frozenset({ADMIN}),
    Action.READ_REVIEW: frozenset({ADMIN, REVIEWER}),
    Action.REVIEW: frozenset({REVIEWER}),
    Action.READ_RUN: frozenset({ADMIN, PARTY, STEWARD}),
    Action.COMPARE_RUNS: frozenset({ADMIN}),
    Action.RELEASE: frozenset({ADMIN}),
    Action.CANCEL_RELEASE: frozenset({ADMIN}),
    Action.READ_AFFECTED: frozenset({ADMIN}),
    Action.READ_RELEASE: frozenset({ADMIN, PARTY, STEWARD}),
    Action.CONSENT: frozenset({PARTY}),
    Action.PIN_RELEASE: frozenset({PARTY}),
    Action.READ_JOB: frozenset({ADMIN, ENCLAVE}),
    Action.ASK: frozenset({ADMIN, ENCLAVE}),
    Action.READ_QUESTION: frozenset({ADMIN, PARTY, STEWARD, RESEARCHER}),
    Action.APPROVE: frozenset({PARTY}),
    Action.REMARK: frozenset({PARTY, RESEARCHER}),
    Action.PROPOSE: frozenset({STEWARD, RESEARCHER}),
    Action.READ_PROPOSALS: frozenset({ADMIN, PARTY, STEWARD, RESEARCHER}),
    Action.SETTLE_PROPOSAL: frozenset({PARTY}),
    Action.READ_COUNTS: frozenset({ENCLAVE, RESEARCHER}),
    Action.DELIVER: frozenset({ADMIN, ENCLAVE}),
    Action.READ_INBOX: frozenset({PARTY}),
    Action.SEND: frozenset({IMAGING, ENCLAVE, CONTRIBUTOR}),
    Action.READ_LOOK: frozenset({ADMIN, ITSELF}),
    Action.ANSWER_LOOK: frozenset({ITSELF}),
    Action.END_LOOK: frozenset({ADMIN}),
    Action.ASSERT: frozenset({ITSELF}),
    Action.READ_ASSERTIONS: frozenset({ADMIN, ITSELF}),
    Action.READ_AUDIT: frozenset({ADMIN, AUDITOR}),
    Action.READ_HEADS: frozenset({ADMIN, PARTY, CONTRIBUTOR, STEWARD, AUDITOR}),
    Action.CONFIRM: frozenset({PARTY}),
    Action.READ_CONFIRMATIONS: frozenset({ADMIN, PARTY, CONTRIBUTOR}) | PEOPLE,
    Action.OPT_OUT: frozenset({ITSELF}),
    Action.READ_OPT_OUTS: frozenset({ADMIN, ITSELF}),
    Action.OFFER: frozenset({PARTY}),
    Action.WITHDRAW_OFFER: frozenset({PARTY}),
    Action.READ_OFFERED: frozenset({ADMIN, PARTY, STEWARD, RESEARCHER}),
    Action.READ_TAKEN_OUT: frozenset({ADMIN, ITSELF, STEWARD}),
    Action.READ_DESTRUCTION: frozenset({ADMIN, PARTY, CONTRIBUTOR}) | PEOPLE,
    Action.LIST_STUDIES: frozenset({ANYBODY}),  # each is one that it may READ_STUDY
    Action.CLOSE_STUDY: frozenset({ADMIN}),
    Action.DESTROY_STUDY: frozenset({ADMIN}),
    Action.READ_ACCOUNTS: frozenset({ADMIN}),
    Action.CHANGE_ACCOUNTS: frozenset({ADMIN}),
    Action.READ_SYSTEM: frozenset({ADMIN}),
    Action.READ_ACCESS: frozenset({ADMIN}),
    Action.CHANGE_ACCESS: frozenset({ADMIN}),
}
"""The whole policy. An action that is not here is refused to everybody."""

BEFORE_EXPIRY = frozenset(
    {
        Action.UPLOAD,
        Action.START_RUN,
        Action.RELEASE,
        Action.CONSENT,
        Action.PIN_RELEASE,
        Action.ASK,
        Action.APPROVE,
        Action.REMARK,
        Action.PROPOSE,
        Action.DELIVER,
        Action.SEND,
        Action.ANSWER_LOOK,
        Action.ASSERT,
        Action.OFFER,
    }
)
"""What the agreement behind a study allows only until the study's last day; reading stays."""

OUTSIDE_STUDIES = frozenset(
    {
        Action.REGISTER_STUDY,
        Action.READ_AUDIT,
        Action.LIST_STUDIES,
        Action.READ_ACCOUNTS,
        Action.CHANGE_ACCOUNTS,
        Action.READ_SYSTEM,
    }
)


@dataclass(frozen=True, slots=True)
class Caller:
    """
    An authenticated caller. person: someone who signed in, and may do what `roles` say; study_id is
    then None. Else an admin with a key where study_id is None, or a party or contributor of it.
    """

    name: str
    study_id: str | None
    person: bool = False
    roles: frozenset[PersonRole] = frozenset()

    @property
    def actor(self) -> str:
        """In the audit log: "admin/<name>", "<study>/<name>" or "person/<name>"."""
        return f"{PERSON if self.person else self.study_id or ADMIN}/{self.name}"

    @property
    def is_admin(self) -> bool:
        """Is it an admin of this broker, by key or by role?"""
        if self.person:
            return any(role.kind == "admin" for role in self.roles)
        return self.study_id is None

    def knows(self, study_id: str | None) -> bool:
        """Does this study exist for the caller?"""
        if not self.person:
            return self.study_id in (None, study_id)
        # Admin and auditor concern no single study.
        return any(role.study_id in (None, study_id) for role in self.roles)


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
        """The caller by its name in the study. Raises NotAllowed for an admin or a person."""
        if self.caller.person or self.caller.study_id is None:
            raise NotAllowed(
                f"{self.caller.actor!r} may not {self.action.value}",
                hint="a party of the study must do it, with its key",
            )
        return self.caller.name

    @property
    def uploader(self) -> str:
        """The calling party or contributor. Raises NotAllowed for an admin."""
        return self.party

    @property
    def is_admin(self) -> bool:
        """Is the caller an admin of this broker?"""
        return self.caller.is_admin

    @property
    def viewer(self) -> str:
        """
        The party or contributor whose own things the caller may see: itself, or for a person the
        one that it acts for. "" for everybody else, admins too: ask `is_admin`.
        """
        if not self.caller.person:
            return self.caller.name if self.caller.study_id else ""
        here = (role for role in self.caller.roles if role.study_id == self._study_id)
        return next((role.party for role in here if role.party), "")

    @property
    def _study_id(self) -> str:
        return self.registered.id if self.registered else ""


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
        strange = not caller.knows(study_id)
        if registered is None or study_id is None or registered.id != study_id or strange:
            raise NotFound(
                "there is no such study here, or it is not yours",
                hint="check the study's id; its admin registers it with the signed study file",
            )
    roles = _roles(caller, registered, uploader) | {ANYBODY}
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
    if caller.is_admin:
        return frozenset({ADMIN})
    if caller.person:
        return frozenset(_person_roles(caller, registered, uploader))
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


def _person_roles(
    caller: Caller, registered: RegisteredStudy | None, uploader: str | None
) -> Iterator[str]:
    for role in caller.roles:
        if role.kind == "auditor":
            yield AUDITOR
        if registered is None or role.study_id != registered.id:
            continue
        if role.kind == "researcher":
            yield RESEARCHER
        elif role.kind == "reviewer":
            yield REVIEWER
        elif uploader in (None, role.party) and role.party in registered.config.uploaders:
            yield STAFF
        # Contributors get nothing back, so nobody is a steward of one; the study may drop a party.
        if role.kind == "steward" and role.party in {p.id for p in registered.config.party}:
            yield STEWARD
        elif role.kind == "operator" and role.party in registered.config.actors:
            yield OPERATOR
