"""`linkage evaluate`: a linkage against the truth, for a terminal, a program and a reader."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from linkage.errors import LinkageError
from linkage.refusals import refusing
from linkage.shown_text import plain

if TYPE_CHECKING:
    from linkage.evaluation.quality import PairQuality
    from linkage.evaluation.quality_fields import FieldErrors
    from linkage.evaluation.scored import Scored

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
_err = Console(stderr=True)
_NARROWEST = 80
"""Columns; a narrower terminal breaks lines, where a table made to fit it would lose digits."""


@refusing
def evaluate(
    links: Annotated[
        Path,
        typer.Argument(
            help="Folder of a rehearsal, or of <party>.csv (record_id,cross_commons_id), or pairs."
        ),
    ],
    truth: Annotated[Path, typer.Argument(help="CSV: one row a person, one column a party.")],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="PARTY=COLUMN", help="The truth's column of a party; repeatable."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="The truth's column of a subgroup; repeatable. Default: all of 2 to 20 values.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Probability from which listed pairs link; default .5."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Pairs with probabilities, beside IDs; default: a rehearsal's pairs.csv."
        ),
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTY=FILE",
            help="A party's records in clear text, to say which fields differ; repeatable.",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="File for the report with plots.")] = None,
    errors: Annotated[
        Path | None,
        typer.Option(help="File for the false and the missed pairs, by record id. Keep it safe."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a linkage: precision, recall, F1, by parties and subgroup; calibration; errors."""
    from linkage.evaluation.quality_fields import read_clear
    from linkage.evaluation.quality_files import read_links, read_truth_file
    from linkage.evaluation.quality_report import page
    from linkage.evaluation.scored import score_links

    columns = _mapping(column or [], "--column", "COLUMN")
    files = _mapping(records or [], "--records", "FILE")
    for path in filter(None, (html, errors)):
        if not path.resolve().parent.is_dir():
            raise LinkageError(f"the folder of {path} is not there", hint="make it first")
        if _is_read(path, links, (truth, pairs, *files.values())):
            raise LinkageError(
                f"{path} is, or would be taken for, one of the files that are scored",
                hint="name another file for --html and --errors",
            )
    with _err.status("reading and scoring", spinner="line"):
        read = read_links(links, pairs)
        for option, named in (("--column", columns), ("--records", files)):
            if strangers := named.keys() - read.records.keys():
                raise LinkageError(
                    f"{option} names {len(strangers)} that are no parties of these links",
                    hint=f"the parties: {', '.join(read.records)}",
                )
        if len(files) == 1:
            raise LinkageError(
                "fields are compared between two parties",
                hint="give --records for another party, too",
            )
        known = read_truth_file(truth, read.records, columns)
        clear = read_clear({party: Path(file) for party, file in files.items()}, read.records)
        scored = score_links(read, known, threshold=threshold, by=by or (), clear=clear)
    if html:
        command = f"linkage evaluate {links.name} {truth.name}"
        html.write_text(page(scored, command=command), encoding="utf-8")
    if errors:
        _write_errors(scored, errors)
    if as_json:
        typer.echo(json.dumps(scored.as_json(), indent=1))
        return
    _say(scored)
    for path in filter(None, (html, errors)):
        typer.echo(path)


def _is_read(path: Path, links: Path, others: Iterable[Path | str | None]) -> bool:
    """Is `path` one of the given files, or a CSV file where each is a party's IDs?"""
    of_ids = links / "ids" if (links / "ids").is_dir() else links
    given = {Path(one).resolve() for one in (links, links / "pairs.csv", *others) if one}
    a_party = path.suffix == ".csv" and path.resolve().parent == of_ids.resolve()
    return a_party or path.resolve() in given


def _mapping(pairs: list[str], option: str, what: str) -> dict[str, str]:
    mapping = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(mapping) or not all(mapping.values()):
        raise typer.BadParameter(f"write PARTY={what}", param_hint=option)
    return mapping


