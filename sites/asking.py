"""
The researcher's part in a question: asking it, reading its counts, answering stewards.

For every question a reading key is made. Its public half travels with the question and is in the
hash that stewards approve; its private half stays in the researcher's folder, in a file named by
that hash. The enclave seals the counts to it, so that whoever relays them reads none.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkage.cohort.spec import CohortSpec
from linkage.commitments import SALT_BYTES, commit, require_shown
from linkage.errors import Conflict, KeyRefused, LinkageError, NotAllowed, Unreachable
from linkage.messages import READER, JobState, QuestionRequest, QuestionState
from linkage.question_messages import Remark, RemarkState
from linkage.sealing import Identity, PublicIdentity, read_secret
from sites.counted import mark_asked, open_counts
from sites.questions import today
from sites.session import Session
from sites.terms import require_terms

FOLDER = Path("questions")
"""Where reading keys are kept, if the researcher names no other folder."""

LASTS_DAYS = 180
"""How long a question lasts, if the researcher says nothing else."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way. key_file: its reading key."""

    job: JobState
    request: QuestionRequest
    key_file: Path


def request_of(
    spec: CohortSpec, run_id: str, *, expires: str = "", reader: PublicIdentity | None = None
) -> QuestionRequest:
    """Return the question that asks a specification of a run's links, committed to."""
    asked = QuestionRequest(
        run_id=run_id,
        title=spec.cohort.title,
        purpose=spec.cohort.purpose,
        spec_hash="0" * 64,
        imaging=spec.imaging.model_dump(mode="json"),
        clinical=spec.clinical.model_dump(mode="json"),
        expires=expires,
        reader=reader,
        use=spec.cohort.use,
    )
    return commit(asked, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(SALT_BYTES))


def ask(
    session: Session, spec: CohortSpec, run_id: str, *, folder: Path, expires: str = ""
) -> Asked:
    """
    Ask a question through the enclave's site, and keep its reading key in `folder`.

    expires: the last day, UTC, YYYY-MM-DD; default: LASTS_DAYS from today, or the study's last day
    where that is earlier. A question that the broker refuses leaves no key behind. Raises
    NotAllowed where this party's own terms forbid the use, before anything is sent.
    """
    require_terms(session, spec.cohort.use)
    key = Identity.generate("reader")
    request = request_of(
        spec, run_id, expires=expires or last_day(session).isoformat(), reader=key.public()
    )
    key_file = _key_file(folder, request.spec_hash)
    key.save(key_file)
    mark_asked(session, request.spec_hash)
    try:
        job = session.broker.ask_question(session.study_id, request)
    except LinkageError as fault:
        # Where nobody answered it may be there all the same, and its counts need the key.
        if not isinstance(fault, Unreachable):
            key_file.unlink()
        raise
    return Asked(job, request, key_file)


def last_day(session: Session) -> dt.date:
    """Return the last day of a question that is asked today without one."""
    wanted = today() + dt.timedelta(days=LASTS_DAYS)
    study = session.signed.study.study.expires
    return min(wanted, study) if study else wanted


def read_counts(session: Session, question_id: str, folder: Path) -> dict[str, Any]:
    """
    Return the suppressed counts of a question, as the enclave sealed them to its reader.

    Raises NotFound while there are none, KeyRefused without the reading key, PackageRefused where
    they are not the enclave's or about another question.
    """
    question = session.broker.question(session.study_id, question_id)
    require_shown(question)
    key = reading_key(folder, question)
    sealed = session.broker.sealed_counts(session.study_id, question_id)
    return open_counts(session, question, sealed, key)


def answer_back(
    session: Session, question_id: str, number: int, text: str, folder: Path
) -> list[RemarkState]:
    """Answer a steward's question back, signed with the reading key; return all remarks."""
    question = session.broker.question(session.study_id, question_id)
    key = reading_key(folder, question)
    remark = Remark(
        study_id=session.study_id,
        question_id=question_id,
        spec_hash=question.spec_hash,
        author=READER,
        answers=number,
        text=text,
        said_at=int(time.time()),
    )
    return session.broker.say(remark.sign(key))


def require_date(text: str) -> str:
    """Return a last day as it is sent, YYYY-MM-DD; "" stays. Raises Conflict."""
    if not text:
        return ""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise Conflict("a last day is a date, like 2027-03-31", hint="YYYY-MM-DD, UTC") from None
    if day < today():
        raise Conflict(f"{day} is over already", hint="name today or a later day, UTC")
    return day.isoformat()


def reading_key(folder: Path, question: QuestionState) -> Identity:
    """Return the private half of a question's reading key. Raises NotAllowed, KeyRefused."""
    if question.reader is None:
        raise NotAllowed(
            "this question was asked without a reading key",
            hint="the enclave reads its counts with `linkage-site counts`; ask anew to read them",
        )
    path = _key_file(folder, question.spec_hash)
    if not path.exists():
        raise KeyRefused(
            f"{path} is missing: it opens this question's counts",
            hint="name the folder in which you asked it with --folder; without the key, ask anew",
        )
    key = Identity.from_bytes(read_secret(path), name=str(path))
    if key.public() != question.reader:
        raise KeyRefused(
            f"{path} is not the reading key of this question",
            hint="somebody exchanged the key in the file, or the one in the question: ask anew",
        )
    return key


def _key_file(folder: Path, spec_hash: str) -> Path:
    return folder / f"{spec_hash[:16]}.key"
