"""
How the persons of a cohort were linked: on which evidence, and how good the linkage is held to be.

The broker tells the enclave the evidence of a link only in a release that every steward consented
to with it (docs/releases.md), and the quality of the run as a class, never as a figure: figures,
run after run, would count the matches of somebody who uploads guesses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sites.cohort.disclosure import CellRule

SEVERAL = "several kinds"
NOT_LISTED = "not in the release"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """
    What a release tells the enclave. precision, recall: classes such as "good (at least .95)".

    evidence: by cohort ID, "method: tier" of each of its links. why_not: what is missing, in
    words, where something is.
    """

    release: str = ""
    precision: str = ""
    recall: str = ""
    evidence: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    why_not: str = ""


def link_quality(
    told: LinkQuality | None, delivered: frozenset[str], rule: CellRule
) -> dict[str, Any]:
    """Return how the delivered persons were linked, as it may be read."""
    told = told or LinkQuality(why_not="This enclave was not told how links came about")
    kinds = [kind_of(told.evidence.get(one, ())) for one in delivered] if told.evidence else []
    counted = Counter(kinds)
    order = sorted(counted, key=lambda one: (one in (SEVERAL, NOT_LISTED), -counted[one], one))
    shown = rule.show_table({one: counted[one] for one in order}) if order else None
    return {
        "release": told.release,
        "estimated_precision": told.precision,
        "estimated_recall": told.recall,
        "evidence": shown,
        "why_not": told.why_not,
    }


def kind_of(evidence: tuple[str, ...]) -> str:
    """Return one kind a person, for kinds that overlap would tell by their sums."""
    kinds = set(evidence)
    return next(iter(kinds)) if len(kinds) == 1 else SEVERAL if kinds else NOT_LISTED
