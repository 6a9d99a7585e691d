"""
Match keys as a graph: who is unique by structure alone, and what repeated keys give away.

    unique_by_structure([imaging, enclave])             # as the broker sees both together
    unique_by_structure([imaging, enclave], fillers=True)
    repeated_keys(imaging)

Match keys are equal under any study key where the fields are, so an attacker with a list of the
people can draw the same graph as the broker sees: records, and who shares which rule's key with
whom. Colour refinement gives each record a colour by its dataset, by what it lacks and by its
neighbours' colours, round after round until no class splits any more; a record alone in its
class is named without any key. That the list has every typing error and gap of the datasets is
the worst case: real attackers know less. Any method that tells more records apart than this
needs cycles in the graph, which pairs and small families hardly have.

Sources: Weisfeiler and Leman 1968 (1-WL); colour refinement as an attack on graphs: Hay,
Miklau, Jensen, Towsley and Weis, "Resisting structural re-identification", VLDB 2008.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.records import EncodedRecords, FixedColumn

Colours = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_MOST_PAIRED = 8
"""Values with more holders are kept whole; pairs of their holders would grow with the square."""

_MOST_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class UniqueByStructure:
    """
    How many of `records` have a colour of their own.

    classes: different colours; rounds: until none split; unique_by_dataset: in the order given.
    """

    records: int
    unique: int
    classes: int
    rounds: int
    unique_by_dataset: tuple[int, ...]

    @property
    def share(self) -> float:
        """Unique records by all records, in [0, 1]; 0.0 of none."""
        return self.unique / self.records if self.records else 0.0

    def as_json(self) -> dict[str, int | float | list[int]]:
        """Return the counts and the share."""
        return {
            "records": self.records,
            "unique": self.unique,
            "classes": self.classes,
            "rounds": self.rounds,
            "unique_by_dataset": list(self.unique_by_dataset),
            "share": self.share,
        }


@dataclass(frozen=True, slots=True)
class RepeatedKeys:
    """
    What the frequencies of one rule's keys in one dataset show.

    values: different keys; repeated: of them, held by two groups or more; most: groups that hold
    the most frequent one; records: with a repeated key; named: with a key that no other key is
    as frequent as, so that a list of the people names its value (frequency alignment).
    """

    values: int
    repeated: int
    most: int
    records: int
    named: int


def unique_by_structure(
    datasets: Sequence[EncodedRecords],
    *,
    rules: Collection[str] | None = None,
    fillers: bool = False,
    clk_fillers: bool = False,
) -> UniqueByStructure:
    """
    Return how many records of all datasets together have a colour of their own.

    rules: only these, by default all. fillers: null keys look like keys that nobody shares;
    clk_fillers: who lacks a CLK does not show. Pseudonyms and bits of CLKs are not looked at.
    """
    colours = refined(datasets, rules=rules, fillers=fillers, clk_fillers=clk_fillers)
    _, place, counts = np.unique(colours.colours, return_inverse=True, return_counts=True)
    alone = counts[place] == 1
    ends = np.cumsum([0, *map(len, datasets)])
    per = [int(alone[low:high].sum()) for low, high in pairwise(ends)]
    return UniqueByStructure(len(alone), int(alone.sum()), len(counts), colours.rounds, tuple(per))


def named_by_structure(
    seen: Sequence[EncodedRecords],
    listed: Sequence[EncodedRecords],
    who: tuple[Ints, Ints],
    *,
    rules: Collection[str] | None = None,
    fillers: bool = False,
    clk_fillers: bool = False,
) -> Reidentified:
    """
    Return how many records an attacker names rightly who knows who is in which dataset, but has
    a list of his own and not the datasets' mistakes: what of `unique_by_structure` is left to him.

    seen, listed: the same datasets in the same order, under any keys. who: the person of each
    record seen and listed, int64. He names a record whose colour is unique on both sides.
    """
    refine = partial(refined, rules=rules, fillers=fillers, clk_fillers=clk_fillers)
    full = [refine(side) for side in (seen, listed)]
    depth = min(one.rounds for one in full)
    sides = []
    for side, fully in zip((seen, listed), full, strict=True):
        colours = (fully if fully.rounds == depth else refine(side, rounds=depth)).colours
        values, first, counts = np.unique(colours, return_index=True, return_counts=True)
        sides.append((values[counts == 1], first[counts == 1]))
    _, one, other = np.intersect1d(sides[0][0], sides[1][0], return_indices=True)
    right = who[0][sides[0][1][one]] == who[1][sides[1][1][other]]
    return Reidentified(n=len(who[0]), correct=int(right.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """colours: uint64[records of all datasets, in order]; rounds: until no class split."""

    colours: Colours
    rounds: int


def refined(
    datasets: Sequence[EncodedRecords],
    *,
    rules: Collection[str] | None = None,
    fillers: bool = False,
    clk_fillers: bool = False,
    rounds: int = _MOST_ROUNDS,
) -> Refined:
    """
    Return the stable colours of all records, the same for the same structure in any order.

    Colours of two calls can be compared, if the datasets are in the same order and `rounds` is
    the smaller one's: so an attacker lays his list beside what he sees.
    """
    if not datasets:
        raise LinkageError("structure needs at least one dataset")
    names = sorted({rule for one in datasets for rule in one.match_keys})
    names = [rule for rule in names if rules is None or rule in rules]
    colours = _first_colours(datasets, [] if fillers else names, clk_fillers)
    edges = _Edges.of(datasets, names)
    classes, done = len(np.unique(colours)), 0
    while done < rounds:
        finer = edges.spread(colours)
        count = len(np.unique(finer))
        # Hashes carry the old colour on, so classes only ever split.
        if count <= classes:
            break
        colours, classes, done = finer, count, done + 1
    return Refined(colours, done)


def repeated_keys(column: FixedColumn, groups: npt.NDArray[np.uint32]) -> RepeatedKeys:
    """
    Return what an attacker learns of one rule's keys in one dataset by counting them.

    column: keys of N records. groups: uint32[N], equal for the records of one person: a key that
    repeats inside a group tells nothing new. After a site's nulling nothing repeats.
    """
    rows = np.flatnonzero(column.present)
    values, code = np.unique(_folded(column.values[rows]), return_inverse=True)
    pairs = np.unique(code.astype(np.uint64) << np.uint64(32) | groups[rows])
    holders = np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(values))
    alike = np.bincount(holders)
    lone = (holders > 1) & (alike[holders] == 1)
    return RepeatedKeys(
        values=len(values),
        repeated=int((holders > 1).sum()),
        most=int(holders.max(initial=0)),
        records=int((holders[code] > 1).sum()),
        named=int(lone[code].sum()),
    )


def _first_colours(
    datasets: Sequence[EncodedRecords], rules: Sequence[str], clk_fillers: bool
) -> Colours:
    """Return colours by dataset, by which of `rules` and, but for fillers, CLKs are null."""
    parts = []
    for place, one in enumerate(datasets):
        colour = np.full(len(one), place + 1, np.uint64)
        for rule in rules:
            if rule in one.match_keys:
                colour = _mixed(colour * np.uint64(2) + one.match_keys[rule].present)
        for clk in () if clk_fillers else sorted(one.clks):
            colour = _mixed(colour * np.uint64(2) + one.clks[clk].present)
        parts.append(_mixed(colour))
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """
    Who shares keys with whom. rows, other: int64[E], pairs both ways, ordered by row; label:
    uint64[E], which rules (and group) they share. crowded: values with many holders, each as
    rule, rows ordered by value, and where each value's begin.
    """

    rows: Ints
    other: Ints
    label: Colours
    crowded: tuple[tuple[np.uint64, Ints, Ints], ...]

    @classmethod
    def of(cls, datasets: Sequence[EncodedRecords], rules: Sequence[str]) -> _Edges:
        starts = np.cumsum([0, *map(len, datasets)])
        n = int(starts[-1])
        pairs: list[Ints] = []
        labels: list[Colours] = []
        crowded: list[tuple[np.uint64, Ints, Ints]] = []
        sets = [_holders_of_groups(datasets, starts)]
        sets += [_holders_of_keys(datasets, starts, rule) for rule in rules]
        for salt, (value, rows) in enumerate(sets):
            rule = _mixed(np.array([salt + 1], np.uint64))[0]
            order = np.argsort(value, kind="stable")
            value, rows = value[order], rows[order]
            begins = np.flatnonzero(np.r_[True, value[1:] != value[:-1]]) if len(value) else value
            sizes = np.diff(np.r_[begins, len(value)]).astype(np.int64)
            for size in range(2, _MOST_PAIRED + 1):
                at = begins[sizes == size].astype(np.int64)
                for i in range(size):
                    for j in range(size):
                        if i != j and len(at):
                            pairs.append(rows[at + i] * n + rows[at + j])
                            labels.append(np.full(len(at), rule))
            many = np.repeat(sizes > _MOST_PAIRED, sizes)
            if many.any():
                kept = sizes[sizes > _MOST_PAIRED]
                crowded.append((rule, rows[many], np.cumsum(np.r_[0, kept[:-1]])))
        if not pairs:
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros(0, np.uint64), tuple(crowded))
        pair, label = np.concatenate(pairs), np.concatenate(labels)
        order = np.argsort(pair, kind="stable")
        pair, label = pair[order], label[order]
        begins = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]])
        pair, label = pair[begins], np.add.reduceat(label, begins)
        return cls(pair // n, pair % n, label, tuple(crowded))

    def spread(self, colours: Colours) -> Colours:
        """Return each record's next colour: its own and, by label, those of its neighbours."""
        made = _mixed(colours)
        if len(self.rows):
            near = _mixed(colours[self.other] + self.label)
            begins = np.flatnonzero(np.r_[True, self.rows[1:] != self.rows[:-1]])
            made[self.rows[begins]] += np.add.reduceat(near, begins)
        for rule, rows, begins in self.crowded:
            sums = _mixed(np.add.reduceat(_mixed(colours[rows] + rule), begins))
            made[rows] += np.repeat(sums, np.diff(np.r_[begins, len(rows)]))
        return _mixed(made)


