"""
What an admin and the broker say to each other about the broker itself (rules: linkage.messages).

Times are Unix seconds. Proofs and accounts: linkage.account_messages.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from linkage.account_messages import Proof
from linkage.messages import Count, Id, Message, Name

Bytes = Annotated[int, Field(ge=0)]
"""Of a disk, which may be larger than a Count."""


class StudyListed(Message):
    """
    A study that the caller may read, and no more than what it is and where in its life; how far
    each party is says `GET /v1/studies/{study_id}`. expires: its last day, ISO 8601.
    """

    study_id: Name
    title: str
    state: str
    state_since: int | None = None
    epoch: int
    expires: str | None = None
    rehearsal: bool
    release_gate: str
    parties: tuple[Name, ...]


class StudyMeant(Message):
    """Closing or reopening a study. confirm: the study's id once more."""

    confirm: str = Field(max_length=80)


class DestructionOrder(Message):
    """Ordering a study's destruction, which is final. confirm: the study's id once more."""

    confirm: str = Field(max_length=80)
    proof: Proof = Field(repr=False)


class DestructionOrdered(Message):
    """
    A study's destruction as it was ordered; the worker carries it out. finished_at: None until the
    certificate is signed.
    """

    study_id: Name
    asked_by: str
    asked_at: int
    finished_at: int | None = None


class AccessState(Message):
    """
    A party or contributor of a study by its key. suspended_at: Unix seconds, None where it may sign
    in; reason: why it may not.
    """

    name: Name
    party: Name
    fingerprint: str
    suspended_at: int | None = None
    reason: str = ""


class AccessSuspended(Message):
    """
    Suspending an access. reason: a line that the site and the audit log get to read. Undoing it
    takes a proof for each site, so a stolen session must not be enough to do it to all of them.
    """

    reason: str = Field(min_length=3, max_length=200)
    proof: Proof = Field(repr=False)


class AccessRestored(Message):
    """Restoring a suspended access: what was stolen would open again, so it is proved who asks."""

    proof: Proof = Field(repr=False)


class RetentionClock(Message):
    """
    What one retention rule runs on in one study. things: dataset versions, runs or items of an
    inbox. blobs: sealed objects that go with them. due: things that the worker's next round
    deletes. next_at: when the next of the others is due.
    """

    study_id: Name
    rule: str
    things: Count
    blobs: Count
    due: Count
    next_at: int | None = None


class WorkerSeen(Message):
    """A worker's last sign of life. alive: it is recent."""

    name: Id
    seen_at: float
    alive: bool


class DiskSpace(Message):
    """A disk that the broker writes to. kept_free: below that uploads are refused, bytes."""

    place: str
    free: Bytes
    total: Bytes
    kept_free: Bytes


class RunningStage(Message):
    """Runs that are in one stage, and when the one longest in it began it."""

    stage: str
    runs: Count
    since: float


class SystemState(Message):
    """
    How a broker does. status: "degraded" where anything below is not well; ails: what, in words,
    with the remedy. queued: what waits for a worker, by kind. audit_entries: number of the newest
    entry; head_at, head_number: of the newest signed head.
    """

    status: Literal["ok", "degraded"]
    ails: tuple[str, ...]
    software: str
    now: int
    database: Literal["sqlite", "postgresql"]
    migrated: bool
    blobs: bool
    blob_store: Literal["directory", "bucket"]
    disks: tuple[DiskSpace, ...]
    queued: dict[str, Count]
    running: tuple[RunningStage, ...]
    workers: tuple[WorkerSeen, ...]
    audit_entries: Count
    head_number: Count | None = None
    head_at: int | None = None
