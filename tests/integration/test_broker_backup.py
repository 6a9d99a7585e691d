"""
Back up in the middle of a run and of uploads, destroy the home, restore: all that was acknowledged
before is there, the run goes on, and its digest is that of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from broker import audit_heads
from broker.backup import back_up
from broker.backup_signature import signed
from broker.config import load_home
from broker.restore import restore
from broker.store.engine import Database
from linkage.errors import Conflict, KeyRefused, LinkageError, PackageRefused
from linkage.sealing import Identity
from tests.broker_world import make_world, wait_for
from tests.drill.ledger import lost
from tests.drill.stand import Stand
from tests.drill.workload import Acknowledged, Workload, packages_of


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, new_postgres_url: Callable[[], str]) -> list[str | None]:
    """The database of the broker, and the empty one to restore into."""
    if request.param == "sqlite":
        return [None, None]
    return [new_postgres_url(), new_postgres_url()]


@pytest.mark.long
def test_a_restored_broker_goes_on(tmp_path: Path, urls: list[str | None]) -> None:
    stand = Stand.at(tmp_path, urls[0])
    world, home = stand.world, stand.world.home
    with stand.on():
        work = Workload(world)
        work.round(1)
        for package in packages_of(world, 2):
            work.upload(package)
        run_id = work.start_run(2)
        path = f"{world.path}/runs/{run_id}"
        wait_for(lambda: work.insist("admin", "GET", path)["stage"] != "", 60)
        more = threading.Thread(target=upload_much, args=(work,))
        more.start()
        before = Acknowledged(set(work.told.parts), set(work.told.complete))
        before.releases = dict(work.told.releases)
        made = back_up(home, tmp_path / "backup", keys_to=tmp_path / "safe" / "keys")
        more.join()
    expected = work.told.digests[1]
    shutil.rmtree(home.path)
    if urls[1]:
        (tmp_path / "database-url").write_text(urls[1])
    done = restore(made.path, home.path, digest=made.digest, keys=tmp_path / "safe" / "keys")
    assert done.can_open
    again = Stand(world, stand.port)
    work = Workload(world, told=before)
    with again.on():
        before.runs = {2: run_id}
        before.digests[2] = work.finished(f"runs/{run_id}")["result_digest"]
        assert before.digests[2] == expected
        assert lost(world, before) == []
        # And it takes what comes.
        work.round(4)
        assert before.digests[4] == expected
    with Database(load_home(home.path).database_url()).read() as connection:
        told = audit_heads.verify(connection, home.public())
        asked = text("SELECT entry FROM audit WHERE number = :n")
        number = int(made.head.partition(":")[0]) + 1
        entry = json.loads(connection.execute(asked, {"n": number}).scalar_one())
    assert entry["action"] == "restored from backup"
    assert entry["detail"]["hash"] == made.head.partition(":")[2]
    assert told.entries > number


def upload_much(work: Workload) -> None:
    """The load: another version of everybody's, under way while the backup is made."""
    for package in packages_of(work.world, 3):
        work.upload(package)


