"""
The dictionary attack: who holds the study key encodes everybody on a list, and compares.

    result = dictionary_attack(study, clk, held, listed, key, timer=perf_counter)

Nothing in the encoding stops it: the sites must be able to encode, so whoever has the key can.
Diffusion is keyed with the same key and changes nothing. What stops it is that no holder of the key
sees another's encodings (docs/threat-model.md); this only says what it costs when that fails.
Source: Vatsalan, Christen and Verykios, "A taxonomy of privacy-preserving record linkage
techniques", Information Systems 2013, section on dictionary attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import encoded, signs
from linkage.study import ClkSpec, StudyConfig


@dataclass(frozen=True, slots=True)
class DictionaryResult:
    """found: how many are named; rate: candidates encoded a second, on this machine."""

    found: Reidentified
    rate: float

    def hours_for(self, candidates: int) -> float:
        """Return how long one machine like this takes to encode so many candidates."""
        return candidates / self.rate / 3600


def dictionary_attack(
    study: StudyConfig,
    clk: ClkSpec,
    held: Crowd,
    listed: Crowd,
    key: StudyKey,
    *,
    timer: Callable[[], float],
) -> DictionaryResult:
    """
    Return how many of the people held are named from the list by who holds `key`, and at what rate.

    timer: a clock in seconds; this package has none. Only people who are in both and have such a
    CLK are counted; each gets the nearest encoding of the list, ties to the first, so that typing
    errors hinder little. Raises LinkageError if nobody is in both.
    """
    theirs = encoded(study, clk, held, key)
    begun = timer()
    ours = encoded(study, clk, listed, key)
    taken = timer() - begun
    where = {int(person): row for row, person in enumerate(listed.person)}
    truth = np.array([where.get(int(person), -1) for person in held.person], np.int64)
    searched = np.flatnonzero((truth >= 0) & theirs.present)
    if not len(searched):
        raise LinkageError("nobody of the list is held", hint="let the list overlap the dataset")
    candidates = np.flatnonzero(ours.present)
    nearness = signs(theirs.values[searched]) @ signs(ours.values[candidates]).T
    guess = candidates[nearness.argmax(axis=1)]
    # Two people of one list may hold the very same values: either name is right.
    right = (ours.values[guess] == ours.values[truth[searched]]).all(axis=1)
    rate = len(listed) / taken if taken > 0 else float("inf")
    return DictionaryResult(Reidentified(len(searched), int(right.sum())), rate)
