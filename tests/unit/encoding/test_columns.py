"""Columns of values kept once each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding.columns import Coded
from linkage.errors import EncodingRefused


@settings(deadline=None)
@given(st.lists(st.text(alphabet=st.characters(), max_size=3)))
def test_a_column_is_that_of_the_plain_way(texts: list[str]) -> None:
    """Values in the order of their first row; unpaired surrogates are texts as well."""
    made, reference = Coded.of(texts), Coded.reference(texts)
    assert made.codes.tolist() == reference.codes.tolist()
    assert made.values == reference.values
    assert made.texts() == texts


def test_a_null_is_refused_and_an_unpaired_surrogate_is_not() -> None:
    with pytest.raises(EncodingRefused, match="nulls"):
        Coded.of(["a", None])  # type: ignore[list-item]
    assert Coded.of(["\ud800", "a", "\ud800"]).codes.tolist() == [0, 1, 0]
