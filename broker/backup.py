"""
Backups: databases, blobs and settings in one folder, with a digest of each file.

    DIR/manifest.json      what this is of, and the SHA-256 of every other file
    DIR/manifest.signed    the broker's signature, where its key is at hand
    DIR/config.toml, DIR/public.json
    DIR/database/          SQLite files, or one file a table of PostgreSQL
    DIR/blobs/ab/abcd...   sealed packages

The broker may run meanwhile. What is in the databases in the moment of their copy has its blobs in
the backup: blobs are copied before and after, and where one of them went between, all is done once
more. The private key is in no backup: whoever had both could open everything. `keys_to` copies it
to a place of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker import audit_heads
from broker.backup_signature import SIGNATURE, signed, signer_of
from broker.blobs import Blobs
from broker.config import CONFIG, Home
from broker.services.runs import SOFTWARE
from broker.store import blobs as blob_rows
from broker.store.backup import Urls, written
from broker.store.engine import revision_of
from linkage.errors import Conflict, NotFound, Unreachable

MANIFEST, DATABASE, BLOBS, PUBLIC = "manifest.json", "database", "blobs", "public.json"
VERSION = 1
_ATTEMPTS = 5
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """
    A finished backup. digest: SHA-256 of its manifest, to be kept elsewhere. head: the newest entry
    of the audit log, number:hash. signed: by the broker's key, where that is at hand.
    """

    path: Path
    digest: str
    files: int
    size: int
    head: str
    signed: bool


def back_up(home: Home, target: Path, *, link: bool = False, keys_to: Path | None = None) -> Made:
    """
    Make a backup in the new folder `target`. link: blobs in a folder on the same disk are linked
    instead of copied. keys_to: a new folder elsewhere for the private keys.

    Raises Conflict where `target` exists or would hold the keys, HistoryAltered where the audit log
    does not verify, Unreachable where the disk or the database does not answer.
    """
    if target.exists():
        raise Conflict(f"{target} exists", hint="name a new folder")
    if keys_to is not None:
        _require_apart(target, keys_to)
    half = target.with_name(f"{target.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700, parents=True)
    try:
        made = _fill(home, half, target, link=link)
        if keys_to is not None:
            _copy_keys(home, keys_to)
        os.replace(half, target)
    except OSError as fault:
        raise Unreachable(
            f"the backup cannot be written ({type(fault).__name__} {fault.errno})",
            hint="look at the disk's space, then start again",
        ) from None
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return made


def urls_of(home: Home) -> Urls:
    """Return where the databases of a broker are."""
    return Urls(home.database_url(), home.workflow_url())


def _fill(home: Home, half: Path, target: Path, *, link: bool) -> Made:
    blobs, urls = Blobs.at(home), urls_of(home)
    for name in (CONFIG, PUBLIC):
        shutil.copyfile(home.path / name, half / name)
    for _ in range(_ATTEMPTS):
        # Most of them now, so that few can go between the databases' copy and theirs.
        for blob_id in blobs.all_older_than(0.0):
            _keep(blobs, blob_id, half, link=link)
        with written(urls, half / DATABASE) as connection:
            named = blob_rows.named(connection)
            told = audit_heads.verify(connection, home.public())
            revision = revision_of(connection)
        if all(_keep(blobs, blob_id, half, link=link) for blob_id in sorted(named)):
            break
        shutil.rmtree(half / DATABASE)
    else:
        raise Conflict(
            "blobs go faster than they can be copied", hint="try again when no run ends just now"
        )
    for path in (half / BLOBS).glob("*/*"):
        if path.name not in named:
            path.unlink()
    head = f"{told.entries}:{told.hash}"
    files = {str(path.relative_to(half)): _described(path) for path in sorted(_files(half))}
    now = int(time.time())
    manifest = {
        "version": VERSION,
        "made_at": now,
        "software": SOFTWARE,
        "broker": home.public().fingerprint,
        "database": urls.kind,
        "revision": revision,
        "audit_head": head,
        "files": files,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    _write_synced(half / MANIFEST, text)
    if signer := signer_of(home):
        _write_synced(half / SIGNATURE, signed(text, now, signer))
    size = sum(one["size"] for one in files.values())
    digest = hashlib.sha256(text).hexdigest()
    return Made(target, digest, len(files), size, head, signer is not None)


def _keep(blobs: Blobs, blob_id: str, half: Path, *, link: bool) -> bool:
    """Copy a blob unless it is there; say whether it is now. One that has gone is none."""
    final = half / BLOBS / blob_id[:2] / blob_id
    if final.exists():
        return True
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = getattr(blobs.store, "path", None)
    try:
        if link and own is not None:
            os.link(own(blob_id), final)
            return True
        with final.with_suffix(".half").open("wb") as file:
            for piece in blobs.store.chunks(blob_id):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(final.with_suffix(".half"), final)
    except (NotFound, FileNotFoundError):
        final.with_suffix(".half").unlink(missing_ok=True)
        return False
    return True


def _require_apart(target: Path, keys_to: Path) -> None:
    here, there = target.resolve(), keys_to.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise Conflict(
            "the keys must not lie with the backup", hint="name a place on another medium"
        )
    if keys_to.exists():
        raise Conflict(f"{keys_to} exists", hint="name a new folder for the keys")


def _copy_keys(home: Home, keys_to: Path) -> None:
    keys_to.mkdir(mode=0o700, parents=True)
    for path in (home.identity_file, home.accounts_key_file):
        if path.exists():
            copied = keys_to / path.name
            copied.touch(mode=0o600)
            _write_synced(copied, path.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _described(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": digest_of(path)}


def digest_of(path: Path) -> str:
    """Return a file's SHA-256, hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            found.update(piece)
    return found.hexdigest()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
