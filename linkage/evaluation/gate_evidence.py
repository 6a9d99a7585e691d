"""
One piece of evidence after the other, as the release gate measures it (linkage.evaluation.gate).

    pieces = Pieces.of(study, expectations(study, crowd, seed=1))
    pieces.draw(study, crowd, known_share=.05, seed=1)       # under a new study key; and again
    for piece in pieces.all:
        piece.measured(300_000, known_share=.05)

What an attacker expects is worked out once a CLK, whatever t; what he sees, once a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from linkage.certificate import MOST_REIDENTIFIED, GateFigures
from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.best_guess import (
    View,
    best_guesses,
    centred_both,
    seen_and_expected,
)
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.graph_matching import match_graphs, score
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import (
    Floats2D,
    centred,
    correlation,
    encoded,
    expected,
    observed,
    undiffused,
)
from linkage.evaluation.attacks.together import best_weights, weighted
from linkage.evaluation.prediction import Energies, unrelated
from linkage.study import ClkSpec, StudyConfig

Mask = npt.NDArray[np.bool_]
Progress = Callable[[str, float], None]
"""Told what is being measured, and which share of all is done."""

PLAIN_PEOPLE = 2_000
LEAST_CROWD = 500
"""Fewer people are refused: figures of so few say nothing."""

OWN_KEYS = 4
"""Keys of his own that the attacker spends; sixteen raise his correlation by a hundredth of it."""

SIZES = tuple(round(10 ** (k / 4)) for k in range(12, 29))
"""Sizes of the curve of predictions: 1,000 to 10 million people, four a decade."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One check of the prediction from a quarter of the people: what it said, what was found."""

    people: int
    predicted: float
    found: float


@dataclass(frozen=True, slots=True)
class Measured:
    """
    One piece of evidence. blind: found by who knows nobody; curve: (people, predicted share);
    relatives: mean energy of a person's relatives, by which some are found at any size.
    """

    figures: GateFigures
    people: int
    seeded: tuple[Reidentified, ...]
    blind: Reidentified
    fit: tuple[Fit, ...]
    curve: tuple[tuple[int, float], ...]
    relatives: float

    @property
    def worst(self) -> float:
        """The largest share found of those measured, by either attacker."""
        return max(self.blind.share, *(one.share for one in self.seeded))


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """
    What an attacker expects of one CLK of N people, whatever t: 1 - 2d, float32[N, N].

    unrelated: the same among people who share no household. present: bool[N], who has the CLK.
    """

    clk: ClkSpec
    agreement: Floats2D
    unrelated: Floats2D
    present: Mask

    @classmethod
    def of(cls, study: StudyConfig, clk: ClkSpec, crowd: Crowd, *, seed: int) -> Expected:
        """Encode the crowd under the attacker's own keys. Raises LinkageError if all are alike."""
        present = encoded(study, undiffused(clk), crowd, StudyKey.generate()).present
        both = [
            expected(study, clk, people, keys=OWN_KEYS, depth=1)
            for people in (crowd, unrelated(crowd, seed=seed))
        ]
        if int(present.sum()) < LEAST_CROWD:
            raise LinkageError(
                f"only {int(present.sum()):,} people have the CLK {clk.id!r}",
                hint=f"measure on {LEAST_CROWD:,} people or more who have its fields",
            )
        if not np.ptp(both[0][present, :][:, present].max(axis=1)) and both[0].max() > 0.999:
            raise LinkageError(
                f"all people have the same values in the CLK {clk.id!r}",
                hint="measure on people as different as those of the study",
            )
        return cls(clk, both[0], both[1], present)

    def at(self, depth: int) -> tuple[Floats2D, Floats2D]:
        """Return what to expect of diffusion `depth`: of the people, and of unrelated ones."""
        t = np.float32(max(depth, 1))
        return self.agreement**t, self.unrelated**t


def expectations(
    study: StudyConfig, crowd: Crowd, *, seed: int, progress: Progress = lambda text, done: None
) -> tuple[Expected, ...]:
    """Return what an attacker expects of every CLK of the study."""
    found = []
    for i, clk in enumerate(study.clk):
        progress(f"{clk.id}: what an attacker expects", 0.15 * i / len(study.clk))
        found.append(Expected.of(study, clk, crowd, seed=seed))
    return tuple(found)


def attack_plain(study: StudyConfig, guess: Expected, crowd: Crowd) -> Reidentified:
    """
    Return whom an attacker who knows nobody finds from CLKs without diffusion, of 2,000 people.

    Where fewer have the CLK, others count as people whom he does not find: so 2,000 people are
    enough for a measurement although one lacks a field, and a crowd of which many do is not.
    """
    rows = np.flatnonzero(guess.present)[:PLAIN_PEOPLE]
    column = encoded(study, undiffused(guess.clk), crowd.rows(rows), StudyKey.generate())
    found = _blind(observed(column), guess.agreement[np.ix_(rows, rows)], seed=1)
    return replace(found, n=min(len(crowd), PLAIN_PEOPLE))