def test_what_is_damaged_or_not_empty_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    made = back_up(world.home, tmp_path / "backup", link=True)
    assert made.files >= 4
    assert not list(made.path.rglob("*.key")), "a key is in the backup"
    with pytest.raises(Conflict, match="exists"):
        back_up(world.home, made.path)
    for place in (tmp_path / "other", tmp_path / "other" / "keys"):
        with pytest.raises(Conflict, match="must not lie with the backup"):
            back_up(world.home, tmp_path / "other", keys_to=place)
    assert not (tmp_path / "other").exists()
    new = tmp_path / "new"
    refused(made.path, new, "whose digest you gave", digest="0" * 64)
    altered = made.path / "database" / "broker.sqlite"
    data = altered.read_bytes()
    altered.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(made.path, new, "was altered: database/broker.sqlite")
    altered.write_bytes(data)
    (made.path / "blobs").mkdir(exist_ok=True)
    (made.path / "blobs" / "more").write_text("x")
    refused(made.path, new, "files too many")
    (made.path / "blobs" / "more").unlink()
    public = made.path / "public.json"
    public.rename(tmp_path / "public.json")
    refused(made.path, new, "lacks 1 files, first: public.json")
    (tmp_path / "public.json").rename(public)
    other = tmp_path / "keys"
    Identity.generate("broker").save(other / "identity.key")
    with pytest.raises(KeyRefused, match="another broker's"):
        restore(made.path, new, keys=other)
    with pytest.raises(Conflict, match="is not empty"):
        restore(made.path, world.home.path)
    assert not new.exists()
    digest = hashlib.sha256((made.path / "manifest.json").read_bytes()).hexdigest()
    done = restore(made.path, new, digest=digest)
    assert (done.head, done.can_open) == (made.head, False)
    assert done.signed_by == world.home.public().fingerprint
    assert load_home(new).config == world.home.config
    assert not done.home.identity_file.exists()


def test_the_brokers_signature_is_verified(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    made = back_up(world.home, tmp_path / "backup", keys_to=tmp_path / "safe" / "keys")
    assert made.signed
    own, new = world.home.public().fingerprint, tmp_path / "new"
    signature = made.path / "manifest.signed"
    text = signature.read_bytes()
    # Somebody who alters a file makes the digests fit again, and cannot sign.
    manifest = made.path / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"made_at"', b'"more": 1,\n "made_at"'))
    refused(made.path, new, "not that of the backup")
    manifest.write_bytes(whole)
    signature.write_bytes(text.replace(b'"made_at":1', b'"made_at":2'))
    refused(made.path, new, "signature")
    signature.write_bytes(b"{}")
    refused(made.path, new, "no readable signature")
    # Nor does it help to take the signature away, or to sign as another broker.
    signature.unlink()
    refused(made.path, new, "is not signed")
    refused(made.path, new, "is not signed", fingerprint=own)
    signature.write_bytes(text)
    stranger = Identity.generate("broker", kem="X25519")
    _signed_by(made.path, stranger)
    assert restore(made.path, tmp_path / "trusting").signed_by == stranger.public().fingerprint
    with pytest.raises(KeyRefused, match="another fingerprint"):
        restore(made.path, new, fingerprint=own)
    with pytest.raises(KeyRefused, match="another broker's"):
        restore(made.path, new, keys=tmp_path / "safe" / "keys")
    assert not new.exists()


def _signed_by(folder: Path, signer: Identity) -> None:
    """What somebody can do who has the backup's disk: all of it anew, as a broker of their own."""
    public = signer.public().model_dump_json().encode()
    (folder / "public.json").write_bytes(public)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["public.json"] = {
        "size": len(public),
        "sha256": hashlib.sha256(public).hexdigest(),
    }
    text = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.signed").write_bytes(signed(text, manifest["made_at"], signer))


def test_without_the_key_a_backup_wants_its_digest(tmp_path: Path) -> None:
    """Also what an earlier version made."""
    world = make_world(tmp_path)
    world.home.identity_file.rename(tmp_path / "elsewhere")
    made = back_up(world.home, tmp_path / "backup")
    assert not made.signed
    refused(made.path, tmp_path / "new", "is not signed")
    assert restore(made.path, tmp_path / "by-digest", digest=made.digest).signed_by == ""
    assert restore(made.path, tmp_path / "by-trust", unsigned=True).signed_by == ""
    world.home.identity_file.write_text("garbled")
    assert not back_up(world.home, tmp_path / "again").signed


def refused(source: Path, target: Path, match: str, **how: str) -> None:
    with pytest.raises(PackageRefused, match=match) as caught:
        restore(source, target, **how)  # type: ignore[arg-type]
    assert isinstance(caught.value, LinkageError)
    assert caught.value.hint
