"""
The profile on a terminal: verdict first, then what to do, then the tables behind it.

    print_profile(report, console)

Fits 80 columns. Everything printed comes from `ProfileReport`, where nothing is that must not be
shown; texts of the source (names of groups, common values) are printed without markup or control
characters.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from linkage.shown_text import plain
from sites.profiling.report import NO_STUDY, Effect, FieldReport, PartyReport, ProfileReport
from sites.profiling.subgroups import SubgroupTable
from sites.profiling.words import percent, records

_COLOURS = {"stops": "bold red", "fix": "yellow", "look": "cyan"}
_REASONS = 6
"""Reasons shown of a field; JSON has them all."""


def print_profile(report: ProfileReport, console: Console) -> None:
    """Print a report. Nothing is highlighted by guess, so a pipe gets plain text."""
    for part in _parts(report):
        console.print(part, highlight=False)


def _parts(report: ProfileReport) -> Iterable[RenderableType]:
    yield Text.assemble(
        (f"Profile of {plain(report.source)}", "bold"), f", {records(report.records)}"
    )
    first = report.findings[0].weight if report.findings else "look"
    yield Text(report.verdict, style=_COLOURS[first] if report.findings else "bold green")
    for note in report.notes:
        yield Text(f"Note: {plain(note)}", style="dim")
    if report.findings:
        yield _findings(report)
    if report.fields and report.records:
        yield _heading("Fields", "share of all records")
        yield _fields(report)
        if reasons := _reasons(report):
            yield _heading("Why", "records by the rule that decided")
            yield reasons
        if common := _common(report.fields):
            yield _heading("Commonest values", "of ten different records or more")
            yield common
    if report.effect and report.records:
        yield from _effect(report.effect, report.records)
    if not report.effect:
        yield Text(f"\n{NO_STUDY}", style="dim")


def _heading(title: str, note: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), (f"  {note}" if note else "", "dim"))


def _findings(report: ProfileReport) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for number, one in enumerate(report.findings, start=1):
        text = Text.assemble(plain(one.text), "\n", (plain(one.remedy), "dim"))
        table.add_row(f"{number}.", Text(one.weight, style=_COLOURS[one.weight]), text)
    return table


def _fields(report: ProfileReport) -> Table:
    table = _table(
        "field", "missing", "place-\nholder", "invalid", "repaired", "usable", "different"
    )
    for one in report.fields:
        shares = (one.missing, one.placeholder, one.invalid, one.repaired, one.present)
        table.add_row(
            one.field,
            *(percent(number, report.records) if number else "0" for number in shares),
            f"{one.distinct:,}",
        )
    return table


def _reasons(report: ProfileReport) -> Table | None:
    table = _table("field", "why", "records", said=2)
    for one in report.fields:
        ranked = sorted(one.reasons.items(), key=lambda reason: (-reason[1], reason[0]))
        for i, (why, number) in enumerate(ranked[:_REASONS]):
            table.add_row(one.field if not i else "", why, f"{number:,}")
    return table if table.row_count else None


def _common(fields: Iterable[FieldReport]) -> Table | None:
    table = _table("field", "value", "records", "of those with one", said=2)
    for one in fields:
        for i, (value, number) in enumerate(one.common):
            table.add_row(
                one.field if not i else "",
                Text(plain(value)),  # a string's [letters] would be a tag, and vanish
                f"{number:,}",
                percent(number, one.present),
            )
    return table if table.row_count else None


def _effect(effect: Effect, total: int) -> Iterable[RenderableType]:
    yield _heading("What this means for links", f"study {effect.study}")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for one in effect.parties:
        grid.add_row(one.party, one.text)
    yield grid
    none, few, many = effect.keys
    yield Text(
        f"No CLK: {percent(effect.no_clk, total)}. Match keys: none {percent(none, total)},"
        f" one or two {percent(few, total)}, three or more {percent(many, total)}."
    )
    yield _evidence(effect, total)
    for table in effect.subgroups:
        yield _heading(f"By {table.dimension}", table.note or "share that can be linked to")
        if table.groups:
            yield _subgroup(table, effect.parties)


def _evidence(effect: Effect, total: int) -> Table:
    table = _table("can make", "share", "also made by", said=1)
    table.columns[2].justify = "left"
    for one in effect.evidence:
        kind = "CLK " if one.kind == "clk" else ""
        table.add_row(f"{kind}{one.id}", percent(one.records, total), ", ".join(one.shared) or "-")
    return table


def _subgroup(table: SubgroupTable, parties: Iterable[PartyReport]) -> Table:
    names = [one.party for one in parties]
    made = _table(table.dimension, "records", *names, "no key", "3+ keys")
    for line in table.groups:
        made.add_row(
            Text(plain(line.group)),
            line.records.text,
            *(line.linkable[name].text for name in names),
            line.match_keys["none"].text,
            line.match_keys["three_or_more"].text,
        )
    return made


def _table(*columns: str, said: int = 1) -> Table:
    """Return an empty table. said: how many of its columns, from the left, hold words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < said else "right", overflow="fold")
    return table
