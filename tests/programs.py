"""Run the project's own programs as a user would: as processes, by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished program said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def program(name: str) -> str:
    """Return the path of an installed program of this environment."""
    return str(Path(sys.executable).with_name(name))


def run(name: str, *arguments: str | Path, timeout: float = 240) -> Done:
    """Run a program to its end, whatever comes of it."""
    done = subprocess.run(
        [program(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def ok(name: str, *arguments: str | Path, timeout: float = 240) -> Done:
    """Run a program that must succeed."""
    done = run(name, *arguments, timeout=timeout)
    assert done.code == 0, f"{name} {arguments[0]}: {done.err}"
    return done
