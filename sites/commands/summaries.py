"""What `tokenize` says when it is done, or would say: for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sites.terminal import err, show

if TYPE_CHECKING:
    from sites.checking import SourceCheck
    from sites.tokenized import TokenizeSummary

_SHOWN = 3
"""Reasons named a field; the reject file and --json have them all."""


def tell(
    done: TokenizeSummary,
    reject_file: Path | None,
    *,
    secret: str,
    release_gate: str,
    marks: Mapping[str, object],
    as_json: bool,
) -> None:
    """
    Show what came of a tokenization, and what to look at before it is sent. secret: where the
    contributor's secret is, to be backed up before anything depends on it. release_gate: the
    verdict on the study. marks: the row about marks of groups, if any.
    """
    rows: dict[str, object] = {
        "dataset version": done.dataset,
        "records": f"{done.records:,}",
        "duplicates grouped": f"{done.records - done.groups:,}",
        "records left out": f"{sum(done.left_out.values()):,}",
        **_by_field(done.why),
        "sealed parts": done.parts,
        "package": done.package,
        **marks,
    }
    if done.rest:
        rows["in no group of the study"] = ", ".join(
            f"{one} {count / done.records:.0%}" for one, count in done.rest.items()
        )
    if reject_file is not None:
        rows["listed in"] = reject_file
    if done.added is not None:
        rows["since the version before"] = (
            f"{done.added:,} added, {done.changed:,} changed, {done.removed:,} gone"
        )
    if done.base:
        rows["delta"] = f"holds only what differs from dataset version {done.base}"
    if done.resumed:
        rows["resumed"] = f"{_counted(done.resumed, 'batch', 'batches')} of an interrupted run kept"
    if done.same_as:
        rows["unchanged"] = f"made of the same input as dataset version {done.same_as}"
    if done.dataset == 1:
        rows["back up now"] = f"{secret}; without it records get other pseudonyms"
    first = _before_next(done.warnings, "tokenize")
    rows |= {"release gate": release_gate, "next": f"{first}linkage-site submit"}
    data = {**asdict(done), "left_out": _listed(done.left_out), "warnings": done.warnings}
    data |= {"release_gate": release_gate, **_as_data(marks)}
    show("Tokenized", rows, as_json=as_json, data=data)
    _remarks(done.left_out, done.notes, done.warnings)


def tell_check(
    found: SourceCheck, *, release_gate: str, marks: Mapping[str, object], as_json: bool
) -> None:
    """Show what a tokenization would find. marks: the row about marks of groups, if any."""
    rows: dict[str, object] = {
        "records": f"{found.records:,}",
        "records left out": f"{sum(found.left_out.values()):,}",
        **_by_field(found.why),
        **marks,
        "release gate": release_gate,
        "next": f"{_before_next(found.warnings, 'check')}linkage-site profile, then linkage-site"
        " tokenize",
    }
    data = {
        "dry_run": True,
        "records": found.records,
        "release_gate": release_gate,
        "why": _kept(found.why),
        "left_out": _listed(found.left_out),
        "notes": found.notes,
        "warnings": found.warnings,
        **_as_data(marks),
    }
    show("The source can be tokenized; nothing was written", rows, as_json=as_json, data=data)
    _remarks(found.left_out, found.notes, found.warnings)


def _before_next(warnings: tuple[str, ...], again: str) -> str:
    # A tired reader types what stands at "next".
    return f"MIND THE WARNING below, mend and {again} again, or else: " if warnings else ""


def _remarks(
    left_out: Mapping[tuple[str, str], int], notes: tuple[str, ...], warnings: tuple[str, ...]
) -> None:
    for (field, rule), count in left_out.items():
        said = f"left out: {_counted(count, 'record')}, {field or 'whole record'}: {rule}"
        err.print(said, markup=False)
    for note in notes:
        err.print(f"note: {note}", markup=False, highlight=False)
    for warning in warnings:
        err.print(f"warning: {warning}", markup=False, highlight=False, style="bold yellow")


def _as_data(rows: Mapping[str, object]) -> dict[str, object]:
    return {name.replace(" ", "_"): said for name, said in rows.items()}


def _by_field(why: Mapping[str, Mapping[str, int]]) -> dict[str, object]:
    rows: dict[str, object] = {}
    for field, counts in _kept(why).items():
        usual = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        if usual:
            more = len(usual) - _SHOWN
            said = ", ".join(f"{n:,} {text}" for text, n in usual[:_SHOWN])
            rows[field] = said + (f", and {_counted(more, 'more reason')}" if more > 0 else "")
    return rows


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _kept(why: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {
        field: {text: n for text, n in sorted(counts.items()) if text and n}
        for field, counts in why.items()
    }


def _listed(left_out: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [{"field": f, "rule": rule, "records": n} for (f, rule), n in left_out.items()]
