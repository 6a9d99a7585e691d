"""
Whom the release gate measures a study on: simulated people, or rows of a file, as many as asked.

    whom = people_for(study, None, n=4_000, seed=1)
    whom = people_for(study, Path("people.csv"), n=4_000, seed=1, date_format="%m/%d/%Y")
    whom.crowd, whom.words, whom.thinned
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linkage.encoding.columns import Coded
from linkage.errors import LinkageError, SourceRefused
from linkage.evaluation.attacks.crowds import Crowd, read_people, simulated
from linkage.evaluation.gate_evidence import LEAST_CROWD
from linkage.evaluation.population import BLOCK
from linkage.study import StudyConfig, parse_field

_LEAST_USABLE = 0.5
"""Share of a field's values that must be usable: fewer, and the file is not read as it should."""


@dataclass(frozen=True, slots=True, eq=False)
class Whom:
    """
    The people measured. words: who they are, for the certificate; thinned: how many relatives of a
    person the file has for each one in the crowd, which is a sample of it.
    """

    crowd: Crowd
    words: str
    thinned: float = 1.0


def people_for(
    study: StudyConfig, path: Path | None, *, n: int, seed: int, date_format: str | None = None
) -> Whom:
    """
    Return at most `n` people with every field of the study's CLKs and rules, drawn by `seed`.

    path: a CSV file whose header names the fields; None: simulated people, whole families.
    Raises SourceRefused for a file that cannot be read, lacks a field, has too few rows, or whose
    values are mostly unusable or all alike; LinkageError for too large an `n`.
    """
    fields = fields_of(study)
    if n < LEAST_CROWD:
        raise LinkageError(
            f"{n:,} people are too few to measure anything", hint=f"ask for {LEAST_CROWD:,} or more"
        )
    if path is None:
        if n > BLOCK:
            raise LinkageError(
                f"{n:,} people are more than the gate can compare two by two",
                hint="4,000 are usual; each pair takes four bytes, several times",
            )
        # A clean list is what the attacker has at best; each dataset has mistakes of its own.
        clean = simulated(n, seed=seed, fields=fields, registered=None)
        return Whom(clean, f"simulated, seed {seed}")
    crowd = read_people(path, fields=fields, date_format=date_format)
    _check(crowd, path.name)
    rows = np.sort(np.random.default_rng(seed).permutation(len(crowd))[:n])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = path.name.encode("ascii", "replace").decode()[-80:]
    words = f"{name}, sha256 {digest}, {len(rows)} of {len(crowd)} rows, seed {seed}"
    return Whom(crowd.rows(rows), words, len(crowd) / len(rows))


def fields_of(study: StudyConfig) -> tuple[str, ...]:
    """Return the fields of the study's CLKs and rules, in the order of their first use."""
    refs = [one.field for clk in study.clk for one in clk.fields]
    refs += [ref for rule in study.match_key for ref in rule.fields]
    return tuple(dict.fromkeys(parse_field(ref)[0] for ref in refs))


def _check(crowd: Crowd, file: str) -> None:
    if len(crowd) < LEAST_CROWD:
        raise SourceRefused(
            file=file,
            rule=f"{len(crowd):,} rows are too few to measure anything",
            hint=f"give {LEAST_CROWD:,} rows or more; 4,000 are usual, whole families if you can",
        )
    for field, column in crowd.columns.items():
        usable = float(column.present().mean())
        if usable < _LEAST_USABLE:
            dates = "say how dates are written: --date-format, for example MM/DD/YYYY"
            raise SourceRefused(
                file=file,
                rule=f"only {usable:.0%} of the values of {field!r} can be used",
                hint=dates
                if field == "date_of_birth"
                else "check that the column is the right one",
            )
    if (different := _different(crowd)) < len(crowd) / 2:
        raise SourceRefused(
            file=file,
            rule=f"only {different:,} of {len(crowd):,} rows differ from each other",
            hint="give each person once, and people as different as those of the study",
        )


def _different(crowd: Crowd) -> int:
    codes = np.stack([_numbered(column) for column in crowd.columns.values()], axis=1)
    return len(np.unique(codes, axis=0))


def _numbered(column: Coded) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return equal numbers for equal values: a column may hold one twice."""
    place = {value: i for i, value in enumerate(dict.fromkeys(column.values))}
    return np.array([place[value] for value in column.values], np.int64)[column.codes]
