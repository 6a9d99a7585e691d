"""A shared report of a delivered cohort in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rows = dict[str, object]


def report_in_words(report: Mapping[str, Any]) -> Rows:
    """Return a shared report (sites.cohort.shared_report) row by row: all of it."""
    rows: Rows = {"title": report["title"], "purpose": report["purpose"]}
    rows |= {"study": report["study"], "cohort made": report["made_at"]}
    for number, line in enumerate(report["clinical"], start=1):
        rows[f"persons who {number}"] = line
    rows["persons"] = report["persons"]
    for number, step in enumerate(report["flow"], start=1):
        rows[f"step {number}"] = f"{step['persons']}: {step['step']}"
    for table in report["tables"]:
        rows[f"by {table['name']}"] = _cells(table["groups"]) or f"hidden: {table['why_not']}"
    for one in report["representativeness"]["variables"]:
        rows[f"distance by {one['name']}"] = _distance(one)
    rows["compared with"] = _reference(report["representativeness"])
    rows |= _links(report["links"])
    rules = report["rules"]
    moved = f"moved by up to {rules['noise']} or 4 %, then " if rules["noise"] else ""
    rows["how to read it"] = (
        f"nothing below {rules['minimum_cell']} is shown; {moved}rounded to multiples of"
        f" {rules['rounding']}; parts need not add up; what differs by few persons from what was"
        " shown before reads the same; distances are computed from what is shown"
    )
    for number, note in enumerate(report["notes"], start=1):
        rows[f"note {number}"] = note
    return rows


def _cells(groups: list[Mapping[str, Any]] | None) -> str:
    return ", ".join(f"{one['group']}: {one['persons']}" for one in groups or ())


def _distance(one: Mapping[str, Any]) -> str:
    if "distance" not in one:
        return f"not compared: {one['why_not']}"
    shares = ", ".join(
        f"{row['group']} {row['cohort']:.1%} (population {row['reference']:.1%})"
        for row in one["groups"]
    )
    told = f"{one['distance']:.3f}, 95 % interval {one['low']:.3f} to {one['high']:.3f}"
    return f"{told}, by chance up to {one['chance']:.3f}: {shares}"


def _reference(found: Mapping[str, Any]) -> str:
    return f"{found['reference']}, {found['year']}. {found['source']}"


def _links(links: Mapping[str, Any]) -> Rows:
    rows: Rows = {}
    for key in ("estimated_precision", "estimated_recall"):
        if links[key]:
            rows[key.replace("_", " ") + " of the linkage"] = links[key]
    if links["release"]:
        rows["told by release"] = links["release"]
    if links["evidence"]:
        rows["linked by"] = _cells(links["evidence"])
    if links["why_not"]:
        rows["of links"] = links["why_not"]
    return rows
