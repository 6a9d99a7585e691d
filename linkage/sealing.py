"""
Sealing and signing of everything that travels: HPKE (RFC 9180) and Ed25519 (RFC 8032).

    sealed = seal(data, sender=site, recipient=broker_public, context=context)
    data = unseal(sealed, sender=site_public, recipient=broker, context=context)

One way to do it: whatever is sealed is also signed by its sender, and both bind the same
`Context`: study, sender, recipient, purpose and details such as a part's number. An object
that was altered, replayed elsewhere, misdirected or sealed by someone else does not open.
Suite: HKDF-SHA-256, AES-256-GCM and, as KEM, ML-KEM-768 + X25519 (default) or X25519.
All of the cryptography is pyca/cryptography's; here are only names, framing and files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, Protocol

import rfc8785
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from linkage.errors import KeyRefused, PackageRefused
from linkage.strict_toml import Strict

Kem = Literal["MLKEM768_X25519", "X25519"]
_MAGIC = b"CLS1"
_SIGNATURE_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
MOST_BYTES = 2**31 - 1
"""What can be sealed in one piece."""
MOST_SEALED_BYTES = MOST_BYTES + len(_MAGIC) + _SIGNATURE_BYTES + 1120 + 16
"""The same, sealed: with X-Wing's encapsulated key and the tag of AES-GCM."""
_RAW = serialization.Encoding.Raw
_RAW_PRIVATE = (_RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption())
_RAW_PUBLIC = (_RAW, serialization.PublicFormat.Raw)


@dataclass(frozen=True, slots=True)
class Context:
    """
    What a sealed object is for; both ends must name the same.

    sender, recipient: a party id, "broker" or "custodian". purpose: one of `linkage.messages`.
    details: whatever makes the object one of its kind, such as dataset version and part number.
    """

    study: str
    sender: str
    recipient: str
    purpose: str
    details: tuple[str, ...] = ()

    def info(self) -> bytes:
        """Return the length-prefixed bytes bound by HPKE's `info` and by the signature."""
        fields = ("commons-linkage/1", self.study, self.sender, self.recipient, self.purpose)
        return b"".join(
            len(one.encode()).to_bytes(4, "big") + one.encode() for one in (*fields, *self.details)
        )


class PublicIdentity(Strict):
    """The public half of an actor's keys. signing, sealing: base64 of the raw public keys."""

    version: Literal[1] = 1
    name: str
    kem: Kem
    signing: str
    sealing: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both keys, 32 hex digits in groups of four, to be read out by phone."""
        digest = hashlib.sha256(rfc8785.dumps(self.model_dump())).hexdigest()[:32]
        return " ".join(digest[i : i + 4] for i in range(0, 32, 4))

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises PackageRefused unless `signature` over `data` is this actor's."""
        try:
            self._signing_key().verify(signature, data)
        except InvalidSignature:
            raise PackageRefused(
                f"the signature is not that of {self.name!r}, or what it signs was altered",
                hint="get it again from its sender; compare fingerprints by telephone",
            ) from None

    def require_keys(self) -> None:
        """Raises KeyRefused unless both are keys."""
        self._signing_key()
        self._sealing_key()

    def _signing_key(self) -> Ed25519PublicKey:
        try:
            return Ed25519PublicKey.from_public_bytes(_unbase64(self.signing))
        except ValueError:
            _not_a_key(self.name)

    def _sealing_key(self) -> X25519PublicKey | hpke.MLKEM768X25519PublicKey:
        raw = _unbase64(self.sealing)
        try:
            if self.kem == "X25519":
                return X25519PublicKey.from_public_bytes(raw)
            return hpke.MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
                X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:]),
            )
        except ValueError:
            _not_a_key(self.name)


class KeyHolder(Protocol):
    """
    Whatever can sign and open for an actor: `Identity`, which has the keys in memory, or one that
    asks another process or device and never has them.
    """

    @property
    def name(self) -> str:
        """Whose keys they are."""

    def public(self) -> PublicIdentity:
        """Return the public half."""

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of `data`, 64 bytes; the same every time (RFC 8032)."""

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open one HPKE message, RFC 9180 section 6.1. Raises ValueError where it does not open."""


