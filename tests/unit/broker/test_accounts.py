"""Accounts of people: invitations, passwords, second factors, waits, sessions."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import make_url, text

from broker.account_config import AccountSettings
from broker.account_key import AccountKey
from broker.passwords import Hashes
from broker.person_roles import parse_role
from broker.rate import Attempts
from broker.services.accounts import Accounts, totp_step
from broker.sessions import FREE, Begun, Sessions
from broker.store import accounts as rows
from broker.store.engine import Database
from linkage.account_messages import InvitationAccepted, PasswordSignIn
from linkage.errors import Conflict, KeyRefused, NotAuthenticated, NotFound, TooManyRequests

PASSWORD = "five words and a horse"
AUDITOR = [parse_role("auditor")]
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""As argon2 demands at least; the shipped parameters are tested once, below."""


class Clock:
    """A clock that tests set; it stands at the middle of a step of TOTP."""

    def __init__(self) -> None:
        self.at = time.time() // 30 * 30 + 15.0

    def __call__(self) -> float:
        return self.at


class Desk:
    """The services over one database, with one clock."""

    def __init__(self, database: Database, key: Path, **settings: object) -> None:
        self.clock, self.database = Clock(), database
        self.key = AccountKey(key)
        made = AccountSettings.model_validate(settings)
        hashes = Hashes(CHEAP)
        self.accounts = Accounts(database, self.key, made, hashes, now=self.clock)
        self.attempts = Attempts(made.failed_per_minute, self.clock)
        self.sessions = Sessions(database, self.key, made, hashes, self.attempts, now=self.clock)

    def enrol(self, name: str, role: str = "auditor") -> tuple[pyotp.TOTP, tuple[str, ...]]:
        """Invite a person who then accepts; return authenticator and recovery codes."""
        code, _ = self.accounts.invite(name, [parse_role(role)])
        return self.accept(code)

    def accept(self, code: str) -> tuple[pyotp.TOTP, tuple[str, ...]]:
        uri = self.accounts.open_invitation(code).totp_secret
        totp = pyotp.parse_uri(uri)
        assert isinstance(totp, pyotp.TOTP)
        ready = self.accounts.accept_invitation(self.accepting(code, totp))
        self.clock.at += 30  # the code that was typed is used
        return totp, ready.recovery_codes

    def accepting(
        self, code: str, totp: pyotp.TOTP, password: str = PASSWORD
    ) -> InvitationAccepted:
        now = totp.at(int(self.clock.at))
        return InvitationAccepted(invitation_secret=code, password=password, code=now)

    def sign_in(
        self, name: str, code: str, *, password: str = PASSWORD, address: str = "192.0.2.1"
    ) -> Begun:
        asked = PasswordSignIn(name=name, password=password, code=code)
        return self.sessions.sign_in(asked, address=address)

    def now(self, totp: pyotp.TOTP) -> str:
        """Return the authenticator's code."""
        return totp.at(int(self.clock.at))

    def actions(self) -> list[str]:
        """Return what the audit log says, in order."""
        with self.database.read() as connection:
            found = connection.execute(text("SELECT entry FROM audit ORDER BY number")).scalars()
            return [one.split('"action":"')[1].split('"')[0] for one in found]


@pytest.fixture
def make_desk(tmp_path: Path, migrated: Path) -> Callable[..., Desk]:
    def make(**settings: object) -> Desk:
        shutil.copy(migrated, tmp_path / "b.sqlite")
        database = Database(make_url(f"sqlite:///{tmp_path / 'b.sqlite'}"))
        return Desk(database, tmp_path / "accounts.key", **settings)

    return make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()


