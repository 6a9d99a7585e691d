"""
A delivered cohort's report on its way: made in the enclave to be read beside the counts, sealed to
the question's reader alone. The broker relays it and reads it not.

    report = preview(session, question_id)          all that would leave
    shared = share(session, question_id)            entered in the ledger of counts, sealed, sent
    report = read_report(session, question_id, folder)      the researcher's side

Sharing is a person's act, the enclave's download review: no agent does it. The imaging commons gets
no copy: it decides nothing any more, and chose itself who has fitting images, so tables of who was
matched would tell it most.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkage.cohort.spec import clinical_criteria
from linkage.cohort.spec_words import clinical_in_words
from linkage.commitments import require_shown
from linkage.errors import Conflict, DeliveryFaulty, NotAllowed, NotFound, PackageRefused
from linkage.messages import COHORT_REPORT, READER, QuestionState
from linkage.sealing import Context, unseal
from sites.answers import enclave_of
from sites.asking import reading_key
from sites.cohort.counts import CountAsked
from sites.cohort.report_images import NOT_SAID
from sites.cohort.report_links import LinkQuality, kind_of
from sites.cohort.report_reference import load_reference
from sites.cohort.saved import SavedCohort, open_saved
from sites.cohort.shared_report import OTHER, SharedCohort, shared_report
from sites.count_ledger import ledger_of
from sites.counted import BLOCK, knows_reader, own_counts
from sites.enclave import enter
from sites.ended import remember_ended
from sites.forgotten import require_remembered
from sites.kept_cohorts import remembered, remembered_people
from sites.link_quality import link_quality_of
from sites.outbox import send_once, was_sent
from sites.questions import require_approved, require_delivering, require_epoch
from sites.session import Session
from sites.terms import require_terms

IMAGES = ("modality", "manufacturer")
"""What a shared report says of images: of each person, the only one there is, or "several"."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A report that was shared. new: False where the same was sent before."""

    report: dict[str, Any]
    delivery_id: str
    new: bool


def preview(session: Session, question_id: str, folder: Path | None = None) -> dict[str, Any]:
    """
    Return all that `share` would let leave. Raises as `share`. Enters and sends nothing, and writes
    what every look at the broker does: the newest head of its log, and that a question ended.
    """
    question, _ = _shareable(session, question_id)
    return _report(session, question, folder, keep=False)


def share(session: Session, question_id: str, folder: Path | None = None) -> Shared:
    """
    Make the report of a question's cohort, enter it in the ledger, seal it to the reader, send it.

    folder: the delivered cohort; default: where the agent built it. What was shared before is sent
    again as it was. Raises NotAllowed unless this party's steward approved the question, or where
    the reader is not known here; NotFound where no cohort was joined; DeliveryFaulty where the
    folder is another delivery's or was changed; Conflict where the question has ended, its epoch is
    over, or the ledger has forgotten answers (sites.forgotten).
    """
    question, delivery_id = _shareable(session, question_id)
    require_remembered(session, delivery_id, enter)
    report = _report(session, question, folder, keep=True)
    packed = _packed(question, delivery_id, report)
    sent = send_once(
        session, READER, COHORT_REPORT, delivery_id, lambda: packed, key=question.reader
    )
    return Shared(report, delivery_id, sent)


