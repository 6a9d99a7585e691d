"""Questions for people: where one stands, what the visitor does next, who decided what."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from broker.policy import Grant
from broker.services.question_lines import QuestionLine, Stage
from broker.services.questions import two_sides
from broker.services.relay import SharedReport
from broker.web.concept_help import names_in
from broker.web.question_form import Checked, checked
from broker.web.visits import Visit
from linkage.cohort.spec import clinical_criteria, imaging_criteria
from linkage.cohort.spec_words import clinical_in_words, imaging_in_words
from linkage.commitments import require_shown
from linkage.errors import CohortRefused, PackageRefused
from linkage.messages import QuestionState
from linkage.proposal_messages import Ask, ProposalState
from linkage.question_messages import RemarkState

STAGES: Mapping[Stage, tuple[str, str]] = {
    "prepared": ("busy", "being prepared"),
    "failed": ("bad", "failed"),
    "ended": ("off", "ended"),
    "asked": ("wait", "asked"),
    "answered": ("busy", "answered"),
    "counted": ("good", "counted"),
    "approved": ("good", "approved"),
    "delivery-prepared": ("busy", "delivery being prepared"),
    "delivery-failed": ("bad", "delivery failed"),
    "delivery-ready": ("busy", "delivery ordered"),
    "rows-sent": ("good", "rows delivered"),
}
"""By stage: the badge's colour, and its word."""

MINE: Mapping[str, tuple[str, str]] = {
    "waiting": ("busy", "waits for the site's agent"),
    "done": ("good", "done"),
    "refused": ("bad", "refused"),
    "withdrawn": ("off", "withdrawn"),
    "expired": ("off", "expired"),
}
"""By state of a proposal."""

TOLD_DAYS = 30
"""So long a list shows that a question was refused, or that nobody took it up."""


@dataclass(frozen=True, slots=True)
class Half:
    """The visitor's own half. words: by criterion; checked: is it in the hash, "" for yes."""

    party: str
    kind: str
    words: tuple[str, ...]
    content: str
    checked: str


def is_researcher(visit: Visit) -> bool:
    """Is the visitor a researcher of the page's study?"""
    study_id = visit.grant.study.id
    return any(r.kind == "researcher" and r.study_id == study_id for r in visit.caller.roles)


def waits_for(line: QuestionLine, grant: Grant) -> str:
    """Return in one sentence what a question waits for."""
    imaging, enclave = two_sides(grant.study)
    told = {
        "prepared": "The broker prepares its question IDs.",
        "failed": f"The broker could not prepare it: {line.why}.",
        "ended": f"Nobody uses it any more: {line.why}.",
        "asked": f"{imaging} has to say yes, and its agent to answer.",
        "answered": f"{imaging} has answered; {enclave} has to count.",
        "approved": f"All agree. {enclave}'s data manager may order the delivery.",
        "delivery-prepared": "The broker prepares the delivery's keys.",
        "delivery-failed": f"The broker could not prepare the delivery: {line.why}.",
        "delivery-ready": f"{imaging}'s agent has to send its rows.",
        "rows-sent": f"{imaging} has sent its rows; the cohort is built inside {enclave}.",
    }
    words = told.get(line.stage, "")
    if line.stage == "counted":
        words = f"For rows, the steward of {' and of '.join(line.waits)} has to approve."
    if line.asks and line.stage != "ended":
        words += f" {' and '.join(line.asks)} asked back."
    return words


def next_step(visit: Visit, line: QuestionLine, shared: SharedReport | None = None) -> str:
    """Return what the visitor does next, in one sentence. shared: the report of the cohort."""
    party = visit.grant.viewer
    if line.stage in ("ended", "failed"):
        anew = "Ask anew, if you still want to know." if is_researcher(visit) else ""
        return f"Nothing is to be done. {anew}".strip()
    if is_researcher(visit):
        if line.asks:
            return "A steward asks you something: answer below."
        read = "Read the report." if shared else "Read the counts."
        return read if line.counted else "Nothing for you now."
    if party and party in line.asks:
        return "You asked back; the researcher has to answer. You may decide meanwhile."
    if line.stage in ("approved", "delivery-failed") and party == two_sides(visit.grant.study)[1]:
        return "Order the delivery."
    if party and party in line.waits and line.stage in ("asked", "answered", "counted"):
        return "Decide: approve, deny, or ask back."
    return "Nothing for you now."


