"""
Cells of an imaging party's answer: a few bytes about one person, readable for that person's own
enclave record alone.

With a question the broker gives both sides an answer key for each of their records: 32 bytes, the
same on both sides for one person, random for everybody else. The imaging party encrypts each cell
under its record's key; the enclave holds that key for its own matched persons only, so of everyone
else it can read nothing. The broker has the keys and never the cells: answers are sealed to the
enclave.

    cell = nonce (12 random bytes) || AES-256-GCM(answer key, nonce, content, question ID)

Two imaging records of one person share a key, so nonces are random: with at most a few cells a key
they do not repeat (NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linkage.errors import PackageRefused

KEY_BYTES = 32
CONTENT_BYTES = 128
_NONCE_BYTES, _TAG_BYTES = 12, 16
CELL_BYTES = _NONCE_BYTES + CONTENT_BYTES + _TAG_BYTES


def encrypt_cell(key: bytes, question_id: bytes, content: bytes) -> bytes:
    """Return CELL_BYTES bytes. key: KEY_BYTES. content: CONTENT_BYTES, so that no length tells."""
    if len(content) != CONTENT_BYTES:
        raise ValueError(f"the content of a cell has {CONTENT_BYTES} bytes")
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, question_id)


def decrypt_cell(key: bytes, question_id: bytes, cell: bytes) -> bytes:
    """Return the content. Raises PackageRefused where key or question ID are not the cell's."""
    nonce, body = cell[:_NONCE_BYTES], cell[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, body, question_id)
    except (InvalidTag, ValueError):
        raise PackageRefused(
            "a cell of the imaging party's answer does not open with the key of its question ID",
            hint="ask again; the imaging party must answer with the newest question IDs",
        ) from None
