"""`linkage-site id check`: is this cross-commons ID copied right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.errors import SourceRefused
from sites.terminal import DryRun, show, told

app = typer.Typer(no_args_is_help=True, help="Cross-commons IDs: find a mistyped one.")
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
_SHOWN = 20


@app.callback()
def _group() -> None:
    """Cross-commons IDs: find a mistyped one."""


@app.command()
@told
def check(
    what: Annotated[
        str,
        typer.Argument(help="An ID, or a CSV with a column cross_commons_id.", metavar="FILE|ID"),
    ],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Find mistyped IDs by their check character. Corrects nothing, and asks nobody."""
    from sites.id_check import check_all, check_file

    path = Path(what)
    is_file = path.is_file()
    if not is_file and ("/" in what or "." in what):
        raise SourceRefused(file=path.name, rule="there is no such file", hint="check the path")
    found = check_file(path) if is_file else check_all([what])
    bad = dict((*found.wrong, *found.otherwise))
    rows: dict[str, object] = {"IDs checked": f"{found.checked:,}"}
    if is_file:
        rows |= {"wrong": len(found.wrong), "written otherwise": len(found.otherwise)}
    label = "row {}" if is_file else "this ID"
    for row in sorted(bad)[:_SHOWN]:
        rows[label.format(row)] = bad[row]
    if len(bad) > _SHOWN:
        rows["and"] = f"{len(bad) - _SHOWN:,} more"
    if dry_run:
        rows["dry run"] = "as always: this command only checks"
    data = {
        "checked": found.checked,
        "wrong": [{"row": row, "why": why} for row, why in found.wrong],
        "otherwise": [{"row": row, "why": why} for row, why in found.otherwise],
    }
    if is_file or as_json or not found.wrong:
        title = "Some IDs are wrong" if found.wrong else "Every ID holds"
        show(title, rows, as_json=as_json, data=data)
    if found.wrong:
        raise SourceRefused(
            file=path.name if is_file else "this ID",
            rule=(
                f"{len(found.wrong):,} of {found.checked:,} IDs do not hold"
                if is_file
                else found.wrong[0][1]
            ),
            hint="copy them again from where they were given out; no ID is corrected by guessing",
        )
