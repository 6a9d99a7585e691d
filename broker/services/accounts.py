"""
Accounts of people: an admin invites, the invited person sets password and second factor. An
invitation is good once and for some days; only its digest is stored.

Accounts of admins are made and changed at the broker's console alone: who took over one admin's
browser can neither make another admin nor put out those that are there.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pyotp

from broker import audit, passwords
from broker.account_config import AccountSettings
from broker.account_key import AccountKey
from broker.passwords import Hashes
from broker.person_roles import PersonRole, parse_role, require_compatible
from broker.registered import RegisteredStudy
from broker.store import accounts, studies
from broker.store.accounts import AccountRow, InvitationRow
from broker.store.engine import Connection, Database
from linkage.account_messages import AccountReady, AccountState, Enrolment, InvitationAccepted
from linkage.errors import Conflict, KeyRefused, NotAllowed, NotAuthenticated, NotFound

ISSUER = "Commons Linkage broker"
"""What an authenticator shows beside the account's name."""
CONSOLE = "console"
"""In the audit log: whoever can log in on the broker's machine."""
TOTP_SECONDS = 30
RECOVERY_CODES = 10
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]")
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
"""Of recovery codes: none that is taken for another. Twelve of them are 59 bits."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An account as `account list` shows it. claimed: what the identity provider says it is."""

    name: str
    state: str
    given: tuple[str, ...]
    claimed: tuple[str, ...]
    second_factor: bool
    provider: str

    @property
    def roles(self) -> tuple[str, ...]:
        """What the person is, whoever says so."""
        return tuple(sorted({*self.given, *self.claimed}))

    @property
    def shown(self) -> AccountState:
        """The account as the API tells it."""
        return AccountState(
            name=self.name,
            state=self.state,
            roles=self.given,
            claimed_roles=self.claimed,
            second_factor=self.second_factor,
            provider=self.provider,
        )


