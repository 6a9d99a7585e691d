"""The house itself: what is installed, what is locked, what is committed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.isolated import CHECKOUT, IMPORT_ALL, ONLY_ALEMBIC_RUNS, packages_of, run_python

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = sorted((CHECKOUT / "requirements").glob("*.lock"))

# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("pypi", "python", "org"),
        ("registry", "npmjs"),
        ("deb", "debian", "org"),
        ("conda", "anaconda"),
        ("docker", "io"),
        ("ghcr", "io"),
    )
]


def _locked(name: str) -> dict[str, list[str]]:
    """Return package -> hashes of requirements/NAME.lock."""
    packages: dict[str, list[str]] = {}
    text = (CHECKOUT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        package = canonicalize_name(Requirement(requirement).name)
        packages[package] = packages.get(package, []) + hashes
    return packages


def _required(extra: str) -> set[str]:
    """Return the packages that an extra names, extras within extras included."""
    names: set[str] = set()
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            for inner in requirement.extras:
                names |= _required(inner)
        else:
            names.add(canonicalize_name(requirement.name))
    return names


@pytest.mark.parametrize(
    ("extra", "banned"),
    [
        (
            "site",
            {"fastapi", "starlette", "uvicorn", "flask", "django", "alembic", "dbos", "opendp"},
        ),
        ("marks", {"fastapi", "starlette", "uvicorn", "flask", "django", "alembic", "dbos"}),
        ("broker", {"clkhash", "anonlink", "jellyfish", "bitarray", "opendp"}),
        ("demo", {"clkhash", "anonlink", "pytest", "opendp"}),
    ],
)
def test_an_install_lacks_what_its_side_must_not_have(extra: str, banned: set[str]) -> None:
    """The lock is the whole of an install (pip runs with --no-deps), so it is the proof."""
    locked = _locked(extra)
    assert not banned & locked.keys()
    assert _required(extra) <= locked.keys(), "requirements/ is stale: run `make lock`"


@pytest.mark.parametrize("extra", ["site", "marks", "broker", "demo", "dev"])
def test_locks_are_complete_for_what_they_lock(extra: str) -> None:
    """Everything a locked package needs on this Python is locked too, and with the same version."""
    from importlib.metadata import PackageNotFoundError, requires

    locked = _locked(extra)
    for package in locked:
        try:
            needs = [Requirement(text) for text in requires(package) or []]
        except PackageNotFoundError:
            continue  # for another platform or Python
        for need in needs:
            needed = need.marker is None or need.marker.evaluate({"extra": ""})
            name = canonicalize_name(need.name)
            # Left out on purpose: pyproject.toml, tool.uv.
            if needed and name != "bashplotlib":
                assert name in locked, f"{package} needs {name}: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_hashes_and_one_version_everywhere(lock: Path) -> None:
    packages = _locked(lock.stem)
    assert packages
    assert all(hashes for hashes in packages.values())
    everything = (CHECKOUT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    for line in lock.read_text(encoding="utf-8").splitlines():
        if "==" in line:
            pinned = line.split(" ")[0]
            assert f"{pinned} " in everything, f"{pinned} is not that of dev.lock"


def test_no_committed_file_names_a_package_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = CHECKOUT / name
        if path.is_file():
            content = path.read_bytes().decode("utf-8", errors="ignore")
            for host in [*REGISTRY_HOSTS, "--find-links", "--index-url"]:
                if host.startswith("--") and path.suffix != ".lock":
                    continue
                assert host not in content, f"{name} names a registry or index"


def test_python_floor_is_the_one_the_locks_are_made_for() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert "--python-version 3.11" in (CHECKOUT / "Makefile").read_text(encoding="utf-8")


def test_postgres_is_real_and_each_database_is_empty(new_postgres_url: Callable[[], str]) -> None:
    for _ in range(2):
        engine = sa.create_engine(new_postgres_url())
        with engine.begin() as connection:
            assert "PostgreSQL" in str(connection.scalar(sa.text("SELECT version()")))
            connection.execute(sa.text("CREATE TABLE only_here (n int)"))
        engine.dispose()


def test_a_site_install_has_all_that_a_site_imports(tmp_path: Path) -> None:
    """With the site's lock alone: all of linkage.encoding, and every command of linkage-site."""
    code = f"""{IMPORT_ALL}
import_all("linkage.encoding", "sites.sources", "sites.commands")
import linkage.cli, sites.cli, sites.tokenizer, sites.client
"""
    done = run_python(code, packages_of("site", tmp_path / "packages"), CHECKOUT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("script", sorted(PROJECT["scripts"]))
def test_every_script_starts(script: str, option: str) -> None:
    program = Path(sys.executable).with_name(script)
    done = subprocess.run([program, option], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("script", sorted(PROJECT["scripts"]))
def test_every_script_says_its_version(script: str) -> None:
    program = Path(sys.executable).with_name(script)
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{PROJECT['name']} {PROJECT['version']}\n"


def test_a_demonstration_install_has_all_that_both_sides_import(tmp_path: Path) -> None:
    code = (
        f"{IMPORT_ALL}\nimport_all('linkage', 'broker', 'sites', without=['{ONLY_ALEMBIC_RUNS}'])"
    )
    done = run_python(code, packages_of("demo", tmp_path / "packages"), CHECKOUT)
    assert done.returncode == 0, done.stderr
