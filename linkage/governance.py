"""
What both ends say to each other about governance (rules: linkage.messages): confirmations of the
signed study, opt-outs, and the certificate of a study's destruction.

An opt-out list is all record pseudonyms that an uploader takes out of the linkage, whatever its
dataset versions hold; its newest list counts, over every epoch, until a later list lifts it. It
travels as `opt_out_bytes`, sealed to the broker.
"""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from linkage.errors import EncodingRefused, PackageRefused
from linkage.messages import BROKER, Count, Hex256, Id, Message, Name, SignedMessage
from linkage.records import PSEUDONYM_BYTES, Bytes2D
from linkage.sealing import Context
from linkage.signed_study import SignedStudy

OPT_OUTS = "opt-outs"
"""Purpose of sealed opt-out lists, bound by `linkage.sealing.Context`."""

MOST_OPT_OUTS = 500_000
"""Pseudonyms of a list: with their seal they stay below messages.PART_BYTES."""

_MAGIC = b"commons-linkage opt-outs 1\n"

State = Literal["draft", "open", "linking", "closed", "destroyed"]


class Confirmation(SignedMessage):
    """A party's word that it has read the signed study of this hash; signed with its key."""

    study_id: Name
    epoch: int = Field(ge=1)
    study_hash: Hex256
    party: Name


class Withdrawal(SignedMessage):
    """
    An uploader takes back all its dataset versions; signed by it. newest: the last of them, so that
    who kept this message cannot take back later ones with it.
    """

    study_id: Name
    uploader: Name
    newest: int = Field(ge=0, le=1_000_000)


class ConfirmationState(Message):
    """Whether and when, Unix seconds, a party has confirmed the study's current hash."""

    party: Name
    confirmed_at: int | None = None


class Confirmations(Message):
    """Who has confirmed the hash of the study's current epoch, and what the study waits for."""

    study_id: Name
    epoch: int
    study_hash: Hex256
    state: State
    parties: tuple[ConfirmationState, ...]

    @property
    def waiting(self) -> list[str]:
        """The parties that have not confirmed."""
        return [one.party for one in self.parties if one.confirmed_at is None]


class HeldBy(Message):
    """
    A release, question or delivery that held records which are opted out now. records: how many of
    them. at: Unix seconds.
    """

    job_id: Id
    kind: Literal["release", "question", "delivery"]
    run_id: Id
    at: int
    records: Count


class OptOutState(Message):
    """
    One uploader's opt-out list; its newest one counts. records: in the list; unknown: of these, in
    no run so far; held_by: what was given out with them, and cannot be recalled. The three are None
    or empty until the broker's worker has read the list. refusal: why it could not.
    """

    uploader: Name
    number: int = Field(ge=1, le=1_000_000)
    epoch: int = Field(ge=1)
    size: int
    digest: Hex256
    records: Count | None = None
    unknown: Count | None = None
    held_by: tuple[HeldBy, ...] = ()
    refusal: str = ""


class TakenOut(Message):
    """
    How many records of an uploader stand taken out of the linkage: counts, no name of anything.

    number: of its newest opt-out list, which counts, None without one; opted_out: records in it,
    None until the broker's worker has read it; refusal: why it could not. given_out: releases,
    questions and deliveries that had held some of them. withdrawn: the dataset version up to which
    everything was taken back, None where nothing was or newer data came; records: in that version.
    """

    uploader: Name
    number: int | None = None
    opted_out: Count | None = None
    refusal: str = ""
    given_out: Count = 0
    withdrawn: int | None = None
    records: Count = 0


class DestroyedManifest(Message):
    """A dataset version that was destroyed. manifest_hash: of what its uploader had signed."""

    uploader: Name
    dataset: int
    epoch: int
    manifest_hash: Hex256


class GivenOut(Message):
    """What had left the broker before. at: Unix seconds."""

    job_id: Id
    kind: Literal["release", "question", "delivery"]
    at: int


class Remains(Message):
    """Something that was not destroyed, why, and until when it stays."""

    what: str
    why: str
    until: str


class DestructionCertificate(SignedMessage):
    """
    The broker's word that it has destroyed a study; signed with the key that the study pins.

    rows: destroyed, by table. blobs: sealed packages deleted. manifests: of all dataset versions
    ever announced. audit_number, audit_hash: the newest entry of the audit log
    before the one that names this certificate. Times are Unix seconds.

    Its remaining weakness: the broker signs what its program did; that no copy was taken nobody can
    show.
    """

    study_id: Name
    epoch: int = Field(ge=1)
    study_hash: Hex256
    asked_by: str
    asked_at: int
    finished_at: int
    rows: dict[str, Count]
    blobs: Count
    manifests: tuple[DestroyedManifest, ...]
    given_out: tuple[GivenOut, ...]
    remains: tuple[Remains, ...]
    audit_number: int
    audit_hash: Hex256

    added: ClassVar[frozenset[str]] = frozenset()

    @property
    def moment(self) -> str:
        """When it was finished, in words, UTC."""
        return dt.datetime.fromtimestamp(self.finished_at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")

    def check(self, signed: SignedStudy) -> None:
        """Raises PackageRefused unless the broker of `signed` signed it, about this study."""
        self.verify(signed.pin(BROKER))
        header = signed.study.study
        if self.study_id != header.id:
            raise PackageRefused(
                "the certificate is about another study", hint="ask the broker for yours"
            )
        if self.epoch == header.epoch and self.study_hash != signed.study_hash:
            raise PackageRefused(
                "the certificate is about another signed study of this epoch",
                hint="compare the study hashes with the custodian and the broker's admin",
            )


def opt_out_context(study_id: str, uploader: str, epoch: int, number: int) -> Context:
    """Return what an opt-out list is sealed for."""
    return Context(study_id, uploader, BROKER, OPT_OUTS, (str(epoch), str(number)))


def opt_out_bytes(pseudonyms: Bytes2D) -> bytes:
    """
    Return a list as it travels: a line that names the format, then the pseudonyms, uint8[N, 16],
    ascending and each once. Raises EncodingRefused where there are too many.
    """
    names = sorted({row.tobytes() for row in pseudonyms})
    if len(names) > MOST_OPT_OUTS:
        raise EncodingRefused(
            f"more than {MOST_OPT_OUTS:,} records are opted out",
            hint="leave so many out of the source itself, and submit the next dataset version",
        )
    return _MAGIC + b"".join(names)


def read_opt_outs(data: bytes, uploader: str) -> Bytes2D:
    """Return the pseudonyms of a list, uint8[N, 16], ascending. Raises EncodingRefused."""
    body = data[len(_MAGIC) :]
    fits = data.startswith(_MAGIC) and len(body) % PSEUDONYM_BYTES == 0
    if not fits or len(body) > PSEUDONYM_BYTES * MOST_OPT_OUTS:
        raise _strange(uploader)
    names = [body[at : at + PSEUDONYM_BYTES] for at in range(0, len(body), PSEUDONYM_BYTES)]
    if any(one >= after for one, after in pairwise(names)):
        raise _strange(uploader)
    return np.frombuffer(body, np.uint8).reshape(-1, PSEUDONYM_BYTES)


def _strange(uploader: str) -> EncodingRefused:
    return EncodingRefused(
        f"what {uploader!r} sent as its opt-out list is none",
        hint="make and send the list again: linkage-site opt-out",
    )
