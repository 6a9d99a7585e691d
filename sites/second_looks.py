"""
Second looks, at the site: check what the broker asks, answer it from the source, send the answer.

    fetch -> unseal -> check -> find the records again -> field filters -> seal, write down -> send

The limits of the signed study bind the broker, but this site holds to them whatever the broker
does, by an account of its own (sites.look_ledger). An answer is written down together with its
sealed bytes before it is sent: interrupted anywhere, the next run sends these very bytes, and other
questions under the name of a run that is answered are refused.

What leaves: of each record asked about, a filter of every field that both parties of the pair hold
and the study allows, under a key of that pair alone (linkage.encoding.field_filters), sealed to the
broker. A record whose values are no longer those that were uploaded stays unanswered.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from linkage.encoding.field_filters import answer
from linkage.errors import (
    Conflict,
    KeyRefused,
    LinkageError,
    NotAllowed,
    PackageRefused,
    SourceRefused,
    Unreachable,
)
from linkage.look_tables import (
    Questions,
    answers_to_arrow,
    fields_between,
    names_of,
    questions_from_arrow,
)
from linkage.messages import BROKER, SECOND_LOOK, SECOND_LOOK_ANSWER
from linkage.plain_arrow import read_stream
from linkage.run_messages import LookState
from linkage.sealing import Context, seal, unseal
from linkage.study import SecondLook
from sites.changes import kept_contents
from sites.look_ledger import Entry, Ledger
from sites.look_source import Progress, find_again, record_ids
from sites.required import require_keys
from sites.session import Session

OPEN = ("asked", "refused")
"""States in which the broker takes an answer that it has not got."""

_QUESTION_BYTES, _FRAME_BYTES = 256, 64 * 1024
"""Of one sealed question, and of Arrow and the seal, at most."""
_MOST_CHANGED = 0.5
"""Share of the records asked about that may have changed: above it, the source is another one."""
_NOT_OURS = "nothing was answered; tell the broker admin and the custodian"


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of one run's questions. state: "answered", "would answer", "sent again", "refused"
    (by this site), "failed". fault: why not, None where all is well. entry: the account of it.
    """

    state: str
    run_id: str
    entry: Entry | None = None
    fault: LinkageError | None = None

    @property
    def said(self) -> str:
        """The outcome in words."""
        if self.fault is not None:
            return f"NOT ANSWERED: {self.fault.message}"
        if self.entry is None:
            return self.state
        one = self.entry
        told = f"{self.state}: {one.questions:,} questions about {len(one.asked):,} records"
        for count, why in ((one.changed, "changed since the upload"), (one.gone, "are gone")):
            told += f"; {count:,} {why}, left unanswered" if count else ""
        return told

    def figures(self) -> dict[str, Any]:
        """Return the outcome for programs."""
        fault = {"error": self.fault.message, "hint": self.fault.hint} if self.fault else {}
        entry = self.entry.figures() if self.entry else {}
        return {"run_id": self.run_id, "state": self.state, **entry, **fault}


def asked_of(session: Session) -> list[LookState]:
    """
    Return what the study's runs ask of this site, oldest first, answered or not.

    Empty, without asking the broker, where the signed study allows no second look or this site
    uploads nothing.
    """
    study = session.signed.study
    if study.looks is None or session.uploader not in study.uploaders:
        return []
    found = session.broker.second_looks(session.study_id)
    return [one for one in reversed(found) if one.uploader == session.uploader]


def answer_looks(
    session: Session,
    *,
    dry_run: bool = False,
    progress: Progress = lambda step, done, total: None,
) -> list[Outcome]:
    """
    Answer every run that waits for this site; one that is refused does not keep another waiting.

    dry_run: fetch and check the questions only. Raises Unreachable where the broker is not there,
    KeyRefused where this site's keys are not those of the signed study.
    """
    waiting = [state for state in asked_of(session) if state.state in OPEN]
    if not waiting:
        return []
    require_keys(session.signed, session.uploader, session.vault)
    with nullcontext() if dry_run else _ledger(session).held():
        return [_judged(session, state, dry_run, progress) for state in waiting]


def waiting_rows(session: Session) -> dict[str, object]:
    """Return, by run, until when it waits for this site's answer, in words."""
    return {
        f"YOU, second look of run {state.run_id}": f"{state.questions:,} questions wait until"
        f" {dt.datetime.fromtimestamp(state.until, dt.UTC):%Y-%m-%d %H:%M} UTC: linkage-site answer"
        for state in asked_of(session)
        if state.state in OPEN
    }


