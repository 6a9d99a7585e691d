"""What a list holds of each n-gram that a CLK would hash: no key is needed to know that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.encoding.tokens import ngrams
from linkage.evaluation.attacks.crowds import Crowd
from linkage.study import ClkSpec

Mask2D = npt.NDArray[np.bool_]


def listed_tokens(clk: ClkSpec, crowd: Crowd, *, least: int = 1) -> Mask2D:
    """
    Return who has which n-gram in which field, bool[N, G]: one column for each n-gram that at
    least `least` people have, fields in the CLK's order, n-grams by first appearance.
    """
    blocks: list[Mask2D] = []
    for one in clk.fields:
        column = crowd.taken(one.field)
        number: dict[str, int] = {}
        cells = [
            (row, number.setdefault(gram, len(number)))
            for row, value in enumerate(column.values)
            for gram in ngrams(value, one.ngram)
        ]
        held = np.zeros((len(column.values), len(number)), bool)
        if cells:
            held[tuple(np.array(cells).T)] = True
        blocks.append(held[column.codes])
    made = np.concatenate(blocks, axis=1)
    return made[:, made.sum(axis=0) >= max(least, 1)]
