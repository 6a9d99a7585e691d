"""
The fast kernel for CPUs with AVX2: differing bits of 4 left and 64 right filters at once, by table.

A filter is cut into nibbles of four bits. How many bits of a left nibble v and a right nibble x
differ is one of 16 numbers in one of 16 tables, and the CPU looks 32 of them up in one instruction
(vpshufb). So a **tile** holds 64 right filters nibble by nibble, one byte each, and per nibble one
lookup and one addition compare 32 filters. With H differing bits, two filters of ca and cb ones
have (ca + cb - H) / 2 in common.

Two ways to sum:
    bytes   where no pair may differ in more than 254 bits to reach the bound (a high Dice
            threshold): saturating bytes
    words   else: the bytes are added to 16-bit sums before they can overflow
Only a **prefix** of the bits is summed where the bound is far from chance: who differs in more
than the limit there can only differ in more. The limit of a left row and a tile is the loosest of
the tile's rows; right rows are sorted by popcount, so it is tight. Whoever passes is counted
exactly, and only the exact count decides.

Source: lookup of nibbles in registers, Andre, Kermarrec and Le Scouarnec 2015,
doi:10.14778/2856318.2856324 ("fast scan").
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from linkage.matching.dataset import Words, popcounts

GROUP, TILE = 4, 64
"""Left and right rows compared at once: eight sums of 32 bytes stay in registers."""
SORTED = 4096
"""Right rows sorted among each other where only later rows count: tiles before are skipped."""
BLOCK = 64
"""Groups of left rows that pass a tile before the next does: they stay in the cache."""
FLUSH = 63
"""Nibbles whose differences, 4 at most, fit in a byte together."""
MOST_IN_BYTES = 254
"""A saturating byte that shows less than 255 is exact."""
SAMPLE = 32_768
"""Random pairs from which the prefix is chosen; the choice changes the time, never the answer."""
CYCLES_PER_NIBBLE, CYCLES_PER_LOOK, CYCLES_PER_PAIR = 4.9, 300.0, 60.0
"""About what summing a nibble, looking through a group and an exact count cost (Zen 3)."""

_WORD = ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), 32)
_SUMS = GROUP * TILE // 32

Plane = tuple[npt.NDArray[np.float64], ...]


def available() -> bool:
    """Return whether this CPU has AVX2."""
    return bool(llvm.get_host_cpu_features().get("avx2", False))


@intrinsic
def _scan(
    typing_context: Any, tile: Any, nibbles: Any, tables: Any, first: Any, last: Any, sums: Any
) -> Any:
    """
    _scan(tile, nibbles, tables, first, last, sums): add the differences of nibbles first to last.

    All uint64. Addresses: tile, uint8[nibbles, TILE]; nibbles, uint16[nibbles, GROUP], each 32
    times the left nibble; tables, uint8[16, 32]; sums, uint8[GROUP, TILE]. All but `nibbles` lie
    at multiples of 32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile, nibbles, tables, first, last, sums = arguments
        two = ir.FunctionType(_BYTES, [_BYTES, _BYTES])

        def operation(name: str) -> Any:
            return builder.module.globals.get(name) or ir.Function(builder.module, two, name)

        lookup = operation("llvm.x86.avx2.pshuf.b")
        add = operation("llvm.uadd.sat.v32i8")

        def at(address: Any, offset: int) -> Any:
            moved = builder.add(address, ir.Constant(_WORD, offset))
            return builder.inttoptr(moved, _BYTES.as_pointer())

        def load(address: Any, offset: int = 0) -> Any:
            value = builder.load(at(address, offset))
            value.align = 32
            return value

        start = [load(sums, 32 * i) for i in range(_SUMS)]
        before = builder.block
        test, inside, after = (builder.append_basic_block(n) for n in ("test", "in", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        number, held = builder.phi(_WORD), [builder.phi(_BYTES) for _ in start]
        for value, begun in zip([number, *held], [first, *start], strict=True):
            value.add_incoming(begun, before)
        builder.cbranch(builder.icmp_unsigned("<", number, last), inside, after)
        builder.position_at_end(inside)
        row = builder.add(tile, builder.mul(number, ir.Constant(_WORD, TILE)))
        right = [load(row, 32 * i) for i in range(TILE // 32)]
        place = builder.add(nibbles, builder.mul(number, ir.Constant(_WORD, 2 * GROUP)))
        listed = builder.inttoptr(place, ir.IntType(16).as_pointer())
        added = []
        for i in range(GROUP):
            offset = builder.load(builder.gep(listed, [ir.Constant(_WORD, i)]))
            table = load(builder.add(tables, builder.zext(offset, _WORD)))
            added += [
                builder.call(add, [held[len(right) * i + j], builder.call(lookup, [table, r])])
                for j, r in enumerate(right)
            ]
        number.add_incoming(builder.add(number, ir.Constant(_WORD, 1)), builder.block)
        for value, new in zip(held, added, strict=True):
            value.add_incoming(new, builder.block)
        builder.branch(test)
        builder.position_at_end(after)
        for i, value in enumerate(held):
            builder.store(value, at(sums, 32 * i)).align = 32
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 6), generate


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Count the ones of a uint64 by the CPU's own instruction (LLVM ctpop)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


class Right:
    """The right side, laid out once for any number of searches; b, d: as in dice.Bound."""

    def __init__(
        self,
        rows: Words,
        b: npt.NDArray[np.float64],
        d: npt.NDArray[np.float64],
        *,
        in_order: bool,
    ) -> None:
        ones = popcounts(rows)
        block = np.arange(len(rows)) // SORTED if in_order else np.zeros(len(rows), np.int64)
        sequence = np.lexsort((ones, block))
        tiles = -(-len(rows) // TILE)
        self.rows, self.b, self.d = np.ascontiguousarray(rows), b, d
        self.order = np.full(tiles * TILE, -1, np.int64)
        self.order[: len(rows)] = sequence
        self.tiles = _tiles(self.rows, self.order)
        starts = np.arange(0, len(rows), TILE)
        parts = [(b[sequence], np.minimum), (b[sequence], np.maximum)]
        parts += [(d[sequence], np.minimum), (d[sequence], np.maximum)]
        parts += [(ones[sequence].astype(np.float64), np.maximum)]
        parts += [(sequence.astype(np.float64), np.maximum)]
        self.stats = np.stack([f.reduceat(values, starts) for values, f in parts], axis=1)


def _tiles(rows: Words, order: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the nibbles of the ordered rows, uint8[T, nibbles, TILE], aligned; padding is 0."""
    shape = (len(order) // TILE, rows.shape[1] * 16, TILE)
    tiles = _aligned(shape)
    _fill(rows.view(np.uint8).reshape(len(rows), -1), order, tiles)
    return tiles


def _aligned(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    room = np.zeros(int(np.prod(shape)) + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + int(np.prod(shape))].reshape(shape)


def _tables() -> npt.NDArray[np.uint8]:
    """Return the bits in which nibbles v and x differ: uint8[16, 32], x twice in a row."""
    tables = _aligned((16, 32))
    v, x = np.arange(16, dtype=np.uint8)[:, None], np.arange(32, dtype=np.uint8)[None, :] % 16
    tables[:] = np.bitwise_count(v ^ x)
    return tables


def prefix(left: Words, right: Words, plane: Plane, seed: int = 1) -> int:
    """
    Return how many words of the filters to sum before most pairs can be dismissed: all of them
    where the bound is close to chance.
    """
    a, b, c, d = plane
    draw = np.random.default_rng(seed)
    i, j = draw.integers(0, len(left), SAMPLE), draw.integers(0, len(right), SAMPLE)
    total = popcounts(left)[i] + popcounts(right)[j]
    limit = total - 2 * (a[i] * b[j] + c[i] * d[j])
    differing = np.cumsum(np.bitwise_count(left[i] ^ right[j]), axis=1, dtype=np.int64)
    passing = (differing <= limit[:, None]).mean(axis=0)
    group = GROUP * TILE
    words = np.arange(1, left.shape[1] + 1)
    cost = 16 * words * CYCLES_PER_NIBBLE + np.minimum(1.0, group * passing) * CYCLES_PER_LOOK
    return int(words[np.argmin(cost + group * passing * CYCLES_PER_PAIR)])


def search(
    left: Words,
    plane: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    right: Right,
    words: int,
    first: int,
    found: npt.NDArray[np.uint32],
) -> int:
    """
    Store (left row, right row, ones) of every pair that reaches the bound; return how many.

    words: from `prefix`. first: -1, or the right row that left row 0 is, whose later rows count.
    The number may exceed what `found` holds.
    """
    nibbles = np.zeros((-(-len(left) // GROUP) * GROUP, left.shape[1] * 16), np.uint16)
    as_bytes = left.view(np.uint8).reshape(len(left), -1)
    nibbles[: len(left), 0::2] = (as_bytes & 15).astype(np.uint16) * 32
    nibbles[: len(left), 1::2] = (as_bytes >> 4).astype(np.uint16) * 32
    grouped = np.ascontiguousarray(nibbles.reshape(-1, GROUP, nibbles.shape[1]).transpose(0, 2, 1))
    return int(
        _search(
            left,
            popcounts(left),
            grouped,
            plane,
            (right.rows, right.b, right.d),
            (right.order, right.tiles, right.stats),
            (_tables(), _aligned((GROUP, TILE))),
            words,
            first,
            found,
        )
    )


@numba.njit(cache=True, nogil=True)
def _fill(rows, order, tiles):  # type: ignore[no-untyped-def]
    for place in range(len(order)):
        row = order[place]
        if row < 0:
            continue
        tile, lane = place // TILE, place % TILE
        for k in range(rows.shape[1]):
            tiles[tile, 2 * k, lane] = rows[row, k] & 15
            tiles[tile, 2 * k + 1, lane] = rows[row, k] >> 4


@numba.njit(cache=True, nogil=True)
def _search(left, ones_left, nibbles, plane, right, layout, scratch, words, first, found):  # type: ignore[no-untyped-def]
    a, c = plane
    order, tiles, stats = layout
    tables, sums = scratch
    count = words * 16
    wide = np.zeros((GROUP, TILE), np.uint16)
    limit = np.full(len(nibbles) * GROUP, -1, np.int64)
    table_at, sums_at = np.uint64(tables.ctypes.data), np.uint64(sums.ctypes.data)
    hits = 0
    for block in range(0, len(nibbles), BLOCK):
        last_group = min(block + BLOCK, len(nibbles))
        for t in range(len(tiles)):
            tile_at = np.uint64(tiles[t].ctypes.data)
            b_low, b_high, d_low, d_high, most, last = stats[t]
            for i in range(block * GROUP, min(last_group * GROUP, len(left))):
                # The products take their extremes at the ends; 1e-6 is against rounding.
                least = min(a[i] * b_low, a[i] * b_high) + min(c[i] * d_low, c[i] * d_high)
                room = np.float64(ones_left[i]) + most - 2.0 * least + 1e-6
                limit[i] = np.int64(np.floor(min(max(room, -1.0), 65535.0)))
            for g in range(block, last_group):
                begin = g * GROUP
                if first >= 0 and last <= first + begin:
                    continue
                loosest = limit[begin : begin + GROUP].max()
                if loosest < 0:
                    continue
                nibbles_at = np.uint64(nibbles[g].ctypes.data)
                in_bytes = loosest <= MOST_IN_BYTES
                if in_bytes:
                    sums[:] = 0
                    _scan(tile_at, nibbles_at, table_at, np.uint64(0), np.uint64(count), sums_at)
                else:
                    wide[:] = 0
                    for start in range(0, count, FLUSH):
                        stop = np.uint64(min(start + FLUSH, count))
                        sums[:] = 0
                        _scan(tile_at, nibbles_at, table_at, np.uint64(start), stop, sums_at)
                        for i in range(GROUP):
                            for j in range(TILE):
                                wide[i, j] += sums[i, j]
                for i in range(GROUP):
                    if limit[begin + i] < 0:
                        continue
                    if in_bytes:
                        if not _any_byte(sums[i], np.uint8(limit[begin + i])):
                            continue
                        for j in range(TILE):
                            wide[i, j] = sums[i, j]
                    elif not _any_word(wide[i], np.uint16(limit[begin + i])):
                        continue
                    hits = _settle(
                        left,
                        begin + i,
                        a,
                        c,
                        right,
                        order[t * TILE : (t + 1) * TILE],
                        wide[i],
                        limit[begin + i],
                        first,
                        found,
                        hits,
                    )
    return hits


@numba.njit(nogil=True, inline="always")
def _any_byte(differing, limit):  # type: ignore[no-untyped-def]
    passing = np.uint8(0)
    for j in range(TILE):
        passing |= np.uint8(differing[j] <= limit)
    return passing


@numba.njit(nogil=True, inline="always")
def _any_word(differing, limit):  # type: ignore[no-untyped-def]
    passing = np.uint16(0)
    for j in range(TILE):
        passing |= np.uint16(differing[j] <= limit)
    return passing


@numba.njit(cache=True, nogil=True)
def _settle(left, one, a, c, right, order, differing, limit, first, found, hits):  # type: ignore[no-untyped-def]
    """Count exactly the pairs of a left row that may reach the bound; return all hits so far."""
    rows, b, d = right
    for j in range(TILE):
        other = order[j]
        if differing[j] > limit or other < 0 or (first >= 0 and other <= first + one):
            continue
        ones = np.uint64(0)
        for k in range(left.shape[1]):
            ones += popcount(left[one, k] & rows[other, k])
        if np.float64(np.int64(ones)) >= a[one] * b[other] + c[one] * d[other]:
            if hits < len(found):
                found[hits, 0], found[hits, 1], found[hits, 2] = one, other, ones
            hits += 1
    return hits
