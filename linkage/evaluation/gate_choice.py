"""
The smallest diffusion depth of each CLK with which a study passes the release gate.

    chosen = choose_diffusion(study, expectations(study, crowd, seed=1), seed=1)
    chosen.study, chosen.lines()       # the study with these depths; text for its file

What an attacker expects does not depend on t, and prediction needs no key: so every t is foretold
from one measurement, first each CLK by itself, then all CLKs of a party. It is `run_gate` on the
chosen study that decides; where luck of the keys fails it, the next t is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linkage.certificate import MOST_CORRELATION, MOST_REIDENTIFIED, declared_size
from linkage.errors import LinkageError
from linkage.evaluation.attacks.best_guess import centred_both
from linkage.evaluation.attacks.similarity import Floats2D
from linkage.evaluation.gate_evidence import Expected, Measured
from linkage.evaluation.prediction import Energies
from linkage.study import StudyConfig

LEAST_DEPTH, MOST_DEPTH = 5, 40
"""t below 5 fails on every field measured; beyond 40 hardly any similarity is left to link by."""

_MARGIN = 0.9
"""Of the limit, for what is foretold: keys differ, and the worst of several draws counts."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The study with the depths chosen, and by CLK what each would be alone."""

    study: StudyConfig
    alone: dict[str, int]

    def depths(self) -> dict[str, int]:
        """Return the depth of every CLK."""
        return {clk.id: self.study.diffusion_of(clk) for clk in self.study.clk}

    def lines(self) -> list[str]:
        """Return, for each CLK, the lines of the study file that set it."""
        made = []
        for clk, depth in self.depths().items():
            note = "" if depth == self.alone[clk] else f"      # alone: {self.alone[clk]}"
            made += ["[[clk]]", f'id = "{clk}"', f"diffusion = {depth}{note}", ""]
        return made[:-1]


def choose_diffusion(
    study: StudyConfig,
    guesses: Sequence[Expected],
    *,
    known_share: float = 0.05,
    thinned: float = 1.0,
) -> Chosen:
    """
    Return the study with the smallest depths foretold to pass, at its declared size.

    Raises LinkageError where no depth passes: then fields, not depth, must change.
    """
    told = _Foretold(study, known_share, thinned)
    alone = {one.clk.id: told.smallest(one) for one in guesses}
    depths = dict(alone)
    by_id = {one.clk.id: one for one in guesses}
    for party in study.party:
        sent = [by_id[clk.id] for clk in study.clks_of(party)]
        while len(sent) > 1 and not told.passes(sent, depths):
            # Deeper where it hides most: who is found by one CLK need not be by the other.
            tried = [
                depths | {one.clk.id: depths[one.clk.id] + 1}
                for one in sent
                if depths[one.clk.id] < MOST_DEPTH
            ]
            if not tried:
                raise _hopeless(f"party {party.id!r}: no depth hides all its CLKs together")
            depths = min(tried, key=lambda some: told.most_found(sent, some))
    return Chosen(at_depths(study, depths), alone)


def failing(evidence: Sequence[Measured], records: int) -> list[str]:
    """Return the evidence whose diffusion is not deep enough for `records`, as measured."""
    return [
        one.figures.evidence
        for one in evidence
        if abs(one.figures.correlation) > MOST_CORRELATION
        or max(one.worst, one.figures.predicted_seeded) > MOST_REIDENTIFIED
        or one.figures.holds_up_to < records
    ]


def deeper(chosen: Chosen, failed: Sequence[str]) -> Chosen:
    """
    Return the choice with each CLK that `failed` one deeper; of a party whose CLKs pass each by
    itself, all. Raises LinkageError where that is too deep.
    """
    study = chosen.study
    parties = [name.partition(":")[2] for name in failed if name.startswith("party:")]
    wanted = {name.partition(":")[2] for name in failed if name.startswith("clk:")}
    for party in parties:
        sent = {clk.id for clk in study.clks_of(study.party_named(party))}
        wanted |= set() if sent & wanted else sent
    depths = chosen.depths()
    for clk in wanted:
        depths[clk] += 1
        if depths[clk] > MOST_DEPTH:
            raise _hopeless(f"CLK {clk!r}: no depth passes")
    return Chosen(at_depths(study, depths), chosen.alone)


def at_depths(study: StudyConfig, depths: dict[str, int]) -> StudyConfig:
    """Return the study with these depths by CLK; the others as they are."""
    clks = tuple(
        clk.model_copy(update={"diffusion": depths.get(clk.id, study.diffusion_of(clk))})
        for clk in study.clk
    )
    return study.model_copy(update={"clk": clks})


@dataclass(frozen=True, slots=True)
class _Foretold:
    """What would pass at the study's declared size."""

    study: StudyConfig
    known_share: float
    thinned: float

    def smallest(self, one: Expected) -> int:
        """Return the smallest depth with which one CLK passes by itself."""
        low, high = LEAST_DEPTH, MOST_DEPTH
        if not self.passes([one], {one.clk.id: high}):
            raise _hopeless(f"CLK {one.clk.id!r}: no depth passes")
        while low < high:
            middle = (low + high) // 2
            if self.passes([one], {one.clk.id: middle}):
                high = middle
            else:
                low = middle + 1
        return low

    def passes(self, guesses: Sequence[Expected], depths: dict[str, int]) -> bool:
        """Whether CLKs of these depths pass together."""
        energies = self._energies(guesses, depths)
        n = len(energies)
        pair = energies.whole(n) / n / self.study.study.epoch
        # Two keys share the signal alone: their correlation is that with expectation, squared.
        if pair / (1 + pair) > MOST_CORRELATION * _MARGIN:
            return False
        return (
            not any(energies.matchable(size) for size in self._sizes(n))
            and self._most(energies) <= MOST_REIDENTIFIED * _MARGIN
        )

    def most_found(self, guesses: Sequence[Expected], depths: dict[str, int]) -> float:
        """Return the largest share found by CLKs of these depths together."""
        return self._most(self._energies(guesses, depths))

    def _most(self, energies: Energies) -> float:
        sizes = self._sizes(len(energies))
        return max(energies.share(size, known_share=self.known_share) for size in sizes)

    def _sizes(self, n: int) -> list[int]:
        records = max(declared_size(self.study) or n, n)
        return sorted({n, records, round((n * records) ** 0.5)})

    def _energies(self, guesses: Sequence[Expected], depths: dict[str, int]) -> Energies:
        rows = np.flatnonzero(np.any([one.present for one in guesses], axis=0))
        square = np.ix_(rows, rows)
        guessed: list[Floats2D] = []
        chance: list[Floats2D] = []
        for one in guesses:
            scale = np.float32(one.clk.length**0.5)
            for side, similarity in zip((guessed, chance), one.at(depths[one.clk.id]), strict=True):
                side.append(centred_both(similarity[square], one.present[rows]) * scale)
        energies = Energies.of(guessed, chance=chance, thinned=self.thinned)
        return energies.times(self.study.study.epoch)


def _hopeless(said: str) -> LinkageError:
    return LinkageError(
        f"{said} up to t = {MOST_DEPTH}",
        hint="use fewer fields that relatives share, declare fewer records, or split the study",
    )
