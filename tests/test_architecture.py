"""The import boundary is the trust boundary: it holds, and a planted violation is caught."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("linkage", "broker", "sites")


def _lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root), "PATH": "", "COLUMNS": "200", "PYTHONUTF8": "1"},
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts, to plant violations in."""
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(
            CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_contracts_hold() -> None:
    done = _lint_imports(CHECKOUT)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("broker/planted.py", "import linkage.encoding.keys", "Only a site encodes"),
        # Not straight, but by way of a module that may.
        ("broker/planted.py", "import linkage.evaluation.bench_encode", "Only a site encodes"),
        ("linkage/matching/planted.py", "from linkage.encoding import clk", "Only a site encodes"),
        ("sites/cohort/planted.py", "from linkage.encoding import fields", "Only a site encodes"),
        ("broker/planted.py", "import sites.client", "never each other"),
        ("sites/planted.py", "import broker.config", "never each other"),
        ("linkage/planted.py", "import sites.vault", "never each other"),
        ("linkage/planted.py", "import httpx", "linkage has no network"),
        ("linkage/planted.py", "import socket", "linkage has no network"),
        ("linkage/planted.py", "import sqlalchemy", "linkage has no network"),
        ("linkage/planted.py", "import time", "linkage has no network"),
        ("sites/planted.py", "import fastapi", "A site has no web framework"),
        ("broker/planted.py", "import clkhash", "The broker has no clkhash"),
        ("broker/services/planted.py", "import sqlalchemy", "SQL is in broker.store"),
        ("broker/store/planted.py", "import fastapi", "Services and store know no HTTP"),
    ],
)
def test_a_planted_violation_is_caught(copy: Path, module: str, line: str, contract: str) -> None:
    (copy / module).write_text(f"{line}\n", encoding="utf-8")
    done = _lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [text for text in done.stdout.splitlines() if " BROKEN" in text]
    assert [text for text in broken if contract in text], done.stdout
    assert "planted" in done.stdout


def test_linkage_never_asks_what_time_it_is() -> None:
    """
    The calendar is imported for dates; asking it for today would hide an input. A command is where
    defaults are: the certificate of `linkage attack` is of today.
    """
    for path in (CHECKOUT / "linkage").rglob("*.py"):
        if path.name == "attack_cli.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                asked = f"{path.relative_to(CHECKOUT)}:{node.lineno}"
                assert node.func.attr not in {"now", "utcnow", "today"}, asked


def test_linkage_init_files_are_empty() -> None:
    """
    A re-export would drag the encoder into the broker. The one exception gathers all tables, for
    the database must be made with every one of them.
    """
    tables = CHECKOUT / "broker" / "store" / "tables" / "__init__.py"
    for package in PACKAGES:
        for path in set((CHECKOUT / package).rglob("__init__.py")) - {tables}:
            body = ast.parse(path.read_text(encoding="utf-8")).body
            imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not imports, path


def test_no_file_is_too_long_to_read() -> None:
    """A file that passes about 400 lines is split by noun."""
    for package in PACKAGES:
        for path in (CHECKOUT / package).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 420, f"{path.relative_to(CHECKOUT)} has {lines} lines"
