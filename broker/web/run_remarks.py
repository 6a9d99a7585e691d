"""What else a run's report says, as sentences for its admin: nothing that needs a chart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence a fact, thousands apart as everywhere in the portal."""
    for text in _sentences(report):
        yield re.sub(r"(?<=\d),(?=\d{3})", "\N{NARROW NO-BREAK SPACE}", text)


def _sentences(report: Mapping[str, Any]) -> Iterator[str]:
    yield from _links(report)
    yield from _second_look(report.get("second_look"))
    yield from _decided(report)
    for one in report.get("losses", ()):
        yield (
            f"Comparing in two phases lost {one['share']:.2%} of the matches of"
            f" {' and '.join(one['parties'])} (95 %: {one['low']:.2%} to {one['high']:.2%})."
        )
    if (reuse := report.get("reuse")) and reuse["reused"]:
        yield (
            f"{reuse['reused']:,} of {reuse['comparisons']:,} comparisons were taken over from an"
            " earlier run."
        )
    if changes := report.get("person_changes"):
        yield (
            f"Person IDs: {changes['created']:,} are new, {changes['merged']:,} ended in another"
            f" one, {changes['split']:,} came of a split."
        )


def _links(report: Mapping[str, Any]) -> Iterator[str]:
    if links := report.get("links"):
        told = ", ".join(f"{count:,} by {tier}" for tier, count in links.items())
        yield f"Links by their evidence: {told}."


def _second_look(look: Mapping[str, Any] | None) -> Iterator[str]:
    if look is None:
        return
    if look.get("reason"):
        yield f"Second look: nothing was asked, for {look['reason']}."
        return
    yield (
        f"Second look: {look['pairs_asked']:,} pairs were asked about, {look['uncertain']:,} of"
        f" them in doubt, the others to hide these; {look['links_gained']:,} links came of it, and"
        f" {look['links_lost']:,} went."
    )


def _decided(report: Mapping[str, Any]) -> Iterator[str]:
    if (known := report.get("reviewed")) and known["pairs"]:
        yield (
            f"Reviewed before: {known['pairs']:,} pairs count, {known['same']:,} as one person;"
            f" {known['contradictions']:,} contradict each other or the result."
        )
    if (said := report.get("asserted")) and (said["same"] or said["different"]):
        yield (
            f"Asserted by the parties: {said['same']:,} pairs as one person, {said['different']:,}"
            f" as two; {said['contradictions']:,} contradictions."
        )
    if told := report.get("review"):
        shown = f"{told['cases']:,} cases can be shown" if told["cases"] else told["reason"]
        yield f"Review: {told['in_doubt']:,} pairs are in doubt; {shown}."
