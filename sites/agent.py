"""
The agent: asks the broker again and again what waits for this site, and does what may be done.

    with only_one(vault):
        for event in round_of(session, backoff, now): ...      one look
        Agent(site_file, tell).run(stop)                       until it is told to stop

It only ever calls out: no port is opened, nobody can reach it. Every round begins anew from the
site file and the signed study, so that a change of either counts without a restart. What goes
wrong with one task does not keep another waiting; it is tried again after a while, and later each
time. Killed at any point, the next agent finishes what this one began (sites.agent_tasks).

What it tells has no values: kinds, IDs that the broker made, seconds, and the words of errors.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from linkage.errors import Conflict, HistoryAltered, LinkageError, Unreachable
from linkage.proposal_messages import ProposalState
from linkage.whole_file import write_private
from sites.agent_pace import Backoff, Stop
from sites.agent_tasks import (
    WORDS,
    Task,
    forget_old_policy,
    judge,
    perform,
    refuse,
    sent_before,
    waiting_tasks,
)
from sites.outbox import sweep
from sites.proposals import carry_out, held, waiting
from sites.session import Session, session_of
from sites.vault import Vault
from sites.workers import without_values

_STATUS, _LOCK = "agent.json", "agent.lock"
_BROKER, _LOOK = "look at the broker", "second look of run"

State = Literal["done", "waits", "refused", "failed"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Event:
    """
    What became of one thing in one round. kind: what, in words. subject: the run, question or
    delivery; "" of the round as a whole. seconds: how long it took. fault: of a failure.
    """

    kind: str
    subject: str
    state: State
    said: str = ""
    seconds: float = 0.0
    fault: LinkageError | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.kind, self.subject

    def figures(self) -> dict[str, Any]:
        """Return what is not empty, for programs."""
        told: dict[str, Any] = {
            "kind": self.kind,
            "subject": self.subject,
            "state": self.state,
            "said": self.said,
            "seconds": self.seconds,
            "code": self.fault.code if self.fault else "",
            "hint": self.fault.hint if self.fault else "",
        }
        return {name: value for name, value in told.items() if value not in ("", 0.0)}


@contextmanager
def only_one(vault: Vault) -> Iterator[None]:
    """Let no second agent run in this private folder. Raises Conflict with the first one's pid."""
    vault.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(vault.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(handle, fcntl.LOCK_EX):
            pid = os.pread(handle, 20, 0).decode(errors="replace") or "?"
            raise Conflict(
                f"an agent of this site runs already (process {pid})",
                hint="let it; `linkage-site agent --status` says what it does",
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _locked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def round_of(
    session: Session,
    backoff: Backoff,
    stop: Stop,
    *,
    progress: Progress = lambda step, done, total: None,
) -> Iterator[Event]:
    """
    Do everything that waits and may be done, and yield what became of it.

    Raises Unreachable where the broker is not there; every other fault is an event.
    """
    yield from _looks(session, backoff, progress)
    yield from _proposals(session, backoff, stop)
    for task in waiting_tasks(session):
        if stop.wanted:
            return
        if backoff.holds(task.subject, time.monotonic()):
            continue
        progress(WORDS[task.kind], 0, 0)
        event = _done(session, task)
        if event.state == "failed":
            backoff.failed(task.subject, time.monotonic())
        else:
            backoff.went_well(task.subject)
        yield event


def plan_of(session: Session) -> list[Event]:
    """Return what a round would do now, and what would wait; does nothing of it."""
    found = _planned_looks(session)
    for one in waiting(session):
        why = held(session, one)
        said = why or f"would be carried out, if all is in order: {one.kind} {one.about}"
        found.append(Event(_proposal_of(one), one.proposal_id, "waits" if why else "done", said))
    for task in waiting_tasks(session):
        judged = judge(session, task)
        state: State = "done" if judged.go else "refused" if judged.deny else "waits"
        found.append(Event(WORDS[task.kind], task.subject, state, judged.said))
    return found


def _planned_looks(session: Session) -> list[Event]:
    """Return what would become of the second looks that wait."""
    if session.signed.study.looks is None:
        return []
    from sites.second_looks import OPEN, asked_of

    said: dict[str, tuple[State, str]] = {
        "auto": ("done", "would be answered, by policy"),
        "ask": ("waits", "waits for a person: linkage-site answer"),
        "refuse": ("refused", "left unanswered by policy: the run goes on without"),
    }
    how = said[session.site.agent.second_looks]
    return [Event(_LOOK, one.run_id, *how) for one in asked_of(session) if one.state in OPEN]


def _looks(session: Session, backoff: Backoff, progress: Progress) -> Iterator[Event]:
    kind, began = _LOOK, time.monotonic()
    if session.signed.study.looks is None or backoff.holds(kind, began):
        return
    if session.site.agent.second_looks != "auto":
        yield from _planned_looks(session)
        return
    # Here, for what it loads: most sites of most studies are never asked.
    from sites.second_looks import answer_looks

    try:
        outcomes = answer_looks(session, progress=progress)
    except Unreachable:
        raise
    except LinkageError as fault:
        backoff.failed(kind, time.monotonic())
        yield _failed(kind, "", fault, began)
        return
    spent = round(time.monotonic() - began, 1)
    if any(one.fault is not None for one in outcomes):
        backoff.failed(kind, time.monotonic())
    else:
        backoff.went_well(kind)
    for one in outcomes:
        if one.fault is not None:
            yield _failed(kind, one.run_id, one.fault, began)
        else:
            yield Event(kind, one.run_id, "done", one.state, spent)


def _proposals(session: Session, backoff: Backoff, stop: Stop) -> Iterator[Event]:
    """Carry out what people proposed in the portal, where the site file names them."""
    for one in waiting(session):
        if stop.wanted:
            return
        if backoff.holds(one.proposal_id, time.monotonic()):
            continue
        event = _tried(_proposal_of(one), one.proposal_id, partial(carry_out, session, one))
        if event.state == "failed":
            backoff.failed(one.proposal_id, time.monotonic())
        else:
            backoff.went_well(one.proposal_id)
        yield event


def _proposal_of(one: ProposalState) -> str:
    return f"proposal of {one.person}"


def _done(session: Session, task: Task) -> Event:
    def do() -> tuple[State, str]:
        forget_old_policy(session, task)
        judged = judge(session, task)
        if judged.deny:
            refuse(session, task)
        if not judged.go:
            return "refused" if judged.deny else "waits", judged.said
        left = perform(session, task)
        return "waits" if left else "done", left or sent_before(session, task) or judged.said

    return _tried(WORDS[task.kind], task.subject, do)


def _tried(kind: str, subject: str, do: Callable[[], tuple[State, str]]) -> Event:
    """Do one thing; a fault of it is an event. Raises Unreachable."""
    began = time.monotonic()
    try:
        state, said = do()
    except Unreachable:
        raise
    except LinkageError as fault:
        return _failed(kind, subject, fault, began)
    except Exception as fault:  # its text could hold a value of a record
        return _failed(kind, subject, without_values(fault), began)
    spent = round(time.monotonic() - began, 1) if state == "done" else 0.0
    return Event(kind, subject, state, said, spent)


def _failed(kind: str, subject: str, fault: LinkageError, began: float) -> Event:
    spent = round(time.monotonic() - began, 1)
    return Event(kind, subject, "failed", fault.message, spent, fault)


@dataclass(slots=True)
class Agent:
    """
    One site's agent. tell: called with what is new; a thing that stays as it was is told once.

    progress: of long steps, for a terminal.
    """

    site_file: Path
    tell: Callable[[Event], None]
    progress: Progress = lambda step, done, total: None
    _said: dict[tuple[str, str], str] = field(default_factory=dict)
    _failing: list[Event] = field(default_factory=list)
    _went_well: float = 0.0

    def once(self, stop: Stop) -> list[Event]:
        """Look once, and return all that became of it. Raises what keeps it from looking."""
        with session_of(self.site_file) as session, only_one(session.vault):
            sweep(session.vault)
            events = []
            for event in round_of(session, Backoff(1), stop, progress=self.progress):
                self.tell(event)
                events.append(event)
            self._went_well = time.time()
            self._write(session.vault, events)
        return events

    def run(self, stop: Stop, ready: Callable[[], None] = lambda: None) -> None:
        """
        Look again and again until it is stopped. What is wrong with the site file or the keys at
        the start is raised; later it is told, and tried again. ready: called in between.
        """
        with session_of(self.site_file) as session:
            vault, every = session.vault, float(session.site.agent.every)
        backoff = Backoff(every)
        with only_one(vault), stop.on_sigterm():
            sweep(vault)
            ready()
            while not stop.wanted:
                stop.sleep(self._look(vault, backoff, stop))

    def _look(self, vault: Vault, backoff: Backoff, stop: Stop) -> float:
        """Look once; return after how many seconds to look again."""
        events: list[Event] = []
        fault: LinkageError
        began = time.monotonic()
        try:
            with session_of(self.site_file) as session:
                backoff.every = float(session.site.agent.every)
                for event in round_of(session, backoff, stop, progress=self.progress):
                    events.append(event)
                    self._tell_new(event)
        except LinkageError as caught:
            fault = caught
        except Exception as caught:  # its text could hold a value of a record
            fault = without_values(caught)
        else:
            backoff.went_well(_BROKER)
            self._said.pop((_BROKER, ""), None)
            self._went_well = time.time()
            now = time.monotonic()
            held = [one for one in self._failing if backoff.holds(one.subject or one.kind, now)]
            self._write(vault, events + held)
            return backoff.every
        events.append(_failed(_BROKER, "", fault, began))
        self._tell_new(events[-1])
        self._write(vault, events)
        return backoff.failed(_BROKER, time.monotonic())

    def _tell_new(self, event: Event) -> None:
        if event.state == "done":
            self._said.pop(event.key, None)
            self.tell(event)
            return
        # Two histories stay two, whichever head shows it at this look.
        altered = isinstance(event.fault, HistoryAltered)
        said = HistoryAltered.code if altered else event.said
        if self._said.get(event.key) != said:
            self._said[event.key] = said
            self.tell(event)

    def _write(self, vault: Vault, events: list[Event]) -> None:
        """Leave for `--status` what this round was like."""
        self._failing = list({e.key: e for e in events if e.state == "failed"}.values())
        told = {
            "pid": os.getpid(),
            "looked_at": round(time.time()),
            "went_well_at": round(self._went_well),
            "waits": [one.figures() for one in events if one.state == "waits"],
            "failed": [one.figures() for one in self._failing],
        }
        write_private(vault.folder / _STATUS, json.dumps(told).encode())


def status_of(vault: Vault) -> dict[str, Any]:
    """
    Return what the agent of this private folder last left, and whether one runs. Raises Conflict
    where none ever did.
    """
    path = vault.folder / _STATUS
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Conflict(
            "no agent has run here yet", hint="start one: linkage-site agent --site SITE.toml"
        ) from None
    handle = os.open(vault.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return {"runs": not _locked(handle, fcntl.LOCK_SH), **told}
    finally:
        os.close(handle)
