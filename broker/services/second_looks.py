"""
Second looks, the server's side: questions wait for every uploader, answers wait for the worker.

The server cannot open either. It checks that an answer comes from the uploader who was asked, was
sealed to the broker for exactly these questions, and is no longer than an answer can be; whether
it answers them the worker finds (broker.second_look), and says so in the request's state.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker import audit
from broker.blobs import Blobs, Receiving
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.store import runs, second_looks, studies
from broker.store.engine import Connection, Database
from broker.store.second_looks import (
    ACCEPTED,
    ASKED,
    OPEN,
    REFUSED,
    SENT,
    LookRow,
    RequestRow,
)
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.look_tables import FILTER_BYTES, NONCE_BYTES
from linkage.messages import BROKER, SECOND_LOOK_ANSWER
from linkage.run_messages import LookState
from linkage.sealing import Context, verify_sealed_stream
from linkage.study import FIELDS

MOST_REFUSALS = 5
"""Answers of one uploader that are read in vain; then the run goes on without it."""

_ROW_BYTES = NONCE_BYTES + len(FIELDS) * (FILTER_BYTES + 1)
_FRAME_BYTES = 64 * 1024
"""Of Arrow and of the seal, at most."""


def answer_context(study_id: str, uploader: str, run_id: str, questions_digest: str) -> Context:
    """Return what an answer is sealed for: these questions of this run, and no others."""
    details = (run_id, questions_digest)
    return Context(study_id, uploader, BROKER, SECOND_LOOK_ANSWER, details)


@dataclass(frozen=True, slots=True)
class Expected:
    """An answer that is about to come. cap: bytes that it may have."""

    grant: Grant
    run_id: str
    cap: int


@dataclass(frozen=True, slots=True)
class SecondLooks:
    """Questions about single pairs, and who has answered."""

    database: Database
    blobs: Blobs

    def all(self, grant: Grant) -> list[LookState]:
        """Return what the study's runs ask: of the caller; for an admin, of everybody."""
        with self.database.read() as connection:
            found = second_looks.of_study(connection, grant.study.id)
            return [state for run_id in found for state in self._states(connection, grant, run_id)]

    def of_run(self, grant: Grant, run_id: str) -> list[LookState]:
        """Return what one run asks, as `all` does of every run; nothing of a run that ended."""
        with self.database.read() as connection:
            row = runs.find(connection, run_id)
            if row is None or row.study_id != grant.study.id or row.state in runs.OVER:
                return []
            return list(self._states(connection, grant, run_id))

    def open(self, grant: Grant, run_id: str) -> tuple[LookState, Iterator[bytes]]:
        """Return the sealed questions of a run to their uploader, in pieces. Raises NotFound."""
        with self.database.read() as connection:
            look, row, study = _asked(connection, grant, run_id)
            state = _state(connection, look, row, study)
        return state, self.blobs.verified(row.blob_id, row.digest)

    def expect(self, grant: Grant, run_id: str) -> Expected:
        """
        Check whether an answer may come, before its body is read.

        Raises NotFound for a run that asks nothing of the caller, Conflict where it went on or the
        epoch's study key is out of use.
        """
        with self.database.read() as connection:
            look, row, study = _asked(connection, grant, run_id)
            _require_open(connection, look, row, study)
        return Expected(grant, run_id, row.questions * _ROW_BYTES + _FRAME_BYTES)

    def take(self, expected: Expected, received: Receiving) -> tuple[LookState, bool]:
        """
        Keep an answer; return its state, and whether it is new. The same again is one.

        Raises PackageRefused where the caller did not seal it for exactly these questions,
        Conflict where another answer is here or the run went on.
        """
        grant, run_id = expected.grant, expected.run_id
        if not received.size:
            raise PackageRefused("the body is empty", hint="send the sealed answer")
        with self.database.read() as connection:
            _, row, study = _asked(connection, grant, run_id)
        context = answer_context(study.id, row.uploader, run_id, row.digest)
        with received.reader() as file:
            verify_sealed_stream(file, sender=study.pin(row.uploader), context=context)
        blob = received.keep()
        with self.blobs.unless_kept(blob.blob_id) as fate:
            with self.database.change() as connection:
                look, row, study = _asked(connection, grant, run_id)
                _require_open(connection, look, row, study)
                if row.state == SENT and row.answer_digest == blob.digest:
                    return _state(connection, look, row, study), False
                if row.state == SENT:
                    raise Conflict(
                        "another answer was sent and is not read yet",
                        hint="it stands unless it is refused; look at its state",
                    )
                columns = {"answer_blob_id": blob.blob_id, "answer_digest": blob.digest}
                second_looks.change(connection, run_id, row.uploader, state=SENT, **columns)
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action="second look answered",
                    study_id=study.id,
                    subject=run_id,
                    detail={"digest": blob.digest, "bytes": blob.size},
                )
                _, row, _ = _asked(connection, grant, run_id)
                state = _state(connection, look, row, study)
            fate.kept = True
        return state, True

    def end(self, grant: Grant, run_id: str) -> list[LookState]:
        """
        Let a run wait no longer; return what it asked of everybody. What has been sent is still
        read. Raises NotFound for a run that asks nothing. Twice is once.
        """
        with self.database.change() as connection:
            look = _look_of(connection, grant, run_id)
            now = time.time()
            if look.over_at is None and look.until > now:
                second_looks.hurry(connection, run_id, now)
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action="second look ended early",
                    study_id=grant.study.id,
                    subject=run_id,
                )
            return list(self._states(connection, grant, run_id))

    def _states(self, connection: Connection, grant: Grant, run_id: str) -> Iterable[LookState]:
        look = second_looks.find(connection, run_id)
        study = _study_of(connection, grant, run_id)
        for row in second_looks.requests(connection, run_id):
            if look and (grant.is_admin or row.uploader == grant.party):
                yield _state(connection, look, row, study)


