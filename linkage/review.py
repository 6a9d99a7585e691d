"""
Clerical review: what reviewers' answers say, about the pairs and about the reviewers.

    judged = judge(cases, readings)

Each case is read by two reviewers, and by a third where they disagree; "unsure" agrees with
nothing. Some cases are **decoys**, whose answer is known, so that each reviewer's error is
measured; some are **checks**, a random sample of accepted links, from which the precision of all
links is estimated.

    agreement     Cohen's kappa of the two first readings (Cohen 1960,
                  doi:10.1177/001316446002000104; standard error: Fleiss, Cohen and Everitt 1969,
                  doi:10.1037/h0028106)
    sensitivity, specificity    on decoys, Jeffreys intervals (Brown, Cai and DasGupta 2001)
    precision     share of the checks read as the same, corrected for the panel's errors (Rogan and
                  Gladen 1978, doi:10.1093/oxfordjournals.aje.a112510), with the interval of Lang
                  and Reiczigel 2014 (doi:10.1016/j.prevetmed.2013.09.015)
    evidence      what a decision makes of the odds of a pair in doubt: the likelihood ratio of the
                  panel, at the unfavourable ends of its intervals, and MOST_RATIO at most

Decoys are pairs that the model is sure of, so they are easier than pairs in doubt, and errors
measured on them are too small; MOST_RATIO bounds what follows from that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

Answer = Literal["same", "different", "unsure"]
ANSWERS: tuple[Answer, ...] = ("same", "different", "unsure")
READINGS = 3
"""Readings of a case at most: two, and a third on disagreement."""
MOST_RATIO = 19.0
"""From even odds a decision leads to a probability of .05 or .95 and no further."""
NORMAL_95 = 1.959964
_ONE_SIDED = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """
    A pair that was shown. doubt, check, decoy: why; a pair in doubt may be a check, too.
    typical: of a decoy, that it is a match like the links to check, not like the pairs in doubt.
    truth: of a decoy, whether both are one person. probability: by the model, before the review.
    """

    case_id: str
    doubt: bool
    check: bool
    decoy: bool
    typical: bool
    truth: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reviewer answered to one case. number: 1 to 3, in the order of the answers."""

    case_id: str
    number: int
    reviewer: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval: right of `of`. value: None where `of` is 0."""

    right: int
    of: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa of two reviewers over the cases that both read first or second, 95 %."""

    reviewers: tuple[str, str]
    cases: int
    agreed: int
    kappa: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """
    figures: for the admin; numbers and reviewers' names. decided: by case id of a pair in doubt on
    which two reviewers that count agree, the log odds that this makes.
    """

    figures: Mapping[str, Any]
    decided: Mapping[str, float]


def verdict(answers: Sequence[Answer]) -> Answer | None:
    """Return on what two of the answers agree; "unsure" once three do not; None: one is to come."""
    for answer in ("same", "different"):
        if answers.count(answer) >= 2:
            return answer
    return "unsure" if len(answers) >= READINGS else None


def share(right: int, of: int) -> Share:
    """Return a share with its Jeffreys interval, closed at 0 and 1 where all are one thing."""
    low = 0.0 if right == 0 else float(betaincinv(right + 0.5, of - right + 0.5, 0.025))
    high = 1.0 if right == of else float(betaincinv(right + 0.5, of - right + 0.5, 0.975))
    return Share(right, of, right / of if of else None, low, high)


def least(right: int, of: int) -> float:
    """Return what a share is at least, with 95 % credibility (Jeffreys, one-sided)."""
    return float(betaincinv(right + 0.5, of - right + 0.5, _ONE_SIDED))


def cohen_kappa(table: npt.NDArray[np.integer]) -> tuple[float, float] | None:
    """
    Return kappa and its standard error for int[k, k]: rows one rater's answers, columns another's.

    None where chance alone would agree always, and kappa has no meaning.
    """
    n = float(table.sum())
    if not n:
        return None
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    seen, chance = float(np.trace(p)), float(rows @ columns)
    if chance >= 1:
        return None
    kappa = (seen - chance) / (1 - chance)
    # Fleiss, Cohen and Everitt 1969, equation 13.
    either = columns[:, None] + rows[None, :]
    diagonal = np.diag(p) * ((1 - chance) - np.diag(either) * (1 - seen)) ** 2
    off = p * either**2
    variance = (
        float(diagonal.sum())
        + (1 - seen) ** 2 * float(off.sum() - np.trace(off))
        - (seen * chance - 2 * chance + seen) ** 2
    ) / (n * (1 - chance) ** 4)
    return kappa, math.sqrt(max(0.0, variance))