@dataclass(slots=True, eq=False)
class Piece:
    """
    One CLK, or several of a party together, and what was found so far under each key drawn.

    guesses: what an attacker expects of each CLK; guessed: their sum, row-centred, as he weighs
    them (`weights`); last: the same of what he saw under the last key.
    """

    evidence: str
    diffusion: int | None
    guesses: tuple[Expected, ...]
    weights: npt.NDArray[np.float64]
    guessed: Floats2D
    present: Mask
    last: Floats2D | None = None
    views: tuple[View, ...] = ()
    correlations: list[float] = field(default_factory=list)
    attackers: list[float] = field(default_factory=list)
    seeded: list[Reidentified] = field(default_factory=list)

    @classmethod
    def of(
        cls, study: StudyConfig, evidence: str, diffusion: int | None, guesses: Sequence[Expected]
    ) -> Piece:
        """Weigh the CLKs as an attacker would."""
        each = [centred(one.at(study.diffusion_of(one.clk))[0], one.present) for one in guesses]
        weights = best_weights(each, [1 / one.clk.length for one in guesses])
        present = np.any([one.present for one in guesses], axis=0)
        return cls(evidence, diffusion, tuple(guesses), weights, weighted(each, weights), present)

    def see(
        self,
        seen: Sequence[Floats2D],
        views: Sequence[View],
        *,
        known_share: float,
        seed: int,
    ) -> None:
        """Take in what another key shows: row-centred similarities and views, of each CLK."""
        rows = np.flatnonzero(self.present)
        self.views = tuple(view.rows(rows) for view in views)
        shown = weighted(seen, self.weights)
        self.attackers.append(correlation(shown, self.guessed))
        if self.last is not None:
            self.correlations.append(correlation(shown, self.last))
            known = round(known_share * len(rows))
            self.seeded.append(best_guesses(self.views, known=known, seed=seed))
        self.last = shown

    def energies(
        self, study: StudyConfig, *, thinned: float, people: int | None = None
    ) -> Energies:
        """Return the energies of the last key's views, of the first `people` of them."""
        rows = np.flatnonzero(self.present)[:people]
        chance = [
            centred_both(one.at(study.diffusion_of(one.clk))[1][np.ix_(rows, rows)])
            * np.float32(view.scale)
            for one, view in zip(self.guesses, self.views, strict=True)
        ]
        guessed = [view.guessed[: len(rows), : len(rows)] for view in self.views]
        return Energies.of(guessed, chance=chance, thinned=thinned)

    def measured(
        self, study: StudyConfig, records: int, *, known_share: float, thinned: float, seed: int
    ) -> Measured:
        """Return all figures; records: the declared size."""
        energies = self.energies(study, thinned=thinned).times(study.study.epoch)
        assert self.last is not None  # noqa: S101
        rows = np.ix_(self.present, self.present)
        blind = _blind(self.last[rows], self.guessed[rows], seed=seed)
        figures = GateFigures(
            evidence=self.evidence,
            diffusion=self.diffusion,
            correlation=max(self.correlations),
            attacker_correlation=max(self.attackers),
            # Who knows nobody is the weaker attacker; should he find more, that is what counts.
            seeded=max(blind.share, *(one.share for one in self.seeded)),
            predicted_seeded=energies.share(records, known_share=known_share),
            holds_up_to=energies.holds_up_to(known_share=known_share, most=MOST_REIDENTIFIED),
        )
        return Measured(
            figures=figures,
            people=len(energies),
            seeded=tuple(self.seeded),
            blind=blind,
            fit=self._fit(study, known_share=known_share, thinned=thinned, seed=seed),
            curve=tuple((n, energies.share(n, known_share=known_share)) for n in SIZES),
            relatives=float((energies.energy * energies.kin).sum() * thinned / len(energies)),
        )

    def _fit(
        self, study: StudyConfig, *, known_share: float, thinned: float, seed: int
    ) -> tuple[Fit, ...]:
        """Predict from a quarter of the people what is found among a quarter, half and all."""
        n = len(self.views[0].seen)
        quarter = self.energies(study, thinned=thinned, people=n // 4)
        checks = []
        for people in (n // 4, n // 2, n):
            views = [view.rows(slice(0, people)) for view in self.views]
            known = round(known_share * people)
            found = [best_guesses(views, known=known, seed=seed + i).share for i in range(2)]
            said = quarter.share(people, known_share=known_share)
            checks.append(Fit(people, said, sum(found) / len(found)))
        return tuple(checks)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """All pieces of evidence of a study: each CLK, then several of one party together."""

    guesses: tuple[Expected, ...]
    all: tuple[Piece, ...]

    @classmethod
    def of(cls, study: StudyConfig, guesses: Sequence[Expected]) -> Pieces:
        """Return the pieces before any key was drawn."""
        by_id = {one.clk.id: one for one in guesses}
        pieces = [
            Piece.of(study, f"clk:{one.clk.id}", study.diffusion_of(one.clk), [one])
            for one in guesses
        ]
        for party in study.party:
            sent = [by_id[clk.id] for clk in study.clks_of(party)]
            if len(sent) > 1:
                pieces.append(Piece.of(study, f"party:{party.id}", None, sent))
        return cls(tuple(guesses), tuple(pieces))

    def draw(self, study: StudyConfig, crowd: Crowd, *, known_share: float, seed: int) -> None:
        """Encode the crowd under a new study key, and attack."""
        key = StudyKey.generate()
        seen: dict[str, Floats2D] = {}
        views: dict[str, View] = {}
        for one in self.guesses:
            shown = observed(encoded(study, one.clk, crowd, key))
            guessed = one.at(study.diffusion_of(one.clk))[0]
            seen[one.clk.id] = centred(shown, one.present)
            views[one.clk.id] = seen_and_expected(
                shown, guessed, bits=one.clk.length, present=one.present
            )
        for piece in self.all:
            ids = [one.clk.id for one in piece.guesses]
            piece.see(
                [seen[clk] for clk in ids],
                [views[clk] for clk in ids],
                known_share=known_share,
                seed=seed,
            )


def _blind(seen: Floats2D, guessed: Floats2D, *, seed: int) -> Reidentified:
    """Return whom an attacker finds who knows nobody; his list is in an order of its own."""
    order = np.random.default_rng(seed).permutation(len(guessed))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return score(match_graphs(seen, guessed[np.ix_(order, order)]), place)
