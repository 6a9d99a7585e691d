"""
The pages of clerical reviews: the list, one pair after another for a reviewer, and for the admin
how far a review is, how reviewers agree and what came out.
"""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Response

from broker.policy import Action, require_id
from broker.store.reviews import OPEN
from broker.web.rendering import page, see_other
from broker.web.visits import PageMay, Visit
from linkage.errors import LinkageError, PackageRefused
from linkage.review import Answer
from linkage.review_messages import ReviewCase, ReviewState

router = APIRouter(prefix="/studies/{study_id}/reviews", include_in_schema=False)

Reader = Annotated[Visit, Depends(PageMay(Action.READ_REVIEW))]
Reviewer = Annotated[Visit, Depends(PageMay(Action.REVIEW))]
Opener = Annotated[Visit, Depends(PageMay(Action.OPEN_REVIEW))]
STATES = {"opening": "busy", "open": "good", "closing": "busy", "closed": "off", "failed": "bad"}
MARKS = {"equal": "=", "similar": "≈", "different": "≠", "missing": "\N{EN DASH}"}
_WORDS = {"ssn": "social security number", "zip": "ZIP code", "mrn": "record number"}
_AHEAD = 2
"""Pairs that a page holds: the one that is shown, and the one that follows at once."""


@router.get("")
def reviews(visit: Reader) -> Response:
    """List the study's reviews, newest first, and what could be reviewed."""
    return _list(visit)


@router.post("")
def open_review(visit: Opener) -> Response:
    """Open the review of a run."""
    try:
        made = visit.broker.reviews.open(visit.grant, require_id(visit.text("run") or None))
    except LinkageError as refusal:
        return _list(visit, refusal)
    return see_other(_at(made), "review-opened")


@router.get("/{review_id}")
def review(visit: Reader, review_id: str) -> Response:
    """Show a reviewer the next pair, and everybody else how far the review is."""
    return _review(visit, review_id)


@router.post("/{review_id}/close")
def close_review(visit: Opener, review_id: str) -> Response:
    """Close a review, once its run was typed again."""
    state = visit.broker.reviews.state(visit.grant, review_id)
    if visit.text("confirm") != state.run_id:
        return see_other(_at(state), "not-confirmed")
    return see_other(_at(visit.broker.reviews.close(visit.grant, review_id)), "review-closing")


@router.get("/{review_id}/cases/{case_id}")
def one_case(visit: Reviewer, review_id: str, case_id: str) -> Response:
    """Show a reviewer this pair first: one whose answer was taken back."""
    return _review(visit, review_id, first=case_id)


@router.post("/{review_id}/cases/{case_id}")
def answer(visit: Reviewer, review_id: str, case_id: str) -> Response:
    """Keep a reviewer's answer, and show the next pair."""
    said = visit.text("answer")
    if said not in get_args(Answer):
        raise PackageRefused("this is no answer", hint="same, different or unsure")
    visit.broker.reviews.keep(visit.grant, review_id, case_id, said)  # type: ignore[arg-type]
    return _review(visit, review_id) if visit.partial else see_other(_path(visit, review_id))


@router.post("/{review_id}/cases/{case_id}/undo")
def undo(visit: Reviewer, review_id: str, case_id: str) -> Response:
    """Take a reviewer's answer back, and show its pair again."""
    visit.broker.reviews.take_back(visit.grant, review_id, case_id)
    if visit.partial:
        return _review(visit, review_id, first=case_id)
    return see_other(f"{_path(visit, review_id)}/cases/{case_id}", "answer-taken-back")


def _list(visit: Visit, refusal: LinkageError | None = None) -> Response:
    return page(
        visit,
        "reviews.html",
        status=422 if refusal else 200,
        reviews=visit.broker.reviews.all(visit.grant),
        runs=visit.broker.reviews.to_open(visit.grant) if visit.may(Action.OPEN_REVIEW) else [],
        allowed=visit.grant.study.config.reviews is not None,
        refusal=refusal,
        states=STATES,
    )


def _review(visit: Visit, review_id: str, *, first: str = "") -> Response:
    state = visit.broker.reviews.state(visit.grant, review_id, left=False)
    if not visit.may(Action.REVIEW):
        return page(visit, "review.html", review=state, states=STATES)
    if state.state != OPEN:
        return page(visit, "review_over.html", review=state, states=STATES)
    pairs, left = visit.broker.reviews.upcoming(visit.grant, review_id, most=_AHEAD, first=first)
    return page(
        visit,
        "review_pairs_part.html" if visit.partial else "review_pairs.html",
        review=state,
        pairs=pairs,
        left=left,
        own=visit.broker.reviews.own_last(visit.grant, review_id),
        at=_at(state),
        marks=MARKS,
        said=said_of,
        named=named,
    )


def said_of(pair: ReviewCase) -> str:
    """Return a pair as a sentence, for who listens: what is equal, similar, different, missing."""
    parts = [f"A record of {pair.parties[0]}, one of {pair.parties[1]}."]
    for kind in MARKS:
        names = [named(one.field) for one in pair.fields if one.agreement == kind]
        if names:
            parts.append(f"{kind.capitalize()}: {', '.join(names)}.")
    return " ".join(parts)


def named(field: str) -> str:
    """Return a field's name in words."""
    return _WORDS.get(field, field.replace("_", " "))


def _at(state: ReviewState) -> str:
    return f"/studies/{state.study_id}/reviews/{state.run_id}"


def _path(visit: Visit, review_id: str) -> str:
    return f"/studies/{visit.grant.study.id}/reviews/{review_id}"
