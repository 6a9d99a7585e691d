"""Admins of this broker: added and revoked on its own machine, never over HTTP."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from pydantic import ValidationError

from broker import audit
from broker.store import access
from broker.store.engine import Database
from linkage.errors import Conflict, KeyRefused, NotFound
from linkage.sealing import PublicIdentity

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Admins:
    """Who may administer this broker."""

    database: Database

    def add(self, name: str, public_identity: bytes) -> PublicIdentity:
        """
        Register an admin's public identity (JSON). The same again is one; a revoked name may
        get new keys. Raises KeyRefused for a bad name or file, Conflict for a name in use.
        """
        if not _NAME.fullmatch(name):
            raise KeyRefused(
                "this cannot be an admin's name",
                hint="2 to 64 small letters, digits and hyphens, a letter first",
            )
        try:
            identity = PublicIdentity.model_validate_json(public_identity)
        except ValidationError:
            raise KeyRefused(
                "the file is no public identity", hint="give the admin's public JSON file"
            ) from None
        text = identity.model_dump_json()
        with self.database.change() as connection:
            found = access.find_admin(connection, name)
            if found and found.revoked_at is None:
                if found.public_identity == text:
                    return identity
                raise Conflict(
                    f"admin {name!r} exists with other keys", hint="revoke it first, then add it"
                )
            access.add_admin(connection, name, text, int(time.time()))
            audit.record(
                connection,
                actor="console",
                action="admin added",
                subject=name,
                detail={"fingerprint": identity.fingerprint},
            )
        return identity

    def revoke(self, name: str) -> None:
        """End an admin's access at once, tokens included. Raises NotFound."""
        with self.database.change() as connection:
            found = access.find_admin(connection, name)
            if found is None or found.revoked_at is not None:
                raise NotFound(f"there is no active admin {name!r}", hint="see `admin list`")
            access.revoke_admin(connection, name, int(time.time()))
            audit.record(connection, actor="console", action="admin revoked", subject=name)

    def all(self) -> list[access.AdminRow]:
        """Return every admin, revoked ones too."""
        with self.database.read() as connection:
            return access.all_admins(connection)
