"""
Rows on their way to the enclave: each subject's rows encrypted under a key of their own.

From the delivery's key k and the imaging party's record pseudonym p, both ends derive
    row ID  = HMAC-SHA-256(k, "row-id" || p), cut to 128 bits
    row key = HKDF-SHA-256(k, info = "row-key" || p), 256 bits
The imaging party encrypts the rows of every subject that fits; the enclave gets row ID and
row key only for its matched records, so rows of unmatched subjects stay unreadable there.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.errors import PackageRefused

KEY_BYTES = 32
_MAGIC = b"CLR1"
_NONCE_BYTES = 12


def row_id(key: bytes, pseudonym: bytes) -> bytes:
    """Return the 16 bytes under which a subject's rows travel in this delivery."""
    return hmac.digest(key, b"row-id" + pseudonym, "sha256")[:16]


def row_key(key: bytes, pseudonym: bytes) -> bytes:
    """Return the 32-byte key of a subject's rows in this delivery."""
    hkdf = HKDF(hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"row-key" + pseudonym)
    return hkdf.derive(key)


def encrypt_rows(key: bytes, pseudonym: bytes, rows: bytes) -> tuple[bytes, bytes]:
    """Return row ID and AES-256-GCM ciphertext, nonce first, with the row ID authenticated."""
    name = row_id(key, pseudonym)
    nonce = os.urandom(_NONCE_BYTES)
    return name, nonce + AESGCM(row_key(key, pseudonym)).encrypt(nonce, rows, name)


def decrypt_rows(secret: bytes, name: bytes, encrypted: bytes) -> bytes:
    """Return one subject's rows. Raises PackageRefused if the row key is not theirs."""
    nonce, body = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
    try:
        return AESGCM(secret).decrypt(nonce, body, name)
    except (InvalidTag, ValueError):
        raise PackageRefused(
            "the rows of a subject do not open with their row key",
            hint="ask for the delivery again; the imaging party must use its newest key",
        ) from None


def pack_rows(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return (row ID, ciphertext) pairs as one bundle: magic, then 16 + 4 + length bytes each."""
    return _MAGIC + b"".join(n + len(c).to_bytes(4, "big") + c for n, c in sorted(rows))


def unpack_rows(bundle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (row ID, ciphertext) pairs. Raises PackageRefused for a malformed bundle."""
    if bundle[:4] != _MAGIC:
        raise PackageRefused("not a bundle of rows", hint="ask for the delivery again")
    at = 4
    while at < len(bundle):
        size = int.from_bytes(bundle[at + 16 : at + 20], "big")
        end = at + 20 + size
        if at + 20 > len(bundle) or end > len(bundle):
            raise PackageRefused("a bundle of rows is truncated", hint="fetch it again")
        yield bundle[at : at + 16], bundle[at + 20 : end]
        at = end