def _write_errors(scored: Scored, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        header = (
            "left_party",
            "left_id",
            "right_party",
            "right_id",
            "error",
            "kind",
            "probability",
        )
        writer.writerow(header)
        for one in scored.wrong:
            for left, right, missed, kind, said in zip(
                one.left_ids,
                one.right_ids,
                one.missed.tolist(),
                one.kind,
                one.probability.tolist(),
                strict=True,
            ):
                error = "missed" if missed else "false"
                shown = "" if said != said else f"{said:.6g}"
                writer.writerow([one.left, left, one.right, right, error, kind, shown])


def _say(scored: Scored) -> None:
    from linkage.evaluation.quality_fields import lacking

    console = Console()
    console.width = max(console.width, _NARROWEST)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    quality = scored.quality
    rates = [Column(name, min_width=11) for name in ("precision", "recall", "F1")]
    table = Table("parties", *rates, "false", "missed", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for pair in quality.pairs:
        table.add_row(Text(plain(f"{pair.left} - {pair.right}")), *_cells(pair))
    if len(quality.pairs) > 1:
        table.add_section()
        table.add_row("all", *_cells(quality.overall))
    whole = quality.overall
    table.caption = f"{whole.found:,} pairs found, {whole.true:,} true; 95 % intervals by Wilson"
    console.print(table)
    if scored.groups:
        console.print(_group_table(scored))
    for what, kinds in (("false links", scored.false), ("missed links", scored.missed)):
        told = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
        line(f"{what}: {told or 'none'}")
    for found in scored.fields:
        console.print(_field_table(found))
        line(f"not the same in missed pairs: {lacking(found)}")
    for name, one in scored.calibration.items():
        best = scored.curves[name].best
        line(
            f"{name}: calibration error {one.error:.4f}, Brier {one.brier:.4f}; best threshold"
            f" with hindsight {best.threshold:.3f}, F1 {best.f1:.4f}"
        )
    for note in scored.notes:
        line(f"note: {note}")


def _group_table(scored: Scored) -> Table:
    heads = ("persons", "precision", "recall", "F1", "95 %", "false", "missed")
    table = Table("subgroup", *heads, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    before = ""
    for group in scored.groups:
        if group.column != before:
            if before:
                table.add_section()
            table.add_row(Text(plain(group.column.replace("_", " "))))
            before = group.column
        pair = group.overall
        low, high = pair.f1_interval
        table.add_row(
            Text(plain(f"  {group.value}")),  # a string's [letters] would be a tag, and vanish
            f"{group.people:,}",
            *(f"{rate:.4f}" for rate in (pair.precision, pair.recall, pair.f1)),
            f"{low:.3f}-{high:.3f}",
            f"{pair.false:,}",
            f"{pair.missed:,}",
        )
    return table


def _field_table(found: FieldErrors) -> Table:
    from linkage.evaluation.quality_fields import DIFFERS, MISSING, SAME

    heads = ("missed:\ndiffers", "\nmissing", "\nsame", "false:\nsame", "\ndiffers", "\nmissing")
    parties = Text(f"{plain(found.left)} -\n{plain(found.right)}")
    table = Table(Column(parties), *heads, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for field, states in found.missed.items():
        counts = [states[state] for state in (DIFFERS, MISSING, SAME)]
        counts += [found.false[field][state] for state in (SAME, DIFFERS, MISSING)]
        table.add_row(Text(plain(field.replace("_", " "))), *(f"{count:,}" for count in counts))
    return table


def _cells(pair: PairQuality) -> list[str]:
    rates = [
        (pair.precision, pair.precision_interval),
        (pair.recall, pair.recall_interval),
        (pair.f1, pair.f1_interval),
    ]
    shown = [f"{rate:.4f}\n{low:.3f}-{high:.3f}" for rate, (low, high) in rates]
    return [*shown, f"{pair.false:,}", f"{pair.missed:,}"]
