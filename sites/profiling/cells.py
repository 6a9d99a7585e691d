"""
Tables of people by group in which no cell of one to nine can be read or worked out.

    shown = protect([[3, 97], [40, 960]])     # shown[0][0] is Cell(0, 9), printed as "<10"

A cell of 1 to 9 is only said to be below ten, and so is an empty one beside it. Row and column
sums are taken for known, so other cells are told as a span too, until what the sums say leaves at
least five possible counts for each small cell (or as many as with everything hidden). A span
follows a public ladder of shares, so that it says nothing of the count it hides. Interval bounds
by sums: Buzzigoli and Giusti 1999 (the shuttle algorithm).

Remaining weakness: tables are protected one by one. Whoever subtracts two *different* tables (this
match key, that match key) may learn that few people have one and not the other. And whoever
retraces these steps learns a little from which of them were needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SMALL = 10
"""A count of people from 1 to one below this is never shown."""

POSSIBLE = 5
"""Counts that must remain possible for a small cell, where the sums alone allow as many."""

LADDERS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 100),
    (0, 5, 25, 50, 75, 95, 100),
    (0, 50, 100),
)
"""Percents between which a count is told, finest first; both ends belong to a span."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A count as it may be told: `low` to `high`, both included; exact where they are equal."""

    low: int
    high: int

    @property
    def exact(self) -> bool:
        """Whether the count itself is told."""
        return self.low == self.high


FEW = Cell(0, SMALL - 1)
"""How a small cell is told; in the same row none at all looks like it, or one could be told."""

_EXACT, _COARSEST = -1, len(LADDERS)


def small(count: int) -> bool:
    """Return whether a count of people must not be told: 1 to 9."""
    return 0 < count < SMALL


def protect(
    counts: Sequence[Sequence[int]], people: Sequence[int] | None = None
) -> list[list[Cell]]:
    """
    Return R rows of K cells as they may be told to somebody who knows all row and column sums.

    counts: R x K people, each person in one cell; the rows are groups, K >= 2 the outcomes.
    people: by row, its people (default: its sum); rows of many are blurred before rows of few, for
    there a span says most.
    """
    size = people or [sum(row) for row in counts]
    used = [j for j, column in enumerate(zip(*counts, strict=True)) if any(column)]
    told = _protected([[row[j] for j in used] for row in counts], size)
    made = [[Cell(0, 0)] * len(row) for row in counts]
    for row, cells in zip(made, told, strict=True):
        for j, cell in zip(used, cells, strict=True):
            row[j] = cell
    return made


def protect_sizes(sizes: Sequence[int]) -> list[Cell]:
    """Return the sizes of groups, whose sum is known, as they may be told."""
    total = sum(sizes)
    return [row[0] for row in protect([[size, total - size] for size in sizes], sizes)]


def _protected(counts: Sequence[Sequence[int]], size: Sequence[int]) -> list[list[Cell]]:
    wanted = _widths(counts, [_row(row, _COARSEST) for row in counts])
    steps = [0 if any(map(small, row)) else _EXACT for row in counts]
    while True:
        told = [_row(row, step) for row, step in zip(counts, steps, strict=True)]
        found = _widths(counts, told)
        if all(n >= min(POSSIBLE - 1, most) for n, most in zip(found, wanted, strict=True)):
            return told
        coarser = [i for i, step in enumerate(steps) if step < _COARSEST]
        if not coarser:
            return told
        at = min(coarser, key=lambda i: (steps[i], -size[i], i))
        steps[at] += 1


def _row(counts: Sequence[int], step: int) -> list[Cell]:
    """Return a row as it is told at a step: exact, by a ladder, or (the coarsest) not at all."""
    total = sum(counts)
    if step == _EXACT:
        return [Cell(count, count) for count in counts]
    if total < SMALL or step == _COARSEST:
        return [Cell(0, total) for _ in counts]
    made = [FEW if n < SMALL else _span(n, total, LADDERS[step]) for n in counts]
    if len(made) == 2:  # of two outcomes the one is what the other leaves
        known = 1 if counts[1] < SMALL else 0
        made[1 - known] = Cell(total - made[known].high, total - made[known].low)
    return made


def _span(count: int, total: int, ladder: Sequence[int]) -> Cell:
    if not total:
        return Cell(0, 0)
    low = max(p for p in ladder if p * total <= count * 100)
    high = min(p for p in ladder if p * total >= count * 100)
    if low == high:  # exactly on a step: the span beside it that holds more
        i = ladder.index(low)
        low, high = (low, ladder[i + 1]) if i + 1 < len(ladder) else (ladder[i - 1], high)
    return Cell(-(-low * total // 100), high * total // 100)


def _widths(counts: Sequence[Sequence[int]], told: Sequence[Sequence[Cell]]) -> list[int]:
    """Return for each small cell, row by row, how far apart its bounds are."""
    column_sums = [sum(column) for column in zip(*counts, strict=True)]
    low, high = bounds(told, [sum(row) for row in counts], column_sums)
    return [
        high[i][j] - low[i][j]
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if small(count)
    ]


def bounds(
    told: Sequence[Sequence[Cell]], row_sums: Sequence[int], column_sums: Sequence[int]
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the least and the most that each cell can be, as a reader of the sums finds them."""
    low = [[cell.low for cell in row] for row in told]
    high = [[cell.high for cell in row] for row in told]
    lines = [([(i, j) for j in range(len(row))], row_sums[i]) for i, row in enumerate(told)]
    lines += [([(i, j) for i in range(len(told))], total) for j, total in enumerate(column_sums)]
    changed = True
    while changed:
        changed = False
        for places, total in lines:
            lows, highs = sum(low[i][j] for i, j in places), sum(high[i][j] for i, j in places)
            for i, j in places:
                least = max(low[i][j], total - (highs - high[i][j]))
                most = min(high[i][j], total - (lows - low[i][j]))
                if (least, most) != (low[i][j], high[i][j]):
                    lows, highs = lows + least - low[i][j], highs + most - high[i][j]
                    low[i][j], high[i][j], changed = least, most, True
    return low, high
