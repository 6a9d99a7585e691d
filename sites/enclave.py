"""
What the enclave does with a question: count, and after approval join what comes in.

Only here do the two sides meet. Clinical criteria are evaluated on the enclave's own OMOP tables;
of the imaging party's subjects it can read just those whose rows open, which are its own persons.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linkage import delivery, idtables
from linkage.cohort.spec import clinical_criteria
from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.commitments import require_shown
from linkage.errors import NotFound, PackageRefused, SiteRefused
from linkage.messages import (
    DELIVERY_CROSSWALK,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    QuestionState,
)
from linkage.pseudonyms import format_id
from linkage.records import Bytes2D
from sites import casemaps
from sites.answer_parts import Answer, read_days, unpack_answer, unpack_delivery
from sites.answers import imaging_of, mark_answered
from sites.cohort.bundle import unpadded
from sites.cohort.counts import CountAsked, Counts, answer_counts
from sites.cohort.dates import CELL_DAYS, imaging_dates, require_comparable
from sites.cohort.index_dates import index_dates
from sites.cohort.join import SEED_BYTES, Asked, Delivery, Terms, deliver, matches_table
from sites.cohort.omop import OmopSource
from sites.cohort.saved import open_saved
from sites.count_ledger import ledger_of
from sites.counted import reader_is_known, send_counts
from sites.ended import remember_ended
from sites.forgotten import require_remembered
from sites.kept_cohorts import remember, remember_people
from sites.link_quality import link_quality_of
from sites.questions import require_approved, require_delivering, require_usable
from sites.session import Session
from sites.terms import allows, refused, require_terms

_CUT = (
    f"of subjects with more than {CELL_DAYS} fitting studies, only the earliest {CELL_DAYS} days"
    " were compared"
)
"""Without a number: how many these are would be one more count."""


def count(session: Session, question_id: str) -> Counts:
    """
    Answer a question with suppressed counts, and seal them to whoever may read them.

    Raises NotFound while the imaging party has not answered, SiteRefused at another party,
    PackageRefused for a question that its hash does not commit to, Conflict for one that has ended,
    and where the ledger has forgotten answers (sites.forgotten).
    """
    question = session.broker.question(session.study_id, question_id)
    require_shown(question)
    require_terms(session, question.use)
    require_usable(question)
    _clinical(session, question)  # before anything is entered on its account
    require_remembered(session, question_id, enter)
    counts = enter(session, question)
    send_counts(session, question, counts.to_json())
    if reader_is_known(session, question):
        mark_answered(session, question_id)  # so that no agent waits for a yes to it
    return counts


def enter(session: Session, question: QuestionState) -> Counts:
    """Answer a question and enter that in the ledger; send nothing. Raises as `count`."""
    require_shown(question)
    criteria, question_id = _clinical(session, question), question.question_id
    _, opened = session.receive(QUESTION_IDS, subject=question_id)
    table = idtables.unpack(opened, idtables.QUESTION_IDS)
    _, packed = session.receive(QUESTION_ANSWER, subject=question_id, sender=imaging_of(session))
    answer = unpack_answer(packed)
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    by_record = {
        record_ids[pseudonym.tobytes()]: one.tobytes().hex()
        for pseudonym, one in zip(table["record_pseudonym"], table["question_id"], strict=True)
        if pseudonym.tobytes() in record_ids
    }
    with open_omop(session) as source:
        persons = source.persons_of(by_record)
        among = {person: by_record[record_id] for record_id, person in persons.items()}
        days = _calendar(answer, table, source, among) if criteria.needs_imaging_dates else None
        counts = answer_counts(
            {one.tobytes().hex() for one in answer.question_ids},
            among,
            criteria,
            source,
            ledger=ledger_of(session),
            asked=CountAsked(question=question_id, run=question.run_id, at=time.time()),
            variables=session.site.counts.variables,
            names={person: record_id for record_id, person in persons.items()},
            imaging_days=days,
        )
    if answer.days and answer.days.cut:
        counts = replace(counts, notes=(*counts.notes, _CUT))
    return counts


def _calendar(
    answer: Answer, table: Mapping[str, Bytes2D], source: OmopSource, among: Mapping[int, str]
) -> dict[str, tuple[dt.date, ...]]:
    """Return by question ID, hex, the imaging dates of this enclave's own persons."""
    days = read_days(answer, table)
    frame = answer.days.frame if answer.days else "unknown"
    event = answer.days.index_event if answer.days else None
    config = source.config
    require_comparable(
        frame, event, omop_frame=config.date_frame, mapped=config.index_events.keys()
    )
    starts = index_dates(source, among, {event}).get(event) if event else None
    return imaging_dates(days, frame, index_dates=starts)


