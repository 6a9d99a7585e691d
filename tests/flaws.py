"""
Known flaws in the locked packages: `python -m tests.flaws`, which `make audit` runs.

pip-audit asks a service on the network what became known of each locked version. Exit code 0: it
was asked about every package and knows no flaw; 1: it knows some, which are printed; 3: not every
package was looked up (no network, or a mirror that serves packages and no advisories), so nothing
is said about them. Whoever runs a broker has their CI run this, where 3 is a failure like 1.

Before that, without a network, the locks are compared with requirements/flaws.toml: flaws that were
looked up by hand. A locked version with one of them is 1 whatever the service says.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

LOCKS = Path(__file__).resolve().parents[1] / "requirements"
PROGRAM = [
    str(Path(sys.executable).with_name("uv")),
    "tool",
    "run",
    "--from",
    "pip-audit>=2.9",
    "pip-audit",
]
KNOWN, UNASKED = 1, 3


@dataclass(frozen=True, slots=True)
class Audit:
    """Of one lock: packages asked about, those that were not, and a line for each known flaw."""

    asked: int
    unasked: tuple[str, ...]
    flaws: tuple[str, ...]


def noted() -> dict[str, Any]:
    """Return the flaws that were looked up by hand, and when: requirements/flaws.toml."""
    return tomllib.loads((LOCKS / "flaws.toml").read_text())


def locked(lock: Path) -> Iterator[tuple[str, Version]]:
    """Yield the packages of a lock with their versions; some have one for each Python."""
    for name, version in re.findall(r"(?m)^([a-z0-9._-]+)==([^ ;\\]+)", lock.read_text()):
        yield name, Version(version)


def flawed(lock: Path) -> list[str]:
    """Return a line for each locked version that has a flaw of those looked up by hand."""
    known = {one["package"]: one for one in noted()["flaw"]}
    return [
        f"{lock.name}: {name} {version}: {', '.join(known[name]['ids'])},"
        f" mended in: {known[name]['mended']}"
        for name, version in locked(lock)
        if name in known and version < Version(known[name]["mended"])
    ]


def read(text: str) -> Audit:
    """Read what pip-audit says in JSON. Raises ValueError where it is none."""
    asked, unasked, flaws = 0, [], []
    for one in json.loads(text)["dependencies"]:
        if "skip_reason" in one:
            unasked.append(str(one["name"]))
            continue
        asked += 1
        for flaw in one["vulns"]:
            mended = ", ".join(flaw["fix_versions"]) or "none yet"
            flaws.append(f"{one['name']} {one['version']}: {flaw['id']}, mended in: {mended}")
    return Audit(asked, tuple(unasked), tuple(flaws))


def verdict(found: dict[str, Audit | None]) -> tuple[int, list[str]]:
    """Return exit code and what to print. None: of this lock pip-audit told nothing."""
    lines: list[str] = []
    for name, audit in found.items():
        if audit is None:
            lines.append(f"{name}.lock: NOT AUDITED: pip-audit gave no answer")
            continue
        lines += [f"{name}.lock: {flaw}" for flaw in audit.flaws]
        left = len(audit.unasked)
        lines.append(
            f"{name}.lock: {audit.asked} packages looked up, {len(audit.flaws)} known flaws"
            + (f", {left} NOT AUDITED" if left else "")
        )
    if any(audit and audit.flaws for audit in found.values()):
        return KNOWN, lines
    if any(audit is None or audit.unasked for audit in found.values()):
        hint = "the advisories' service is not reached from here; run it where it is, in your CI"
        return UNASKED, [*lines, f"This says nothing about what was not audited: {hint}."]
    return 0, lines


def ask(lock: Path) -> Audit | None:
    """Let pip-audit look up a lock; None where it fails."""
    command = [*PROGRAM, "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    done = subprocess.run(
        [*command, "--format", "json", "-r", str(lock)], capture_output=True, text=True
    )
    try:
        return read(done.stdout)
    except (ValueError, KeyError, TypeError):
        print(done.stderr.strip()[-500:], file=sys.stderr)
        return None


def main() -> int:
    """Audit every lock."""
    locks = sorted(LOCKS.glob("*.lock"))
    lines = [line for lock in locks for line in flawed(lock)]
    many = f"{len(noted()['flaw'])} packages' flaws of requirements/flaws.toml, {noted()['seen']}"
    print("\n".join(lines or [f"by hand: no locked version has one of {many}"]), flush=True)
    if lines:
        return KNOWN
    found: dict[str, Audit | None] = {}
    for lock in locks:
        # Whatever kept the service from answering about one lock, the next would wait for it too.
        silent = any(one is None or not one.asked for one in found.values())
        found[lock.stem] = None if silent else ask(lock)
    code, lines = verdict(found)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
