"""
Numbered lists that uploaders seal to the worker: assertions, opt-outs. The server can open none.

It checks that the uploader sealed a list to the broker for exactly this study, epoch and number;
the numbers of an uploader's lists follow one another, and the same list again is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from broker import audit
from broker.blobs import Blobs, Receiving
from broker.policy import Grant
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, PackageRefused
from linkage.sealing import Context, verify_sealed_stream


class Row(Protocol):
    """A list as it is stored. digest: SHA-256 of the sealed bytes, hex."""

    @property
    def digest(self) -> str:
        """See above."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Announced:
    """A list that is about to come. cap: bytes that it may have."""

    grant: Grant
    number: int
    cap: int


def take(
    database: Database,
    blobs: Blobs,
    announced: Announced,
    received: Receiving,
    *,
    kind: str,
    context: Context,
    row: Callable[..., R],
    here: Callable[[Connection], R | None],
    add: Callable[[Connection, R], None],
) -> tuple[R, bool]:
    """
    Keep a list; return its row, and whether it is new. The same again is one.

    kind: "assertion list", for people. row: makes the row of its columns. here: the list of this
    number, if it came before; raises Conflict where it may not come. add: stores the row.

    Raises PackageRefused where the uploader did not seal it for exactly this, Conflict where
    another one has its number.
    """
    grant, number = announced.grant, announced.number
    study, uploader = grant.study, grant.uploader
    if not received.size:
        raise PackageRefused("the body is empty", hint="send the sealed list")
    with received.reader() as file:
        verify_sealed_stream(file, sender=study.pin(uploader), context=context)
    blob = received.keep()
    columns: dict[str, Any] = {
        "study_id": study.id,
        "uploader": uploader,
        "number": number,
        "epoch": study.config.study.epoch,
        "blob_id": blob.blob_id,
        "size": blob.size,
        "digest": blob.digest,
        "placed_at": int(time.time()),
    }
    made = row(**columns)
    with blobs.unless_kept(blob.blob_id) as fate:
        with database.change() as connection:
            found = here(connection)
            if found is None:
                add(connection, made)
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action=f"{kind} received",
                    study_id=study.id,
                    subject=f"{uploader}/{number}",
                    detail={"digest": made.digest, "bytes": made.size},
                )
        fate.kept = found is None
    if found and found.digest != made.digest:
        raise Conflict(
            f"another {kind} has the number {number}",
            hint="send it as the next one: run the same command again",
        )
    return found or made, found is None


def require_next(found: Row | None, number: int, newest: int, *, kind: str, uploader: str) -> None:
    """Raises Conflict unless the list is here or follows the uploader's newest one."""
    if found is None and number != newest + 1:
        raise Conflict(
            f"the next {kind} of {uploader!r} is number {newest + 1}",
            hint="send it with that number",
        )
