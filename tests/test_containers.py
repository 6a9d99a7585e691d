"""The container files: who mounts what, that every command exists, and that the set-up works."""

from __future__ import annotations

import datetime as dt
import json
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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import broker.cli
from broker.config import BrokerConfig
from broker.settings import from_environment
from tests.isolated import CHECKOUT, IMPORT_ALL, ONLY_ALEMBIC_RUNS, packages_of, run_python

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name in SERVICES if "build" in SERVICES[name]]
OTHERS = {"proxy": "101:101", "prometheus": "65534:65534", "bucket": "10002:10002"}
BUCKET = yaml.safe_load((CHECKOUT / "docker" / "compose.bucket.yml").read_text(encoding="utf-8"))
BIN = Path(sys.executable).parent
_NOT_IMPORTED = ["linkage.evaluation", ONLY_ALEMBIC_RUNS]  # benchmarks, attacks and the gate encode


def _volumes(service: str) -> dict[str, str]:
    return dict(mount.split(":", 1) for mount in SERVICES[service].get("volumes", []))


@pytest.mark.threat("T05")
def test_only_the_worker_sees_the_private_key() -> None:
    assert set(OURS) == {"set-up", "migrate", "broker", "worker"}
    holders = {name for name in SERVICES if "worker-key" in _volumes(name)}
    assert holders == {"worker", "set-up"}
    assert SERVICES["set-up"]["profiles"] == ["set-up"]  # `up` does not start it
    assert _volumes("worker")["worker-key"] == "/broker/worker"


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_containers_have_no_privileges(name: str) -> None:
    service = SERVICES.get(name) or BUCKET["services"][name]
    assert service["user"] == OTHERS.get(name, "10001:10001")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "environment" not in service or not [
        key for key in service["environment"] if "PASSWORD" in key and not key.endswith("_FILE")
    ]


def test_the_image_runs_as_nobody_in_owner_only_folders() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE, flags=re.MULTILINE)[-1] == "10001:10001"
    assert "install -d -m 0700 -o 10001 -g 10001 /broker /broker/blobs /broker/worker" in DOCKERFILE


def test_only_the_proxy_is_reachable_from_elsewhere() -> None:
    networks = {name: set(SERVICES[name]["networks"]) for name in SERVICES}
    assert {n for n in networks if "front" in networks[n]} == {"broker", "proxy"}
    assert {n for n in networks if "outside" in networks[n]} == {"proxy", "prometheus"}
    assert {n for n in SERVICES if "ports" in SERVICES[n]} == {"proxy", "prometheus"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["prometheus"]["ports"])
    assert all(COMPOSE["networks"][name]["internal"] for name in ("inside", "front"))
    # Whose word about callers' addresses is believed: that of the network with the proxy.
    [front] = COMPOSE["networks"]["front"]["ipam"]["config"]
    said = SERVICES["broker"]["environment"]["LINKAGE_BROKER_SERVER_PROXY_ADDRESSES"]
    assert json.loads(said) == [front["subnet"]]


@pytest.mark.parametrize("service", [*OURS, "bucket"])
def test_the_environment_sets_what_exists(service: str, tmp_path: Path) -> None:
    own = SERVICES.get(service, {}).get("environment", {})
    added = BUCKET["services"].get(service, {}).get("environment", {})
    if service == "bucket":
        own, added = {}, BUCKET["x-bucket"]
    found = from_environment(own | added, BrokerConfig)
    raw = {"server": {"behind_tls_proxy": True}} | {t: dict(keys) for t, keys in found.items()}
    config = BrokerConfig.model_validate(raw)
    assert config.server.behind_tls_proxy
    if service in ("broker", "worker", "bucket"):
        assert config.blobs.bucket == ("linkage-packages", "")


def test_every_mounted_file_is_here_or_is_a_secret() -> None:
    for services in (SERVICES, BUCKET["services"]):
        for service in services.values():
            for mount in service.get("volumes", []):
                source = mount.split(":")[0]
                if source.startswith("."):
                    assert (CHECKOUT / source).is_file(), source
                    assert mount.endswith(":ro")
    for one in (COMPOSE, BUCKET):
        for secret in one["secrets"].values():
            assert secret["file"].startswith("./secrets/")
    assert "secrets/" in (CHECKOUT / ".gitignore").read_text()