@dataclass(frozen=True, slots=True)
class Received:
    """
    What a delivery brought. images: by cohort ID, bundles that opened.

    cohort_of: cohort ID by record id, of records that have rows in the bundle; which further ones
    are matched the enclave cannot tell. not_opened: by cohort ID, why.
    """

    images: dict[str, list[bytes]]
    cohort_of: dict[str, str]
    not_opened: dict[str, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """
    A cohort as delivered. For the enclave's own eyes: record_of: a record id of each cohort ID;
    cohort_of: the cohort ID of each record id.
    """

    delivery: Delivery
    record_of: dict[str, str]
    cohort_of: dict[str, str]


def join(
    session: Session, question_id: str, out: Path, *, earlier: Sequence[Mapping[str, int]] = ()
) -> Joined:
    """
    Build the approved cohort of a question in the new folder `out`.

    earlier: of a refreshed cohort, the counts that its earlier reports showed.

    Raises NotAllowed unless this party's own steward approved the question as it now reads,
    NotFound while no delivery was prepared or rows have not come, PackageRefused for what does
    not open, Conflict if `out` is not empty.
    """
    question = session.broker.question(session.study_id, question_id)
    criteria = _clinical(session, question)
    require_shown(question)
    require_terms(session, question.use)
    remember_ended(session, question)
    require_approved(session, question)
    require_delivering(session)
    if question.delivery_id is None:
        raise NotFound(
            "no delivery of this question was prepared",
            hint="both stewards approve first, then: linkage-cohort deliver",
        )
    _, packed = session.receive(
        DELIVERY_ROWS, subject=question.delivery_id, sender=imaging_of(session)
    )
    attrition, cover, bundle, notice = unpack_delivery(packed)
    if not allows(notice, question.use):
        raise refused(imaging_of(session), question.use)
    seed, made_at = _made_of(session, question.delivery_id)
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
                use=question.use,
                spec_hash=question.spec_hash,
                clinical=criteria,
            ),
            terms=Terms(
                study_id=session.study_id,
                minimum_cell=header.minimum_cell,
                image_retrieval=header.image_retrieval,
                counts=session.signed.study.counts,
                trace={
                    "run": question.run_id,
                    "question": question_id,
                    "delivery": question.delivery_id,
                    **({"expires": question.expires} if question.expires else {}),
                },
                notices={imaging_of(session): notice, session.party: source.config.use},
            ),
            matches=matches,
            images=received.images,
            source=source,
            out=out,
            imaging_attrition=attrition,
            not_opened=received.not_opened,
            cover=cover,
            seed=seed,
            made_at=made_at,
            links=link_quality_of(session, question.run_id, received.cohort_of),
            earlier=earlier,
        )
    delivered = open_saved(made.folder).persons
    remember(session, question.delivery_id, received.cohort_of, delivered)
    remember_people(session, question.delivery_id, made.described, persons)
    record_of = {one: record_id for record_id, one in received.cohort_of.items()}
    return Joined(made, record_of, received.cohort_of)


def _made_of(session: Session, delivery_id: str) -> tuple[bytes, dt.datetime]:
    """
    Return the seed of a delivery and when it was first joined, from the vault; drawn there once.

    With them a delivery that is joined again gives the same ids and the same bytes.
    """
    name = f"delivery-made-{delivery_id}"
    kept = session.vault.kept(name)
    if kept is None:
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        kept = secrets.token_bytes(SEED_BYTES) + now.isoformat().encode()
        session.vault.keep(name, kept)
    return kept[:SEED_BYTES], dt.datetime.fromisoformat(kept[SEED_BYTES:].decode())


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
        received.images.setdefault(cohort_id, []).append(unpadded(rows))
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
