"""
A linkage scored in detail: by subgroup, by threshold, by kind of error, and its probabilities.

    links = read_links(Path("out/ids"))
    scored = score_links(links, read_truth_file(Path("truth.csv"), links.records))
    scored.quality.overall.f1, scored.groups, scored.errors

What is counted is said in linkage.evaluation.quality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from linkage.errors import LinkageError
from linkage.evaluation.compared import Case, Compared, Floats, Mask, compare
from linkage.evaluation.quality import PairQuality, Quality, Reliability, reliability, together
from linkage.evaluation.quality_errors import WrongPairs, wrong_pairs
from linkage.evaluation.quality_fields import Clear, FieldErrors, fields_of
from linkage.evaluation.quality_files import Links, TruthFile
from linkage.evaluation.quality_groups import Group, groups

THRESHOLD = 0.5
"""From it on, inclusive, a listed pair is a link: likelier one person than two."""
CURVE = (*(round(k / 100, 2) for k in range(100)), 0.999, 0.9999, 1.0)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What linking from `threshold` on, inclusive, gives."""

    threshold: float
    found: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points by rising threshold; best: the threshold of the largest F1, with hindsight."""

    points: tuple[CurvePoint, ...]
    best: CurvePoint


@dataclass(frozen=True, slots=True)
class Scored:
    """
    A linkage against the truth. threshold: from which listed pairs are links, None for IDs, also
    for those with a list of pairs beside them.

    false, missed: errors by kind, most first. curves, calibration: by "left - right" and "all",
    empty without probabilities. wrong: every error, for a file. fields: what differs in them, where
    clear text was given. notes: what a reader must know.
    """

    quality: Quality
    threshold: float | None
    groups: tuple[Group, ...]
    false: Mapping[str, int]
    missed: Mapping[str, int]
    curves: Mapping[str, Curve]
    calibration: Mapping[str, Reliability]
    wrong: tuple[WrongPairs, ...]
    notes: tuple[str, ...]
    fields: tuple[FieldErrors, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all figures; no record."""
        return {
            **self.quality.as_json(),
            "intervals": "95 %, Wilson 1927; of F1 by way of correct / (found or true)",
            "threshold": self.threshold,
            "groups": [group.as_json() for group in self.groups],
            "false": dict(self.false),
            "missed": dict(self.missed),
            "curves": {name: asdict(curve) for name, curve in self.curves.items()},
            "calibration": {name: asdict(one) for name, one in self.calibration.items()},
            "fields": [one.as_json() for one in self.fields],
            "notes": list(self.notes),
        }


def score_links(
    links: Links,
    truth: TruthFile,
    *,
    threshold: float | None = None,
    by: Sequence[str] = (),
    clear: Mapping[str, Clear] | None = None,
) -> Scored:
    """
    Score links of two parties or more, every pair of them; of a list, those it has pairs of.

    threshold: from which listed pairs are links, .5 if they have probabilities, inclusive. by:
    columns of the truth that are subgroups, by default those of 2 to 20 different values. clear: by
    party its records in clear text, to say which fields differ in wrong pairs. A record that the
    truth names and the links lack counts as missed. Raises LinkageError for fewer than two
    parties, more pairs than memory is for, or a threshold where there is nothing to compare;
    SourceRefused for a column that is none.
    """
    if len(links.records) < 2:
        raise LinkageError(
            "there are no two parties to compare", hint="give the IDs of two or more"
        )
    if threshold is not None and links.ids is not None:
        raise LinkageError(
            "IDs are links whatever the threshold",
            hint="give the list of pairs alone to try thresholds, or no threshold",
        )
    if threshold is not None and not links.scored:
        raise LinkageError(
            "a threshold needs pairs with probabilities",
            hint="give a list of pairs with a column `probability`, or no threshold",
        )
    case = Case.of(links, truth)
    at = THRESHOLD if threshold is None else threshold
    compared = [
        compare(case, links, left, right, at)
        for left, right in combinations(range(len(case.parties)), 2)
        if links.ids is not None or case.key(left, right) in links.pairs
    ]
    quality = _quality(case, compared)
    wrong = tuple(wrong_pairs(case, links, truth, one) for one in compared)
    kinds = [Counter[str](), Counter[str]()]
    for one in wrong:
        for kind, missed in zip(one.kind, one.missed.tolist(), strict=True):
            kinds[missed][kind] += 1
    curves, calibration = _by_probability(case, compared)
    return Scored(
        quality=quality,
        threshold=at if links.scored and links.ids is None else None,
        groups=groups(case, truth, compared, by),
        false=dict(kinds[0].most_common()),
        missed=dict(kinds[1].most_common()),
        curves=curves,
        calibration=calibration,
        wrong=wrong,
        notes=tuple(_notes(links, truth, quality)),
        fields=tuple(filter(None, (fields_of(one, clear or {}) for one in wrong))),
    )


