"""
Sealed packages: received into a spool on this machine's disk, synced and digested, then placed in
the store, a folder or a bucket (broker.blob_stores).

A blob appears whole or not at all. Names are random, so they say nothing and nothing that a
caller sends becomes a path. The disk is never filled by callers: what would leave less than the
reserve is refused before it is taken, so that database and running work go on.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from broker.blob_bucket import BucketStore, Credentials
from broker.blob_stores import FolderStore, Store, changed_at, storing
from broker.config import Home
from linkage.errors import PackageRefused, TooLarge, Unreachable

_LOOK_EVERY_BYTES = 16 << 20
"""How much of a body comes before the disk's free space is looked at again."""
_log = structlog.get_logger("linkage.broker")


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored blob. size: bytes. digest: SHA-256, hex."""

    blob_id: str
    size: int
    digest: str


class Receiving:
    """A blob that is being written; `keep` makes it permanent, else it vanishes."""

    def __init__(self, blobs: Blobs, file: BinaryIO, path: Path, *, bounded: bool) -> None:
        self._blobs, self._file, self.path = blobs, file, path
        self._hash = hashlib.sha256()
        self._bounded, self._allowed = bounded, 0
        self.size = 0

    def expect(self, size: int) -> None:
        """
        Say how much may come. Raises Unreachable where that would fill the spool or the disk; what
        comes beyond is looked at as it comes.
        """
        if self._bounded and size > self._allowed:
            self._blobs.spool.take(size - self._allowed)
            self._allowed = size

    def write(self, data: bytes, *, cap: int) -> None:
        """Append `data`. Raises TooLarge as soon as more than `cap` bytes have come."""
        size = self.size + len(data)
        if size > cap:
            raise TooLarge(
                f"the body is larger than the {cap} bytes expected",
                hint="send exactly what the manifest announces, within the broker's limits",
            )
        if size > self._allowed:
            self.expect(min(cap, size + _LOOK_EVERY_BYTES))
        self.size = size
        with storing():
            self._file.write(data)
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, hex."""
        return self._hash.hexdigest()

    def reader(self) -> BinaryIO:
        """Open what was written, for reading."""
        with storing():
            self._file.flush()
        return self.path.open("rb")

    def keep(self) -> Blob:
        """Sync it to disk and move it into the store."""
        blob = Blob(secrets.token_hex(16), self.size, self.digest)
        with storing():
            self._file.flush()
            os.fsync(self._file.fileno())
        self._blobs.store.place(self.path, blob.blob_id)
        return blob

    def give_back(self) -> None:
        """Let others have the room in the spool."""
        self._blobs.spool.give_back(self._allowed)
        self._allowed = 0


