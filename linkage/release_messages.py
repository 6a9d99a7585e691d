"""
What both ends say about releases: their terms, the stewards' consents, their state, their pins.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from linkage.messages import Hex256, Id, Message, Name, SignedMessage

QUALITY = (
    (0.99, "very good (at least .99)"),
    (0.95, "good (at least .95)"),
    (0.9, "fair (at least .9)"),
)
"""
Classes of an estimate, best first; a lower one is "poor". A steward has to know whether a linkage
is any good, and a figure would tell one who uploads guesses how many of them matched. Even a class
depends on who matched, so it is for the admin and the enclave.
"""


class ReleaseTerms(Message):
    """
    What a steward consents to, fixed when the release was asked for.

    audience: the parties that get IDs, ascending. methods: the enclave also gets how each ID was
    linked. expires: the first of the last days of the study and of these parties, "" without one.
    """

    study_id: Name
    study_hash: Hex256
    release_id: Id
    run_id: Id
    audience: tuple[Name, ...]
    methods: bool = False
    expires: str = ""

    @property
    def hash(self) -> str:
        """SHA-256, hex, of the canonical JSON; both ends compute it for themselves."""
        return hashlib.sha256(self.canonical()).hexdigest()


class ReleaseConsent(SignedMessage):
    """A steward's decision about one release; signed with the party's key."""

    study_id: Name
    release_id: Id
    terms_hash: Hex256
    party: Name
    decision: Literal["approve", "deny"]


class ReleasePin(Message):
    """name: of what uses the release, such as a cohort. holds: False takes the pin away."""

    name: Name
    holds: bool = True


class ReleaseState(Message):
    """
    A release as the caller may see it.

    number: counted by study and audience, from 1; None until it is made. current: it is the newest
    of them. newest: the one to take instead of this; "" where there is none. precision, recall:
    classes of the run's estimates (QUALITY), "" for parties but the enclave. records, withdrawn: by
    party, its own for a party: rows in the release (or in the run, until it is made), and how many
    of them were withdrawn since. withdrawn_since: likewise, Unix seconds. affected: something of it
    was withdrawn; nobody fetches or uses it any more. checking: the broker still has to find out.
    needs: parties whose consent is missing. consents: by party. pins: names of what uses it, by
    party.
    """

    release_id: Id
    terms: ReleaseTerms
    state: Literal["waiting", "queued", "running", "done", "denied", "failed"]
    number: int | None = None
    current: bool = False
    newest: str = ""
    precision: str = ""
    recall: str = ""
    records: dict[str, int] = Field(default={})
    needs: tuple[str, ...] = ()
    consents: dict[str, ReleaseConsent] = Field(default={})
    checking: bool = False
    affected: bool = False
    withdrawn: dict[str, int] = Field(default={})
    withdrawn_since: dict[str, int] = Field(default={})
    pins: dict[str, tuple[str, ...]] = Field(default={})
    failure: str | None = None
    asked_at: int
    made_at: int | None = None


def quality(estimate: float | None) -> str:
    """Return the class of an estimate, "unknown" without one."""
    if estimate is None:
        return "unknown"
    return next((said for least, said in QUALITY if estimate >= least), "poor (below .9)")
