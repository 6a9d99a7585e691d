"""
The readable reference of `solve`: the same rule with sets. Slow; a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Record = tuple[str, int]
Pair = tuple[Record, Record]


def solve(
    records: Iterable[Record],
    pairs: Sequence[tuple[Pair, float]],
    *,
    threshold: float,
    same: Iterable[Pair] = (),
    different: Iterable[Pair] = (),
) -> set[frozenset[Record]]:
    """
    Return the entities of these records, each the only or first one of its group.

    pairs: with their probabilities, parties of a pair in sorted order. same, different: as
    asserted; `same` goes first, pairs that are `different` never meet.
    """
    entity = {record: frozenset([record]) for record in records}
    apart = {frozenset(pair) for pair in different}
    accepted = sorted((one for one in pairs if one[1] >= threshold), key=_best_first)
    for left, right in [*same, *(pair for pair, _ in accepted)]:
        one, other = entity[left], entity[right]
        meeting = {party for party, _ in one} & {party for party, _ in other}
        forbidden = any(frozenset([a, b]) in apart for a in one for b in other)
        if one != other and not meeting and not forbidden:
            entity |= dict.fromkeys(one | other, one | other)
    return set(entity.values())


def _best_first(one: tuple[Pair, float]) -> tuple[float, str, str, int, int]:
    ((party, row), (other, other_row)), probability = one
    return -probability, party, other, row, other_row
