"""A private file is there whole or not at all, and for its owner only."""

from __future__ import annotations

from pathlib import Path

import pytest

from sites.private_file import private_file


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ids.csv"
    with private_file(path) as file:
        file.write("é\r\n")
        assert not path.exists()
    assert path.read_bytes() == "é\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError), private_file(path) as file:
        file.writelines(["half", None])  # type: ignore[list-item]
    assert path.read_bytes() == "é\r\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_what_a_stopped_program_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".ids.csv.making").write_text("half")
    with private_file(tmp_path / "ids.csv") as file:
        file.write("whole")
    assert (tmp_path / "ids.csv").read_text() == "whole"
