"""
Counts on their way: made and suppressed in the enclave, sealed to the question's reader and to the
imaging commons, whose steward decides knowing them. The broker relays them and reads none.

The enclave seals to a reader only where it knows whose key that is: the question was asked from
this site, or its own steward approved it, key and all. Else whoever runs the broker could ask a
question with a key of its own.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from linkage.errors import PackageRefused
from linkage.messages import QUESTION_COUNTS, READER, QuestionState
from linkage.sealing import Context, Identity, KeyHolder, unseal
from sites.answers import enclave_of, imaging_of
from sites.outbox import send_once
from sites.questions import decided
from sites.session import Session

_OPEN_STEPS = 2
"""The first steps of counts, before the clinical half: all persons, and who has fitting images."""

BLOCK = 64 * 1024
"""Sealed counts are whole blocks long, so that their length tells nothing of what is hidden."""


def mark_asked(session: Session, spec_hash: str) -> None:
    """Remember that a question was asked from this site."""
    mark = session.vault.folder / "asked" / spec_hash
    mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark.touch(mode=0o600)


def send_counts(session: Session, question: QuestionState, counts: dict[str, Any]) -> list[str]:
    """
    Seal suppressed counts and send them; return to whom, in words. What was sent before stays.

    counts: `Counts.to_json()`, all of which went through the small-cell rule.
    """
    imaging, told = imaging_of(session), []
    session.vault.keep(_kept(question), _packed(question, counts))
    padded = {
        imaging: _packed(question, _without_words(counts)),
        READER: _packed(question, counts),
    }
    for recipient in (imaging, READER):
        key = session.signed.pin(imaging) if recipient == imaging else question.reader
        if key is None or (recipient == READER and not knows_reader(session, question)):
            continue
        send_once(
            session,
            recipient,
            QUESTION_COUNTS,
            question.question_id,
            partial(padded.__getitem__, recipient),
            key=key,
        )
        told.append("the question's reader" if recipient == READER else recipient)
    return told


def _kept(question: QuestionState) -> str:
    return f"counted/{question.question_id}"


def _packed(question: QuestionState, counts: dict[str, Any]) -> bytes:
    content = {
        "question_id": question.question_id,
        "run_id": question.run_id,
        "spec_hash": question.spec_hash,
        "counts": counts,
    }
    data = json.dumps(content, sort_keys=True).encode()
    return data.ljust(-(-len(data) // BLOCK) * BLOCK)


def _without_words(counts: dict[str, Any]) -> dict[str, Any]:
    """
    Return the counts as the imaging commons reads them: it is not shown the clinical half, so what
    says that half in words is left out: the labels of its steps, and notes.
    """
    steps = counts["attrition"]
    numbered = [
        {**one, "step": f"clinical criterion {number}"}
        for number, one in enumerate(steps[_OPEN_STEPS:], start=1)
    ]
    return {**counts, "attrition": steps[:_OPEN_STEPS] + numbered, "notes": []}


def open_counts(
    session: Session, question: QuestionState, sealed: bytes, reader: Identity
) -> dict[str, Any]:
    """Return counts that the enclave sealed to a question's reader. Raises PackageRefused."""
    return _open(session, question, sealed, recipient=READER, key=reader)


def own_counts(session: Session, question: QuestionState) -> dict[str, Any] | None:
    """Return the suppressed counts that this enclave sent last, None where it sent none."""
    kept = session.vault.kept(_kept(question))
    return dict(json.loads(kept)["counts"]) if kept else None


def counts_for_steward(session: Session, question: QuestionState) -> dict[str, Any] | None:
    """Return the counts that came to this imaging commons, None while none did."""
    subject = question.question_id
    waiting = session.broker.inbox(session.study_id, purpose=QUESTION_COUNTS, subject=subject)
    if not waiting:
        return None
    sealed = session.broker.fetch(session.study_id, waiting[-1])
    return _open(session, question, sealed, recipient=session.party, key=session.identity)


def _open(
    session: Session, question: QuestionState, sealed: bytes, *, recipient: str, key: KeyHolder
) -> dict[str, Any]:
    enclave = enclave_of(session)
    opened = unseal(
        sealed,
        sender=session.signed.pin(enclave),
        recipient=key,
        context=Context(
            session.study_id, enclave, recipient, QUESTION_COUNTS, (question.question_id,)
        ),
    )
    try:
        content = json.loads(opened)
        named = (content["question_id"], content["run_id"], content["spec_hash"])
        counts = dict(content["counts"])
    except (ValueError, KeyError, TypeError):
        raise PackageRefused(
            "the counts are malformed", hint="both sides need the same software version"
        ) from None
    if named != (question.question_id, question.run_id, question.spec_hash):
        raise PackageRefused(
            "the counts are of another question or run than this",
            hint="ask the enclave's data manager to count again",
        )
    return counts


def reader_is_known(session: Session, question: QuestionState) -> bool:
    """Does this enclave know whose the reading key is, or is there none to know?"""
    return question.reader is None or knows_reader(session, question)


def knows_reader(session: Session, question: QuestionState) -> bool:
    """Does this enclave know whose reading key the question names?"""
    asked_here = (session.vault.folder / "asked" / question.spec_hash).exists()
    return asked_here or decided(session, question) == "approve"
