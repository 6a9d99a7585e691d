"""
How birth dates are spread: years, days of the month, days of the year.

    shape = DateShape()
    shape.add(["19420409"], counts)
    shape.by_year[1942]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

MONTHS, DAYS = 13, 32
"""Places in a table by month and day; row 0 and column 0 stay empty."""


@dataclass(slots=True)
class DateShape:
    """by_year: records by year of birth. by_day: int64[13, 32], records by month and day."""

    by_year: Counter[int] = field(default_factory=Counter)
    by_day: Counts = field(default_factory=lambda: np.zeros((MONTHS, DAYS), np.int64))

    def add(self, values: Sequence[str], counts: Counts) -> None:
        """Add normalised dates (YYYYMMDD), none empty, and how many records hold each."""
        if not len(values):
            return
        numbers = np.array(values, dtype="U8").astype(np.int64)
        np.add.at(self.by_day, (numbers // 100 % 100, numbers % 100), counts)
        years, place = np.unique(numbers // 10_000, return_inverse=True)
        for year, count in zip(
            years.tolist(), np.bincount(place, weights=counts).tolist(), strict=True
        ):
            self.by_year[year] += int(count)

    @property
    def records(self) -> int:
        """Records with a date."""
        return self.by_year.total()

    def by_day_of_month(self) -> list[int]:
        """Return the records of day 1, 2, ... 31."""
        return [int(n) for n in self.by_day.sum(axis=0)[1:]]

    def by_decade(self) -> dict[int, int]:
        """Return records by decade of birth (1940), from the first to the last, gaps as 0."""
        if not self.by_year:
            return {}
        made = dict.fromkeys(range(min(self.by_year) // 10 * 10, max(self.by_year) + 1, 10), 0)
        for year, count in self.by_year.items():
            made[year // 10 * 10] += count
        return made

    def born_by(self, year: int) -> int:
        """Return the records born in `year` or before."""
        return sum(count for one, count in self.by_year.items() if one <= year)
