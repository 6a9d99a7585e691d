"""The command line: what an admin types, what it answers, and its exit codes."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import json
import os
import ssl
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from broker.audit import record
from broker.cli import app
from broker.config import load_home
from broker.store.engine import Database
from linkage.messages import Deactivation
from linkage.sealing import Identity
from tests.audit_log import unlock
from tests.broker_world import PROGRAM, STUDY, World, make_world, sign_for, wait_for


@dataclass(frozen=True, slots=True)
class Done:
    """What a command answered."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str | Path, home: Path | None = None) -> Done:
    """Run a command in this process: starting another one takes longer than the command."""
    words = [*map(str, arguments), *(["--home", str(home)] if home else [])]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app(words, prog_name="linkage-broker")
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def spawned(*arguments: str | Path, home: Path, **env: str) -> Done:
    """Run a command in a process of its own, as it is installed."""
    command = [PROGRAM, *map(str, arguments), "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    return Done(done.returncode, done.stdout, done.stderr)


def spawned_linkage(*arguments: str | Path) -> Done:
    """Run `linkage`, on whatever machine: it needs nothing of the broker."""
    command = [str(Path(PROGRAM).with_name("linkage")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


def refused(done: Done, code: int) -> str:
    """One line on standard error, with its remedy; no traceback."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("linkage-broker: ")
    assert ". Hint: " in lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "broker"
    done = run("init", path, "--port", "0", "--allow-rehearsal")
    assert done.returncode == 0, done.stderr
    assert load_home(path).public().fingerprint in done.stdout
    return path


def test_init_takes_no_folder_twice_and_no_custodians(home: Path, tmp_path: Path) -> None:
    assert "home folder already" in refused(run("init", home), 1)
    (tmp_path / "custodian.key").write_text("x")
    assert "different organisations" in refused(run("init", tmp_path), 1)


def test_nobody_else_can_read_what_the_broker_keeps(home: Path) -> None:
    assert home.stat().st_mode & 0o077 == 0
    databases = [home / "broker.sqlite", home / "workflows.sqlite"]
    for path in [*databases, home / "config.toml", home / "worker" / "identity.key"]:
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_admins(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "ada.json"
    identity = Identity.generate("ada", kem="X25519").public()
    file.write_text(identity.model_dump_json())
    added = run("admin", "add", "ada", "--public-key", file, home=home)
    assert added.returncode == 0, added.stderr
    assert identity.fingerprint in added.stdout
    assert json.loads(run("admin", "list", "--json", home=home).stdout) == [
        {"name": "ada", "active": True}
    ]
    missing = run("admin", "add", "bob", "--public-key", tmp_path / "none", home=home)
    assert "cannot be read" in refused(missing, 1)
    assert run("admin", "revoke", "ada", home=home).returncode == 0
    assert "revoked" in run("admin", "list", home=home).stdout
    assert "no active admin" in refused(run("admin", "revoke", "ada", home=home), 1)


def test_a_study_and_a_run(home: Path, tmp_path: Path) -> None:
    signed, _ = sign_for(load_home(home).public(), "console-study")
    file = tmp_path / "signed.json"
    file.write_text(signed.model_dump_json())
    made = run("study", "register", file, home=home)
    gate = f"Release gate: {signed.release_gate}.\n"
    assert (made.returncode, made.stdout) == (0, f"Study console-study is registered. {gate}")
    again = run("study", "register", file, home=home)
    assert again.stdout == f"Study console-study is registered already. {gate}"
    wrong = run("study", "register", file, "--custodian-fingerprint", "0000", home=home)
    assert "it has 4 digits instead of 32" in refused(wrong, 1)
    nobody = run("run", "start", "console-study", home=home)
    assert "no complete dataset version from: imaging" in refused(nobody, 1)
    assert "no such study" in refused(run("run", "start", "none", home=home), 1)
    for precision in ("nan", "0.2", "1.1"):
        senseless = run("run", "start", "console-study", "--precision", precision, home=home)
        assert "a wanted precision must be a number from 0.5 to 1" in refused(senseless, 1)


def test_a_rotation_and_a_deactivation(home: Path, tmp_path: Path) -> None:
    broker = load_home(home).public()
    signed, identities = sign_for(broker, "rotated-study")
    later = STUDY.replace('title = "A small study"', 'title = "A small study"\nepoch = 2')
    rotated, _ = sign_for(broker, "rotated-study", text=later, identities=identities)
    more = later.replace('id = "claims"', 'id = "claims"\ncontributors = ["north", "south"]')
    changed, _ = sign_for(
        broker, "rotated-study", text=more.replace("epoch = 2", "epoch = 3"), identities=identities
    )
    files = []
    for number, one in enumerate((signed, rotated, changed), start=1):
        files.append(tmp_path / f"signed-{number}.json")
        files[-1].write_text(one.model_dump_json())
    for file in files[:2]:
        assert run("study", "register", file, home=home).returncode == 0
    assert "--allow-changed-parties" in refused(run("study", "register", files[2], home=home), 1)
    notice = Deactivation(
        study_id="rotated-study",
        epoch=2,
        key_check=rotated.key_check,
        date="2026-05-31",
        reason="the linkage is verified",
    )
    file = tmp_path / "notice.json"
    file.write_text(notice.sign(identities["custodian"]).model_dump_json())
    done = run("study", "deactivate", file, home=home)
    assert done.stdout == "The study key of rotated-study, epoch 2, is deactivated.\n"
    again = json.loads(run("study", "deactivate", file, "--json", home=home).stdout)
    assert again["deactivated"] == "on 2026-05-31: the linkage is verified"
    assert "is no notice" in refused(run("study", "deactivate", files[0], home=home), 1)
    agreed = run("study", "register", files[2], "--allow-changed-parties", home=home)
    assert agreed.returncode == 0, agreed.stderr


def test_the_audit_log(home: Path) -> None:
    ours = Database(load_home(home).database_url())
    with ours.change() as connection:
        record(connection, actor="console", action="act")
    head = json.loads(run("audit", "head", "--json", home=home).stdout)
    kept = f"{head['number']}:{head['hash']}"
    good = run("audit", "verify", "--head", kept, home=home)
    assert (good.returncode, kept in good.stdout) == (0, True)
    database = Database(load_home(home).database_url())
    with database.change() as connection:
        unlock(connection)
        newest = connection.execute(text("SELECT max(number) FROM audit")).scalar()
        row = connection.execute(
            text("SELECT entry, hash FROM audit WHERE number = :n"), {"n": newest}
        ).one()
        connection.execute(text("DELETE FROM audit WHERE number = :n"), {"n": newest})
    assert run("audit", "verify", home=home).returncode == 0
    assert "cut off" in refused(run("audit", "verify", "--head", kept, home=home), 3)
    with database.change() as connection:
        altered = row.entry.replace('"at":', '"at":1')
        connection.execute(
            text("INSERT INTO audit VALUES (:n, :e, :h)"),
            {"n": newest, "e": altered, "h": row.hash},
        )
    said = refused(run("audit", "verify", home=home), 3)
    assert f"at entry {newest}" in said
    with database.change() as connection:
        connection.execute(
            text("UPDATE audit SET entry = :e WHERE number = :n"), {"e": row.entry, "n": newest}
        )
    assert run("audit", "verify", home=home).returncode == 0


@pytest.mark.threat("T20")
def test_an_auditor_who_does_not_trust_the_admin(home: Path, tmp_path: Path) -> None:
    """The export travels; a party's heads and the public identity come from elsewhere."""
    heads, exported = tmp_path / "heads.jsonl", tmp_path / "log.jsonl"
    ours = Database(load_home(home).database_url())
    for _ in range(3):
        with ours.change() as connection:
            record(connection, actor="console", action="act")
    heads.write_text("".join(run("audit", "sign", home=home).stdout for _ in range(2)))
    told = json.loads(run("audit", "verify", "--heads", heads, "--json", home=home).stdout)
    assert told["kept_heads"] == 2
    assert told["vouched_entries"] == told["entries"] > 0
    assert "It fits together." in run("audit", "export", exported, home=home).stdout
    assert "cannot be written" in refused(run("audit", "export", exported, home=home), 1)
    public = home / "public.json"

    def offline(*words: str | Path) -> Done:
        return spawned_linkage("audit", "verify", exported, "--broker", public, *words)

    done = offline("--heads", heads)
    assert done.returncode == 0, done.stderr
    assert f"vouch for all {told['entries']} entries" in done.stdout
    assert "was compared with no party's heads" in offline("--alone").stdout
    assert offline().returncode == 2  # nothing to compare with must be said
    # The admin loses an entry, makes all hashes anew and signs every head again.
    copy = tmp_path / "broker"
    subprocess.run(["cp", "-r", str(home), str(copy)], check=True)
    database = Database(load_home(copy).database_url())
    with database.change() as connection:
        unlock(connection)
        connection.execute(text("DELETE FROM audit_head"))
        connection.execute(text("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)"))
    run("audit", "sign", home=copy)
    run("audit", "sign", home=copy)
    assert run("audit", "verify", home=copy).returncode == 0
    assert "two histories" in refused(run("audit", "verify", "--heads", heads, home=copy), 3)
    exported.unlink()
    assert run("audit", "export", exported, home=copy).returncode == 0
    done = offline("--heads", heads)
    assert done.returncode == 3
    assert "it showed two histories" in done.stderr
    assert "What to do: " in done.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_an_unmigrated_database_starts_nothing(home: Path, tmp_path: Path, command: str) -> None:
    copy = tmp_path / "broker"
    subprocess.run(["cp", "-r", str(home), str(copy)], check=True)
    (copy / "broker.sqlite").unlink()
    for left in copy.glob("broker.sqlite-*"):
        left.unlink()
    said = refused(spawned(command, home=copy), 1)
    assert "linkage-broker migrate" in said
    assert run("migrate", home=copy).returncode == 0
    assert run("audit", "head", home=copy).returncode == 0


def test_a_home_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("serve", "worker", "migrate", "identity"):
        assert "linkage-broker init" in refused(run(command, home=tmp_path), 1)
    monkeypatch.setenv("LINKAGE_BROKER_HOME", str(tmp_path))
    assert "linkage-broker init" in refused(run("identity"), 1)


def test_a_database_out_of_reach(home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql+psycopg://u:canary@127.0.0.1:1/x")
    done = spawned("serve", home=home, LINKAGE_BROKER_DATABASE_URL_FILE=str(secret))
    assert "canary" not in refused(done, 4)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_a_taken_port_and_a_second_worker(world: World) -> None:
    try:
        world.serve()
        port = world.url.rsplit(":", 1)[1]
        taken = spawned("serve", "--port", port, home=world.home.path)
        assert "cannot listen" in refused(taken, 4)
        world.work()
        log = world.home.path / "worker-1.log"
        wait_for(lambda: "worker started" in log.read_text(), 60)
        second = spawned("worker", home=world.home.path)
        assert "a worker named 'worker-1' is running here" in refused(second, 1)
        strange = spawned("worker", "--name", "../x", home=world.home.path)
        assert "cannot be a worker's name" in refused(strange, 1)
    finally:
        world.stop()
    # What a process prints is log lines only, each one JSON: DBOS and uvicorn are quiet.
    for name in ("worker-1", "serve"):
        for line in (world.home.path / f"{name}.log").read_text().splitlines():
            assert json.loads(line)["level"], line
    # uvicorn ends by the signal it got, after finishing what it was doing.
    assert [process.returncode for process in world.processes] == [-15, 0]


@pytest.mark.threat("T05")
def test_the_worker_needs_the_keys_and_the_server_does_not(world: World) -> None:
    world.home.identity_file.unlink()
    try:
        world.serve()
        assert "cannot be read" in refused(spawned("worker", home=world.home.path), 1)
    finally:
        world.stop()


def test_tls(world: World, tmp_path: Path) -> None:
    """Its own TLS: what listens elsewhere than on this machine must speak it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (world.home.path / "tls.crt").write_bytes(certificate.public_bytes(pem))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (world.home.path / "tls.key").write_bytes(key.private_bytes(pem, *plain))
    config = world.home.path / "config.toml"
    tls = '[server]\ntls_certificate = "tls.crt"\ntls_key = "tls.key"'
    config.write_text(config.read_text().replace("[server]", tls))
    try:
        world.serve()
        assert world.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(world.home.path / "tls.crt"))
        assert httpx.get(f"{world.url}/health", verify=trusted).json()["database"]
        with pytest.raises(httpx.TransportError):
            httpx.get(world.url.replace("https://", "http://") + "/health")
    finally:
        world.stop()


def test_usage_errors_are_of_their_own(home: Path) -> None:
    assert run("no-such-command").returncode == 2
    assert run("admin", "add", home=home).returncode == 2
    assert run("--help").returncode == 0
