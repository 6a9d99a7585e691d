"""
Second looks, the worker's side: ask, read what comes, and weigh again.

A run asks after its weights are made and its workflow ends there: no thread waits, nothing blocks
the runs behind it, and a worker that is killed meanwhile loses nothing. Every worker looks after
what waits (`tend`): answers are read as they come, and when all are here, or time is up, the run
goes on as another workflow. What a site answered is open in the worker's memory only.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from broker import audit, problems
from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.scratch import Scratch
from broker.services.second_looks import MOST_REFUSALS, answer_context
from broker.store import runs, second_looks, studies
from broker.store.engine import Connection
from broker.store.second_looks import ACCEPTED, REFUSED, SENT, LookRow, RequestRow
from linkage.errors import LinkageError, PackageRefused
from linkage.look_tables import (
    Answers,
    Questions,
    answers_from_arrow,
    fields_between,
    questions_from_arrow,
    questions_to_arrow,
)
from linkage.matching import links, weights
from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Shape
from linkage.matching.field_weights import weigh_looks
from linkage.matching.looked_at import LookWeights
from linkage.matching.second_look import (
    Limits,
    LookLevels,
    Looks,
    Reason,
    choose,
    compare,
    looks_from_arrow,
    looks_to_arrow,
    questions,
)
from linkage.matching.weights import Comparison, Weights
from linkage.messages import BROKER, SECOND_LOOK
from linkage.plain_arrow import read_stream
from linkage.records import Bytes2D
from linkage.sealing import Context, Identity, seal, unseal
from linkage.study import SecondLook

STAGE = "second look"
PART = "looked"
"""Name of the workflow that a run goes on as."""

_LOOKS, _BEFORE, _AFTER, _REPORT = "looks", "weights", "weights-looked", "look-report"
_TIERS, _TIERS_AFTER = "tiers", "tiers-looked"
_log = structlog.get_logger("linkage.worker")


def questions_context(study: RegisteredStudy, uploader: str, run_id: str) -> Context:
    """Return what questions are sealed for: one uploader, one run, one signed study."""
    return Context(study.id, BROKER, uploader, SECOND_LOOK, (run_id, study.study_hash))


@dataclass(frozen=True, slots=True, eq=False)
class LookingRun:
    """A run as a second look needs it. scratch: holds its weights under "weights"."""

    row: runs.RunRow
    study: RegisteredStudy
    scratch: Scratch
    shapes: Sequence[Shape]


class SecondLooker:
    """Asks, reads and weighs. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: Identity) -> None:
        self._broker, self._identity = broker, identity

    # Asking

    def ask(self, run: LookingRun, pseudonyms: Mapping[str, Bytes2D]) -> bool:
        """
        Ask about the uncertain pairs of a run; return whether it has to wait for answers.

        pseudonyms: by uploader. Called again after a crash it asks nothing twice.
        """
        if (looks := run.study.config.looks) is None:
            return False
        with self._broker.database.read() as connection:
            if second_looks.find(connection, run.row.id):
                return True
        chosen = _chosen(run, looks)
        run.scratch.put_table(_LOOKS, looks_to_arrow(chosen))
        asked = questions(chosen, pseudonyms)
        if asked:
            self._place(run, asked, looks.wait_hours)
        return bool(asked)

    def _place(self, run: LookingRun, asked: Mapping[str, Questions], wait_hours: float) -> None:
        """Seal every uploader's questions and make them visible, all in one transaction."""
        now = time.time()
        rows = [self._sealed(run, uploader, one) for uploader, one in asked.items()]
        kept = False
        try:
            with self._broker.database.change() as connection:
                current = runs.find(connection, run.row.id)
                if current is None or current.state != "running":
                    return
                look = LookRow(run_id=run.row.id, asked_at=now, until=now + 3600 * wait_hours)
                second_looks.add(connection, look, rows)
                audit.record(
                    connection,
                    actor="worker",
                    action="second look asked",
                    study_id=run.study.id,
                    subject=run.row.id,
                    detail={f"questions to {row.uploader}": row.questions for row in rows},
                )
            kept = True
        finally:
            if not kept:
                for row in rows:
                    self._broker.blobs.delete(row.blob_id)

    def _sealed(self, run: LookingRun, uploader: str, asked: Questions) -> RequestRow:
        batch = questions_to_arrow(asked)
        # What was sealed to the site the broker cannot open; its own copy tells what was asked.
        run.scratch.put_table(_questions_name(uploader), batch)
        blob = self._broker.blobs.put(
            seal(
                _stream(batch),
                sender=self._identity,
                recipient=run.study.pin(uploader),
                context=questions_context(run.study, uploader, run.row.id),
            )
        )
        return RequestRow(
            run_id=run.row.id,
            uploader=uploader,
            blob_id=blob.blob_id,
            size=blob.size,
            digest=blob.digest,
            questions=len(asked),
        )

    # Waiting

    def tend(self) -> None:
        """Read the answers that have come, and let runs go on that need not wait any longer."""
        with self._broker.database.read() as connection:
            sent = second_looks.sent(connection)
            ready = second_looks.ready(connection, time.time(), MOST_REFUSALS)
        for run_id, uploader in sent:
            self._judge(run_id, uploader)
        for run_id in ready:
            self._end(run_id)

    def _judge(self, run_id: str, uploader: str) -> None:
        """Accept an answer, or refuse it with the rule that it breaks."""
        with self._broker.database.read() as connection:
            found = self._find(connection, run_id)
            row = second_looks.request(connection, run_id, uploader)
        if found is None or row is None or row.state != SENT:
            return
        refusal = ""
        try:
            self._answers(*found, row)
        except LinkageError as error:
            refusal = f"{error.message}. Hint: {error.hint}" if error.hint else error.message
        except Exception as error:
            _log.warning("an answer cannot be read", run=run_id, **problems.described(error))
            refusal = "it cannot be read. Hint: answer with this version of the software"
        self._settle(row, found[1], refusal)

    def _settle(self, row: RequestRow, study: RegisteredStudy, refusal: str) -> None:
        dropped = None
        with self._broker.database.change() as connection:
            now = second_looks.request(connection, row.run_id, row.uploader)
            if now is None or (now.state, now.answer_blob_id) != (SENT, row.answer_blob_id):
                return
            if refusal:
                dropped = row.answer_blob_id
                second_looks.change(
                    connection,
                    row.run_id,
                    row.uploader,
                    state=REFUSED,
                    refusals=row.refusals + 1,
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
            if look is None or look.over_at is not None or run is None:
                return
            rows = second_looks.requests(connection, run_id)
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

    # Weighing again

    def look(self, run: LookingRun, chunks: Sequence[CandidateChunk]) -> None:
        """Weigh the run's pairs with what was answered, and keep what there is to say of it."""
        before = weights.from_arrow(run.scratch.get_table(_BEFORE))
        chosen = looks_from_arrow(run.scratch.get_table(_LOOKS))
        with self._broker.database.read() as connection:
            look = second_looks.find(connection, run.row.id)
            rows = second_looks.requests(connection, run.row.id)
        accepted = [row for row in rows if row.state == ACCEPTED]
        answers = [self._answers(run.scratch, run.study, row) for row in accepted]
        levels = compare(chosen, answers)
        after = before
        if any(level.answered.any() for level in levels):
            known = _weighed(chosen, levels, run.shapes, before)
            rules = {rule.id: rule.fields for rule in run.study.config.match_key}
            after = weights.weigh(run.shapes, chunks, rules=rules, looks=known)
            looked = {parties: (one.left, one.right) for parties, one in known.comparisons.items()}
            tiers = links.tiers_of(after, chunks, looked=looked)
            run.scratch.put_table(_TIERS_AFTER, links.tiers_to_arrow(tiers))
            # Last: where it lies, the look is done (`final_weights`).
            run.scratch.put_table(_AFTER, weights.to_arrow(after))
        report = {
            "pairs_asked": len(chosen),
            "uncertain": chosen.uncertain,
            "decoys": len(chosen) - chosen.uncertain,
            "pairs_answered": sum(int(level.answered.sum()) for level in levels),
            "comparisons": [
                {
                    "parties": list(pairs.parties),
                    "pairs_asked": len(pairs),
                    "uncertain": int((pairs.reason == Reason.UNCERTAIN).sum()),
                    "pairs_answered": int(level.answered.sum()),
                }
                for pairs, level in zip(chosen.comparisons, levels, strict=True)
            ],
            "questions": {row.uploader: row.questions for row in rows},
            "answered": {one.party: len(one) for one in answers},
            "silent": [row.uploader for row in rows if row.state != ACCEPTED and not row.refusal],
            "refused": {r.uploader: r.refusal for r in rows if r.state != ACCEPTED and r.refusal},
            "waited_seconds": round((look.over_at or look.asked_at) - look.asked_at, 3)
            if look
            else 0,
            **_changed(before, after),
            "before": {
                "overall": before.overall.to_json(),
                "comparisons": [
                    {"parties": list(c.parties), "estimate": c.estimate.to_json()}
                    for c in before.comparisons
                ],
            },
        }
        run.scratch.put(_REPORT, json.dumps(report).encode())

    def _answers(self, scratch: Scratch, study: RegisteredStudy, row: RequestRow) -> Answers:
        """Open an answer and read it strictly. Raises PackageRefused or EncodingRefused."""
        looks = study.config.looks
        batch = scratch.get_batch(_questions_name(row.uploader))
        asked = questions_from_arrow(batch, study.config, row.uploader, most=row.questions)
        opened = unseal(
            self._broker.blobs.read(row.answer_blob_id or ""),
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
        return answers_from_arrow(batches[0], study.config, asked, looks.fields if looks else ())

    def _find(self, connection: Connection, run_id: str) -> tuple[Scratch, RegisteredStudy] | None:
        """Return a run's intermediate results and its study as it was signed for the run."""
        row = runs.find(connection, run_id)
        study = studies.find_study_at(connection, row.study_id, row.epoch) if row else None
        if row is None or study is None:
            return None
        scratch = Scratch(self._broker, self._identity, study.id, run_id)
        return scratch, RegisteredStudy.of(study)


def _chosen(run: LookingRun, looks: SecondLook) -> Looks:
    made = weights.from_arrow(run.scratch.get_table(_BEFORE))
    study = run.study.config
    shared = {c.parties: fields_between(study, *c.parties, looks.fields) for c in made.comparisons}
    limits = Limits(looks.most_per_record, looks.most_per_run, looks.decoys)
    seed = run.row.seed
    return choose(made, run.shapes, shared, limits, seed=seed, draw=secrets.token_bytes)


def final_weights(scratch: Scratch) -> Weights:
    """Return a run's weights: those after its second look, where there was one that told."""
    return weights.from_arrow(scratch.get_table(_AFTER if scratch.count(_AFTER) else _BEFORE))


def final_tiers(scratch: Scratch) -> list[links.Tiers]:
    """Return the evidence tiers of the pairs of `final_weights`, parallel to them."""
    return links.tiers_from_arrow(
        scratch.get_table(_TIERS_AFTER if scratch.count(_AFTER) else _TIERS)
    )


def report_of(scratch: Scratch) -> dict[str, Any] | None:
    """Return what a run's second look did, None where it asked nothing; numbers and uploaders."""
    if not scratch.count(_REPORT):
        return None
    found: dict[str, Any] = json.loads(scratch.get(_REPORT))
    return found


def _weighed(
    looks: Looks, levels: Sequence[LookLevels], shapes: Sequence[Shape], before: Weights
) -> LookWeights:
    expected = {c.parties: float(c.probability.sum()) for c in before.comparisons}
    return weigh_looks(looks, levels, shapes, expected)


def _changed(before: Weights, after: Weights) -> dict[str, int]:
    """Return how many pairs link that did not, and the other way round."""
    old = {c.parties: _links(c) for c in before.comparisons}
    new = {c.parties: _links(c) for c in after.comparisons}
    return {
        "links_gained": sum(len(np.setdiff1d(new[p], old[p])) for p in new),
        "links_lost": sum(len(np.setdiff1d(old[p], new[p])) for p in old),
    }


def _links(comparison: Comparison) -> npt.NDArray[np.int64]:
    linked = comparison.probability >= comparison.estimate.link_threshold
    left, right = comparison.left[linked], comparison.right[linked]
    return (left.astype(np.int64) << 32) | right.astype(np.int64)


def _questions_name(uploader: str) -> str:
    return f"asked-{uploader}"


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
