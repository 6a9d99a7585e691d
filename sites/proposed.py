"""
Each kind of proposal: whether it may be done here, doing it, and whether it was done.

Everything but the salts of a question follows from the proposal: decisions and remarks bear the
time at which the person made them, so the same proposal gives the same signed bytes, and the
broker's rule that an older decision does not replace a newer one holds for them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linkage.cohort.spec import CohortSpec, parse_spec
from linkage.cohort.spec_notes import of_criteria
from linkage.commitments import require_shown
from linkage.errors import Conflict, KeyRefused, NotAllowed
from linkage.messages import QuestionRequest, QuestionState
from linkage.proposal_messages import (
    Allow,
    Ask,
    Consent,
    Decide,
    Deliver,
    ProposalSettled,
    ProposalState,
    ProposedRemark,
)
from linkage.question_messages import Remark
from linkage.sealing import PublicIdentity
from sites.agent_tasks import Purposes
from sites.allowing import PERSON, allow, require_newest, said_at
from sites.asking import last_day, request_of, require_date
from sites.counted import mark_asked
from sites.questions import (
    decide_about,
    newest_decision,
    remember,
    require_approved,
    require_delivering,
    require_epoch,
    require_usable,
)
from sites.releases import consent_of, shown
from sites.session import Session
from sites.terms import require_terms


@dataclass(frozen=True, slots=True)
class Begun:
    """
    What a site remembers of a proposal that it began. request: of an ask, what it sends, as JSON.
    settled: what became of it, None while that is open.
    """

    digest: str
    request: dict[str, Any] | None = None
    settled: ProposalSettled | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A proposal that passed all checks. begun: to be written down before `act` is called."""

    begun: Begun
    act: Callable[[], ProposalSettled]


def prepare(session: Session, one: ProposalState, begun: Begun | None) -> Ready:
    """Check a proposal; nothing leaves yet. Raises LinkageError where it may not be done."""
    match one.body:
        case Ask() as body:
            return _ask(session, one, body, begun)
        case Decide() as body:
            return _decide(session, one, body)
        case Consent() as body:
            return _consent(session, one, body)
        case ProposedRemark() as body:
            return _remark(session, one, body)
        case Allow() as body:
            return _allow(session, one, body)
        case Deliver() as body:
            return _deliver(session, one, body)
        case None:
            raise Conflict("the proposal says nothing", hint="propose it again")


def found(session: Session, one: ProposalState, begun: Begun) -> ProposalSettled | None:
    """Return how a proposal was settled that was begun before, None where it was not done yet."""
    match one.body:
        case Ask():
            sent = QuestionRequest.model_validate(begun.request)
            asked = session.broker.questions(session.study_id)
            hit = next((q.question_id for q in asked if q.spec_hash == sent.spec_hash), "")
            return _done(hit) if hit else None
        case Decide() as body:
            question = session.broker.question(session.study_id, body.question_id)
            signed = question.decisions.get(session.party)
            if signed is None or (signed.decision, signed.decided_at) != (
                body.decision,
                one.made_at,
            ):
                return None
            signed.verify(session.identity.public())
            # The process may have died before it wrote down what lets this party's rows go.
            remember(session, question, signed)
            return _done(question.question_id)
        case Consent() as body:
            state = shown(session, body.release_id)
            made = consent_of(session, state, body.decision)
            there = state.consents.get(session.party) == made
            return _done(body.release_id) if there else None
        case ProposedRemark() as body:
            said = session.broker.remarks(session.study_id, body.question_id)
            mine = _signed_remark(session, one, body)
            there = any(state.remark == mine for state in said)
            return _done(body.question_id) if there else None
        case Allow() as body:
            question = session.broker.question(session.study_id, body.question_id)
            there = said_at(session, question) == (one.made_at, True)
            return _done(body.question_id) if there else None
        case Deliver() as body:
            ordered = session.broker.question(session.study_id, body.question_id).delivery_id
            return _done(ordered) if ordered else None
        case None:
            return None


def _done(result: str, note: str = "") -> ProposalSettled:
    return ProposalSettled(state="done", result=result, note=note)


# A researcher asks


def _ask(session: Session, one: ProposalState, body: Ask, begun: Begun | None) -> Ready:
    enclave = session.signed.study.party_of_kind("enclave")
    if enclave is None or enclave.id != session.party:
        raise NotAllowed("questions are asked through the enclave", hint="propose it there")
    spec = specification(body.specification)
    require_terms(session, spec.cohort.use)
    _require_reader(body.reader)
    until = body.expires.isoformat() if body.expires else last_day(session).isoformat()
    require_date(until)
    ends = session.signed.study.study.expires
    if ends is not None and until > ends.isoformat():
        raise Conflict(f"the study's last day is {ends}", hint="name that day or an earlier one")
    kept = begun.request if begun else None
    request = (
        QuestionRequest.model_validate(kept)
        if kept
        else request_of(spec, "", expires=until, reader=body.reader)
    )

    def act() -> ProposalSettled:
        mark_asked(session, request.spec_hash)
        job = session.broker.ask_question(session.study_id, request, once=one.proposal_id)
        return _done(job.job_id, "\n".join(of_criteria(spec)))

    return Ready(Begun(one.digest, request.model_dump(mode="json")), act)


