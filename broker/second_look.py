"""
Second looks, the worker's side: ask, and weigh again what was answered.

A run asks after its weights are made and its workflow ends there: no thread waits, nothing blocks
the runs behind it, and a worker that is killed meanwhile loses nothing. Every worker looks after
what waits (broker.look_answers), and when all answers are here, or time is up, the run goes on as
another workflow. What a site answered is open in the worker's memory only.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker import audit
from broker.container import Broker
from broker.look_answers import AnswerReader, questions_name
from broker.registered import RegisteredStudy
from broker.review_cases import POOL
from broker.scratch import Scratch, stream_of
from broker.store import runs, second_looks, studies
from broker.store.engine import Connection
from broker.store.second_looks import ACCEPTED, LookRow, RequestRow
from linkage.look_tables import Questions, fields_between, questions_to_arrow
from linkage.matching import links, weights
from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Shape
from linkage.matching.field_weights import weigh_looks
from linkage.matching.look_choice import Limits, choose
from linkage.matching.look_cover import Draw, forms_of
from linkage.matching.looked_at import LookWeights
from linkage.matching.missed import Rules
from linkage.matching.review_cases import pool_to_arrow, pooled
from linkage.matching.reviewed import over
from linkage.matching.second_look import (
    LookLevels,
    Looks,
    compare,
    looks_from_arrow,
    looks_to_arrow,
    questions,
)
from linkage.matching.weights import Comparison, Weights, redecide
from linkage.messages import BROKER, SECOND_LOOK
from linkage.records import Bytes2D
from linkage.sealing import Context, KeyHolder, seal
from linkage.study import SecondLook, StudyConfig

STAGE = "second look"
PART = "looked"
"""Name of the workflow that a run goes on as."""

_LOOKS, _BEFORE, _AFTER, _REPORT = "looks", runs.WEIGHTS, "weights-looked", "look-report"
_NONCES = b"commons-linkage/second-look/nonces/v1\n"
_TIERS, _TIERS_AFTER = "tiers", "tiers-looked"
PAIRS = (_BEFORE, _AFTER, _TIERS, _TIERS_AFTER, _REPORT)
"""Names of all that another run needs to decide anew about the pairs of one."""


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
    """Asks, and weighs again. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: KeyHolder) -> None:
        self._broker, self._identity = broker, identity
        self._reader = AnswerReader(broker, identity)

    def ask(self, run: LookingRun, pseudonyms: Mapping[str, Bytes2D]) -> bool:
        """
        Ask about the uncertain pairs of a run; return whether it has to wait for answers.

        pseudonyms: by uploader. Called again after a crash, or by two workers at once, it asks
        nothing twice. Where nothing may be asked, the run's report will say why.
        """
        if (looks := run.study.config.looks) is None:
            return False
        with self._broker.database.read() as connection:
            if second_looks.find(connection, run.row.id):
                return True
            why_not = _hindrance(connection, run, looks)
        if not why_not:
            chosen, asked = _chosen(run, looks, self._draw(run), pseudonyms)
            why_not = self._place(run, chosen, asked, looks)
        if why_not:
            report = {"pairs_asked": 0, "reason": why_not}
            run.scratch.put(_REPORT, json.dumps(report).encode())
        return not why_not

    def _place(
        self, run: LookingRun, chosen: Looks, asked: Mapping[str, Questions], looks: SecondLook
    ) -> str:
        """
        Seal every uploader's questions and make them visible; return why not, "" where they are.

        What was asked and that it was is one transaction: of two workers one asks, and what it
        remembers is what it sent.
        """
        if not asked:
            return "no two parties of the run may be asked about a field that both hold"
        rows = [self._sealed(run, uploader, one) for uploader, one in asked.items()]
        why_not = ""

        def place(connection: Connection) -> bool:
            nonlocal why_not
            current = runs.find(connection, run.row.id)
            if second_looks.find(connection, run.row.id) or not current or current.finished_at:
                return False
            if why_not := _hindrance(connection, run, looks):
                return False
            now = time.time()
            # Whole seconds: how many digits a site is sent must tell nothing, not even the clock.
            until = float(math.ceil(now + 3600 * looks.wait_hours))
            look = LookRow(run_id=run.row.id, asked_at=now, until=until)
            second_looks.add(connection, look, rows)
            audit.record(
                connection,
                actor="worker",
                action="second look asked",
                study_id=run.study.id,
                subject=run.row.id,
                detail={f"questions to {row.uploader}": row.questions for row in rows},
            )
            return True

        # What was sealed to a site the broker cannot open; its own copy tells what was asked.
        kept = {questions_name(u): stream_of(questions_to_arrow(q)) for u, q in asked.items()}
        kept[_LOOKS] = stream_of(looks_to_arrow(chosen))
        if not run.scratch.put_all(kept, place):
            for row in rows:
                self._broker.blobs.delete(row.blob_id)
        return why_not

    def _draw(self, run: LookingRun) -> Draw:
        """
        Return what draws the nonces: nobody else can foresee them, or a site could tell decoys, but
        the same datasets and seed give the same ones, and so the same result.

        An Ed25519 signature is a function of key and message (RFC 8032), and stays here.
        """
        about = "\n".join([run.study.study_hash, run.row.inputs, str(run.row.seed)])
        signed = self._identity.sign(_NONCES + about.encode())
        kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_NONCES)
        stream = Cipher(ChaCha20(kdf.derive(signed), bytes(16)), mode=None).encryptor()
        return lambda size: stream.update(bytes(size))

    def _sealed(self, run: LookingRun, uploader: str, asked: Questions) -> RequestRow:
        blob = self._broker.blobs.put(
            seal(
                stream_of(questions_to_arrow(asked)),
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

    def look(self, run: LookingRun, chunks: Sequence[CandidateChunk], decided: LookWeights) -> None:
        """
        Weigh the run's pairs with what was answered, and keep what there is to say of it. decided:
        by reviewers of earlier runs, who stand over what is answered now.
        """
        before = weights.from_arrow(run.scratch.get_table(_BEFORE))
        chosen = looks_from_arrow(run.scratch.get_table(_LOOKS))
        with self._broker.database.read() as connection:
            look = second_looks.find(connection, run.row.id)
            rows = second_looks.requests(connection, run.row.id)
        accepted = [row for row in rows if row.state == ACCEPTED]
        answers = [self._reader.answers(run.scratch, run.study, row) for row in accepted]
        levels = compare(chosen, answers)
        after = before
        if any(level.answered.any() for level in levels):
            rules = {rule.id: rule.fields for rule in run.study.config.match_key}
            known = _weighed(chosen, levels, run.shapes, before, rules)
            after = weights.weigh(
                run.shapes,
                chunks,
                rules=rules,
                looks=over(known, decided),
                precision=run.row.precision,
            )
            tiers = links.tiers_of(
                after, chunks, looked=pairs_of(known), reviewed=pairs_of(decided)
            )
            if run.study.config.reviews is not None:
                pool = pooled(chosen, levels, after)
                run.scratch.put_table(POOL, pool_to_arrow(pool))
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
                    "uncertain": pairs.uncertain,
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
            "before": _estimates(before),
        }
        run.scratch.put(_REPORT, json.dumps(report).encode())


def _hindrance(connection: Connection, run: LookingRun, looks: SecondLook) -> str:
    """Return why nobody may or can be asked, "" where nothing hinders."""
    config = run.study.config.study
    if second_looks.runs_that_asked(connection, run.study.id, config.epoch) >= looks.most_runs:
        return f"the study allows {looks.most_runs} runs of an epoch to ask, and they have"
    if config.expires and dt.datetime.now(dt.UTC).date() > config.expires:
        return "the study's last day has passed"
    if studies.find_deactivation(connection, run.study.id, config.epoch) is not None:
        return "the custodian put the study key out of use, and sites need it to answer"
    return ""


def _chosen(
    run: LookingRun, looks: SecondLook, draw: Draw, pseudonyms: Mapping[str, Bytes2D]
) -> tuple[Looks, dict[str, Questions]]:
    """Return the pairs to ask about, and what each site is asked, cover questions among it."""
    made = weights.from_arrow(run.scratch.get_table(_BEFORE))
    study, seed = run.study.config, run.row.seed
    shared = {
        c.parties: fields
        for c in made.comparisons
        if all(_may_be_asked(study, one, run.row.purpose) for one in c.parties)
        if (fields := fields_between(study, *c.parties, looks.fields))
    }
    forms = forms_of(
        made,
        run.shapes,
        shared,
        most_per_record=looks.most_per_record,
        most_per_run=looks.most_per_run,
    )
    limits = Limits(looks.most_per_run, looks.decoys)
    chosen = choose(made, forms, shared, limits, seed=seed, draw=draw)
    return chosen, questions(chosen, pseudonyms, forms, seed=seed, draw=draw)


def _may_be_asked(study: StudyConfig, uploader: str, purpose: str) -> bool:
    party = study.party_of_uploader(uploader).id
    return study.agreed.takes_part(party, "second-looks", purpose)


def final_weights(scratch: Scratch) -> Weights:
    """Return a run's weights: those after its second look, where there was one that told."""
    return weights.from_arrow(scratch.get_table(_AFTER if scratch.count(_AFTER) else _BEFORE))


def final_tiers(scratch: Scratch) -> list[links.Tiers]:
    """Return the evidence tiers of the pairs of `final_weights`, parallel to them."""
    return links.tiers_from_arrow(
        scratch.get_table(_TIERS_AFTER if scratch.count(_AFTER) else _TIERS)
    )


def decide_again(source: Scratch, target: Scratch, precision: float | None) -> None:
    """
    Give a run the pairs of another, with the thresholds for this precision; None for the best F1.

    Raises MatchingFailed where they are gone.
    """
    before = redecide(weights.from_arrow(source.get_table(_BEFORE)), precision)
    target.put_table(_BEFORE, weights.to_arrow(before))
    target.put_table(_TIERS, source.get_table(_TIERS))
    report, after = report_of(source), before
    if source.count(_AFTER):
        after = redecide(weights.from_arrow(source.get_table(_AFTER)), precision)
        target.put_table(_TIERS_AFTER, source.get_table(_TIERS_AFTER))
        target.put_table(_AFTER, weights.to_arrow(after))
    if report is not None:
        if "before" in report:
            report |= {**_changed(before, after), "before": _estimates(before)}
        target.put(_REPORT, json.dumps(report).encode())


def report_of(scratch: Scratch) -> dict[str, Any] | None:
    """Return what a run's second look did, None where it asked nothing; numbers and uploaders."""
    if not scratch.count(_REPORT):
        return None
    found: dict[str, Any] = json.loads(scratch.get(_REPORT))
    return found


def pairs_of(known: LookWeights) -> dict[tuple[str, str], links.Pairs]:
    """Return the pairs that these weights are about, by comparison."""
    return {parties: (one.left, one.right) for parties, one in known.comparisons.items()}


def _weighed(
    looks: Looks,
    levels: Sequence[LookLevels],
    shapes: Sequence[Shape],
    before: Weights,
    rules: Rules,
) -> LookWeights:
    expected = {c.parties: float(c.probability.sum()) for c in before.comparisons}
    return weigh_looks(looks, levels, shapes, expected, rules)


def _estimates(made: Weights) -> dict[str, Any]:
    return {
        "overall": made.overall.to_json(),
        "comparisons": [
            {"parties": list(c.parties), "estimate": c.estimate.to_json()} for c in made.comparisons
        ],
    }


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
