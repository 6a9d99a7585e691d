"""
People who may sign in, for the broker's admin: each change with a proof, as the API asks it.
Accounts of admins are made and changed at the broker's console alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from broker.person_roles import PersonRole, parse_role, parse_roles, require_compatible
from broker.policy import Action, require_id
from broker.registered import RegisteredStudy
from broker.routes.common import Address
from broker.services.accounts import NAME
from broker.web import proving
from broker.web.rendering import page, see_other
from broker.web.visits import PageMay, Visit
from linkage.account_messages import Invitation
from linkage.errors import Conflict, KeyRefused, LinkageError

router = APIRouter(prefix="/admin/people", include_in_schema=False)

Reading = Annotated[Visit, Depends(PageMay(Action.READ_ACCOUNTS))]
Changing = Annotated[Visit, Depends(PageMay(Action.CHANGE_ACCOUNTS))]
Number = Annotated[int, Query(alias="page", ge=1, le=10_000)]
Found = Annotated[str, Query(max_length=64)]
_SIZE = 25
_HOURS = (24, 72, 168)

KINDS = {
    "active": "good",
    "invited": "wait",
    "invitation expired": "bad",
    "no password": "wait",
    "locked": "bad",
    "disabled": "off",
}
"""By state of an account, the badge's colour."""


