"""
A process that holds the broker's private keys, and a `KeyHolder` that asks it over a Unix socket:
`python -m tests.key_process IDENTITY SOCKET`. In a deployment it would run under another account.

Each request is three byte strings: what is asked, and up to two arguments; the answer is one byte
string behind a mark. Only bytes travel, nothing is unpickled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from pathlib import Path

from linkage.errors import Unreachable
from linkage.sealing import Identity, PublicIdentity

_DONE, _NOT_OPENED = b"+", b"-"


class Remote:
    """Keys in another process; nothing of them is in this one."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._public = PublicIdentity.model_validate_json(self._ask(b"public"))

    @property
    def name(self) -> str:
        return self._public.name

    def public(self) -> PublicIdentity:
        return self._public

    def sign(self, data: bytes) -> bytes:
        return self._ask(b"sign", data)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        return self._ask(b"open", sealed, info)

    def _ask(self, what: bytes, first: bytes = b"", second: bytes = b"") -> bytes:
        try:
            with short(self._socket) as name, Client(name, family="AF_UNIX") as wire:
                for one in (what, first, second):
                    wire.send_bytes(one)
                mark, answer = wire.recv_bytes(), wire.recv_bytes()
        except (OSError, EOFError):
            raise Unreachable(
                "the process that holds the keys does not answer", hint="start it again"
            ) from None
        if mark != _DONE:
            raise ValueError("it does not open")
        return answer


@contextmanager
def short(socket: Path) -> Iterator[str]:
    """
    Give another name for a socket, by its open folder: a path of more than 107 characters, as below
    a long TMPDIR, names no socket (unix(7)).
    """
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{socket.name}"
    finally:
        os.close(folder)


def holder(home: Path) -> Remote:
    """Return the keys of a broker: `[worker] key_holder = "tests.key_process:holder"`."""
    return Remote(home / "worker" / "keys.socket")


def main() -> None:
    """Answer one request after the other."""
    identity = Identity.load(Path(sys.argv[1]))
    with (
        short(Path(sys.argv[2])) as name,
        Listener(name, family="AF_UNIX", backlog=64) as listener,
    ):
        while True:
            with listener.accept() as wire:
                what, first, second = (wire.recv_bytes() for _ in range(3))
                mark, answer = _DONE, b""
                try:
                    if what == b"public":
                        answer = identity.public().model_dump_json().encode()
                    elif what == b"sign":
                        answer = identity.sign(first)
                    else:
                        answer = identity.open(first, second)
                except ValueError:
                    mark = _NOT_OPENED
                wire.send_bytes(mark)
                wire.send_bytes(answer)


if __name__ == "__main__":
    main()
