"""
What this site seals to another party and hands to the broker: the very same bytes, however often.

    send_once(session, recipient, purpose, subject, make)

An answer about a question is filled up with random IDs, so that its length tells nothing. Sealed
twice for one question, two answers would differ in just these: whoever got both to open could
strike the fillers out and count the rest. So what was sealed is written down before it is sent,
and a process that was killed anywhere between is followed by one that sends these bytes. The broker
takes the same again as one; other bytes under the same name it refuses, and so does this site.

A private folder that was restored from a backup has forgotten what was sent since. What is made
anew has other bytes, so the broker refuses it; then the first ones stand, and that is written down.

Here lie only objects sealed to somebody else: this site cannot open them either. What the broker
acknowledged is forgotten but for its digest.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from linkage.errors import AlreadySent, Conflict, NotFound
from linkage.sealing import Context, PublicIdentity, seal
from sites.session import Session
from sites.vault import Vault

SENT_BEFORE = (
    "sent before, by this site; the first one stands. This private folder is older than that: if it"
    " was restored from a backup, docs/agent.md says what else it has forgotten; if the broker was,"
    " see linkage-site accept-restored"
)
_FORGOTTEN = b"sent before this private folder was restored"
"""In place of the digest of what was sent."""

_SAFE = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")


def send_once(
    session: Session,
    recipient: str,
    purpose: str,
    subject: str,
    make: Callable[[], bytes],
    *,
    key: PublicIdentity | None = None,
) -> bool:
    """
    Seal what `make` returns to `recipient`, send it; return False if it was sent before.

    make is called only where nothing was sealed for this purpose and subject yet. key: to which it
    is sealed; default: the recipient's own in the signed study. Raises what the broker refuses, but
    for other bytes than it has: then False, and `was_forgotten`.
    """
    waiting, sent = _files(session, f"{purpose}.{recipient}" if key else purpose, subject)
    if sent.exists():
        waiting.unlink(missing_ok=True)
        return False
    if not waiting.exists():
        sealed = seal(
            make(),
            sender=session.identity,
            recipient=key or session.signed.pin(recipient),
            context=Context(session.study_id, session.uploader, recipient, purpose, (subject,)),
        )
        _write(waiting, sealed)
    # Read again also where it was just written: another process may have been the first.
    sealed = waiting.read_bytes()
    digest = hashlib.sha256(sealed).hexdigest().encode()
    try:
        session.broker.relay(session.study_id, recipient, purpose, subject, sealed)
    except AlreadySent:
        digest = _FORGOTTEN
    _write(sent, digest, anew=True)
    waiting.unlink(missing_ok=True)
    return digest != _FORGOTTEN


def was_sent(session: Session, purpose: str, subject: str) -> bool:
    """Did the broker acknowledge what this site sealed for this purpose and subject?"""
    return _files(session, purpose, subject)[1].exists()


def was_forgotten(session: Session, subject: str) -> bool:
    """Did the broker have something of this site that this folder knew nothing of?"""
    folder = session.vault.folder / "outbox" / "sent"
    return any(path.read_bytes() == _FORGOTTEN for path in folder.glob(f"{subject}.*"))


def sweep(vault: Vault) -> None:
    """Remove what processes left half written that are no more."""
    for path in (vault.folder / "outbox").glob("**/.*.making"):
        if not _alive(int(path.name.split(".")[-2])):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process has the number now, or theirs it is
        return True
    return True


def _files(session: Session, purpose: str, subject: str) -> tuple[Path, Path]:
    """Return where the sealed bytes wait, and where their digest stays."""
    if not _SAFE.fullmatch(purpose) or not _SAFE.fullmatch(subject):
        raise NotFound("there is nothing of that name", hint="ids: small letters, digits, hyphens")
    folder = session.vault.folder / "outbox"
    return folder / f"{subject}.{purpose}", folder / "sent" / f"{subject}.{purpose}"


def _write(path: Path, data: bytes, *, anew: bool = False) -> None:
    """Write a file of the owner's, whole or not at all; the first one stays unless `anew`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    making = path.with_name(f".{path.name}.{os.getpid()}.making")
    making.unlink(missing_ok=True)
    handle = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # A power failure must not leave the name without the content.
            os.fsync(file.fileno())
        if anew:
            making.replace(path)
        else:
            _link_first(making, path)
    finally:
        making.unlink(missing_ok=True)


def _link_first(made: Path, path: Path) -> None:
    """Give `made` its name; where another process did so before, that one stays."""
    try:
        os.link(made, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if path.exists():
            raise Conflict(
                "another process of this site answers the same question",
                hint="let it finish; then this has nothing left to do",
            ) from None
        made.replace(path)