def _look_of(connection: Connection, grant: Grant, run_id: str) -> LookRow:
    run = runs.find(connection, run_id)
    look = second_looks.find(connection, run_id)
    if run is None or run.study_id != grant.study.id or look is None:
        raise _nothing_asked()
    if run.state not in ("queued", "running"):
        raise _nothing_asked()
    return look


def _asked(
    connection: Connection, grant: Grant, run_id: str
) -> tuple[LookRow, RequestRow, RegisteredStudy]:
    look = _look_of(connection, grant, run_id)
    row = second_looks.request(connection, run_id, grant.uploader)
    if row is None:
        raise _nothing_asked()
    return look, row, _study_of(connection, grant, run_id)


def _nothing_asked() -> NotFound:
    return NotFound(
        "there is no such run that asks you anything now",
        hint="GET .../second-looks lists them; of a run that ended nothing is left",
    )


def _study_of(connection: Connection, grant: Grant, run_id: str) -> RegisteredStudy:
    """Return the study as it was signed for the run: a later epoch may pin other keys."""
    run = runs.find(connection, run_id)
    row = studies.find_study_at(connection, grant.study.id, run.epoch) if run else None
    return RegisteredStudy.of(row) if row else grant.study


def _require_open(
    connection: Connection, look: LookRow, row: RequestRow, study: RegisteredStudy
) -> None:
    if row.state == ACCEPTED:
        raise Conflict("these questions are answered already", hint="nothing is left to do")
    if _is_late(look) or row.state not in OPEN:
        raise Conflict(
            "the run went on without this answer",
            hint="nothing is lost; let `linkage-site answer` run more often, by a timer",
        )
    if studies.find_deactivation(connection, study.id, study.config.study.epoch) is not None:
        raise Conflict(
            "the custodian put the study key of these questions out of use",
            hint="nothing is to be done; the run goes on without the answer",
        )
    if row.refusals >= MOST_REFUSALS:
        raise Conflict(
            f"{row.refusals} answers were refused, the last because: {row.refusal}",
            hint="the run goes on without; both sides need the same software version",
        )


def _state(
    connection: Connection, look: LookRow, row: RequestRow, study: RegisteredStudy
) -> LookState:
    run = runs.find(connection, row.run_id)
    missed = row.state in (ASKED, REFUSED) and _is_late(look)
    missed = missed or (look.over_at is not None and row.state != ACCEPTED)
    return LookState.model_validate(
        {
            "run_id": row.run_id,
            "uploader": row.uploader,
            "state": "missed" if missed else row.state or ASKED,
            "questions": row.questions,
            "until": look.until,
            "digest": row.digest,
            "size": row.size,
            "study_hash": study.study_hash,
            "dataset": json.loads(run.inputs)[row.uploader] if run else 0,
            "refusal": row.refusal,
        }
    )


def _is_late(look: LookRow) -> bool:
    """Is the wait over? What was sent before is read also later."""
    return look.over_at is not None or look.until <= time.time()