@router.get("")
def people(visit: Reading, find: Found = "", number: Number = 1) -> Response:
    """List the accounts by name, some at a time."""
    found, every = visit.broker.accounts.page(find=find, number=number, size=_SIZE)
    pages = max(1, -(-every // _SIZE))
    return page(visit, "people.html", found=found, every=every, number=number, pages=pages,
                find=find, kinds=KINDS)  # fmt: skip


@router.get("/new")
def new(visit: Changing, study: Found = "") -> Response:
    """Ask for a name and roles: first the study, then what somebody is in it."""
    return _new(visit, study)


@router.post("")
def invite(visit: Changing, address: Address) -> Response:
    """Make an account; the page holds the code that opens it, this once."""
    name, accounts = visit.text("name"), visit.broker.accounts
    try:
        if not NAME.fullmatch(name):
            # Before a code of the authenticator is used up.
            raise KeyRefused(
                "this cannot be an account's name",
                hint="2 to 64 small letters, digits and hyphens, a letter first",
            )
        roles, hours = _roles(visit.texts("role")), _hours(visit)
        accounts.require_new(name)
        by = proving.prove(visit, address)
        code, until = accounts.invite(name, roles, hours=hours, by=by)
    except proving.SAID as refusal:
        return _new(visit, visit.text("study"), refusal)
    return _invited(visit, name, code, until)


@router.get("/{account}")
def person(visit: Reading, account: str, study: Found = "") -> Response:
    """Show an account, and what may be done to it."""
    return _person(visit, account, study)


@router.post("/{account}/roles")
def set_roles(visit: Changing, account: str, address: Address) -> Response:
    """Replace the roles that were given here; at once, also in open sessions."""
    roles = visit.texts("role")

    def change(by: str) -> None:
        visit.broker.accounts.set_roles(account, _roles(roles), by=by)

    return _changed(visit, account, address, change, "roles-changed", check=_roles)


@router.post("/{account}/disable")
def disable(visit: Changing, account: str, address: Address) -> Response:
    """End an account's sessions now, and let it sign in no more."""
    accounts = visit.broker.accounts
    return _changed(visit, account, address, lambda by: accounts.disable(account, by=by),
                    "account-disabled", named=True)  # fmt: skip


@router.post("/{account}/enable")
def enable(visit: Changing, account: str, address: Address) -> Response:
    """Let a disabled or locked account sign in again."""
    accounts = visit.broker.accounts
    return _changed(visit, account, address, lambda by: accounts.enable(account, by=by),
                    "account-enabled")  # fmt: skip


@router.post("/{account}/reset")
def reset(visit: Changing, account: str, address: Address) -> Response:
    """Take password, second factor and sessions away, and invite anew."""
    try:
        _require_named(visit, account)
        hours, by = _hours(visit), proving.prove(visit, address)
        code, until = visit.broker.accounts.reset(account, hours=hours, by=by)
    except proving.SAID as refusal:
        return _person(visit, account, "", refusal)
    return _invited(visit, account, code, until)


def _changed(
    visit: Visit,
    account: str,
    address: str,
    change: Callable[[str], None],
    told: str,
    *,
    named: bool = False,
    check: Callable[[Sequence[str]], object] | None = None,
) -> Response:
    """Do what is asked once it is proved who asks. named: the account's name was typed, too."""
    try:
        if named:
            _require_named(visit, account)
        if check:
            check(visit.texts("role"))
        change(proving.prove(visit, address))
    except proving.SAID as refusal:
        # What was ticked stays so where a code was wrong.
        ticked = visit.texts("role") if check else None
        return _person(visit, account, visit.text("study"), refusal, ticked)
    return see_other(f"/admin/people/{account}", told)


def _roles(texts: Sequence[str]) -> list[PersonRole]:
    """Return roles that one person may have. Raises KeyRefused, before a code is used up."""
    return list(require_compatible(parse_roles(texts)))


def _require_named(visit: Visit, account: str) -> None:
    if visit.text("confirm") != account:
        raise Conflict("the name that was typed is another one", hint="nothing was done")


def _hours(visit: Visit) -> int | None:
    """How long an invitation is good; None: as the broker's settings say."""
    text = visit.text("hours")
    return next((one for one in _HOURS if str(one) == text), None)


def _invited(visit: Visit, name: str, code: str, until: int) -> Response:
    origin = visit.broker.home.config.accounts.origin or f"{visit.request.base_url}".rstrip("/")
    shown = Invitation(name=name, invitation_secret=code, expires_at=until)
    return page(visit, "invited.html", invitation=shown, opens=f"{origin}/invitation")


def _new(visit: Visit, study: str, refusal: LinkageError | None = None) -> Response:
    return page(
        visit,
        "person_new.html",
        status=422 if refusal else 200,
        study=study,
        studies=visit.broker.studies.seen_by(visit.caller),
        choices=list(_choices(visit, study)),
        chosen=set(visit.texts("role")),
        name=visit.text("name"),
        hours=_HOURS,
        usual=_hours(visit) or visit.broker.home.config.accounts.invitation_hours,
        asked=proving.asked(visit),
        refusal=refusal,
    )


def _person(
    visit: Visit,
    account: str,
    study: str,
    refusal: LinkageError | None = None,
    ticked: Sequence[str] | None = None,
) -> Response:
    found = visit.broker.accounts.listed(account)
    given = [(role, role_in_words(role)) for role in found.given]
    more = [one for one in _choices(visit, study) if one[0] not in found.given]
    return page(
        visit,
        "person.html",
        status=422 if refusal else 200,
        found=found,
        kind=KINDS.get(found.state, "off"),
        study=study,
        studies=visit.broker.studies.seen_by(visit.caller),
        choices=[*given, *more],
        chosen=set(found.given if ticked is None else ticked),
        claimed=[role_in_words(role) for role in found.claimed],
        hours=_HOURS,
        usual=visit.broker.home.config.accounts.invitation_hours,
        asked=proving.asked(visit),
        refusal=refusal,
    )


def _choices(visit: Visit, study_id: str) -> Iterator[tuple[str, str]]:
    """Yield every role that somebody may get in a study, and the one that is of none."""
    if study_id:
        known = require_id(study_id)
        grant = visit.broker.studies.grant(visit.caller, Action.READ_STUDY, study_id=known)
        yield from ((role, role_in_words(role)) for role in _roles_in(grant.study))
    yield "auditor", role_in_words("auditor")


def _roles_in(study: RegisteredStudy) -> Iterator[str]:
    yield from (f"steward:{study.id}:{party.id}" for party in study.config.party)
    yield from (f"operator:{study.id}:{name}" for name in study.config.actors)
    yield from (f"{kind}:{study.id}" for kind in ("researcher", "reviewer"))


def role_in_words(text: str) -> str:
    """Return a role, as it is written, in words."""
    role = parse_role(text)
    said = {
        "admin": "Admin of this broker",
        "auditor": "Auditor: reads the audit log; has no other role",
        "steward": f"Steward of {role.party}: decides for it",
        "operator": f"Operator of {role.party}: sees how its uploads are",
        "researcher": "Researcher: asks questions",
        "reviewer": "Reviewer: looks at pairs in doubt",
    }[role.kind]
    return f"{said}, in {role.study_id}" if role.study_id else said
