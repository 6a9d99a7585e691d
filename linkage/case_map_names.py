"""
How the chunks of a contributor's case map are named on their way to its commons.
"""

from __future__ import annotations

import re

from linkage.errors import PackageRefused

MOST_CHUNKS = 10_000
"""Chunks of a case map, each of at most PART_BYTES before sealing."""

_CASE_MAP = re.compile(r"dataset-([1-9]\d{0,6})-chunk-([1-9]\d{0,4})-of-([1-9]\d{0,4})")


def case_map_subject(dataset: int, chunk: int, chunks: int) -> str:
    """Return what names a chunk, 1 and up, of a contributor's case map of a dataset version."""
    return f"dataset-{dataset}-chunk-{chunk}-of-{chunks}"


def read_case_map_subject(subject: str) -> tuple[int, int, int]:
    """Return dataset version, chunk and number of chunks. Raises PackageRefused."""
    found = _CASE_MAP.fullmatch(subject)
    dataset, chunk, chunks = map(int, found.groups()) if found else (0, 0, 0)
    if not found or not 1 <= chunk <= chunks <= MOST_CHUNKS:
        raise PackageRefused("this names no chunk of a case map", hint="submit again")
    return dataset, chunk, chunks
