"""
Questions back, and their answers: what a steward wants to know before deciding.

Each is signed by who wrote it and kept as it came; the audit log has its hash, never its text.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from broker import audit
from broker.policy import Grant
from broker.services.standing import existing
from broker.store import jobs
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotAllowed
from linkage.messages import READER, QuestionRequest
from linkage.question_messages import MOST_REMARKS, Remark, RemarkState


@dataclass(frozen=True, slots=True)
class Remarks:
    """What stewards and researchers say about the questions of the studies."""

    database: Database

    def all(self, grant: Grant, question_id: str) -> list[RemarkState]:
        """Return what was said about a question, oldest first. Raises NotFound."""
        with self.database.read() as connection:
            existing(connection, grant.study, question_id)
            return _of(connection, question_id)

    def say(self, grant: Grant, question_id: str, remark: Remark) -> list[RemarkState]:
        """
        Keep a remark; the same again is one. Return what was said. A researcher brings an answer
        that the question's reading key has signed; who else has it is not known here.

        Raises NotAllowed for a remark in another's name, PackageRefused for one not signed by its
        author, Conflict where it is about another specification or answers nothing.
        """
        study, person = grant.study, grant.caller.person
        party = "" if person else grant.party
        with self.database.change() as connection:
            row = existing(connection, grant.study, question_id)
            asked = QuestionRequest.model_validate_json(row.request)
            enclave = study.config.party_of_kind("enclave")
            carries = person or (enclave is not None and party == enclave.id)
            if remark.author == READER and carries and asked.reader is not None:
                remark.verify(asked.reader)
            elif party and remark.author == party:
                remark.verify(study.pin(party))
            else:
                raise NotAllowed(
                    "a remark in another's name is not taken",
                    hint="a party signs its own, the researcher with the question's reading key",
                )
            named = (remark.study_id, remark.question_id, remark.spec_hash)
            if named != (study.id, row.id, asked.spec_hash):
                raise Conflict(
                    "the remark is about another question or specification",
                    hint="read the question again",
                )
            said = _of(connection, row.id)
            if any(one.remark == remark for one in said):
                return said
            _require_in_place(said, remark, carries=carries)
            number = len(said) + 1
            text, now = remark.model_dump_json(), int(time.time())
            jobs.add_remark(connection, row.id, number, remark.author, text, now)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="question asked back" if not remark.answers else "question back answered",
                study_id=study.id,
                subject=row.id,
                detail={"number": number, "answers": remark.answers, "digest": remark.hash},
            )
            return _of(connection, row.id)


def open_asks(connection: Connection, question_id: str) -> tuple[str, ...]:
    """Return the parties whose questions back have no answer yet, ascending."""
    return open_in(jobs.remarks(connection, question_id))


def open_in(texts: list[tuple[int, str]]) -> tuple[str, ...]:
    """Return the same of remarks that were read already."""
    said = _read(texts)
    answered = {one.remark.answers for one in said}
    waiting = (o for o in said if not o.remark.answers and o.number not in answered)
    return tuple(sorted({one.remark.author for one in waiting}))


def _require_in_place(said: list[RemarkState], remark: Remark, *, carries: bool) -> None:
    """An answer is the researcher's or the enclave's, and to a question back that is there."""
    if len(said) >= MOST_REMARKS:
        raise Conflict(
            f"there are {MOST_REMARKS} remarks about this question already",
            hint="talk to each other, then ask the question anew",
        )
    if not remark.answers:
        if remark.author == READER:
            raise NotAllowed("the researcher answers; stewards ask", hint="name what it answers")
        return
    if not carries:
        raise NotAllowed("the researcher answers, through the enclave", hint="ask back instead")
    asks = {one.number for one in said if not one.remark.answers}
    if remark.answers not in asks:
        raise Conflict(
            f"there is no question back number {remark.answers}",
            hint="linkage-cohort show lists them",
        )


def _of(connection: Connection, question_id: str) -> list[RemarkState]:
    return _read(jobs.remarks(connection, question_id))


def _read(texts: list[tuple[int, str]]) -> list[RemarkState]:
    return [
        RemarkState(number=number, remark=Remark.model_validate_json(text))
        for number, text in texts
    ]