def corrected(said: Share, sensitivity: Share, specificity: Share) -> Share | None:
    """
    Return the share that is true, if `said` was said by who errs as measured.

    None where the errors tell nothing: sensitivity and specificity together no better than chance.
    """
    if not (said.of and sensitivity.of and specificity.of):
        return None
    # Lang and Reiczigel 2014: all three are pulled towards one half first.
    z = NORMAL_95
    n, p = said.of + z**2, (said.right + z**2 / 2) / (said.of + z**2)
    se, n_se = (sensitivity.right + 1) / (sensitivity.of + 2), sensitivity.of + 2
    sp, n_sp = (specificity.right + 1) / (specificity.of + 2), specificity.of + 2
    youden = se + sp - 1
    plain = _plain(said, sensitivity, specificity)
    if youden <= 0 or plain is None:
        return None
    true = (p + sp - 1) / youden
    v_se, v_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * z**2 * (true * v_se - (1 - true) * v_sp)
    spread = z * math.sqrt(p * (1 - p) / n + true**2 * v_se + (1 - true) ** 2 * v_sp) / youden
    low, high = (min(1.0, max(0.0, true + shift + side * spread)) for side in (-1, 1))
    return Share(said.right, said.of, min(max(plain, low), high), low, high)


def _plain(said: Share, sensitivity: Share, specificity: Share) -> float | None:
    """Rogan and Gladen's estimate, within [0, 1]."""
    youden = (sensitivity.value or 0) + (specificity.value or 0) - 1
    if youden <= 0 or said.value is None or specificity.value is None:
        return None
    return min(1.0, max(0.0, (said.value + specificity.value - 1) / youden))


def judge(cases: Sequence[Case], readings: Iterable[Reading]) -> Judged:
    """Return what the answers to these cases say. Readings of other cases are left out."""
    by_case: dict[str, list[Reading]] = {case.case_id: [] for case in cases}
    for one in sorted(readings, key=lambda r: (r.case_id, r.number)):
        if one.case_id in by_case:
            by_case[one.case_id].append(one)
    reviewers = sorted({r.reviewer for found in by_case.values() for r in found})
    measured = {one: _measured(one, cases, by_case) for one in reviewers}
    counted = {one for one, (se, sp) in measured.items() if _tells(se, sp)}
    said = {name: verdict([r.answer for r in found]) for name, found in by_case.items()}
    agreed = {
        name: verdict([r.answer for r in found if r.reviewer in counted])
        for name, found in by_case.items()
    }
    # Of what is like the doubts, and of what is like the checks.
    panel = _rates([case for case in cases if not case.typical], agreed)
    usual = _rates([case for case in cases if case.typical or not case.truth], agreed)
    ratios = _ratios(*panel)
    doubts = [case for case in cases if case.doubt]
    prior = _prior(doubts)
    decided = {
        case.case_id: prior + ratios[answer]
        for case in doubts
        if (answer := agreed[case.case_id]) in ("same", "different") and ratios[answer]
    }
    checks = [agreed[case.case_id] for case in cases if case.check]
    told = share(checks.count("same"), checks.count("same") + checks.count("different"))
    precision = corrected(told, *usual)
    outcomes = Counter[str](said[case.case_id] or "open" for case in doubts)
    figures = {
        "cases": len(cases),
        "doubts": len(doubts),
        "checks": len(checks),
        "decoys": sum(case.decoy for case in cases),
        "doubts_decided": {name: outcomes[name] for name in (*ANSWERS, "open")},
        "reviewers": [
            {
                "reviewer": one,
                "readings": sum(r.reviewer == one for f in by_case.values() for r in f),
                "sensitivity": asdict(measured[one][0]),
                "specificity": asdict(measured[one][1]),
                "counted": one in counted,
            }
            for one in reviewers
        ],
        "agreement": [asdict(one) for one in _kappas(by_case)],
        "panel": {
            "sensitivity": asdict(panel[0]),
            "sensitivity_typical": asdict(usual[0]),
            "specificity": asdict(panel[1]),
        },
        "precision": {
            "read": asdict(told),
            "corrected": asdict(precision) if precision else None,
        },
        "evidence": {
            "same": sum(agreed[name] == "same" for name in decided),
            "different": sum(agreed[name] == "different" for name in decided),
            "ratio_same": round(math.exp(ratios["same"]), 3),
            "ratio_different": round(math.exp(ratios["different"]), 3),
            "prior": round(1 / (1 + math.exp(-prior)), 3),
        },
    }
    return Judged(figures, decided)


