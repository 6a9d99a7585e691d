"""The study key: it never shows itself, and what is derived from it is HKDF as documented."""

from __future__ import annotations

import base64
import copy
import hmac
import json
import os
import pickle
from pathlib import Path

import pytest

from linkage.encoding.keys import HEADER, StudyKey
from linkage.errors import KeyRefused
from linkage.schema import schema_hash
from linkage.study import StudyConfig, parse_study


def _hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256 as RFC 5869 writes it, apart from the library under test."""
    extracted = hmac.digest(salt, secret, "sha256")
    block, out = b"", b""
    for i in range(1, 256):
        block = hmac.digest(extracted, block + info + bytes([i]), "sha256")
        out += block
        if len(out) >= length:
            break
    return out[:length]


def test_derivation_is_hkdf_over_the_documented_info(study: StudyConfig, key: StudyKey) -> None:
    parts = [b"lung-outcomes", schema_hash(study).encode(), b"3", b"clk:name-ssn"]
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    expected = _hkdf(key.secret_bytes(), b"commons-linkage/kdf/v1", info, 80)
    assert key.derive(study, "clk:name-ssn", length=80) == expected


def test_study_schema_epoch_purpose_and_key_each_change_what_is_derived(
    study: StudyConfig, study_text: str, key: StudyKey
) -> None:
    changed = [
        study_text.replace("lung-outcomes", "lung-outcome"),
        study_text.replace("bits = 140", "bits = 139"),
        study_text.replace("epoch = 3", "epoch = 4"),
    ]
    derived = {key.derive(parse_study(text), "a") for text in changed}
    derived |= {key.derive(study, "a"), key.derive(study, "b"), key.derive(study, "")}
    derived |= {StudyKey.generate().derive(study, "a")}
    assert len(derived) == 7


def test_key_check_is_128_bits_and_tells_keys_apart(study: StudyConfig, key: StudyKey) -> None:
    checking = key.derive(study, "key-check")
    expected = hmac.digest(checking, b"commons-linkage/key-check/v1", "sha256")[:16].hex()
    assert key.key_check(study) == expected
    assert StudyKey.generate().key_check(study) != expected


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>40}".format, ascii])
def test_no_way_of_showing_it_shows_the_secret(show: object, key: StudyKey) -> None:
    assert callable(show)
    shown = show(key)
    assert "redacted" in shown
    assert key.secret_bytes().hex() not in shown
    assert base64.b64encode(key.secret_bytes()).decode() not in shown


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars])
def test_it_cannot_be_copied_or_serialised(make: object, key: StudyKey) -> None:
    assert callable(make)
    with pytest.raises(TypeError):
        make(key)


@pytest.mark.parametrize(
    "secret", [b"", bytes(range(31)), bytes(32), b"ab" * 16], ids=["none", "31", "zeros", "even"]
)
def test_a_weak_secret_is_refused_without_showing_it(secret: bytes) -> None:
    with pytest.raises(KeyRefused) as refused:
        StudyKey(secret)
    assert not secret or repr(secret)[2:-1] not in str(refused.value)


def test_generated_keys_differ() -> None:
    keys = [StudyKey.generate() for _ in range(8)]
    assert len({one.secret_bytes() for one in keys}) == 8
    assert keys[0] == StudyKey(keys[0].secret_bytes())
    assert keys[0] != keys[1]


def test_a_saved_key_is_its_owners_only_and_loads_again(tmp_path: Path, key: StudyKey) -> None:
    old = os.umask(0)
    try:
        key.save(tmp_path / "study.key")
    finally:
        os.umask(old)
    assert (tmp_path / "study.key").stat().st_mode & 0o777 == 0o600
    assert StudyKey.load(tmp_path / "study.key") == key


def test_a_key_file_is_never_overwritten(tmp_path: Path, key: StudyKey) -> None:
    path = tmp_path / "study.key"
    key.save(path)
    with pytest.raises(KeyRefused, match="never overwritten"):
        StudyKey.generate().save(path)
    assert StudyKey.load(path) == key


def _write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _text(secret: bytes, checksum: str = "00000000") -> bytes:
    return f"{HEADER}\n{base64.b64encode(secret).decode()}\n{checksum}\n".encode()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not a study key file"),
        (b"\x00\xff" * 40, "not a study key file"),
        (base64.b64encode(bytes(range(32))), "not a study key file"),
        (HEADER.encode(), "garbled"),
        (f"{HEADER}\n!!!!\n00000000\n".encode(), "garbled"),
        (_text(bytes(range(32))) + b"more\n", "garbled"),
        (_text(bytes(range(32))), "fails its checksum"),
        (_text(bytes(range(31))), "31 bytes"),
    ],
    ids=["empty", "binary", "bare", "header only", "not base64", "longer", "altered", "short"],
)
def test_a_file_that_is_no_good_key_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(KeyRefused, match=fault):
        StudyKey.load(_write(tmp_path / "study.key", content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o777])
def test_a_key_open_to_others_is_refused(tmp_path: Path, key: StudyKey, mode: int) -> None:
    path = tmp_path / "study.key"
    key.save(path)
    path.chmod(mode)
    with pytest.raises(KeyRefused, match="chmod 600"):
        StudyKey.load(path)


def test_missing_file_and_folder_are_named(tmp_path: Path, key: StudyKey) -> None:
    with pytest.raises(KeyRefused, match="there is no key file"):
        StudyKey.load(tmp_path / "study.key")
    with pytest.raises(KeyRefused, match="cannot be read"):
        StudyKey.load(tmp_path)
    with pytest.raises(KeyRefused, match="cannot be made"):
        key.save(tmp_path / "absent" / "study.key")
