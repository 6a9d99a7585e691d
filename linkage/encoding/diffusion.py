"""
Keyed diffusion of CLKs: each output bit is the XOR of t distinct input bits.

    taps = diffusion_taps(secret, length=2048, depth=10)
    diffused = diffuse(clks, taps)

Source: Armknecht, Heng and Schnell, "Strengthening Privacy-Preserving Record Linkage using
Diffusion", PoPETs 2023. The taps come from a keyed stream, so all sites of a study choose the
same ones. Similarity survives, weakened; the similarity graph, on which graph matching lives,
does not. Remaining weakness: how large t must be depends on fields and density; only the
release gate (docs/threat-model.md) can say.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from linkage.errors import EncodingRefused

Bytes2D = npt.NDArray[np.uint8]
Taps = npt.NDArray[np.uint16]

_LANES = 8
"""64-bit words side by side: one AVX-512 register, or two AVX2 ones."""
_BLOCK = 64 * _LANES
_STREAM_BYTES = 4096


def diffusion_taps(secret: bytes, *, length: int, depth: int) -> Taps:
    """
    Return which input bits make each output bit: uint16[length, depth], distinct in a row.

    secret: 32 bytes. The stream is AES-256 in counter mode from a zero counter block, read as
    16-bit big-endian words. A word's low log2(length) bits are one tap: unbiased, for
    `length` is a power of two. A tap that its row already has is drawn again.
    """
    if length & (length - 1) or not 8 <= length <= 1 << 16:
        raise EncodingRefused(f"{length} bits is no power of two from 8 to 65,536")
    if not 1 <= depth <= length or len(secret) != 32:
        raise EncodingRefused("diffusion needs a depth from 1 to length, and 32 secret bytes")
    stream = Cipher(algorithms.AES(secret), modes.CTR(bytes(16))).encryptor()
    words: list[int] = []
    taps = np.zeros((length, depth), np.uint16)
    for row in range(length):
        chosen: list[int] = []
        while len(chosen) < depth:
            if not words:
                block = np.frombuffer(stream.update(bytes(_STREAM_BYTES)), ">u2")
                words = (block & (length - 1)).tolist()[::-1]
            tap = words.pop()
            if tap not in chosen:
                chosen.append(tap)
        taps[row] = chosen
    return taps


def diffuse(clks: Bytes2D, taps: Taps) -> Bytes2D:
    """
    Return the diffused CLKs: uint8[N, length / 8] from uint8[N, length / 8].

    Bit i of a CLK is bit 7 - i % 8 of byte i // 8, as in clkhash. Equal to
    `diffuse_reference`. Works on blocks of 512 records turned on their side, bits as rows of
    eight 64-bit words, so that one XOR serves 64 records a word.
    """
    length = taps.shape[0]
    if clks.ndim != 2 or clks.dtype != np.uint8 or clks.shape[1] * 8 != length:
        raise EncodingRefused(f"CLKs to diffuse must be a uint8 matrix of {length // 8} columns")
    # In a little-endian word, bit i of the CLK lies at i with its place in the byte mirrored.
    mirrored = np.arange(length) ^ 7
    chosen = mirrored[taps[mirrored]].astype(np.int64)
    out = np.empty_like(clks)
    padded = np.zeros((_BLOCK, length // 8), np.uint8)
    for start in range(0, len(clks), _BLOCK):
        block = clks[start : start + _BLOCK]
        padded[: len(block)] = block
        mixed = _mix(padded.view(np.uint64), chosen)
        out[start : start + len(block)] = mixed.view(np.uint8)[: len(block)]
    return out


def diffuse_reference(clks: Bytes2D, taps: Taps) -> Bytes2D:
    """Return the same as `diffuse`, in the plainest way: a bit at a time."""
    bits = np.unpackbits(clks, axis=1)
    mixed = np.zeros_like(bits)
    for row in range(len(bits)):
        for i, chosen in enumerate(taps):
            mixed[row, i] = sum(int(bits[row, tap]) for tap in chosen) % 2
    return np.packbits(mixed, axis=1)


@numba.njit(nogil=True, cache=True)
def _mix(words, taps):  # type: ignore[no-untyped-def]
    """Return diffused words, uint64[512, L / 64], of words like it; taps: int64[L, t]."""
    length = taps.shape[0]
    columns = np.empty((length, _LANES), np.uint64)
    for word in range(length // 64):
        for row in range(64):
            for lane in range(_LANES):
                columns[word * 64 + row, lane] = words[lane * 64 + row, word]
        _transpose(columns[word * 64 : word * 64 + 64].reshape(-1))
    mixed = np.empty_like(columns)
    depth = np.uint64(taps.shape[1])
    for bit in range(length):
        # Eight names, not an array: the sums stay in registers until all taps are in.
        a = b = c = d = e = f = g = h = np.uint64(0)
        for tap in range(depth):
            row = columns[taps[bit, tap]]
            a ^= row[0]
            b ^= row[1]
            c ^= row[2]
            d ^= row[3]
            e ^= row[4]
            f ^= row[5]
            g ^= row[6]
            h ^= row[7]
        made = mixed[bit]
        made[0], made[1], made[2], made[3] = a, b, c, d
        made[4], made[5], made[6], made[7] = e, f, g, h
    out = np.empty_like(words)
    for word in range(length // 64):
        _transpose(mixed[word * 64 : word * 64 + 64].reshape(-1))
        for row in range(64):
            for lane in range(_LANES):
                out[lane * 64 + row, word] = mixed[word * 64 + row, lane]
    return out


@numba.njit(nogil=True, cache=True)
def _transpose(square):  # type: ignore[no-untyped-def]
    """
    Transpose 64 x 64 bits in each lane of uint64[64 x 8], row after row, in place.

    Source: Warren, Hacker's Delight, 2nd ed., section 7-3, for the least significant bit first.
    """
    half = 32
    mask = np.uint64(0x00000000FFFFFFFF)
    while half:
        size = half * _LANES
        for start in range(0, 64 * _LANES, 2 * size):
            low, high = square[start : start + size], square[start + size : start + 2 * size]
            _exchange(low, high, np.uint64(half), mask)
        half >>= 1
        mask ^= mask << np.uint64(half)


@numba.njit(nogil=True, cache=True)
def _exchange(low, high, shift, mask):  # type: ignore[no-untyped-def]
    """Exchange blocks of bits. Whole runs of words, so that the compiler uses wide registers."""
    for i in range(low.shape[0]):
        a, b = low[i], high[i]
        swapped = ((a >> shift) ^ b) & mask
        low[i] = a ^ (swapped << shift)
        high[i] = b ^ swapped
