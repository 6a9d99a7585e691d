"""What `make audit` makes of pip-audit's answer: silence is no clean bill."""

from __future__ import annotations

import json

import pytest

from tests.flaws import KNOWN, UNASKED, Audit, read, verdict

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
