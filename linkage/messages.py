"""
What both ends say to each other over HTTP: versioned, frozen, unknown keys refused.

Signed messages are signed over their canonical JSON (RFC 8785). Times are Unix seconds.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from linkage.errors import PackageRefused
from linkage.sealing import Identity, PublicIdentity

BROKER = "broker"
CUSTODIAN = "custodian"

DATASET_PART = "dataset-part"
CASE_MAP = "case-map"
STUDY_KEY = "study-key"
CROSSWALK = "crosswalk"
QUESTION_IDS = "question-ids"
QUESTION_ANSWER = "question-answer"
DELIVERY_KEY = "delivery-key"
DELIVERY_CROSSWALK = "delivery-crosswalk"
DELIVERY_ROWS = "delivery-rows"
SECOND_LOOK = "second-look"
SECOND_LOOK_ANSWER = "second-look-answer"
ASSERTIONS = "assertions"
"""Purposes of sealed objects, bound by `linkage.sealing.Context`."""

PART_BYTES = 8 * 1024 * 1024
MOST_CHUNKS = 10_000
"""Chunks of a case map, each of at most PART_BYTES before sealing."""

_CASE_MAP = re.compile(r"dataset-([1-9]\d{0,6})-chunk-([1-9]\d{0,4})-of-([1-9]\d{0,4})")

Hex256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Hex128 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9-]{0,62}[a-z0-9]$")]
Id = Annotated[str, StringConstraints(pattern="^[a-z0-9][a-z0-9-]{0,79}$")]
"""What the broker names things by; a site makes paths and addresses of it."""
Count = Annotated[int, Field(ge=0, le=2**40)]


class Message(BaseModel):
    """Base of all messages. `version` changes when a reader of the old one would misread."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1

    def canonical(self) -> bytes:
        """Return the canonical JSON, RFC 8785. Raises PackageRefused where there is none."""
        return _canonical(self)


def _canonical(message: BaseModel, *, leave_out: frozenset[str] = frozenset()) -> bytes:
    try:
        return rfc8785.dumps(message.model_dump(mode="json", exclude=set(leave_out)))
    except (rfc8785.CanonicalizationError, ValueError, RecursionError):
        raise PackageRefused(
            "a message holds a number or text that canonical JSON cannot carry",
            hint="use integers below 2^53, finite numbers, valid Unicode and no deep nesting",
        ) from None