def what_leaves(session: Session, outcomes: list[Outcome]) -> str:
    """Say in words what these answers give away, "" where none was made."""
    entries = [one.entry for one in outcomes if one.entry is not None and one.fault is None]
    records = {name for entry in entries for name in entry.asked}
    fields = [f for e in entries for one in e.fields.values() for f in one]
    if not records:
        return ""
    return (
        f"of at most {len(records):,} records one filter of 64 bits in 1,024 for each of"
        f" {', '.join(dict.fromkeys(fields))}, under a key of its pair alone, sealed to the broker."
        " It learns how alike two records are, field by field; no value, and no record id"
    )


def _judged(session: Session, state: LookState, dry_run: bool, progress: Progress) -> Outcome:
    try:
        return _answer_one(session, state, dry_run, progress)
    except (Unreachable, KeyRefused):
        raise
    except LinkageError as fault:
        kind = "refused" if isinstance(fault, NotAllowed | PackageRefused) else "failed"
        if kind == "refused" and not dry_run:
            _ledger(session).refuse(_entry(session, state, refusal=fault.message))
        return Outcome(kind, state.run_id, fault=fault)


def _answer_one(session: Session, state: LookState, dry_run: bool, progress: Progress) -> Outcome:
    ledger = _ledger(session)
    if (before := ledger.answer(state.run_id)) is not None:
        entry, sealed = before
        _require_same_questions(state, entry)
        # The broker's reader refused these bytes: only another program may make others.
        if state.state != "refused" or entry.software == _software():
            return _again(session, state, entry, sealed, dry_run)
    questions = fetch(session, state)
    looks = require_allowed(session, state, questions)
    ledger.require_room(state.run_id, looks.most_runs)
    names = _own_records(session, state, questions)
    entry = _entry(session, state, questions)
    if dry_run:
        return Outcome("would answer", state.run_id, entry)
    entry, sealed = _made(session, state, questions, names, progress)
    # First the account, then the answer: what was sent is never forgotten, nor made twice.
    ledger.keep(entry, sealed)
    session.broker.answer_look(session.study_id, state.run_id, sealed)
    return Outcome("answered", state.run_id, entry)


def _again(
    session: Session, state: LookState, entry: Entry, sealed: bytes, dry_run: bool
) -> Outcome:
    if state.state == "refused":
        raise Conflict(
            f"run {state.run_id}: the broker could not read this site's answer: {state.refusal}",
            hint="the same program would make the same answer; the run goes on without it. Both"
            " sides need the same software version",
        )
    if dry_run:
        return Outcome("would answer", state.run_id, entry)
    session.broker.answer_look(session.study_id, state.run_id, sealed)
    return Outcome("sent again", state.run_id, entry)


def fetch(session: Session, state: LookState) -> Questions:
    """
    Fetch and open a run's questions, as strictly as `linkage.look_tables` reads them.

    Raises NotAllowed where they are more, or of another study, than this site agreed to;
    PackageRefused where the broker did not seal them for this site, study and run.
    """
    looks = _require_study(session, state)
    if state.questions > looks.most_per_run:
        raise _too_many(state, state.questions, looks)
    if state.size > state.questions * _QUESTION_BYTES + _FRAME_BYTES:
        raise PackageRefused(f"run {state.run_id} has questions of a wrong size", hint=_NOT_OURS)
    sealed = session.broker.look_questions(session.study_id, state.run_id)
    if hashlib.sha256(sealed).hexdigest() != state.digest:
        raise PackageRefused(
            f"the questions of run {state.run_id} are not those that the broker announced",
            hint="run it again; if it stays, tell the broker admin",
        )
    details = (state.run_id, session.signed.study_hash)
    opened = unseal(
        sealed,
        sender=session.signed.pin(BROKER),
        recipient=session.identity,
        context=Context(session.study_id, BROKER, session.uploader, SECOND_LOOK, details),
    )
    try:
        _, batches = read_stream(opened)
    except ValueError:
        batches = []
    if len(batches) != 1:
        raise PackageRefused(f"run {state.run_id}: there is no table of questions", hint=_NOT_OURS)
    try:
        return questions_from_arrow(
            batches[0], session.signed.study, session.uploader, most=looks.most_per_run
        )
    except LinkageError as fault:
        raise PackageRefused(f"run {state.run_id}: {fault.message}", hint=_NOT_OURS) from None


def require_allowed(session: Session, state: LookState, questions: Questions) -> SecondLook:
    """
    Return the limits of the signed study. Raises NotAllowed, with figures, where a run asks more.
    """
    looks = _require_study(session, state)
    if len(questions) > looks.most_per_run:
        raise _too_many(state, len(questions), looks)
    often = Counter(names_of(questions.pseudonyms))
    if above := [count for count in often.values() if count > looks.most_per_record]:
        raise NotAllowed(
            f"run {state.run_id} asks up to {max(above):,} times about each of {len(above):,}"
            f" records; the signed study allows {looks.most_per_record:,} (most_per_record)",
            hint=_NOT_OURS,
        )
    return looks


