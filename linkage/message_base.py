"""
The base of all messages: versioned, frozen, unknown keys refused; signed ones over their canonical
JSON (RFC 8785).
"""

from __future__ import annotations

import base64
from typing import ClassVar, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict

from linkage.errors import PackageRefused
from linkage.sealing import KeyHolder, PublicIdentity


class Message(BaseModel):
    """Base of all messages. `version` changes when a reader of the old one would misread."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1

    def canonical(self) -> bytes:
        """Return the canonical JSON, RFC 8785. Raises PackageRefused where there is none."""
        return _canonical(self)

    def to_json(self) -> bytes:
        """Return the message as it is sent."""
        return self.model_dump_json().encode()


def _canonical(message: BaseModel, *, leave_out: frozenset[str] = frozenset()) -> bytes:
    try:
        return rfc8785.dumps(message.model_dump(mode="json", exclude=set(leave_out)))
    except (rfc8785.CanonicalizationError, ValueError, RecursionError):
        raise PackageRefused(
            "a message holds a number or text that canonical JSON cannot carry",
            hint="use integers below 2^53, finite numbers, valid Unicode and no deep nesting",
        ) from None


class SignedMessage(Message):
    """
    A message with the base64 Ed25519 signature of everything else in it.

    added: fields that earlier versions of the software did not know. With its default such a field
    is neither signed, so that what was signed before still verifies, nor sent, so that a broker
    that was not upgraded yet takes the message.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    signature: str = ""

    def signed_bytes(self) -> bytes:
        """Return what is signed: kind of message and canonical JSON without the signature."""
        content = _canonical(self, leave_out=frozenset({"signature", *self._unused()}))
        return type(self).__name__.encode() + b"\n" + content

    def to_json(self) -> bytes:
        return self.model_dump_json(exclude=self._unused()).encode()

    def _unused(self) -> set[str]:
        fields = type(self).model_fields
        return {name for name in self.added if getattr(self, name) == fields[name].default}

    def sign(self, signer: KeyHolder) -> Self:
        """Return a copy signed by `signer`."""
        made = base64.b64encode(signer.sign(self.signed_bytes())).decode()
        return self.model_copy(update={"signature": made})

    def verify(self, signer: PublicIdentity) -> None:
        """Raises PackageRefused unless `signer` signed exactly this."""
        try:
            signature = base64.b64decode(self.signature, validate=True)
        except ValueError:  # also for letters beyond ASCII
            signature = b""
        if not signature:
            raise PackageRefused(
                f"the {type(self).__name__} is not signed", hint=f"{signer.name!r} must sign it"
            )
        signer.verify(signature, self.signed_bytes())
