"""
Sealed packages in a folder: written to a temporary file, synced, then renamed into place.

A blob appears whole or not at all. Names are random, so they say nothing and nothing that a
caller sends becomes a path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from linkage.errors import NotFound, TooLarge, Unreachable

_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored blob. size: bytes. digest: SHA-256, hex."""

    blob_id: str
    size: int
    digest: str


class Receiving:
    """A blob that is being written; `keep` makes it permanent, else it vanishes."""

    def __init__(self, blobs: Blobs, file: BinaryIO, path: Path) -> None:
        self._blobs, self._file, self.path = blobs, file, path
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, *, cap: int) -> None:
        """Append `data`. Raises TooLarge as soon as more than `cap` bytes have come."""
        self.size += len(data)
        if self.size > cap:
            raise TooLarge(
                f"the body is larger than the {cap} bytes expected",
                hint="send exactly what the manifest announces, within the broker's limits",
            )
        with _storing():
            self._file.write(data)
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, hex."""
        return self._hash.hexdigest()

    def reader(self) -> BinaryIO:
        """Open what was written, for reading."""
        with _storing():
            self._file.flush()
        return self.path.open("rb")

    def keep(self) -> Blob:
        """Sync it to disk and move it into place."""
        blob = Blob(secrets.token_hex(16), self.size, self.digest)
        final = self._blobs.path(blob.blob_id)
        with _storing():
            self._file.flush()
            os.fsync(self._file.fileno())
            final.parent.mkdir(mode=0o700, exist_ok=True)
            os.rename(self.path, final)
            _sync_folder(final.parent)
        return blob


class Blobs:
    """The folder. Safe for several processes: names never collide and renames are atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, mode=0o700, exist_ok=True)

    @contextmanager
    def receiving(self) -> Iterator[Receiving]:
        """Begin a blob. On leaving, whatever was not kept is gone."""
        path = self._incoming / secrets.token_hex(16)
        with _storing():
            file = path.open("xb")
        try:
            yield Receiving(self, file, path)
        finally:
            # What was kept is flushed and renamed already; the rest need not reach the disk.
            with suppress(OSError):
                file.close()
            path.unlink(missing_ok=True)

    def put(self, data: bytes) -> Blob:
        """Store `data` whole."""
        with self.receiving() as incoming:
            incoming.write(data, cap=len(data))
            return incoming.keep()

    def read(self, blob_id: str) -> bytes:
        """Return a blob's bytes. Raises NotFound."""
        with self.open(blob_id) as file:
            return file.read()

    def open(self, blob_id: str) -> BinaryIO:
        """Open a blob for reading. Raises NotFound."""
        try:
            return self.path(blob_id).open("rb")
        except FileNotFoundError:
            raise NotFound(
                "a stored package is no longer there", hint="restore the blob folder from backup"
            ) from None

    def delete(self, blob_id: str) -> None:
        """Delete a blob; one that is gone already is no error."""
        self.path(blob_id).unlink(missing_ok=True)

    def path(self, blob_id: str) -> Path:
        """Return where a blob lies. Raises NotFound for what is no blob's name."""
        if not _NAME.fullmatch(blob_id):
            raise NotFound("there is no such package")
        return self._root / blob_id[:2] / blob_id

    def all_older_than(self, seconds: float) -> Iterator[str]:
        """Yield the blobs that are older than `seconds`."""
        limit = time.time() - seconds
        for path in self._root.glob("[0-9a-f][0-9a-f]/*"):
            if _NAME.fullmatch(path.name) and _changed_at(path) < limit:
                yield path.name

    def sweep_incoming(self, seconds: float) -> None:
        """Delete what a killed process left half-written more than `seconds` ago."""
        limit = time.time() - seconds
        for path in self._incoming.iterdir():
            if _changed_at(path) < limit:
                path.unlink(missing_ok=True)


def _changed_at(path: Path) -> float:
    """Return when a file was last written; one that has gone meanwhile is as new as can be."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


@contextmanager
def _storing() -> Iterator[None]:
    """A full or broken disk is a passing state of the broker, not the caller's fault."""
    try:
        yield
    except OSError as fault:
        raise Unreachable(
            f"the broker cannot store this ({errno.errorcode.get(fault.errno or 0, 'unknown')})",
            hint="try again later; the broker's admin should look at the disk's space and health",
        ) from None


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
