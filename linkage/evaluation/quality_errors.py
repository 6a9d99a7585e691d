"""
Errors by kind: of false links who the two are to each other, of missed ones what became of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linkage.evaluation.compared import Case, Compared, Floats, Mask
from linkage.evaluation.quality_files import Links, TruthFile
from linkage.evaluation.quality_groups import RELATIONS


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WrongPairs:
    """Pairs of records of two parties that are false or missed. kind: of each, a word or two."""

    left: str
    right: str
    left_ids: Sequence[str]
    right_ids: Sequence[str]
    missed: Mask
    kind: Sequence[str]
    probability: Floats


def wrong_pairs(case: Case, links: Links, truth: TruthFile, one: Compared) -> WrongPairs:
    """Return every false and every missed pair, and of what kind it is."""
    sides = one.left, one.right
    false = one.pairs[:, one.linked & ~one.correct]
    missed = one.true[:, ~one.got]
    kinds = np.full(false.shape[1], "two persons", object)
    who = [case.person[side][rows] for side, rows in zip(sides, false, strict=True)]
    for column, kind in reversed(RELATIONS.items()):
        if column in truth.facts:
            number: dict[str, int] = {"": -1}
            told = (truth.facts[column].get(person, "") for person in case.names)
            codes = np.array([number.setdefault(v, len(number)) for v in told] + [-1], np.int64)
            related = (codes[who[0]] == codes[who[1]]) & (codes[who[0]] >= 0)
            kinds[related] = kind
    kinds[(who[0] < 0) | (who[1] < 0)] = "not in the truth"
    taken, left_out = np.zeros((2, missed.shape[1]), bool)
    for side, rows, linked in zip(sides, missed, one.pairs[:, one.linked], strict=True):
        busy = np.zeros(len(case.ids[side]), bool)
        busy[linked] = True
        taken |= busy[rows]
        left_out |= rows >= case.given[side]
    lost = np.full(missed.shape[1], "linked to nobody", object)
    lost[taken] = "linked to another"
    lost[left_out] = "record left out" if links.ids is not None else "record not listed"
    said = one.listed[~one.got]
    if links.ids is None:
        lost[~np.isnan(said)] = "below the threshold"
    elif one.weighed is not None:
        lost[~taken & ~left_out & np.isnan(said)] = "no candidate"
    pairs = np.concatenate([false, missed], axis=1)
    probability = np.full(pairs.shape[1], np.nan)
    probability[: false.shape[1]] = one.probability[one.linked & ~one.correct]
    probability[false.shape[1] :] = said
    left_ids, right_ids = (
        [case.ids[side][row] for row in rows.tolist()]
        for side, rows in zip(sides, pairs, strict=True)
    )
    return WrongPairs(
        left=case.parties[one.left],
        right=case.parties[one.right],
        left_ids=left_ids,
        right_ids=right_ids,
        missed=np.arange(pairs.shape[1]) >= false.shape[1],
        kind=[*kinds.tolist(), *lost.tolist()],
        probability=probability,
    )
