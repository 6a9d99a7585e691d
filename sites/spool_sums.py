"""
Checksums of the files of a batch: whether the disk still holds what was written.

    sum_of(head, values)

They tell a file that was cut short or blanked by a power failure, not one that somebody changed:
whoever can write there owns the site. Where words are added up and multiplied, reading the memory
is what takes the time; zlib's CRC took as long as writing the file.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

_LANES = 4
_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that no multiplication loses a bit: a file in which one word differs has another sum."""
_LANE_BYTES = 8 * _LANES
_MOST = (1 << 64) - 1


def sum_of(*pieces: bytes | memoryview) -> int:
    """
    Return the sum of the pieces as if they were one, below 2^64.

    All pieces but the last one have a multiple of 32 bytes. Equal to `sum_reference`.
    """
    sums = np.arange(_LANES, dtype=np.uint64)
    size = 0
    for piece in pieces:
        if size % _LANE_BYTES:
            raise ValueError(f"a piece before the last one has no multiple of {_LANE_BYTES} bytes")
        size += len(piece)
        whole = len(piece) - len(piece) % _LANE_BYTES
        if whole:
            words = np.frombuffer(piece, np.uint64, count=whole // 8)
            words.setflags(write=False)  # or the loop would be compiled once more
            _add(words, sums)
        if whole < len(piece):
            _add(np.frombuffer(_padded(bytes(piece[whole:])), np.uint64), sums)
    return _folded(sums.tolist(), size)


def sum_reference(data: bytes) -> int:
    """Return the same as `sum_of`, word by word."""
    sums = list(range(_LANES))
    words = np.frombuffer(_padded(data), np.uint64).tolist()
    for place, word in enumerate(words):
        lane = place % _LANES
        sums[lane] = (sums[lane] + word) * _FACTOR & _MOST
    return _folded(sums, len(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _LANE_BYTES)


def _folded(sums: list[int], size: int) -> int:
    total = size
    for one in sums:
        total = (total + one) * _FACTOR & _MOST
    return total


@numba.njit(nogil=True, cache=True)
def _add(words: npt.NDArray[np.uint64], sums: npt.NDArray[np.uint64]) -> None:
    """Add words, uint64[4 x], into sums, uint64[4]. Four names: they stay in registers."""
    a, b, c, d = sums[0], sums[1], sums[2], sums[3]
    factor = np.uint64(_FACTOR)
    for at in range(0, len(words), _LANES):
        a = (a + words[at]) * factor
        b = (b + words[at + 1]) * factor
        c = (c + words[at + 2]) * factor
        d = (d + words[at + 3]) * factor
    sums[0], sums[1], sums[2], sums[3] = a, b, c, d
