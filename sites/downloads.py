"""
Fetching a sealed object over a line that breaks: part by part, so that a cut costs one part.

What came is kept in memory; whoever is killed begins anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import httpx

from linkage.errors import PackageRefused, Unreachable
from linkage.messages import PART_BYTES, SealedItem
from linkage.sealing import MOST_SEALED_BYTES

_WAITS_S = (2.0, 5.0, 10.0, 30.0, 60.0)
"""Once something came, a line may be away for so long, beside what `get` itself is patient."""


def fetched(item: SealedItem, get: Callable[[dict[str, str]], httpx.Response]) -> bytes:
    """
    Return a sealed object's bytes. get: asks for it with these headers, and repeats what fails.

    Raises PackageRefused where other bytes came than the broker announced, or more are announced
    than one sealed object can have; Unreachable.
    """
    if item.size > MOST_SEALED_BYTES:
        raise PackageRefused(
            "the broker announced more bytes than a sealed object can have",
            hint="tell the broker's admin, and whoever sent it",
        )
    parts: list[bytes] = []
    size, digest = 0, hashlib.sha256()
    while size < item.size:
        part = range(item.size)[size : size + PART_BYTES]
        came = _patiently(get, _headers(part, item.size), begun=size > 0)
        # A broker of a version before 206 sends all of it, whatever was asked for.
        if came.status_code != httpx.codes.PARTIAL_CONTENT and size:
            parts, size, digest = [], 0, hashlib.sha256()
        parts.append(came.content)
        size += len(came.content)
        digest.update(came.content)
        if not came.content:
            break
    if size != item.size or digest.hexdigest() != item.digest:
        raise PackageRefused(
            "what came is not what the broker announced",
            hint="fetch it again; if it stays so, tell the broker's admin: does a proxy stand"
            " between?",
        )
    return b"".join(parts)


def _headers(part: range, size: int) -> dict[str, str]:
    return {} if len(part) == size else {"Range": f"bytes={part[0]}-{part[-1]}"}


def _patiently(
    get: Callable[[dict[str, str]], httpx.Response], headers: dict[str, str], *, begun: bool
) -> httpx.Response:
    for wait in _WAITS_S if begun else ():
        try:
            return get(headers)
        except Unreachable:
            time.sleep(wait)
    return get(headers)