class SignedMessage(Message):
    """
    A message with the base64 Ed25519 signature of everything else in it.

    added: fields that earlier versions of the software did not know. With its default such a field
    is not signed, so that what was signed before still verifies.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    signature: str = ""

    def signed_bytes(self) -> bytes:
        """Return what is signed: kind of message and canonical JSON without the signature."""
        unused = {f for f in self.added if getattr(self, f) == type(self).model_fields[f].default}
        content = _canonical(self, leave_out=frozenset({"signature", *unused}))
        return type(self).__name__.encode() + b"\n" + content

    def sign(self, signer: Identity) -> Self:
        """Return a copy signed by `signer`."""
        made = base64.b64encode(signer.sign(self.signed_bytes())).decode()
        return self.model_copy(update={"signature": made})

    def verify(self, signer: PublicIdentity) -> None:
        """Raises PackageRefused unless `signer` signed exactly this."""
        try:
            signature = base64.b64decode(self.signature, validate=True)
        except binascii.Error:
            signature = b""
        if not signature:
            raise PackageRefused(
                f"the {type(self).__name__} is not signed", hint=f"{signer.name!r} must sign it"
            )
        signer.verify(signature, self.signed_bytes())


# Study keys


class Deactivation(SignedMessage):
    """
    The custodian's notice that the study key of an epoch is out of use; signed by the custodian.

    key_check: of that key. date: since when, YYYY-MM-DD. reason: a line that everyone may read.
    """

    study_id: Name
    epoch: int = Field(ge=1)
    key_check: Hex128
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
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
    the whole dataset version.
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

    added: ClassVar[frozenset[str]] = frozenset({"contributor", "base", "changed"})

    @property
    def uploader(self) -> str:
        """Who signs and uploads: the contributor, or the party itself."""
        return self.contributor or self.party

    @property
    def rows(self) -> int:
        """How many rows its parts hold."""
        return self.changed if self.base else self.records


class DatasetState(Message):
    """missing: part numbers that the broker lacks yet; complete: all there and confirmed."""

    study_id: str
    uploader: str
    dataset: int
    state: Literal["receiving", "complete", "withdrawn"]
    missing: tuple[int, ...] = ()


# Studies, runs, releases


class PartyState(Message):
    """
    How far one uploader is. party: for whom it uploads. dataset: its newest complete version of
    the study's epoch. outdated: its newest one, where that is of an earlier epoch only.
    """

    party: str
    uploader: str = ""
    dataset: int | None = None
    records: int | None = None
    outdated: int | None = None


class StudyState(Message):
    """
    deactivated: of the epoch's study key, when and why; None while it is in use. release_gate: the
    verdict in words, "" from brokers that know none.
    """

    study_id: str
    title: str
    study_hash: str
    rehearsal: bool
    epoch: int = 1
    deactivated: str | None = None
    release_gate: str = ""
    parties: tuple[PartyState, ...]


class ReleaseRequest(Message):
    """
    Give cross-commons IDs of a finished run to `audience`; empty means the study's own list.

    run_id: empty means the newest finished run.
    """

    run_id: str = ""
    audience: tuple[Name, ...] = ()


class JobState(Message):
    """A release, question or delivery that the worker prepares."""

    job_id: Id
    study_id: str
    kind: Literal["release", "question", "delivery"]
    state: Literal["queued", "running", "done", "failed"]
    failure: str | None = None


# Questions and deliveries


class QuestionRequest(Message):
    """
    A cohort question. `imaging` goes to the imaging party only, `clinical` to the enclave only.

    spec_hash: SHA-256 of the whole specification's canonical JSON, what stewards approve.
    run_id: empty means the newest finished run.
    """

    run_id: str = ""
    title: str = Field(max_length=200)
    purpose: str = Field(max_length=2000)
    spec_hash: Hex256
    imaging: dict[str, Any]
    clinical: dict[str, Any]


class QuestionState(Message):
    """
    imaging, clinical: None unless the caller is the party that answers that side.
    approvals: by party, "approve" or "deny". delivery_id: set once a delivery was asked for.
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
    approvals: dict[str, str] = {}
    delivery_id: Id | None = None
    failure: str | None = None


class Approval(SignedMessage):
    """A steward's decision about one question's delivery; signed with the party's key."""

    study_id: Name
    question_id: Id
    spec_hash: Hex256
    party: Name
    decision: Literal["approve", "deny"]


class SealedItem(Message):
    """
    One sealed object waiting for its recipient. subject: the release, question or delivery; of a
    case map, see `case_map_subject`.
    """

    item_id: Id
    purpose: str
    subject: Id
    sender: str
    recipient: str
    size: int
    digest: Hex256


def case_map_subject(dataset: int, chunk: int, chunks: int) -> str:
    """Return what names a chunk, 1 and up, of a contributor's case map of a dataset version."""
    return f"dataset-{dataset}-chunk-{chunk}-of-{chunks}"


def read_case_map_subject(subject: str) -> tuple[int, int, int]:
    """Return dataset version, chunk and number of chunks. Raises PackageRefused."""
    found = _CASE_MAP.fullmatch(subject)
    dataset, chunk, chunks = map(int, found.groups()) if found else (0, 0, 0)
    if not found or not 1 <= chunk <= chunks <= MOST_CHUNKS:
        raise PackageRefused("this names no chunk of a case map", hint="submit again")
    return dataset, chunk, chunks


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
    """A problem document, RFC 9457. code: `LinkageError.code`; hint: the remedy."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
