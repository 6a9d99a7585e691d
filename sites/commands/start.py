"""
`linkage-site init`: from a few answers and a first look at the source to a commented site file.

On a terminal it asks; in a pipe everything must be given, and --yes says so. It shows names of
columns and shares of values, never a value.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage.errors import LinkageError, SiteRefused, SourceRefused
from linkage.strict_toml import Fault
from linkage.study import identifier
from sites.terminal import DryRun, err, out, show, told, would

if TYPE_CHECKING:
    from sites.guide import Draft, Look

KINDS = ("delimited", "parquet", "fhir", "omop", "sql", "dicom")


@told
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder for this site.")] = Path(),
    party: Annotated[str, typer.Option(help="Your party id in the study.")] = "",
    contributor: Annotated[
        str, typer.Option(help="Your own id, where you tokenize for a commons: the party.")
    ] = "",
    source: Annotated[str, typer.Option(help="A file, a folder, or a URL without password.")] = "",
    url_file: Annotated[
        Path | None, typer.Option(help="In place of --source: a file of mode 600 with the URL.")
    ] = None,
    kind: Annotated[str, typer.Option(help=f"{', '.join(KINDS)}; default: found out.")] = "",
    query: Annotated[str, typer.Option(help="The SELECT, for kind sql.")] = "",
    pii_table: Annotated[str, typer.Option(help="The table of names, for kind omop.")] = "",
    record_id: Annotated[str, typer.Option(help="Column of the record id.")] = "",
    date_format: Annotated[str, typer.Option(help='Like "MM/DD/YYYY"; default: found out.')] = "",
    broker: Annotated[str, typer.Option(help="The broker's URL.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing; refuse what is doubtful.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Look at a source, ask a few questions, and write a commented site file."""
    from linkage.whole_file import write_whole
    from sites import guide

    path = folder / "site.toml"
    if path.exists():
        raise SiteRefused(
            file=str(path),
            line=0,
            key="",
            rule="exists and is not overwritten",
            hint="change it by hand, or choose another folder",
        )
    ask = _Asker(yes=yes)
    party = party or ask.text("Your party id in the study", option="--party", check=identifier)
    place = _place(source, url_file, ask)
    kind = _kind(kind, "://" if url_file else place, ask)
    raw = _table(kind, place, folder, url_file)
    more = {"record_id": record_id, "date_format": date_format}
    if kind == "sql":
        more["query"] = query or ask.text("The SELECT that gives your records", option="--query")
    if kind == "omop":
        table = pii_table or ask.text("Table of names, by person_id (empty: none)", default="")
        more["pii_table"] = table
    raw |= {key: value for key, value in more.items() if value}
    draft = guide.Draft(party, raw, broker, contributor)
    _require_header(draft, folder, place, ask)
    seen = guide.look(draft, folder)
    _tell(kind, seen)
    draft, seen = _settled(draft, seen, folder, ask)
    text = guide.site_file(draft, seen)
    if dry_run:
        would("write", {"file": path})
        typer.echo(text)
        return
    ask.confirm(f"Write {path}?")
    write_whole(path, text)
    rows: dict[str, object] = {"look through": path}
    private = shlex.quote(str(folder / "private"))
    rows["next"] = f"linkage-site keys identity {private} --name {contributor or party}"
    show("Site file written", rows)


class _Asker:
    """Asks on a terminal; elsewhere says which option is missing (exit code 2)."""

    def __init__(self, *, yes: bool) -> None:
        self.asks = not yes and sys.stdin.isatty()
        self._yes = yes

    def text(
        self,
        question: str,
        *,
        option: str = "",
        default: str | None = None,
        check: Callable[[str], object] = str,
    ) -> str:
        while self.asks:
            shown = bool(default)
            said = str(typer.prompt(question, default=default, show_default=shown)).strip()
            try:
                check(said)
            except Fault as fault:
                err.print(f"{fault.rule}: {fault.hint}", highlight=False, markup=False)
            except LinkageError as fault:
                err.print(f"{fault.message}: {fault.hint}", highlight=False, markup=False)
            else:
                return said
        if default is not None:
            return default
        raise _usage(f"{option} is needed where there is no terminal to ask")

    def sure(self, question: str) -> bool:
        """Return whether somebody says yes; nobody does where there is no terminal."""
        return self.asks and typer.confirm(question, default=False)

    def confirm(self, question: str) -> None:
        if self.asks:
            if not typer.confirm(question, default=True):
                out.print("Nothing was written.")
                raise typer.Exit(0)
        elif not self._yes:
            raise _usage("--yes is needed where there is no terminal to ask")


def _usage(rule: str) -> typer.Exit:
    err.print(f"[bold red]Error:[/] {rule}", highlight=False, soft_wrap=True)
    return typer.Exit(2)


