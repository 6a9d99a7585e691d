"""What a running process has in its memory, for tests that search it; Linux only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+\s*(.*)")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_THERE = np.uint64(3 << 62)
"""In memory or swapped out: bits 63 and 62 of /proc/PID/pagemap (Linux, admin-guide/mm/pagemap)."""


def memory_of(pid: int) -> bytes:
    """
    Return all that a process has written, freed memory included, one piece after another.

    Skips the test where the system does not let a process look into its child.
    """
    place = Path("/proc") / str(pid)
    pieces = []
    try:
        with (place / "mem").open("rb", 0) as memory, (place / "pagemap").open("rb", 0) as pages:
            for line in (place / "maps").read_text().splitlines():
                found = _LINE.match(line)
                assert found is not None, line
                if found[3].startswith("rw") and not found[4].startswith("[v"):
                    for start, end in _used(pages, int(found[1], 16), int(found[2], 16)):
                        memory.seek(start)
                        with suppress(OSError):  # given back meanwhile
                            pieces.append(memory.read(end - start))
    except (FileNotFoundError, PermissionError) as fault:
        pytest.skip(f"the memory of a child cannot be read here: {type(fault).__name__}")
    return b"\0".join(pieces)


def _used(pages: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of pages of a mapping that were ever written."""
    pages.seek(start // _PAGE * 8)
    raw = pages.read((end - start) // _PAGE * 8)
    there = (np.frombuffer(raw, np.uint64) & _THERE) != 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2).tolist():
        yield start + first * _PAGE, start + last * _PAGE
