"""What the fork server loads for all workers."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, sys
import sites.warm
print([name for name in ("pandas", "scipy", "cffi", "yaml") if name in sys.modules], gc.isenabled())
import pandas
"""


def test_workers_do_without_large_libraries_that_others_can_still_load() -> None:
    made = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert made.stdout == "[] True\n", made.stderr[-500:]
    assert made.returncode == 0
