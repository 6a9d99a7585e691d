"""
The broker's signature under a backup's manifest: `DIR/manifest.signed`, JSON.

A digest shows that a backup is as it was made to whoever kept the digest. The signature shows it to
everybody who knows the broker's fingerprint, years later, and that this broker made it. Remaining
weakness: whoever has the broker's key, or alters what is backed up before it is, is not found.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from pydantic import ValidationError

from broker.config import Home
from broker.keys import key_holder_of
from linkage.errors import KeyRefused, PackageRefused
from linkage.messages import Hex256, SignedMessage
from linkage.sealing import KeyHolder, PublicIdentity

SIGNATURE = "manifest.signed"


class BackupSignature(SignedMessage):
    """The broker's word that it made the backup with this manifest. made_at: Unix seconds."""

    manifest_hash: Hex256
    made_at: int


def signer_of(home: Home) -> KeyHolder | None:
    """Return what signs for this broker; None where this machine, or this user, lacks the key."""
    try:
        return key_holder_of(home)
    except (KeyRefused, OSError):
        return None


def signed(manifest: bytes, made_at: int, signer: KeyHolder) -> bytes:
    """Return the signature of a manifest, as it is stored."""
    digest = hashlib.sha256(manifest).hexdigest()
    made = BackupSignature(manifest_hash=digest, made_at=made_at).sign(signer)
    return made.model_dump_json().encode()


def require_signed(
    source: Path, manifest: bytes, public: PublicIdentity, *, fingerprint: str | None
) -> None:
    """
    Raises PackageRefused unless the broker `public` signed this manifest, KeyRefused unless its
    fingerprint is the one that was given, if one was.
    """
    if fingerprint is not None and not _same(fingerprint, public.fingerprint):
        raise KeyRefused(
            "the backup is of a broker with another fingerprint",
            hint="compare with a signed study file, or with the parties",
        )
    try:
        found = BackupSignature.model_validate_json((source / SIGNATURE).read_bytes())
    except (OSError, ValidationError):
        raise PackageRefused(
            f"the backup {source} has no readable signature", hint="restore another backup"
        ) from None
    found.verify(public)
    if found.manifest_hash != hashlib.sha256(manifest).hexdigest():
        raise PackageRefused(
            f"the signature is not that of the backup {source}", hint="restore another backup"
        )


def is_signed(source: Path) -> bool:
    """Is there a signature, whatever it is worth?"""
    return (source / SIGNATURE).is_file()


def _same(one: str, other: str) -> bool:
    letters = ["".join(text.split()).lower().encode() for text in (one, other)]
    return hmac.compare_digest(*letters)
