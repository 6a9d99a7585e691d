"""
`linkage audit`: verify a broker's audit log on any machine, and compare what it showed to parties.

Nothing of the broker is believed: its key comes from the study that the custodian signed, or from
a file whose fingerprint was compared by telephone, and the heads come from the parties.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage.refusals import refusing

if TYPE_CHECKING:
    from linkage.audit_chain import KeptHead, Verdict
    from linkage.sealing import PublicIdentity

app = typer.Typer(
    no_args_is_help=True, help="Verify a broker's audit log, without the broker and without trust."
)

StudyOption = Annotated[
    Path | None, typer.Option("--study", help="The signed study, which pins the broker's key.")
]
CustodianOption = Annotated[
    str | None,
    typer.Option("--custodian", help="The custodian's fingerprint, as read out by telephone."),
]
BrokerOption = Annotated[
    Path | None,
    typer.Option("--broker", help="Instead of --study: the broker's public.json."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


@app.command()
@refusing
def verify(
    file: Annotated[Path, typer.Argument(help="What `linkage-broker audit export` wrote.")],
    heads: Annotated[
        list[Path] | None, typer.Option(help="A party's file of heads; repeat it for every party.")
    ] = None,
    study: StudyOption = None,
    custodian: CustodianOption = None,
    broker: BrokerOption = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="There are no heads: then the broker is believed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find whatever was altered, dropped, inserted, moved or cut off in an exported audit log."""
    from linkage.audit_chain import compare, verify_export

    if not heads and not alone:
        raise typer.BadParameter(
            "give the heads that parties kept: without them nothing finds a log that the broker's"
            " owner wrote and signed anew. If there are none, say --alone",
            param_hint="--heads",
        )
    signer = _signer(study, custodian, broker)
    kept = _read(heads or (), signer)
    compare(kept)
    told = verify_export(file, signer, kept)
    data = told.to_json() | {"broker": signer.fingerprint, "kept_files": len(heads or ())}
    _show(as_json, data, _said(told, signer, len(heads or ())) + _not_compared(study, custodian))


@app.command("compare")
@refusing
def compare_heads(
    heads: Annotated[list[Path], typer.Argument(help="Two or more parties' files of heads.")],
    study: StudyOption = None,
    custodian: CustodianOption = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find out whether the broker showed its parties two histories; needs no log."""
    from linkage.audit_chain import compare

    if len({path.resolve() for path in heads}) < 2:
        raise typer.BadParameter("give the files of two parties or more", param_hint="HEADS")
    signer = _signer(study, custodian, broker)
    files = {path: {one.head.sequence for one in _read((path,), signer)} for path in heads}
    found = compare(_read(heads, signer))
    common = set.intersection(*files.values())
    data = {"files": len(files), "heads": len(found), "in_all_files": len(common)}
    text = [f"{len(found)} different heads in {len(files)} files, all signed; none contradict."]
    if not common:
        text.append("CAUTION: no head is in all the files, so this shows little; fetch newer ones.")
    else:
        text.append(f"The newest head in all of them: {max(common)}; one history up to there.")
    text[-1] += _not_compared(study, custodian)
    _show(as_json, data | {"newest_in_all": max(common, default=None)}, "\n".join(text))


def _signer(study: Path | None, custodian: str | None, broker: Path | None) -> PublicIdentity:
    from linkage.errors import KeyRefused
    from linkage.messages import BROKER
    from linkage.sealing import PublicIdentity
    from linkage.signed_study import load_signed_study

    if (study is None) == (broker is None):
        raise typer.BadParameter(
            "give one of them: the key that signs comes from elsewhere than the log",
            param_hint="--study or --broker",
        )
    if study is not None:
        return load_signed_study(study, custodian_fingerprint=custodian).pin(BROKER)
    assert broker is not None  # noqa: S101 - one of the two is given
    try:
        return PublicIdentity.model_validate_json(broker.read_bytes())
    except (OSError, ValueError):
        raise KeyRefused(
            f"{broker} is no public identity, or cannot be read",
            hint="give the broker's public.json; compare its fingerprint by telephone",
        ) from None


def _not_compared(study: Path | None, custodian: str | None) -> str:
    """Say that the key was believed: whoever made log and heads may have made the study, too."""
    if study is None or custodian is not None:
        return ""
    return (
        "\nCAUTION: whose signed study this is was not compared: hear the custodian's fingerprint"
        " by telephone, and give it with --custodian."
    )


def _read(paths: Sequence[Path], signer: PublicIdentity) -> list[KeptHead]:
    from linkage.audit_chain import read_heads

    return [one for path in paths for one in read_heads(path, signer)]


def _said(told: Verdict, signer: PublicIdentity, files: int) -> str:
    lines = [
        f"{told.entries:,} entries and {told.heads:,} signed heads fit together. Up to entry"
        f" {told.signed:,} nothing was altered, dropped, inserted or moved since the broker signed"
        " it.",
        f"The broker's key: {signer.fingerprint}",
    ]
    if told.newest is not None:
        lines.append(f"Its newest head: number {told.newest.sequence}, {told.newest.moment}.")
    if not told.kept:
        lines.append(
            "CAUTION: the log was compared with no party's heads. Whoever runs the broker could"
            " have written all of it anew."
        )
    elif told.unvouched:
        lines.append(
            f"{told.kept:,} heads of {files} files vouch for the entries up to {told.vouched:,}."
            f" CAUTION: for the {told.unvouched:,} after it there is only the broker's word; ask a"
            " party for newer heads."
        )
    else:
        lines.append(
            f"{told.kept:,} heads of {files} files vouch for all {told.entries:,} entries."
        )
    return "\n".join(lines)


def _show(as_json: bool, data: Any, text: str) -> None:
    typer.echo(json.dumps(data, indent=1) if as_json else text)
