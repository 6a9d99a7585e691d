"""`linkage-broker upload`: what parties sent, what is in quarantine, how much they may keep."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.console import HomeOption, JsonOption, granted, home_at, services, show

if TYPE_CHECKING:
    from broker.services.quotas import Usage
    from broker.store.studies import DatasetRow

_MB = 1_000_000
upload = typer.Typer(help="Uploads: quarantine, quotas, the store.", no_args_is_help=True)


@upload.command("list")
def upload_list(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List every dataset version: its state, and why it is in quarantine."""
    from broker.policy import Action

    broker = services(home)
    rows = broker.uploads.all(granted(broker, Action.READ_STORAGE, study_id))
    lines = "\n".join(map(_line, rows)) or "Nobody has announced a dataset version yet."
    show(as_json, [_data(row) for row in rows], lines)


@upload.command("recheck")
def upload_recheck(
    study_id: str,
    uploader: Annotated[str, typer.Argument(help="The party or contributor that sent it.")],
    home: HomeOption,
    dataset: Annotated[
        int | None, typer.Option(min=1, help="Dataset version; default: the newest.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have the worker open a version again; nothing else lifts a quarantine but a newer version."""
    from broker.policy import Action

    broker = services(home)
    grant = granted(broker, Action.CHANGE_STORAGE, study_id)
    state = broker.uploads.recheck(grant, uploader, dataset)
    text = (
        f"The worker opens dataset version {state.dataset} of {uploader} again;"
        f" `linkage-broker upload list {study_id}` shows what it finds."
    )
    show(as_json, state.model_dump(mode="json"), text)


@upload.command("usage")
def upload_usage(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """Show how much the study and each party keep here, and how much they may."""
    from broker.policy import Action

    broker = services(home)
    found = broker.quotas.usage(granted(broker, Action.READ_STORAGE, study_id))
    show(as_json, [asdict(one) for one in found], "\n".join(map(_used, found)))


@upload.command("quota")
def upload_quota(
    study_id: str,
    megabytes: Annotated[int, typer.Argument(min=0, help="Millions of bytes; 0: nothing more.")],
    home: HomeOption,
    party: Annotated[
        str, typer.Option(help="One party with its contributors; default: the study as a whole.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Set a quota for the study, or for one party; what is here already stays."""
    from broker.policy import Action

    broker = services(home)
    grant = granted(broker, Action.CHANGE_STORAGE, study_id)
    usage = broker.quotas.set(grant, party, megabytes * _MB)
    show(as_json, asdict(usage), _used(usage))


@upload.command("check-store")
def upload_check_store(home: HomeOption) -> None:
    """Try the store of packages: list it, place a blob, read and delete it."""
    from broker.blobs import Blobs

    found = home_at(home)
    Blobs.at(found).store.require_usable()
    where = found.config.blobs.url or str(found.blobs)
    typer.echo(f"{where} can be listed, written and deleted from.")


def _data(row: DatasetRow) -> dict[str, Any]:
    manifest = json.loads(row.manifest)
    return {
        "uploader": row.uploader,
        "dataset": row.number,
        "epoch": row.epoch,
        "state": row.state,
        "records": manifest["records"],
        "bytes": row.bytes,
        "completed_at": row.completed_at,
        "checked_at": row.checked_at,
        "quarantine": row.quarantine,
    }


def _line(row: DatasetRow) -> str:
    told = _data(row)
    line = (
        f"{row.uploader}  version {row.number}  {row.state}"
        f"  {told['records']:,} records, {row.bytes / _MB:,.1f} MB"
    )
    if row.completed_at:
        line += f"  complete {_day(row.completed_at)}"
    if row.state == "complete" and row.checked_at is None:
        line += "  not opened yet"
    if row.state == "quarantined" and row.checked_at is None:
        line += "  to be opened again"
    return f"{line}\n    {row.quarantine}" if row.state == "quarantined" else line


def _used(usage: Usage) -> str:
    used = (usage.datasets + usage.other) / _MB
    share = f"{used / (usage.quota / _MB):.0%}" if usage.quota else "over its quota"
    origin = "set for it" if usage.set_by_admin else "as config.toml says"
    line = (
        f"{usage.party or 'the whole study'}  {used:,.1f} of {usage.quota / _MB:,.0f} MB ({share})"
        f"  {usage.datasets / _MB:,.1f} MB of datasets; quota {origin}"
    )
    return line if usage.left else f"{line}; full: of all uploads only opt-out lists are taken"


def _day(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