def _measured(
    reviewer: str, cases: Sequence[Case], by_case: Mapping[str, Sequence[Reading]]
) -> tuple[Share, Share]:
    mine = {
        name: next((r.answer for r in found if r.reviewer == reviewer), None)
        for name, found in by_case.items()
    }
    return _rates(cases, mine, unsure=True)


def _rates(
    cases: Sequence[Case], said: Mapping[str, Answer | None], *, unsure: bool = False
) -> tuple[Share, Share]:
    """
    Return sensitivity and specificity on decoys. unsure: it counts as wrong; else a case without a
    decision is left out, as it is among the checks.
    """
    shares = []
    for truth, right in ((True, "same"), (False, "different")):
        answers = [said[case.case_id] for case in cases if case.decoy and case.truth == truth]
        wanted = ANSWERS if unsure else ANSWERS[:2]
        given = [answer for answer in answers if answer in wanted]
        shares.append(share(given.count(right), len(given)))  # type: ignore[arg-type]
    return shares[0], shares[1]


def _tells(sensitivity: Share, specificity: Share) -> bool:
    """Is a reviewer surely better than chance? One who always says the same is not."""
    if not (sensitivity.of and specificity.of):
        return False
    return (least(sensitivity.right, sensitivity.of) + least(specificity.right, specificity.of)) > 1


def _ratios(sensitivity: Share, specificity: Share) -> dict[str, float]:
    """Return the log likelihood ratio of either decision, the careful way; 0: it says nothing."""
    if not _tells(sensitivity, specificity):
        return {"same": 0.0, "different": 0.0}
    se = least(sensitivity.right, sensitivity.of)
    sp = least(specificity.right, specificity.of)
    most = math.log(MOST_RATIO)
    return {
        "same": min(most, max(0.0, math.log(se / (1 - sp)))),
        "different": max(-most, min(0.0, math.log((1 - se) / sp))),
    }


def _prior(doubts: Sequence[Case]) -> float:
    """
    Return the log odds of a pair in doubt. One for all: reviewers see what the model saw of a pair,
    so its own probability would count that twice.
    """
    mean = float(np.mean([case.probability for case in doubts])) if doubts else 0.5
    mean = min(0.9, max(0.1, mean))
    return math.log(mean / (1 - mean))


def agreement(readings: Iterable[Reading]) -> list[Kappa]:
    """Return how well every two reviewers agree, from the readings alone."""
    by_case: dict[str, list[Reading]] = {}
    for one in readings:
        by_case.setdefault(one.case_id, []).append(one)
    return _kappas(by_case)


def agreement_counted(rows: Iterable[tuple[str, str, Answer, Answer, int]]) -> list[Kappa]:
    """
    Return what `agreement` does, from counts: two reviewers, their answers among the first two
    readings of a case, and of how many cases. Every two reviewers come in one order.
    """
    tables: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
    for left, right, said, other, cases in rows:
        if left > right:  # a database may sort names another way
            left, right, said, other = right, left, other, said
        table = tables.setdefault((left, right), np.zeros((3, 3), np.int64))
        table[ANSWERS.index(said), ANSWERS.index(other)] += cases
    return [_kappa(both, tables[both]) for both in sorted(tables)]


def _kappas(by_case: Mapping[str, Sequence[Reading]]) -> list[Kappa]:
    tables: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
    for found in by_case.values():
        # A third reading is asked for because two differ: it is no random one.
        first = {r.reviewer: r.answer for r in found if r.number <= 2}
        for one, other in combinations(sorted(first), 2):
            table = tables.setdefault((one, other), np.zeros((3, 3), np.int64))
            table[ANSWERS.index(first[one]), ANSWERS.index(first[other])] += 1
    return [_kappa(both, tables[both]) for both in sorted(tables)]


def _kappa(both: tuple[str, str], table: npt.NDArray[np.int64]) -> Kappa:
    cases, agreed = int(table.sum()), int(np.trace(table))
    found = cohen_kappa(table)
    if found is None:
        return Kappa(both, cases, agreed, None, None, None)
    kappa, error = found
    low, high = max(-1.0, kappa - NORMAL_95 * error), min(1.0, kappa + NORMAL_95 * error)
    return Kappa(both, cases, agreed, kappa, low, high)
