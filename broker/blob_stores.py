"""
Where blobs lie: one small interface, `Store`, and the folder behind it that every broker has.

A bucket is the other one (broker.blob_bucket). What is stored, by whom and until when is decided
above (broker.blobs): a store knows names of 32 hex digits and sealed bytes.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from linkage.errors import NotFound, Unreachable

NAME = re.compile(r"[0-9a-f]{32}")
CHUNK_BYTES = 1 << 20


class Store(Protocol):
    """Sealed bytes by name. Safe for several threads and processes."""

    def place(self, spooled: Path, name: str) -> None:
        """
        Make the file `spooled`, which is synced to disk, the blob `name`; the file may be gone
        afterwards. The blob appears whole or not at all. Raises Unreachable with its remedy.
        """

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        """
        Yield a blob's bytes from `start` on, piece by piece. Raises NotFound at once, or
        Unreachable.
        """

    def delete(self, name: str) -> None:
        """Delete a blob; one that is gone already is no error. Raises Unreachable."""

    def ages(self) -> Iterator[tuple[str, float]]:
        """Yield every blob with the seconds since it was placed. Raises Unreachable."""

    def require_usable(self) -> None:
        """Raises Unreachable, with the remedy, where blobs can't be listed, placed or deleted."""


class FolderStore:
    """
    Blobs in a folder, each at root/<first two digits>/<name>, renamed into place.

    The spool must be on the same file system.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, mode=0o700, exist_ok=True)

    def path(self, name: str) -> Path:
        """Return where a blob lies. Raises NotFound for what is no blob's name."""
        return self._root / require_name(name)[:2] / name

    def place(self, spooled: Path, name: str) -> None:
        final = self.path(name)
        with storing():
            if not final.parent.exists():
                final.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(self._root)  # else a power failure could take the folder, blob and all
            os.rename(spooled, final)
            _sync_folder(final.parent)

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        try:
            file = self.path(name).open("rb")
        except FileNotFoundError:
            raise gone() from None
        with file, storing():
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def delete(self, name: str) -> None:
        with storing():
            self.path(name).unlink(missing_ok=True)

    def ages(self) -> Iterator[tuple[str, float]]:
        now = time.time()
        for path in self._root.glob("[0-9a-f][0-9a-f]/*"):
            if NAME.fullmatch(path.name):
                yield path.name, now - changed_at(path)

    def require_usable(self) -> None:
        # No trial: a broker whose disk is full must start, to give out what it has.
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise Unreachable(
                f"{self._root} cannot be written", hint="make it this account's: chown, chmod 700"
            )


def require_name(name: str) -> str:
    """Return a blob's name. Raises NotFound for what is none, before any path is made of it."""
    if not NAME.fullmatch(name):
        raise NotFound("there is no such package")
    return name


def gone() -> NotFound:
    """Return the error for a blob that a row names and that is not there."""
    return NotFound(
        "a stored package is no longer there",
        hint="the broker's admin restores the blobs from the backup that fits the database",
    )


def changed_at(path: Path) -> float:
    """Return when a file was last written; one that has gone meanwhile is as new as can be."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


@contextmanager
def storing() -> Iterator[None]:
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
