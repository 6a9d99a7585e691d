"""What people and the broker say to each other when signing in (rules: linkage.messages)."""

from __future__ import annotations

from typing import Annotated, NoReturn

from pydantic import Field

from linkage.messages import Message


class _Secret(Message):
    """Base of messages that hold something to sign in with: shown and pickled by nobody."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} refuses pickling")


class PasswordSignIn(_Secret):
    """Signing in to a local account. code: of the authenticator, or a recovery code."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=1024, repr=False)
    code: str = Field(default="", max_length=64, repr=False)


class PasswordChange(_Secret):
    """Changing one's own password. password, code: those of now, as when signing in."""

    password: str = Field(max_length=1024, repr=False)
    code: str = Field(default="", max_length=64, repr=False)
    new_password: str = Field(max_length=1024, repr=False)


class InvitationOpened(_Secret):
    """Asking what an invitation is for, and for a new TOTP secret."""

    invitation_secret: str = Field(max_length=64, repr=False)


class Enrolment(_Secret):
    """
    An invitation, opened. totp_secret: for the person's authenticator, as an otpauth URI; opening
    the invitation again makes another one. expires_at: of the invitation. least: characters that
    the password needs, without TOTP where that is allowed (least_alone, else 0).
    """

    name: str
    totp_secret: str = Field(repr=False)
    expires_at: int
    least: int
    least_alone: int


class InvitationAccepted(_Secret):
    """Accepting an invitation. code: of the authenticator; "" without TOTP, if allowed."""

    invitation_secret: str = Field(max_length=64, repr=False)
    password: str = Field(max_length=1024, repr=False)
    code: str = Field(default="", max_length=64, repr=False)


class AccountReady(_Secret):
    """
    An invitation accepted, or a password changed. recovery_codes: each signs in once in place of
    TOTP; shown once.
    """

    name: str
    recovery_codes: tuple[str, ...] = Field(repr=False)


class Proof(_Secret):
    """
    Who one is, proved anew, for what a stolen cookie or token must not do. password, code: of a
    person who signs in with them. assertion: of an admin with a key, as for an access token, and
    not used before. A person of an identity provider gives nothing, and signs in there just before.
    """

    password: str = Field(default="", max_length=1024, repr=False)
    code: str = Field(default="", max_length=64, repr=False)
    assertion: str = Field(default="", max_length=8192, repr=False)


Roles = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=100)]
"""As broker.person_roles writes them."""
Hours = Annotated[int, Field(ge=1, le=24 * 30)]
"""How long an invitation is good."""


class AccountInvited(_Secret):
    """Inviting somebody. name: of the account, as its person will type it."""

    name: str = Field(max_length=64)
    roles: Roles
    hours: Hours | None = None
    proof: Proof = Field(repr=False)


class AccountRoles(_Secret):
    """In place of all roles that were given to an account before."""

    roles: Roles
    proof: Proof = Field(repr=False)


class AccountReset(_Secret):
    """Taking password, second factor and sessions away, and inviting anew."""

    hours: Hours | None = None
    proof: Proof = Field(repr=False)


class AccountSwitch(_Secret):
    """Disabling an account, or enabling it."""

    proof: Proof = Field(repr=False)


class Invitation(_Secret):
    """An invitation, shown this once. expires_at: Unix seconds."""

    name: str
    invitation_secret: str = Field(repr=False)
    expires_at: int


class AccountState(Message):
    """
    An account. state: "active", "invited", "invitation expired", "no password", "locked",
    "disabled". roles: given by an admin; claimed_roles: by the identity provider's claims.
    provider: its issuer and subject there, "" for an account with a password.
    """

    name: str
    state: str
    roles: tuple[str, ...]
    claimed_roles: tuple[str, ...] = ()
    second_factor: bool
    provider: str = ""


class SessionState(_Secret):
    """
    Who is signed in. roles: as broker.person_roles writes them. csrf_token: what the header
    Linkage-CSRF must say in every request but GET. expires_at: when to sign in again at the
    latest; idle_seconds: after so long without a request, too.
    """

    name: str
    roles: tuple[str, ...]
    csrf_token: str = Field(repr=False)
    expires_at: int
    idle_seconds: int
