"""
History: whose record was this, or who was this person, on that day, and why.

Person IDs say who is whom and never leave the broker, so no route leads here: only the console of
the broker's machine asks, and every question is an entry of the audit log, without the name asked.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Any

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services.questions import two_sides
from broker.services.runs import finished
from broker.store import jobs, links, people, runs
from broker.store.engine import Connection, Database
from linkage.errors import NotFound
from linkage.matching.links import TIERS

_NAME = re.compile(r"[0-9a-f]{32}")
_GIVING = ("release", "question", "delivery")
"""Kinds of jobs that give out IDs."""


@dataclass(frozen=True, slots=True)
class Persons:
    """The persons of the studies and their records, over all runs."""

    database: Database

    def history(
        self, grant: Grant, name: str, *, run_id: str = "", on: dt.date | None = None
    ) -> dict[str, Any]:
        """
        Return what became of a record or a person, and who it was after a run.

        name: record pseudonym or person ID, 32 hex digits. run_id: after this run. on: after the
        last run that ended on that day or before, UTC; neither: after the newest run.

        Raises NotFound for a name that no run has known, or where no run had ended by then.
        """
        asked = bytes.fromhex(name) if _NAME.fullmatch(name) else b""
        study_id = grant.study.id
        with self.database.change() as connection:
            every = {r.sequence: r for r in runs.of_study(connection, study_id) if r.sequence}
            run = _run_then(connection, study_id, every, run_id, on)
            stays = people.stays(connection, study_id, asked)
            told = (
                _of_record(connection, grant.study, every, stays, run)
                if stays
                else _of_person(connection, study_id, every, asked, run)
            )
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="person history read",
                study_id=study_id,
                subject=run.id,
            )
        return {"name": name, **told}


def _run_then(
    connection: Connection,
    study_id: str,
    every: dict[int, runs.RunRow],
    run_id: str,
    on: dt.date | None,
) -> runs.RunRow:
    if on is None:
        return finished(connection, study_id, run_id)
    midnight = dt.datetime.combine(on + dt.timedelta(days=1), dt.time(), dt.UTC).timestamp()
    ended = [n for n, row in every.items() if (row.finished_at or 0) < midnight]
    if not ended:
        raise NotFound(
            f"no run of the study had ended by {on}",
            hint="`linkage-broker run list` shows the runs",
        )
    return every[max(ended)]


def _of_record(
    connection: Connection,
    study: RegisteredStudy,
    every: dict[int, runs.RunRow],
    stays: list[people.Stay],
    run: runs.RunRow,
) -> dict[str, Any]:
    then = next((one for one in stays if _holds(one, run.sequence or 0)), None)
    return {
        "kind": "record",
        "uploader": stays[-1].uploader,
        "stays": [
            {"person": one.person_id.hex(), **_span(every, one.since, one.until)} for one in stays
        ],
        "withdrawn": stays[-1].until is not None,
        "given_out": _given_out(connection, study, every, stays),
        "then": _then(connection, study.id, then.person_id if then else None, run),
    }


def _of_person(
    connection: Connection,
    study_id: str,
    every: dict[int, runs.RunRow],
    asked: bytes,
    run: runs.RunRow,
) -> dict[str, Any]:
    row = people.find(connection, study_id, asked)
    if row is None:
        raise NotFound(
            "no run of the study has known a record or a person of this name",
            hint="give a record pseudonym or a person ID, 32 hex digits",
        )
    later: list[str] = []
    who: people.PersonRow | None = row
    while who and who.until is not None and who.until <= (run.sequence or 0) and who.merged_into:
        later.append(who.merged_into.hex())
        who = people.find(connection, study_id, who.merged_into)
    there = who is not None and who.since <= (run.sequence or 0)
    return {
        "kind": "person",
        **_span(every, row.since, row.until),
        "merged_into": row.merged_into.hex() if row.merged_into else None,
        "split_from": row.split_from.hex() if row.split_from else None,
        "followed": later,
        "then": _then(connection, study_id, who.person_id if who and there else None, run),
    }


def _then(
    connection: Connection, study_id: str, person_id: bytes | None, run: runs.RunRow
) -> dict[str, Any]:
    """Return a person as it was after a run: its records, and what tied them together."""
    sequence = run.sequence or 0
    found = people.members_of(connection, study_id, person_id, sequence) if person_id else []
    facts = links.among(connection, study_id, [name for _, name in found], sequence)
    return {
        "run": run.id,
        "at": run.finished_at,
        "person": person_id.hex() if person_id else None,
        "records": [{"uploader": who, "record": name.hex()} for who, name in found],
        "links": [
            {
                "left": one.left.hex(),
                "right": one.right.hex(),
                "method": TIERS.get(one.tier, ""),
                "tier": one.tier,
                "model": one.model,
            }
            for one in facts
        ],
    }


def _given_out(
    connection: Connection,
    study: RegisteredStudy,
    every: dict[int, runs.RunRow],
    stays: list[people.Stay],
) -> list[dict[str, Any]]:
    """Return the releases, questions and deliveries that held the record, oldest first."""
    party_of = {one: p.id for p in study.config.party for one in study.config.uploaders_of(p)}
    party = party_of.get(stays[-1].uploader)
    sequence = {row.id: number for number, row in every.items()}
    found = []
    for job in (one for kind in _GIVING for one in jobs.of_kind(connection, study.id, kind)):
        number = sequence.get(job.run_id)
        held = number is not None and any(_holds(one, number) for one in stays)
        # Who uploads for no party any more may have: then it is told rather than left out.
        to = json.loads(job.request)["audience"] if job.kind == "release" else two_sides(study)
        if job.state == "done" and held and (party is None or party in to):
            found.append(
                {"job": job.id, "kind": job.kind, "run": job.run_id, "at": job.finished_at}
            )
    return sorted(found, key=lambda one: (one["at"] or 0, str(one["job"])))


def _holds(stay: people.Stay, sequence: int) -> bool:
    return stay.since <= sequence and (stay.until is None or sequence < stay.until)


def _span(every: dict[int, runs.RunRow], since: int, until: int | None) -> dict[str, Any]:
    def when(sequence: int | None) -> dict[str, Any] | None:
        row = every.get(sequence or 0)
        return {"run": row.id, "at": row.finished_at} if row else None

    return {"since": when(since), "until": when(until)}
