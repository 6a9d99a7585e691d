"""
What both ends say to each other over HTTP: versioned, frozen, unknown keys refused.

Signed messages are signed over their canonical JSON (RFC 8785). Times are Unix seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from linkage.message_base import Message as Message
from linkage.message_base import SignedMessage as SignedMessage
from linkage.sealing import PublicIdentity
from linkage.strata import MOST_VARIABLES, Marked
from linkage.uses import NON_COMMERCIAL, Use

BROKER = "broker"
CUSTODIAN = "custodian"

DATASET_PART = "dataset-part"
CASE_MAP = "case-map"
STUDY_KEY = "study-key"
CROSSWALK = "crosswalk"
LINK_METHODS = "link-methods"
QUESTION_IDS = "question-ids"
QUESTION_ANSWER = "question-answer"
DELIVERY_KEY = "delivery-key"
DELIVERY_CROSSWALK = "delivery-crosswalk"
DELIVERY_ROWS = "delivery-rows"
QUESTION_COUNTS = "question-counts"
COHORT_REPORT = "cohort-report"
SECOND_LOOK = "second-look"
SECOND_LOOK_ANSWER = "second-look-answer"
ASSERTIONS = "assertions"
"""Purposes of sealed objects, bound by `linkage.sealing.Context`."""

READER = "0-reader"
"""To whom counts and reports are sealed, by the key of the question. No party's name is like it."""

PART_BYTES = 8 * 1024 * 1024
Hex256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Hex128 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9-]{0,62}[a-z0-9]$")]
Id = Annotated[str, StringConstraints(pattern="^[a-z0-9][a-z0-9-]{0,79}$")]
"""What the broker names things by; a site makes paths and addresses of it."""
Count = Annotated[int, Field(ge=0, le=2**40)]
Day = Annotated[
    str, StringConstraints(pattern="^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")
]
"""Compared as text: of other digits, or a month 99, it would be later than every day."""


# Study keys


class Deactivation(SignedMessage):
    """
    The custodian's notice that the study key of an epoch is out of use; signed by the custodian.

    key_check: of that key. date: since when, YYYY-MM-DD. reason: a line that everyone may read.
    """

    study_id: Name
    epoch: int = Field(ge=1)
    key_check: Hex128
    date: Day
    reason: Annotated[str, StringConstraints(pattern=r"^[ -~]{3,200}$")]

    @property
    def said(self) -> str:
        """When and why, for people."""
        return f"on {self.date}: {self.reason}"


# Uploads


class Part(Message):
    """One sealed part of a dataset version. digest: SHA-256 of the sealed bytes, hex."""

    number: int = Field(ge=1, le=100_000)
    size: int = Field(ge=1, le=2 * PART_BYTES)
    records: Count
    digest: Hex256


class Manifest(SignedMessage):
    """
    What an uploader says of one dataset version; signed by it.

    party: whose records they are. contributor: who tokenized them for that party; "": the party
    itself. dataset: the version, 1 and up. densities: mean share of set bits by CLK, before
    diffusion. null_reasons: by rule, reason, count. collisions: by rule, the number of keys that
    two groups shared and that were nulled. Both counts are rounded up to a multiple of 5.

    base: the dataset version of the same uploader that this one is a delta to, 0 where it is
    complete; changed: rows in the parts of a delta (linkage.delta). All other figures are those of
    the whole dataset version. strata: its rows bear marks, by these rules (linkage.strata).
    """

    study_id: Name
    study_hash: Hex256
    schema_hash: Hex256
    party: Name
    contributor: Name | Literal[""] = ""
    dataset: int = Field(ge=1, le=1_000_000)
    epoch: int = Field(ge=1)
    normalisation: str
    key_check: Hex128
    software: str
    records: int = Field(ge=1, le=2**31)
    groups: int = Field(ge=1, le=2**31)
    densities: dict[str, float]
    null_reasons: dict[str, dict[str, Count]]
    collisions: dict[str, Count]
    parts: tuple[Part, ...] = Field(min_length=1, max_length=100_000)
    base: int = Field(default=0, ge=0, le=1_000_000)
    changed: Count = 0
    strata: tuple[Marked, ...] = Field(default=(), max_length=MOST_VARIABLES)

    added: ClassVar[frozenset[str]] = frozenset({"contributor", "base", "changed", "strata"})

    @property
    def uploader(self) -> str:
        """Who signs and uploads: the contributor, or the party itself."""
        return self.contributor or self.party

    @property
    def rows(self) -> int:
        """How many rows its parts hold."""
        return self.changed if self.base else self.records


class DatasetState(Message):
    """
    missing: part numbers that the broker lacks yet; complete: all there and confirmed. quarantined:
    it could not be linked, for this reason; the next version takes its place.
    """

    study_id: str
    uploader: str
    dataset: int
    state: Literal["receiving", "complete", "quarantined", "withdrawn", "destroyed"]
    missing: tuple[int, ...] = ()
    reason: str = ""


# Studies, runs, releases


class PartyState(Message):
    """
    How far one uploader is. party: for whom it uploads. dataset: its newest complete version of
    the study's epoch. outdated: its newest one, where that is of an earlier epoch only. suspended:
    the broker's admin lets it sign in no more. quarantined: a newer one that could not be linked,
    and why, which only its party is told. bytes_kept, bytes_allowed: of the party with its
    contributors, likewise.
    """

    party: str
    uploader: str = ""
    dataset: int | None = None
    records: int | None = None
    outdated: int | None = None
    suspended: bool = False
    quarantined: int | None = None
    reason: str = ""
    bytes_kept: int | None = None
    bytes_allowed: int | None = None


