"""Rows of who may call: admins, used assertions, access tokens."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from broker.store.tables import access_token, admin, assertion, suspension


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRow:
    """An admin. public_identity: JSON of a PublicIdentity."""

    name: str
    public_identity: str
    added_at: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """An access token by its SHA-256. study_id: None for an admin."""

    study_id: str | None
    name: str
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspensionRow:
    """A party or contributor that gets no tokens."""

    study_id: str
    name: str
    since: int
    reason: str


def add_admin(connection: Connection, name: str, public_identity: str, now: int) -> None:
    """Add an admin, or replace the keys of a revoked one."""
    connection.execute(delete(admin).where(admin.c.name == name))
    connection.execute(
        admin.insert().values(name=name, public_identity=public_identity, added_at=now)
    )


def revoke_admin(connection: Connection, name: str, now: int) -> None:
    """Revoke an admin and every access token it holds."""
    connection.execute(update(admin).where(admin.c.name == name).values(revoked_at=now))
    mine = (access_token.c.study_id.is_(None)) & (access_token.c.name == name)
    connection.execute(delete(access_token).where(mine))


def find_admin(connection: Connection, name: str) -> AdminRow | None:
    """Return an admin, revoked or not."""
    found = connection.execute(select(admin).where(admin.c.name == name)).mappings().first()
    return AdminRow(**found) if found else None


def all_admins(connection: Connection) -> list[AdminRow]:
    """Return every admin by name, revoked ones too."""
    found = connection.execute(select(admin).order_by(admin.c.name)).mappings()
    return [AdminRow(**row) for row in found]


def assertion_used(connection: Connection, digest: str) -> bool:
    """Has this assertion been used already?"""
    found = connection.execute(select(assertion.c.digest).where(assertion.c.digest == digest))
    return found.first() is not None


def use_assertion(connection: Connection, digest: str, expires_at: int) -> None:
    """Remember an assertion until it expires."""
    connection.execute(assertion.insert().values(digest=digest, expires_at=expires_at))


def add_token(connection: Connection, digest: str, token: TokenRow) -> None:
    """Store an access token's digest."""
    connection.execute(
        access_token.insert().values(
            digest=digest, study_id=token.study_id, name=token.name, expires_at=token.expires_at
        )
    )


def find_token(connection: Connection, digest: str) -> TokenRow | None:
    """Return an access token, expired or not."""
    t = access_token.c
    found = connection.execute(
        select(t.study_id, t.name, t.expires_at).where(t.digest == digest)
    ).mappings()
    return next((TokenRow(**row) for row in found), None)


def valid_tokens(connection: Connection, study_id: str | None, name: str, now: int) -> int:
    """Return how many access tokens of a caller are valid. study_id: None for an admin."""
    t = access_token.c
    mine = (t.name == name) & (t.expires_at > now)
    mine &= t.study_id.is_(None) if study_id is None else t.study_id == study_id
    return int(connection.execute(select(func.count()).where(mine)).scalar_one())


def end_tokens(connection: Connection, study_id: str, name: str) -> int:
    """Drop every access token of a party or contributor; return how many."""
    t = access_token.c
    mine = (t.study_id == study_id) & (t.name == name)
    found = len(connection.execute(select(t.digest).where(mine)).all())
    connection.execute(delete(access_token).where(mine))
    return found


def suspend(connection: Connection, row: SuspensionRow) -> None:
    """Add a suspension."""
    connection.execute(
        suspension.insert().values(
            study_id=row.study_id, name=row.name, since=row.since, reason=row.reason
        )
    )


def restore(connection: Connection, study_id: str, name: str) -> None:
    """Drop a suspension."""
    s = suspension.c
    connection.execute(delete(suspension).where((s.study_id == study_id) & (s.name == name)))


def find_suspension(connection: Connection, study_id: str, name: str) -> SuspensionRow | None:
    """Return the suspension of a party or contributor."""
    s = suspension.c
    asked = select(suspension).where((s.study_id == study_id) & (s.name == name))
    found = connection.execute(asked).mappings().first()
    return SuspensionRow(**found) if found else None


def suspended(connection: Connection, study_id: str) -> frozenset[str]:
    """Return the names of the study's suspended parties and contributors."""
    asked = select(suspension.c.name).where(suspension.c.study_id == study_id)
    return frozenset(connection.execute(asked).scalars())


def suspensions(connection: Connection) -> list[SuspensionRow]:
    """Return every suspension, by study and name."""
    asked = select(suspension).order_by(suspension.c.study_id, suspension.c.name)
    return [SuspensionRow(**row) for row in connection.execute(asked).mappings()]


def forget_study(connection: Connection, study_id: str) -> None:
    """Drop every access token of a study: its callers sign in again, with the keys pinned now."""
    connection.execute(delete(access_token).where(access_token.c.study_id == study_id))


def forget_expired(connection: Connection, *, assertions: int, tokens: int) -> None:
    """Drop assertions and tokens that expired before the given times."""
    connection.execute(delete(assertion).where(assertion.c.expires_at < assertions))
    connection.execute(delete(access_token).where(access_token.c.expires_at < tokens))
