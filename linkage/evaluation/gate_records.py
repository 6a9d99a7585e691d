"""
Match keys in the release gate: who is unique by their structure, at the study's declared size.

    found = measure_structure(study, seed=1)
    found.share, found.people

On simulated people of the study's own parties, families and typing errors included, whoever the
CLKs are measured on: a list of real people seldom says who is held by which party. Datasets are
looked at two by two, for that is what the limit is for; what all show together is told beside it,
and what CLKs and match keys of all show is measured by attack (together.combined_attack).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from linkage.certificate import MOST_STRUCTURE
from linkage.evaluation.attacks.registers import simulated_registers
from linkage.evaluation.attacks.structure import unique_by_structure
from linkage.study import StudyConfig

LEAST_PEOPLE = 10_000
"""Simulated people where the study declares fewer: structure grows with them."""


@dataclass(frozen=True, slots=True)
class Structure:
    """
    share: of records unique by structure in the worst two `datasets`, party ids; together: in all;
    people: records of the largest dataset measured.
    """

    share: float
    datasets: tuple[str, ...]
    together: float
    people: int


def measure_structure(study: StudyConfig, *, seed: int) -> Structure:
    """Return who is unique by structure when the largest dataset is as large as declared."""
    declared = min(max((party.records or 0) for party in study.party), MOST_STRUCTURE)
    people = LEAST_PEOPLE
    while True:
        sent = simulated_registers(study, people, seed=seed)
        largest = max(map(len, sent.values()))
        if largest >= declared:
            break
        # Each party holds about the same share of any number of people.
        people = int(people * declared / largest * 1.01) + 1
    fills = study.study.fills_nulls

    def unique(names: tuple[str, ...]) -> float:
        seen = [sent[name] for name in names]
        return unique_by_structure(seen, fillers=fills, clk_fillers=fills).share

    shares = {names: unique(names) for names in combinations(sent, 2)}
    worst = max(shares, key=lambda names: shares[names])
    together = unique(tuple(sent)) if len(sent) > 2 else shares[worst]
    return Structure(shares[worst], worst, together, largest)