class Spool:
    """
    The room for bodies that are under way in this process. most: bytes of all together. reserve:
    bytes of the disk that callers never get.
    """

    def __init__(self, folder: Path, *, most: int, reserve: int) -> None:
        self._folder, self._most, self._reserve = folder, most, reserve
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises Unreachable where there is no room for `size` bytes more."""
        with storing():
            free = shutil.disk_usage(self._folder).free
        with self._lock:
            # What others were promised may not be written yet, and then counts as free still.
            if free - self._taken - size < self._reserve:
                raise Unreachable(
                    "the broker's disk is nearly full; it takes no more",
                    hint="try again later; the broker's admin makes room or gives it another disk",
                )
            if self._taken + size > self._most:
                raise Unreachable(
                    "too much is being uploaded at the moment",
                    hint="try again in a while; what was sent whole is kept",
                )
            self._taken += size

    def give_back(self, size: int) -> None:
        """`size` bytes were placed or given up."""
        with self._lock:
            self._taken -= size


@dataclass(slots=True)
class Fate:
    """What becomes of blobs. kept: whether a row names them now."""

    kept: bool = False


class Blobs:
    """
    All blobs of a broker. Safe for several processes: names never collide, blobs appear whole.

    root: the folder of blobs and spool; where `store` is another one, of the spool alone.
    """

    def __init__(
        self, root: Path, store: Store | None = None, *, most: int = 1 << 62, reserve: int = 0
    ) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.store: Store = store or FolderStore(root)
        self.spool = Spool(self._incoming, most=most, reserve=reserve)

    @classmethod
    def at(cls, home: Home) -> Blobs:
        """
        Return the blobs of a broker; nothing is asked of a bucket yet. Raises KeyRefused where the
        file of a bucket's keys is missing, open to others, or garbled.
        """
        settings, store = home.config.blobs, None
        if settings.url:
            file = home.path / (settings.credentials_file or "")
            ca_file = str(home.path / settings.ca_file) if settings.ca_file else ""
            store = BucketStore(settings, Credentials.load(file), ca_file)
        limits = home.config.limits
        return cls(home.blobs, store, most=settings.spool_bytes, reserve=limits.reserve_bytes)

    @contextmanager
    def receiving(self, *, bounded: bool = True) -> Iterator[Receiving]:
        """
        Begin a blob. On leaving, whatever was not kept is gone. bounded: it comes from a caller,
        and may fill neither spool nor disk.
        """
        path = self._incoming / secrets.token_hex(16)
        with storing():
            file = path.open("xb")
        received = Receiving(self, file, path, bounded=bounded)
        try:
            yield received
        finally:
            # What was kept is flushed and placed already; the rest need not reach the disk.
            with suppress(OSError):
                file.close()
            path.unlink(missing_ok=True)
            received.give_back()

    def put(self, data: bytes) -> Blob:
        """Store `data` whole."""
        with self.receiving(bounded=False) as incoming:
            incoming.write(data, cap=len(data))
            return incoming.keep()

    def read(self, blob_id: str) -> bytes:
        """Return a blob's bytes. Raises NotFound."""
        return b"".join(self.store.chunks(blob_id))

    def verified(self, blob_id: str, digest: str) -> Iterator[bytes]:
        """
        Return a blob's bytes piece by piece. Raises NotFound at once.

        The last piece comes only if all together have this SHA-256, so nobody receives the whole
        of a blob that was altered; else the iterator raises PackageRefused.
        """
        chunks = self.store.chunks(blob_id)
        return _verified(next(chunks, b""), chunks, digest)

    def part(self, blob_id: str, span: range) -> Iterator[bytes]:
        """
        Return these bytes of a blob, piece by piece. Nothing is verified: whoever gets all the
        parts verifies the whole. Raises NotFound at once.
        """
        chunks = self.store.chunks(blob_id, span.start)
        return _cut(next(chunks, b""), chunks, len(span))

    def delete(self, blob_id: str) -> None:
        """
        Delete a blob that no row names any more. A store that fails now is no error: what stays is
        swept later.
        """
        try:
            self.store.delete(blob_id)
        except Unreachable as fault:
            _log.warning("a blob stays until the sweep", message=fault.message)

    @contextmanager
    def unless_kept(self, *blob_ids: str) -> Iterator[Fate]:
        """
        Delete blobs on leaving, unless `kept` was set: for what is stored before the transaction
        that names it, and may turn out to be here already or be refused.
        """
        fate = Fate()
        try:
            yield fate
        finally:
            if not fate.kept:
                for blob_id in blob_ids:
                    self.delete(blob_id)

    def all_older_than(self, seconds: float) -> Iterator[str]:
        """Yield the blobs that were placed more than `seconds` ago."""
        return (name for name, age in self.store.ages() if age > seconds)

    def sweep_incoming(self, seconds: float) -> None:
        """Delete what a killed process left half-written more than `seconds` ago."""
        limit = time.time() - seconds
        for path in self._incoming.iterdir():
            if changed_at(path) < limit:
                path.unlink(missing_ok=True)


def _cut(first: bytes, rest: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in itertools.chain((first,), rest):
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def _verified(first: bytes, rest: Iterator[bytes], digest: str) -> Iterator[bytes]:
    found = hashlib.sha256(first)
    for chunk in rest:
        yield first
        found.update(chunk)
        first = chunk
    if found.hexdigest() != digest:
        raise PackageRefused(
            "a stored package is not what was stored",
            hint="the broker's admin restores the blobs from the backup that fits the database",
        )
    yield first
