"""Columns of texts as the encoder takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from linkage.encoding.columns import Coded
from linkage.encoding.fields import apply
from linkage.study import parse_field


def coded(texts: Mapping[str, Sequence[str]]) -> dict[str, Coded]:
    """Return normalised texts by field as columns."""
    return {name: Coded.of(list(column)) for name, column in texts.items()}


def transformed(columns: Mapping[str, Coded], refs: Sequence[str]) -> dict[str, Coded]:
    """Return the columns of `refs` (`field` or `field:transform`)."""
    return {ref: apply(ref, columns[parse_field(ref)[0]]) for ref in refs}
