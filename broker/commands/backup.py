"""`linkage-broker backup` and `linkage-broker restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.console import HomeOption, JsonOption, home_at, show


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for it.")],
    home: HomeOption,
    link: Annotated[
        bool, typer.Option("--link", help="Link blobs on the same disk instead of copying them.")
    ] = False,
    with_key: Annotated[
        Path | None, typer.Option(help="Also copy the private keys, to this new folder elsewhere.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Back up databases, blobs and settings, while the broker runs; without the private key."""
    from broker.backup import back_up

    made = back_up(home_at(home), folder, link=link, keys_to=with_key)
    told = {
        "folder": str(made.path),
        "digest": made.digest,
        "files": made.files,
        "bytes": made.size,
        "audit_head": made.head,
        "signed": made.signed,
    }
    signed = (
        "It is signed by the broker."
        if made.signed
        else "It is NOT signed: the broker's key is not here. `restore` then wants the digest."
    )
    key = "The private key is not in it." if with_key is None else f"The keys are in {with_key}."
    show(
        as_json,
        told,
        f"Backed up {made.files} files, {made.size / 1e6:.1f} MB. {signed} {key}\n"
        f"Keep this digest elsewhere; `restore --digest` compares it:\n  {made.digest}",
    )


def restore(
    folder: Annotated[Path, typer.Argument(help="A backup.")],
    home: HomeOption,
    digest: Annotated[str | None, typer.Option(help="What `backup` printed.")] = None,
    keys: Annotated[Path | None, typer.Option(help="What `backup --with-key` made.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The broker's, as the signed studies have it.")
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Take a backup that nobody signed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new home from a backup; signature, every digest and the audit log are verified."""
    from broker.restore import restore as put_back

    done = put_back(
        folder, home, digest=digest, keys=keys, fingerprint=fingerprint, unsigned=unsigned
    )
    told = {
        "home": str(home),
        "audit_head": done.head,
        "blobs": done.blobs,
        "key": done.can_open,
        "signed_by": done.signed_by,
    }
    lines = [
        f"Restored into {home}: {done.blobs} packages, an audit log of"
        f" {done.head.partition(':')[0]} entries.",
        f"Signed by the broker with the fingerprint {done.signed_by}."
        + ("" if fingerprint or keys or digest else " Compare it with a signed study.")
        if done.signed_by
        else "The backup is not signed.",
        "Before you start it: revoke and suspend again whoever was since the backup, and tell the",
        "parties; their clients stop at the log's lost end (docs/operations.md).",
    ]
    if not done.can_open:
        lines.append(f"Put the private key at {done.home.identity_file}, owner-only.")
    if not done.home.accounts_key_file.exists():
        lines.append(
            f"Put the accounts key at {done.home.accounts_key_file} before any other command:"
            " without it a new one is made, and people with a second factor are invited anew."
        )
    show(as_json, told, "\n".join(lines))
