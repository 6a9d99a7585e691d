"""
A number for every set of persons, always the same, that nobody outside the enclave can foresee.

    blur = Blur(key, reach=6)
    len(persons) + blur.of(tags, reach=blur.reach_of(len(persons)))     how many, give or take

Rounding alone is foreseen: who knows 17 of 18 persons sees by 15 or 20 whether the last is there.
So a count moves first, by an amount that an HMAC under the enclave's own key draws from the very
persons counted. The same persons move alike however the question was worded, whoever asked and
however often, so repeating it averages nothing; other persons move differently. Amounts follow a
two-sided geometric distribution cut at `reach` whose ratio is exp(3 / reach): one person more or
less makes any amount at most that much likelier (e^0.5 = 1.65 for 6), but for the outermost, 1.3 %.
Counts above 25 reaches move further, by a 25th of themselves at most: who knows hundreds
of members is told no more than who knows twenty.
Sources: cell keys, Thompson, Broadfoot and Elazar 2013 (ABS TableBuilder); geometric mechanism,
Ghosh, Roughgarden and Sundararajan 2012, doi:10.1137/09076828X. Remaining weakness: who gets many
answers about one person, each among other persons all known to him, averages it out
(Asghar and Kaafar 2020, doi:10.2478/popets-2020-0021); sites.cohort.spent limits these.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
import itertools
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from linkage.errors import KeyRefused

Tags = np.ndarray[Any, np.dtype[np.uint64]]
"""A number a person, by `Blur.tags`; of a set, in any order."""

STEEPNESS = 3.0
"""Steps of e from the likeliest amount to the outermost."""
SHARE = 25
"""A count may move by one of so many persons, where that is more than the reach."""


class Blur:
    """
    The amounts that sets of persons move by. reach: the largest, 0 for none. repr and pickle hide
    the key.
    """

    def __init__(self, key: bytes, reach: int) -> None:
        self._key, self.reach = key, reach

    def __repr__(self) -> str:
        return f"Blur(<hidden>, reach={self.reach})"

    def __reduce__(self) -> NoReturn:
        raise KeyRefused("the key of a blur is not pickled")

    def tags(self, names: Iterable[str]) -> Tags:
        """Return what stands for persons in sets: 64 bits each, the same for the same name."""
        # BLAKE2b with a key, RFC 7693: a million names in a second, where HMAC takes several.
        start = hashlib.blake2b(key=self._key, digest_size=8, person=b"person")
        found = bytearray()
        for name in names:
            one = start.copy()
            one.update(name.encode())
            found += one.digest()
        return np.frombuffer(bytes(found), ">u8").astype(np.uint64)

    def reach_of(self, count: int) -> int:
        """Return the largest amount by which a count of so many persons moves."""
        return max(self.reach, count // SHARE) if self.reach else 0

    def of(self, tags: Tags, *, label: str = "count", reach: int | None = None) -> int:
        """
        Return the amount of a set, -reach to reach. label: what the set is used for; reach: the
        blur's own if not said.
        """
        reach = self.reach if reach is None else reach
        if not reach:
            return 0
        told = label.encode() + b"\0" + np.sort(tags).astype(">u8").tobytes()
        drawn = int.from_bytes(hmac.digest(self._key, told, "sha256")[:8], "big") / 2**64
        return min(bisect.bisect_right(_below(reach), drawn), 2 * reach) - reach

    def name_of(self, bits: bytes) -> bytes:
        """Return 16 bytes that stand for a set of persons, given as bits by their numbers."""
        return hashlib.blake2b(bits, key=self._key, digest_size=16, person=b"set").digest()


@lru_cache(maxsize=64)
def _below(reach: int) -> list[float]:
    """Return the share of amounts up to -reach, up to 1 - reach, and so on."""
    ratio = math.exp(-STEEPNESS / reach)
    weights = [ratio ** abs(amount) for amount in range(-reach, reach + 1)]
    whole = sum(weights)
    return [total / whole for total in itertools.accumulate(weights)]
