"""
Names without identity: record pseudonyms, and cross-commons IDs with a check character.

A record pseudonym is made at the site from its own secret, so nobody else can make or undo
it, and a lost map is remade. A cross-commons ID is random; it says nothing by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.errors import KeyRefused, LinkageError

T = TypeVar("T")

ID_BYTES = 16
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHECK_ALPHABET = _ALPHABET + "*~$=U"
_DIGITS = 26
_HEADER = b"commons-linkage contributor secret 1\n"
_KDF_SALT = b"commons-linkage/contributor/v1"


class ContributorSecret:
    """A contributor's own 32 random bytes. Never leaves its machine; repr and pickle hide it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise KeyRefused("a contributor's secret needs at least 32 bytes")
        self._secret = secret

    @classmethod
    def generate(cls) -> ContributorSecret:
        """Return a new secret from the operating system's generator."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "the file") -> ContributorSecret:
        """Read what `to_bytes` gave; `name` says in errors where it lay. Raises KeyRefused."""
        try:
            if not data.startswith(_HEADER):
                raise ValueError
            return cls(bytes.fromhex(data[len(_HEADER) :].decode().strip()))
        except (ValueError, KeyRefused):
            raise KeyRefused(
                f"{name} is no contributor secret", hint="restore it from your backup"
            ) from None

    def to_bytes(self) -> bytes:
        """Return the content of the secret's file. Only for keeping it; never log or send it."""
        return _HEADER + self._secret.hex().encode() + b"\n"

    def __repr__(self) -> str:
        return "ContributorSecret(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise KeyRefused("a contributor's secret is not pickled")

    def pseudonyms(self, study_id: str, record_ids: Sequence[str]) -> npt.NDArray[np.uint8]:
        """
        Return the record pseudonyms, uint8[N, 16]: HMAC-SHA-256 of study ID and record id,
        each prefixed by its length in 4 bytes, cut to 128 bits.
        """
        # A keyed context copied for each is three times as fast as one made for each.
        start = HMAC(self._secret, hashes.SHA256())
        start.update(length_prefixed(study_id))
        made = b"".join(_tag(start, length_prefixed(one)) for one in record_ids)
        return np.frombuffer(made, np.uint8).reshape(-1, ID_BYTES).copy()

    def keyed(self, make: Callable[[bytes], T]) -> T:
        """Return what `make` makes of the secret: a faster HMAC, which must hide it as well."""
        return make(self._secret)

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes for another purpose on this machine: HKDF-SHA-256, RFC 5869."""
        kdf = HKDF(hashes.SHA256(), length=32, salt=_KDF_SALT, info=purpose.encode())
        return kdf.derive(self._secret)


def _tag(start: HMAC, message: bytes) -> bytes:
    mac = start.copy()
    mac.update(message)
    return mac.finalize()[:ID_BYTES]


def random_ids(count: int) -> npt.NDArray[np.uint8]:
    """Return `count` random IDs, uint8[count, 16], from the operating system's generator."""
    drawn = np.frombuffer(secrets.token_bytes(count * ID_BYTES), np.uint8)
    return drawn.reshape(count, ID_BYTES).copy()


def format_id(raw: bytes) -> str:
    """
    Return 16 bytes as 26 digits of Crockford's base32 and a check character (value mod 37).

    Source: Crockford, Base 32, https://www.crockford.com/base32.html. The check character finds
    every single wrong character and every swap of neighbours: a digit off by d at place k changes
    the value by d * 32^k, a swap of a and b by (a - b) * 31 * 32^k, and 37, a prime greater than
    32, divides neither. Of other errors it misses one in 37.
    """
    value = int.from_bytes(raw, "big")
    digits = "".join(_ALPHABET[(value >> shift) & 31] for shift in range(5 * 25, -1, -5))
    return digits + _CHECK_ALPHABET[value % 37]


def format_ids(raw: npt.NDArray[np.uint8]) -> list[str]:
    """Return `format_id` of each row of uint8[N, 16]."""
    return [format_id(row.tobytes()) for row in raw]


def parse_id(text: str) -> bytes:
    """
    Return the 16 bytes of a cross-commons ID, forgiving small letters, hyphens, and o, i, l.

    Raises LinkageError for a wrong length, an unknown digit or a check that does not fit.
    """
    clean = text.strip().upper().replace("-", "").translate(str.maketrans("OIL", "011"))
    body = clean[:-1]
    fault = ""
    if len(clean) != _DIGITS + 1:
        fault = f"it has {len(clean)} characters, not {_DIGITS + 1}"
    elif set(body) - set(_ALPHABET):
        fault = "it holds a character that is no base32 digit"
    else:
        value = 0
        for digit in body:
            value = value * 32 + _ALPHABET.index(digit)
        if value >= 1 << 128 or _CHECK_ALPHABET[value % 37] != clean[-1]:
            fault = "its check character does not fit"
    if fault:
        raise LinkageError(f"not a cross-commons ID: {fault}", hint="copy it again from its source")
    return value.to_bytes(ID_BYTES, "big")


def length_prefixed(text: str) -> bytes:
    """Return UTF-8 after its length in bytes, 4 bytes, big-endian."""
    data = text.encode()
    return len(data).to_bytes(4, "big") + data
