"""`linkage-site answer`: whatever waits for this site at the broker, once or in a loop."""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage.errors import Conflict, LinkageError, Unreachable
from sites.terminal import DryRun, Steps, show, told, would

if TYPE_CHECKING:
    from sites.second_looks import Outcome
    from sites.session import Session

_LEAST_WATCH_S = 5.0


@dataclass(slots=True)
class Round:
    """What one round did. questions: by cohort question or delivery. leaves: in words."""

    looks: list[Outcome] = field(default_factory=list)
    questions: dict[str, str] = field(default_factory=dict)
    leaves: str = ""

    def rows(self) -> dict[str, object]:
        rows: dict[str, object] = {f"run {one.run_id}": one.said for one in self.looks}
        if self.leaves:
            rows["what leaves"] = self.leaves
        return rows | self.questions

    def data(self) -> dict[str, Any]:
        looks = [one.figures() for one in self.looks]
        return {"second_looks": looks, "what_leaves": self.leaves, "questions": self.questions}

    @property
    def fault(self) -> LinkageError | None:
        """The first reason why something was not answered."""
        return next((one.fault for one in self.looks if one.fault is not None), None)


@told
def answer(
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    watch: Annotated[
        float | None,
        typer.Option(min=_LEAST_WATCH_S, metavar="SECONDS", help="Go on, asking so often."),
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="List what was asked and answered; ask nobody.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Answer what waits at the broker: second looks; an imaging commons also cohort questions."""
    from sites.session import session_of

    with session_of(site) as session:
        if ledger:
            _show_ledger(session, as_json=as_json)
            return
        if dry_run or watch is None:
            with Steps(quiet=as_json) as steps:
                done = _round(session, steps, dry_run=dry_run)
            _tell(session, done, dry_run=dry_run, as_json=as_json)
            if done.fault is not None:
                raise done.fault
            return
        _watch(session, watch, as_json=as_json)


def _round(session: Session, steps: Steps, *, dry_run: bool = False) -> Round:
    from sites.answers import answer_everything, waiting
    from sites.second_looks import answer_looks, what_leaves

    looks = answer_looks(session, dry_run=dry_run, progress=steps.step)
    done = Round(looks, leaves=what_leaves(session, looks))
    if session.site.imaging is not None:
        done.questions = waiting(session) if dry_run else answer_everything(session)
    return done


def _tell(session: Session, done: Round, *, dry_run: bool, as_json: bool) -> None:
    rows = done.rows() or {"nothing": _why_nothing(session)}
    if dry_run and as_json:
        show("", {}, as_json=True, data={"dry_run": True, "would": "answer", **done.data()})
    elif dry_run:
        would("answer", rows)
    else:
        show("Answered", rows, as_json=as_json, data=done.data())


def _watch(session: Session, seconds: float, *, as_json: bool) -> None:
    """Answer for ever; say what was done, and what is wrong once until it changes."""
    said: dict[str, object] = {}
    while True:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            with Steps(quiet=True) as steps:
                done = _round(session, steps)
            rows, data = done.rows(), done.data()
        except (Unreachable, Conflict) as fault:  # a broker that restarts, another process
            rows = {"not now": fault.message}
            data = {"error": fault.message, "hint": fault.hint}
        if rows and rows != said:
            if as_json:
                typer.echo(json.dumps({"at": now, **data}))
            else:
                show(now, rows)
        said = rows
        time.sleep(seconds)


def _why_nothing(session: Session) -> str:
    study = session.signed.study
    if study.looks is None and session.site.imaging is None:
        return "the study allows no second look, and this site has no [imaging]: nothing ever waits"
    return "no run asks anything of this site now, and no question is open"


def _show_ledger(session: Session, *, as_json: bool) -> None:
    from sites.look_ledger import Ledger, by_record

    epoch, looks = session.signed.study.study.epoch, session.signed.study.looks
    entries = Ledger(session.vault, epoch).entries()
    runs = sum(not one.refusal for one in entries)
    often = max(by_record(entries).values(), default=0)
    rows: dict[str, object] = {}
    for one in entries:
        when = dt.datetime.fromtimestamp(one.at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
        told = f"{one.answered:,} of {one.questions:,} answered, {len(one.asked):,} records"
        rows[f"{when}  run {one.run_id}"] = f"REFUSED: {one.refusal}" if one.refusal else told
    rows["runs answered"] = f"{runs:,} of {looks.most_runs if looks else 0:,} in epoch {epoch}"
    rows["most asked record"] = f"{often:,} questions in all"
    data = {
        "epoch": epoch,
        "runs_answered": runs,
        "most_runs": looks.most_runs if looks else 0,
        "most_asked_record": often,
        "runs": [one.figures() for one in entries],
    }
    show("What this site was asked about single pairs", rows, as_json=as_json, data=data)
