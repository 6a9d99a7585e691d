"""
How good a linkage was: the IDs it gave against the truth, and its probabilities against both.

    ids = read_ids(Path("out/ids"))                      # linkage.evaluation.quality_files
    quality = score(ids, read_truth(Path("truth.csv"), ids))
    quality.overall.f1, quality.between("imaging", "enclave").precision

What is counted are pairs of records of two parties. A pair is *found* if both records have one
cross-commons ID, *true* if they are one person. Pairs within a party are not counted: finding
those is the site's work. By subgroup, by threshold, by kind of error: linkage.evaluation.scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.quality_files import Ids, Truth

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PairQuality:
    """
    Counts of record pairs between two parties. All are >= 0; correct <= found, correct <= true.

    found: pairs with one cross-commons ID. true: pairs that are one person. correct: both.
    """

    left: str
    right: str
    found: int
    true: int
    correct: int

    @property
    def false(self) -> int:
        """Pairs found that are two persons."""
        return self.found - self.correct

    @property
    def missed(self) -> int:
        """Pairs of one person that were not found."""
        return self.true - self.correct

    @property
    def precision(self) -> float:
        """Share of the found pairs that are true; 1 if none was found, for none is false."""
        return self.correct / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the true pairs that were found; 1 if there is none to find."""
        return self.correct / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if nothing was found and nothing is true."""
        return 2 * self.correct / (self.found + self.true) if self.found + self.true else 1.0

    @property
    def precision_interval(self) -> tuple[float, float]:
        return wilson(self.correct, self.found)

    @property
    def recall_interval(self) -> tuple[float, float]:
        return wilson(self.correct, self.true)

    @property
    def f1_interval(self) -> tuple[float, float]:
        """
        F1 is 2 s / (1 + s), s the share of correct pairs among those found or true; so are its
        ends.
        """
        low, high = wilson(self.correct, self.found + self.true - self.correct)
        return 2 * low / (1 + low), 2 * high / (1 + high)

    def as_json(self) -> dict[str, Any]:
        """Return counts and rates, with 95 % intervals, as JSON values."""
        return {
            "left": self.left,
            "right": self.right,
            "found": self.found,
            "true": self.true,
            "correct": self.correct,
            "false": self.false,
            "missed": self.missed,
            "precision": self.precision,
            "precision_95": list(self.precision_interval),
            "recall": self.recall,
            "recall_95": list(self.recall_interval),
            "f1": self.f1,
            "f1_95": list(self.f1_interval),
        }


@dataclass(frozen=True, slots=True)
class Quality:
    """
    Quality between each two parties, and of all pairs of records together.

    records: how many of each party. unknown: those that the truth does not name; each counts as
    a person of its own, so a link to one counts as false.
    """

    pairs: tuple[PairQuality, ...]
    overall: PairQuality
    records: Mapping[str, int]
    unknown: Mapping[str, int]

    def between(self, one: str, other: str) -> PairQuality:
        """Return the quality between two parties, in either order."""
        for pair in self.pairs:
            if {pair.left, pair.right} == {one, other}:
                return pair
        raise LinkageError(
            f"{one!r} and {other!r} were not compared",
            hint=f"scored parties: {', '.join(self.records)}",
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "overall": self.overall.as_json(),
            "pairs": [pair.as_json() for pair in self.pairs],
            "records": dict(self.records),
            "unknown": dict(self.unknown),
        }


def score(ids: Ids, truth: Truth) -> Quality:
    """
    Score the IDs of two parties or more against the truth, in the order of `ids`.

    A record that the truth names and `ids` lacks counts as missed. Raises LinkageError for
    fewer than two parties, or a party without truth.
    """
    if len(ids) < 2:
        raise LinkageError(
            "there are no two parties to compare", hint="give the IDs of two or more"
        )
    for party in ids:
        if party not in truth:
            raise LinkageError(
                f"the truth has no column for party {party!r}", hint=f"it has: {', '.join(truth)}"
            )
    given = {party: _labelled(ids[party], truth[party]) for party in ids}
    persons = {party: Counter(truth[party].values()) for party in ids}
    pairs = []
    for left, right in combinations(ids, 2):
        pairs.append(
            PairQuality(
                left=left,
                right=right,
                found=_in_common(Counter(ids[left].values()), Counter(ids[right].values())),
                true=_in_common(persons[left], persons[right]),
                correct=_in_common(given[left], given[right]),
            )
        )
    return Quality(
        pairs=tuple(pairs),
        overall=together(pairs),
        records={party: len(ids[party]) for party in ids},
        unknown={party: len(ids[party].keys() - truth[party].keys()) for party in ids},
    )


def together(pairs: Sequence[PairQuality]) -> PairQuality:
    """Return the sum of several pairs of parties."""
    found, true, correct = (
        sum(getattr(pair, name) for pair in pairs) for name in ("found", "true", "correct")
    )
    return PairQuality(left="all", right="all", found=found, true=true, correct=correct)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """
    Return the 95 % Wilson score interval of a share; (0, 1) of nothing.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953. It treats trials as independent,
    which links that share a record are not quite.
    """
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    spread = _Z95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = _Z95 * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    # Where none or all succeed the bound is exact; rounding must not move it past the share.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs whose probability p is in [low, high), the last bin [low, 1]: said and true share."""

    low: float
    high: float
    pairs: int
    said: float
    true: float
    true_95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reliability:
    """
    Whether probabilities are honest. brier: mean squared error, 0 is perfect.

    error: expected calibration error, the mean over pairs of |said - true| of the pair's bin.
    """

    bins: tuple[ReliabilityBin, ...]
    brier: float
    error: float


def reliability(
    probability: npt.NDArray[np.float64], is_match: npt.NDArray[np.bool_], *, bins: int = 10
) -> Reliability:
    """
    Compare match probabilities, float64[P] in [0, 1], with the truth, bool[P].

    Bins are of equal width; empty ones are left out. Raises LinkageError for other shapes,
    probabilities outside [0, 1] or NaN, or no pair at all.
    """
    if probability.shape != is_match.shape or probability.ndim != 1 or not len(probability):
        raise LinkageError("probabilities and truth do not fit", hint="one of each for every pair")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise LinkageError("a probability is outside [0, 1]")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    said = np.bincount(place, weights=probability, minlength=bins)
    true = np.bincount(place, weights=is_match, minlength=bins).astype(np.int64)
    made = tuple(
        ReliabilityBin(
            low=i / bins,
            high=(i + 1) / bins,
            pairs=int(count[i]),
            said=float(said[i] / count[i]),
            true=float(true[i] / count[i]),
            true_95=wilson(int(true[i]), int(count[i])),
        )
        for i in np.flatnonzero(count).tolist()
    )
    return Reliability(
        bins=made,
        brier=float(np.mean((probability - is_match) ** 2)),
        error=float(np.abs(said - true).sum() / len(probability)),
    )


def _labelled(ids: Mapping[str, str], truth: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Count records by (cross-commons ID, person), leaving out those of unknown person."""
    return Counter((ids[r], truth[r]) for r in ids.keys() & truth.keys())


def _in_common(left: Counter[Any], right: Counter[Any]) -> int:
    return sum(count * right[label] for label, count in left.items() if label in right)
