"""
All evidence of a record together: several CLKs, and the structure of its match keys.

    (seen,), guessed, present = party_similarity(study, party, crowd, [key])
    correlation(seen, guessed)
    combined_attack(study, {"imaging": one, "enclave": other}, listed, key, known=200, seed=1)

Each CLK of a record is diffused under taps of its own, so several average out the noise that
protects each alone. What one CLK shows, O_k, is what the attacker expects of it, E_k, and
noise; he weighs each CLK so that expectation stands out of noise as far as it can: the weights
are the first eigenvector of the Gram matrix of the E_k, each over its noise (the best linear
combination, as in Fisher's discriminant). He needs no key for that, only his list.

Who knows some of the people adds up likelihoods of all CLKs instead, which needs no weights: the
noise of a similarity of l bits has variance 1 / l. Match keys tell him classes of records
(linkage.evaluation.attacks.structure): nobody outside a record's class is its person, and a class
of one is one more person known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.encoding.encoder import encode_records
from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.graph_matching import match_graphs
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import (
    Floats2D,
    centred,
    encoded,
    expected,
    observed,
    signs,
    undiffused,
)
from linkage.evaluation.attacks.structure import refined
from linkage.pseudonyms import ContributorSecret
from linkage.records import PSEUDONYM_BYTES, EncodedRecords, FixedColumn
from linkage.study import Party, StudyConfig

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SURE = 5.0
"""Log odds over the second best at which a guess is taken for known: 150 to 1."""

_ROUNDS = 40
"""Rounds end when nobody more is sure; a landslide may begin slowly."""


def party_similarity(
    study: StudyConfig, party: Party, crowd: Crowd, keys: Sequence[StudyKey], *, own_keys: int = 2
) -> tuple[list[Floats2D], Floats2D, Mask]:
    """
    Return what a party's CLKs of `crowd` show together under each of `keys`, float32[N, N]
    each; what an attacker expects of them from names alone, float32[N, N]; and bool[N], which
    records have any CLK.

    Similarities are row-centred sums over the CLKs, weighted as the attacker would. own_keys:
    how many keys of his own he spends. Needs about N * N * 4 bytes a key and CLK of memory.
    """
    guessed: list[Floats2D] = []
    seen: list[list[Floats2D]] = []
    anyone = np.zeros(len(crowd), bool)
    for clk in study.clks_of(party):
        columns = [encoded(study, clk, crowd, key) for key in keys]
        present = columns[0].present
        guessed.append(centred(expected(study, clk, crowd, keys=own_keys), present))
        seen.append([centred(observed(column), present) for column in columns])
        anyone |= present
    weights = best_weights(guessed, [1 / clk.length for clk in study.clks_of(party)])
    shown = [weighted([of[k] for of in seen], weights) for k in range(len(keys))]
    return shown, weighted(guessed, weights), anyone


def best_weights(guessed: Sequence[Floats2D], noise: Sequence[float]) -> Floats:
    """
    Return the weights, float64[K] of length 1, that make sum(w_k O_k) correlate most with
    sum(w_k E_k), where O_k = E_k + noise.

    guessed: E_k, row-centred. noise: variance of an entry of O_k; an unrelated pair's l bits
    give 1 / l. 0 for a CLK that says nothing.
    """
    scale = np.sqrt(np.asarray(noise, np.float64))
    gram = np.array([[float(np.vdot(one, other)) for other in guessed] for one in guessed])
    _, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    weights: Floats = np.abs(vectors[:, -1]) / scale
    return weights / np.linalg.norm(weights)


def weighted(matrices: Sequence[Floats2D], weights: Floats) -> Floats2D:
    """Return the weighted sum of K matrices, float32[N, N]."""
    made = np.zeros_like(matrices[0])
    for matrix, weight in zip(matrices, weights, strict=True):
        made += np.float32(weight) * matrix
    return made


def combined_attack(
    study: StudyConfig,
    held: Mapping[str, Crowd],
    listed: Crowd,
    key: StudyKey,
    *,
    known: int = 0,
    seed: int = 0,
    own_keys: int = 2,
    structure: bool = True,
) -> Reidentified:
    """
    Return how many people an attacker names who sees all that these parties send, linked.

    held: whom each party holds, as it has them, by party id; together they are linked without
    error, as the broker nearly does. listed: the attacker's list, with every field of these
    parties; he knows who of it is in which dataset. known: how many of the people he knows
    beforehand, drawn by `seed`. structure: False leaves match keys and nulls out.

    Needs about N * N * 8 bytes of memory a CLK. Raises LinkageError where fewer than `known` are
    in the list.
    """
    draw = np.random.default_rng(seed)
    # The list is shuffled, so that no tie is broken towards the truth.
    listed = listed.rows(draw.permutation(len(listed)))
    persons = np.unique(np.concatenate([crowd.person for crowd in held.values()]))
    truth = _places(persons, listed.person)
    there = np.flatnonzero(truth >= 0)
    if known > len(there):
        raise LinkageError(f"only {len(there)} people are in the list, too few to know {known}")
    chosen = np.sort(draw.choice(there, size=known, replace=False))
    sent = {party: _sent(study, party, crowd, key) for party, crowd in held.items()}
    evidence = [
        _evidence(study, clk_id, sent, held, persons, listed, own_keys)
        for clk_id in sorted({clk for one in sent.values() for clk in one.clks})
    ]
    classes = (np.zeros(len(persons), np.int64), np.zeros(len(listed), np.int64))
    if structure:
        classes = _classes(study, sent, held, persons, listed)
    pairs = _known_by_class(chosen, truth, classes)
    if not len(pairs[0]):
        pairs = _matched(evidence, classes)
    best = 0
    searched = np.ones(len(persons), bool)
    searched[chosen] = False
    searched &= truth >= 0
    for _ in range(_ROUNDS):
        guess, sure = _likeliest(evidence, classes, pairs)
        guess[chosen] = truth[chosen]
        # What the attacker is credited with is his best round: he may have stopped there.
        best = max(best, int((guess == truth)[searched].sum()))
        more = np.union1d(pairs[0], sure)
        if len(more) == len(pairs[0]):
            break
        column = guess.copy()
        column[pairs[0]] = pairs[1]
        pairs = (more, column[more])
    return Reidentified(n=int(searched.sum()), correct=best, known=known)


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """
    One CLK: seen, float32[N, N], and wanted, float32[M, M], what is expected; 1 - 2d to the power
    t. bits: its length. rows, columns: bool[N], bool[M], who has it.
    """

    seen: Floats2D
    wanted: Floats2D
    bits: int
    rows: Mask
    columns: Mask

    def scores(self, pairs: tuple[Ints, Ints]) -> Floats2D:
        """Return log likelihoods, float32[N, M], up to a constant a row, over the known pairs."""
        rows, columns = np.flatnonzero(self.rows), np.flatnonzero(self.columns)
        made = np.zeros((len(self.rows), len(self.columns)), np.float32)
        use = self.rows[pairs[0]] & self.columns[pairs[1]]
        if not use.any():
            return made
        seen = self.seen[np.ix_(rows, pairs[0][use])]
        wanted = self.wanted[np.ix_(columns, pairs[1][use])]
        seen = seen - seen.mean(axis=0)
        wanted = wanted - wanted.mean(axis=0)
        scores = seen @ wanted.T
        scores -= np.einsum("ij,ij->i", wanted, wanted) / 2
        made[np.ix_(rows, columns)] = self.bits * scores
        return made


def _sent(study: StudyConfig, party_id: str, crowd: Crowd, key: StudyKey) -> EncodedRecords:
    """Return what a party uploads of the crowd; the pseudonyms are row numbers."""
    numbers = np.zeros((len(crowd), PSEUDONYM_BYTES), np.uint8)
    numbers[:, :8] = np.arange(len(crowd)).astype(">u8").view(np.uint8).reshape(-1, 8)
    return encode_records(
        crowd.columns,
        numbers,
        study=study,
        party=study.party_named(party_id),
        key=key,
        secret=ContributorSecret.generate(),
    ).records


def _evidence(
    study: StudyConfig,
    clk_id: str,
    sent: Mapping[str, EncodedRecords],
    held: Mapping[str, Crowd],
    persons: Ints,
    listed: Crowd,
    own_keys: int,
) -> _Evidence:
    """Return one CLK's evidence of persons: the mean over the parties that send it."""
    clk = next(one for one in study.clk if one.id == clk_id)
    seen = np.zeros((len(persons), len(persons)), np.float32)
    counts = np.zeros(seen.shape, np.uint8)
    anyone = np.zeros(len(persons), bool)
    for party, records in sent.items():
        if clk_id in records.clks:
            column = records.clks[clk_id]
            rows = np.flatnonzero(column.present)
            at = np.searchsorted(persons, held[party].person[rows])
            seen[np.ix_(at, at)] += _agreement(column)[np.ix_(rows, rows)]
            counts[np.ix_(at, at)] += 1
            anyone[at] = True
    seen /= np.maximum(counts, 1)
    wanted = expected(study, clk, listed, keys=own_keys)
    return _Evidence(seen, wanted, clk.length, anyone, np.asarray(wanted.any(axis=1)))