def test_from_invitation_to_signing_out(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    begun = desk.sign_in("ada", desk.now(totp))
    assert begun.state.roles == ("auditor",)
    assert desk.sessions.caller(begun.cookie, csrf=None).actor == "person/ada"
    assert desk.sessions.caller(begun.cookie, csrf=begun.state.csrf_token).person
    assert desk.sessions.state(begun.cookie) == begun.state
    desk.sessions.end(begun.cookie, everywhere=False)
    with pytest.raises(NotAuthenticated, match="unknown or was ended"):
        desk.sessions.caller(begun.cookie, csrf=None)
    assert desk.actions() == [
        "account invited",
        "invitation accepted",
        "person signed in",
        "person signed out",
    ]


@pytest.mark.parametrize("kind", ["postgresql"])
def test_on_postgresql_too(kind: str, postgres_url: str, tmp_path: Path) -> None:
    database = Database(make_url(postgres_url))
    database.migrate()
    desk = Desk(database, tmp_path / "accounts.key")
    totp, recovery = desk.enrol("ada", "auditor")
    begun = desk.sign_in("ada", desk.now(totp))
    desk.sign_in("ada", recovery[3])
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", recovery[3])
    desk.clock.at += 90
    assert desk.sessions.caller(begun.cookie, csrf=None).name == "ada"
    with pytest.raises(NotAuthenticated, match="is wrong"):
        desk.sign_in("ada\x00", "000000")  # PostgreSQL takes no NUL
    with pytest.raises(NotAuthenticated):
        desk.sessions.caller("\x00", csrf="")
    desk.sessions.end(begun.cookie, everywhere=True)
    desk.accounts.disable("ada")
    assert [one.state for one in desk.accounts.all()] == ["disabled"]
    database.close()


def test_an_invitation_is_good_once_and_not_for_ever(desk: Desk) -> None:
    code, until = desk.accounts.invite("ada", AUDITOR, hours=2)
    assert until == int(desk.clock.at) + 7200
    with pytest.raises(Conflict, match="account reset"):
        desk.accounts.invite("ada", AUDITOR)
    desk.accept(code)
    for again in (code, code + "x", "made-up", ""):
        with pytest.raises(NotAuthenticated, match="unknown, or was used"):
            desk.accounts.open_invitation(again)
    late, _ = desk.accounts.invite("bob", AUDITOR)
    enrolment = desk.accounts.open_invitation(late)
    totp = pyotp.parse_uri(enrolment.totp_secret)
    assert isinstance(totp, pyotp.TOTP)
    desk.clock.at += 72 * 3600
    with pytest.raises(NotAuthenticated, match="has expired"):
        desk.accounts.open_invitation(late)
    with pytest.raises(NotAuthenticated, match="has expired"):
        desk.accounts.accept_invitation(desk.accepting(late, totp))
    assert {one.name: one.state for one in desk.accounts.all()} == {
        "ada": "active",
        "bob": "invitation expired",
    }


def test_an_invitation_needs_the_newest_secret_and_its_code(desk: Desk) -> None:
    code, _ = desk.accounts.invite("ada", AUDITOR)
    made_up = pyotp.TOTP(pyotp.random_base32())
    with pytest.raises(NotAuthenticated, match="not opened yet"):
        desk.accounts.accept_invitation(desk.accepting(code, made_up))
    old = pyotp.parse_uri(desk.accounts.open_invitation(code).totp_secret)
    desk.accounts.open_invitation(code)
    assert isinstance(old, pyotp.TOTP)
    for wrong in (old, made_up):
        with pytest.raises(NotAuthenticated, match="code is wrong"):
            desk.accounts.accept_invitation(desk.accepting(code, wrong))
    with pytest.raises(NotAuthenticated, match="code is wrong"):
        desk.accounts.accept_invitation(
            InvitationAccepted(invitation_secret=code, password=PASSWORD)
        )
    desk.accept(code)  # it is still good


def test_a_slip_does_not_cost_a_new_secret(desk: Desk) -> None:
    """Who says the secret that the invitation has keeps it; nobody else is shown it."""
    code, _ = desk.accounts.invite("ada", AUDITOR)

    def secret(shown: str = "") -> str:
        totp = pyotp.parse_uri(desk.accounts.open_invitation(code, shown=shown).totp_secret)
        return totp.secret

    first = secret()
    assert secret(first) == first
    second = secret("a guess")
    assert second != first
    assert secret(first) not in (first, second)


def test_without_totp_only_where_that_is_allowed(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(require_totp=False)
    code, _ = desk.accounts.invite("ada", AUDITOR)
    assert desk.accounts.open_invitation(code).least_alone == 15
    with pytest.raises(KeyRefused, match="15 to 256"):
        desk.accounts.accept_invitation(
            InvitationAccepted(invitation_secret=code, password="fourteen chars")
        )
    ready = desk.accounts.accept_invitation(
        InvitationAccepted(invitation_secret=code, password=PASSWORD)
    )
    assert ready.recovery_codes == ()
    assert desk.sign_in("ada", "").state.name == "ada"
    strict = Desk(desk.database, Path(desk.key._path))
    with pytest.raises(NotAuthenticated):
        strict.sign_in("ada", "")


def test_a_code_of_the_authenticator_is_good_once(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    code = desk.now(totp)
    desk.sign_in("ada", code)
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", code)
    # Nor is an older one that was never typed, once a newer one was.
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", totp.at(int(desk.clock.at) - 30))
    desk.sign_in("ada", totp.at(int(desk.clock.at) + 30))  # the device's clock is fast
    desk.clock.at += 60
    desk.sign_in("ada", desk.now(totp))


def test_steps_of_totp_at_their_edges() -> None:
    """RFC 6238, appendix B, SHA-1: 94287082 at 59 seconds; the last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert totp_step(secret, "287082", 59, after=0) == 1
    assert totp_step(secret, "287 082", 89.9, after=0) == 1
    assert totp_step(secret, "287082", 90, after=0) is None
    assert totp_step(secret, "287082", 59, after=1) is None
    assert totp_step(secret, "", 59, after=0) is None


def test_a_recovery_code_is_good_once(desk: Desk) -> None:
    _, recovery = desk.enrol("ada")
    assert len(set(recovery)) == 10
    desk.sign_in("ada", recovery[9].upper())
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", recovery[9])
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", recovery[0].replace("1-", "2-"))
    desk.sign_in("ada", recovery[0])


@pytest.mark.parametrize("between", ["", " ", " - ", "\N{EN DASH}", "\N{NO-BREAK SPACE}"])
def test_a_recovery_code_may_be_typed_as_it_was_written_down(desk: Desk, between: str) -> None:
    _, recovery = desk.enrol("ada")
    for code in (recovery[0], recovery[9]):
        typed = f" {code.replace('-', between).upper()}\t"
        with pytest.raises(NotAuthenticated):
            desk.sign_in("ada", typed + "2")
        desk.sign_in("ada", typed)
        with pytest.raises(NotAuthenticated):
            desk.sign_in("ada", code)


def test_a_wrong_anything_is_told_alike(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")

    def told(name: str, password: str, code: str) -> str:
        with pytest.raises(NotAuthenticated) as caught:
            desk.sign_in(name, code, password=password)
        return str(caught.value)

    right = desk.now(totp)
    assert (
        told("ada", "wrong password", right)
        == told("ada", PASSWORD, "000000")
        == told("nobody", PASSWORD, right)
        == told("", "", "")
        == told("ada\x00", PASSWORD, "1-aaaa-bbbb-cccc")
    )


def test_after_failures_attempts_wait_longer_and_longer(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    waits = []
    for tries in range(1, 12):
        with pytest.raises(NotAuthenticated):
            desk.sign_in("ada", "000000", address=f"192.0.2.{tries}")
        if tries < FREE:
            continue
        with pytest.raises(TooManyRequests) as caught:
            desk.sign_in("ada", desk.now(totp))  # the right code has to wait, too
        waits.append(caught.value.retry_after)
        desk.clock.at += caught.value.retry_after
    assert waits == [1, 2, 4, 8, 16, 32, 64]
    desk.clock.at += 30
    desk.sign_in("ada", desk.now(totp))
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", "000000")  # forgiven: the next failure is the first
    assert desk.actions().count("signing in failed") == 2


def test_a_name_that_nobody_has_waits_likewise(desk: Desk) -> None:
    for _ in range(FREE):
        with pytest.raises(NotAuthenticated):
            desk.sign_in("nobody", "000000")
    with pytest.raises(TooManyRequests, match="failed 5 times"):
        desk.sign_in("nobody", "000000")
    assert "signing in failed" not in desk.actions()
    with desk.database.read() as connection:
        kept = connection.execute(text("SELECT name_digest FROM failed_sign_in")).scalars().all()
    assert kept == [desk.key.tag("name", "nobody")]  # what was typed is not kept


def test_a_hundred_failures_lock_until_an_admin_helps(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    with desk.database.change() as connection:
        rows.set_failures(connection, desk.key.tag("name", "ada"), 99, 0)
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", "000000")
    desk.clock.at += 10 * 86_400
    with pytest.raises(TooManyRequests, match="failed too often"):
        desk.sign_in("ada", desk.now(totp))
    assert [one.state for one in desk.accounts.all()] == ["locked"]
    desk.accounts.enable("ada")
    desk.sign_in("ada", desk.now(totp))


def test_an_address_has_so_many_failures_a_minute(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(failed_per_minute=10)
    totp, _ = desk.enrol("ada")
    for i in range(10):
        with pytest.raises(NotAuthenticated):
            desk.sign_in(f"name-{i}", "")
    with pytest.raises(TooManyRequests, match="this address") as caught:
        desk.sign_in("ada", desk.now(totp))
    assert caught.value.retry_after <= 7
    desk.sign_in("ada", desk.now(totp), address="192.0.2.2")
    desk.clock.at += 6.5
    desk.attempts.require("192.0.2.1")


def test_sessions_end_by_idleness_and_by_age(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    begun = desk.sign_in("ada", desk.now(totp))
    desk.clock.at += 1799
    assert desk.sessions.caller(begun.cookie, csrf=None).name == "ada"
    desk.clock.at += 1799  # it was used meanwhile
    desk.sessions.caller(begun.cookie, csrf=None)
    desk.clock.at += 1800
    with pytest.raises(NotAuthenticated, match="not used for too long"):
        desk.sessions.caller(begun.cookie, csrf=None)
    again = desk.sign_in("ada", desk.now(totp))
    for _ in range(24):
        desk.clock.at += 1799
        desk.sessions.caller(again.cookie, csrf=None)
    desk.clock.at += 43_200 - 24 * 1799
    with pytest.raises(NotAuthenticated, match="too long ago"):
        desk.sessions.caller(again.cookie, csrf=None)


def test_signing_in_anew_ends_the_browsers_old_session(desk: Desk) -> None:
    totp, recovery = desk.enrol("ada")
    first = desk.sign_in("ada", desk.now(totp))
    asked = PasswordSignIn(name="ada", password=PASSWORD, code=recovery[0])
    second = desk.sessions.sign_in(asked, address="", cookie=first.cookie)
    assert second.cookie != first.cookie
    assert second.state.csrf_token != first.state.csrf_token
    with pytest.raises(NotAuthenticated):
        desk.sessions.caller(first.cookie, csrf=None)
    third = desk.sign_in("ada", recovery[1])
    desk.sessions.end(third.cookie, everywhere=True)
    with pytest.raises(NotAuthenticated):
        desk.sessions.caller(second.cookie, csrf=None)


def test_a_csrf_token_is_of_its_session(desk: Desk) -> None:
    totp, recovery = desk.enrol("ada")
    first, second = desk.sign_in("ada", desk.now(totp)), desk.sign_in("ada", recovery[0])
    for wrong in ("", "x", second.state.csrf_token, first.cookie):
        with pytest.raises(NotAuthenticated, match="CSRF"):
            desk.sessions.caller(first.cookie, csrf=wrong)


def test_disabling_and_resetting_end_everything_at_once(desk: Desk) -> None:
    totp, recovery = desk.enrol("ada")
    begun = desk.sign_in("ada", desk.now(totp))
    desk.accounts.disable("ada")
    with pytest.raises(NotAuthenticated):
        desk.sessions.caller(begun.cookie, csrf=None)
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", recovery[0])
    desk.accounts.enable("ada")
    begun = desk.sign_in("ada", recovery[0])
    code, _ = desk.accounts.reset("ada")
    with pytest.raises(NotAuthenticated):
        desk.sessions.caller(begun.cookie, csrf=None)
    with pytest.raises(NotAuthenticated):
        desk.sign_in("ada", recovery[1])
    fresh, _ = desk.accept(code)
    desk.sign_in("ada", desk.now(fresh))
    for act in (desk.accounts.disable, desk.accounts.enable, desk.accounts.reset):
        with pytest.raises(NotFound):
            act("nobody")


def test_roles_change_at_once_and_must_exist(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    begun = desk.sign_in("ada", desk.now(totp))
    desk.accounts.set_roles("ada", [])
    assert desk.sessions.caller(begun.cookie, csrf=None).roles == frozenset()
    with pytest.raises(NotFound, match="no study 's1'"):
        desk.accounts.set_roles("ada", [parse_role("researcher:s1")])
    with pytest.raises(KeyRefused, match="stands alone"):
        desk.accounts.set_roles("ada", [parse_role("auditor"), parse_role("admin")])


def test_an_old_hash_is_made_anew(desk: Desk) -> None:
    totp, _ = desk.enrol("ada")
    stronger = Hashes(PasswordHasher(time_cost=2, memory_cost=64, parallelism=1))
    later = Sessions(
        desk.database, desk.key, AccountSettings(), stronger, desk.attempts, now=desk.clock
    )
    asked = PasswordSignIn(name="ada", password=PASSWORD, code=desk.now(totp))
    later.sign_in(asked, address="")
    with desk.database.read() as connection:
        row = rows.find(connection, "ada")
    assert row is not None
    assert row.password is not None
    assert "t=2" in row.password


def test_the_database_alone_signs_nobody_in(desk: Desk) -> None:
    code, _ = desk.accounts.invite("eve", AUDITOR)
    totp, recovery = desk.enrol("ada")
    begun = desk.sign_in("ada", desk.now(totp))
    with desk.database.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    for secret in (code, PASSWORD, totp.secret, begun.cookie, begun.state.csrf_token, *recovery):
        assert secret not in dump
    assert stat.S_IMODE(desk.key._path.stat().st_mode) == 0o600


def test_without_its_key_the_second_factor_does_not_open(desk: Desk, tmp_path: Path) -> None:
    totp, _ = desk.enrol("ada")
    (tmp_path / "accounts.key").unlink()
    other = Desk(desk.database, tmp_path / "accounts.key")
    with pytest.raises(KeyRefused, match="from your backup"):
        other.sign_in("ada", desk.now(totp))
    (tmp_path / "damaged").write_text("x")
    with pytest.raises(KeyRefused, match="damaged"):
        AccountKey(tmp_path / "damaged").tag("csrf", "x")