def test_prometheus_scrapes_the_ports_that_are_set() -> None:
    told = yaml.safe_load((CHECKOUT / "docker" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in told["scrape_configs"]}
    env = SERVICES["broker"]["environment"]
    port = env["LINKAGE_BROKER_METRICS_SERVER_PORT"]
    assert jobs["linkage-broker"]["static_configs"] == [{"targets": [f"broker:{port}"]}]
    [workers] = jobs["linkage-worker"]["dns_sd_configs"]
    assert (workers["names"], str(workers["port"])) == (
        ["worker"],
        env["LINKAGE_BROKER_METRICS_WORKER_PORT"],
    )
    mounted = {mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]}
    assert set(told["rule_files"]) <= mounted


def test_the_proxy_passes_on_what_the_broker_takes() -> None:
    text = (CHECKOUT / "docker" / "nginx.conf").read_text()
    [most] = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(most) << 20 >= BrokerConfig().limits.relayed_bytes
    for said in (
        "proxy_request_buffering off;",
        "proxy_buffering off;",
        "gzip off;",
        "access_log off;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "ssl_protocols TLSv1.2 TLSv1.3;",
    ):
        assert said in text
    assert "9101" not in text
    assert "9102" not in text


@pytest.mark.skipif(not shutil.which("nginx"), reason="Debian's nginx-light is not installed")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    certificate, key = _self_signed(tmp_path)
    text = (CHECKOUT / "docker" / "nginx.conf").read_text()
    # No name service here knows the broker.
    text = text.replace("http://broker:8400", "http://127.0.0.1:8400")
    text = re.sub(r"(?<= )/tmp(?=/)", str(tmp_path), text)
    for secret, path in (("tls-certificate", certificate), ("tls-key", key)):
        text = re.sub(rf"/run/secrets/{secret};", f"{path};", text)
    (tmp_path / "nginx.conf").write_text(text)
    command = ["nginx", "-t", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    certificate, private = folder / "tls.pem", folder / "tls.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return certificate, private


def test_what_runs_on_has_a_health_check_and_waits_for_what_it_needs() -> None:
    for name in ("postgres", "broker", "worker", "proxy"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        assert SERVICES[name]["restart"] == "unless-stopped"
    for name in ("broker", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"].endswith("successfully")


def test_all_that_is_named_is_defined() -> None:
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
        named = {source for source in _volumes(name) if not source.startswith(".")}
        assert named <= COMPOSE["volumes"].keys()
        assert set(service.get("depends_on", {})) <= SERVICES.keys()


def test_every_command_exists() -> None:
    scripts = dict(
        re.findall(r"^COPY (docker/\S+) /usr/local/bin/(\S+)$", DOCKERFILE, re.MULTILINE)
    )
    named = [SERVICES[name]["command"] for name in OURS]
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
    # Beside another run of the tests, files come and go where compiled code is kept.
    for package, ignored in (("broker", ()), ("linkage", ("encoding",))):
        without = shutil.ignore_patterns("__pycache__", *ignored)
        shutil.copytree(CHECKOUT / package, source / package, ignore=without)
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
        process.wait(timeout=240)


def test_set_up_server_worker_and_health_checks_on_a_real_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    """What the containers do, in the same order with the same commands, but without containers."""
    home, url_file, ready = tmp_path / "broker", tmp_path / "database-url", tmp_path / "ready"
    url_file.write_text(postgres_url)
    env = SERVICES["broker"]["environment"] | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LINKAGE_BROKER_HOME": str(home),
        "LINKAGE_BROKER_DATABASE_URL_FILE": str(url_file),
        "LINKAGE_BROKER_SERVER_HOST": "127.0.0.1",
        "LINKAGE_BROKER_METRICS_SERVER_PORT": "0",
        "LINKAGE_BROKER_METRICS_WORKER_PORT": "0",
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        "HOME": str(tmp_path),
    }
    subprocess.run([CHECKOUT / "docker" / "set-up"], env=env, check=True, capture_output=True)
    assert (home / "worker" / "identity.key").stat().st_mode & 0o077 == 0
    program = str(BIN / "linkage-broker")
    subprocess.run([program, "migrate"], env=env, check=True, capture_output=True)

    def healthy(sign: str) -> bool:
        check = [CHECKOUT / "docker" / "healthy", ready.read_text().strip(), sign]
        return subprocess.run(check, env=env, capture_output=True).returncode == 0

    serve = (program, "serve", "--port", "0", "--ready-file", str(ready))
    with _running(*serve, env=env, log=tmp_path / "serve.log"):
        _wait(ready.exists, tmp_path / "serve.log")
        assert healthy("ready")
        assert healthy("database")
        assert not healthy("worker")
        worker = (str(CHECKOUT / "docker" / "worker"),)
        with _running(*worker, env=env, log=tmp_path / "worker.log"):
            _wait(lambda: healthy("worker"), tmp_path / "worker.log")


def _wait(true: Any, log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
