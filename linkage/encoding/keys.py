"""
The study key and everything derived from it.

    key = StudyKey.load(path)
    secret = key.derive(study, "match-keys")

A StudyKey never shows itself: its repr is redacted, and it refuses pickling and copying.
Derivation is HKDF-SHA-256 (RFC 5869), byte by byte in docs/formats-encoding.md.
Remaining weakness: Python cannot wipe memory, so a key lives until its process ends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.errors import KeyRefused
from linkage.schema import schema_hash
from linkage.sealing import read_secret, write_secret
from linkage.study import StudyConfig

KEY_BYTES = 32
HEADER = "commons-linkage study key v1"
RETIRED = "commons-linkage study key v1, deactivated"
"""First line of what lies in the key file's place after `keys retire`."""

KDF_SALT = b"commons-linkage/kdf/v1"
KEY_CHECK_LABEL = b"commons-linkage/key-check/v1"
_MOST_BYTES = 4096


class StudyKey:
    """
    The secret of a study: 32 or more random bytes, known to its sites and custodian only.

    Raises KeyRefused for fewer bytes, or for bytes too even to be random.
    """

    __slots__ = ("_secret",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, secret: bytes) -> None:
        if len(secret) < KEY_BYTES:
            raise KeyRefused(
                f"the study key has {len(secret)} bytes; it needs {KEY_BYTES} or more",
                hint="make one with `linkage-site keys new`",
            )
        # 32 random bytes hold fewer than 8 different values once in 10^40 draws.
        if len(set(secret)) < 8:
            raise KeyRefused(
                "the study key is not random", hint="make one with `linkage-site keys new`"
            )
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> Self:
        """Return a new key of 32 bytes from the operating system's generator."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Read a key file.

        Raises KeyRefused if it is missing, not a file, open to others than its owner,
        of another format, altered, too short, or of a key that was deactivated.
        """
        return cls.from_bytes(read_secret(path, noun="key file"), name=f"the key file {path}")

    def save(self, path: Path) -> None:
        """
        Write the key file, readable by its owner only.

        Raises KeyRefused if the path exists (a key is never overwritten) or cannot be written.
        """
        write_secret(path, self.to_bytes(), noun="key file", new_folder=False)

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "the key file") -> Self:
        """Read what `to_bytes` gave; `name` says in errors where it lay. Raises KeyRefused."""
        return cls(_decoded(content[:_MOST_BYTES], name))

    def to_bytes(self) -> bytes:
        """Return the content of the key file. Only for keeping it; never log or send it."""
        text = f"{HEADER}\n{base64.b64encode(self._secret).decode()}\n{_checksum(self._secret)}\n"
        return text.encode("ascii")

    def secret_bytes(self) -> bytes:
        """Return the secret itself. Only for sealing it to a site; never log or store it."""
        return self._secret

    def derive(self, study: StudyConfig, purpose: str, length: int = 32) -> bytes:
        """
        Return `length` bytes for one purpose of one study: HKDF-SHA-256, 1 <= length <= 8160.

        The info is the length-prefixed study ID, schema hash, epoch and purpose, so another
        study, schema or epoch gives unrelated bytes.
        """
        info = length_prefixed(study.study.id, schema_hash(study), str(study.study.epoch), purpose)
        kdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=KDF_SALT, info=info)
        return kdf.derive(self._secret)

    def key_check(self, study: StudyConfig) -> str:
        """
        Return the key-check value, 32 hex digits: equal at all sites that hold the same key
        for the same study, schema and epoch. Says nothing of the key itself.
        """
        checked = hmac.digest(self.derive(study, "key-check"), KEY_CHECK_LABEL, "sha256")
        return checked[:16].hex()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StudyKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __repr__(self) -> str:
        return "StudyKey(redacted)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a StudyKey refuses pickling and copying; save() writes its key file")

    def __format__(self, spec: str) -> str:
        return repr(self)


def length_prefixed(*parts: str) -> bytes:
    """Return each part as UTF-8 after its length in bytes (4 bytes, big-endian), joined."""
    encoded = [part.encode("utf-8") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _checksum(secret: bytes) -> str:
    """Return 8 hex digits that find a mistyped file; of 256 secret bits they betray nothing."""
    return hashlib.sha256(HEADER.encode("ascii") + b"\n" + secret).hexdigest()[:8]


def tombstone(epoch: int, date: str, reason: str) -> bytes:
    """Return what lies in a key file's place once its key was deactivated; it says when and why."""
    said = " ".join(reason.split()).encode("ascii", errors="replace").decode("ascii")
    return f"{RETIRED}\n{epoch}\n{date}\n{said}\n".encode("ascii")


def _decoded(content: bytes, name: str) -> bytes:
    lines = content.decode("ascii", errors="replace").split("\n")
    if lines[0] == RETIRED and len(lines) == 5:
        raise KeyRefused(
            f"the study key of epoch {lines[1]} was deactivated on {lines[2]}: {lines[3]}",
            hint="ask the custodian for the next epoch's signed study and sealed key",
        )
    if lines[0] != HEADER:
        raise KeyRefused(
            f"{name} is not a study key file", hint=f"its first line must be '{HEADER}'"
        )
    try:
        if len(lines) != 4 or lines[3]:
            raise ValueError
        secret = base64.b64decode(lines[1], validate=True)
    except (binascii.Error, ValueError):
        raise KeyRefused(f"{name} is garbled", hint="copy it again from its source") from None
    if len(secret) >= KEY_BYTES and not hmac.compare_digest(_checksum(secret), lines[2]):
        raise KeyRefused(f"{name} fails its checksum", hint="copy it again from its source")
    return secret
