"""
One person in two uploads: can whoever holds both tell that it is the same one?

    equal_values(upload, other)                        # pseudonyms, match keys: 0 in another study
    link_by_clks(seen, other, who, known=100, seed=1)  # by the graphs of the CLKs alone
    several_epochs(study, party, crowd, epochs=6)      # what grows while epochs pass

Two studies have other keys, other IDs, other pseudonyms; whoever holds both uploads has two noisy
pictures of the same people and no list. What is the same under all keys is the structure of match
keys (linkage.evaluation.attacks.structure.named_by_structure links by it as by a list). Two epochs
of one study have the same pseudonyms, by design: what is new each time is the noise, and a mean of
E pictures has E times less of it. So every epoch costs privacy, and who plans many needs a deeper
diffusion from the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.graph_matching import match_graphs, score
from linkage.evaluation.attacks.known_people import seeded_attack
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import Floats2D, correlation
from linkage.evaluation.attacks.together import party_similarity
from linkage.records import EncodedRecords
from linkage.study import Party, StudyConfig

Ints = npt.NDArray[np.int64]

_STARTS = 5


@dataclass(frozen=True, slots=True)
class EqualValues:
    """
    Values that occur in both of two uploads: of pseudonyms, of match keys of any rules, of CLKs.

    Nothing but chance makes one between two studies: of 128 bits and more, none is expected.
    """

    pseudonyms: int
    match_keys: int
    clks: int

    def __bool__(self) -> bool:
        return bool(self.pseudonyms or self.match_keys or self.clks)


def equal_values(one: EncodedRecords, other: EncodedRecords) -> EqualValues:
    """Return how many different values the two uploads have in common, whatever they stand for."""

    def shared(kind: str) -> int:
        sides = []
        for records in (one, other):
            columns = getattr(records, kind).values()
            sides.append(
                {row.tobytes() for column in columns for row in column.values[column.present]}
            )
        return len(sides[0] & sides[1])

    pseudonyms = {row.tobytes() for row in one.pseudonyms}
    return EqualValues(
        len(pseudonyms & {row.tobytes() for row in other.pseudonyms}),
        shared("match_keys"),
        shared("clks"),
    )


def link_by_clks(
    one: Floats2D,
    other: Floats2D,
    who: tuple[Ints, Ints],
    *,
    known: int = 0,
    seed: int = 1,
) -> Reidentified:
    """
    Return how many records of `one` are laid upon the record of the same person in `other`.

    one, other: float32[N, N] and float32[M, M], similarities as each upload shows them. who: the
    person of each record, int64[N] and int64[M]. known: pairs that are known beforehand, of the
    people in both, drawn by `seed`. Without any, the best of five starts counts: the one that lays
    the graphs upon each other best, which the attacker sees for himself.
    """
    if who[0].shape != one.shape[:1] or who[1].shape != other.shape[:1]:
        raise LinkageError("each record of two uploads needs a person")
    truth = np.full(len(one), -1, np.int64)
    _, rows, columns = np.intersect1d(*who, return_indices=True)
    truth[rows] = columns
    if known:
        return seeded_attack(one, other, known=known, seed=seed, truth=truth)
    # The other upload is shuffled, so that no tie is broken towards the truth.
    order = np.random.default_rng(seed).permutation(len(other))
    place = np.append(np.argsort(order), -1)
    hidden = other[np.ix_(order, order)]
    guesses = [match_graphs(one, hidden, seed=seed + start) for start in range(_STARTS)]
    return score(max(guesses, key=lambda guess: _fit(one, hidden, guess)), place[truth])


def _fit(one: Floats2D, other: Floats2D, guess: Ints) -> float:
    """Return the correlation of similarities where the guess lays them upon each other."""
    rows = np.flatnonzero(guess >= 0)
    return correlation(one[np.ix_(rows, rows)], other[np.ix_(guess[rows], guess[rows])])


@dataclass(frozen=True, slots=True)
class AfterEpochs:
    """
    What whoever kept `epochs` epochs of a party's CLKs reaches with their mean.

    correlation: with the mean of as many epochs under other keys. attacker_correlation: with what
    he expects from a list. seeded: whom he names who knows some.
    """

    epochs: int
    correlation: float
    attacker_correlation: float
    seeded: Reidentified

    def as_json(self) -> dict[str, object]:
        """Return the figures."""
        return {
            "epochs": self.epochs,
            "correlation": round(self.correlation, 4),
            "attacker_correlation": round(self.attacker_correlation, 4),
            "seeded": self.seeded.as_json(),
        }


def several_epochs(
    study: StudyConfig,
    party: Party,
    crowd: Crowd,
    *,
    epochs: tuple[int, ...] = (1, 2, 3, 6),
    known: float = 0.05,
    seed: int = 1,
) -> Iterator[AfterEpochs]:
    """
    Yield, for each number of epochs in rising order, what the mean of so many shows.

    The same records in each, under a new study key, all CLKs of the party together. known: share
    of the people known beforehand, drawn by `seed`. Takes N * N * 4 bytes for each CLK and a few
    more, whatever the number of epochs.
    """
    if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 1:
        raise LinkageError("numbers of epochs must rise from 1 or more")
    seeds = round(len(crowd) * known)
    sums: list[Floats2D] = []
    guessed: Floats2D | None = None
    for epoch in range(1, epochs[-1] + 1):
        keys = [StudyKey.generate(), StudyKey.generate()]
        # The weights depend on the expectation alone, so they hardly differ between epochs.
        seen, expectation, _ = party_similarity(study, party, crowd, keys)
        guessed = expectation if guessed is None else guessed
        sums = [a + b for a, b in zip(sums, seen, strict=True)] if sums else seen
        if epoch in epochs:
            mean = sums[0] / np.float32(epoch)
            yield AfterEpochs(
                epochs=epoch,
                correlation=correlation(*sums),
                attacker_correlation=correlation(mean, guessed),
                seeded=seeded_attack(mean, guessed, known=seeds, seed=seed),
            )
