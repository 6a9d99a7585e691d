"""
The imaging party's answers: which question IDs qualify, and the rows of a delivery.

It evaluates at home, for all of its subjects alike, and seals to the enclave only; nothing tells
it who matched, and nothing tells the broker who qualifies.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from linkage import delivery, idtables
from linkage.errors import Conflict, NotAllowed, NotFound, PackageRefused, SiteRefused
from linkage.messages import (
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    QuestionState,
)
from linkage.pseudonyms import random_ids
from linkage.records import Bytes2D
from sites import casemaps
from sites.cohort.attrition import Attrition, attrition_from_bytes
from sites.cohort.bundle import rows_to_bytes
from sites.cohort.imaging import ImagingAnswer, evaluate
from sites.cohort.manifest import cover_manifest, cover_manifest_from_bytes
from sites.cohort.spec import imaging_criteria
from sites.questions import require_approved
from sites.session import Session

_ANSWER_BLOCK = 64 * 1024


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
                fits = len(answer_imaging(session, question.question_id).record_ids)
            except NotAllowed:
                done[question.question_id] = "NOT ANSWERED: waits for this party's steward"
                continue
            done[question.question_id] = f"answered: {fits:,} subjects fit"
            _sent(session, question.question_id)
        delivery_id = question.delivery_id or ""
        if delivery_id and _unsent(session, delivery_id):
            try:
                rows = send_rows(session, question.question_id, delivery_id)
            except NotAllowed as fault:
                done[delivery_id] = f"NOT SENT: {fault.message}"
                continue
            done[delivery_id] = f"rows of {rows:,} subjects sent"
            _sent(session, delivery_id)
    return done


def waiting(session: Session) -> dict[str, str]:
    """Return what `answer_everything` would answer or send now, by question or delivery."""
    found: dict[str, str] = {}
    for question in session.broker.questions(session.study_id):
        if question.state == "done" and _unsent(session, question.question_id):
            found[question.question_id] = f"answer: {question.title}"
        if question.delivery_id and _unsent(session, question.delivery_id):
            found[question.delivery_id] = f"send the rows of: {question.title}"
    return found


def _unsent(session: Session, subject: str) -> bool:
    """Has the broker prepared `subject` for this party, and did this party not answer it yet?"""
    waits = session.broker.inbox(session.study_id, subject=subject)
    return bool(waits) and not (session.vault.folder / "answered" / subject).exists()


def _sent(session: Session, subject: str) -> None:
    mark = session.vault.folder / "answered" / subject
    mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark.touch(mode=0o600)


def answer_imaging(session: Session, question_id: str) -> ImagingAnswer:
    """
    Evaluate the imaging criteria of a question and send the qualifying IDs to the enclave.

    From these IDs the enclave learns which of its own persons have images that fit, so this
    party's steward comes first: raises NotAllowed without an approval of the question.
    """
    question = session.broker.question(session.study_id, question_id)
    require_approved(session, question)
    answer = _evaluate(session, question)
    _, opened = session.receive(QUESTION_IDS, subject=question_id)
    table = idtables.unpack(opened, idtables.QUESTION_IDS)
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    fits = set(answer.record_ids)
    qualifies = [record_ids.get(p.tobytes()) in fits for p in table["record_pseudonym"]]
    ids = table["question_id"][np.array(qualifies, dtype=bool)]
    packed = pack_answer(answer.attrition, ids, size=len(qualifies))
    _send(session, QUESTION_ANSWER, question_id, packed)
    return answer


def send_rows(session: Session, question_id: str, delivery_id: str) -> int:
    """
    Encrypt the rows of every subject that fits, send them, and return how many subjects.

    Raises NotAllowed unless this party's own steward approved the question as it now reads.
    """
    question = session.broker.question(session.study_id, question_id)
    require_approved(session, question)
    answer = _evaluate(session, question)
    _, key = session.receive(DELIVERY_KEY, subject=delivery_id)
    record_ids = casemaps.newest(session)
    pseudonyms = {record_id: pseudonym for pseudonym, record_id in record_ids.items()}
    rows = [
        delivery.encrypt_rows(key, pseudonyms[record_id], rows_to_bytes(table))
        for record_id, table in answer.subjects()
        if record_id in pseudonyms
    ]
    covers = session.signed.study.study.image_retrieval == "cover"
    cover = cover_manifest(answer.rows) if covers else b""
    packed = _pack(answer.attrition.to_bytes(), cover, delivery.pack_rows(rows))
    _send(session, DELIVERY_ROWS, delivery_id, packed)
    return len(rows)


def pack_answer(attrition: Attrition, question_ids: Bytes2D, *, size: int) -> bytes:
    """
    Return attrition and qualifying question IDs (uint8[N, 16]) as one message.

    Filled up to `size` IDs with random ones, which are nobody's, and to whole blocks: the broker,
    which sees how long the sealed message is, must not learn how many qualify.
    """
    filled = np.concatenate([question_ids, random_ids(size - len(question_ids))])
    shuffled = filled[np.lexsort(filled.T)]
    ids = idtables.pack({"question_id": shuffled}, idtables.QUALIFYING)
    packed = _pack(attrition.to_bytes(), ids)
    return packed.ljust(-(-len(packed) // _ANSWER_BLOCK) * _ANSWER_BLOCK, b"\0")


def unpack_answer(data: bytes) -> tuple[Attrition, Bytes2D]:
    """
    Return what `pack_answer` packed; IDs that nobody has are fillers. Raises PackageRefused.
    """
    attrition, ids = _unpack(data, 2)
    return attrition_from_bytes(attrition), idtables.unpack(ids, idtables.QUALIFYING)["question_id"]


def unpack_delivery(data: bytes) -> tuple[Attrition, pa.Table | None, bytes]:
    """Return attrition, cover manifest (None unless the study covers) and bundle of rows."""
    attrition, cover, bundle = _unpack(data, 3)
    made = cover_manifest_from_bytes(cover) if cover else None
    return attrition_from_bytes(attrition), made, bundle


def _pack(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _unpack(data: bytes, count: int) -> list[bytes]:
    parts, at = [], 0
    for _ in range(count):
        end = at + 8 + int.from_bytes(data[at : at + 8], "big")
        if at + 8 > len(data) or end > len(data):
            raise PackageRefused("the imaging party's answer is truncated", hint="ask again")
        parts.append(data[at + 8 : end])
        at = end
    return parts


def enclave_of(session: Session) -> str:
    """Return the study's enclave. Raises NotFound if it has none."""
    return _party_of(session, "enclave")


def imaging_of(session: Session) -> str:
    """Return the study's imaging party. Raises NotFound if it has none."""
    return _party_of(session, "imaging")


def _send(session: Session, purpose: str, subject: str, data: bytes) -> None:
    try:
        session.send(enclave_of(session), purpose, subject, data)
    except Conflict:
        # An earlier answer arrived though we did not hear so: sealed anew, it looks different.
        if not session.broker.inbox(session.study_id, subject=subject):
            raise


def _party_of(session: Session, kind: str) -> str:
    party = session.signed.study.party_of_kind(kind)
    if party is None:
        raise NotFound(
            f"the study has no party of kind {kind!r}", hint="cohorts need imaging and enclave"
        )
    return party.id


def _evaluate(session: Session, question: QuestionState) -> ImagingAnswer:
    if session.site.imaging is None or question.imaging is None:
        raise SiteRefused(
            file="site file",
            line=0,
            key="imaging",
            rule=f"{session.party!r} cannot answer imaging criteria",
            hint="only the imaging party answers them; it needs [imaging] in its site file",
        )
    return evaluate(session.site.imaging, imaging_criteria(question.imaging))
