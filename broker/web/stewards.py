"""What a steward's forms propose: a decision about a question, words about it."""

from __future__ import annotations

import datetime as dt
import re
from typing import cast, get_args

from pydantic import ValidationError

from broker.web.visits import Visit
from linkage.errors import Conflict
from linkage.messages import Decision
from linkage.proposal_messages import Allow, Decide, Deliver, ProposalRequest, ProposedRemark


def decide_from(visit: Visit, question_id: str) -> ProposalRequest:
    """
    Return the decision that was posted. Raises Conflict where no such decision or day is, or where
    the name of the question was to be typed and was not.
    """
    decision = visit.text("decision")
    if decision not in get_args(Decision):
        raise Conflict("there is no such decision", hint="approve, deny or revoke")
    if decision != "approve" and visit.text("confirm") != question_id:
        raise Conflict(
            "the name that was typed is not the question's", hint="nothing was done; type it again"
        )
    try:
        body = Decide(
            question_id=question_id,
            spec_hash=visit.text("spec_hash"),
            decision=cast(Decision, decision),
            until=read_day(visit.text("until")) if decision == "approve" else None,
        )
    except ValidationError:
        raise Conflict("the form is not this question's", hint="load the page again") from None
    return ProposalRequest(party=_party(visit), body=body)


def remark_from(visit: Visit, question_id: str) -> ProposalRequest:
    """Return the words that were posted. Raises Conflict where they cannot be sent."""
    answers = visit.text("answers")
    try:
        body = ProposedRemark(
            question_id=question_id,
            spec_hash=visit.text("spec_hash"),
            text=" ".join(visit.text("text").split()),
            answers=int(answers) if re.fullmatch(r"[0-9]{1,3}", answers) else 0,
        )
    except ValidationError:
        raise Conflict(
            "that cannot be sent", hint="3 to 1,000 letters, and nothing about a person"
        ) from None
    return ProposalRequest(party=_party(visit), body=body)


def allow_from(visit: Visit, question_id: str) -> ProposalRequest:
    """Return the yes to counts alone that was posted. Raises Conflict."""
    return _about(visit, Allow, question_id)


def deliver_from(visit: Visit, question_id: str) -> ProposalRequest:
    """Return the order of a delivery that was posted. Raises Conflict."""
    return _about(visit, Deliver, question_id)


def _about(visit: Visit, kind: type[Allow | Deliver], question_id: str) -> ProposalRequest:
    try:
        body = kind(question_id=question_id, spec_hash=visit.text("spec_hash"))
    except ValidationError:
        raise Conflict("the form is not this question's", hint="load the page again") from None
    return ProposalRequest(party=_party(visit), body=body)


def read_day(text: str) -> dt.date | None:
    """Return a day of a form, None for none. Raises Conflict."""
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise Conflict("a last day is a date, like 2027-03-31", hint="YYYY-MM-DD, UTC") from None


def _party(visit: Visit) -> str:
    """The party that the visitor acts for. Raises Conflict for who acts for none."""
    if not visit.grant.viewer:
        raise Conflict("you act for no party of this study", hint="its stewards decide")
    return visit.grant.viewer
