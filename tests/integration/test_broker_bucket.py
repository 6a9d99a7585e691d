"""Packages in a bucket: whole or not at all, sealed, and a store that fails says what to do."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker.blob_bucket import BucketStore, Credentials
from broker.blob_settings import BlobSettings
from broker.blobs import Blobs
from broker.config import load_home
from broker.container import Broker
from broker.store import blobs as blob_rows
from linkage.errors import BrokerRefused, KeyRefused, NotFound, PackageRefused, Unreachable
from linkage.messages import ReleaseRequest
from tests.broker_packages import encoded
from tests.broker_world import World, make_world, packages, problem, running
from tests.s3_store import S3, older_store, s3_store

MIB = 1 << 20
KEYS = Credentials("test-key", "canary-0123456789")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_store() as made:
        yield made


@pytest.fixture
def blobs(s3: S3, tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", BucketStore(s3.settings(), KEYS))


def test_what_was_put_is_read_back_and_checked(blobs: Blobs, s3: S3) -> None:
    for size in (0, 1, 100_000, 21 * MIB):
        data = os.urandom(size)
        kept = blobs.put(data)
        assert (kept.size, kept.digest) == (size, hashlib.sha256(data).hexdigest())
        assert blobs.read(kept.blob_id) == data
        assert b"".join(blobs.verified(kept.blob_id, kept.digest)) == data
        for span in (range(size), range(size // 3, size), range(size // 2, size // 2 + 5)):
            assert b"".join(blobs.part(kept.blob_id, span)) == data[span.start : span.stop]
        got: list[bytes] = []
        with pytest.raises(PackageRefused, match="is not what was stored"):
            got.extend(blobs.verified(kept.blob_id, "0" * 64))
        assert b"".join(got) != data or not data
        blobs.delete(kept.blob_id)
        blobs.delete(kept.blob_id)
        with pytest.raises(NotFound):
            blobs.read(kept.blob_id)
        with pytest.raises(NotFound):
            blobs.verified(kept.blob_id, kept.digest)
    assert s3.objects() == {}
    assert [path for path in blobs._root.rglob("*") if path.is_file()] == []


def test_the_sweep_goes_by_the_stores_clock(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    one, clock = blobs.put(b"one"), time.time
    time.sleep(2.1)  # the store's times are whole seconds
    assert list(blobs.all_older_than(1.0)) == [one.blob_id]
    monkeypatch.setattr(time, "time", lambda: clock() + 7 * 86_400)
    assert list(blobs.all_older_than(86_400)) == []
    monkeypatch.setattr(time, "time", lambda: clock() - 7 * 86_400)
    assert list(blobs.all_older_than(1.0)) == [one.blob_id]
    blobs.delete(one.blob_id)


def told(settings: BlobSettings, spool: Path) -> str:
    """What a store that fails says when blobs are placed; what is read says the same."""
    blobs = Blobs(spool, BucketStore(settings, KEYS))
    with pytest.raises(Unreachable) as caught:
        blobs.put(b"x")
    with pytest.raises((Unreachable, NotFound)):
        blobs.read("0" * 32)
    with pytest.raises(Unreachable) as again:
        blobs.store.require_usable()
    assert str(again.value) == str(caught.value)
    assert "Hint: " in str(caught.value)
    for secret in ("canary", "test-key", "sealed-packages", "no-such"):
        assert secret not in str(caught.value)
    return str(caught.value)


def test_a_store_that_fails_says_what_to_do(s3: S3, tmp_path: Path) -> None:
    assert "there is no such bucket" in told(s3.settings(url="s3://no-such-bucket/x"), tmp_path)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    assert "the store does not answer" in told(s3.settings(endpoint=closed), tmp_path)
    count = {"content": "0"}
    httpx.post(f"{s3.endpoint}/moto-api/reset-auth", **count).raise_for_status()  # type: ignore[arg-type]
    try:
        assert "does not know the access key" in told(s3.settings(), tmp_path)
    finally:
        httpx.post(f"{s3.endpoint}/moto-api/reset-auth", content="inf")


def test_a_store_that_takes_checksums_for_the_body_is_told_from_a_sound_one(
    s3: S3, tmp_path: Path
) -> None:
    """It keeps what it does not understand, and says that all is well."""
    with older_store(s3) as endpoint:
        with pytest.raises(Unreachable, match="gives back other bytes") as caught:
            BucketStore(s3.settings(endpoint=endpoint), KEYS).require_usable()
        assert "checksums = false" in str(caught.value)
        plain = s3.settings(endpoint=endpoint, checksums=False)
        blobs = Blobs(tmp_path / "blobs", BucketStore(plain, KEYS))
        blobs.store.require_usable()
        for size in (1, 21 * MIB):
            kept = blobs.put(data := os.urandom(size))
            assert blobs.read(kept.blob_id) == data
            blobs.delete(kept.blob_id)
    BucketStore(s3.settings(), KEYS).require_usable()
    assert s3.objects() == {}


def test_a_store_that_never_answers_is_given_up_in_bounded_time(s3: S3, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        settings = s3.settings(
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", silent_seconds=1.0, attempts=1
        )
        started = time.monotonic()
        with pytest.raises(Unreachable, match="the store does not answer"):
            Blobs(tmp_path, BucketStore(settings, KEYS)).put(b"x")
        assert time.monotonic() - started < 120


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "s3://bucket"', "needs credentials_file"),
        ('url = "https://bucket"', "must be s3://bucket"),
        ('url = "s3://key:secret@bucket"', "must be s3://bucket"),
        ('url = "s3://bucket/../other"', "must be s3://bucket"),
        ('endpoint = "https://store"', "are of a bucket"),
        ('url = "s3://bucket"\ncredentials_file = "k"\nendpoint = "http://store:9"', "without TLS"),
        ('url = "s3://bucket"\ncredentials_file = "k"\nendpoint = "store:9"', "https://host"),
        ('url = "s3://bucket"\ncredentials_file = "k"\nendpoint = "https://u:p@h"', "https://host"),
        ('url = "s3://bucket"\ncredentials_file = "k"\nsecret_key = "x"', "is not a known key"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(f"[blobs]\n{text}\n")
    with pytest.raises(BrokerRefused, match=said):
        load_home(tmp_path)


def test_keys_come_from_an_owner_only_file_and_show_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = canary%1\n")
    path.chmod(0o640)
    with pytest.raises(KeyRefused, match=r"chmod 600"):
        Credentials.load(path)
    path.chmod(0o600)
    loaded = Credentials.load(path)
    assert (loaded.access_key, loaded.secret_key) == ("a", "canary%1")
    assert "canary" not in repr(loaded)
    with pytest.raises(KeyRefused):
        pickle.dumps(loaded)
    for garbled in ("", "[default]\naws_access_key_id = a\n", "x", "[a]\nb=1\n[c]\nd=2\n"):
        path.write_text(garbled)
        with pytest.raises(KeyRefused, match="does not hold the keys"):
            Credentials.load(path)
    with pytest.raises(KeyRefused, match="there is no"):
        Credentials.load(tmp_path / "nothing")


def test_upload_run_and_release_through_a_bucket(s3: S3, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    s3.give_to(world.home)
    world.home = load_home(world.home.path)
    with running(world):
        for package in packages(world, people=60, overlap=30).values():
            world.upload(package)
        store_goes_away(world, s3)
        done = world.run()
        assert done["state"] == "done", done["failure"]
        asked = ReleaseRequest(audience=("enclave",))
        job = world.actor("admin").post(f"{world.path}/releases", asked).raise_for_status().json()
        ended = world.finish(f"{world.path}/jobs/{job['job_id']}")
        assert ended["state"] == "done", ended["failure"]
        enclave = world.actor("enclave")
        for item in enclave.get(f"{world.path}/inbox").json()["items"]:
            got = enclave.get(f"{world.path}/inbox/{item['item_id']}").content
            assert hashlib.sha256(got).hexdigest() == item["digest"]
    broker = Broker.at(world.home)
    # A worker that is stopped while it cleans up leaves something behind: the next one's to sweep.
    broker.sweep(older_than=0.0)
    found = s3.objects()
    names = {key.rpartition("/")[2] for key in found}
    with broker.database.read() as connection:
        assert blob_rows.named(connection) == names
    # Everything in it is sealed: no pseudonym of any record, and the seal's mark at the start.
    for uploader in world.signed.study.uploaders:
        records = encoded(world.signed, uploader, range(30, 90))
        for data in found.values():
            assert data.startswith(b"CLS1")
            assert not any(name.tobytes() in data for name in records.pseudonyms[:20])
    # On the broker's own disk nothing stays, and orphans in the bucket are swept.
    assert [path for path in world.home.blobs.rglob("*") if path.is_file()] == []
    orphan = broker.blobs.put(b"orphan")
    broker.sweep(older_than=-60.0)
    assert {key.rpartition("/")[2] for key in s3.objects()} == names
    assert orphan.blob_id not in names
    broker.database.close()


def store_goes_away(world: World, s3: S3) -> None:
    """In the middle of an upload: refused with a remedy, and taken when the store is back."""
    made = packages(world, people=20, overlap=0, dataset=2)["claims"]
    claims, at = world.actor("claims"), f"{world.path}/datasets/claims/2"
    claims.post(f"{world.path}/datasets", made.manifest).raise_for_status()
    claims.put(f"{at}/parts/1", made.parts[0]).raise_for_status()
    s3.stop()
    refused = claims.put(f"{at}/parts/2", made.parts[1])
    assert problem(refused)[:2] == (503, "unreachable")
    assert "the store does not answer" in problem(refused)[2]
    assert refused.headers["retry-after"]
    s3.start()
    assert claims.get(at).json()["missing"] == [2]
    claims.put(f"{at}/parts/2", made.parts[1]).raise_for_status()
    assert claims.post(f"{at}/complete").json()["state"] == "complete"
