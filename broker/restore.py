"""
Restoring a backup into a new home: every digest first, then databases, blobs and audit log.

1. the manifest is signed by the broker that the backup is of, which has the fingerprint that was
   given, where one was, and has the digest that was given, likewise;
2. every file is there with its size and digest, and there is no other;
3. the new home is no home yet, its database is empty, and its bucket holds nothing else;
4. databases and blobs are put back, and the tables brought to this version;
5. every blob that a table names is there, and the audit log verifies up to the backup's head;
6. nobody stays signed in, and the restoration is written into the log.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker import audit, audit_heads
from broker.backup import BLOBS, DATABASE, MANIFEST, PUBLIC, VERSION, digest_of, urls_of
from broker.backup_signature import SIGNATURE, is_signed, require_signed
from broker.blobs import Blobs
from broker.config import CONFIG, Home, load_home
from broker.durable import migrate_workflows
from broker.store import backup as databases
from broker.store import blobs as blob_rows
from broker.store.engine import Database
from linkage.errors import Conflict, HistoryAltered, KeyRefused, PackageRefused
from linkage.sealing import Identity, PublicIdentity, write_secret


@dataclass(frozen=True, slots=True)
class Restored:
    """
    What came back. head: of the audit log in the backup. can_open: the private key is there.
    signed_by: fingerprint of the broker that signed the backup, "" where it is not signed.
    """

    home: Home
    head: str
    blobs: int
    can_open: bool
    signed_by: str = ""


def restore(
    source: Path,
    target: Path,
    *,
    digest: str | None = None,
    keys: Path | None = None,
    fingerprint: str | None = None,
    unsigned: bool = False,
) -> Restored:
    """
    Make the home `target` from a backup. digest: of its manifest, kept elsewhere. keys: the folder
    that `back_up` wrote the private keys to. fingerprint: of the broker. unsigned: take a backup
    without a signature, also where no digest vouches for it.

    Raises PackageRefused for a backup that is damaged, incomplete or not signed, Conflict for a
    home or database that is not empty, KeyRefused for another broker's key, HistoryAltered where
    the audit log does not verify.
    """
    manifest = _checked(source, digest)
    signer = _signer(source, fingerprint, vouched=unsigned or digest is not None)
    if target.exists() and any(target.iterdir()):
        raise Conflict(f"{target} is not empty", hint="name a new folder")
    identity = _identity(source, keys)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source / PUBLIC, target / PUBLIC)
    write_secret(target / CONFIG, (source / CONFIG).read_bytes())
    home = load_home(target)
    home.identity_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    databases.require_empty(urls_of(home))
    if keys is not None and identity is not None:
        identity.save(home.identity_file)
        if (keys / home.accounts_key_file.name).exists():
            write_secret(home.accounts_key_file, (keys / home.accounts_key_file.name).read_bytes())
    placed = _place_blobs(home, source)
    _put_back(home, source / DATABASE, manifest)
    _bring_up(home, manifest, placed)
    head, can_open = manifest["audit_head"], identity is not None
    return Restored(home, head, len(placed), can_open, signer)


def _put_back(home: Home, folder: Path, manifest: dict[str, Any]) -> None:
    """Step 4: the databases, at the version that the backup has."""
    urls = urls_of(home)
    if manifest["database"] != urls.kind:
        raise PackageRefused(
            f"the backup is of {manifest['database']}, and the configuration names another"
            " database system",
            hint="LINKAGE_BROKER_DATABASE_URL_FILE may name one of the same kind;"
            " `linkage-broker move` changes the kind afterwards",
        )
    if urls.kind == databases.SQLITE:
        databases.put_files(urls, folder)
        return
    database = Database(urls.broker)
    database.migrate(manifest["revision"])
    database.close()
    migrate_workflows(home)
    databases.put_rows(urls, folder)


def _checked(source: Path, digest: str | None) -> dict[str, Any]:
    """Steps 1 and 2."""
    try:
        text = (source / MANIFEST).read_bytes()
        manifest: dict[str, Any] = json.loads(text)
        files: dict[str, dict[str, Any]] = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _damaged(source, "has no readable manifest") from None
    if digest is not None and hashlib.sha256(text).hexdigest() != digest.lower():
        raise _damaged(source, "is not the one whose digest you gave")
    if manifest.get("version") != VERSION:
        raise _damaged(source, "is of another version of the software")
    there = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    if missing := sorted(set(files) - there):
        raise _damaged(source, f"lacks {len(missing)} files, first: {missing[0]}")
    if strange := sorted(there - set(files) - {MANIFEST, SIGNATURE}):
        raise _damaged(source, f"holds {len(strange)} files too many, first: {strange[0]}")
    for name, told in files.items():
        if digest_of(source / name) != told["sha256"]:
            raise _damaged(source, f"was altered: {name}")
    return manifest


def _signer(source: Path, fingerprint: str | None, *, vouched: bool) -> str:
    """Step 1: return the fingerprint of who signed, "" where nobody did and that is taken."""
    if fingerprint is None and vouched and not is_signed(source):
        return ""
    if not is_signed(source):
        raise PackageRefused(
            f"the backup {source} is not signed",
            hint="give the --digest that was kept of it; or --unsigned, for one that was made by an"
            " earlier version, or where the broker's key was not",
        )
    public = PublicIdentity.model_validate_json((source / PUBLIC).read_bytes())
    manifest = (source / MANIFEST).read_bytes()
    require_signed(source, manifest, public, fingerprint=fingerprint)
    return public.fingerprint


def _identity(source: Path, keys: Path | None) -> Identity | None:
    if keys is None:
        return None
    found = Identity.load(keys / "identity.key")
    if found.public().model_dump_json() != _public(source):
        raise KeyRefused(
            "the key is another broker's than the backup's",
            hint="give the folder of keys that was made with this broker",
        )
    return found


def _public(source: Path) -> str:
    return PublicIdentity.model_validate_json((source / PUBLIC).read_bytes()).model_dump_json()


def _place_blobs(home: Home, source: Path) -> set[str]:
    blobs, placed = Blobs.at(home), set[str]()
    kept = {path.name for path in (source / BLOBS).glob("*/*")}
    # A worker sweeps what its database does not name: in another broker's bucket that is all of it.
    if any(name not in kept for name, _ in blobs.store.ages()):
        raise Conflict(
            "the bucket holds packages that the backup does not",
            hint="name an empty one, or another prefix, with LINKAGE_BROKER_BLOBS_URL",
        )
    spool = home.blobs / "incoming"
    for path in (source / BLOBS).glob("*/*"):
        copied = spool / path.name
        shutil.copyfile(path, copied)
        with copied.open("rb") as file:
            os.fsync(file.fileno())
        blobs.store.place(copied, path.name)
        copied.unlink(missing_ok=True)
        placed.add(path.name)
    return placed


def _bring_up(home: Home, manifest: dict[str, Any], placed: set[str]) -> None:
    """Steps 4 to 6."""
    database = Database(home.database_url())
    try:
        database.migrate()
        migrate_workflows(home)
        with database.read() as connection:
            if missing := blob_rows.named(connection) - placed:
                raise PackageRefused(
                    f"{len(missing)} packages that the database names are not in the backup",
                    hint="restore another backup",
                )
            told = audit_heads.verify(connection, home.public())
        if f"{told.entries}:{told.hash}" != manifest["audit_head"]:
            raise HistoryAltered(
                "the restored audit log does not end where the backup says",
                hint="restore another backup, and tell the auditor",
            )
        with database.change() as connection:
            # Who lost the right to come in after the backup must not be in by an old token.
            databases.sign_out_everybody(connection)
            audit.record(
                connection,
                actor="console",
                action="restored from backup",
                detail={
                    "backup made at": manifest["made_at"],
                    "entries": told.entries,
                    "hash": told.hash,
                    "heads": told.heads,
                },
            )
    finally:
        database.close()


def _damaged(source: Path, rule: str) -> PackageRefused:
    return PackageRefused(f"the backup {source} {rule}", hint="restore another backup")
