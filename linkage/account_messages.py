"""What people and the broker say to each other when signing in (rules: linkage.messages)."""

from __future__ import annotations

from typing import NoReturn

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
