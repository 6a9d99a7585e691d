"""
Small cells: which counts of people may be read, and what stands in place of the others.

    rule = CellRule(minimum=11, rounding=5)
    rule.show(7)                    "<11"
    rule.show(23)                   25
    rule.show_table({"female": 4, "male": 40, "unknown": 0})

Rules (docs/cohorts.md): 0 is shown; 1 to minimum - 1 never is; a table hides a second cell where
a margin would give the first away; a step is hidden where it differs from its neighbour by 1 to
minimum - 1 people; with `rounding`, every count is rounded to a multiple, always the same way.
Sources: N3C (complementary masking), CMS cell size policy, All of Us. Remaining weakness: a reader
of two answers that differ in one criterion learns their difference, and who knows all persons but
one reads that one at a limit. So counts of questions are decided by sites.cohort.shown_sets, and
this rule alone is for reports inside the enclave.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linkage.errors import Conflict

HIDDEN = "hidden"
"""Stands for a count that alone would be harmless, but would give another one away."""

TOO_FEW = "too few"
"""Stands in answers to questions for few persons, and for nobody where the study merges them."""

Shown = int | str


@dataclass(frozen=True, slots=True)
class CellRule:
    """
    minimum: the smallest count of people that may be read. rounding: 1 means exact.

    Raises Conflict for a minimum below 2 or a rounding outside 1 to minimum.
    """

    minimum: int = 11
    rounding: int = 1

    def __post_init__(self) -> None:
        if self.minimum < 2 or not 1 <= self.rounding <= self.minimum:
            raise Conflict(
                "the small-cell rule makes no sense",
                hint="minimum is 11 or more as the study says, rounding 1 to minimum",
            )

    def small(self, count: int) -> bool:
        """Return whether `count` is too few people to be read: 1 to minimum - 1."""
        return 0 < count < self.minimum

    def show(self, count: int) -> Shown:
        """
        Return a lone count as it may be read: itself, rounded, or "<minimum".

        Rounded to the nearest multiple, halves up, but never below the first multiple that is
        at least `minimum`, so that no small count seems to stand there.
        """
        if self.small(count):
            return f"<{self.minimum}"
        if count == 0 or self.rounding == 1:
            return count
        nearest = (2 * count + self.rounding) // (2 * self.rounding) * self.rounding
        return max(self.lowest, nearest)

    @property
    def lowest(self) -> int:
        """The smallest number above 0 that is ever shown."""
        return -(-self.minimum // self.rounding) * self.rounding

    def show_table(self, cells: Mapping[str, int]) -> dict[str, Shown] | None:
        """
        Return a one-way table whose sum is known as it may be read; None: not at all.

        If one cell or more is small, the smallest other cell above zero is hidden with it (all of
        them if several are the smallest: the order of a tie would tell), and all read "hidden",
        so nobody can tell which of them is small. None where the sum is small itself, or is so
        low that the hidden cells are known.
        """
        total = sum(cells.values())
        if not any(self.small(count) for count in cells.values()):
            return {name: self.show(count) for name, count in cells.items()}
        if self.small(total):
            return None
        next_up = min((n for n in cells.values() if n >= self.minimum), default=0)
        hidden = {name for name, n in cells.items() if self.small(n) or 0 < n == next_up}
        if sum(cells[name] for name in hidden) < len(hidden) - 1 + self.minimum:
            return None
        return {n: HIDDEN if n in hidden else self.show(count) for n, count in cells.items()}

    def show_steps(self, counts: Sequence[int]) -> list[Shown]:
        """
        Return falling counts, each contained in the one before, as they may be read.

        From the last, which matters most, upwards: a count that exceeds the next readable one by
        1 to minimum - 1 is hidden. Raises Conflict if a count grows.
        """
        if any(after > before for before, after in itertools.pairwise(counts)):
            raise Conflict("attrition grows from one step to the next", hint="report this as a bug")
        shown: list[Shown] = []
        below: int | None = None
        for count in reversed(counts):
            if self.small(count):
                shown.append(self.show(count))
            elif below is not None and self.small(count - below):
                shown.append(HIDDEN)
            else:
                shown.append(self.show(count))
                below = count
        return shown[::-1]
