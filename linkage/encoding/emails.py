"""
Normalisation of e-mail addresses: small letters, the domain in ASCII (RFC 5321, IDNA).

What follows a plus stays: who can be reached under it is not ours to know. Weakness: letters of
the local part that a provider ignores (dots at Gmail) count.
"""

from __future__ import annotations

import re

from linkage.encoding import whys
from linkage.encoding.rules import Found, null, word_set

SHAPE = re.compile(r"[^@\sA-Z<>,;\"]+@[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")
_ANGLE = re.compile(r"<([^<>]*)>")
_OF_NOBODY = word_set(
    "none na n/a no noemail no-email no.email unknown test tester declined refused nomail null "
    "nobody noone donotreply do-not-reply noreply no-reply notprovided notgiven xxx x"
)
_NO_DOMAIN = word_set("example.com example.org example.net none.com noemail.com test.com na.com")


def email(text: str) -> Found:
    """Normalise an e-mail address, also "Name <address>", "mailto:..." and the first of a list."""
    named = _ANGLE.search(text)
    whole = (named[1] if named else text).casefold().strip().removeprefix("mailto:")
    first, *others = [one for one in re.split(r"[;,\s]+", whole) if one] or [""]
    address = _ascii_domain(first.strip("<>\"'").rstrip("."))
    local, _, domain = address.partition("@")
    if (local in _OF_NOBODY and domain) or domain in _NO_DOMAIN:
        return null(whys.NOBODYS_EMAIL)
    if len(address) > 200 or not SHAPE.fullmatch(address):
        return null(whys.NOT_AN_EMAIL)
    return address, whys.FIRST_OF_SEVERAL if others else ""


def _ascii_domain(address: str) -> str:
    local, at, domain = address.rpartition("@")
    if domain.isascii():
        return address
    try:
        return f"{local}{at}{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return ""
