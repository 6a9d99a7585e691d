"""
Frequency alignment: the commonest CLK is the commonest value.

    frequency_attack(encoded(study, clk, held, key).values, same_people(clk, held), ...)

Equal records have equal encodings under any key and any diffusion. Whoever knows how often each
combination of values occurs lays the two lists side by side, commonest first. It needs nothing but
counting, and no hardening stops it; what stops it is that a CLK has so many fields that hardly two
people share all. Source: Kuzu, Kantarcioglu, Durham and Malin, "A constraint satisfaction
cryptanalysis of Bloom filters in private record linkage", PETS 2011; Niedermeyer et al. 2014.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.study import ClkSpec

Ints = npt.NDArray[np.int64]


def frequency_attack(
    values: npt.NDArray[np.uint8], held: Ints, listed: Ints, *, gap: float = 0.0
) -> Reidentified:
    """
    Return for how many of N records the values are named rightly.

    values: uint8[N, B], encodings; held: int64[N], what each record truly holds; listed: int64[M],
    what people of the list hold, by the same numbers. The commonest encoding is given the commonest
    value, and so on down; a place in the order is used only where its count stands apart from both
    neighbours' by more than `gap` of itself, on both sides, and is above 1.
    """
    _, seen = np.unique(values, axis=0, return_inverse=True)
    seen = seen.ravel()
    ours, theirs = np.bincount(seen), np.bincount(listed)
    one, other = _apart(ours, gap), _apart(theirs, gap)
    right = 0
    for place in sorted(one.keys() & other.keys()):
        right += int(((seen == one[place]) & (held == other[place])).sum())
    return Reidentified(len(values), right)


def same_people(clk: ClkSpec, *crowds: Crowd) -> list[Ints]:
    """Return a number for each person of each crowd, equal where all the CLK's fields are."""
    number: dict[tuple[str, ...], int] = {}
    made: list[Ints] = []
    for crowd in crowds:
        columns = [crowd.taken(one.field).texts() for one in clk.fields]
        rows = zip(*columns, strict=True)
        made.append(np.array([number.setdefault(row, len(number)) for row in rows], np.int64))
    return made


def _apart(counts: Ints, gap: float) -> dict[int, int]:
    """Return the class at each place of the order by count, where no neighbour is as common."""
    order = np.argsort(-counts, kind="stable")
    sizes = counts[order]
    made: dict[int, int] = {}
    for place, size in enumerate(sizes.tolist()):
        if size < 2:
            break
        before = sizes[place - 1] if place else np.inf
        after = sizes[place + 1] if place + 1 < len(sizes) else 0
        if before - size > gap * size and size - after > gap * size:
            made[place] = int(order[place])
    return made