def _agreement(column: FixedColumn) -> Floats2D:
    """Return 1 - 2d, float32[N, N], d the share of bits that differ; 0 on the diagonal."""
    bits = signs(column.values)
    made: Floats2D = bits @ bits.T / np.float32(bits.shape[1])
    np.fill_diagonal(made, 0)
    return made


def _classes(
    study: StudyConfig,
    sent: Mapping[str, EncodedRecords],
    held: Mapping[str, Crowd],
    persons: Ints,
    listed: Crowd,
) -> tuple[Ints, Ints]:
    """
    Return the class of each person seen, int64[N], and of each one listed, int64[M]: equal where
    match keys and nulls do not tell them apart; -1 where nobody listed is in that class.
    """
    own = StudyKey.generate()
    guess = {
        party: listed.rows(np.flatnonzero(np.isin(listed.person, crowd.person)))
        for party, crowd in held.items()
    }
    filled = study.study.fills_nulls
    # He knows which nulls of his list are filled, `refined` sees to it; and needs no diffusion.
    bare = study.model_copy(
        update={
            "study": study.study.model_copy(update={"fill_nulls": False}),
            "clk": tuple(undiffused(clk) for clk in study.clk),
        }
    )
    sides = [
        list(sent.values()),
        [_sent(bare, party, crowd, own) for party, crowd in guess.items()],
    ]
    rounds = min(refined(side, fillers=filled, clk_fillers=filled).rounds for side in sides)
    colours = []
    for side, crowds, people in zip(sides, (held, guess), (persons, listed.person), strict=True):
        found = refined(side, fillers=filled, clk_fillers=filled, rounds=rounds).colours
        whose = np.concatenate([crowd.person for crowd in crowds.values()])
        order = np.argsort(people)
        at = order[np.searchsorted(people[order], whose)]
        one = np.zeros(len(people), np.uint64)
        np.add.at(one, at, found)  # colours tell datasets apart, so that sums do, too
        colours.append(one)
    values, number = np.unique(np.concatenate(colours), return_inverse=True)
    seen, there = number[: len(persons)], number[len(persons) :]
    present = np.bincount(there, minlength=len(values)) > 0
    return np.where(present[seen], seen, -1), there


