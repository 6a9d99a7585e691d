"""`linkage-broker admin`: who may administer this broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.console import HomeOption, JsonOption, bytes_of, services, show

admin = typer.Typer(help="Admins of this broker.", no_args_is_help=True)


@admin.command("add")
def admin_add(
    name: str,
    public_key: Annotated[Path, typer.Option(help="The admin's public identity, a JSON file.")],
    home: HomeOption,
) -> None:
    """Let an admin sign in with its key."""
    added = services(home).admins.add(name, bytes_of(public_key))
    typer.echo(f"Admin {name} is added. Compare its fingerprint by telephone: {added.fingerprint}")


@admin.command("list")
def admin_list(home: HomeOption, as_json: JsonOption = False) -> None:
    """List the admins."""
    rows = services(home).admins.all()
    shown = [{"name": r.name, "active": r.revoked_at is None} for r in rows]
    text = "\n".join(f"{r['name']}  {'active' if r['active'] else 'revoked'}" for r in shown)
    show(as_json, shown, text or "There is no admin yet: `linkage-broker admin add`.")


@admin.command("revoke")
def admin_revoke(name: str, home: HomeOption) -> None:
    """End an admin's access at once."""
    services(home).admins.revoke(name)
    typer.echo(f"Admin {name} is revoked.")
