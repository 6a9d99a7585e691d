"""
A question in words, for whoever has to decide about it: purpose, what is asked, what would leave,
counts, who decided, what was asked back, and what comes next.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linkage.cohort import question_words, spec, spec_words
from linkage.commitments import require_shown
from linkage.errors import LinkageError
from linkage.messages import READER, Approval, QuestionState
from linkage.question_messages import RemarkState
from sites.questions import over
from sites.session import Session
from sites.terms import terms_allow

Rows = dict[str, object]


def summary(one: QuestionState, session: Session) -> Rows:
    """Return a question in a few lines, for a list of them."""
    return {
        "purpose": one.purpose,
        "use": one.use,
        "until": one.expires or "no last day",
        "decisions": ", ".join(_decided(one, session).values()) or "none yet",
        "now": now(one, session),
    }


def head(one: QuestionState, session: Session) -> Rows:
    """Return what is asked, why, since when and until when, and whether that can be trusted."""
    asked_at = dt.datetime.fromtimestamp(one.asked_at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows: Rows = {
        "purpose": one.purpose,
        "use": _use(one, session),
        "asked": f"{asked_at}, of run {one.run_id}, epoch {one.epoch or 'unknown'} of the study",
        "until": f"{one.expires or 'no last day'} (the question, and all that comes of it)",
        "hash": one.spec_hash,
        "hash checked": _checked(one),
        **_asked_of_you(one),
        "now": now(one, session),
    }
    if one.failure:
        rows["failed"] = one.failure
    return rows


def leaving(one: QuestionState, session: Session) -> Rows:
    """Return what would leave whom, for counts and for a delivery: the variables by name."""
    return dict(question_words.leaving(one, session.signed.study))


def counts_in_words(counts: Mapping[str, Any]) -> Rows:
    """Return suppressed counts, as the enclave made them, row by row."""
    rows: Rows = {}
    for step in counts.get("attrition", ()):
        rows[str(step.get("step", ""))] = step.get("persons", "")
    rows["persons who fit both halves"] = counts.get("persons", "")
    if "overlap" in counts:
        rows["persons with fitting images"] = counts["overlap"]
    for name, table in counts.get("distributions", {}).items():
        told = ", ".join(f"{label}: {shown}" for label, shown in (table or {}).items())
        rows[f"by {name}"] = told or "hidden: too few persons for a table"
    least, noise = int(counts.get("minimum_cell", 11)), int(counts.get("noise", 0))
    blurred = f"blurred by up to {noise} or 4 %, then " if noise else ""
    rows["how to read it"] = (
        f"nothing below {least} is shown; {blurred}rounded to multiples of"
        f" {counts.get('rounding', 5)}; parts need not add up; what differs by few persons from"
        " what was counted before reads the same; who is in as"
        " many small numbers as the study allows is left out of further ones until the study's next"
        " epoch, so many questions about one small cohort end in numbers that are too low"
    )
    for number, note in enumerate(counts.get("notes", ()), start=1):
        rows[f"note {number}"] = note
    return rows


def decisions(one: QuestionState, session: Session) -> Rows:
    """Return by party what it decided, until when, and whether its signature is its own."""
    said = _decided(one, session)
    return {
        party: said.get(party, "nothing yet").removeprefix(f"{party} ")
        for party in _sides(session, said)
    }


def remarks(said: Sequence[RemarkState], one: QuestionState, session: Session) -> Rows:
    """Return what was asked back and answered, with whose signature it is."""
    rows: Rows = {}
    for state in said:
        remark = state.remark
        who = "researcher" if remark.author == READER else remark.author
        label = f"{state.number}. {who}"
        if remark.answers:
            label += f" to {remark.answers}"
        rows[label] = remark.text + ("" if _signed(state, one, session) else "  [NOT SIGNED BY IT]")
    return rows


def commands(one: QuestionState, session: Session, site: Path) -> Rows:
    """Return what the steward of this party can do now. site: its site file."""
    name = f"{one.question_id} --site {site}"
    mine = one.approvals.get(session.party)
    rows: Rows = {}
    if one.stopped and mine not in ("deny", "revoke"):
        return rows
    if one.delivery_id is None and mine != "approve":
        # An imaging commons that answered has said yes to counts; its site file may have.
        if one.counted or (one.answered and one.imaging is not None):
            rows["yes"] = f"linkage-cohort approve {name} [--until DATE]"
        else:
            rows["yes, to counts alone"] = f"linkage-site allow {name}"
            rows["yes, to counts and rows"] = f"linkage-cohort approve {name} [--until DATE]"
    if mine == "approve":
        rows["take it back"] = f"linkage-cohort revoke {name}"
    elif mine is None:
        rows["no"] = f"linkage-cohort deny {name}"
    rows["ask first"] = f'linkage-cohort ask {one.question_id} "Why ...?" --site {site}'
    return rows


def now(one: QuestionState, session: Session) -> str:
    """Return where a question stands, and who has to do what next."""
    if one.stopped:
        newer = f"; take {one.newer}, which asks the same" if one.newer else ""
        return f"ENDED: {one.stopped}{newer}"
    if one.state != "done":
        return {"failed": "failed"}.get(one.state, "being prepared by the broker")
    waits = [p for p in _sides(session, {}) if one.approvals.get(p) != "approve"]
    asks = f"; asked back by {', '.join(one.open_asks)}" if one.open_asks else ""
    counted = _counted(one, session)
    if one.delivery_id:
        return f"{counted}; delivery {one.delivery_id}"
    if waits:
        return f"{counted}; delivery waits for the steward of: {', '.join(waits)}{asks}"
    return f"{counted}; approved by all{asks}: linkage-cohort deliver {one.question_id}"


def _use(one: QuestionState, session: Session) -> str:
    if terms_allow(session, one.use):
        return one.use
    return f"{one.use}: NOT ALLOWED by this party's terms"


def _counted(one: QuestionState, session: Session) -> str:
    """Return whether there are counts, and what they wait for."""
    if one.counted:
        return "counted"
    kinds = {p.kind: p.id for p in session.signed.study.party}
    imaging, enclave = kinds.get("imaging", ""), kinds.get("enclave", "")
    if one.answered:
        return f"answered by {imaging}; {enclave} has still to count"
    approved = one.approvals.get(imaging) == "approve"
    return f"counts wait for {'the site' if approved else 'a yes'} of {imaging}"


def _checked(one: QuestionState) -> str:
    try:
        require_shown(one)
    except LinkageError as fault:
        return f"NO: {fault.message}. {fault.hint}"
    return "yes: what is shown here is what every steward's hash commits to"


def _asked_of_you(one: QuestionState) -> Rows:
    rows: Rows = {}
    if one.imaging is not None:
        criteria = spec_words.imaging_in_words(spec.imaging_criteria(one.imaging))
        rows["asked of you"] = "; ".join(criteria) or "all images"
    if one.clinical is not None:
        persons = spec_words.clinical_in_words(spec.clinical_criteria(one.clinical))
        rows["asked of you"] = "; ".join(persons) or "all persons"
    if one.imaging is None or one.clinical is None:
        other = "others" if one.imaging is None and one.clinical is None else "the other side"
        rows[f"asked of {other}"] = "is for their stewards to read; the same hash binds it"
    return rows


def _decided(one: QuestionState, session: Session) -> dict[str, str]:
    words = {"approve": "approved", "deny": "denied", "revoke": "revoked"}
    said = {}
    for party, approval in one.decisions.items():
        told = f"{party} {words[approval.decision]}"
        if approval.expires:
            told += f" until {approval.expires}" + (" (OVER)" if over(approval.expires) else "")
        said[party] = told if _own(approval, party, one, session) else f"{told} (NOT SIGNED BY IT)"
    return said


def _own(approval: Approval, party: str, one: QuestionState, session: Session) -> bool:
    """Is a decision really this party's, about this question as every hash names it?"""
    named = (approval.study_id, approval.question_id, approval.spec_hash, approval.party)
    try:
        approval.verify(session.signed.pin(party))
    except LinkageError:
        return False
    return named == (session.study_id, one.question_id, one.spec_hash, party)


def _signed(state: RemarkState, one: QuestionState, session: Session) -> bool:
    remark = state.remark
    try:
        key = one.reader if remark.author == READER else session.signed.pin(remark.author)
        if key is None:
            return False
        remark.verify(key)
    except LinkageError:
        return False
    return (remark.question_id, remark.spec_hash) == (one.question_id, one.spec_hash)


def _sides(session: Session, also: Mapping[str, object]) -> list[str]:
    sides = [p.id for p in session.signed.study.party if p.kind in ("imaging", "enclave")]
    return sides + [party for party in also if party not in sides]
