"""
The compiled kernel: bits that four left filters have in common with 256 right ones, at once.

Right filters are turned into **planes**: plane k of a tile holds bit k of 256 rows. At each bit a
group of four left filters has one of 16 patterns, by which of the four are set, so the bits fall
into 15 **cells** (what none of the four has counts for nobody). A plane is added once, to its
cell; what a left filter has in common with 256 right ones is the sum of the eight cells that hold
it. So a plane is added once for four filters: at a density of .5, 15/32 of the additions that four
separate sums would take.

Cells of one row begin at 2^top - T, where T is the least intersection that can reach the bound in
this tile and 2^top exceeds every popcount. A row that reaches T shows as a carry into plane `top`.
Whoever shows is counted exactly, and only the exact count decides.

Where the bound is far from chance the first words of the filters are enough (`Layout.words`): who
lacks there more of the left filter's bits than the bound allows in all can be dismissed. Right rows
are sorted by popcount, so that T, which holds for a whole tile, is close to that of each row.

Source: the "method of four Russians", Arlazarov, Dinic, Kronrod and Faradzev 1970, over left rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import Words, popcounts
from linkage.matching.planes import (
    TILE,
    add,
    add_8,
    add_16,
    add_32,
    assign,
    first_8,
    first_16,
    first_32,
    popcount,
    reaches,
    trailing,
)

GROUP, CELLS = 4, 16
STEPS = (32, 16, 8)
"""Planes added by one piece of straight code."""
DEPTH = 16
"""Planes kept of a number: a sum of 4,096 bits above a start takes 14."""
SORTED = 4096
"""Right rows that are sorted among each other: a tile holds rows of one such stretch."""
SAMPLE = 16_384
"""Random pairs from which the number of words is chosen. It changes the time, never the answer."""
PLANE_COST, GROUP_COST, PAIR_COST = 0.6, 250.0, 25.0
"""Nanoseconds of one plane, of a group and tile, and of one exact count, on an AMD EPYC (Zen 3)."""
SUMS = (
    (16, 7, 15), (3, 3, 11), (17, 3, 16), (11, 11, 15), (11, 11, 9), (11, 11, 10), (11, 11, 12),
    (5, 5, 13), (9, 9, 5), (9, 9, 17), (12, 12, 16), (12, 12, 5), (6, 6, 14), (12, 12, 6),
    (10, 10, 6), (10, 10, 17), (11, 11, 13), (11, 11, 14),
)  # fmt: skip
"""
(into, a, b): sums of cells that rows share, 18 where seven cells a row would take 24. Cell 5 =
0b0101 holds the bits that the first and third row have, and so on; 16 and 17 are sums themselves.
"""
REST = (9, 10, 12, 11)
"""Where SUMS leaves the sum of all cells that a row shares with others."""

Floats = npt.NDArray[np.float64]
Plane = tuple[Floats, Floats, Floats, Floats]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Layout:
    """
    The right side, laid out once for any number of searches under one bound.

    words: of each filter that are in planes. order: int64[T * TILE], the row at each place of the
    tiles, -1 for none. tiles: uint64[T, 64 words + 1, TILE / 64]. stats: float64[T, 6], of a tile
    the least and greatest b and d, the greatest popcount and the greatest row number.
    """

    rows: Words
    b: Floats
    d: Floats
    words: int
    order: npt.NDArray[np.int64]
    tiles: npt.NDArray[np.uint64]
    stats: Floats


def lay_out(right: Words, b: Floats, d: Floats, words: int) -> Layout:
    """Return the right side as tiles of planes; b, d: its parts of the bound (dice.Bound)."""
    ones = popcounts(right)
    sequence = np.lexsort((ones, np.arange(len(right)) // SORTED))
    tiles = -(-len(right) // TILE)
    order = np.full(tiles * TILE, -1, np.int64)
    order[: len(right)] = sequence
    shape = (tiles, 64 * words + 1, TILE // 64)
    room = np.zeros(int(np.prod(shape)) + 8, np.uint64)
    start = -(room.ctypes.data // 8) % 8  # planes lie at multiples of 32 bytes
    planes = room[start : start + int(np.prod(shape))].reshape(shape)
    _transpose(right, order, planes)
    starts = np.arange(0, len(right), TILE)
    stats = np.empty((tiles, 6))
    for column, part in enumerate((b[sequence], d[sequence])):
        stats[:, 2 * column] = np.minimum.reduceat(part, starts)
        stats[:, 2 * column + 1] = np.maximum.reduceat(part, starts)
    stats[:, 4] = np.maximum.reduceat(ones[sequence], starts)
    stats[:, 5] = np.maximum.reduceat(sequence, starts)
    return Layout(right, b, d, words, order, planes, stats)


def words_needed(left: Words, right: Words, bound: Plane) -> int:
    """
    Return how many words of the filters are worth adding up, from a sample of pairs; all of them
    where the bound is close to chance.
    """
    a, b, c, d = bound
    size = min(SAMPLE, 64 + len(left) * len(right) // 64)
    draw = np.random.default_rng(1)
    i, j = draw.integers(0, len(left), size), draw.integers(0, len(right), size)
    allowed = popcounts(left)[i] - (a[i] * b[j] + c[i] * d[j])
    lacking = np.cumsum(np.bitwise_count(left[i] & ~right[j]), axis=1, dtype=np.int64)
    passing = (lacking <= allowed[:, None]).mean(axis=0)
    words = np.arange(1, left.shape[1] + 1)
    empty = 1.0 - np.bitwise_count(left[i]).mean() / 64.0
    planes = 64 * words * (1.0 - empty**GROUP)
    cost = (planes * PLANE_COST + GROUP_COST) / (GROUP * TILE) + passing * PAIR_COST
    return int(words[np.argmin(cost)])


def search(
    left: Words, a: Floats, c: Floats, layout: Layout, first: int, limit: int
) -> npt.NDArray[np.uint64]:
    """
    Return (left row, right row, ones) of the pairs that reach the bound, by left row, then right:
    uint64[P, 3]; more than `limit` of them, not all, if there are more.

    first: -1, or the right row that left row 0 is; then only right rows after a left row count.
    """
    size = 1 << 14
    while True:
        found = np.empty((size, 3), np.uint64)
        right = (layout.rows, layout.order, layout.tiles, layout.stats)
        bound = (a, layout.b, c, layout.d)
        # numba would free what it made itself after its last use by name: here it is held.
        numbers = np.zeros((CELLS + 2, DEPTH, TILE // 64), np.uint64)
        hits = int(
            _search(left, popcounts(left), right, layout.words, bound, first, numbers, found, limit)
        )
        if hits <= size:
            found = found[:hits]
            return found[np.argsort((found[:, 0] << np.uint64(40)) | found[:, 1])]
        size = hits


@numba.njit(cache=True, nogil=True)
def _transpose(rows, order, tiles):  # type: ignore[no-untyped-def]
    """
    Fill tiles, uint64[T, planes + 1, TILE / 64]: bit b of word w of plane k is bit k of row
    order[64 w + b] of the tile; -1 is no row. The plane after the last stays zero.
    """
    block = np.zeros(64, np.uint64)
    for t in range(len(tiles)):
        for w in range(TILE // 64):
            first = t * TILE + w * 64
            for word in range(tiles.shape[1] // 64):
                for b in range(64):
                    row = order[first + b]
                    block[b] = rows[row, word] if row >= 0 else np.uint64(0)
                # Hacker's Delight, section 7-3: swap ever smaller blocks over the diagonal.
                width, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
                while width:
                    one = np.uint64(0)
                    while one < np.uint64(64):
                        other = one + width
                        swap = ((block[one] >> width) ^ block[other]) & mask
                        block[one] ^= swap << width
                        block[other] ^= swap
                        one = (other + np.uint64(1)) & ~width
                    width >>= np.uint64(1)
                    mask ^= mask << width
                for b in range(64):
                    tiles[t, word * 64 + b, w] = block[b]


@numba.njit(cache=True, nogil=True)
def _sort_into_cells(left, first, words, cells, counts):  # type: ignore[no-untyped-def]
    """List the bits of each pattern of the group from row `first`: uint16 cells[CELLS, bits]."""
    counts[:] = 0
    none, every, one = np.uint64(0), ~np.uint64(0), np.uint64(1)
    for word in range(words):
        for cell in range(1, CELLS):
            bits = every
            for row in range(GROUP):
                mine = left[first + row, word] if first + row < len(left) else none
                bits &= mine if (cell >> row) & 1 else ~mine
            at = counts[cell]
            while bits:
                cells[cell, at] = word * 64 + np.int64(trailing(bits))
                bits &= bits - one
                at += 1
            counts[cell] = at


@numba.njit(cache=True, nogil=True)
def _program(left, group, words, counts, positions, cells, steps, scratch):  # type: ignore[no-untyped-def]
    """
    Write down which planes a group adds to which cell: positions uint16, cells uint8, one a step.

    steps: int64[6], how many steps there are: of 32 planes, the first ones of their cells, then the
    others; of 16 in the same way; of 8. Cells take turns, so that they pass over the planes of a
    tile together. Cells of one row begin with a number (`_search`), so all their steps are among
    the others. What is missing to full steps is the plane of zeros.
    """
    _sort_into_cells(left, group * GROUP, words, scratch, counts)
    parts = np.zeros((CELLS, 3), np.int64)
    begun = np.zeros(CELLS, np.bool_)
    done = np.zeros(CELLS, np.int64)
    for cell in range(1, CELLS):
        whole, left_over = counts[cell] // 32, counts[cell] % 32
        if left_over > 24:
            whole, left_over = whole + 1, 0
        parts[cell, 0] = whole
        parts[cell, 1] = left_over > 8
        parts[cell, 2] = 0 < left_over <= 8 or left_over > 16
        begun[cell] = cell & (cell - 1) == 0
    steps[:] = 0
    step, at = 0, 0
    for size in range(3):
        for others in range(2):
            for _ in range(parts[:, size].max() if others else 1):
                for cell in range(1, CELLS):
                    if not parts[cell, size] or (begun[cell] and not others):
                        continue
                    for k in range(done[cell], done[cell] + STEPS[size]):
                        positions[at] = scratch[cell, k] if k < counts[cell] else words * 64
                        at += 1
                    cells[step] = cell
                    step += 1
                    steps[2 * size + others] += 1
                    parts[cell, size] -= 1
                    done[cell] += STEPS[size]
                    begun[cell] = True


@numba.njit(cache=True, nogil=True)
def _bits_of(number):  # type: ignore[no-untyped-def]
    """Return how many planes hold a number."""
    bits = 0
    while number >> bits:
        bits += 1
    return bits


@numba.njit(cache=True, nogil=True)
def _depths(counts, top):  # type: ignore[no-untyped-def]
    """
    Return the planes of each number, those of each cell while it is filled and, a row for each of
    SUMS, (into, a, b, planes of a, planes of b), a the one with more.

    They hold for all groups, so that the CPU foresees every loop over planes.
    """
    most, depth = np.zeros(CELLS + 2, np.int64), np.zeros(CELLS + 2, np.int64)
    filled = np.full(CELLS, top + 1, np.int64)
    for cell in range(1, CELLS):
        most[cell] = counts[:, cell].max()
        # A step of 32 planes, which holds more than 24, writes five and the carry above them.
        depth[cell] = max(6 if most[cell] > 24 else 5, _bits_of(most[cell]))
        if cell & (cell - 1):
            filled[cell] = depth[cell]
    sums = np.zeros((len(SUMS), 5), np.int64)
    for k in range(len(SUMS)):
        into, a, b = SUMS[k]
        if depth[a] < depth[b]:
            a, b = b, a
        sums[k, 0], sums[k, 1], sums[k, 2], sums[k, 3], sums[k, 4] = into, a, b, depth[a], depth[b]
        most[into] = most[a] + most[b]
        depth[into] = min(depth[a] + 1, max(depth[a], _bits_of(most[into])))
    return depth, filled.astype(np.uint64), sums


@numba.njit(cache=True, nogil=True)
def _search(left, ones_left, right, words, bound, first, numbers, found, limit):  # type: ignore[no-untyped-def]
    """Fill `found` without order; return the number of hits, some number above `limit` if more."""
    rows, order, tiles, stats = right
    a, b, c, d = bound
    groups = -(-len(left) // GROUP)
    counts = np.zeros((groups, CELLS), np.int64)
    positions = np.zeros((groups, words * 64 + CELLS * STEPS[0]), np.uint16)
    cells = np.zeros((groups, words * 2 + 3 * CELLS), np.uint8)
    steps = np.zeros((groups, 6), np.int64)
    scratch = np.zeros((CELLS, words * 64), np.uint16)
    for g in range(groups):
        _program(left, g, words, counts[g], positions[g], cells[g], steps[g], scratch)
    outside = np.zeros(len(left), np.int64)  # ones of a left row that are in no plane
    for i in range(len(left)):
        for k in range(words, left.shape[1]):
            outside[i] += np.int64(popcount(left[i, k]))
    top = max(6, _bits_of(ones_left.max()))
    depth, filled, sums = _depths(counts, top)
    size = np.uint64(DEPTH * TILE // 8)
    base = np.uint64(numbers.ctypes.data)
    reached = np.zeros(TILE // 64, np.uint64)
    result = np.uint64(reached.ctypes.data)
    starts, possible = np.zeros(groups * GROUP, np.uint64), np.zeros(groups * GROUP, np.bool_)
    hits = 0
    for t in range(len(tiles)):
        planes = np.uint64(tiles[t].ctypes.data)
        low_b, high_b, low_d, high_d, most, last = stats[t]
        for i in range(len(left)):
            # Rounding keeps order, so this is at most the bound of every row of the tile.
            low = min(a[i] * low_b, a[i] * high_b) + min(c[i] * low_d, c[i] * high_d)
            low = np.ceil(min(max(low, 0.0), 65536.0))
            possible[i] = low <= min(ones_left[i], most) and (first < 0 or last > first + i)
            least = max(np.int64(low) - outside[i], 0)
            starts[i] = np.uint64(max((1 << top) - least, 0))
        for g in range(groups):
            begin = g * GROUP
            if not possible[begin : begin + GROUP].any():
                continue
            for row in range(GROUP):
                single = base + np.uint64(1 << row) * size
                assign(single, starts[begin + row], np.uint64(top + 1))
            at, step = np.uint64(positions[g].ctypes.data), 0
            for _ in range(steps[g, 0]):
                cell = np.uint64(cells[g, step])
                first_32(planes, at, base + cell * size, filled[cell])
                at, step = at + np.uint64(64), step + 1
            for _ in range(steps[g, 1]):
                cell = np.uint64(cells[g, step])
                add_32(planes, at, base + cell * size, filled[cell])
                at, step = at + np.uint64(64), step + 1
            for _ in range(steps[g, 2]):
                cell = np.uint64(cells[g, step])
                first_16(planes, at, base + cell * size, filled[cell])
                at, step = at + np.uint64(32), step + 1
            for _ in range(steps[g, 3]):
                cell = np.uint64(cells[g, step])
                add_16(planes, at, base + cell * size, filled[cell])
                at, step = at + np.uint64(32), step + 1
            for _ in range(steps[g, 4]):
                cell = np.uint64(cells[g, step])
                first_8(planes, at, base + cell * size, filled[cell])
                at, step = at + np.uint64(16), step + 1
            for _ in range(steps[g, 5]):
                cell = np.uint64(cells[g, step])
                add_8(planes, at, base + cell * size, filled[cell])
                at, step = at + np.uint64(16), step + 1
            for empty in range(3, CELLS):
                if counts[g, empty] == 0 and empty & (empty - 1):
                    assign(base + np.uint64(empty) * size, np.uint64(0), filled[empty])
            for k in range(len(sums)):
                into, one, other = sums[k, 0], sums[k, 1], sums[k, 2]
                add(
                    base + np.uint64(one) * size,
                    base + np.uint64(other) * size,
                    base + np.uint64(into) * size,
                    np.uint64(sums[k, 3]),
                    np.uint64(sums[k, 4]),
                )
            for row in range(min(GROUP, len(left) - begin)):
                rest, i = REST[row], begin + row
                single = base + np.uint64(1 << row) * size
                shared = base + np.uint64(rest) * size
                fewer = np.uint64(min(depth[rest], top))
                if not reaches(single, shared, result, np.uint64(top), fewer):
                    continue
                for w in range(TILE // 64):
                    word = reached[w]
                    while word:
                        j = order[t * TILE + w * 64 + np.int64(trailing(word))]
                        word &= word - np.uint64(1)
                        if j < 0 or (first >= 0 and j <= first + i):
                            continue
                        ones = np.uint64(0)
                        for k in range(left.shape[1]):
                            ones += popcount(left[i, k] & rows[j, k])
                        if np.float64(np.int64(ones)) >= a[i] * b[j] + c[i] * d[j]:
                            if hits < len(found):
                                found[hits, 0], found[hits, 1] = i, j
                                found[hits, 2] = ones
                            hits += 1
                            if hits > limit:
                                return hits
    return hits
