"""
Where a site keeps its three secrets: owner-only files, or the system's keyring.

    identity.key         signing and sealing keys
    contributor.secret   makes record pseudonyms, and the key of everything private here
    study.key            the opened study key

The keyring is the desktop's or server's own (Secret Service, KWallet, Windows, macOS), reached
by the `keyring` package. Its entries are named by the private folder, so two studies on one
machine do not meet. Choose it with `keys = "keyring"` in the site file.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linkage.errors import KeyRefused
from linkage.sealing import read_secret, replace_secret, write_secret

Kind = Literal["file", "keyring"]
SERVICE = "commons-linkage"


@dataclass(frozen=True, slots=True)
class Keystore:
    """Named secrets of one private folder. Every method raises KeyRefused with a remedy."""

    folder: Path
    kind: Kind = "file"

    def where(self, name: str) -> str:
        """Say where a secret is, for people."""
        if self.kind == "file":
            return str(self.folder / name)
        return f"the system keyring, as {SERVICE} / {self._entry(name)}"

    def has(self, name: str) -> bool:
        """Return whether the secret is there."""
        if self.kind == "file":
            return (self.folder / name).exists()
        return self._ask(name) is not None

    def read(self, name: str) -> bytes:
        """Return a secret. Refused where it is missing, or readable by others."""
        if self.kind == "file":
            return read_secret(self.folder / name)
        text = self._ask(name)
        try:
            return base64.b64decode(text or "", validate=True) if text else self._missing(name)
        except ValueError:  # also for letters beyond ASCII
            raise KeyRefused(
                f"{self.where(name)} is garbled", hint="restore it from your backup"
            ) from None

    def write(self, name: str, secret: bytes) -> None:
        """Keep a new secret; one that is there is never overwritten."""
        if self.kind == "file":
            write_secret(self.folder / name, secret)
            return
        if self.has(name):
            raise KeyRefused(
                f"{self.where(name)} exists and is not overwritten", hint="remove it on purpose"
            )
        self._do("set_password", name, base64.b64encode(secret).decode("ascii"))

    def replace(self, name: str, secret: bytes) -> None:
        """Keep a secret in place of the one before, which is there until the new one is."""
        if self.kind == "file":
            replace_secret(self.folder / name, secret)
        else:
            self._do("set_password", name, base64.b64encode(secret).decode("ascii"))

    def destroy(self, name: str) -> None:
        """Remove a secret; one that is not there is no fault."""
        if self.kind == "file":
            (self.folder / name).unlink(missing_ok=True)
        elif self.has(name):
            self._do("delete_password", name)

    def _entry(self, name: str) -> str:
        return f"{self.folder.resolve()}/{name}"

    def _missing(self, name: str) -> bytes:
        raise KeyRefused(f"{self.where(name)} is missing", hint="restore it from your backup")

    def _ask(self, name: str) -> str | None:
        found = self._do("get_password", name)
        return None if found is None else str(found)

    def _do(self, what: str, name: str, *values: str) -> object:
        # Imported here: most sites keep files, and a keyring asks the desktop at import.
        try:
            import keyring

            return getattr(keyring, what)(SERVICE, self._entry(name), *values)
        except Exception as fault:  # of a backend's own kind, also while one is looked for
            raise KeyRefused(
                f"the system keyring refuses ({type(fault).__name__})",
                hint="unlock it, or choose its backend with `keyring --list-backends`; or set"
                ' keys = "file" in the site file',
            ) from None
