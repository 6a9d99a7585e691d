"""
Quality and honesty of the match on three_commons, at the threshold the program chose itself.

The truth only scores. Run as a script, it prints the table of docs/matching.md:
    python -m tests.integration.test_matching_quality PATH_OF_THREE_COMMONS
"""

from __future__ import annotations

import csv
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from linkage.encoding.encoder import encode_records
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.matching.dataset import Dataset
from linkage.matching.engine import LinkageResult, link
from linkage.pseudonyms import ContributorSecret
from linkage.study import load_study

CHECKOUT = Path(__file__).resolve().parents[2]
STUDY = CHECKOUT / "configs" / "three-commons" / "study.toml"
NAMES = ("first_name", "middle_name", "last_name")
FILES = {
    "imaging": (
        "imaging_pii.psv",
        "|",
        "RECORD_ID",
        "imaging_id",
        {
            "first_name": "first_name",
            "middle_name": "middle_initial",
            "last_name": "last_name",
            "date_of_birth": "dob",
            "sex": "sex",
            "street": "address",
        },
    ),
    "enclave": (
        "enclave_pii.csv",
        ",",
        "person_id",
        "person_id",
        {field: field for field in (*NAMES, "ssn", "date_of_birth", "sex")},
    ),
    "claims": (
        "claims_pii.csv",
        ",",
        "subject_key",
        "subject_key",
        {
            "first_name": "given",
            "middle_name": "mi",
            "last_name": "family",
            "ssn": "ssn",
            "street": "street",
        },
    ),
}
DATES = {"imaging": "%m/%d/%Y", "enclave": "%Y%m%d", "claims": None}
PAIRS = (("claims", "enclave"), ("claims", "imaging"), ("enclave", "imaging"))

REQUIRED = {PAIRS[0]: 0.99, PAIRS[1]: 0.94, PAIRS[2]: 0.975}
TOGETHER = {PAIRS[0]: 0.997, PAIRS[1]: 0.985, PAIRS[2]: 0.990}
"""F1 that three parties together must keep; measured .9975, .9876 and .9930 on average."""
ALONE = {PAIRS[0]: 0.9975, PAIRS[1]: 0.982, PAIRS[2]: 0.987}
"""F1 that two parties alone must keep; measured .9981, .9852 and .9912 on average."""


@dataclass(frozen=True)
class Score:
    """One comparison at its own threshold, beside what the program said of itself."""

    f1: float
    precision: float
    recall: float
    said_precision: float
    said_recall: float


def datasets(folder: Path, key_number: int) -> tuple[list[Dataset], dict[str, list[str]]]:
    """Encode all three parties under one key; return them and the truth id of each record."""
    study = load_study(STUDY)
    key = StudyKey(hashlib.sha256(f"quality {key_number}".encode()).digest())
    truth = list(csv.DictReader((folder / "truth.csv").open(encoding="utf-8")))
    made, known = [], {}
    for party, (name, delimiter, record_id, truth_column, columns) in FILES.items():
        with (folder / name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        reading = Reading(date_format=DATES[party])
        values = {
            field: Normaliser(field, reading).column([row[column] for row in rows]).column
            for field, column in columns.items()
        }
        draw = np.random.default_rng([key_number, *party.encode()])
        pseudonyms = draw.integers(0, 256, (len(rows), 16), dtype=np.uint8)
        secret = ContributorSecret(hashlib.sha256(f"{party} {key_number}".encode()).digest())
        encoded = encode_records(
            values,
            pseudonyms,
            study=study,
            party=study.party_named(party),
            key=key,
            secret=secret,
        )
        made.append(Dataset(party, encoded.records, encoded.collisions))
        person = {row[truth_column]: row["truth_id"] for row in truth}
        known[party] = [person[row[record_id]] for row in rows]
    return made, known


def scores(result: LinkageResult, known: dict[str, list[str]]) -> dict[tuple[str, str], Score]:
    """Score every comparison of a run against the truth."""
    found = {}
    for comparison in result.weights.comparisons:
        one, other = comparison.parties
        links = _pairs(*(result.entities.of[p] for p in comparison.parties))
        true = _pairs(*(np.array(known[p]) for p in comparison.parties))
        right = len(links & true)
        said = comparison.estimate.chosen
        found[one, other] = Score(
            f1=2 * right / (len(links) + len(true)),
            precision=right / max(1, len(links)),
            recall=right / len(true),
            said_precision=said.precision,
            said_recall=said.recall,
        )
    return found


def _pairs(left: npt.NDArray, right: npt.NDArray) -> set[tuple[int, int]]:
    row_of = {name: row for row, name in enumerate(left.tolist())}
    return {(row_of[name], row) for row, name in enumerate(right.tolist()) if name in row_of}


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda k: f"key {k}")
def encoded(
    three_commons: Path, request: pytest.FixtureRequest
) -> tuple[list[Dataset], dict[str, list[str]]]:
    return datasets(three_commons, request.param)


def test_three_parties_together(
    encoded: tuple[list[Dataset], dict[str, list[str]]],
) -> None:
    made, known = encoded
    for pair, score in scores(link(made, seed=1), known).items():
        assert score.f1 >= max(REQUIRED[pair], TOGETHER[pair])
        assert abs(score.said_precision - score.precision) <= 0.01
        # A true pair that deep diffusion hides from everyone is in no estimate.
        assert -0.01 <= score.said_recall - score.recall <= 0.022


def test_two_parties_alone(
    encoded: tuple[list[Dataset], dict[str, list[str]]],
) -> None:
    made, known = encoded
    for two in combinations(made, 2):
        for pair, score in scores(link(two, seed=1), known).items():
            assert score.f1 >= max(REQUIRED[pair], ALONE[pair])
            assert abs(score.said_precision - score.precision) <= 0.015
            # What was never proposed shows only through a third party: claims-imaging misses 2 %.
            assert -0.01 <= score.said_recall - score.recall <= 0.025


def test_a_whole_run_takes_seconds(three_commons: Path) -> None:
    made, _ = datasets(three_commons, 1)
    link(made, seed=1)  # compiles
    begun = time.perf_counter()
    link(made, seed=1)
    assert time.perf_counter() - begun < 15


def _table(folder: Path, keys: Sequence[int]) -> Iterator[str]:
    gathered: dict[tuple[int, tuple[str, str]], list[Score]] = {}
    for key in keys:
        made, known = datasets(folder, key)
        for size in (2, 3):
            for some in combinations(made, size):
                for pair, score in scores(link(some, seed=1), known).items():
                    gathered.setdefault((size, pair), []).append(score)
    yield "| pair | parties | F1 | lowest, highest | precision (said) | recall (said) |"
    yield "|---|---|---|---|---|---|"
    for (size, pair), runs in sorted(gathered.items(), key=lambda item: item[0][::-1]):
        f1, p, r, said_p, said_r = np.mean(
            [(s.f1, s.precision, s.recall, s.said_precision, s.said_recall) for s in runs], axis=0
        )
        low, high = min(s.f1 for s in runs), max(s.f1 for s in runs)
        yield (
            f"| {' - '.join(pair)} | {size} | {f1:.4f} | {low:.4f}, {high:.4f} "
            f"| {p:.4f} ({said_p:.4f}) | {r:.4f} ({said_r:.4f}) |"
        )


if __name__ == "__main__":
    print("\n".join(_table(Path(sys.argv[1]), range(1, 11))))