def _known_by_class(chosen: Ints, truth: Ints, classes: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Return the pairs known beforehand, and those that are alone in their class on both sides."""
    seen, listed = classes
    size = max(int(listed.max(initial=0)), int(seen.max(initial=0))) + 1
    ours = np.bincount(seen[seen >= 0], minlength=size)
    theirs = np.bincount(listed, minlength=size)
    alone = (seen >= 0) & (ours[seen] == 1) & (theirs[seen] == 1)
    alone[chosen] = False
    rows = np.flatnonzero(alone)
    first = np.zeros(size, np.int64)
    first[listed] = np.arange(len(listed))
    pairs = {int(row): int(truth[row]) for row in chosen}
    taken = set(pairs.values())
    for row in rows:
        column = int(first[seen[row]])
        if column not in taken:
            pairs[int(row)] = column
    left = np.array(sorted(pairs), np.int64)
    return left, np.array([pairs[row] for row in left.tolist()], np.int64)


def _matched(evidence: Sequence[_Evidence], classes: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Return what graph matching makes of all CLKs without anybody known."""
    wanted = [centred(one.wanted, one.columns) for one in evidence]
    weights = best_weights(wanted, [1 / one.bits for one in evidence])
    weights /= weights.sum()  # so that a record is as like itself as in one CLK
    sides = ([one.seen for one in evidence], [one.wanted for one in evidence])
    guess = match_graphs(*(weighted(side, weights) for side in sides))
    rows = np.flatnonzero(guess >= 0)
    fits = (classes[0][rows] < 0) | (classes[0][rows] == classes[1][guess[rows]])
    return rows[fits], guess[rows[fits]]


def _likeliest(
    evidence: Sequence[_Evidence], classes: tuple[Ints, Ints], pairs: tuple[Ints, Ints]
) -> tuple[Ints, Ints]:
    """Return each person's likeliest column, int64[N], and which rows are sure of it."""
    scores = evidence[0].scores(pairs)
    for one in evidence[1:]:
        scores += one.scores(pairs)
    scores[:, pairs[1]] = -np.inf
    scores[(classes[0] >= 0)[:, None] & (classes[0][:, None] != classes[1][None])] = -np.inf
    guess = scores.argmax(axis=1)
    rows = np.arange(len(scores))
    best = scores[rows, guess]
    back = scores.argmax(axis=0)
    scores[rows, guess] = -np.inf
    with np.errstate(invalid="ignore"):
        lead = best - scores.max(axis=1)
    sure = np.isfinite(best) & (lead >= _SURE) & (back[guess] == rows)
    guess[~np.isfinite(best)] = -1
    guess[pairs[0]] = pairs[1]
    sure[pairs[0]] = False
    return guess, np.flatnonzero(sure)


def _places(persons: Ints, among: Ints) -> Ints:
    """Return where each person is in `among`, int64[N]; -1 where not."""
    order = np.argsort(among)
    at = np.minimum(np.searchsorted(among[order], persons), len(among) - 1)
    found: Ints = np.where(among[order][at] == persons, order[at], -1)
    return found
