"""What is said over HTTP about clerical reviews (rules: linkage.messages)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from linkage.messages import Count, Id, Message, Name
from linkage.review import Answer

ReviewerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
"""Who reviews at the broker's console."""
Agreement = Literal["equal", "similar", "different", "missing"]


class ReviewRequest(Message):
    """Open the review of a finished run; run_id: None for the newest."""

    run_id: Id | None = None


class FieldAgreement(Message):
    """How well two records agree in one field; missing: at least one of them lacks it."""

    field: str
    agreement: Agreement


class ReviewCase(Message):
    """
    A pair of records to decide about: whose they are, and how their fields agree. case_id is
    random; nothing here names a record or a value.
    """

    run_id: Id
    case_id: Id
    parties: tuple[str, str]
    fields: list[FieldAgreement]


class NextCase(Message):
    """The next case for the caller; None: nothing is left that the caller has not read."""

    case: ReviewCase | None
    left: Count


class OwnDecision(Message):
    """A decision of the caller that counts, and that it may take back while the review is open."""

    case_id: Id
    answer: Answer
    decided_at: int


class Standing(Message):
    """
    How many cases are where. unread; once: read once; differ: read twice, not agreed; same,
    different: agreed by two; unsure: read three times, not agreed.
    """

    unread: Count
    once: Count
    differ: Count
    same: Count
    different: Count
    unsure: Count


class ReviewDecision(Message):
    """Are both records one person?"""

    answer: Answer


class ReviewState(Message):
    """
    state: opening and closing take a worker some seconds; open; closed; failed. cases: shown, those
    with known answers among them. readings: answers so far.

    mine, left: the caller's readings, and cases that it may still read. For the admin only:
    undecided, cases that need another reading; reviewers, who may review at the console; readers,
    readings by reviewer; agreement, kappa of every two so far; standing, of an open review;
    figures, once closed (linkage.review). To a reviewer, who can take answers back, the number of
    undecided cases would tell what others have said about each.
    """

    run_id: Id
    study_id: Name
    state: Literal["opening", "open", "closing", "closed", "failed"]
    opened_at: int
    closed_at: int | None = None
    cases: Count
    readings: Count
    undecided: Count | None = None
    mine: Count = 0
    left: Count = 0
    reviewers: list[str] = Field(default_factory=list)
    readers: dict[str, int] = Field(default_factory=dict)
    agreement: list[dict[str, Any]] = Field(default_factory=list)
    standing: Standing | None = None
    figures: dict[str, Any] | None = None
    failure: str | None = None