def _require_study(session: Session, state: LookState) -> SecondLook:
    if (looks := session.signed.study.looks) is None:
        raise NotAllowed(
            f"run {state.run_id} asks about single records, and the signed study allows no second"
            " look",
            hint=_NOT_OURS,
        )
    if state.study_hash != session.signed.study_hash:
        raise NotAllowed(
            f"run {state.run_id} was made under another signed study than this site has",
            hint="nothing was answered. Compare the study hash with the broker admin; after a"
            " rotation take the newest signed study from the custodian",
        )
    return looks


def _too_many(state: LookState, questions: int, looks: SecondLook) -> NotAllowed:
    return NotAllowed(
        f"run {state.run_id} asks {questions:,} questions; the signed study allows"
        f" {looks.most_per_run:,} (most_per_run)",
        hint=_NOT_OURS,
    )


def _require_same_questions(state: LookState, entry: Entry) -> None:
    if entry.digest != state.digest:
        raise NotAllowed(
            f"run {state.run_id} was answered before, and now asks other questions under its name",
            hint=_NOT_OURS,
        )


def _own_records(session: Session, state: LookState, questions: Questions) -> dict[bytes, str]:
    """Return the record id of everything asked about. Raises NotAllowed unless all is ours."""
    asked = set(names_of(questions.pseudonyms))
    if not session.vault.map_folder(state.dataset).exists():
        raise Conflict(
            f"run {state.run_id} is over dataset version {state.dataset}, which was not made here",
            hint="is this the site's own private folder? restore it from your backup",
        )
    names = record_ids(session.vault, state.dataset, asked)
    if strangers := len(asked) - len(names):
        raise NotAllowed(
            f"run {state.run_id} asks about {strangers:,} records that dataset version"
            f" {state.dataset} of this site does not have",
            hint=_NOT_OURS,
        )
    return names


def _made(
    session: Session,
    state: LookState,
    questions: Questions,
    names: dict[bytes, str],
    progress: Progress,
) -> tuple[Entry, bytes]:
    """Return the entry and the sealed answer. Raises SourceRefused where the source is another."""
    study, vault, looks = session.signed.study, session.vault, session.signed.study.looks
    key, uploader = vault.study_key(), session.uploader
    known = kept_contents(vault, state.dataset, names.keys())
    fields = study.party_of_uploader(uploader).fields
    found = find_again(session.site.source, fields, names, progress)
    rows = found.unchanged(known, key.derive(study, "duplicates"))
    gone = names.keys() - found.rows.keys()
    if len(rows) < (1 - _MOST_CHANGED) * len(names):
        raise SourceRefused(
            file="the source",
            rule=f"of {len(names):,} records that run {state.run_id} asks about, {len(gone):,} are"
            f" gone and {len(found.rows) - len(rows):,} read otherwise than when dataset version"
            f" {state.dataset} was made",
            hint="nothing was answered, and the run goes on without. Let [source] say what it said"
            " then; or tokenize and submit the source as it is now",
        )
    made = answer(
        questions,
        found.columns,
        rows,
        study=study,
        key=key,
        enabled=looks.fields if looks else (),
    )
    batch = answers_to_arrow(made)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    details = (state.run_id, state.digest)
    sealed = seal(
        bytes(sink.getvalue()),
        sender=session.identity,
        recipient=session.signed.pin(BROKER),
        context=Context(session.study_id, uploader, BROKER, SECOND_LOOK_ANSWER, details),
    )
    asked = Counter(names_of(questions.pseudonyms))
    lost = sum(count for name, count in asked.items() if name in gone)
    changed = len(questions) - len(made) - lost
    entry = _entry(session, state, questions)
    return replace(entry, answered=len(made), changed=changed, gone=lost), sealed


def _entry(
    session: Session, state: LookState, questions: Questions | None = None, *, refusal: str = ""
) -> Entry:
    study, looks = session.signed.study, session.signed.study.looks
    asked = Counter(name.hex() for name in names_of(questions.pseudonyms)) if questions else {}
    partners = sorted(set(questions.partners)) if questions else []
    enabled = looks.fields if looks else ()
    return Entry(
        run_id=state.run_id,
        study_hash=session.signed.study_hash,
        dataset=state.dataset,
        digest=state.digest,
        software=_software(),
        at=time.time(),
        asked=dict(asked),
        fields={p: list(fields_between(study, session.uploader, p, enabled)) for p in partners},
        refusal=refusal,
    )


def _ledger(session: Session) -> Ledger:
    return Ledger(session.vault, session.signed.study.study.epoch)


def _software() -> str:
    return importlib.metadata.version("commons-linkage")
