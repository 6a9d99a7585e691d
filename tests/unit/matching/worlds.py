"""Small simulated datasets of encoded records with known truth, without encoding anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import Dataset
from linkage.records import Bytes2D, EncodedRecords, FixedColumn

KEYS = ("key-a", "key-b", "key-c")


@dataclass(frozen=True)
class World:
    """Datasets, and by party the number of the person behind each record."""

    datasets: tuple[Dataset, ...]
    truth: dict[str, npt.NDArray[np.int64]]

    def named(self, party: str) -> Dataset:
        return next(d for d in self.datasets if d.party == party)


def world(
    *holdings: range,
    seed: int = 1,
    bits: int = 512,
    noise: float = 0.15,
    clk: str = "all",
    keys: tuple[str, ...] = KEYS,
) -> World:
    """
    Make one party ("a", "b", ...) for each range of persons it holds.

    A person's filter is random, half of its bits set; each party flips up to `noise` of them, more
    for some records than for others. A person's keys are its own; each party spoils a fifth.
    """
    draw = np.random.default_rng(seed)
    people = max((h.stop for h in holdings), default=0)
    filters = draw.random((people, bits)) < 0.5
    true_keys = {key: draw.integers(0, 256, (people, 16), dtype=np.uint8) for key in keys}
    datasets, truth = [], {}
    for number, held in enumerate(holdings):
        party = chr(ord("a") + number)
        person = draw.permutation(np.array(held, dtype=np.int64))
        flipped = draw.random((len(person), bits)) < draw.random((len(person), 1)) * noise
        columns = {}
        for key in keys:
            values = true_keys[key][person].copy()
            spoilt = draw.random(len(person)) < 0.2
            values[spoilt] = draw.integers(0, 256, (int(spoilt.sum()), 16), dtype=np.uint8)
            present = draw.random(len(person)) < 0.95
            values[~present] = 0
            columns[key] = FixedColumn(values, present)
        filled = {clk: full(np.packbits(filters[person] ^ flipped, axis=1))} if clk else {}
        datasets.append(dataset(party, len(person), filled, columns, seed=seed))
        truth[party] = person
    return World(tuple(datasets), truth)


def dataset(
    party: str,
    n: int,
    clks: dict[str, FixedColumn],
    keys: dict[str, FixedColumn] | None = None,
    *,
    groups: list[int] | None = None,
    collisions: dict[str, int] | None = None,
    seed: int = 1,
) -> Dataset:
    """Make one dataset with random pseudonyms; every record is a group of its own unless told."""
    draw = np.random.default_rng([seed, *party.encode()])
    return Dataset(
        party,
        EncodedRecords(
            pseudonyms=draw.integers(0, 256, (n, 16), dtype=np.uint8),
            groups=np.array(range(n) if groups is None else groups, dtype=np.uint32),
            clks=clks,
            match_keys=keys or {},
        ),
        dict.fromkeys(keys or {}, 0) if collisions is None else collisions,
    )


def full(values: Bytes2D) -> FixedColumn:
    """Make a column without nulls."""
    return FixedColumn(np.ascontiguousarray(values), np.ones(len(values), dtype=bool))
