"""
The imaging party's answers: which question IDs qualify, and the rows of a delivery.

It evaluates at home, for all of its subjects alike, and seals to the enclave only; nothing tells
it who matched, and nothing tells the broker who qualifies.
"""

from __future__ import annotations

import numpy as np

from linkage import delivery, idtables
from linkage.errors import NotFound, PackageRefused, SiteRefused
from linkage.messages import (
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    QuestionState,
)
from sites.cohort.attrition import Attrition, attrition_from_bytes
from sites.cohort.bundle import rows_to_bytes
from sites.cohort.imaging import ImagingAnswer, evaluate
from sites.cohort.spec import imaging_criteria
from sites.session import Session


def answer_imaging(session: Session, question_id: str) -> ImagingAnswer:
    """Evaluate the imaging criteria of a question and send the qualifying IDs to the enclave."""
    answer = _evaluate(session, session.broker.question(session.study_id, question_id))
    _, opened = session.receive(QUESTION_IDS, subject=question_id)
    table = idtables.unpack(opened, idtables.QUESTION_IDS)
    record_ids = session.vault.load_map(session.vault.newest_dataset())
    fits = set(answer.record_ids)
    qualifies = [record_ids.get(p.tobytes()) in fits for p in table["record_pseudonym"]]
    ids = table["question_id"][np.array(qualifies, dtype=bool)]
    packed = pack_answer(answer.attrition, ids)
    session.send(enclave_of(session), QUESTION_ANSWER, question_id, packed)
    return answer


def send_rows(session: Session, question_id: str, delivery_id: str) -> int:
    """Encrypt the rows of every subject that fits, send them, and return how many subjects."""
    answer = _evaluate(session, session.broker.question(session.study_id, question_id))
    _, key = session.receive(DELIVERY_KEY, subject=delivery_id)
    record_ids = session.vault.load_map(session.vault.newest_dataset())
    pseudonyms = {record_id: pseudonym for pseudonym, record_id in record_ids.items()}
    rows = [
        delivery.encrypt_rows(key, pseudonyms[record_id], rows_to_bytes(table))
        for record_id, table in answer.subjects()
        if record_id in pseudonyms
    ]
    session.send(enclave_of(session), DELIVERY_ROWS, delivery_id, delivery.pack_rows(rows))
    return len(rows)


def pack_answer(attrition: Attrition, question_ids: np.ndarray) -> bytes:
    """Return attrition and qualifying question IDs (uint8[N, 16]) as one message."""
    head = attrition.to_bytes()
    ids = idtables.pack({"question_id": question_ids}, idtables.QUALIFYING)
    return len(head).to_bytes(4, "big") + head + ids


def unpack_answer(data: bytes) -> tuple[Attrition, np.ndarray]:
    """Return what `pack_answer` packed. Raises PackageRefused."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise PackageRefused("the imaging party's answer is truncated", hint="ask again")
    ids = idtables.unpack(data[4 + size :], idtables.QUALIFYING)
    return attrition_from_bytes(data[4 : 4 + size]), ids["question_id"]


def enclave_of(session: Session) -> str:
    """Return the study's enclave. Raises NotFound if it has none."""
    return _party_of(session, "enclave")


def imaging_of(session: Session) -> str:
    """Return the study's imaging party. Raises NotFound if it has none."""
    return _party_of(session, "imaging")


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
