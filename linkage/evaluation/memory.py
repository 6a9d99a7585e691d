"""How much memory a running program and all its descendants hold together (Linux)."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

_SAMPLE_S = 0.2


def watch(running: subprocess.Popen[bytes], peak: list[float]) -> None:
    """Keep in peak[0] the most MB that were held, until the program ends."""
    while running.poll() is None:
        peak[0] = max(peak[0], sum(_memory_mb(one) for one in _family(running.pid)))
        time.sleep(_SAMPLE_S)


def _family(process: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [process]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in _read(children).split()]
    return found


def _memory_mb(process: int) -> float:
    """Return a process's proportional set size: what it shares counts by its share."""
    for line in _read(Path(f"/proc/{process}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""