def _quality(case: Case, compared: Sequence[Compared]) -> Quality:
    pairs = tuple(
        PairQuality(
            left=case.parties[one.left],
            right=case.parties[one.right],
            found=int(one.linked.sum()),
            true=one.true.shape[1],
            correct=int((one.linked & one.correct).sum()),
        )
        for one in compared
    )
    unknown = [int((who[:n] < 0).sum()) for who, n in zip(case.person, case.given, strict=True)]
    return Quality(
        pairs=pairs,
        overall=together(pairs),
        records=dict(zip(case.parties, case.given, strict=True)),
        unknown=dict(zip(case.parties, unknown, strict=True)),
    )


def _by_probability(
    case: Case, compared: Sequence[Compared]
) -> tuple[dict[str, Curve], dict[str, Reliability]]:
    curves, calibration = {}, {}
    parts: list[tuple[str, Floats, Mask, int]] = [
        (
            f"{case.parties[one.left]} - {case.parties[one.right]}",
            *one.weighed,
            one.true.shape[1],
        )
        for one in compared
        if one.weighed is not None
    ]
    if len(parts) > 1:
        every = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
        probability, correct = every
        parts.insert(0, ("all", probability, correct, sum(part[3] for part in parts)))
    for name, probability, correct, true in parts:
        curves[name] = curve(probability, correct, true)
        calibration[name] = reliability(probability, correct)
    return curves, calibration


def curve(probability: Floats, correct: Mask, true: int) -> Curve:
    """
    Return precision, recall and F1 at every threshold of CURVE, and the best of all thresholds.

    probability: float64[P]; correct: bool[P]; true: pairs there are, listed or not.
    """
    order = np.argsort(-probability, kind="stable")
    falling = probability[order]
    right = np.concatenate([[0], np.cumsum(correct[order])])

    def point(threshold: float) -> CurvePoint:
        found = int(np.searchsorted(-falling, -threshold, side="right"))
        pair = PairQuality("", "", found, true, int(right[found]))
        return CurvePoint(threshold, found, pair.precision, pair.recall, pair.f1)

    # A threshold is one of the probabilities: the last place of each value.
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) + 1
    best = ends[int(np.argmax(2 * right[ends] / (ends + true)))]
    return Curve(tuple(map(point, CURVE)), point(float(falling[best - 1])))


def _notes(links: Links, truth: TruthFile, quality: Quality) -> Sequence[str]:
    notes = [
        f"{party}: {count:,} of {quality.records[party]:,} records are not in the truth; links to"
        " them count as false"
        for party, count in quality.unknown.items()
        if count
    ]
    if links.inside:
        notes.append(f"{links.inside:,} listed pairs are within one party; they are not scored")
    if not links.scored:
        notes.append(
            "without probabilities there is no threshold curve and no calibration"
            + ("; a rehearsal's pairs.csv has them (--pairs)" if links.ids is not None else "")
        )
    if not truth.facts:
        notes.append("the truth has no columns of persons (sex, household): no subgroups")
    return notes
