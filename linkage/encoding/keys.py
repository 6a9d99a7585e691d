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
import os
import secrets
import stat
from pathlib import Path
from typing import NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.errors import KeyRefused
from linkage.schema import schema_hash
from linkage.study import StudyConfig

KEY_BYTES = 32
HEADER = "commons-linkage study key v1"
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
        of another format, altered or too short.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    raise KeyRefused(f"{path} is not a file", hint="give the key file's path")
                if mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise KeyRefused(
                        f"the key file {path} is open to others than its owner",
                        hint=f"run: chmod 600 {path}",
                    )
                content = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise KeyRefused(f"there is no key file {path}", hint="check the path") from None
        except OSError as fault:
            raise KeyRefused(
                f"the key file {path} cannot be read ({type(fault).__name__})",
                hint="it must be a file readable by its owner",
            ) from None
        return cls(_decoded(content, path))

    def save(self, path: Path) -> None:
        """
        Write the key file, readable by its owner only.

        Raises KeyRefused if the path exists (a key is never overwritten) or cannot be written.
        """
        text = f"{HEADER}\n{base64.b64encode(self._secret).decode()}\n{_checksum(self._secret)}\n"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise KeyRefused(
                f"{path} exists; a key file is never overwritten", hint="choose another path"
            ) from None
        except OSError as fault:
            raise KeyRefused(
                f"the key file {path} cannot be made ({type(fault).__name__})",
                hint="its folder must exist and be writable",
            ) from None
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            path.unlink(missing_ok=True)
            raise KeyRefused(
                f"the key file {path} cannot be written ({type(fault).__name__})",
                hint="is the disk full?",
            ) from None

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


def _decoded(content: bytes, path: Path) -> bytes:
    lines = content.decode("ascii", errors="replace").split("\n")
    if lines[0] != HEADER:
        raise KeyRefused(
            f"{path} is not a study key file", hint=f"its first line must be '{HEADER}'"
        )
    try:
        if len(lines) != 4 or lines[3]:
            raise ValueError
        secret = base64.b64decode(lines[1], validate=True)
    except (binascii.Error, ValueError):
        raise KeyRefused(
            f"the key file {path} is garbled", hint="copy it again from its source"
        ) from None
    if len(secret) >= KEY_BYTES and not hmac.compare_digest(_checksum(secret), lines[2]):
        raise KeyRefused(
            f"the key file {path} fails its checksum", hint="copy it again from its source"
        )
    return secret
