"""
What an unfinished tokenization has made so far: one folder a batch, encodings only.

    spool.write(number, columns, facts)      a worker, when its batch is encoded
    batch = spool.batch(number)              read again, memory-mapped

A batch is complete or absent (one rename), and says by a keyed digest which input it was made
of: after an interruption a batch whose input is the same is not made again. Rows of a batch are
ordered by record pseudonym, so that neither here nor in the package their order says anything
of the source, and a part of the package needs one run of rows from each batch.

Columns of a batch of n rows:
    pseudonyms uint8[n, 16]   numbers int64[n]           as the source counts
    digests uint64[n, G]      of the grouping rules      bits_<clk> uint8[n, L / 8]
    has_clk bool[n, C]        keys uint8[n, R, 16]       has_key bool[n, R]
    contents uint64[n]        keyed digests of all values
    bits_set uint32[n, C]     before diffusion
    parts uint8[n, P / 8]     which parts that rules use are there (sites.left_out)
    strata uint8[n, V]        marks, where records bear any: never the groups themselves
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from linkage.errors import Conflict

SPOOL_LAYOUT = 6
"""Raised where files of a batch change: a batch of another layout is made again."""

Array = npt.NDArray[Any]
Unused = tuple[int, str, str]
"""A value that was invalid and is left out: the record's number, field and why; not the value."""


@dataclass(frozen=True)
class Batch:
    """One complete batch. facts: what the worker counted, as JSON can hold it."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """The number of its records."""
        return int(self.facts["rows"])

    def column(self, name: str) -> Array:
        """Return a column, memory-mapped and read-only."""
        path = self.folder / f"{name}.npy"
        if name not in self._layout:
            with path.open("rb") as file:
                self._learn(name, file)
        offset, shape, dtype = self._layout[name]
        if not self.rows:  # nothing can be mapped of a file that ends with its head
            return np.zeros((0, *shape), dtype)
        return np.memmap(path, dtype, "r", offset, (self.rows, *shape))

    def read(self, name: str, start: int, into: Array) -> None:
        """
        Fill `into`, contiguous, with the rows of a column from `start` on. For a few rows of very
        many batches: a mapping each would cost more than the rows, and would count as memory.
        """
        with open(f"{self.folder}/{name}.npy", "rb", buffering=0) as file:
            if name not in self._layout:
                self._learn(name, file)
            offset, shape, dtype = self._layout[name]
            if (into.dtype, into.shape[1:]) != (dtype, shape):
                raise ValueError(f"a row of {name} is {dtype}{shape}")
            file.seek(offset + start * dtype.itemsize * math.prod(shape))
            left = into.reshape(-1).view(np.uint8).data
            while len(left):  # one read may be cut short
                read = file.readinto(left)
                if not read:
                    raise OSError(f"batch file {name}.npy ends too early")
                left = left[read:]

    def _learn(self, name: str, file: BinaryIO) -> None:
        # Once a column: to read a head takes longer than a few rows do.
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)  # noqa: S101 (np.save writes it for every plain dtype)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        self._layout[name] = (file.tell(), shape[1:], dtype)

    @cached_property
    def _layout(self) -> dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]:
        """By column: where its values begin in the file, the shape of a row, the type."""
        return {}


@dataclass(frozen=True)
class Spool:
    """The folder of one dataset version in the making; only its owner can read it."""

    folder: Path

    def make(self) -> None:
        """Make the folder, unless an interrupted tokenization left it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; two at once would write over each other. Raises Conflict."""
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder.parent / f".{self.folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    "this dataset version is being tokenized already",
                    hint="wait for the other process, or stop it; what it has made is kept",
                ) from None
            yield

    def path(self, number: int) -> Path:
        """Return the folder of batch `number`, from 1."""
        return self.folder / f"batch-{number:05d}"

    def write(
        self,
        number: int,
        columns: Mapping[str, Array],
        facts: Mapping[str, Any],
        unused: Sequence[Unused],
        beside: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """
        Write batch `number`, whole or not at all. beside: writes what else belongs to it into the
        folder that it is given.
        """
        making = self.folder / f".batch-{number:05d}.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        sums = {f"{name}.npy": _save(making / f"{name}.npy", c) for name, c in columns.items()}
        beside(making)
        sums |= {p.name: _checksum(p) for p in sorted(making.iterdir()) if p.name not in sums}
        (making / "unused.json").write_text(json.dumps(unused), encoding="utf-8")
        text = json.dumps({**facts, "sums": sums})
        (making / "facts.json").write_text(text, encoding="utf-8")
        shutil.rmtree(self.path(number), ignore_errors=True)
        making.rename(self.path(number))

    def batch(self, number: int) -> Batch:
        """Return a complete batch."""
        folder = self.path(number)
        return Batch(folder, json.loads((folder / "facts.json").read_text(encoding="utf-8")))

    def unused(self, number: int) -> list[Unused]:
        """Return the invalid values of a batch."""
        text = (self.path(number) / "unused.json").read_text(encoding="utf-8")
        return [(int(n), str(field), str(why)) for n, field, why in json.loads(text)]

    def made_of(self, number: int, digest: str) -> bool:
        """Return whether batch `number` is there, whole, and was made of the input `digest`."""
        try:
            found = self.batch(number)
            sums = found.facts["sums"]
            whole = all(_checksum(found.folder / n) == s for n, s in sums.items())
        except (OSError, ValueError, KeyError):
            return False  # cut short by a power failure: it is made again
        return whole and found.facts["digest"] == digest

    def cut(self, batches: int) -> None:
        """Remove what an earlier, longer source left after batch `batches`."""
        for path in self.folder.glob("batch-*"):
            if int(path.name.removeprefix("batch-")) > batches:
                shutil.rmtree(path)

    def save(self, name: str, values: Array) -> None:
        """
        Write what is worked out over all batches. In one rename: whoever has mapped what was there
        before still reads that.
        """
        making = self.folder / f".{name}.making.npy"
        np.save(making, values, allow_pickle=False)
        making.rename(self.folder / f"{name}.npy")

    def load(self, name: str) -> Array:
        """Return what `save` wrote, memory-mapped and read-only."""
        return _mapped(self.folder / f"{name}.npy")

    def remove(self) -> None:
        """Remove the folder: the package is complete."""
        shutil.rmtree(self.folder)


def sweep(spools: Path, is_done: Callable[[int], bool]) -> None:
    """
    Remove what somebody who was killed at the very end left of dataset versions that are done.

    It would say which records of the site share a match key.
    """
    for path in spools.glob("[0-9]*"):
        if path.name.isdecimal() and is_done(int(path.name)):
            # Held by another process it is about to go anyway.
            with suppress(Conflict), Spool(path).held():
                shutil.rmtree(path, ignore_errors=True)


def _mapped(path: Path) -> Array:
    found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _save(path: Path, column: Array) -> int:
    """Write a column as `np.save` does; return the file's checksum without reading it again."""
    column = np.ascontiguousarray(column)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(column))
    data = column.reshape(-1).view(np.uint8).data
    with path.open("wb", buffering=0) as file:
        file.write(head.getbuffer())
        left = data
        while len(left):  # one write may be cut short
            left = left[file.write(left) :]
    return _sum(head.getbuffer(), data)


def _checksum(path: Path) -> int:
    return _sum(path.read_bytes())


def _sum(*pieces: bytes | memoryview) -> int:
    # Only a process that works loads what compiles loops, and one that resumes.
    from sites.spool_sums import sum_of

    return sum_of(*pieces)
