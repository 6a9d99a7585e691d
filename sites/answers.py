"""
The imaging party's answers: which question IDs qualify, and the rows of a delivery.

It evaluates at home, for all of its subjects alike, and seals to the enclave only; nothing tells
it who matched, and nothing tells the broker who qualifies.
"""

from __future__ import annotations

import numpy as np

from linkage import delivery, idtables
from linkage.cohort.spec import imaging_criteria
from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.commitments import require_shown
from linkage.errors import (
    CohortRefused,
    Conflict,
    NotAllowed,
    NotFound,
    PackageRefused,
    SiteRefused,
    SourceRefused,
)
from linkage.messages import (
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    QuestionState,
)
from sites import casemaps
from sites.allowing import require_answerable
from sites.answer_parts import encrypt_days, pack_answer, pack_delivery
from sites.cohort.config import ImagingConfig
from sites.cohort.dates import require_countable
from sites.cohort.imaging import ImagingAnswer, evaluate
from sites.cohort.manifest import cover_manifest
from sites.outbox import SENT_BEFORE, send_once, was_forgotten
from sites.questions import require_approved, require_delivering, require_epoch, require_usable
from sites.session import Session
from sites.terms import require_terms, terms_allow


def answer_everything(session: Session) -> dict[str, str]:
    """
    Answer every question that has this party's question IDs ready, send every delivery's rows.

    Returns what was done, by question or delivery; what was sent before is left as it is.
    """
    done: dict[str, str] = {}
    for question in session.broker.questions(session.study_id):
        ready = question.state == "done"
        if ready and _unsent(session, question.question_id):
            try:
                require_shown(question)
            except PackageRefused as fault:
                done[question.question_id] = f"NOT ANSWERED: {fault.message}"
                continue
            try:
                fits = len(answer_imaging(session, question.question_id).record_ids)
            except NotAllowed as fault:
                waits = terms_allow(session, question.use)
                why = "waits for this party's steward" if waits else fault.message
                done[question.question_id] = f"NOT ANSWERED: {why}"
                continue
            # One that has ended, or that this commons cannot evaluate, keeps no other waiting.
            except (Conflict, CohortRefused, SourceRefused) as fault:
                done[question.question_id] = f"NOT ANSWERED: {fault.message}"
                continue
            said = f"answered: {fits:,} subjects fit"
            done[question.question_id] = _or_forgotten(session, question.question_id, said)
            mark_answered(session, question.question_id)
        delivery_id = question.delivery_id or ""
        if delivery_id and _unsent(session, delivery_id):
            try:
                rows = send_rows(session, question.question_id, delivery_id)
            except (NotAllowed, Conflict) as fault:  # also of which records were withdrawn since
                done[delivery_id] = f"NOT SENT: {fault.message}"
                continue
            said = f"rows of {rows:,} subjects sent"
            done[delivery_id] = _or_forgotten(session, delivery_id, said)
            mark_answered(session, delivery_id)
    return done


def _or_forgotten(session: Session, subject: str, said: str) -> str:
    """Return `said`, or that the broker had something of this site for `subject` already."""
    return SENT_BEFORE if was_forgotten(session, subject) else said


def waiting(session: Session) -> dict[str, str]:
    """Return what `answer_everything` would answer or send now, by question or delivery."""
    found: dict[str, str] = {}
    for question in session.broker.questions(session.study_id):
        if question.stopped:
            continue
        if question.state == "done" and _unsent(session, question.question_id):
            found[question.question_id] = f"answer: {question.title}"
        if question.delivery_id and _unsent(session, question.delivery_id):
            found[question.delivery_id] = f"send the rows of: {question.title}"
    return found


def _unsent(session: Session, subject: str) -> bool:
    """Has the broker prepared `subject` for this party, and did this party not answer it yet?"""
    waits = session.broker.inbox(session.study_id, subject=subject)
    return bool(waits) and not is_answered(session, subject)


def is_answered(session: Session, subject: str) -> bool:
    """Has this site done its part in a question or delivery?"""
    return (session.vault.folder / "answered" / subject).exists()


def mark_answered(session: Session, subject: str) -> None:
    """Remember that this site has done its part in a question or delivery."""
    mark = session.vault.folder / "answered" / subject
    mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark.touch(mode=0o600)