def read_report(session: Session, question_id: str, folder: Path) -> dict[str, Any]:
    """
    Return the report of a question's cohort, as the enclave sealed it to its reader.

    folder: where the reading key is. Raises NotFound while none was shared, Conflict where the
    question stands no more, KeyRefused without the key, PackageRefused where it is not the
    enclave's or about another question.
    """
    question = session.broker.question(session.study_id, question_id)
    require_shown(question)
    key = reading_key(folder, question)
    sealed = session.broker.sealed_report(session.study_id, question_id)
    enclave, subject = enclave_of(session), question.delivery_id or ""
    opened = unseal(
        sealed,
        sender=session.signed.pin(enclave),
        recipient=key,
        context=Context(session.study_id, enclave, READER, COHORT_REPORT, (subject,)),
    )
    try:
        content = json.loads(opened)
        report = dict(content.pop("report"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PackageRefused(
            "the report is malformed", hint="both sides need the same software version"
        ) from None
    if content != _about(question, subject):
        raise PackageRefused(
            "the report is of another question or delivery than this",
            hint="tell the enclave's data manager",
        )
    return report


def _shareable(session: Session, question_id: str) -> tuple[QuestionState, str]:
    """Return the question and its delivery. Raises where nothing of it may be shared."""
    question = session.broker.question(session.study_id, question_id)
    if session.site.omop is None or question.clinical is None:
        raise NotAllowed("only the enclave shares a report", hint="its data manager does it there")
    require_shown(question)
    require_terms(session, question.use)
    remember_ended(session, question)
    require_approved(session, question)
    require_delivering(session)
    if question.delivery_id is None:
        raise NotFound("no delivery of this question was ordered", hint="linkage-cohort deliver")
    _require_its_epoch(session, question)
    if question.reader is None or not knows_reader(session, question):
        raise NotAllowed(
            "whose reading key this question names is not known here",
            hint="hand the researcher report.html after your own review; or have it asked anew",
        )
    return question, question.delivery_id


def _require_its_epoch(session: Session, question: QuestionState) -> None:
    """Before the ledger is charged: the broker takes no report of an epoch that is over."""
    if was_sent(session, f"{COHORT_REPORT}.{READER}", question.delivery_id or ""):
        return
    try:
        require_epoch(session, question)
    except Conflict as fault:
        raise Conflict(
            f"a report is shared in the epoch of its question, and {fault.message}",
            hint="what was shared before stays. Have the question asked, approved and delivered"
            " anew (linkage-cohort request), and share that; or hand the researcher report.html"
            " after your own review, and share none besides",
        ) from None


def _report(
    session: Session, question: QuestionState, folder: Path | None, *, keep: bool
) -> dict[str, Any]:
    delivery_id = question.delivery_id or ""
    cohort = _opened(session, delivery_id, folder)
    people = remembered_people(session, delivery_id)
    units = people["unit"].to_pylist()
    if set(units) != set(cohort.persons):
        raise DeliveryFaulty(table="side/cohort_person", rule="names others than were delivered")
    found = cohort.groups()
    numbers = [cohort.persons[one] for one in units]
    groups = {name: [found[name][one] for one in numbers] for name in IMAGES}
    groups = {name: [OTHER if one == NOT_SAID else one for one in v] for name, v in groups.items()}
    links = _links(session, question, delivery_id)
    if links.evidence:
        groups["evidence"] = [kind_of(links.evidence.get(one, ())) for one in units]
    criteria = clinical_criteria(question.clinical or {})
    shown = [
        one for one in session.site.counts.variables if one != "age" or criteria.age_at is not None
    ]
    counted = own_counts(session, question)
    told = counted["distributions"] if counted else {}
    omop = session.site.omop
    return shared_report(
        ledger_of(session),
        CountAsked(question=delivery_id, run=question.run_id, at=time.time()),
        SharedCohort(
            about={
                "title": question.title,
                "purpose": question.purpose,
                "study": session.study_id,
                "made_at": cohort.report.get("made_at", ""),
                "clinical": clinical_in_words(criteria),
            },
            people=people,
            groups=groups,
            variables=shown,
            counted=counted["attrition"] if counted else (),
            tabled=[name for name, cells in told.items() if cells],
            links=links,
            reference=load_reference(omop.reference if omop else None),
        ),
        keep=keep,
    )


def _opened(session: Session, delivery_id: str, folder: Path | None) -> SavedCohort:
    place = folder or session.site.agent.folder_of(delivery_id)
    if place is None:
        raise NotFound(
            "where the cohort lies is not known",
            hint="name the folder that `linkage-site join` made with --cohort",
        )
    cohort = open_saved(place)
    if cohort.report.get("trace", {}).get("delivery") != delivery_id:
        raise DeliveryFaulty(table="report.json", rule="is of another delivery")
    return cohort


def _links(session: Session, question: QuestionState, delivery_id: str) -> LinkQuality:
    return link_quality_of(session, question.run_id, remembered(session, delivery_id))


def _about(question: QuestionState, delivery_id: str) -> dict[str, str]:
    return {
        "question_id": question.question_id,
        "delivery_id": delivery_id,
        "run_id": question.run_id,
        "spec_hash": question.spec_hash,
    }


def _packed(question: QuestionState, delivery_id: str, report: dict[str, Any]) -> bytes:
    """Whole blocks, so that the length tells nothing of what is hidden."""
    data = json.dumps({**_about(question, delivery_id), "report": report}, sort_keys=True).encode()
    return data.ljust(-(-len(data) // BLOCK) * BLOCK)
