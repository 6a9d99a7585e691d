"""Run Python with nothing but what one lock holds: an install of one side, without the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def packages_of(lock: str, into: Path) -> Path:
    """
    Link the packages of requirements/LOCK.lock that are installed here into a new folder.

    A package for another platform is not installed, and is left out; this project's own version
    is put in.
    """
    into.mkdir(parents=True)
    text = (CHECKOUT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")
    names = set(re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE))
    for name in [*names, "commons-linkage"]:
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue
        for top in {Path(str(file)).parts[0] for file in dist.files or []} - {"..", "__pycache__"}:
            # Of this project the version only: its modules come from the paths given.
            if name == "commons-linkage" and not top.endswith(".dist-info"):
                continue
            if not (into / top).exists():
                (into / top).symlink_to(Path(str(dist.locate_file(top))))
    return into


def run_python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` with only the standard library and `paths` to import from."""
    return subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path += {list(map(str, paths))}\n{code}",
        ],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(paths[0] / ".numba")},
    )


IMPORT_ALL = """
import importlib, pkgutil
def import_all(*roots, without=()):
    for root in roots:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, root + "."):
            if not module.name.startswith(tuple(without) or ("-",)):
                importlib.import_module(module.name)
"""
"""Code that defines import_all, for `run_python`."""

ONLY_ALEMBIC_RUNS = "broker.store.migrations.env"
"""A module that cannot be imported by itself."""