def answer_imaging(session: Session, question_id: str) -> ImagingAnswer:
    """
    Evaluate the imaging criteria of a question and send the qualifying IDs to the enclave.

    From these IDs the enclave learns which of its own persons have images that fit, so this
    party says yes first: raises NotAllowed without (sites.allowing), and where its terms forbid
    the use (sites.terms).
    """
    question = session.broker.question(session.study_id, question_id)
    require_shown(question)
    require_terms(session, question.use)
    require_answerable(session, question)
    require_usable(question)
    require_epoch(session, question)
    config, criteria = _asked_of(session, question)
    answer = evaluate(config, criteria)
    if criteria.dates:
        require_countable(answer.frame, answer.index_event)
    _, opened = session.receive(QUESTION_IDS, subject=question_id)
    table = idtables.unpack(opened, idtables.QUESTION_IDS)
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    fits = set(answer.record_ids)
    qualifies = [record_ids.get(p.tobytes()) in fits for p in table["record_pseudonym"]]
    mine = {name: column[np.array(qualifies, dtype=bool)] for name, column in table.items()}
    days = None
    if criteria.dates:
        of = [record_ids[pseudonym.tobytes()] for pseudonym in mine["record_pseudonym"]]
        each = [answer.study_days(record_id) for record_id in of]
        days = encrypt_days(mine, each, frame=answer.frame, index_event=answer.index_event)
    # In numbers only: before a delivery the enclave is not shown what was asked of the images.
    steps = answer.attrition.numbered()
    packed = pack_answer(steps, mine["question_id"], size=len(qualifies), days=days)
    _send(session, QUESTION_ANSWER, question_id, packed)
    return answer


def send_rows(session: Session, question_id: str, delivery_id: str) -> int:
    """
    Encrypt the rows of every subject that fits, send them, and return how many subjects.

    Raises NotAllowed unless this party's own steward approved the question as it now reads.
    """
    question = session.broker.question(session.study_id, question_id)
    require_shown(question)
    require_terms(session, question.use)
    require_approved(session, question)
    require_epoch(session, question)
    require_delivering(session)
    config, criteria = _asked_of(session, question)
    answer = evaluate(config, criteria)
    _, key = session.receive(DELIVERY_KEY, subject=delivery_id)
    record_ids = casemaps.newest(session)
    pseudonyms = {record_id: pseudonym for pseudonym, record_id in record_ids.items()}
    rows = [
        delivery.encrypt_rows(key, pseudonyms[record_id], content)
        for record_id, content in answer.packed()
        if record_id in pseudonyms
    ]
    covers = session.signed.study.study.image_retrieval == "cover"
    cover = cover_manifest(answer.rows, answer.files) if covers else b""
    packed = pack_delivery(answer.attrition, cover, delivery.pack_rows(rows), config.use)
    _send(session, DELIVERY_ROWS, delivery_id, packed)
    return len(rows)


def enclave_of(session: Session) -> str:
    """Return the study's enclave. Raises NotFound if it has none."""
    return _party_of(session, "enclave")


def imaging_of(session: Session) -> str:
    """Return the study's imaging party. Raises NotFound if it has none."""
    return _party_of(session, "imaging")


def _send(session: Session, purpose: str, subject: str, data: bytes) -> None:
    send_once(session, enclave_of(session), purpose, subject, lambda: data)


def _party_of(session: Session, kind: str) -> str:
    party = session.signed.study.party_of_kind(kind)
    if party is None:
        raise NotFound(
            f"the study has no party of kind {kind!r}", hint="cohorts need imaging and enclave"
        )
    return party.id


def _asked_of(session: Session, question: QuestionState) -> tuple[ImagingConfig, ImagingCriteria]:
    """Return what to evaluate, and on what. Raises SiteRefused at another party."""
    if session.site.imaging is None or question.imaging is None:
        raise SiteRefused(
            file="site file",
            line=0,
            key="imaging",
            rule=f"{session.party!r} cannot answer imaging criteria",
            hint="only the imaging party answers them; it needs [imaging] in its site file",
        )
    return session.site.imaging, imaging_criteria(question.imaging)
