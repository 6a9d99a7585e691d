"""
From values to tokens, and from tokens to positions in a filter, as clkhash has them.

    cutter = NgramCutter(2, blake_positions(key, 2048, 50))
    starts, numbers, positions = cutter.cut(["ann", "lee"])

ASCII text is cut by a compiled kernel that sees an n-gram as a number; other text, long n-grams
and other comparisons go through plain Python, which is also the reference for the kernel.

Source: clkhash's comparators.py and bloomfilter.py for the bytes; Schnell, Bachteler and Reiher
2009 for double hashing, whose weakness (Kroll and Steinmetzer 2015) is why studies do not use it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

from linkage.encoding.columns import Coded

Positions = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
"""unsigned[T, k]: the first k positions of each token, mirrored for little-endian words."""
Hasher = Callable[[Sequence[str]], Positions]
Cut = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Positions]

_BLAKE_WORDS = 32
"""16-bit words in one BLAKE2b digest: clkhash takes one position from each."""
_LONGEST_TABLE = 3
"""Longest n-gram that is looked up in a table of 128^n numbers."""


class Cutter(Protocol):
    """
    Cuts values into tokens: starts int64[U + 1] says where each value's tokens begin in numbers,
    int32[starts[-1]], which are rows of positions. A cutter may keep tokens, never a value.
    """

    def cut(self, values: Sequence[str]) -> Cut:
        """Return starts, numbers and positions; "" has no token."""
        ...

    def cut_column(self, column: Coded) -> Cut:
        """Return the same of a column's values."""
        ...


class TokenCutter:
    """Cuts with any function from a value to its tokens, in plain Python."""

    def __init__(self, tokens_of: Callable[[str], Iterable[str]], hasher: Hasher) -> None:
        self._tokens_of, self._hasher = tokens_of, hasher

    def cut(self, values: Sequence[str]) -> Cut:
        """As Cutter says. Nothing is kept."""
        known: dict[str, int] = {}
        starts, numbers = [0], []
        for value in values:
            numbers += [known.setdefault(token, len(known)) for token in self._tokens_of(value)]
            starts.append(len(numbers))
        return np.array(starts, np.int64), np.array(numbers, np.int32), self._hasher(list(known))

    def cut_column(self, column: Coded) -> Cut:
        """As Cutter says."""
        return self.cut(column.values)


class NgramCutter:
    """
    Cuts into n-grams of the value padded by n - 1 blanks at both ends, in order.

    Keeps the positions of every ASCII n-gram it has met: a language has a few thousand.
    """

    def __init__(self, n: int, hasher: Hasher) -> None:
        self._n, self._hasher = n, hasher
        self._slow = TokenCutter(lambda value: ngrams(value, n), hasher)
        fast = n <= _LONGEST_TABLE
        self._table = np.full(128**n if fast else 0, -1, np.int32)
        self._positions = hasher([])

    def cut(self, values: Sequence[str]) -> Cut:
        """As Cutter says. Equal to TokenCutter with `ngrams` but for the numbers of tokens."""
        return self.cut_column(Coded(np.zeros(0, np.int32), list(values)))

    def cut_column(self, column: Coded) -> Cut:
        """As Cutter says."""
        if not len(self._table):
            return self._slow.cut(column.values)
        letters, places = column.letters
        letters = letters[places[0] : places[-1]]
        if len(letters) and letters.max() > 127:
            return self._slow.cut(column.values)
        starts, grams = _cut_ascii(letters, np.diff(places), self._n)
        numbers = self._table[grams]
        if len(numbers) and numbers.min() < 0:
            self._learn(np.unique(grams[numbers < 0]))
            numbers = self._table[grams]
        return starts, numbers, self._positions

    def _learn(self, grams: npt.NDArray[np.int32]) -> None:
        shifts = range(7 * (self._n - 1), -1, -7)
        tokens = ["".join(chr(gram >> s & 127) for s in shifts) for gram in grams.tolist()]
        first = len(self._positions)
        self._positions = np.concatenate([self._positions, self._hasher(tokens)])
        self._table[grams] = np.arange(first, first + len(tokens), dtype=np.int32)


