"""Signing in and out, accepting an invitation, and one's own account."""

from __future__ import annotations

import io
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import segno
from fastapi import APIRouter, Depends, Request, Response

from broker.browsers import Browsers
from broker.routes.common import Address, Services
from broker.routes.sessions import Own, session_cookie
from broker.web.forms import Form, read_form
from broker.web.rendering import open_page, page, see_other
from broker.web.visits import Anyone, Visit
from broker.web.ways import own_path
from linkage.account_messages import (
    Enrolment,
    InvitationAccepted,
    InvitationOpened,
    PasswordChange,
    PasswordSignIn,
)
from linkage.errors import CallerRefused, KeyRefused, LinkageError, TooManyRequests

router = APIRouter(include_in_schema=False)

Posted = Annotated[Form, Depends(read_form)]
Cookie = Annotated[str | None, Depends(session_cookie)]
_SAID = (CallerRefused, TooManyRequests, KeyRefused)
"""What a person who types can do something about: it is said above the form."""


@router.get("/sign-in")
def sign_in_page(request: Request, broker: Services, to: str = "") -> Response:
    """Ask for name, password and code."""
    return _sign_in(request, broker, to)


@router.post("/sign-in", dependencies=Own)
def sign_in(
    request: Request, broker: Services, form: Posted, address: Address, cookie: Cookie
) -> Response:
    """Begin a session, and go on to where the person wanted to go."""
    asked = PasswordSignIn(
        name=_one(form, "name", 64).lower(),
        password=_one(form, "password"),
        code=_one(form, "code", 64),
    )
    try:
        begun = broker.sessions.sign_in(asked, address=address, cookie=cookie)
    except _SAID as refusal:
        return _sign_in(request, broker, _one(form, "to"), refusal=refusal, name=asked.name)
    answer = see_other(own_path(_one(form, "to")))
    broker.door.browsers.keep(answer, begun.cookie)
    return answer


@router.post("/sign-out")
def sign_out(visit: Anyone) -> Response:
    """End this session, or all of this person's."""
    everywhere = bool(visit.text("everywhere"))
    browsers = visit.broker.door.browsers
    visit.broker.sessions.end(_cookie(visit.request, browsers), everywhere=everywhere)
    answer = see_other("/sign-in", "signed-out-everywhere" if everywhere else "signed-out")
    browsers.forget(answer, browsers.cookie)
    return answer


@router.get("/account")
def account(visit: Anyone) -> Response:
    """Show who is signed in, and what that person may do."""
    return _account(visit)


@router.post("/account/password")
def change_password(visit: Anyone, address: Address) -> Response:
    """Change one's password: every session ends, and there are new recovery codes."""
    asked = PasswordChange(
        password=visit.text("password")[:1024],
        code=visit.text("code")[:64],
        new_password=visit.text("new_password")[:1024],
    )
    browsers = visit.broker.door.browsers
    cookie = _cookie(visit.request, browsers)
    try:
        _require_twice(visit.form, "new_password")
        ready = visit.broker.door.change_password(cookie, asked, address=address)
    except _SAID as refusal:
        return _account(visit, refusal)
    answer = open_page(visit.request, "account_ready.html", ready=ready, changed=True)
    browsers.forget(answer, browsers.cookie)
    return answer


@router.get("/invitation")
def invitation(request: Request) -> Response:
    """Ask for the code of an invitation."""
    return open_page(request, "invitation.html", refusal=None)


@router.post("/invitation", dependencies=Own)
def open_invitation(request: Request, broker: Services, form: Posted, address: Address) -> Response:
    """Show the authenticator's secret, and ask for a password and a first code."""
    code = _one(form, "invitation", 64)
    try:
        return _enrolment(request, _opened(broker, code, address), code)
    except _SAID as refusal:
        return open_page(request, "invitation.html", refusal=refusal, status=422)


@router.post("/invitation/accept", dependencies=Own)
def accept_invitation(
    request: Request, broker: Services, form: Posted, address: Address
) -> Response:
    """Make the account ready; the recovery codes are shown this once."""
    code = _one(form, "invitation", 64)
    accepted = InvitationAccepted(
        invitation_secret=code, password=_one(form, "password"), code=_one(form, "code", 64)
    )
    try:
        _require_twice(form, "password")
        ready = broker.door.counted(address, lambda: broker.accounts.accept_invitation(accepted))
    except _SAID as refusal:
        shown = _one(form, "totp", 64)
        try:
            return _enrolment(request, _opened(broker, code, address, shown), code, refusal, shown)
        except _SAID:
            return open_page(request, "invitation.html", refusal=refusal, status=422)
    return open_page(request, "account_ready.html", ready=ready, changed=False)


def _account(visit: Visit, refusal: LinkageError | None = None) -> Response:
    return page(
        visit,
        "account.html",
        status=422 if refusal else 200,
        refusal=refusal,
        with_code=visit.broker.home.config.accounts.require_totp,
    )


def _require_twice(form: Form, name: str) -> None:
    """Raises KeyRefused for a new password with a slip, which would lock its person out."""
    if _one(form, name) != _one(form, f"{name}_again"):
        raise KeyRefused("the two passwords are not the same", hint="type the same one twice")


def _opened(broker: Services, code: str, address: str, shown: str = "") -> Enrolment:
    opened = InvitationOpened(invitation_secret=code)
    return broker.door.counted(
        address, lambda: broker.accounts.open_invitation(opened.invitation_secret, shown=shown)
    )


def _enrolment(
    request: Request,
    enrolment: Enrolment,
    code: str,
    refusal: LinkageError | None = None,
    shown: str = "",
) -> Response:
    """Show the authenticator's secret. shown: the one that this person was shown before."""
    secret = parse_qs(urlsplit(enrolment.totp_secret).query).get("secret", [""])[0]
    return open_page(
        request,
        "enrolment.html",
        status=422 if refusal else 200,
        enrolment=enrolment,
        invitation=code,
        refusal=refusal,
        secret=secret,
        stays=secret == shown,
        picture=_picture(enrolment.totp_secret),
    )


def _picture(text: str) -> str:
    """Return a QR code as an SVG element: classes alone, since no style may be inline."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=True, svgclass="qr", lineclass="qr-line",
        scale=4, border=2, omitsize=True, title="QR code of the authenticator's secret",
    )  # fmt: skip
    return out.getvalue().decode()


def _sign_in(
    request: Request,
    broker: Services,
    to: str,
    *,
    refusal: LinkageError | None = None,
    name: str = "",
) -> Response:
    return open_page(
        request,
        "sign_in.html",
        status=200 if refusal is None else 401,
        to=own_path(to),
        refusal=refusal,
        name=name,
        provider=broker.home.config.oidc.issuer != "",
        with_code=broker.home.config.accounts.require_totp,
    )


def _one(form: Form, name: str, most: int = 1024) -> str:
    return form.get(name, ("",))[0][:most]


def _cookie(request: Request, browsers: Browsers) -> str:
    return browsers.sent(request.headers, browsers.cookie) or ""
