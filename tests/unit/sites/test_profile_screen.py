"""The profile on a terminal shows a source's texts as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sites.profiling.screen import print_profile
from tests.unit.sites.test_profile import person, profiled


@pytest.mark.parametrize("text", ["[unknown]", "[/b]", "\\[red]", ":bomb:"])
def test_a_groups_name_is_no_markup(tmp_path: Path, text: str) -> None:
    """[unknown] was not to be seen, and [/b] ended the command as a bug."""
    people = [
        person(i, race=text if i % 2 else "white", first=text if i < 40 else person(i)["first"])
        for i in range(400)
    ]
    report = profiled(tmp_path, people)
    screen = Console(width=200, file=io.StringIO())
    print_profile(report, screen)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert f"\n{text} " in shown, "a group"
