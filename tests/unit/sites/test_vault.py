"""What a site keeps: encrypted, bound to its name, remade from the secret."""

from __future__ import annotations

import datetime as dt
import time
from contextlib import nullcontext
from pathlib import Path

import keyring
import numpy as np
import pyarrow as pa
import pytest

from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.messages import CUSTODIAN
from linkage.pseudonyms import ContributorSecret
from linkage.sealing import Identity
from sites.keystore import Keystore
from sites.vault import Vault
from tests.studies import STUDY, cast, save_map, vault_of


def test_nothing_private_is_readable_without_the_secret(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private")
    names = np.arange(32, dtype=np.uint8).reshape(2, 16)
    save_map(vault, 1, names, ["CANARY-1", "CANARY-2"])
    vault.keep("case-maps", b"CANARY-3")
    for path in vault.folder.rglob("*"):
        if path.is_file():
            assert b"CANARY" not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0
    assert vault.load_map(1) == {names[0].tobytes(): "CANARY-1", names[1].tobytes(): "CANARY-2"}
    assert vault.kept("case-maps") == b"CANARY-3"
    assert vault.kept("nothing") is None
    (vault.folder / "contributor.secret").unlink()
    with pytest.raises(KeyRefused, match="is missing, and what is in") as caught:
        vault.load_map(1)
    assert "backup" in caught.value.hint
    vault.keystore.write("contributor.secret", ContributorSecret.generate().to_bytes())
    with pytest.raises(KeyRefused, match="does not open") as caught:
        vault.load_map(1)
    assert "backup" in caught.value.hint


def test_a_lost_identity_is_told_from_one_never_made(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    with pytest.raises(KeyRefused, match="is missing") as caught:
        vault.identity()
    assert caught.value.hint == "run first: linkage-site keys identity"
    (tmp_path / "north.public.json").write_text("{}")
    with pytest.raises(KeyRefused, match="though it was made") as caught:
        vault.identity()
    assert "backup" in caught.value.hint
    (tmp_path / "north.public.json").unlink()
    vault.secret()  # of a backup of the secret alone
    with pytest.raises(KeyRefused, match="though it was made"):
        vault.identity()


def test_a_private_file_opens_under_its_own_name_only(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.keep("one", b"1")
    vault.keep("two", b"2")
    kept = tmp_path / "kept"
    (kept / "one").write_bytes((kept / "two").read_bytes())
    with pytest.raises(KeyRefused):
        vault.kept("one")
    (kept / "two").write_bytes((kept / "two").read_bytes()[:-1])
    with pytest.raises(KeyRefused):
        vault.kept("two")


def test_a_map_lacks_no_chunk_silently(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    folder = tmp_path / "making"
    names = np.arange(32, dtype=np.uint8).reshape(2, 16)
    for number in (1, 2):
        ids = pa.array([f"r{number}"], pa.string())
        vault.write_map_chunk(folder, 3, number, names[number - 1 : number], ids)
    vault.finish_map(folder, 3, 2)
    assert sorted(vault.load_map(3).values()) == ["r1", "r2"]
    (vault.map_folder(3) / "00002").unlink()
    with pytest.raises(KeyRefused):
        vault.load_map(3)
    with pytest.raises(KeyRefused, match="tokenize"):
        vault.load_map(4)


@pytest.fixture
def file_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real backend of the keyring package that needs no desktop."""
    from keyrings.alt.file import PlaintextKeyring

    backend = PlaintextKeyring()
    backend.file_path = str(tmp_path / "keyring.cfg")
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    yield
    keyring.set_keyring(before)


@pytest.mark.usefixtures("file_keyring")
def test_secrets_can_live_in_the_keyring(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private", "keyring")
    with pytest.raises(KeyRefused, match="system keyring"):
        vault.identity()
    identity, key = Identity.generate("alpha"), StudyKey.generate()
    vault.keep_identity(identity)
    vault.keep_study_key(key)
    vault.keep_study_key(key)
    assert vault.identity().public() == identity.public()
    assert vault.study_key() == key
    assert vault.secret().derive("x") == vault.secret().derive("x")
    save_map(vault, 1, np.zeros((1, 16), np.uint8), ["r"])
    assert vault.load_map(1) == {bytes(16): "r"}
    assert [p.name for p in vault.folder.iterdir()] == ["map-1"]
    with pytest.raises(KeyRefused, match="not overwritten"):
        vault.keep_identity(identity)
    vault.forget_study_key()
    with pytest.raises(KeyRefused, match="missing"):
        vault.study_key()
    other = Vault(tmp_path / "other", "keyring")
    assert not other.keystore.has("identity.key")


def test_a_keyring_backend_that_fails_in_its_own_way_is_no_bug(tmp_path: Path) -> None:
    from keyring.backends.null import Keyring

    class Odd(Keyring):
        def get_password(self, service: str, username: str) -> str | None:
            raise ModuleNotFoundError("CANARY")

    before = keyring.get_keyring()
    keyring.set_keyring(Odd())
    try:
        with pytest.raises(KeyRefused, match="ModuleNotFoundError") as caught:
            Keystore(tmp_path, "keyring").has("study.key")
    finally:
        keyring.set_keyring(before)
    assert "CANARY" not in str(caught.value)


def test_a_keyring_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        with pytest.raises(KeyRefused, match="keyring refuses") as caught:
            Keystore(tmp_path, "keyring").has("study.key")
    finally:
        keyring.set_keyring(before)
    assert 'keys = "file"' in caught.value.hint


@pytest.mark.parametrize("zone", ["<+14>-14", "<-12>+12"])
def test_a_study_expires_by_the_day_of_utc(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one of the two zones it is another day than in UTC, at any hour."""
    with monkeypatch.context() as local:
        local.setenv("TZ", zone)
        time.tzset()
        try:
            today = dt.datetime.now(dt.UTC).date()
            for last, refused in ((today, False), (today - dt.timedelta(days=1), True)):
                text = STUDY.replace("[[party]]", f"expires = {last}\n[[party]]", 1)
                other = cast(text, rehearsal=False)
                vault = vault_of(other, "alpha", tmp_path / last.isoformat())
                expected = pytest.raises(KeyRefused, match="expired") if refused else nullcontext()
                with expected:
                    vault.signed_study(other.signed.pin(CUSTODIAN).fingerprint)
        finally:
            local.undo()
            time.tzset()