def specification(text: str) -> CohortSpec:
    """Read a specification that came over a wire: it opens no file here. Raises CohortRefused."""
    return parse_spec(text, file="the specification", base=None)


def _require_reader(reader: PublicIdentity) -> None:
    try:
        reader.require_keys()
    except KeyRefused:
        raise Conflict("the reading key is malformed", hint="ask again: it is made anew") from None


# A steward decides


def _decide(session: Session, one: ProposalState, body: Decide) -> Ready:
    question = _question(session, body.question_id, body.spec_hash)
    newest = newest_decision(session, question)
    again = newest is not None and (newest.decision, newest.decided_at) == (
        body.decision,
        one.made_at,
    )
    if newest is not None and newest.decided_at >= one.made_at and not again:
        raise Conflict(
            "a later decision of this party is here already",
            hint="decide again, if it is still meant",
        )
    expires = body.until.isoformat() if body.until and body.decision == "approve" else ""
    if body.decision == "approve":
        # What `linkage-cohort approve` checks besides, decide_about does.
        require_usable(question)
        require_epoch(session, question)
        require_date(expires)
        _require_policy(session, question, questions=True, deliveries=True)

    def act() -> ProposalSettled:
        decide_about(session, question, body.decision, expires=expires, decided_at=one.made_at)
        return _done(question.question_id)

    return Ready(Begun(one.digest), act)


def _question(session: Session, question_id: str, spec_hash: str) -> QuestionState:
    """Return the question that the person read. Raises Conflict where it is another one."""
    question = session.broker.question(session.study_id, question_id)
    told = (question.study_id, question.question_id, question.spec_hash)
    if told != (session.study_id, question_id, spec_hash):
        raise Conflict("the question is another one than was read", hint="read it again")
    return question


def _require_policy(
    session: Session, question: QuestionState, *, questions: bool = False, deliveries: bool = False
) -> None:
    """Raises NotAllowed where the site file refuses the purpose: the portal does not overrule."""
    purpose = Purposes(session).of(question.run_id)
    agent = session.site.agent
    if (questions and agent.for_questions(purpose) == "refuse") or (
        deliveries and agent.for_deliveries(purpose) == "refuse"
    ):
        raise NotAllowed(
            "this site's policy refuses such questions, or gives no rows out for them",
            hint="the site's operator changes [agent], or decides with `linkage-cohort`",
        )


# A steward allows counts alone, and orders a delivery


def _allow(session: Session, one: ProposalState, body: Allow) -> Ready:
    question = _question(session, body.question_id, body.spec_hash)
    require_newest(session, question, one.made_at)
    require_shown(question)
    require_usable(question)
    require_epoch(session, question)
    require_terms(session, question.use)
    _require_policy(session, question, questions=True)

    def act() -> ProposalSettled:
        allow(session, question, by=PERSON, said_at=one.made_at)
        return _done(question.question_id)

    return Ready(Begun(one.digest), act)


def _deliver(session: Session, one: ProposalState, body: Deliver) -> Ready:
    enclave = session.signed.study.party_of_kind("enclave")
    if enclave is None or enclave.id != session.party:
        raise NotAllowed("the enclave orders deliveries", hint="propose it there")
    question = _question(session, body.question_id, body.spec_hash)
    require_shown(question)
    require_terms(session, question.use)
    require_delivering(session)
    # Of this party as it signed it here; the broker asks for the other side's.
    require_approved(session, question)
    require_epoch(session, question)
    _require_policy(session, question, deliveries=True)

    def act() -> ProposalSettled:
        job = session.broker.start_delivery(session.study_id, question.question_id)
        return _done(job.job_id)

    return Ready(Begun(one.digest), act)


# A steward consents, and asks back


def _consent(session: Session, one: ProposalState, body: Consent) -> Ready:
    state = shown(session, body.release_id)
    if state.terms.hash != body.terms_hash:
        raise Conflict("the release has other terms than were read", hint="read it again")
    if body.decision == "approve" and state.terms.study_hash != session.signed.study_hash:
        raise Conflict(
            "the release was asked for under another signed study than this site has",
            hint="fetch the signed study, or have the release started again",
        )

    def act() -> ProposalSettled:
        session.broker.consent(consent_of(session, state, body.decision))
        return _done(body.release_id)

    return Ready(Begun(one.digest), act)


def _remark(session: Session, one: ProposalState, body: ProposedRemark) -> Ready:
    require_shown(_question(session, body.question_id, body.spec_hash))
    remark = _signed_remark(session, one, body)

    def act() -> ProposalSettled:
        session.broker.say(remark)
        return _done(body.question_id)

    return Ready(Begun(one.digest), act)


def _signed_remark(session: Session, one: ProposalState, body: ProposedRemark) -> Remark:
    remark = Remark(
        study_id=session.study_id,
        question_id=body.question_id,
        spec_hash=body.spec_hash,
        author=session.party,
        answers=body.answers,
        text=body.text,
        said_at=one.made_at,
    )
    return remark.sign(session.identity)
