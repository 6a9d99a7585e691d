"""
What a clerical review gives the next run, with simulated reviewers: for docs/review.md.

    python -m tests.benchmarks.bench_review [PEOPLE] [SEED ...]

Simulated people of three commons (linkage.evaluation.people), linked by the shipped study with a
second look, answers made in memory. Reviewers of two kinds read what `choose` would show them:

    known      who answer by the truth with a sensitivity of .95 and a specificity of .95
    agreeing   who see the field agreements alone and go by a rule a person could follow

The truth only scores, and gives the first kind their answers.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linkage.encoding.keys import StudyKey
from linkage.evaluation.people import simulate, write_parties
from linkage.matching.dataset import Dataset
from linkage.matching.review_cases import CaseLimits, Pooled, ShownCase, choose, pooled
from linkage.matching.reviewed import Decision, Reviewed, over
from linkage.matching.solve import solve
from linkage.matching.weights import Weights, weigh
from linkage.review import Answer, Judged, Reading, judge, verdict
from tests.benchmarks.bench_second_look import Looked, columns, looked, scores
from tests.integration.test_matching_quality import FILES, datasets

Reads = Callable[[ShownCase], Answer]
KNOWN = (0.95, 0.95)


@dataclass(frozen=True, slots=True)
class World:
    """Datasets, truth, and a run with a second look. known: by party, the person of every row."""

    made: Sequence[Dataset]
    known: Mapping[str, list[str]]
    weights: Weights
    run: Looked
    pool: list[Pooled]

    def same(self, one: ShownCase) -> bool:
        """Are both records one person?"""
        ends = []
        for party, name in zip(one.parties, one.pseudonyms, strict=True):
            names = next(d for d in self.made if d.party == party).records.pseudonyms
            row = int(np.flatnonzero((names == np.frombuffer(name, np.uint8)).all(axis=1))[0])
            ends.append(self.known[party][row])
        return ends[0] == ends[1]


def world(people: int, seed: int) -> World:
    """Simulate, encode, link, and look again."""
    number = 100 + seed
    key = StudyKey(hashlib.sha256(f"quality {number}".encode()).digest())
    with tempfile.TemporaryDirectory() as folder:
        write_parties(simulate(people, seed=seed), Path(folder))
        for party, (name, *_) in FILES.items():
            (Path(folder) / f"{party}{Path(name).suffix}").rename(Path(folder) / name)
        made, known = datasets(Path(folder), number)
        values = columns(Path(folder))
    run = looked(made, values, key, number)
    pool = pooled(run.chosen, run.levels, run.after)
    return World(made, known, run.after, run, pool)


def cases_of(made: World, limits: CaseLimits, seed: int) -> list[ShownCase]:
    """Return what reviewers would be shown."""
    entities = solve(made.weights, {d.party: d.records.groups for d in made.made})
    least = {c.parties: c.estimate.link_threshold for c in made.weights.comparisons}

    def linked(pool: Pooled) -> Any:
        one, other = pool.parties
        same = entities.of[one][pool.left] == entities.of[other][pool.right]
        return same & (pool.probability >= least[pool.parties])

    names = {d.party: d.records.pseudonyms for d in made.made}
    return choose(made.pool, linked, limits, names, np.random.default_rng(seed).bytes)


def reviewed(cases: Sequence[ShownCase], readers: Mapping[str, Reads], seed: int) -> Judged:
    """Let reviewers read as the broker hands out cases."""
    rng = np.random.default_rng([seed, 1])
    readings: list[Reading] = []
    for one in cases:
        said: list[Answer] = []
        for number, who in enumerate(rng.permutation(sorted(readers)), start=1):
            if verdict(said) is not None:
                break
            said.append(readers[str(who)](one))
            readings.append(Reading(one.case.case_id, number, str(who), said[-1]))
    return judge([one.case for one in cases], readings)


def by_truth(made: World, rng: np.random.Generator) -> Reads:
    """Return a reviewer who errs as `KNOWN` says."""

    def read(one: ShownCase) -> Answer:
        same = made.same(one)
        right = rng.random() < KNOWN[0 if same else 1]
        return "same" if same == right else "different"

    return read


def by_agreement(care: float) -> Reads:
    """
    Return a reviewer who goes by the fields: telling ones count most, a first name that differs is
    somebody else of the family. care: points that are wanted for "same".
    """
    points = {
        "ssn": 5.0, "date_of_birth": 4.0, "street": 3.0, "first_name": 2.5, "last_name": 2.0,
        "middle_name": 1.0, "sex": 0.3,
    }  # fmt: skip
    agrees = {"equal": 1.0, "similar": 0.6, "missing": 0.0, "different": -0.5}

    def read(one: ShownCase) -> Answer:
        total = sum(points[f] * agrees[a] for f, a in one.fields.items())
        if one.fields.get("first_name") == "different":
            total -= 2.5
        return "same" if total >= care else "different" if total < care - 1 else "unsure"

    return read


def next_run(made: World, cases: Sequence[ShownCase], judged: Judged) -> Weights:
    """Return the weights of a run over the same datasets that counts what was decided."""
    decisions = [
        Decision(one.case.case_id, one.parties, one.pseudonyms, judged.decided[one.case.case_id])
        for one in cases
        if one.case.case_id in judged.decided
    ]
    known = Reviewed.of(
        decisions,
        {d.party: d.records.pseudonyms for d in made.made},
        {d.party: d.records.groups for d in made.made},
    )
    return weigh(made.run.shapes, made.run.found, looks=over(made.run.looks, known.weights))


def lines(people: int, seeds: Sequence[int]) -> Iterator[str]:
    """Yield the figures of every seed and kind of reviewer."""
    for seed in seeds:
        made = world(people, seed)
        cases = cases_of(made, CaseLimits(200, 100, 0.3), seed)
        before = scores(made.made, made.weights, made.known)
        rng = np.random.default_rng([seed, 2])
        kinds: dict[str, dict[str, Reads]] = {
            "known": {name: by_truth(made, rng) for name in ("ada", "ben", "cleo")},
            "agreeing": {
                "ada": by_agreement(4.0), "ben": by_agreement(4.5), "cleo": by_agreement(5.0),
            },
        }  # fmt: skip
        for kind, readers in kinds.items():
            judged = reviewed(cases, readers, seed)
            after = scores(made.made, next_run(made, cases, judged), made.known)
            f = judged.figures
            checked = f["precision"]["corrected"]
            told = f"{checked['value']:.4f} [{checked['low']:.4f}, {checked['high']:.4f}]"
            right = [(judged.decided[c.case.case_id] > 0) == made.same(c) for c in cases
                     if c.case.case_id in judged.decided]  # fmt: skip
            kappas = " ".join(f"{one['kappa']:.2f}" for one in f["agreement"] if one["kappa"])
            yield (
                f"{seed} {kind}: {f['doubts']} doubts, {f['checks']} checks, {f['decoys']} decoys;"
                f" decided {len(right)}, right {sum(right)}; kappa {kappas};"
                f" panel {f['panel']['sensitivity']['value']:.3f}"
                f" {f['panel']['sensitivity_typical']['value']:.3f}"
                f" {f['panel']['specificity']['value']:.3f}; precision checked {told},"
                f" true {_precision(before):.4f}"
            )
            for pair in before:
                was, now = (" ".join(f"{x:.4f}" for x in one[pair][:3]) for one in (before, after))
                yield f"    {'-'.join(pair):<18} F1 P R {was} -> {now}"


def _precision(found: Mapping[Any, Sequence[float]]) -> float:
    return float(np.mean([one[1] for one in found.values()]))


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 5_200
    for line in lines(size, [int(one) for one in sys.argv[2:]] or [11, 12, 13]):
        print(line, flush=True)
