"""
What the enclave does with a question: count, and after approval join what comes in.

Only here do the two sides meet. Clinical criteria are evaluated on the enclave's own OMOP tables;
of the imaging party's subjects it can read just those whose rows open, which are its own persons.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from linkage import delivery, idtables
from linkage.errors import NotFound, PackageRefused, SiteRefused
from linkage.messages import (
    DELIVERY_CROSSWALK,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    QuestionState,
)
from linkage.pseudonyms import format_id
from sites import casemaps
from sites.answers import imaging_of, unpack_answer, unpack_delivery
from sites.cohort.bundle import rows_from_bytes
from sites.cohort.counts import Counts, answer_counts
from sites.cohort.join import Asked, Delivery, Terms, deliver, matches_table
from sites.cohort.omop import OmopSource
from sites.cohort.spec import ClinicalCriteria, clinical_criteria
from sites.questions import require_approved
from sites.session import Session


def count(session: Session, question_id: str) -> Counts:
    """
    Answer a question with suppressed counts.

    Raises NotFound while the imaging party has not answered, SiteRefused at another party.
    """
    criteria = _clinical(session, session.broker.question(session.study_id, question_id))
    _, opened = session.receive(QUESTION_IDS, subject=question_id)
    table = idtables.unpack(opened, idtables.QUESTION_IDS)
    _, answer = session.receive(QUESTION_ANSWER, subject=question_id, sender=imaging_of(session))
    _, qualifying = unpack_answer(answer)
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    by_record = {
        record_ids[pseudonym.tobytes()]: one.tobytes().hex()
        for pseudonym, one in zip(table["record_pseudonym"], table["question_id"], strict=True)
        if pseudonym.tobytes() in record_ids
    }
    with open_omop(session) as source:
        persons = source.persons_of(by_record)
        return answer_counts(
            {one.tobytes().hex() for one in qualifying},
            {person: by_record[record_id] for record_id, person in persons.items()},
            criteria,
            source,
            minimum_cell=session.signed.study.study.minimum_cell,
        )


@dataclass(frozen=True, slots=True)
class Received:
    """
    What a delivery brought. images: by cohort ID, series rows that opened.

    cohort_of: cohort ID by record id, of records that have rows in the bundle; which further ones
    are matched the enclave cannot tell. not_opened: by cohort ID, why.
    """

    images: dict[str, list[pa.Table]]
    cohort_of: dict[str, str]
    not_opened: dict[str, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """A cohort as delivered, and the enclave's record id of each cohort ID, for its own eyes."""

    delivery: Delivery
    record_of: dict[str, str]


def join(session: Session, question_id: str, out: Path) -> Joined:
    """
    Build the approved cohort of a question in the new folder `out`.

    Raises NotAllowed unless this party's own steward approved the question as it now reads,
    NotFound while no delivery was prepared or rows have not come, PackageRefused for what does
    not open, Conflict if `out` is not empty.
    """
    question = session.broker.question(session.study_id, question_id)
    criteria = _clinical(session, question)
    require_approved(session, question)
    if question.delivery_id is None:
        raise NotFound(
            "no delivery of this question was prepared",
            hint="both stewards approve first, then: linkage-cohort deliver",
        )
    _, packed = session.receive(
        DELIVERY_ROWS, subject=question.delivery_id, sender=imaging_of(session)
    )
    attrition, cover, bundle = unpack_delivery(packed)
    received = _open_rows(session, question.delivery_id, bundle)
    header = session.signed.study.study
    with open_omop(session) as source:
        persons = source.persons_of(received.cohort_of)
        matches = matches_table(
            [(one, persons.get(record_id)) for record_id, one in received.cohort_of.items()]
        )
        made = deliver(
            asked=Asked(
                title=question.title,
                purpose=question.purpose,
                spec_hash=question.spec_hash,
                clinical=criteria,
            ),
            terms=Terms(
                study_id=session.study_id,
                minimum_cell=header.minimum_cell,
                image_retrieval=header.image_retrieval,
                trace={
                    "run": question.run_id,
                    "question": question_id,
                    "delivery": question.delivery_id,
                },
            ),
            matches=matches,
            images=received.images,
            source=source,
            out=out,
            imaging_attrition=attrition,
            not_opened=received.not_opened,
            cover=cover,
        )
    return Joined(made, {one: record_id for record_id, one in received.cohort_of.items()})


def _open_rows(session: Session, delivery_id: str, bundle: bytes) -> Received:
    _, opened = session.receive(DELIVERY_CROSSWALK, subject=delivery_id)
    table = idtables.unpack(opened, idtables.DELIVERY_CROSSWALK)
    encrypted = dict(delivery.unpack_rows(bundle))
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    received = Received({}, {}, {})
    seen: set[tuple[str, bytes]] = set()
    for i, row_id in enumerate(table["row_id"]):
        record_id = record_ids.get(table["record_pseudonym"][i].tobytes())
        if row_id.tobytes() not in encrypted or record_id is None:
            continue
        cohort_id = format_id(table["cohort_id"][i].tobytes())
        received.cohort_of[record_id] = cohort_id
        # Duplicates of one person name the same rows; a person with several subjects has several.
        if (cohort_id, row_id.tobytes()) in seen:
            continue
        seen.add((cohort_id, row_id.tobytes()))
        try:
            rows = delivery.decrypt_rows(
                table["row_key"][i].tobytes(), row_id.tobytes(), encrypted[row_id.tobytes()]
            )
        except PackageRefused as fault:
            received.not_opened[cohort_id] = fault.message
            continue
        received.images.setdefault(cohort_id, []).append(rows_from_bytes(rows))
    return received


def _clinical(session: Session, question: QuestionState) -> ClinicalCriteria:
    if question.clinical is None:
        raise _not_the_enclave(session)
    return clinical_criteria(question.clinical)


def open_omop(session: Session) -> OmopSource:
    """Open the enclave's OMOP tables. Raises SiteRefused at another party."""
    if session.site.omop is None:
        raise _not_the_enclave(session)
    return OmopSource.open(session.site.omop)


def _not_the_enclave(session: Session) -> SiteRefused:
    return SiteRefused(
        file="site file",
        line=0,
        key="omop",
        rule=f"{session.party!r} cannot answer clinical criteria",
        hint="only the enclave does; it needs [omop] in its site file",
    )
