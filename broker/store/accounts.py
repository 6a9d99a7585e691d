"""Rows of people who sign in: accounts, roles, recovery codes, invitations, sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from broker.store.tables import (
    account,
    account_role,
    failed_sign_in,
    invitation,
    recovery_code,
    session,
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AccountRow:
    """
    An account. issuer, subject: of OpenID Connect; None for a local one. password: argon2id; None
    until the invitation is accepted. totp: encrypted secret. totp_step: newest one used.
    """

    name: str
    issuer: str | None = None
    subject: str | None = None
    password: str | None = None
    totp: str | None = None
    totp_step: int = 0
    added_at: int
    disabled_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InvitationRow:
    """An invitation by the SHA-256 of its code. totp: the encrypted secret that it showed last."""

    digest: str
    account: str
    expires_at: int
    totp: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session by the SHA-256 of its cookie. seen_at: at most a minute too old."""

    digest: str
    account: str
    seen_at: int
    expires_at: int


def add(connection: Connection, row: AccountRow) -> None:
    """Add an account."""
    connection.execute(
        account.insert().values(
            name=row.name,
            issuer=row.issuer,
            subject=row.subject,
            totp_step=row.totp_step,
            added_at=row.added_at,
        )
    )


def change(connection: Connection, name: str, **columns: str | int | None) -> None:
    """Change columns of an account."""
    connection.execute(update(account).where(account.c.name == name).values(**columns))


def find(connection: Connection, name: str) -> AccountRow | None:
    """Return an account, disabled or not."""
    found = connection.execute(select(account).where(account.c.name == name)).mappings().first()
    return AccountRow(**found) if found else None


def find_subject(connection: Connection, issuer: str, subject: str) -> AccountRow | None:
    """Return the account that an identity provider's subject has here."""
    named = (account.c.issuer == issuer) & (account.c.subject == subject)
    found = connection.execute(select(account).where(named)).mappings().first()
    return AccountRow(**found) if found else None


def everybody(connection: Connection) -> list[AccountRow]:
    """Return every account by name, disabled ones too."""
    found = connection.execute(select(account).order_by(account.c.name)).mappings()
    return [AccountRow(**row) for row in found]


def roles(connection: Connection, name: str, *, by_claim: bool | None = None) -> set[str]:
    """
    Return an account's roles: those that an admin gave, those that the identity provider's claims
    give, or, without by_claim, both.
    """
    mine = account_role.c.account == name
    if by_claim is not None:
        mine &= account_role.c.by_claim == int(by_claim)
    return set(connection.execute(select(account_role.c.role).where(mine)).scalars())


def set_roles(connection: Connection, name: str, given: Iterable[str], *, by_claim: bool) -> None:
    """Replace the roles that an admin gave, or those that the identity provider's claims give."""
    mine = (account_role.c.account == name) & (account_role.c.by_claim == int(by_claim))
    connection.execute(delete(account_role).where(mine))
    for role in sorted(given):
        connection.execute(
            account_role.insert().values(account=name, role=role, by_claim=int(by_claim))
        )


def set_recovery_codes(connection: Connection, name: str, hashes: Iterable[str]) -> None:
    """Replace an account's recovery codes, numbered from 1."""
    connection.execute(delete(recovery_code).where(recovery_code.c.account == name))
    for number, one in enumerate(hashes, start=1):
        connection.execute(recovery_code.insert().values(account=name, number=number, hash=one))


def find_recovery_code(connection: Connection, name: str, number: int) -> str | None:
    """Return the hash of an unused recovery code."""
    c = recovery_code.c
    mine = (c.account == name) & (c.number == number)
    found: str | None = connection.execute(select(c.hash).where(mine)).scalar()
    return found


def use_recovery_code(connection: Connection, name: str, number: int) -> int:
    """Drop a recovery code; return how many are left."""
    c = recovery_code.c
    connection.execute(delete(recovery_code).where((c.account == name) & (c.number == number)))
    return len(connection.execute(select(c.number).where(c.account == name)).all())


def invite(connection: Connection, row: InvitationRow) -> None:
    """Add an invitation in place of every earlier one of the account."""
    forget_invitations(connection, row.account)
    connection.execute(
        invitation.insert().values(
            digest=row.digest, account=row.account, expires_at=row.expires_at
        )
    )


def find_invitation(connection: Connection, digest: str) -> InvitationRow | None:
    """Return an invitation, expired or not."""
    mine = select(invitation).where(invitation.c.digest == digest)
    found = connection.execute(mine).mappings().first()
    return InvitationRow(**found) if found else None


def invited_until(connection: Connection, name: str) -> int | None:
    """Return when the open invitation of an account expires, if it has one."""
    mine = invitation.c.account == name
    found: int | None = connection.execute(select(invitation.c.expires_at).where(mine)).scalar()
    return found


def show_totp(connection: Connection, digest: str, totp: str) -> None:
    """Keep the secret that an invitation showed last."""
    mine = invitation.c.digest == digest
    connection.execute(update(invitation).where(mine).values(totp=totp))


def forget_invitations(connection: Connection, name: str) -> None:
    """Drop every invitation of an account."""
    connection.execute(delete(invitation).where(invitation.c.account == name))


def begin_session(connection: Connection, row: SessionRow) -> None:
    """Add a session."""
    connection.execute(
        session.insert().values(
            digest=row.digest, account=row.account, seen_at=row.seen_at, expires_at=row.expires_at
        )
    )


def find_session(connection: Connection, digest: str) -> SessionRow | None:
    """Return a session, expired or not."""
    found = connection.execute(select(session).where(session.c.digest == digest)).mappings().first()
    return SessionRow(**found) if found else None


def see_session(connection: Connection, digest: str, now: int) -> None:
    """Note that a session is used."""
    connection.execute(update(session).where(session.c.digest == digest).values(seen_at=now))


def end_session(connection: Connection, digest: str) -> None:
    """Drop one session."""
    connection.execute(delete(session).where(session.c.digest == digest))


def end_sessions(connection: Connection, name: str) -> int:
    """Drop every session of an account; return how many."""
    mine = session.c.account == name
    found = len(connection.execute(select(session.c.digest).where(mine)).all())
    connection.execute(delete(session).where(mine))
    return found


def forget_sessions(connection: Connection, *, expired_before: int, idle_before: int) -> None:
    """Drop sessions that are over."""
    over = (session.c.expires_at < expired_before) | (session.c.seen_at < idle_before)
    connection.execute(delete(session).where(over))


def failures(connection: Connection, name_digest: str) -> tuple[int, int]:
    """Return how often signing in under a name failed in a row, and when last; 0, 0 for never."""
    c = failed_sign_in.c
    asked = select(c.failures, c.last_at).where(c.name_digest == name_digest)
    found = connection.execute(asked).first()
    return (int(found[0]), int(found[1])) if found else (0, 0)


def set_failures(connection: Connection, name_digest: str, count: int, now: int) -> None:
    """Keep how often signing in under a name failed in a row; 0 forgets it."""
    c = failed_sign_in.c
    connection.execute(delete(failed_sign_in).where(c.name_digest == name_digest))
    if count:
        connection.execute(
            failed_sign_in.insert().values(name_digest=name_digest, failures=count, last_at=now)
        )


def forget_failures(connection: Connection, *, before: int) -> None:
    """Drop what is so old: names that nobody has, too, were typed and failed."""
    connection.execute(delete(failed_sign_in).where(failed_sign_in.c.last_at < before))