def _place(source: str, url_file: Path | None, ask: _Asker) -> str:
    if url_file is not None:
        if source:
            raise _usage("give either --source or --url-file")
        return str(url_file)
    from sites import guide

    question = "Your records: a file, a folder or a database URL"
    return source or ask.text(question, option="--source", check=guide.kind_of)


def _kind(kind: str, place: str, ask: _Asker) -> str:
    from sites import guide

    if not kind:
        kind = ask.text("Kind of source", default=guide.kind_of(place), check=_known_kind)
    if kind not in KINDS:
        raise _usage(f"--kind is one of {', '.join(KINDS)}")
    return kind


def _known_kind(kind: str) -> None:
    if kind not in KINDS:
        raise Fault("there is no such kind", f"one of {', '.join(KINDS)}")


def _table(kind: str, place: str, folder: Path, url_file: Path | None) -> dict[str, Any]:
    """Return the start of [source]; a path below the folder is written relative to it."""
    raw: dict[str, Any] = {"kind": kind}
    if "://" in place:
        return {**raw, "url": place}
    path = Path(place).resolve()
    if path.is_relative_to(folder.resolve()):
        path = path.relative_to(folder.resolve())
    return {**raw, "url_file" if url_file else "folder" if kind == "dicom" else "file": path}


def _tell(kind: str, seen: Look) -> None:
    rows: dict[str, object] = {"kind": kind}
    for number, note in enumerate(seen.notes):
        rows["found" if not number else " " * (number + 1)] = note
    if seen.record_id:
        rows["record_id"] = f"column {seen.record_id!r}"
    for name in seen.fields:
        share = f"{seen.filled[name]:.0%} have one" if name in seen.filled else ""
        column = f"column {seen.columns[name]!r}" if name in seen.columns else ""
        rows[name] = ", ".join(part for part in (column, share) if part)
    for name, at in seen.doubtful.items():
        rows[name] = f"columns {' and '.join(map(str, at))} could be it"
    if seen.others:
        rows["not used"] = ", ".join(seen.others)
    if seen.date_formats:
        rows["dates"] = " or ".join(seen.date_formats)
    show(f"Looked at {seen.records:,} records" if seen.records else "Looked at the columns", rows)


def _require_header(draft: Draft, folder: Path, place: str, ask: _Asker) -> None:
    """Raise SourceRefused where row 1 looks like a record, unless somebody knows better."""
    from sites import guide

    doubt = guide.like_a_record(draft, folder)
    if doubt and not ask.sure(
        f"Row 1 looks like a record ({doubt}). Is it the header all the same?"
    ):
        raise SourceRefused(
            file=Path(place).name,
            rule=f"row 1 looks like a record and not like a header: {doubt}",
            hint="row 1 must hold the names of the columns: export the file again with them",
        )


def _settled(draft: Draft, seen: Look, folder: Path, ask: _Asker) -> tuple[Draft, Look]:
    """Settle what the look left in doubt: by asking, else by refusing to guess."""
    from sites import guide

    if seen.header and not seen.record_id:
        name = _column("record_id", seen, ask, option="--record-id")
        draft = replace(draft, source={**draft.source, "record_id": name})
        seen = guide.look(draft, folder)
    if ask.asks and seen.doubtful:
        named = {name: _column(name, seen, ask) for name in seen.doubtful}
        draft = replace(draft, source={**draft.source, "columns": named})
        seen = guide.look(draft, folder)
    if seen.text_dates and "date_format" not in draft.source:
        seen.date_formats = [_date_format(seen, ask)]
    return draft, seen


def _column(name: str, seen: Look, ask: _Asker, *, option: str = "") -> str:
    numbers = seen.doubtful.get(name) or range(1, len(seen.header) + 1)
    for number in numbers if ask.asks else []:
        out.print(f"  {number}  {seen.header[number - 1].strip()}", highlight=False, markup=False)
    chosen = ask.text(f"Number of the column for {name}", option=option)
    if not (chosen.isdecimal() and 1 <= int(chosen) <= len(seen.header)):
        raise _usage(f"that is no number from 1 to {len(seen.header)}")
    return seen.header[int(chosen) - 1].strip()


def _date_format(seen: Look, ask: _Asker) -> str:
    from linkage.encoding.date_formats import readable_format

    found = seen.date_formats
    if ask.asks:
        if len(found) > 1:
            out.print("The days seen fit several formats alike: look which one it is.")
        elif not found:
            out.print("No usual format fits: write it like DD/MM/YYYY, as the dates stand there.")
        # Where the days cannot tell, Enter must not choose for them.
        default = found[0] if len(found) == 1 else None
        return ask.text("Date format", default=default, check=readable_format)
    if len(found) == 1:
        return found[0]
    raise SourceRefused(
        file="date_of_birth",
        rule=f"fits {' and '.join(found) or 'no usual format'}",
        hint='say which: --date-format "MM/DD/YYYY", or as the dates stand there',
    )
