"""
People signing in with a password, and the sessions that come of it.

A session is a random cookie, of which only the SHA-256 is stored: HttpOnly, SameSite=Strict, and
with TLS Secure and bound to this host (`__Host-`). It ends when it was idle, when it is old, when
the person signs out, and when the account is disabled, reset or invited anew. Every request but GET
needs a CSRF token in a header besides, an HMAC of the session that other sites cannot read (OWASP
CSRF cheat sheet, "signed double-submit"), and an Origin that is this broker, where the browser says
one (broker.browsers).

Signing in answers alike, and after as much work, whether the name, the password or the code is
wrong. After FREE failures in a row under one name each further attempt has to wait, twice as long
each time; what is typed as a name that nobody has waits likewise. Remaining weakness: whoever knows
a name can make its person wait. The limit for each address (broker.rate) makes that slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, TypeVar

from broker import audit
from broker.account_config import AccountSettings
from broker.account_key import AccountKey
from broker.passwords import Hashes
from broker.person_roles import PersonRole, require_compatible
from broker.policy import PERSON, Caller
from broker.rate import Attempts
from broker.services.accounts import MOST_FAILURES, NAME, effective_roles, totp_step
from broker.store import accounts
from broker.store.accounts import AccountRow, SessionRow
from broker.store.engine import Connection, Database
from linkage.account_messages import PasswordSignIn, SessionState
from linkage.errors import KeyRefused, NotAuthenticated, TooManyRequests

T = TypeVar("T")
FREE = 5
"""Failures in a row under one name after which attempts have to wait."""
_LONGEST_WAIT = 3600
_FORGOTTEN_AFTER = 30 * 86_400
_SEEN_EVERY = 60
"""A session's last use is written at most so often, seconds: reading stays reading."""
_RECOVERY = re.compile(r"([0-9]{1,2})([2-9a-z]{4})([2-9a-z]{4})([2-9a-z]{4})")
_BETWEEN = re.compile(r"[\s\-\u2010-\u2015\u2212]+")
"""What people write for the hyphens of a code, or leave out: blanks, and dashes of any length."""
_NOBODY = AccountRow(name="", added_at=0)


@dataclass(frozen=True, slots=True)
class Begun:
    """A session that was just begun. cookie: the only copy of what the browser keeps."""

    cookie: str
    state: SessionState

    def __repr__(self) -> str:
        return f"Begun({self.state.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Begun refuses pickling")


@dataclass(frozen=True, slots=True)
class Found:
    """A session that is valid, looked up once for all of a request. roles: of its account."""

    row: SessionRow
    roles: frozenset[PersonRole]


