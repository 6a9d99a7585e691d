"""
How many people an attacker names at a size that nobody can measure: the study's declared one.

    energies = Energies.of([view.guessed], chance=[elsewhere.guessed])
    energies.share(300_000, known_share=.05)        # of those he did not know
    energies.holds_up_to(known_share=.05)

What identifies a person is energy: the squared expected similarities to the people known, in units
of the noise (linkage.evaluation.attacks.best_guess). Each further person known adds to it, and each
further person in the list is one more to be confused with. Both are known at any size from the
energies of pairs at one size:

- weak pairs are many, and their mean grows into energy in proportion to the people known;
- strong pairs are few. Those that are also there among people who share no household
  (`unrelated`) are chance, and grow in number with the people. The others are relatives: a person
  has as many in a large study as in a small one, and each is known with the same probability. They
  are why some people are found however deep the diffusion and however large the study.

Given a person's energy e, the right name has log likelihood ratio N(e / 2, e), each wrong one
N(-e' / 2, e') of its own energy e', independently; the share named rightly is the probability that
the right one is the largest. That is the most that anybody can name record by record. Real rivals
look alike, so measured attacks find as many or somewhat fewer (docs/release-gate.md).

Beyond known people: two Gaussian similarity graphs of correlation rho cannot be matched, whatever
one computes, while rho^2 <= 4 ln n / n. Sources: Wu, Xu and Yu, "Settling the sharp reconstruction
thresholds of random graph matching", IEEE Trans. Inf. Theory 2022; likelihood ratios: Kay 1998.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.encoding.columns import Coded
from linkage.evaluation.attacks.crowds import Crowd

Floats = npt.NDArray[np.float64]
Floats2D = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MOST_PEOPLE = 10_000_000
"""Larger sizes are not predicted: "up to" this means "at least"."""

_STRONG = 0.01  # energy from which a pair counts by itself, in units of the noise's
_MOST_STRONG = 50  # strong pairs a person, at most: where there are more, only stronger ones
_SURE = math.log(9)  # by which the right name must outweigh all others to be taken for known
_DRAWS = 4_000  # persons drawn for a share
_STEADY = 1e-3  # by which more people must be known for another round to matter, of those known
_ALONE = 100  # strongest rivals that count one by one, and groups of the others


@dataclass(frozen=True, slots=True, eq=False)
class Energies:
    """
    The energies of all pairs of N people.

    weak: float64[N], each person's mean over weak pairs. owner: int64[P], energy: float64[P], kin:
    float64[P]: the strong ones, each with its person and the probability that it is a relative.
    thinned: how many relatives a person really has for each one among the N.
    """

    weak: Floats
    owner: Ints
    energy: Floats
    kin: Floats
    thinned: float = 1.0

    @classmethod
    def of(
        cls, guessed: Sequence[Floats2D], *, chance: Sequence[Floats2D], thinned: float = 1.0
    ) -> Energies:
        """
        Return the energies of views of the same people, each float32[N, N] in units of noise.

        chance: the same views of people who share no household (`unrelated`), in the same units.
        Several CLKs of a record add up.
        """
        pairs = _summed(guessed)
        n = len(pairs)
        cut = _STRONG
        while np.count_nonzero(pairs > cut) > _MOST_STRONG * n:
            cut *= 2
        owner, other = np.nonzero(pairs > cut)
        energy = pairs[owner, other].astype(np.float64)
        elsewhere = _summed(chance)
        kin = _kin(energy, elsewhere[elsewhere > cut].astype(np.float64), cut)
        pairs[owner, other] = 0
        weak = pairs.sum(axis=1, dtype=np.float64) / max(n - 1, 1)
        return cls(weak, owner.astype(np.int64), energy, kin, thinned)

    def __len__(self) -> int:
        return len(self.weak)

    def times(self, factor: float) -> Energies:
        """Return the energies where each is `factor` times as large: several epochs together."""
        return Energies(
            self.weak * factor, self.owner, self.energy * factor, self.kin, self.thinned
        )

    def share(self, people: int, *, known_share: float, seed: int = 1) -> float:
        """
        Return the share of the unknown that an attacker names who knows `known_share` of `people`.

        Those he is sure of count as known from then on, until no more are found. They are no more
        relatives to others than before, for it is by relatives that most of them are found.
        """
        known, found = known_share, 0.0
        for _ in range(30):
            drawn = self._drawn(people, known_share, known, seed)
            found, sure = _named(drawn, people)
            more = known_share + (1 - known_share) * sure
            if more - known < _STEADY * known:
                break
            known = more
        return found

    def whole(self, people: int) -> float:
        """Return a person's mean energy over all other pairs, were they `people`."""
        strong = self.energy * (self.kin * self.thinned + (1 - self.kin) * people / len(self))
        return float(self.weak.mean() * people + strong.sum() / len(self))

    def matchable(self, people: int) -> bool:
        """Whether an attacker who knows nobody might match the graphs: beyond 4 ln n / n."""
        pair = self.whole(people) / people
        return pair / (1 + pair) > 4 * math.log(people) / people

    def holds_up_to(self, *, known_share: float, most: float) -> int:
        """
        Return the most people, from the number measured on, up to whom at most `most` of the
        unknown are named and the graphs cannot be matched; 0 if not even so many, MOST_PEOPLE if
        never seen to fail. Two figures of precision.
        """

        def holds(people: int) -> bool:
            return not self.matchable(people) and (
                self.share(people, known_share=known_share) <= most
            )

        people = len(self)
        if not holds(people):
            return 0
        while people < MOST_PEOPLE and holds(min(people * 2, MOST_PEOPLE)):
            people = min(people * 2, MOST_PEOPLE)
        if people >= MOST_PEOPLE:
            return MOST_PEOPLE
        low, high = people, min(people * 2, MOST_PEOPLE)
        for _ in range(5):
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        step = int(10 ** max(len(str(low)) - 2, 0))
        return max(low // step * step, len(self))

    def _drawn(self, people: int, relatives: float, known: float, seed: int) -> Floats:
        """Draw persons' energies over shares of their relatives and of all `people` known."""
        draw = np.random.default_rng(seed)
        n = len(self)
        rate = relatives * self.kin * self.thinned + known * (1 - self.kin) * people / n
        drawn = []
        for _ in range(max(1, -(-_DRAWS // n))):
            energies = self.weak * (known * people)
            energies += np.bincount(self.owner, self.energy * draw.poisson(rate), minlength=n)
            drawn.append(energies)
        return np.concatenate(drawn)


_OF_HOUSEHOLDS = (("last_name",), ("street", "zip"), ("phone",), ("email",))


def unrelated(crowd: Crowd, *, seed: int) -> Crowd:
    """
    Return the crowd without its families: what a household shares is dealt out anew.

    Last names, addresses, telephones and e-mails each go to somebody else, so they are as frequent
    as before; what is a person's own stays together, for first names go with sexes and years.
    """
    draw = np.random.default_rng(seed)
    columns = dict(crowd.columns)
    for fields in _OF_HOUSEHOLDS:
        order = draw.permutation(len(crowd))
        for field in set(fields) & set(columns):
            columns[field] = Coded(columns[field].codes[order], columns[field].values)
    return Crowd(columns, crowd.person)


def _named(energies: Floats, people: int) -> tuple[float, float]:
    """Return the shares named rightly, and named rightly for sure, among `people` of energies."""
    energies = np.sort(np.maximum(energies, 1e-9))
    # Rivals, the strongest one by one, the others in groups of one size: the largest of them hardly
    # changes by it.
    others, alone = np.split(energies, [max(len(energies) - _ALONE, 0)])
    groups = [group for group in np.array_split(others, _ALONE) if len(group)]
    rivals = np.concatenate([[group.mean() for group in groups], alone])
    many = np.concatenate([[len(group) for group in groups], np.ones(len(alone))])
    many *= people / len(energies)
    top = float(energies[-1])
    far = max(top / 2 + 7 * top**0.5, 31.0)
    grid = np.unique(np.r_[np.linspace(-25, 30, 1101), np.linspace(30, far, 200)])
    below = np.zeros(len(grid))
    for mean, count in zip(rivals, many, strict=True):
        below += count * _log_normal((grid + mean / 2) / mean**0.5)
    right = np.sqrt(energies)[:, None] * _NODES + energies[:, None] / 2
    named = np.exp(np.interp(right, grid, below))
    # Likelihood ratios of wrong names have mean 1: those of all together are about `people`.
    lead = right - _SURE
    sure = np.exp(np.interp(lead, grid, below)) * (lead > math.log(people))
    return float((named @ _WEIGHTS).mean()), float((sure @ _WEIGHTS).mean())


_NODES = np.linspace(-5, 5, 41)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
_AT = np.linspace(-9, 9, 3601)
_LOGS = np.log([max(0.5 * math.erfc(-z / math.sqrt(2)), 1e-300) for z in _AT])


def _log_normal(z: Floats) -> Floats:
    """Return the log of the standard normal distribution function, -690 where it is nothing."""
    logs: Floats = np.interp(z, _AT, _LOGS, left=-690.0, right=0.0)
    return logs


def _summed(guessed: Sequence[Floats2D]) -> Floats2D:
    """Return the energies of pairs over all views, float32[N, N]."""
    made = np.square(guessed[0])
    for one in guessed[1:]:
        made += np.square(one)
    return made


def _kin(energy: Floats, chance: Floats, cut: float) -> Floats:
    """
    Return for each strong pair the probability that it is there for kinship, not for chance.

    In bins a factor two wide: the share that is missing among people who share no household.
    """
    place = np.floor(np.log2(np.maximum(energy, cut) / cut)).astype(np.int64)
    elsewhere = np.floor(np.log2(np.maximum(chance, cut) / cut)).astype(np.int64)
    bins = int(max(place.max(initial=0), elsewhere.max(initial=0))) + 1
    here, there = np.bincount(place, minlength=bins), np.bincount(elsewhere, minlength=bins)
    excess = np.clip(1 - there / np.maximum(here, 1), 0, 1)
    kin: Floats = excess[place]
    return kin
