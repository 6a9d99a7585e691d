"""`linkage-broker account`: people who sign in. An admin invites; the person does the rest."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from broker.console import HomeOption, JsonOption, services, show

if TYPE_CHECKING:
    from broker.person_roles import PersonRole
    from broker.services.accounts import Listed

account = typer.Typer(help="People who sign in, and their roles.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The account's name, as the person types it.")]
RoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="admin, auditor, steward:STUDY:PARTY, operator:STUDY:PARTY, researcher:STUDY or"
        " reviewer:STUDY; repeat.",
    ),
]
_GIVE = "`linkage-broker account roles {} --role ROLE` gives some."
HoursOption = Annotated[
    int | None, typer.Option(help="How long the invitation is good; else as configured.", min=1)
]


@account.command("invite")
def account_invite(
    name: Name,
    home: HomeOption,
    role: RoleOption = None,
    hours: HoursOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account and print its one-time invitation, once."""
    code, until = services(home).accounts.invite(name, _roles(role), hours=hours)
    later = "" if role else f"{name} has no role yet, and may do nothing: {_GIVE.format(name)}"
    _show_invitation(name, code, until, as_json, later)


@account.command("reset")
def account_reset(
    name: Name, home: HomeOption, hours: HoursOption = None, as_json: JsonOption = False
) -> None:
    """Take password, second factor and sessions away, and print a new invitation."""
    code, until = services(home).accounts.reset(name, hours=hours)
    _show_invitation(name, code, until, as_json)


@account.command("roles")
def account_roles(name: Name, home: HomeOption, role: RoleOption = None) -> None:
    """Replace the roles that were given here; without --role, take all of them."""
    services(home).accounts.set_roles(name, _roles(role))
    typer.echo(f"{name} is now: {', '.join(role or []) or 'nothing'}.")


@account.command("list")
def account_list(home: HomeOption, as_json: JsonOption = False) -> None:
    """List the accounts with state, roles and second factor."""
    rows = services(home).accounts.all()
    shown = [
        {
            "name": row.name,
            "state": row.state,
            "roles": row.roles,
            "second_factor": row.second_factor,
            "provider": row.provider,
        }
        for row in rows
    ]
    lines = [
        f"{row.name}  {row.state}  {', '.join(row.roles) or 'no role'}"
        + (f"  by {row.provider}" if row.provider else _without(row))
        for row in rows
    ]
    show(
        as_json, shown, "\n".join(lines) or "There is no account: `linkage-broker account invite`."
    )


@account.command("disable")
def account_disable(name: Name, home: HomeOption) -> None:
    """End an account's sessions now, and let it sign in no more."""
    services(home).accounts.disable(name)
    typer.echo(f"{name} is disabled; its sessions have ended.")


@account.command("enable")
def account_enable(name: Name, home: HomeOption) -> None:
    """Let a disabled or locked account sign in again."""
    accounts = services(home).accounts
    accounts.enable(name)
    state = accounts.listed(name).state
    said = {
        "active": "may sign in again.",
        "invited": "may open the invitation again.",
    }.get(state, f"is enabled, and needs a new invitation: `linkage-broker account reset {name}`.")
    typer.echo(f"{name} {said}")


def _without(row: Listed) -> str:
    return "  without TOTP" if row.state == "active" and not row.second_factor else ""


def _roles(texts: list[str] | None) -> list[PersonRole]:
    from broker.person_roles import parse_roles

    return parse_roles(texts or [])


def _show_invitation(name: str, code: str, until: int, as_json: bool, later: str = "") -> None:
    day = dt.datetime.fromtimestamp(until, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = (
        f"Invitation for {name}, good once, until {day}:\n  {code}\n"
        "It is shown this once. Give it to the person by a way that only the person reads, who"
        " types it into the portal, at /invitation of the broker's address."
    )
    text += f"\n{later}" if later else ""
    show(as_json, {"name": name, "invitation": code, "expires_at": until}, text)
