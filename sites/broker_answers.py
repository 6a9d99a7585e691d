"""
What the broker answers, as a site takes it: problem documents become the errors that they were.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from pydantic import ValidationError

from linkage import errors
from linkage.errors import LinkageError, Unreachable
from linkage.messages import Problem

_MOST_WAIT_S = 10.0
MOST_BYTES = 256 << 20
"""No answer is longer, but for a larger sealed object: that is as long as was announced."""
_EXTENSION = "linkage_most_bytes"


def _all_errors() -> dict[str, type[LinkageError]]:
    found: dict[str, type[LinkageError]] = {}
    queue: list[type[LinkageError]] = [LinkageError]
    while queue:
        one = queue.pop()
        found.setdefault(one.code, one)
        queue += one.__subclasses__()
    return found


_BY_CODE = _all_errors()


def client_of(url: str, timeout_s: float) -> httpx.Client:
    """
    Return an HTTP client that takes nothing compressed, for a megabyte can hold a thousand of them,
    and nothing longer than MOST_BYTES, or than `at_most` lets its request.

    Its requests raise Unreachable: before anything of it is read for an answer that is compressed,
    and as soon as it is too long for one that is.
    """
    asked, hooks = {"Accept-Encoding": "identity"}, {"response": [_require_as_it_is, _limit]}
    return httpx.Client(base_url=url, timeout=timeout_s, headers=asked, event_hooks=hooks)


def at_most(size: int) -> dict[str, int]:
    """Return the extensions of a request whose answer may hold an announced object of this size."""
    return {_EXTENSION: max(size, MOST_BYTES)}


class _Limited(httpx.SyncByteStream):
    """What comes of an answer, up to so many bytes."""

    def __init__(self, stream: httpx.SyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    def __iter__(self) -> Iterator[bytes]:
        came = 0
        for piece in self._stream:
            came += len(piece)
            if came > self._most:
                raise Unreachable(
                    f"the broker's address sent more than {self._most >> 20} MiB for an answer",
                    hint="check [broker] url, and tell the broker's admin",
                )
            yield piece

    def close(self) -> None:
        self._stream.close()


def _limit(response: httpx.Response) -> None:
    # Not a transport of our own: with one, httpx minds no proxy of the environment.
    most = response.request.extensions.get(_EXTENSION, MOST_BYTES)
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Limited(response.stream, most)


def _require_as_it_is(response: httpx.Response) -> None:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unreachable(
            "the broker's address sent a compressed answer, which was not asked for",
            hint="let the proxy before the broker send answers as they are (nginx: gzip off)",
        )


def asked_to_wait(response: httpx.Response) -> float:
    """Return the seconds that the broker, or a proxy before it, asks to wait; not too many."""
    told = response.headers.get("retry-after", "")
    return min(float(told), _MOST_WAIT_S) if told.isascii() and told.isdigit() else 0.0


def raise_for(response: httpx.Response) -> None:
    """Raises the LinkageError that a problem document tells of; nothing where all is well."""
    if response.is_success:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        raise Unreachable(
            f"the broker's address answered with HTTP {response.status_code}",
            hint="check [broker] url: is it the broker, and does a proxy stand between?",
        ) from None
    if response.status_code in (404, 405) and problem.code not in _BY_CODE:
        raise Unreachable(
            f"{response.request.url.host} has no such address",
            hint="check [broker] url; both sides need the same software version",
        )
    made = _BY_CODE.get(problem.code, errors.LinkageError)
    fault = made.__new__(made)
    LinkageError.__init__(fault, problem.detail, hint=problem.hint)
    raise fault