class StudyState(Message):
    """
    deactivated: of the epoch's study key, when and why; None while it is in use. release_gate: the
    verdict in words, "" from brokers that know none. state: of its life cycle, from draft to
    destroyed (docs/governance.md).
    """

    study_id: str
    title: str
    study_hash: str
    rehearsal: bool
    epoch: int = 1
    deactivated: str | None = None
    release_gate: str = ""
    state: str = "open"
    parties: tuple[PartyState, ...]


class ReleaseRequest(Message):
    """
    Give cross-commons IDs of a finished run to `audience`; empty means the study's own list.

    run_id: empty means the newest finished run. methods: the enclave also gets how each ID was
    linked; for the enclave alone.
    """

    run_id: str = ""
    audience: tuple[Name, ...] = ()
    methods: bool = False


class JobState(Message):
    """
    A release, question or delivery that the worker prepares. waiting: for the stewards' consent to
    a release; denied: one of them did not give it.
    """

    job_id: Id
    study_id: str
    kind: Literal["release", "question", "delivery"]
    state: Literal["waiting", "queued", "running", "done", "denied", "failed"]
    failure: str | None = None


# Questions and deliveries


class QuestionRequest(Message):
    """
    A cohort question. `imaging` goes to the imaging party only, `clinical` to the enclave only,
    each with its salt.

    spec_hash: commits to all of it (linkage.commitments), what stewards approve. run_id: empty
    means the newest finished run. use: what its answer may be used for. expires: the last day,
    UTC, of the question and of what comes of it. reader: the key that counts are sealed to; None:
    nobody reads them outside the parties.
    """

    run_id: str = ""
    title: str = Field(max_length=200)
    purpose: str = Field(max_length=2000)
    spec_hash: Hex256
    imaging: dict[str, Any]
    clinical: dict[str, Any]
    imaging_salt: Hex256 | Literal[""] = ""
    clinical_salt: Hex256 | Literal[""] = ""
    expires: Day | Literal[""] = ""
    reader: PublicIdentity | None = None
    use: Use = NON_COMMERCIAL


Decision = Literal["approve", "deny", "revoke"]
"""revoke: takes an approval back, also after the delivery: then nobody uses it any more."""


class Approval(SignedMessage):
    """
    A steward's decision about one question; signed with the party's key.

    study_hash: of the signed study under which it was made. expires: the last day, UTC, that it
    holds, "" without one of its own. decided_at: an earlier decision does not replace a later one.
    """

    study_id: Name
    question_id: Id
    spec_hash: Hex256
    party: Name
    decision: Decision
    study_hash: Hex256 | Literal[""] = ""
    expires: Day | Literal[""] = ""
    decided_at: Count = 0

    added: ClassVar[frozenset[str]] = frozenset({"study_hash", "expires", "decided_at"})


class DeliveryStand(Message):
    """
    How far the newest delivery of a question is. sent: the imaging party has sent its rows; whether
    a cohort was built of them only the enclave knows.
    """

    state: Literal["queued", "running", "done", "failed"]
    failure: str | None = None
    sent: bool = False


class QuestionState(Message):
    """
    imaging, clinical: None unless the caller is the party that answers that side; likewise their
    salts. The digests of both are shown to all. asked_run: the run as it was asked for. study_hash,
    epoch: of the signed study under which it was asked. approvals: by party, its decision;
    decisions: as they were signed. delivery_id: set once a delivery was asked for that has not
    failed; delivery: how far the newest is. answered: the
    imaging party has; counted: the enclave has sent counts. open_asks: parties whose stewards asked
    back and wait for an answer. stopped: why nobody may use it any more; newer: the same question
    asked anew, to take instead. report_shared: whether the delivery's report was shared, for the
    enclave that asks for it; None where it is not said. It is left out then, for a reader that does
    not know it.
    """

    question_id: Id
    study_id: str
    run_id: Id
    title: str
    purpose: str
    spec_hash: str
    state: Literal["queued", "running", "done", "failed"]
    imaging: dict[str, Any] | None = None
    clinical: dict[str, Any] | None = None
    approvals: dict[str, str] = Field(default_factory=dict)
    delivery_id: Id | None = None
    failure: str | None = None
    asked_run: str = ""
    asked_at: int = 0
    imaging_salt: str = ""
    clinical_salt: str = ""
    imaging_digest: str = ""
    clinical_digest: str = ""
    expires: str = ""
    reader: PublicIdentity | None = None
    use: Use = NON_COMMERCIAL
    study_hash: str = ""
    epoch: int = 0
    decisions: dict[str, Approval] = Field(default_factory=dict)
    answered: bool = False
    counted: bool = False
    open_asks: tuple[str, ...] = ()
    stopped: str = ""
    newer: str = ""
    delivery: DeliveryStand | None = None
    report_shared: bool | None = Field(default=None, exclude_if=lambda said: said is None)


class SealedItem(Message):
    """
    One sealed object waiting for its recipient. subject: the release, question or delivery; of a
    case map, see linkage.case_map_names.
    """

    item_id: Id
    purpose: str
    subject: Id
    sender: str
    recipient: str
    size: int
    digest: Hex256


class Inbox(Message):
    items: tuple[SealedItem, ...]


# Signing in, and errors


class TokenRequest(Message):
    """RFC 7523. assertion: JWT signed with Ed25519; iss and sub name the caller, aud the broker."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assertion: str = Field(repr=False)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a TokenRequest refuses pickling")


class Token(Message):
    access_token: str = Field(repr=False)
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Token refuses pickling")


class Problem(BaseModel):
    """
    A problem document, RFC 9457. code: `LinkageError.code`; hint: the remedy; request: the id under
    which the broker's log has it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
    request: str = ""
