"""A file takes the place of the one before when it is whole, and not before."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from linkage.errors import KeyRefused
from linkage.sealing import replace_secret
from linkage.whole_file import write_private, write_whole


def test_each_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for write, mode in ((write_private, 0o600), (replace_secret, 0o600)):
        path = tmp_path / "new" / f"{write.__name__}.json"
        for data in (b"first", b"second \xff"):
            write(path, data)
            assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == mode
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    write_whole(tmp_path / "text.json", "é\n")
    assert (tmp_path / "text.json").read_bytes() == "é\n".encode()
    assert sorted(p.name for p in tmp_path.rglob("*.making")) == []


def test_what_a_stopped_program_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".kept.making").write_text("half")
    for write in (write_private, replace_secret):
        write(tmp_path / "kept", b"whole")
        assert (tmp_path / "kept").read_bytes() == b"whole"


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    """Here a limit on the size of files, which the system checks in the same place."""
    path = tmp_path / "kept"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OSError, match="too large"):
            write_private(path, bytes(8192))
        with pytest.raises(OSError, match="too large"):
            write_whole(path, "a" * 8192)
        with pytest.raises(KeyRefused, match="cannot be written"):
            replace_secret(path, bytes(8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handled)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
