"""
Second looks, while a run waits: read the answers that come, and end the wait.

Any worker does it, several at once: every change is one transaction that first looks whether it is
still to be done. What a site answered is open in the worker's memory only, and read twice: when it
comes, so that the site hears what is wrong with it, and when the run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from broker import audit, problems
from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.scratch import Scratch
from broker.services.second_looks import MOST_REFUSALS, answer_context
from broker.store import runs, second_looks, studies
from broker.store.second_looks import ACCEPTED, REFUSED, SENT, RequestRow
from linkage.errors import LinkageError, PackageRefused, Unreachable
from linkage.look_tables import Answers, Questions, answers_from_arrow, questions_from_arrow
from linkage.plain_arrow import read_stream
from linkage.sealing import KeyHolder, unseal

_LOST = (
    "the broker cannot find what it asked, or what was sent. Hint: nothing is wrong at the site;"
    " send it again, and tell the broker's admin"
)
_UNREADABLE = "it cannot be read. Hint: answer with this version of the software"
_log = structlog.get_logger("linkage.worker")


def questions_name(uploader: str) -> str:
    """Return the name of the intermediate result that says what an uploader was asked."""
    return f"asked-{uploader}"


class AnswerReader:
    """Reads what sites answer. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: KeyHolder) -> None:
        self._broker, self._identity = broker, identity

    def tend(self) -> None:
        """Read the answers that have come, and let runs go on that need not wait any longer."""
        with self._broker.database.read() as connection:
            sent = second_looks.sent(connection)
        for one in sent:
            _survive(self._judge, *one)
        with self._broker.database.read() as connection:
            ready = second_looks.ready(connection, time.time(), MOST_REFUSALS)
        for run_id in ready:
            _survive(self._end, run_id)

    def answers(self, scratch: Scratch, study: RegisteredStudy, row: RequestRow) -> Answers:
        """Return an accepted answer. Raises LinkageError where it or the questions are gone."""
        asked = _asked(scratch, study, row)
        sealed = self._broker.blobs.read(row.answer_blob_id or "")
        return self._opened(sealed, study, row, asked)

    def _judge(self, run_id: str, uploader: str) -> None:
        """Accept an answer, or refuse it with the rule that it breaks."""
        with self._broker.database.read() as connection:
            run = runs.find(connection, run_id)
            study_row = studies.find_study_at(connection, run.study_id, run.epoch) if run else None
            row = second_looks.request(connection, run_id, uploader)
        if study_row is None or row is None or row.state != SENT:
            return
        study = RegisteredStudy.of(study_row)
        scratch = Scratch(self._broker, self._identity, study.id, run_id)
        try:
            asked = _asked(scratch, study, row)
            sealed = self._broker.blobs.read(row.answer_blob_id or "")
        except Unreachable:
            raise
        except LinkageError as error:
            _log.error("an answer is lost", run=run_id, code=error.code, message=error.message)
            refusal = _LOST
        else:
            refusal = self._refusal(sealed, study, row, asked)
        self._settle(row, study, refusal)

    def _refusal(
        self, sealed: bytes, study: RegisteredStudy, row: RequestRow, asked: Questions
    ) -> str:
        """Return the rule that an answer breaks and the remedy, "" where it breaks none."""
        try:
            self._opened(sealed, study, row, asked)
        except LinkageError as error:
            return f"{error.message}. Hint: {error.hint}" if error.hint else error.message
        except Exception as error:
            _log.warning("an answer cannot be read", run=row.run_id, **problems.described(error))
            return _UNREADABLE
        return ""

    def _opened(
        self, sealed: bytes, study: RegisteredStudy, row: RequestRow, asked: Questions
    ) -> Answers:
        """Open an answer and read it strictly. Raises PackageRefused or EncodingRefused."""
        opened = unseal(
            sealed,
            sender=study.pin(row.uploader),
            recipient=self._identity,
            context=answer_context(study.id, row.uploader, row.run_id, row.digest),
        )
        try:
            _, batches = read_stream(opened)
        except ValueError:
            batches = []
        if len(batches) != 1:
            raise PackageRefused(
                "what is inside is no table of answers",
                hint="answer with this version of the software",
            )
        looks = study.config.looks
        return answers_from_arrow(batches[0], study.config, asked, looks.fields if looks else ())

    def _settle(self, row: RequestRow, study: RegisteredStudy, refusal: str) -> None:
        """Write down what was found, if the run still waits for exactly this answer."""
        dropped = None
        with self._broker.database.change() as connection:
            now = second_looks.request(connection, row.run_id, row.uploader)
            look = second_looks.find(connection, row.run_id)
            if look is None or look.over_at is not None or now is None:
                return
            if (now.state, now.answer_blob_id) != (SENT, row.answer_blob_id):
                return
            if refusal:
                dropped = row.answer_blob_id
                second_looks.change(
                    connection,
                    row.run_id,
                    row.uploader,
                    state=REFUSED,
                    refusals=now.refusals + 1,
                    refusal=refusal,
                    answer_blob_id=None,
                    answer_digest=None,
                )
            else:
                second_looks.change(connection, row.run_id, row.uploader, state=ACCEPTED)
            rows = second_looks.requests(connection, row.run_id)
            done = sum(one.state == ACCEPTED for one in rows) / len(rows)
            runs.change(connection, row.run_id, progress=done)
            audit.record(
                connection,
                actor="worker",
                action=f"second look answer {'refused' if refusal else 'accepted'}",
                study_id=study.id,
                subject=row.run_id,
                detail={"uploader": row.uploader, **({"rule": refusal} if refusal else {})},
            )
        if dropped:
            self._broker.blobs.delete(dropped)

    def _end(self, run_id: str) -> None:
        """Let a run go on: with what was answered, and for good."""
        with self._broker.database.change() as connection:
            look = second_looks.find(connection, run_id)
            run = runs.find(connection, run_id)
            rows = second_looks.requests(connection, run_id)
            if look is None or look.over_at is not None or run is None or run.finished_at:
                return
            if any(row.state == SENT for row in rows):
                return  # it came in time, and is read next
            answered = sum(row.state == ACCEPTED for row in rows)
            second_looks.end(connection, run_id, time.time())
            audit.record(
                connection,
                actor="worker",
                action="second look over",
                study_id=run.study_id,
                subject=run_id,
                detail={"answered": answered, "silent": len(rows) - answered},
            )


def _asked(scratch: Scratch, study: RegisteredStudy, row: RequestRow) -> Questions:
    batch = scratch.get_batch(questions_name(row.uploader))
    return questions_from_arrow(batch, study.config, row.uploader, most=row.questions)


def _survive(do: Callable[..., None], *about: str) -> None:
    """Do something for one run; its trouble stays its own, an unreachable database is all's."""
    try:
        do(*about)
    except Unreachable:
        raise
    except Exception as error:
        _log.error("a second look is hindered", run=about[0], **problems.described(error))