def stand(state: QuestionState, grant: Grant, shared: SharedReport | None) -> str:
    """Return what the forms, counts and report of a question's page depend on, as a word."""
    mine = state.approvals.get(grant.viewer, "open")
    offers = (may_allow(state, grant), may_order(state, grant))
    seen = (bool(state.stopped), state.counted, shared is not None, *offers, *state.open_asks)
    return "-".join(str(one).lower() for one in (mine, state.delivery_id or "none", *seen))


def own_half(state: QuestionState, grant: Grant) -> Half | None:
    """Return what the visitor's party is asked, None for who is shown no half."""
    content = state.imaging if state.imaging is not None else state.clinical
    if content is None:
        return None
    kind = "imaging" if state.imaging is not None else "clinical"
    try:
        words = (
            imaging_in_words(imaging_criteria(content))
            if kind == "imaging"
            else clinical_in_words(clinical_criteria(content))
        )
    except CohortRefused as fault:
        words = [f"This broker cannot read the criteria: {fault.message}"]
    return Half(grant.viewer, kind, tuple(words), _pretty(content), why_unlike(state))


def why_unlike(state: QuestionState) -> str:
    """Return why what is shown is not what the hash commits to, "" where it is."""
    try:
        require_shown(state)
    except PackageRefused as fault:
        return f"{fault.message}. {fault.hint}"
    return ""


def who_asked(proposals: list[ProposalState]) -> str:
    """Return who asked in the portal, as far as the visitor is told; "" if not there."""
    return next((one.person for one in proposals if one.kind == "ask"), "")


def may_decide(state: QuestionState, party: str) -> tuple[str, ...]:
    """Return the decisions that a side's steward may propose now."""
    mine = state.approvals.get(party)
    if mine == "approve":
        return ("revoke",)
    offered = () if state.stopped or state.delivery_id else ("approve",)
    return offered if mine in ("deny", "revoke") else (*offered, "deny")


def may_allow(state: QuestionState, grant: Grant) -> bool:
    """Is a yes to counts alone of use, which this side's steward has not denied?"""
    undecided = state.approvals.get(grant.viewer) is None
    return undecided and state.state == "done" and not (state.stopped or state.counted)


def may_order(state: QuestionState, grant: Grant) -> bool:
    """May the enclave's steward order the delivery?"""
    imaging, enclave = two_sides(grant.study)
    approved = {party for party, said in state.approvals.items() if said == "approve"}
    ready = {imaging, enclave} <= approved == set(state.approvals)
    return grant.viewer == enclave and ready and not (state.stopped or state.delivery_id)


def _pretty(content: Mapping[str, object]) -> str:
    kept = {key: value for key, value in content.items() if value not in (None, (), [], "")}
    return json.dumps(kept, indent=2, ensure_ascii=False)


def still_told(asks: list[ProposalState]) -> list[ProposalState]:
    """Return the newest asks that a list shows: those that wait, and what became of young ones."""
    since = time.time() - TOLD_DAYS * 86_400
    shown = (one for one in asks if one.body is not None and one.state != "withdrawn")
    return [one for one in shown if one.state == "waiting" or one.made_at > since][:10]


def title_of(one: ProposalState) -> str:
    """Return the title of a question that is proposed, as far as it can be read."""
    spec = checked(one.body.specification).spec if isinstance(one.body, Ask) else None
    return spec.cohort.title if spec else "A question"


def named(visit: Visit, content: object) -> list[tuple[int, str]]:
    """Return the names of the concepts that criteria name, as far as a site offers them."""
    return names_in(visit, content)


def read(text: str) -> Checked:
    """Return what a specification asks of whom."""
    return checked(text)


def unanswered(said: list[RemarkState]) -> list[RemarkState]:
    """Return the questions back that have no answer yet."""
    answered = {one.remark.answers for one in said}
    return [one for one in said if not one.remark.answers and one.number not in answered]
