"""
The broker's accounts key, HOME/accounts.key: 32 random bytes in a file for its owner only.

From it come a key that encrypts TOTP secrets at rest and what a browser keeps while it is at an
identity provider (Fernet), and one that makes CSRF tokens and digests of typed names (HMAC).
So whoever reads the database alone can answer no second factor and forge no form. It is no key of
any study: the process that faces the network may hold it (docs/adr/0006). Without it people cannot
sign in by TOTP, and are invited anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.errors import KeyRefused
from linkage.sealing import write_secret

_BYTES = 32


class AccountKey:
    """The key in this file, read when it is first needed; made where there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"AccountKey({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AccountKey refuses pickling")

    def encrypt(self, text: str) -> str:
        """Return the text encrypted, with the time in it."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, sealed: str, *, not_older: int | None = None) -> str:
        """Return the text. not_older: seconds. Raises KeyRefused where another key made it."""
        try:
            return self._fernet.decrypt(sealed.encode(), ttl=not_older).decode()
        except (InvalidToken, ValueError):
            raise KeyRefused(
                "what was encrypted does not open, or is too old",
                hint="restore accounts.key from your backup, or invite the people anew",
            ) from None

    def tag(self, purpose: str, text: str) -> str:
        """Return an HMAC of the text for one purpose, 64 hex digits."""
        return hmac.new(self._mac_key, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _fernet(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self._derived(b"accounts: encrypt")))

    @cached_property
    def _mac_key(self) -> bytes:
        return self._derived(b"accounts: authenticate")

    def _derived(self, info: bytes) -> bytes:
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._read())

    def _read(self) -> bytes:
        if not self._path.exists():
            make_account_key(self._path)
        try:
            found = base64.b64decode(self._path.read_bytes().strip(), validate=True)
        except (OSError, binascii.Error):
            found = b""
        if len(found) != _BYTES:
            raise KeyRefused(
                f"the accounts key {self._path} cannot be read or is damaged",
                hint="restore it from your backup; or move it away, and invite the people anew",
            )
        return found


def make_account_key(path: Path) -> None:
    """Write a new key. Raises KeyRefused where it exists or cannot be written."""
    data = base64.b64encode(secrets.token_bytes(_BYTES)) + b"\n"
    write_secret(path, data, noun="accounts key", new_folder=False)