@dataclass(frozen=True, slots=True)
class Sessions:
    """Signing in, and who a cookie is. now: Unix seconds, a parameter for tests."""

    database: Database
    key: AccountKey
    settings: AccountSettings
    hashes: Hashes
    attempts: Attempts
    codes: Hashes = field(default_factory=Hashes.of_codes)
    now: Callable[[], float] = time.time

    def sign_in(self, asked: PasswordSignIn, *, address: str, cookie: str | None = None) -> Begun:
        """
        Begin a session; the one of `cookie`, if any, ends. Raises NotAuthenticated, and
        TooManyRequests where the address or the name has to wait.
        """
        return self._proved(asked, address, partial(self.begin, replacing=cookie))

    def prove(self, asked: PasswordSignIn, *, address: str) -> None:
        """Check what signing in checks, and begin no session. Raises like `sign_in`."""

        def note(connection: Connection, name: str, how: str) -> None:
            _record(connection, "person proved who it is", name, by=how)

        self._proved(asked, address, note)

    def _proved(
        self, asked: PasswordSignIn, address: str, then: Callable[[Connection, str, str], T]
    ) -> T:
        """Check name, password and code; then do what is to be done, in that transaction."""
        self.attempts.require(address)
        tag, now = self.key.tag("name", asked.name), int(self.now())
        with self.database.read() as connection:
            _require_patience(*accounts.failures(connection, tag), now)
            # What cannot be a name is not asked for: PostgreSQL takes no NUL.
            known = NAME.fullmatch(asked.name) and accounts.find(connection, asked.name)
            row = known or _NOBODY
            numbered = _RECOVERY.fullmatch(_BETWEEN.sub("", asked.code).lower())
            recovery = self._recovery(connection, row, numbered)
        # Both are always checked, so that time tells neither name nor password.
        right = self.hashes.right(row.password, asked.password)
        if numbered:
            right = self.codes.right(recovery, "-".join(numbered.groups())) and right
        fresh = self._rehashed(row, asked.password) if right else None
        with self.database.change() as connection:
            failed, last = accounts.failures(connection, tag)
            _require_patience(failed, last, now)
            found = accounts.find(connection, row.name)
            how = self._factor(connection, row, found, asked.code, numbered) if right else ""
            if found is None or not how:
                self._failed(connection, found, tag, failed + 1, now)
            else:
                accounts.set_failures(connection, tag, 0, now)
                if fresh:
                    accounts.change(connection, found.name, password=fresh)
                return then(connection, found.name, how)
        self.attempts.failed(address)
        raise NotAuthenticated(
            "name, password or code is wrong",
            hint="a code of the authenticator is good once: wait for the next; ask the broker's"
            " admin if it stays so (`linkage-broker account list`)",
        )

    def begin(
        self, connection: Connection, name: str, how: str, *, replacing: str | None = None
    ) -> Begun:
        """Begin a session of an account that proved itself. Must be called inside `change`."""
        cookie, now = secrets.token_urlsafe(32), int(self.now())
        idle_before = now - self.settings.idle_seconds
        accounts.forget_sessions(connection, expired_before=now, idle_before=idle_before)
        accounts.forget_failures(connection, before=now - _FORGOTTEN_AFTER)
        if replacing:
            accounts.end_session(connection, _digest(replacing))
        row = SessionRow(
            digest=_digest(cookie),
            account=name,
            seen_at=now,
            expires_at=now + self.settings.session_seconds,
        )
        accounts.begin_session(connection, row)
        _record(connection, "person signed in", name, by=how)
        return Begun(cookie, self.told(Found(row, effective_roles(connection, name))))

    def caller(self, cookie: str, *, csrf: str | None, used: bool = True) -> Caller:
        """
        Return whose session this is. csrf: of a request that changes something, the header's
        token, "" where it has none; None for one that reads. used: False for what a page asks by
        itself, which keeps no session from ending idle. Raises NotAuthenticated.
        """
        return self.admit(self.find(cookie), csrf=csrf, used=used)

    def find(self, cookie: str) -> Found:
        """Look up the session of a cookie. Raises NotAuthenticated."""
        with self.database.read() as connection:
            row = self._row(connection, cookie)
            return Found(row, effective_roles(connection, row.account))

    def admit(self, found: Found, *, csrf: str | None, used: bool = True) -> Caller:
        """Return whose session this is, as `caller` does, which was looked up already."""
        row, now = found.row, int(self.now())
        if csrf is not None and not hmac.compare_digest(self._csrf(row).encode(), csrf.encode()):
            raise NotAuthenticated(
                "the request lacks the session's CSRF token",
                hint="send the header Linkage-CSRF with csrf_token of GET /v1/session",
            )
        roles = found.roles
        try:
            require_compatible(roles)
        except KeyRefused:
            # An identity provider and an admin gave roles that no one person may have.
            roles = frozenset()
        if used and now - row.seen_at >= _SEEN_EVERY:
            with self.database.change() as connection:
                accounts.see_session(connection, row.digest, now)
        return Caller(row.account, None, person=True, roles=roles)

    def state(self, cookie: str) -> SessionState:
        """Return who is signed in. Raises NotAuthenticated."""
        return self.told(self.find(cookie))

    def told(self, found: Found) -> SessionState:
        """Return what the person of a session is told of it."""
        row = found.row
        return SessionState(
            name=row.account,
            roles=tuple(sorted(str(role) for role in found.roles)),
            csrf_token=self._csrf(row),
            expires_at=row.expires_at,
            idle_seconds=self.settings.idle_seconds,
        )

    def age(self, cookie: str) -> float:
        """Return how long ago the session was begun, seconds. Raises NotAuthenticated."""
        begun = self.find(cookie).row.expires_at - self.settings.session_seconds
        return self.now() - begun

    def is_local(self, name: str) -> bool:
        """Does this person sign in with a password here, not at an identity provider?"""
        with self.database.read() as connection:
            found = accounts.find(connection, name)
        return found is not None and found.issuer is None

    def end(self, cookie: str, *, everywhere: bool) -> None:
        """End this session, or all sessions of its person. Raises NotAuthenticated."""
        row = self.find(cookie).row
        with self.database.change() as connection:
            accounts.end_session(connection, row.digest)
            ended = 1 + (accounts.end_sessions(connection, row.account) if everywhere else 0)
            _record(connection, "person signed out", row.account, sessions=str(ended))

    def _row(self, connection: Connection, cookie: str) -> SessionRow:
        now = self.now()
        row = accounts.find_session(connection, _digest(cookie))
        found = accounts.find(connection, row.account) if row else None
        if row is None or found is None or found.disabled_at is not None:
            _refuse("the session is unknown or was ended")
        if row.expires_at <= now:
            _refuse("the session is over: it was begun too long ago")
        if row.seen_at + self.settings.idle_seconds <= now:
            _refuse("the session is over: it was not used for too long")
        return row

    def _csrf(self, row: SessionRow) -> str:
        return self.key.tag("csrf", row.digest)

    def _recovery(
        self, connection: Connection, row: AccountRow, numbered: re.Match[str] | None
    ) -> str | None:
        if numbered is None:
            return None
        return accounts.find_recovery_code(connection, row.name, int(numbered[1]))

    def _rehashed(self, row: AccountRow, password: str) -> str | None:
        if row.password and self.hashes.outdated(row.password):
            return self.hashes.make(password)
        return None

    def _factor(
        self,
        connection: Connection,
        row: AccountRow,
        found: AccountRow | None,
        code: str,
        numbered: re.Match[str] | None,
    ) -> str:
        """Return how the person proved itself besides the password; "" where it did not."""
        if found is None or found.disabled_at is not None or found.password != row.password:
            return ""
        if numbered:
            number = int(numbered[1])
            if accounts.find_recovery_code(connection, found.name, number) is None:
                return ""  # used by another request meanwhile
            left = accounts.use_recovery_code(connection, found.name, number)
            return f"password and recovery code, {left} left"
        if found.totp is None:
            return "" if self.settings.require_totp else "password"
        step = totp_step(self.key.decrypt(found.totp), code, self.now(), after=found.totp_step)
        if step is None:
            return ""
        accounts.change(connection, found.name, totp_step=step)
        return "password and TOTP"

    def _failed(
        self, connection: Connection, found: AccountRow | None, tag: str, count: int, now: int
    ) -> None:
        accounts.set_failures(connection, tag, count, now)
        if found is not None and (count == MOST_FAILURES or count % FREE == 0):
            _record(connection, "signing in failed", found.name, in_a_row=str(count))


def _require_patience(failed: int, last: int, now: int) -> None:
    """Raises TooManyRequests where so many failures in a row make one wait."""
    if failed >= MOST_FAILURES:
        raise TooManyRequests(
            "signing in under this name failed too often",
            hint="the broker's admin lets it in again: `linkage-broker account enable`",
            retry_after=_LONGEST_WAIT,
        )
    wait = 0 if failed < FREE else min(2 ** (failed - FREE), _LONGEST_WAIT)
    left = last + wait - now
    # A clock that was put back must not lock everybody out for longer than the wait itself.
    if 0 < left <= wait:
        raise TooManyRequests(
            f"signing in under this name failed {failed} times in a row",
            hint=f"wait {left} seconds",
            retry_after=left,
        )


def _refuse(message: str) -> NoReturn:
    raise NotAuthenticated(message, hint="sign in again: POST /v1/session")


def _record(connection: Connection, action: str, name: str, **detail: str) -> None:
    actor = f"{PERSON}/{name}"
    audit.record(connection, actor=actor, action=action, subject=name, detail=detail)


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
