"""
What waits for this site at the broker in cohort questions, whether it may be done, and doing it.

    for task in waiting_tasks(session):
        said = judge(session, task)            the steward's decision, a person's yes, the policy
        if said.go:
            perform(session, task)

At the imaging commons: the answer to a question, and the rows of a delivery. At the enclave: the
counts, and the cohort's folder. Each is safe to repeat and to kill anywhere: what leaves is sealed
once (sites.outbox), a folder appears whole or not at all, and the mark that it is done comes last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from linkage.errors import Conflict, LinkageError
from linkage.messages import (
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_COUNTS,
    QUESTION_IDS,
    QuestionState,
)
from sites.allowing import POLICY, allow, allowed_by, forget
from sites.answers import answer_imaging, imaging_of, is_answered, mark_answered, send_rows
from sites.counted import reader_is_known
from sites.ended import remember_ended
from sites.outbox import SENT_BEFORE, was_forgotten, was_sent
from sites.questions import decide, decided, require_usable
from sites.session import Session
from sites.terms import terms_allow

Kind = Literal["answer", "rows", "count", "join"]
WORDS: dict[Kind, str] = {
    "answer": "answer of question",
    "rows": "rows of delivery",
    "count": "counts of question",
    "join": "cohort of delivery",
}

TOO_MANY_SMALL = (
    "many questions of this epoch were answered with small numbers, which together tell of single"
    " persons (docs/counts.md), so this one waits for a yes"
)
READER_WAITS = (
    "counted; who asked hears it once this site's steward approves: the question was not asked from"
    " here, so the reading key is known to nobody"
)


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do. subject: the question's or the delivery's ID. purpose: of its run."""

    kind: Kind
    subject: str
    question: QuestionState
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a task may be done, and why, or what it waits for. deny: say no to everybody."""

    go: bool
    said: str
    deny: bool = False


def waiting_tasks(session: Session) -> list[Task]:
    """
    Return what is ready to be done here and not done yet, the oldest question first.

    Empty at contributors, and at sites with neither [imaging] nor [omop]. Raises Unreachable.
    """
    site = session.site
    if site.contributor or (site.imaging is None and site.omop is None):
        return []
    purposes = Purposes(session)
    found: list[Task] = []
    for question in reversed(session.broker.questions(session.study_id)):
        remember_ended(session, question)
        for kind, subject in _parts(session, question):
            if not is_answered(session, subject):
                found.append(Task(kind, subject, question, purposes.of(question.run_id)))
    return [task for task in found if _arrived(session, task)]


def _parts(session: Session, question: QuestionState) -> Iterator[tuple[Kind, str]]:
    """Yield this site's parts in a question that could be due."""
    if question.state != "done" or _ended(question):
        return
    delivery_id = question.delivery_id
    if session.site.imaging is not None and question.imaging is not None:
        yield "answer", question.question_id
        if delivery_id:
            yield "rows", delivery_id
    if session.site.omop is not None and question.clinical is not None:
        yield "count", question.question_id
        if delivery_id and session.site.agent.cohorts:
            yield "join", delivery_id


def _ended(question: QuestionState) -> bool:
    """May nobody use the question any more? Then it is nobody's task."""
    try:
        require_usable(question)
    except Conflict:
        return True
    return False


def _arrived(session: Session, task: Task) -> bool:
    """Is what the task needs here?"""
    needed = {
        "answer": QUESTION_IDS,
        "rows": DELIVERY_KEY,
        "count": QUESTION_ANSWER,
        "join": DELIVERY_ROWS,
    }
    found = session.broker.inbox(session.study_id, purpose=needed[task.kind], subject=task.subject)
    return bool(found)


class Purposes:
    """Which [[purpose]] of the study a run was made for, as the broker says; asked once each."""

    def __init__(self, session: Session) -> None:
        self._session, self._known = session, dict[str, str]()

    def of(self, run_id: str) -> str:
        """Return its id; "" where the study declares none."""
        if not self._session.signed.study.purpose:
            return ""
        if run_id not in self._known:
            run = self._session.broker.run(self._session.study_id, run_id)
            self._known[run_id] = run.purpose
        return self._known[run_id]