def ngrams(value: str, n: int) -> list[str]:
    """Return the n-grams of a value padded by n - 1 blanks at both ends; none of ""."""
    if not value:
        return []
    pad = " " * (n - 1)
    padded = f"{pad}{value}{pad}"
    return [padded[i : i + n] for i in range(len(padded) - n + 1)]


def positional_ngrams(value: str, n: int) -> list[str]:
    """Return the n-grams of a value, each after its place from 1 and a blank."""
    return [f"{place} {gram}" for place, gram in enumerate(ngrams(value, n), start=1)]


def blake_positions(key: bytes, length: int, k: int, encoding: str = "utf-8") -> Hasher:
    """
    Return clkhash's blakeHash: the first k positions of tokens, below `length`.

    key: 1 to 64 bytes. length: a power of two. Position j is word j % 32, 16 bits least
    significant byte first, of keyed BLAKE2b-512 of the token, salt the digits of j // 32.
    """
    salts = [str(i).encode("ascii") for i in range(-(-k // _BLAKE_WORDS))]

    def hasher(tokens: Sequence[str]) -> Positions:
        stream = b"".join(
            blake2b(data, key=key, salt=salt).digest()
            for data in (token.encode(encoding) for token in tokens)
            for salt in salts
        )
        words = np.frombuffer(stream, "<u2").reshape(len(tokens), len(salts) * _BLAKE_WORDS)
        return _mirrored((words & np.uint16(min(length, 1 << 16) - 1)).astype(np.uint16))

    return hasher


def double_hash_positions(
    keys: tuple[bytes, bytes],
    length: int,
    k: int,
    encoding: str = "utf-8",
    *,
    prevent_singularity: bool = False,
) -> Hasher:
    """
    Return clkhash's doubleHash: position i is (HMAC-SHA-1 + i x HMAC-MD5) mod length.

    keys: of HMAC-SHA-1 and of HMAC-MD5. prevent_singularity: a second hash of 0 mod length is
    drawn again, over the token followed by U+0000, U+0001 and so on; needs a length of 2 or more.
    """
    steps = np.arange(k, dtype=np.int64)

    def hasher(tokens: Sequence[str]) -> Positions:
        found = np.zeros((len(tokens), k), np.int64)
        for row, token in enumerate(tokens):
            data = token.encode(encoding)
            first = int.from_bytes(hmac.digest(keys[0], data, "sha1"), "big") % length
            step = int.from_bytes(hmac.digest(keys[1], data, "md5"), "big") % length
            again = 0
            while step == 0 and prevent_singularity:
                more = hmac.digest(keys[1], data + chr(again).encode(), "md5")
                step, again = int.from_bytes(more, "big") % length, again + 1
            found[row] = (first + steps * step) % length
        short = length <= 1 << 16
        return _mirrored(found.astype(np.uint16) if short else found.astype(np.uint32))

    return hasher


def _mirrored(positions: Positions) -> Positions:
    """Bit i of a CLK is bit 7 - i % 8 of its byte: in a little-endian word, its place mirrored."""
    return positions ^ positions.dtype.type(7)


@numba.njit(nogil=True, cache=True)
def _cut_ascii(letters, lengths, n):  # type: ignore[no-untyped-def]
    """
    Return starts, int64[U + 1], and n-grams as numbers to base 128, int32[starts[-1]].

    letters: uint8, the values joined; lengths: int64[U].
    """
    starts = np.zeros(len(lengths) + 1, np.int64)
    for value in range(len(lengths)):
        grams = lengths[value] + n - 1 if lengths[value] else 0
        starts[value + 1] = starts[value] + grams
    found = np.empty(starts[-1], np.int32)
    rest = (1 << (7 * (n - 1))) - 1
    blanks = 0
    for _ in range(n - 1):
        blanks = blanks << 7 | 32
    read = 0
    for value in range(len(lengths)):
        gram = blanks
        for place in range(starts[value + 1] - starts[value]):
            letter = 32
            if place < lengths[value]:
                letter = letters[read]
                read += 1
            gram = (gram & rest) << 7 | letter
            found[starts[value] + place] = gram
    return starts, found
