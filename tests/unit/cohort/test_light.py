"""A site that only tokenizes has no DuckDB: its settings must load without."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["sites.config", "sites.cohort.config", "linkage.cohort.spec"])
def test_settings_load_without_the_engines(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "heavy = {'duckdb', 'ibis', 'pandas', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_joiner_never_loads_what_encodes() -> None:
    program = (
        "import sys, sites.cohort.join, sites.cohort.counts, sites.cohort.imaging\n"
        "import sites.cohort.sample\n"
        "bad = [m for m in sys.modules if m.startswith(('linkage.encoding', 'broker', 'httpx'))]\n"
        "sys.exit(', '.join(bad) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