class Identity:
    """
    An actor's private keys: one to sign, one to open what is sealed to it.

    Shows nothing of them in repr, and refuses pickling. Kept in one owner-only file.
    """

    __slots__ = ("_kem", "_mlkem", "_signing", "_x25519", "name")

    def __init__(
        self,
        name: str,
        signing: Ed25519PrivateKey,
        x25519: X25519PrivateKey,
        mlkem_key: mlkem.MLKEM768PrivateKey | None,
    ) -> None:
        self.name = name
        self._signing, self._x25519, self._mlkem = signing, x25519, mlkem_key
        self._kem: Kem = "MLKEM768_X25519" if mlkem_key else "X25519"

    @classmethod
    def generate(cls, name: str, *, kem: Kem = "MLKEM768_X25519") -> Identity:
        """Make new keys. `name` is a party id, "broker", "custodian" or an admin's name."""
        second = mlkem.MLKEM768PrivateKey.generate() if kem == "MLKEM768_X25519" else None
        return cls(name, Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), second)

    def __repr__(self) -> str:
        return f"Identity(name={self.name!r}, keys=<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise KeyRefused("private keys are not pickled", hint="pass the path of the key file")

    def public(self) -> PublicIdentity:
        """Return the public half, to be pinned in the signed study."""
        x25519 = self._x25519.public_key().public_bytes(*_RAW_PUBLIC)
        hybrid = self._mlkem.public_key().public_bytes(*_RAW_PUBLIC) if self._mlkem else b""
        return PublicIdentity(
            name=self.name,
            kem=self._kem,
            signing=_base64(self._signing.public_key().public_bytes(*_RAW_PUBLIC)),
            sealing=_base64(hybrid + x25519),
        )

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of `data`, 64 bytes."""
        return self._signing.sign(data)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open one HPKE message to this actor. Raises ValueError where it does not open."""
        key = self._x25519
        opening = hpke.MLKEM768X25519PrivateKey(self._mlkem, key) if self._mlkem else key
        try:
            return bytes(_suite(self._kem).decrypt(sealed, opening, info))
        except InvalidTag:
            raise ValueError("it does not open") from None

    def signing_pem(self) -> bytes:
        """Return the private signing key as unencrypted PKCS 8 PEM, for a JWT library only."""
        return self._signing.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def to_bytes(self) -> bytes:
        """Return the content of the key file. Only for keeping it; never log or send it."""
        keys = {
            "version": 1,
            "name": self.name,
            "kem": self._kem,
            "signing": _base64(self._signing.private_bytes(*_RAW_PRIVATE)),
            "x25519": _base64(self._x25519.private_bytes(*_RAW_PRIVATE)),
            # The hybrid key has no serialisation of its own: the ML-KEM seed and X25519 bytes are.
            "mlkem_seed": _base64(self._mlkem.private_bytes_raw()) if self._mlkem else "",
        }
        return json.dumps(keys, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "the identity") -> Identity:
        """Read what `to_bytes` gave; `name` says in errors where it lay. Raises KeyRefused."""
        try:
            keys: dict[str, Any] = json.loads(data)
            seed = _unbase64(keys["mlkem_seed"])
            return cls(
                str(keys["name"]),
                Ed25519PrivateKey.from_private_bytes(_unbase64(keys["signing"])),
                X25519PrivateKey.from_private_bytes(_unbase64(keys["x25519"])),
                mlkem.MLKEM768PrivateKey.from_seed_bytes(seed) if seed else None,
            )
        except (ValueError, KeyError, TypeError):
            raise KeyRefused(
                f"{name} is no identity file", hint="make one with `linkage-site keys identity`"
            ) from None

    def save(self, path: Path) -> None:
        """Write the keys to a new owner-only file. Raises KeyRefused if the file exists."""
        write_secret(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a key file. Raises KeyRefused if it is missing, garbled or others can read it."""
        return cls.from_bytes(read_secret(path), name=str(path))


def seal(data: bytes, *, sender: KeyHolder, recipient: PublicIdentity, context: Context) -> bytes:
    """Return `data` sealed to `recipient` and signed by `sender`; at most MOST_BYTES."""
    return b"".join(seal_in_two(data, sender=sender, recipient=recipient, context=context))


def seal_in_two(
    data: bytes | memoryview, *, sender: KeyHolder, recipient: PublicIdentity, context: Context
) -> tuple[bytes, bytes]:
    """Return what `seal` does as its head and its body, so that nobody copies a large body."""
    sealed = _suite(recipient.kem).encrypt(data, recipient._sealing_key(), context.info())
    return _MAGIC + sender.sign(_signed_bytes(sealed, context)), sealed


def unseal(
    sealed: bytes, *, sender: PublicIdentity, recipient: KeyHolder, context: Context
) -> bytes:
    """
    Return what `sender` sealed to `recipient` in exactly this `context`.

    Raises PackageRefused where it is truncated, altered, foreign, misdirected or unsigned.
    """
    verify_seal(sealed, sender=sender, context=context)
    body = sealed[len(_MAGIC) + _SIGNATURE_BYTES :]
    try:
        return recipient.open(body, context.info())
    except ValueError:
        raise PackageRefused(
            f"what {context.sender!r} sealed as {context.purpose!r} does not open with the key"
            f" of {recipient.name!r}",
            hint="it was sealed to another key; both sides need the same signed study",
        ) from None


def verify_seal(sealed: bytes, *, sender: PublicIdentity, context: Context) -> None:
    """Raises PackageRefused unless `sender` sealed this in this `context`. Needs no private key."""
    verify_sealed_stream(io.BytesIO(sealed), sender=sender, context=context)


def verify_sealed_stream(file: BinaryIO, *, sender: PublicIdentity, context: Context) -> None:
    """`verify_seal` of an open binary file from its start, in constant memory."""
    head = file.read(len(_MAGIC) + _SIGNATURE_BYTES)
    start = file.read(1)
    if not start or not head.startswith(_MAGIC):
        raise PackageRefused(
            f"{context.purpose} from {context.sender!r} is truncated or no sealed object",
            hint="send it again",
        )
    digest = hashlib.sha256(start)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    try:
        sender.verify(head[len(_MAGIC) :], context.info() + digest.digest())
    except PackageRefused:
        raise PackageRefused(
            f"{context.purpose} is not signed by {context.sender!r} for this study, recipient and"
            " place, or was altered",
            hint="its sender must make and send it again; compare fingerprints by telephone",
        ) from None


def write_secret(path: Path, data: bytes, *, noun: str = "", new_folder: bool = True) -> None:
    """
    Write a new file that only its owner can read. noun: what it is, for errors.

    new_folder: make its folder, where it is missing. Raises KeyRefused if it exists or cannot be
    written; no half of it stays.
    """
    named = f"the {noun} {path}" if noun else str(path)
    try:
        if new_folder:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        rule = f"a {noun} is never overwritten" if noun else "it is not overwritten"
        raise KeyRefused(
            f"{path} exists; {rule}", hint="choose another name, or move it away"
        ) from None
    except OSError as fault:
        raise KeyRefused(
            f"{named} cannot be made ({type(fault).__name__})",
            hint="its folder must exist and be writable",
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        path.unlink(missing_ok=True)
        raise KeyRefused(
            f"{named} cannot be written ({type(fault).__name__})", hint="is the disk full?"
        ) from None


def replace_secret(path: Path, data: bytes) -> None:
    """Write it in place of the one before, which is there until the new one is whole."""
    making = path.with_name(f".{path.name}.making")
    making.unlink(missing_ok=True)
    write_secret(making, data)
    making.replace(path)


def read_secret(path: Path, *, noun: str = "") -> bytes:
    """
    Read a file that only its owner can read. noun: what it is, for errors.

    Raises KeyRefused where it is missing, no plain file, or open to others.
    """
    named = f"the {noun} {path}" if noun else str(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and not mode & (stat.S_IRWXG | stat.S_IRWXO):
                return file.read()
    except FileNotFoundError:
        raise KeyRefused(
            f"{named} cannot be read: there is no {noun or 'such file'}", hint="check the path"
        ) from None
    except OSError as fault:
        raise KeyRefused(
            f"{named} cannot be read ({type(fault).__name__})", hint="check path and permissions"
        ) from None
    if not stat.S_ISREG(mode):
        raise KeyRefused(f"{path} is not a file", hint="give the path of a file")
    command = f"chmod 600 {shlex.quote(str(path))}"
    raise KeyRefused(f"{named} can be read by others than its owner", hint=f"run: {command}")


def _suite(kem: Kem) -> hpke.Suite:
    chosen = hpke.KEM.X25519 if kem == "X25519" else hpke.KEM.MLKEM768_X25519
    return hpke.Suite(chosen, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _signed_bytes(sealed: bytes, context: Context) -> bytes:
    return context.info() + hashlib.sha256(sealed).digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _not_a_key(name: str) -> NoReturn:
    raise KeyRefused(
        f"the public key of {name!r} is malformed", hint="ask its owner to send it again"
    )