def _holders_of_keys(
    datasets: Sequence[EncodedRecords], starts: Ints, rule: str
) -> tuple[Colours, Ints]:
    """Return values and rows of the records with a key of the rule."""
    values, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for one, start in zip(datasets, starts[:-1], strict=True):
        if rule in one.match_keys:
            column = one.match_keys[rule]
            here = np.flatnonzero(column.present)
            values.append(_folded(column.values[here]))
            rows.append(here + start)
    return np.concatenate(values), np.concatenate(rows)


def _holders_of_groups(datasets: Sequence[EncodedRecords], starts: Ints) -> tuple[Colours, Ints]:
    """Return groups, told apart by dataset, and rows."""
    places = enumerate(datasets)
    values = [one.groups.astype(np.uint64) + np.uint64(place << 32) for place, one in places]
    return np.concatenate(values), np.arange(int(starts[-1]))


def _folded(keys: npt.NDArray[np.uint8]) -> Colours:
    """Return 64 of the 128 bits of each key, mixed: two of a million clash once in 10^7 runs."""
    halves = np.ascontiguousarray(keys).view(np.uint64).reshape(len(keys), 2)
    folded: Colours = _mixed(halves[:, 0]) + halves[:, 1]
    return folded


def _mixed(numbers: Colours) -> Colours:
    """Return numbers without order: SplitMix64's finisher (Steele, Lea and Flood 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Colours = z ^ (z >> np.uint64(31))
    return mixed
