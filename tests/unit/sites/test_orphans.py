"""No worker outlives its parent: it would hold keys and records, and wait for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sites import workers

JOBS = """
import os, time

def prepare(order):
    return order

def name(prepared, one):
    time.sleep(0.2)
    return os.getpid(), os.getppid()
"""
PROGRAM = """
import time
from jobs_of_a_test import name, prepare
from sites.workers import Workers

if __name__ == "__main__":
    with Workers(2, prepare, 1) as pool:
        found = {pid for pair in pool.each(name, range(6)) for pid in pair}
        print(*found, flush=True)
        time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_workers_and_their_server_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    (tmp_path / "jobs_of_a_test.py").write_text(JOBS)
    program = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(workers.__file__).parents[1])},
    )
    assert program.stdout is not None
    found = [int(pid) for pid in program.stdout.readline().split()]
    assert len(found) >= 2
    assert all(map(alive, found))
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    deadline = time.monotonic() + 120
    while (left := [pid for pid in found if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
