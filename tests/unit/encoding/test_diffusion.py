"""Keyed diffusion: fast equals reference, taps are distinct, even and keyed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from linkage.encoding.diffusion import diffuse, diffuse_reference, diffusion_taps
from linkage.errors import EncodingRefused

LENGTHS = st.sampled_from([512, 1024])


@settings(max_examples=25, deadline=None)
@given(data=st.data(), length=LENGTHS, depth=st.integers(1, 12), n=st.integers(0, 6))
def test_fast_equals_reference(data: st.DataObject, length: int, depth: int, n: int) -> None:
    clks = data.draw(arrays(np.uint8, (n, length // 8)))
    taps = diffusion_taps(
        data.draw(st.binary(min_size=32, max_size=32)), length=length, depth=depth
    )
    assert (diffuse(clks, taps) == diffuse_reference(clks, taps)).all()


@pytest.mark.parametrize("n", [63, 64, 511, 512, 513, 1025])
def test_fast_equals_reference_at_block_ends(n: int) -> None:
    clks = np.random.default_rng(n).integers(0, 256, (n, 64), dtype=np.uint8)
    taps = diffusion_taps(bytes(range(32)), length=512, depth=3)
    fast = diffuse(clks, taps)
    rows = sorted({0, 62, n // 2, n - 2, n - 1})
    assert (fast[rows] == diffuse_reference(clks[rows], taps)).all()
    bits = np.unpackbits(clks, axis=1)
    assert (np.unpackbits(fast, axis=1) == bits[:, taps].sum(axis=2) % 2).all()


@pytest.mark.parametrize(("length", "depth"), [(2048, 10), (4096, 3)])
def test_every_study_length(length: int, depth: int) -> None:
    clks = np.random.default_rng(1).integers(0, 256, (3, length // 8), dtype=np.uint8)
    taps = diffusion_taps(bytes(range(32)), length=length, depth=depth)
    assert (diffuse(clks, taps) == diffuse_reference(clks, taps)).all()


@settings(max_examples=20, deadline=None)
@given(a=arrays(np.uint8, (2, 64)), b=arrays(np.uint8, (2, 64)))
def test_diffusion_is_linear(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> None:
    taps = diffusion_taps(bytes(range(32)), length=512, depth=5)
    assert (diffuse(a ^ b, taps) == diffuse(a, taps) ^ diffuse(b, taps)).all()


def _taps_by_the_document(secret: bytes, length: int, depth: int) -> list[list[int]]:
    """docs/formats-encoding.md, Diffusion, written again from its words."""
    stream = Cipher(algorithms.AES256(secret), modes.CTR(b"\0" * 16)).encryptor()
    rows: list[list[int]] = []
    for _ in range(length):
        row: list[int] = []
        while len(row) < depth:
            tap = int.from_bytes(stream.update(b"\0\0"), "big") % length
            if tap not in row:
                row.append(tap)
        rows.append(row)
    return rows


@pytest.mark.parametrize(("length", "depth"), [(512, 10), (2048, 10), (4096, 1), (8, 8)])
def test_taps_are_those_of_the_document(length: int, depth: int) -> None:
    secret = bytes(range(7, 39))
    found = diffusion_taps(secret, length=length, depth=depth)
    assert found.tolist() == _taps_by_the_document(secret, length, depth)


def test_taps_are_distinct_in_a_row_even_over_the_bits_and_keyed() -> None:
    taps = diffusion_taps(bytes(range(32)), length=2048, depth=16)
    assert all(len(set(row)) == 16 for row in taps.tolist())
    uses = np.bincount(taps.ravel(), minlength=2048)
    # Chi-squared with 2,047 degrees: mean 2,047, standard deviation 64.
    assert abs(float(((uses - 16) ** 2 / 16).sum()) - 2047) < 5 * 64
    other = diffusion_taps(bytes(range(1, 33)), length=2048, depth=16)
    assert (taps == other).mean() < 0.01


@pytest.mark.parametrize(
    ("length", "depth", "secret"),
    [(1000, 3, 32), (4, 1, 32), (1 << 17, 1, 32), (512, 0, 32), (512, 513, 32), (512, 3, 16)],
)
def test_what_cannot_be_even_is_refused(length: int, depth: int, secret: int) -> None:
    with pytest.raises(EncodingRefused):
        diffusion_taps(bytes(secret), length=length, depth=depth)


@pytest.mark.parametrize(
    "clks",
    [np.zeros((2, 63), np.uint8), np.zeros(64, np.uint8), np.zeros((2, 64), np.uint16)],
    ids=["width", "one row", "type"],
)
def test_clks_of_another_shape_are_refused(clks: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(EncodingRefused):
        diffuse(clks, diffusion_taps(bytes(32), length=512, depth=2))
