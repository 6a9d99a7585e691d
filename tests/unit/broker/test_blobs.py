"""Blobs appear whole or not at all, under names that nobody chose."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from broker.blobs import Blobs
from linkage.errors import NotFound, TooLarge


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the system was asked to write to the disk, in this order."""
    found: list[Path] = []

    def fsync(handle: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{handle}")))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs._root.rglob("*") if path.is_file()]


def test_what_was_put_is_on_the_disk_with_the_folders_that_name_it(
    blobs: Blobs, synced: list[Path]
) -> None:
    root = blobs._root
    kept = blobs.put(b"x")
    folder = root / kept.blob_id[:2]
    assert [synced[0].parent, *synced[1:]] == [root / "incoming", root, folder]
    synced.clear()
    while blobs.put(b"y").blob_id[:2] != folder.name:
        synced.clear()
    assert synced[1:] == [folder], "its folder was there"


def test_what_was_put_is_read_back(blobs: Blobs) -> None:
    for data in (b"", b"x", os.urandom(100_000)):
        kept = blobs.put(data)
        assert (kept.size, kept.digest) == (len(data), hashlib.sha256(data).hexdigest())
        assert blobs.read(kept.blob_id) == data
        blobs.delete(kept.blob_id)
        blobs.delete(kept.blob_id)
        with pytest.raises(NotFound):
            blobs.read(kept.blob_id)
    assert files(blobs) == []


def test_what_was_not_kept_vanishes(blobs: Blobs) -> None:
    with blobs.receiving() as incoming:
        incoming.write(b"half", cap=10)
    assert files(blobs) == []


def test_what_a_failing_request_sent_vanishes(blobs: Blobs) -> None:
    def fail() -> None:
        with blobs.receiving() as incoming:
            incoming.write(b"half", cap=10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert files(blobs) == []


def test_the_cap_is_inclusive_and_holds_over_all_pieces(blobs: Blobs) -> None:
    with blobs.receiving() as incoming:
        incoming.write(b"12345", cap=10)
        incoming.write(b"67890", cap=10)
        assert incoming.size == 10
        with pytest.raises(TooLarge):
            incoming.write(b"x", cap=10)
    assert files(blobs) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 32, "a" * 31, "a" * 33, "g" * 32])
def test_only_our_own_names_become_paths(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound):
        blobs.read(name)


def test_sweeping_takes_only_what_is_old(blobs: Blobs) -> None:
    old, new = blobs.put(b"old"), blobs.put(b"new")
    past = time.time() - 100
    os.utime(next(blobs._root.glob(f"??/{old.blob_id}")), (past, past))
    assert list(blobs.all_older_than(50)) == [old.blob_id]
    assert set(blobs.all_older_than(0)) == {old.blob_id, new.blob_id}
    half = blobs._root / "incoming" / "half"
    half.write_bytes(b"x")
    blobs.sweep_incoming(50)
    assert half.exists()
    os.utime(half, (past, past))
    blobs.sweep_incoming(50)
    assert not half.exists()
