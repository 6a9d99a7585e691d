"""People who may sign in: an admin sees them, invites them, and says what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from broker.person_roles import parse_roles
from broker.policy import Action, Grant
from broker.routes.common import Address, May, Services
from linkage.account_messages import (
    AccountInvited,
    AccountReset,
    AccountRoles,
    AccountState,
    AccountSwitch,
    Invitation,
    Proof,
)

router = APIRouter(prefix="/v1/accounts")

Reading = Annotated[Grant, Depends(May(Action.READ_ACCOUNTS))]
Changing = Annotated[Grant, Depends(May(Action.CHANGE_ACCOUNTS, proved=True))]


def prover(
    request: Request, grant: Changing, broker: Services, address: Address
) -> Callable[[Proof], str]:
    """Give what has the caller prove anew who it is, and then says who that is for the log."""

    def prove(proof: Proof) -> str:
        broker.door.prove(request.headers, grant.caller, proof, address=address)
        return grant.caller.actor

    return prove


Proved = Annotated[Callable[[Proof], str], Depends(prover)]


@router.get("")
def accounts(_: Reading, broker: Services) -> list[AccountState]:
    """Return every account by name: state, roles, second factor."""
    return [one.shown for one in broker.accounts.all()]


@router.post("", status_code=201)
def invite(body: AccountInvited, proved: Proved, broker: Services) -> Invitation:
    """Make an account; the answer holds the code that opens it, this once."""
    roles = parse_roles(body.roles)
    by = proved(body.proof)
    code, until = broker.accounts.invite(body.name, roles, hours=body.hours, by=by)
    return Invitation(name=body.name, invitation_secret=code, expires_at=until)


@router.post("/{account}/reset")
def reset(account: str, body: AccountReset, proved: Proved, broker: Services) -> Invitation:
    """Take password, second factor and sessions away; the answer holds a new code, this once."""
    by = proved(body.proof)
    code, until = broker.accounts.reset(account, hours=body.hours, by=by)
    return Invitation(name=account, invitation_secret=code, expires_at=until)


@router.post("/{account}/roles")
def set_roles(account: str, body: AccountRoles, proved: Proved, broker: Services) -> AccountState:
    """Replace the roles that were given here; at once, also in open sessions."""
    roles = parse_roles(body.roles)
    broker.accounts.set_roles(account, roles, by=proved(body.proof))
    return broker.accounts.listed(account).shown


@router.post("/{account}/disable")
def disable(account: str, body: AccountSwitch, proved: Proved, broker: Services) -> AccountState:
    """End an account's sessions now, and let it sign in no more."""
    broker.accounts.disable(account, by=proved(body.proof))
    return broker.accounts.listed(account).shown


@router.post("/{account}/enable")
def enable(account: str, body: AccountSwitch, proved: Proved, broker: Services) -> AccountState:
    """Let a disabled or locked account sign in again."""
    broker.accounts.enable(account, by=proved(body.proof))
    return broker.accounts.listed(account).shown
