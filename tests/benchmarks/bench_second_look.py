"""
Quality with and without a second look, answers made in memory: for docs/second-look.md.

    python -m tests.benchmarks.bench_second_look FOLDER [KEY ...]

FOLDER holds three commons and truth.csv (three_commons, or what `linkage-site demo` simulates).
Each key number draws another study key and other pseudonyms. The truth only scores. What a run at a
broker does besides (sealing, sending, reading the source again) changes no figure; the rehearsal
goes the whole way.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from linkage.encoding.columns import Coded
from linkage.encoding.field_filters import answer
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.look_tables import fields_between, names_of
from linkage.matching.candidates import CandidateChunk, Finder
from linkage.matching.dataset import Dataset, Shape, shape_of
from linkage.matching.field_weights import weigh_looks
from linkage.matching.look_choice import Limits, choose
from linkage.matching.look_cover import forms_of
from linkage.matching.looked_at import LookWeights
from linkage.matching.planning import plan
from linkage.matching.second_look import LookLevels, Looks, compare, questions
from linkage.matching.solve import solve
from linkage.matching.weights import Weights, weigh
from linkage.study import load_study
from tests.integration.test_matching_quality import (
    DATES,
    FILES,
    STUDY,
    bootstrap,
    datasets,
    rules,
)

Figures = Mapping[tuple[str, str], tuple[float, ...]]
"""Of each comparison F1, precision, recall, both as the program says, F1's bootstrap interval."""

HEADER = (
    "\n| pair | parties | F1 without | with | 95 %, bootstrap | lowest, highest key"
    " | precision (said) | recall (said) |\n|" + "---|" * 8
)


def columns(folder: Path) -> dict[str, dict[str, Coded]]:
    """Return every party's values by field, normalised, in the order of its file."""
    found = {}
    for party, (name, delimiter, _, _, fields) in FILES.items():
        with (folder / name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        reading = Reading(date_format=DATES[party])
        found[party] = {
            field: Normaliser(field, reading).column([row[column] for row in rows]).column
            for field, column in fields.items()
        }
    return found


@dataclass(frozen=True, slots=True)
class Looked:
    """A run with a second look. before, after: its weights without and with what was answered."""

    shapes: tuple[Shape, ...]
    found: list[CandidateChunk]
    before: Weights
    after: Weights
    chosen: Looks
    levels: tuple[LookLevels, ...]
    looks: LookWeights


def looked(
    made: Sequence[Dataset], values: Mapping[str, Mapping[str, Coded]], key: StudyKey, number: int
) -> Looked:
    """Link, ask, answer in memory, and weigh again."""
    study = load_study(STUDY)
    limits = study.looks
    assert limits is not None
    shapes = tuple(shape_of(one) for one in made)
    finder = Finder({one.party: one for one in made}.__getitem__, seed=1)
    found = [finder.find(chunk) for chunk in plan(shapes)]
    fields = rules()
    before = weigh(shapes, found, rules=fields)
    shared = {
        c.parties: fields_between(study, *c.parties, limits.fields) for c in before.comparisons
    }
    draw = np.random.default_rng([number, 0x10]).bytes
    forms = forms_of(
        before,
        shapes,
        shared,
        most_per_record=limits.most_per_record,
        most_per_run=limits.most_per_run,
    )
    allowed = Limits(limits.most_per_run, limits.decoys)
    chosen = choose(before, forms, shared, allowed, seed=1, draw=draw)
    names = {one.party: one.records.pseudonyms for one in made}
    answers = [
        answer(
            asked,
            values[party],
            {name: row for row, name in enumerate(names_of(names[party]))},
            study=study,
            key=key,
            enabled=limits.fields,
        )
        for party, asked in questions(chosen, names, forms, seed=1, draw=draw).items()
    ]
    expected = {c.parties: float(c.probability.sum()) for c in before.comparisons}
    levels = compare(chosen, answers)
    looks = weigh_looks(chosen, levels, shapes, expected, fields)
    after = weigh(shapes, found, rules=fields, looks=looks)
    return Looked(shapes, found, before, after, chosen, levels, looks)


def scores(made: Sequence[Dataset], weights: Weights, known: Mapping[str, list[str]]) -> Figures:
    """Score the links of these weights."""
    entities = solve(weights, {one.party: one.records.groups for one in made})
    found = {}
    for comparison in weights.comparisons:
        links = _pairs(*(entities.of[party].tolist() for party in comparison.parties))
        true = _pairs(*(known[party] for party in comparison.parties))
        right = len(links & true)
        said = comparison.estimate.chosen
        found[comparison.parties] = (
            2 * right / (len(links) + len(true)),
            right / max(1, len(links)),
            right / len(true),
            said.precision,
            said.recall,
            *bootstrap(links, true),
        )
    return found


def _pairs(left: Sequence[object], right: Sequence[object]) -> set[tuple[int, int]]:
    row_of = {name: row for row, name in enumerate(left)}
    return {(row_of[name], row) for row, name in enumerate(right) if name in row_of}


def lines(folder: Path, numbers: Sequence[int]) -> Iterator[str]:
    """Yield a line a key, pair of parties and number of parties; then a table of the means."""
    values = columns(folder)
    gathered: dict[tuple[tuple[str, str], int], list[tuple[float, ...]]] = {}
    for number in numbers:
        key = StudyKey(hashlib.sha256(f"quality {number}".encode()).digest())
        made, known = datasets(folder, number)
        for size in (2, 3):
            for some in combinations(made, size):
                run = looked(some, values, key, number)
                before, after, chosen = run.before, run.after, run.chosen
                asked = {c.parties: int((c.reason == 0).sum()) for c in chosen.comparisons}
                without, given = (scores(some, one, known) for one in (before, after))
                for pair in given:
                    both = (*without[pair][:5], *given[pair])
                    gathered.setdefault((pair, size), []).append(both)
                    figures = " ".join(f"{one:.4f}" for one in both)
                    yield f"{number} {size} {'-'.join(pair)} {asked.get(pair, 0)} {figures}"
    yield HEADER
    for (pair, size), rows in sorted(gathered.items()):
        before, *_, f1, p, r, said_p, said_r, low, high = np.mean(rows, axis=0)
        each = [row[5] for row in rows]
        yield (
            f"| {' - '.join(pair)} | {size} | {before:.4f} | {f1:.4f} | {low:.4f} to {high:.4f}"
            f" | {min(each):.4f}, {max(each):.4f}"
            f" | {p:.4f} ({said_p:.4f}) | {r:.4f} ({said_r:.4f}) |"
        )


if __name__ == "__main__":
    print("key parties pair asked | without: F1 P R said-P said-R | with: the same, F1 from, to")
    for line in lines(Path(sys.argv[1]), [int(one) for one in sys.argv[2:]] or [101, 102, 103]):
        print(line, flush=True)
