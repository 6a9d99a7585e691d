"""`linkage-broker audit`: the audit log, its signed heads, and its export for an auditor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.console import HomeOption, JsonOption, home_at, show
from linkage.errors import PackageRefused

if TYPE_CHECKING:
    from broker.config import Home
    from broker.store.engine import Connection
    from linkage.audit_chain import KeptHead, Verdict

audit = typer.Typer(help="The audit log.", no_args_is_help=True)

HeadsOption = Annotated[
    list[Path] | None, typer.Option("--heads", help="A party's file of heads; repeat.")
]


@audit.command("verify")
def audit_verify(
    home: HomeOption,
    heads: HeadsOption = None,
    head: Annotated[str | None, typer.Option(help="A line of `audit head`: number:hash.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the audit log and its signed heads; with heads kept elsewhere, find a cut-off end."""
    from broker import audit as audit_log
    from broker import audit_heads

    found = home_at(home)
    signer = found.public()
    kept = _kept(heads or [], found)
    with _reading(found) as connection:
        told = audit_heads.verify(connection, signer, kept)
        if head is not None:
            audit_log.verify(connection, head=head)
    text = f"The audit log holds {told.entries} entries and fits together. {_said(told)}"
    show(as_json, told.to_json(), f"{text} Head: {told.entries}:{told.hash}")


@audit.command("head")
def audit_head(home: HomeOption, as_json: JsonOption = False) -> None:
    """Print the log's newest entry as number:hash; keep it outside this machine."""
    from broker import audit as audit_log

    with _reading(home_at(home)) as connection:
        found = audit_log.newest(connection)
    show(as_json, {"number": found.number, "hash": found.hash}, str(found))


@audit.command("sign")
def audit_sign(home: HomeOption) -> None:
    """Sign a head now and print it, a line for files of heads; needs the worker's private key."""
    from broker.audit_heads import HeadSigner
    from broker.container import Broker
    from broker.keys import key_holder_of

    found = home_at(home)
    broker = Broker.at(found)
    identity = key_holder_of(found)
    signer = HeadSigner(broker.database, identity, every=found.config.worker.head_seconds)
    typer.echo(signer.sign().canonical().decode())


@audit.command("export")
def audit_export(
    out: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Write the whole log with its heads, for `linkage audit verify` on any machine."""
    from broker import audit_heads
    from linkage.audit_chain import export_lines, verify_export

    found = home_at(home)
    signer = found.public()
    try:
        with _reading(found) as connection, out.open("xb") as file:
            file.writelines(export_lines(signer, audit_heads.walk(connection)))
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        raise PackageRefused(
            f"{out} cannot be written ({type(fault).__name__})",
            hint="give a new file in a folder that exists; is the disk full?",
        ) from None
    # Only after all of it is written: an altered log is evidence, too.
    told = verify_export(out, signer)
    text = f"{told.entries} entries and {told.heads} signed heads are in {out}. It fits together."
    show(as_json, {"file": str(out)} | told.to_json(), text)


@contextmanager
def _reading(home: Home) -> Iterator[Connection]:
    from broker.container import Broker

    with Broker.at(home).database.read() as connection:
        yield connection


def _kept(paths: list[Path], home: Home) -> list[KeptHead]:
    from linkage.audit_chain import compare, read_heads

    kept = [one for path in paths for one in read_heads(path, home.public())]
    compare(kept)
    return kept


def _said(told: Verdict) -> str:
    if told.newest is None:
        return "No head is signed yet: a worker signs one when it starts."
    newest = f"{told.heads} signed heads, the newest of {told.newest.moment}."
    if not told.kept:
        return f"{newest} It was not compared with heads that parties keep (--heads)."
    return (
        f"{newest} {told.kept} heads kept elsewhere vouch for the entries up to {told.vouched};"
        f" {told.unvouched} came later."
    )
