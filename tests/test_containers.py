"""The container files: who mounts what, that every command exists, and that the set-up works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import broker.cli
from tests.isolated import CHECKOUT, IMPORT_ALL, ONLY_ALEMBIC_RUNS, packages_of, run_python

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "postgres"]
BIN = Path(sys.executable).parent
_NOT_IMPORTED = ["linkage.evaluation", ONLY_ALEMBIC_RUNS]  # benchmarks, attacks and the gate encode


def _volumes(service: str) -> dict[str, str]:
    return dict(mount.split(":", 1) for mount in SERVICES[service].get("volumes", []))


@pytest.mark.threat("T05")
def test_only_the_worker_sees_the_private_key() -> None:
    holders = {name for name in SERVICES if "worker-key" in _volumes(name)}
    assert holders == {"worker", "set-up"}
    assert SERVICES["set-up"]["profiles"] == ["set-up"]  # `up` does not start it
    assert _volumes("worker")["worker-key"] == "/broker/worker"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "environment" not in service or not [
        key for key in service["environment"] if "PASSWORD" in key and not key.endswith("_FILE")
    ]


def test_the_image_runs_as_nobody_in_owner_only_folders() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE, flags=re.MULTILINE)[-1] == "10001:10001"
    assert "install -d -m 0700 -o 10001 -g 10001 /broker /broker/blobs /broker/worker" in DOCKERFILE


def test_only_the_server_is_reachable_and_only_from_this_host() -> None:
    assert {n for n in SERVICES if "front" in SERVICES[n]["networks"]} == {"broker"}
    assert {n for n in SERVICES if "ports" in SERVICES[n]} == {"broker"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["broker"]["ports"])
    assert COMPOSE["networks"]["inside"]["internal"] is True


def test_what_runs_on_has_a_health_check_and_waits_for_what_it_needs() -> None:
    for name in ("postgres", "broker", "worker"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        assert SERVICES[name]["restart"] == "unless-stopped"
    for name in ("broker", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"].endswith("successfully")


def test_all_that_is_named_is_defined() -> None:
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
        assert set(_volumes(name)) <= COMPOSE["volumes"].keys()
        assert set(service.get("depends_on", {})) <= SERVICES.keys()


def test_every_command_exists() -> None:
    scripts = dict(
        re.findall(r"^COPY (docker/\S+) /usr/local/bin/(\S+)$", DOCKERFILE, re.MULTILINE)
    )
    named = [service["command"] for service in SERVICES.values() if "command" in service]
    named += [SERVICES[name]["healthcheck"]["test"][1:] for name in ("broker", "worker")]
    for program, *arguments in named:
        if program == "linkage-broker":
            command = typer.main.get_command(broker.cli.app)
            found = command.commands[arguments[0]]  # type: ignore[attr-defined]
            options = {option for parameter in found.params for option in parameter.opts}
            assert {a for a in arguments if a.startswith("--")} <= options
        else:
            [script] = [source for source, target in scripts.items() if target == program]
            assert os.access(CHECKOUT / script, os.X_OK)


def test_the_project_builds_from_what_is_copied(tmp_path: Path) -> None:
    """With the build tools of the lock and no index, as in the Dockerfile; nothing is left out."""
    source = tmp_path / "source"
    for sources, target in re.findall(
        r"^COPY (?!--from|docker)(.+) (\S+)$", DOCKERFILE, re.MULTILINE
    ):
        for name in sources.split():
            path = CHECKOUT / name
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, source / target, ignore=ignored)
            else:
                (source / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, source / target)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for package in ("linkage", "broker", "sites"):
        for path in (CHECKOUT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(CHECKOUT)) in held


def test_the_image_holds_enough_without_the_encoder(tmp_path: Path) -> None:
    """Every module of the broker imports with the broker's lock, and no encoder to be found."""
    source = tmp_path / "source"
    shutil.copytree(CHECKOUT / "broker", source / "broker")
    shutil.copytree(
        CHECKOUT / "linkage", source / "linkage", ignore=lambda folder, names: {"encoding"}
    )
    code = f"{IMPORT_ALL}\nimport_all('broker', 'linkage', without={_NOT_IMPORTED})"
    done = run_python(code, packages_of("broker", tmp_path / "packages"), source)
    assert done.returncode == 0, done.stderr


@contextmanager
def _running(*arguments: str, env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_set_up_server_worker_and_health_checks_on_a_real_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    """What the containers do, in the same order with the same commands, but without containers."""
    home, url_file, ready = tmp_path / "broker", tmp_path / "database-url", tmp_path / "ready"
    url_file.write_text(postgres_url)
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LINKAGE_BROKER_HOME": str(home),
        "LINKAGE_BROKER_DATABASE_URL_FILE": str(url_file),
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        "HOME": str(tmp_path),
    }
    subprocess.run([CHECKOUT / "docker" / "set-up"], env=env, check=True, capture_output=True)
    settings = (home / "config.toml").read_text()
    assert 'host = "0.0.0.0"' in settings
    assert "\nbehind_tls_proxy = true" in settings
    assert (home / "worker" / "identity.key").stat().st_mode & 0o077 == 0
    program = str(BIN / "linkage-broker")
    subprocess.run([program, "migrate"], env=env, check=True, capture_output=True)

    def healthy(sign: str) -> bool:
        check = [CHECKOUT / "docker" / "healthy", ready.read_text().strip(), sign]
        return subprocess.run(check, env=env, capture_output=True).returncode == 0

    serve = (program, "serve", "--port", "0", "--ready-file", str(ready))
    with _running(*serve, env=env, log=tmp_path / "serve.log"):
        _wait(ready.exists, tmp_path / "serve.log")
        assert healthy("database")
        assert not healthy("worker")
        worker = (program, *SERVICES["worker"]["command"][1:])
        with _running(*worker, env=env, log=tmp_path / "worker.log"):
            _wait(lambda: healthy("worker"), tmp_path / "worker.log")


def _wait(true: Any, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
