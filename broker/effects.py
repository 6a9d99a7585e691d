"""
What withdrawals did to what was given out: which releases, questions and deliveries held records
that their sites have withdrawn since, and how many of each party.

Only the worker can tell, because it alone opens dataset versions; it looks whenever one came or
went since it last looked. Until then what was given out before is handed to nobody
(`require_usable` in broker.services.releases). What somebody has fetched cannot be recalled.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from broker import audit
from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.services.questions import two_sides
from broker.store import jobs, people, releases, runs, studies
from broker.withdrawn import held_since
from linkage.errors import NotFound
from linkage.matching.identity import as_names, find_in
from linkage.pseudonyms import ID_BYTES
from linkage.records import Bytes2D
from linkage.sealing import KeyHolder

RETRY_SECONDS = 600
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Made:
    """
    What a job gave out. records: rows by party. left_out: by uploader, pseudonyms of records that
    its run has and the job left out, 16 bytes each; None: all of them.
    """

    records: Mapping[str, int]
    left_out: Mapping[str, bytes | None]

    def to_json(self) -> str:
        """Return the text that `read` takes."""
        left = {
            uploader: _ALL if names is None else base64.b64encode(names).decode()
            for uploader, names in self.left_out.items()
        }
        return json.dumps({"records": dict(self.records), "left_out": left})

    @classmethod
    def read(cls, text: str | None) -> Made:
        """Return what was stored; of jobs of earlier software nothing was."""
        found = json.loads(text) if text else {"records": {}, "left_out": {}}
        left = {u: None if t == _ALL else base64.b64decode(t) for u, t in found["left_out"].items()}
        return cls(found["records"], left)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Seen:
    """
    What one look has found, for all jobs of the same run. held: by inputs and uploader. absent: of
    the run's records by inputs, uploader and run, those that are held no more.
    """

    held: dict[str, dict[str, Bytes2D]]
    absent: dict[tuple[str, str, int], Bytes2D]


class EffectsMaker:
    """Finds out what withdrawals did. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: KeyHolder) -> None:
        self._broker, self._identity = broker, identity

    def tend(self) -> None:
        """Queue a look at every study whose dataset versions changed since the last one."""
        with self._broker.database.read() as connection:
            stale = _stale(connection)
        for study_id in stale:
            with self._broker.database.change() as connection:
                given = releases.given_out(connection, study_id)
                if study_id not in _stale(connection) or not given:
                    continue
                row = jobs.JobRow(
                    id=f"effects-{secrets.token_hex(8)}",
                    study_id=study_id,
                    kind=releases.EFFECTS,
                    run_id=given[0].run_id,
                    request="{}",
                    asked_at=int(time.time()),
                )
                jobs.add(connection, row)

    def make(self, row: jobs.JobRow) -> None:
        """Look, and store what was found in one transaction. Raises as `held_since`."""
        with self._broker.database.read() as connection:
            found = studies.find_study(connection, row.study_id)
            mark = releases.mark(connection, row.study_id)
            given = releases.given_out(connection, row.study_id)
        if found is None:
            raise NotFound("the study is gone", hint="nothing is to be done")
        study = RegisteredStudy.of(found)
        stale = [one for one in given if one.checked != mark]
        seen = _Seen({}, {})
        gone = {one.id: self._gone(study, one, seen) for one in stale}
        now = int(time.time())
        with self._broker.database.change() as connection:
            for one in stale:
                if releases.set_affected(connection, one.id, gone[one.id], now):
                    audit.record(
                        connection,
                        actor="worker",
                        action=f"{one.kind} affected by withdrawals",
                        study_id=one.study_id,
                        subject=one.id,
                        detail={f"records of {p}": n for p, n in gone[one.id].items() if n},
                    )
                jobs.change(connection, one.id, checked=mark)
            jobs.change(connection, row.id, state="done", finished_at=now)

    def _gone(self, study: RegisteredStudy, job: jobs.JobRow, seen: _Seen) -> dict[str, int]:
        """Return by party how many records of a job its sites hold no more."""
        with self._broker.database.read() as connection:
            run = runs.find(connection, job.run_id)
        if run is None or run.sequence is None:
            return {}
        parties = releases.audience_of(job) if job.kind == "release" else two_sides(study)
        inputs: dict[str, int] = json.loads(run.inputs)
        ours = {
            uploader: party.id
            for party in study.config.party
            if party.id in parties
            for uploader in study.config.uploaders_of(party)
            if uploader in inputs
        }
        wanted = {uploader: inputs[uploader] for uploader in ours}
        key = json.dumps(wanted, sort_keys=True)
        if key not in seen.held:
            seen.held[key] = held_since(self._broker, self._identity, study, wanted)
        made, gone = Made.read(job.made), dict.fromkeys(parties, 0)
        for uploader, names in seen.held[key].items():
            which = (key, uploader, run.sequence)
            if which not in seen.absent:
                with self._broker.database.read() as connection:
                    had, _ = people.members_at(connection, study.id, uploader, run.sequence)
                every = _matrix(had)
                seen.absent[which] = every[find_in(as_names(names), as_names(every)) < 0]
            absent = _without(seen.absent[which], made.left_out.get(uploader, b""))
            gone[ours[uploader]] += len(absent)
        return gone


def _stale(connection: people.Connection) -> set[str]:
    """Return the studies to look at: changed since, and not looked at or tried just now."""
    known = releases.unchecked(connection)
    busy = releases.studies_looking(connection)
    stale = set()
    for study_id, checked in known.items():
        if study_id in busy or checked == {releases.mark(connection, study_id)}:
            continue
        last = next(iter(jobs.of_kind(connection, study_id, releases.EFFECTS)), None)
        failed = last is not None and last.state == "failed"
        if not failed or time.time() - (last.finished_at or 0 if last else 0) > RETRY_SECONDS:
            stale.add(study_id)
    return stale


def _without(names: Bytes2D, left_out: bytes | None) -> Bytes2D:
    if left_out is None:
        return names[:0]
    out = _matrix(left_out)
    out = out[np.argsort(as_names(out))]
    return names[find_in(as_names(out), as_names(names)) < 0]


def _matrix(names: bytes) -> Bytes2D:
    return np.frombuffer(names, np.uint8).reshape(-1, ID_BYTES)
