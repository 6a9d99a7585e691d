"""The broker's private keys elsewhere than in the worker, and what no worker starts with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from broker.config import load_home
from broker.keys import key_holder_of
from linkage.errors import KeyRefused, PackageRefused, Unreachable
from linkage.messages import BROKER, CROSSWALK, ReleaseRequest
from linkage.sealing import Context, Identity, KeyHolder, seal, unseal
from tests.broker_world import World, crash, make_world, packages, running, wait_for
from tests.key_process import holder

CHECKOUT = Path(__file__).parents[2]


@contextmanager
def keys_elsewhere(world: World, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Move a broker's keys to a process of their own; the worker's folder has only a socket."""
    folder.mkdir(mode=0o700)
    moved, socket = folder / "identity.key", world.home.path / "worker" / "keys.socket"
    world.home.identity_file.rename(moved)
    config = world.home.path / "config.toml"
    config.write_text(f'{config.read_text()}\n[worker]\nkey_holder = "tests.key_process:holder"\n')
    command = [sys.executable, "-m", "tests.key_process", str(moved), str(socket)]
    process = subprocess.Popen(command, cwd=CHECKOUT)
    try:
        wait_for(lambda: socket.exists() or process.poll() is not None, 30)
        yield process
    finally:
        crash(process)
        socket.unlink(missing_ok=True)


def test_a_path_too_long_for_a_socket_is_none_for_its_folder(tmp_path: Path) -> None:
    """TMPDIR may be long: the tests of keys elsewhere once failed there."""
    worker = tmp_path / ("long" * 25) / "worker"
    worker.mkdir(parents=True)
    identity, socket = Identity.generate("broker", kem="X25519"), worker / "keys.socket"
    identity.save(worker / "identity.key")
    command = [sys.executable, "-m", "tests.key_process", worker / "identity.key", socket]
    process = subprocess.Popen(command, cwd=CHECKOUT)

    def answers() -> bool:
        with suppress(Unreachable):
            return bool(holder(worker.parent).public())
        return process.poll() is not None

    try:
        wait_for(answers, 30)
        asked = holder(worker.parent)
        assert asked.public() == identity.public()
        identity.public().verify(asked.sign(b"data"), b"data")
    finally:
        crash(process)


def test_a_whole_linkage_with_the_keys_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    world = make_world(tmp_path)
    with keys_elsewhere(world, tmp_path / "vault") as process, running(world):
        for package in packages(world, people=60, overlap=30).values():
            world.upload(package)
        done = world.run()
        assert done["state"] == "done", done["failure"]
        asked = ReleaseRequest(audience=("enclave",))
        job = world.actor("admin").post(f"{world.path}/releases", asked).raise_for_status().json()
        ended = world.finish(f"{world.path}/jobs/{job['job_id']}")
        assert ended["state"] == "done", ended["failure"]
        enclave = world.actor("enclave")
        item = enclave.get(f"{world.path}/inbox", purpose=CROSSWALK).json()["items"][0]
        opened = unseal(
            enclave.get(f"{world.path}/inbox/{item['item_id']}").content,
            sender=world.signed.pin(BROKER),
            recipient=world.identities["enclave"],
            context=Context(world.study_id, BROKER, "enclave", CROSSWALK, (job["job_id"],)),
        )
        assert len(opened) > 60 * 16
        assert process.poll() is None
        # No private key lies in the broker's folder: it stays where the other process has it.
        assert not world.home.identity_file.exists()
        assert list((world.home.path / "worker").glob("*.key")) == []


def test_both_holders_do_the_same(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    here: KeyHolder = key_holder_of(load_home(world.home.path))
    context = Context("s", "claims", BROKER, "test")
    sealed = seal(
        b"data", sender=world.identities["claims"], recipient=here.public(), context=context
    )
    pin = world.identities["claims"].public()
    with keys_elsewhere(world, tmp_path / "vault"):
        there = key_holder_of(load_home(world.home.path))
        assert there.name == here.name == BROKER
        assert there.sign(b"x") == here.sign(b"x")
        for one in (here, there):
            assert unseal(sealed, sender=pin, recipient=one, context=context) == b"data"
            with pytest.raises(ValueError, match="does not open"):
                one.open(sealed[68:], b"another context")
            strange = seal(
                b"data", sender=world.identities["claims"], recipient=pin, context=context
            )
            with pytest.raises(PackageRefused, match="does not open with the key"):
                unseal(strange, sender=pin, recipient=one, context=context)


def test_what_the_worker_does_not_start_with(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    home, file = world.home, world.home.identity_file
    file.chmod(0o640)
    with pytest.raises(KeyRefused, match=r"can be read by others than its owner.*chmod 600"):
        key_holder_of(home)
    file.unlink()
    with pytest.raises(KeyRefused, match="there is no such file"):
        key_holder_of(home)
    Identity.generate(BROKER, kem="X25519").save(file)
    with pytest.raises(KeyRefused, match=r"not those of public\.json"):
        key_holder_of(home)
    config = home.path / "config.toml"
    before = config.read_text()
    for named in ("no_such_module:holder", "tests.key_process:nothing"):
        config.write_text(f'{before}\n[worker]\nkey_holder = "{named}"\n')
        with pytest.raises(KeyRefused, match="cannot be loaded"):
            key_holder_of(load_home(home.path))