def judge(session: Session, task: Task) -> Judged:
    """
    Return whether this task may be done now.

    The steward's decision about this very question comes first, then a person's yes, then the
    site file's policy for the purpose. Nothing gives rows out but the steward's approval.
    """
    if decided(session, task.question) not in (None, "approve"):
        return Judged(False, "denied by this site, or its approval taken back")
    if task.kind in ("rows", "join"):
        return _judge_rows(session, task)
    if not terms_allow(session, task.question.use):
        said = f"refused: this commons' terms do not allow {task.question.use} use"
        return Judged(False, said, deny=True)
    if (
        task.kind == "count"
        and is_counted(session, task)
        and not reader_is_known(session, task.question)
    ):
        return Judged(False, READER_WAITS)
    rule = session.site.agent.for_questions(task.purpose)
    by = allowed_by(session, task.question)
    if by not in (None, POLICY):
        return Judged(True, f"yes of the {by}")
    if rule == "auto" and session.party in task.question.open_asks:
        return Judged(False, "waits: this site's steward asked back")
    if rule == "auto" and _too_many_small(session, task):
        command = f"linkage-site allow {task.question.question_id}"
        return Judged(False, f"{TOO_MANY_SMALL}: {command}, or the steward's approval")
    if rule == "auto":
        return Judged(True, f"by policy{_for(task)}")
    if rule == "refuse":
        return Judged(False, f"refused by policy{_for(task)}", deny=True)
    return Judged(
        False,
        f"waits for a yes: linkage-site allow {task.subject}, or the steward's approval",
    )


def _judge_rows(session: Session, task: Task) -> Judged:
    if session.site.agent.for_deliveries(task.purpose) == "refuse":
        return Judged(False, f"the site's policy gives no rows out{_for(task)}")
    if decided(session, task.question) == "approve":
        return Judged(True, "approved by the steward")
    question = task.question.question_id
    return Judged(False, f"waits for the steward: linkage-cohort approve {question}")


def _too_many_small(session: Session, task: Task) -> bool:
    """Were so many small numbers given by policy that a person shall look at the questions?"""
    if task.kind != "count" or is_counted(session, task):
        return False
    from sites.count_ledger import ledger_of, small_answers
    from sites.forgotten import accepted_now

    # This very question may be in the ledger already, of an agent that was killed before it sent.
    given = small_answers(ledger_of(session), but=task.question.question_id)
    # Of what is lost nobody knows how small it was.
    given += accepted_now(session)
    return given >= session.site.agent.small_counts


def _for(task: Task) -> str:
    return f" for purpose {task.purpose!r}" if task.purpose else ""


def forget_old_policy(session: Session, task: Task) -> None:
    """Take a policy's yes back that the site file does not give any more."""
    kept = allowed_by(session, task.question) == POLICY
    if kept and session.site.agent.for_questions(task.purpose) != "auto":
        forget(session, task.question.question_id)


def is_counted(session: Session, task: Task) -> bool:
    """Did this enclave send the question's counts, at least to the imaging commons?"""
    imaging = imaging_of(session)
    return was_sent(session, f"{QUESTION_COUNTS}.{imaging}", task.question.question_id)


def perform(session: Session, task: Task) -> str:
    """
    Do the task, then mark it done; return "", or what of it still waits, in words; `sent_before`
    tells afterwards whether the broker had it already.

    Raises LinkageError; what it did by then is not done twice.
    """
    question_id = task.question.question_id
    if task.kind == "answer":
        _let(session, task)
        answer_imaging(session, question_id)
    elif task.kind == "rows":
        send_rows(session, question_id, task.subject)
    elif task.kind == "count":
        from sites.enclave import count

        _let(session, task)
        count(session, question_id)
        if not reader_is_known(session, task.question):
            return READER_WAITS
    else:
        _build(session, task)
    mark_answered(session, task.subject)
    return ""


def sent_before(session: Session, task: Task) -> str:
    """Return in words that what was just made had been sent before, "" where it had not."""
    return SENT_BEFORE if was_forgotten(session, task.subject) else ""


def refuse(session: Session, task: Task) -> None:
    """Send this party's signed denial, so that who asked sees it; later decisions replace it."""
    decide(session, task.question.question_id, "deny")


def _let(session: Session, task: Task) -> None:
    """Keep the policy's yes, where nobody else's is there."""
    if allowed_by(session, task.question) is None:
        allow(session, task.question, by="policy")


def _build(session: Session, task: Task) -> None:
    from sites.enclave import join

    folder = session.site.agent.folder_of(task.subject)
    if folder is None:
        raise LinkageError(
            "the site file names no folder for cohorts",
            hint='[agent] cohorts = "FOLDER", or: linkage-site join',
        )
    # Whole or not at all: one that is there was built before its mark could be set.
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for half in folder.parent.glob(f".{folder.name}.*.partial"):
            shutil.rmtree(half)  # of one that was killed: rows of persons, that nobody looks after
        join(session, task.question.question_id, folder)
