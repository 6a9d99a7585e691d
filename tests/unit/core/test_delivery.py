"""Rows open with their own row key only; tables of IDs keep their bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage import delivery, idtables
from linkage.errors import PackageRefused

KEY = bytes(range(32))


@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=5), st.binary())
def test_a_bundle_gives_back_each_subjects_rows(pseudonyms: list[bytes], rows: bytes) -> None:
    bundle = delivery.pack_rows(delivery.encrypt_rows(KEY, p, rows + p) for p in pseudonyms)
    opened = dict(delivery.unpack_rows(bundle))
    assert len(opened) == len(pseudonyms)
    for p in pseudonyms:
        name, secret = delivery.row_id(KEY, p), delivery.row_key(KEY, p)
        assert delivery.decrypt_rows(secret, name, opened[name]) == rows + p


def test_another_subjects_key_does_not_open() -> None:
    name, encrypted = delivery.encrypt_rows(KEY, b"p" * 16, b"rows")
    with pytest.raises(PackageRefused):
        delivery.decrypt_rows(delivery.row_key(KEY, b"q" * 16), name, encrypted)
    with pytest.raises(PackageRefused):
        delivery.decrypt_rows(delivery.row_key(KEY, b"p" * 16), b"n" * 16, encrypted)


@pytest.mark.parametrize("cut", [0, 3, 10, 30])
def test_a_truncated_bundle_is_refused(cut: int) -> None:
    bundle = delivery.pack_rows([delivery.encrypt_rows(KEY, b"p" * 16, b"rows")])
    with pytest.raises(PackageRefused):
        list(delivery.unpack_rows(bundle[:cut]))


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_table_of_ids_keeps_its_bytes(count: int) -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (count, 32), dtype=np.uint8)
    columns = {"record_pseudonym": drawn[:, :16], "cross_commons_id": drawn[:, 16:]}
    again = idtables.unpack(idtables.pack(columns, idtables.CROSSWALK), idtables.CROSSWALK)
    for name in columns:
        assert np.array_equal(again[name], columns[name])


def test_another_table_is_refused() -> None:
    packed = idtables.pack({"question_id": np.zeros((2, 16), np.uint8)}, idtables.QUALIFYING)
    with pytest.raises(PackageRefused, match="other columns"):
        idtables.unpack(packed, idtables.CROSSWALK)
    with pytest.raises(PackageRefused, match="malformed"):
        idtables.unpack(b"nonsense", idtables.CROSSWALK)
