"""`linkage-site clkhash`: plain CLKs by a clkhash schema, for users of clkhash and anonlink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.errors import SchemaRefused
from sites.terminal import DryRun, Steps, err, show, told, would
from sites.workers import no_core_dumps


@told
def clkhash(
    data: Annotated[Path, typer.Argument(help="CSV; its header is the schema's features.")],
    schema: Annotated[Path, typer.Argument(help="A clkhash v3 linkage schema (JSON).")],
    secret_file: Annotated[Path, typer.Option(help="File with the secret, yours alone to read.")],
    out: Annotated[Path, typer.Option(help="The CLK file to write (JSON).")],
    accept_graph_matching_risk: Annotated[
        bool,
        typer.Option(
            "--accept-graph-matching-risk",
            help="You know that such CLKs can be undone without the secret.",
        ),
    ] = False,
    accept_weaknesses: Annotated[
        bool,
        typer.Option("--accept-weaknesses", help="Encode even by a schema that the lint refuses."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Make plain CLKs as clkhash 0.17.0 does, bit for bit; no part in a hardened study."""
    from sites.interchange import write_clks

    no_core_dumps()
    if not accept_graph_matching_risk:
        raise SchemaRefused(
            "plain CLKs fall to graph matching: whoever has them and a list of the population"
            " finds out who is who, without the secret",
            hint="use a study with profile 'hardened', or say --accept-graph-matching-risk",
        )
    with Steps(quiet=as_json) as steps:
        made = write_clks(
            data,
            schema,
            secret_file,
            None if dry_run else out,
            accept_weaknesses=accept_weaknesses,
            progress=steps.step,
        )
    rows: dict[str, object] = {"records": f"{made.records:,}", "bits set": f"{made.density:.1%}"}
    for weakness in made.weaknesses:
        err.print(f"warning: {weakness}", markup=False, highlight=False, style="bold yellow")
    if dry_run:
        would("write", {"file": out, **rows}, as_json=as_json)
    else:
        show("CLKs made", {"file": out, **rows}, as_json=as_json)
