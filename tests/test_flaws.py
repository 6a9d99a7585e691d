"""What `make audit` makes of pip-audit's answer: silence is no clean bill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flaws import KNOWN, LOCKS, UNASKED, Audit, flawed, locked, noted, read, verdict

CLEAN = {"name": "alpha", "version": "1.0", "vulns": []}
SKIPPED = {"name": "beta", "skip_reason": "Dependency not found"}
FLAWED = {
    "name": "gamma",
    "version": "2.0",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}],
}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "1 packages looked up, 0 known flaws"),
        ([CLEAN, SKIPPED], UNASKED, "1 NOT AUDITED"),
        ([SKIPPED, FLAWED], KNOWN, "gamma 2.0: CVE-2026-1, mended in: 2.1"),
    ],
)
def test_only_what_was_looked_up_is_clean(packages: list[object], code: int, said: str) -> None:
    found = read(json.dumps({"dependencies": packages, "fixes": []}))
    given, lines = verdict({"one": found})
    assert given == code
    assert said in "\n".join(lines)


def test_no_answer_is_no_clean_bill() -> None:
    code, lines = verdict({"one": Audit(3, (), ()), "two": None})
    assert code == UNASKED
    assert any("two.lock: NOT AUDITED" in line for line in lines)
    for answer in ("", "[]", "{}"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            read(answer)


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.lock")), ids=lambda path: path.stem)
def test_no_locked_version_has_a_flaw_that_was_looked_up(lock: Path) -> None:
    assert flawed(lock) == []


def test_every_flaw_that_was_looked_up_is_of_a_locked_package(tmp_path: Path) -> None:
    """And an old version would be found: numbers are compared as versions, not as text."""
    there = {name for name, _ in locked(LOCKS / "dev.lock")}
    named = [one["package"] for one in noted()["flaw"]]
    assert named == sorted(set(named) & there)
    old = tmp_path / "old.lock"
    old.write_text("".join(f"{name}==0.0.9 \\\n    --hash=sha256:0\n" for name in named))
    assert len(flawed(old)) == len(named) >= 20
    old.write_text("h11==0.9.0 ; python_version < '4'\nidna==3.15\n")
    assert flawed(old) == ["old.lock: h11 0.9.0: CVE-2025-43859, mended in: 0.16.0"]