@dataclass(frozen=True, slots=True)
class Accounts:
    """
    Who may sign in as a person, and as what. now: Unix seconds, a parameter for tests.

    by: who asks for a change. Everybody but the console is refused (NotAllowed) where it concerns
    an admin.
    """

    database: Database
    key: AccountKey
    settings: AccountSettings
    hashes: Hashes
    codes: Hashes = field(default_factory=Hashes.of_codes)
    now: Callable[[], float] = time.time

    def invite(
        self,
        name: str,
        roles: Sequence[PersonRole],
        *,
        hours: int | None = None,
        by: str = CONSOLE,
    ) -> tuple[str, int]:
        """
        Make an account and a code that opens it once; return the code and when it expires.

        Raises KeyRefused for a bad name or roles that do not go together, Conflict where there is
        such an account: `reset` invites its person again.
        """
        if not NAME.fullmatch(name):
            raise KeyRefused(
                "this cannot be an account's name",
                hint="2 to 64 small letters, digits and hyphens, a letter first",
            )
        given = _texts(roles)
        with self.database.change() as connection:
            _require_known(connection, roles)
            _require_no_admin(given, by)
            _require_new(connection, name)
            accounts.add(connection, AccountRow(name=name, added_at=int(self.now())))
            accounts.set_roles(connection, name, given, by_claim=False)
            invited = self._invited(connection, name, hours)
            _record(connection, "account invited", name, by, roles=", ".join(given))
        return invited

    def require_new(self, name: str) -> None:
        """Raises Conflict where there is an account of this name: before a proof is used up."""
        with self.database.read() as connection:
            _require_new(connection, name)

    def reset(self, name: str, *, hours: int | None = None, by: str = CONSOLE) -> tuple[str, int]:
        """
        Take password, second factor and sessions from an account, and invite its person again.

        Raises NotFound; Conflict for one of an identity provider, which keeps these things.
        """
        with self.database.change() as connection:
            row = _within_reach(connection, name, by)
            if row.issuer is not None:
                raise Conflict(
                    f"{name!r} signs in at an identity provider",
                    hint="a lost password or second factor is reset there",
                )
            accounts.change(connection, name, password=None, totp=None)
            accounts.set_recovery_codes(connection, name, ())
            accounts.end_sessions(connection, name)
            self.forgive(connection, name)
            invited = self._invited(connection, name, hours)
            _record(connection, "account reset", name, by)
        return invited

    def set_roles(self, name: str, roles: Sequence[PersonRole], *, by: str = CONSOLE) -> None:
        """Replace the roles that an admin gave; at once. Raises NotFound, KeyRefused."""
        given = _texts(roles)
        with self.database.change() as connection:
            _within_reach(connection, name, by)
            _require_no_admin(given, by)
            _require_known(connection, roles)
            accounts.set_roles(connection, name, given, by_claim=False)
            _record(connection, "account roles changed", name, by, roles=", ".join(given))

    def disable(self, name: str, *, by: str = CONSOLE) -> None:
        """End an account's sessions and let it sign in no more. Twice is once."""
        with self.database.change() as connection:
            row = _within_reach(connection, name, by)
            accounts.end_sessions(connection, name)
            if row.disabled_at is None:
                accounts.change(connection, name, disabled_at=int(self.now()))
                _record(connection, "account disabled", name, by)

    def enable(self, name: str, *, by: str = CONSOLE) -> None:
        """Let an account sign in again, also after too many failures. Twice is once."""
        with self.database.change() as connection:
            _within_reach(connection, name, by)
            accounts.change(connection, name, disabled_at=None)
            self.forgive(connection, name)
            _record(connection, "account enabled", name, by)

    def all(self) -> list[Listed]:
        """Return every account by name."""
        with self.database.read() as connection:
            return [self._listed(connection, row) for row in accounts.everybody(connection)]

    def page(self, *, find: str, number: int, size: int) -> tuple[list[Listed], int]:
        """
        Return page `number`, from 1, of `size` of the accounts whose name has `find` in it, by
        name; and how many there are in all.
        """
        with self.database.read() as connection:
            # Names are in small letters, whatever is typed.
            asked = find.strip().lower()
            rows = [row for row in accounts.everybody(connection) if asked in row.name]
            wanted = rows[(number - 1) * size : number * size]
            return [self._listed(connection, row) for row in wanted], len(rows)

    def listed(self, name: str) -> Listed:
        """Return one account. Raises NotFound."""
        with self.database.read() as connection:
            return self._listed(connection, _existing(connection, name))

    def open_invitation(self, code: str, *, shown: str = "") -> Enrolment:
        """
        Return what an invitation is for, with a new TOTP secret, which is shown this once. shown:
        the secret that the caller has; while it is the invitation's, it stays. Raises
        NotAuthenticated for one that is unknown, used or expired.
        """
        with self.database.change() as connection:
            row = self._valid(connection, code)
            kept = self.key.decrypt(row.totp) if row.totp else ""
            totp = kept if _same(kept, shown) else pyotp.random_base32()
            if totp != kept:
                accounts.show_totp(connection, row.digest, self.key.encrypt(totp))
        shown = pyotp.TOTP(totp).provisioning_uri(name=row.account, issuer_name=ISSUER)
        return Enrolment(
            name=row.account,
            totp_secret=shown,
            expires_at=row.expires_at,
            least=passwords.LEAST_WITH_TOTP,
            least_alone=0 if self.settings.require_totp else passwords.LEAST_ALONE,
        )

    def accept_invitation(self, accepted: InvitationAccepted) -> AccountReady:
        """
        Set password and second factor; return the recovery codes, which are shown this once.

        Raises NotAuthenticated as above or for a wrong code of the authenticator, KeyRefused for a
        password that is refused or where TOTP is missing and required. The invitation then stays.
        """
        with self.database.read() as connection:
            row = self._valid(connection, accepted.invitation_secret)
        with_totp = bool(accepted.code) or self.settings.require_totp
        passwords.require_sound(accepted.password, name=row.account, with_totp=with_totp)
        step = self._first_step(row, accepted.code) if with_totp else 0
        # Made before anybody has to wait for the database: hashing takes its time.
        hashed = self.hashes.make(accepted.password)
        codes = tuple(_recovery_code(number) for number in range(1, RECOVERY_CODES + 1))
        hashed_codes = [self.codes.make(code) for code in codes] if with_totp else []
        with self.database.change() as connection:
            again = self._valid(connection, accepted.invitation_secret)
            if again.totp != row.totp:
                raise NotAuthenticated(
                    "the invitation was opened again meanwhile", hint="open it once, then accept it"
                )
            kept = row.totp if with_totp else None
            accounts.change(connection, row.account, password=hashed, totp=kept, totp_step=step)
            accounts.set_recovery_codes(connection, row.account, hashed_codes)
            accounts.forget_invitations(connection, row.account)
            accounts.end_sessions(connection, row.account)
            actor, factor = f"person/{row.account}", "totp" if with_totp else "none"
            _record(connection, "invitation accepted", row.account, actor, second_factor=factor)
        return AccountReady(name=row.account, recovery_codes=codes if with_totp else ())

    def require_sound(self, name: str, password: str) -> None:
        """Raises KeyRefused for a password that this account may not have."""
        with self.database.read() as connection:
            row = _existing(connection, name)
        passwords.require_sound(password, name=name, with_totp=row.totp is not None)

    def renew(self, name: str, password: str) -> AccountReady:
        """
        Change the password of somebody who just proved to be this person; return new recovery
        codes. Every session ends. Raises KeyRefused as above.
        """
        self.require_sound(name, password)
        hashed = self.hashes.make(password)
        codes = tuple(_recovery_code(number) for number in range(1, RECOVERY_CODES + 1))
        hashed_codes = [self.codes.make(code) for code in codes]
        with self.database.change() as connection:
            with_totp = _existing(connection, name).totp is not None
            accounts.change(connection, name, password=hashed)
            accounts.set_recovery_codes(connection, name, hashed_codes if with_totp else ())
            accounts.end_sessions(connection, name)
            _record(connection, "password changed", name, f"person/{name}")
        return AccountReady(name=name, recovery_codes=codes if with_totp else ())

    def forgive(self, connection: Connection, name: str) -> None:
        """Forget how often signing in to an account failed."""
        accounts.set_failures(connection, self.key.tag("name", name), 0, 0)

    def _invited(self, connection: Connection, name: str, hours: int | None) -> tuple[str, int]:
        code = secrets.token_urlsafe(24)
        until = int(self.now()) + 3600 * (hours or self.settings.invitation_hours)
        row = InvitationRow(digest=_digest(code), account=name, expires_at=until)
        accounts.invite(connection, row)
        return code, until

    def _valid(self, connection: Connection, code: str) -> InvitationRow:
        row = accounts.find_invitation(connection, _digest(code.strip()))
        found = accounts.find(connection, row.account) if row else None
        if row is None or found is None or found.disabled_at is not None:
            raise NotAuthenticated(
                "this invitation is unknown, or was used or replaced",
                hint="ask the broker's admin for a new one: `linkage-broker account reset`",
            )
        if row.expires_at <= self.now():
            raise NotAuthenticated(
                "this invitation has expired",
                hint="ask the broker's admin for a new one: `linkage-broker account reset`",
            )
        return row

    def _first_step(self, row: InvitationRow, code: str) -> int:
        if row.totp is None:
            raise NotAuthenticated(
                "the invitation was not opened yet", hint="open it, and set up your authenticator"
            )
        step = totp_step(self.key.decrypt(row.totp), code, self.now(), after=0)
        if step is None:
            raise NotAuthenticated(
                "the authenticator's code is wrong",
                hint="type the six digits that it shows now; set the clock of its device",
            )
        return step

    def _listed(self, connection: Connection, row: AccountRow) -> Listed:
        until = accounts.invited_until(connection, row.name)
        state = "active" if row.password or row.issuer else "no password"
        if until is not None:
            state = "invited" if until > self.now() else "invitation expired"
        failed, _ = accounts.failures(connection, self.key.tag("name", row.name))
        if failed >= MOST_FAILURES:
            state = "locked"
        return Listed(
            name=row.name,
            state=state if row.disabled_at is None else "disabled",
            given=tuple(sorted(accounts.roles(connection, row.name, by_claim=False))),
            claimed=tuple(sorted(accounts.roles(connection, row.name, by_claim=True))),
            second_factor=row.totp is not None,
            provider=f"{row.issuer} {row.subject}" if row.issuer else "",
        )


