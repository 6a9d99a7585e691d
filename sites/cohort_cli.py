"""
`linkage-cohort`: ask for a linked cohort, decide about one, follow it.

A researcher validates and requests; a steward approves or denies; the enclave's data manager
orders the delivery. What each site then does is `linkage-site answer`, `counts` and `join`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from linkage.program import Program
from linkage.shown_text import plain_lines
from sites.commands import report
from sites.commands.offer import concepts
from sites.commands.question import register
from sites.terminal import DryRun, out, show, told

app = Program(
    help="Ask for a linked imaging and clinical cohort, decide about it, follow it.",
)
SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
Spec = Annotated[Path, typer.Argument(help="The cohort specification (TOML or JSON).")]
Question = Annotated[str, typer.Argument(help="The question's ID.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
@told
def validate(spec: Spec, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Check a specification and say in words what will be asked of whom. Sends nothing."""
    from linkage.cohort.spec import load_spec
    from linkage.cohort.spec_notes import oddities
    from linkage.cohort.spec_words import explain, in_words

    loaded, notes = load_spec(spec), oddities(spec)
    if not as_json:
        out.print(Text(plain_lines(explain(loaded))), soft_wrap=True)
    rows: dict[str, object] = {f"note {n}": note for n, note in enumerate(notes, start=1)}
    if dry_run:
        rows["dry run"] = "as always: this command only checks"
    told_to_programs = {**in_words(loaded), "notes": notes}
    show(f"{spec} is acceptable", rows, as_json=as_json, data=told_to_programs)


@app.command()
@told
def schema(
    out_file: Annotated[Path | None, typer.Option("--out", help="A JSON file to write.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Print the JSON Schema of specifications, for an editor or a program that writes them."""
    from linkage.cohort.spec_schema import schema_text

    text = schema_text()
    if out_file is None or dry_run:
        typer.echo(text, nl=False)
        return
    out_file.write_text(text, encoding="utf-8")
    show("Schema written", {"file": out_file})


register(app)
app.command()(concepts)
report.register(app)


if __name__ == "__main__":
    app()
