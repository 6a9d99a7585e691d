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

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from linkage.errors import EncodingRefused

Bytes2D = npt.NDArray[np.uint8]
Taps = npt.NDArray[np.uint16]

_BLOCK = 4096
"""Records transposed at a time: 4,096 of 4,096 bits take 16 MiB unpacked."""
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
    `diffuse_reference`, in blocks: bits become columns of records, so that one XOR serves
    eight records a byte.
    """
    length = taps.shape[0]
    if clks.ndim != 2 or clks.dtype != np.uint8 or clks.shape[1] * 8 != length:
        raise EncodingRefused(f"CLKs to diffuse must be a uint8 matrix of {length // 8} columns")
    out = np.empty_like(clks)
    for start in range(0, len(clks), _BLOCK):
        block = clks[start : start + _BLOCK]
        columns = np.packbits(np.unpackbits(block, axis=1).T, axis=1)
        mixed = columns[taps[:, 0]]
        for tap in range(1, taps.shape[1]):
            mixed ^= columns[taps[:, tap]]
        rows = np.unpackbits(mixed, axis=1, count=len(block)).T
        out[start : start + _BLOCK] = np.packbits(rows, axis=1)
    return out


def diffuse_reference(clks: Bytes2D, taps: Taps) -> Bytes2D:
    """Return the same as `diffuse`, in the plainest way: a bit at a time."""
    bits = np.unpackbits(clks, axis=1)
    mixed = np.zeros_like(bits)
    for row in range(len(bits)):
        for i, chosen in enumerate(taps):
            mixed[row, i] = sum(int(bits[row, tap]) for tap in chosen) % 2
    return np.packbits(mixed, axis=1)