MOST_FAILURES = 100
"""In a row, under one name; then an admin has to enable it (SP 800-63B-4, section 3.2.2)."""


def totp_step(secret: str, code: str, now: float, *, after: int) -> int | None:
    """
    Return which step of TOTP (RFC 6238) this code is of: now, the one before or the one after, and
    later than step `after`, so that a code that was seen is worth nothing. None where it is wrong.
    """
    made, current = pyotp.TOTP(secret, interval=TOTP_SECONDS), int(now) // TOTP_SECONDS
    found = None
    for step in (current - 1, current, current + 1):
        # Compared in constant time, all three of them.
        same = pyotp.utils.strings_equal(made.generate_otp(step), code.strip().replace(" ", ""))
        if same and step > after:
            found = step
    return found


def effective_roles(connection: Connection, name: str) -> frozenset[PersonRole]:
    """Return what a person is at this broker."""
    return frozenset(parse_role(text) for text in accounts.roles(connection, name))


def _texts(roles: Iterable[PersonRole]) -> list[str]:
    return sorted(str(role) for role in require_compatible(roles))


def _require_known(connection: Connection, roles: Iterable[PersonRole]) -> None:
    """Raises NotFound for a role in a study, or of a party, that is not here: a slip."""
    for role in roles:
        row = studies.find_study(connection, role.study_id) if role.study_id else None
        if role.study_id and row is None:
            raise NotFound(
                f"there is no study {role.study_id!r} here", hint="see `linkage-broker study list`"
            )
        config = RegisteredStudy.of(row).config if row else None
        parties = {party.id for party in config.party} if config else set()
        known = {*config.actors} if config and role.kind == "operator" else parties
        if role.party and role.party not in known:
            raise NotFound(
                f"the study {role.study_id!r} has no {role.party!r} with a {role.kind}",
                hint=f"it has: {', '.join(sorted(known))}",
            )


