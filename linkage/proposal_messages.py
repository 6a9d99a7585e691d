"""
Proposals: what a person decides or asks in a browser, and the party's own agent carries out.

A proposal is a wish, not a decision: it is not signed. The party's agent takes it up only where its
site file names the person, checks it against what it computes itself, signs with the party's key
and settles the proposal (ADR 31).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Annotated, Literal

import rfc8785
from pydantic import Field, StringConstraints, field_validator

from linkage.messages import Decision, Hex256, Id, Message, Name, SignedMessage
from linkage.question_messages import MOST_REMARKS
from linkage.sealing import PublicIdentity

LASTS_DAYS = 14
"""A proposal that nobody has taken up by then has expired."""

MOST_SPECIFICATION_BYTES = 64 * 1024
_MOST_NAME, _MOST_KEYS = 64, 2048

Kind = Literal["ask", "decide", "consent", "remark", "allow", "deliver"]
KINDS: tuple[Kind, ...] = ("ask", "decide", "consent", "remark", "allow", "deliver")
DEFAULT_KINDS: tuple[Kind, ...] = KINDS[:4]
"""What a site carries out that names people and no kinds: neither `allow` nor `deliver`."""

Standing = Literal["waiting", "done", "refused", "withdrawn", "expired"]
"""waiting: for the party's agent. done, refused: settled by it. withdrawn: by its person."""

_Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\x80-\x9f]{3,1000}$")]
_Lines = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f\x80-\x9f]{0,4000}$")]


class Ask(Message):
    """
    A researcher asks a cohort question, through the enclave.

    specification: the text of a cohort.toml, MOST_SPECIFICATION_BYTES in UTF-8 at most; it names no
    file. expires: the question's last day, UTC; None: as `linkage-cohort request` has it. reader:
    the public half of the reading key, whose private half stays with the researcher.
    """

    kind: Literal["ask"] = "ask"
    specification: str = Field(min_length=1, max_length=MOST_SPECIFICATION_BYTES)
    expires: dt.date | None = None
    reader: PublicIdentity

    @field_validator("specification")
    @classmethod
    def _fits(cls, value: str) -> str:
        if "\x00" in value or len(value.encode()) > MOST_SPECIFICATION_BYTES:
            raise ValueError(f"a text without NUL, {MOST_SPECIFICATION_BYTES} bytes at most")
        return value

    @field_validator("reader")
    @classmethod
    def _short(cls, value: PublicIdentity) -> PublicIdentity:
        # Of the rest of it no key is longer than its kind.
        if len(value.name) > _MOST_NAME or len(value.signing) + len(value.sealing) > _MOST_KEYS:
            raise ValueError("the public half of a reading key, with a short name")
        return value

    @property
    def about(self) -> str:
        """What it concerns: no question is there yet."""
        return ""

    @property
    def command(self) -> str:
        """What the person runs instead, at the party's site."""
        return "linkage-cohort request cohort.toml"


class _OfAQuestion(Message):
    """spec_hash: of the question as the person saw it, which the party's agent compares."""

    question_id: Id
    spec_hash: Hex256

    @property
    def about(self) -> str:
        """The question."""
        return self.question_id


class Decide(_OfAQuestion):
    """A steward decides about a question. until: of an approval, its last day, UTC."""

    kind: Literal["decide"] = "decide"
    decision: Decision
    until: dt.date | None = None

    @property
    def command(self) -> str:
        """What the person runs instead, at the party's site."""
        until = f" --until {self.until}" if self.until and self.decision == "approve" else ""
        return f"linkage-cohort {self.decision} {self.question_id}{until}"


class Consent(Message):
    """A steward decides about a release, by the hash of its terms (`ReleaseTerms.hash`)."""

    kind: Literal["consent"] = "consent"
    release_id: Id
    terms_hash: Hex256
    decision: Literal["approve", "deny"]

    @property
    def about(self) -> str:
        """The release."""
        return self.release_id

    @property
    def command(self) -> str:
        """What the person runs instead, at the party's site."""
        return f"linkage-site release {self.decision} {self.release_id}"


class ProposedRemark(_OfAQuestion):
    """
    A steward asks the researcher back, or at the enclave answers a question back.

    answers: the number of the remark that it answers, 0 where it asks.
    """

    kind: Literal["remark"] = "remark"
    text: _Line
    answers: int = Field(default=0, ge=0, le=MOST_REMARKS)

    @property
    def command(self) -> str:
        """What the person runs instead, at the party's site."""
        return "" if self.answers else f'linkage-cohort ask {self.question_id} "YOUR WORDS"'


class Allow(_OfAQuestion):
    """A steward says yes to answering a question with counts, and no more than that."""

    kind: Literal["allow"] = "allow"

    @property
    def command(self) -> str:
        """What the person runs instead, at the party's site."""
        return f"linkage-site allow {self.question_id}"


class Deliver(_OfAQuestion):
    """A steward of the enclave orders the delivery of a question that every side approved."""

    kind: Literal["deliver"] = "deliver"

    @property
    def command(self) -> str:
        """What the person runs instead, at the party's site."""
        return f"linkage-cohort deliver {self.question_id}"


AnyBody = Ask | Decide | Consent | ProposedRemark | Allow | Deliver
Body = Annotated[AnyBody, Field(discriminator="kind")]


class ProposalRequest(Message):
    """What a person proposes to a party. party: who would sign it; of a question, the enclave."""

    party: Name
    body: Body


class ProposalState(Message):
    """
    A proposal as the caller may see it. person: the account's name. made_at, done_at: Unix seconds.

    body: None where its words are not for the caller. about: the question or release, "" for an
    ask. begun: the party's agent carries it out now; it is withdrawn no more. note: the reason of a
    refusal, or what else the agent says. result: what came of it, such as an ask's question.
    command: what the person runs at the site instead, "" unless it waits.
    """

    proposal_id: Id
    study_id: Name
    party: Name
    person: str
    made_at: int
    state: Standing
    kind: Kind
    about: str = ""
    begun: bool = False
    note: str = ""
    done_at: int | None = None
    body: Body | None = None
    result: str = ""
    command: str = ""

    @property
    def digest(self) -> str:
        """SHA-256, hex, of what it is, whatever became of it: a site knows it again by this."""
        said = {"proposal_id", "study_id", "party", "person", "made_at", "body"}
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json", include=said))).hexdigest()


class ProposalSettled(Message):
    """What a party's agent found became of a proposal. result: as in `ProposalState`."""

    state: Literal["done", "refused"]
    note: _Lines = ""
    result: Id | Literal[""] = ""


class ProposalSaid(SignedMessage):
    """
    What a party tells the broker of a proposal; signed by it, or who has its token alone could hold
    back what a steward decided, and tell her otherwise. begun: its agent carries it out now.
    """

    study_id: Name
    proposal_id: Id
    party: Name
    state: Literal["begun", "done", "refused"]
    note: _Lines = ""
    result: Id | Literal[""] = ""


def body_digest(body: AnyBody) -> str:
    """SHA-256, hex, of the canonical JSON; the audit log names it, and never the text."""
    return hashlib.sha256(body.canonical()).hexdigest()
