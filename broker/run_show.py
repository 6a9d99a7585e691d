"""A run as `linkage-broker run show` prints it: stages, estimates, thresholds, histogram."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BAR = 40
_ROWS = 10


def lines(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a run, a RunState as JSON."""
    yield f"Run {run['run_id']} of {run['study_id']}: {run['state']}"
    if run["of"]:
        yield f"  decides anew about the pairs of {run['of']}"
    wanted = run["precision"]
    yield f"  wanted: {'the best F1' if wanted is None else f'a precision of {wanted:g}'}"
    yield f"  asked {_time(run['asked_at'])}, ended {_time(run['ended_at'])}"
    if run["failure"]:
        cause, _, remedy = run["failure"].partition(". Hint: ")
        yield f"  cause: {cause}"
        yield f"  remedy: {remedy or 'look into the log of the worker'}"
    if run["seconds"]:
        yield "Stages"
        for stage, took in run["seconds"].items():
            now = run["state"] == "running" and stage == run["stage"]
            yield f"  {stage:<24}{took:>10.1f} s" + (f"  {run['progress']:.0%}" if now else "")
    if report := run["report"]:
        yield from _report(report)
    elif run["state"] == "running":
        yield "There are estimates once it is done."


def _report(report: Mapping[str, Any]) -> Iterator[str]:
    yield "Records"
    for party, count in sorted(report["records"].items()):
        yield f"  {party:<24}{count:>12,}  of {report['people'][party]:,} people"
    yield f"  persons {report['persons']:,}, of them in"
    for parties, count in report["overlaps"].items():
        yield f"    {parties.replace('+', ' + '):<30}{count:>12,}"
    yield "Estimates, 95 % intervals"
    yield f"  {'':<28}{'threshold':>9}  {'links':>9}  {'precision':<15}  recall"
    for name, estimate in _estimates(report):
        yield f"  {name:<28}{_point(estimate['chosen'])}"
    yield "What another wanted precision would take (run start --of RUN --precision P)"
    for one in report["comparisons"]:
        for point in one.get("wanted", ()):
            name = f"{_both(one)}, {point['wanted']:g}"
            out_of_reach = point["threshold"] >= 1 and not point["links"]
            yield f"  {name:<28}{'out of reach' if out_of_reach else _point(point)}"
    for one in report["comparisons"]:
        found = one["estimate"]["review"]
        yield (
            f"In doubt, {_both(one)}: {found['pairs']:,} pairs from {found['threshold']:.3f} on,"
            f" {found['matches']:.0f} of them true; {found['lost']:.2%} of all matches lie below"
        )
    yield "Candidates by probability (bars: logarithm of the number)"
    yield from histogram(report["overall"]["histogram"])
    for one in report.get("losses", ()):
        yield (
            f"Comparing in two phases lost {one['share']:.2%} of the matches of"
            f" {' and '.join(one['parties'])} (95 %: {one['low']:.2%} to {one['high']:.2%})"
        )
    if (reuse := report.get("reuse")) and reuse["reused"]:
        yield (
            f"Taken over from an earlier run: {reuse['reused']:,} of {reuse['comparisons']:,}"
            " comparisons of CLKs"
        )
    yield from _groups(report.get("strata"))
    yield from _looked(report.get("second_look"))
    yield from _reviews(report)
    for warning in report["warnings"]:
        yield f"Warning: {warning}"


def _estimates(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in report["comparisons"]:
        yield _both(one), one["estimate"]
    if len(report["comparisons"]) > 1:
        yield "all", report["overall"]


def _both(one: Mapping[str, Any]) -> str:
    return " - ".join(one["parties"])


def _point(point: Mapping[str, Any]) -> str:
    precision = f"{point['precision']:.4f} ± {point['precision_interval']:.4f}"
    recall = f"{point['recall']:.4f} ± {point['recall_interval']:.4f}"
    return f"{point['threshold']:>9.4f}  {point['links']:>9,}  {precision:<15}  {recall}"


def histogram(counts: Sequence[int]) -> Iterator[str]:
    """Yield ten lines of bars for the counts of equal bins over [0, 1]."""
    size = len(counts) // _ROWS
    sums = [sum(counts[i : i + size]) for i in range(0, len(counts), size)]
    most = max(max(sums), 1)
    for row, count in enumerate(sums):
        # One pair is a bar, too.
        bar = "█" * math.ceil(_BAR * math.log1p(count) / math.log1p(most))
        yield f"  {row / _ROWS:.1f} to {(row + 1) / _ROWS:.1f}  {count:>12,}  {bar}"


def _looked(look: Mapping[str, Any] | None) -> Iterator[str]:
    if look is None:
        return
    if look.get("reason"):
        yield f"Second look: nothing was asked, for {look['reason']}"
        return
    yield (
        f"Second look: {look['pairs_asked']:,} pairs asked, {look['uncertain']:,} of them in doubt;"
        f" {look['links_gained']:,} links gained, {look['links_lost']:,} lost"
    )
    if look["silent"] or look["refused"]:
        yield f"  without {', '.join([*look['silent'], *look['refused']])}"


def _groups(strata: Mapping[str, Any] | None) -> Iterator[str]:
    for one in (strata or {}).get("datasets", ()):
        of_all = one["linked"] / max(1, one["people"])
        yield f"Linked by group, {one['uploader']}, estimated from marks (all: {of_all:.1%})"
        for variable in one["variables"]:
            for rate in variable["groups"]:
                name = f"{variable['id']}: {rate['group']}"
                if rate["few"]:
                    yield f"  {name:<40}too few to say"
                    continue
                behind = "  BEHIND" if rate["behind"] else ""
                yield (
                    f"  {name:<40}{rate['share']:>6.1%}  (95 %: {rate['low']:.1%} to"
                    f" {rate['high']:.1%}), of about {rate['people']:,.0f}{behind}"
                )


def _reviews(report: Mapping[str, Any]) -> Iterator[str]:
    if (known := report.get("reviewed")) and known["pairs"]:
        yield (
            f"Reviewed before: {known['pairs']:,} pairs counted, {known['same']:,} as the same;"
            f" {known['contradictions']:,} contradictions"
        )
    if told := report.get("review"):
        shown = f"{told['cases']:,} cases to be shown" if told["cases"] else told["reason"]
        yield f"Review: {told['in_doubt']:,} pairs in doubt, {shown}"


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "not yet"
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