def _require_new(connection: Connection, name: str) -> None:
    if accounts.find(connection, name) is not None:
        raise Conflict(
            f"there is an account {name!r} already",
            hint="`account reset` invites its person again, `account roles` changes roles",
        )


def _existing(connection: Connection, name: str) -> AccountRow:
    row = accounts.find(connection, name)
    if row is None:
        raise NotFound(f"there is no account {name!r}", hint="see `linkage-broker account list`")
    return row


def _within_reach(connection: Connection, name: str, by: str) -> AccountRow:
    """Return the account. Raises NotFound; NotAllowed for an admin's, unless at the console."""
    row = _existing(connection, name)
    _require_no_admin(accounts.roles(connection, name), by)
    return row


def _require_no_admin(roles: Iterable[str], by: str) -> None:
    if by != CONSOLE and "admin" in roles:
        raise NotAllowed(
            "accounts of admins are made and changed on the broker's own machine only",
            hint="there: `linkage-broker account invite, roles, reset, disable or enable`",
        )


def _record(connection: Connection, action: str, name: str, actor: str, **detail: str) -> None:
    audit.record(connection, actor=actor, action=action, subject=name, detail=detail)


def _same(kept: str, shown: str) -> bool:
    return bool(kept) and secrets.compare_digest(kept.encode(), shown.encode())


def _recovery_code(number: int) -> str:
    drawn = "".join(secrets.choice(_LETTERS) for _ in range(12))
    return f"{number}-{drawn[:4]}-{drawn[4:8]}-{drawn[8:]}"


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
