"""Pairs of the same evidence are counted together, whatever their order."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.matching.grouping import STEPS, grouped

ENDS = (3.5, 32.0)


def _pairs(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(n)
    z = draw.normal(5, 6, (n, 2))
    z[draw.random((n, 2)) < 0.1] = np.nan
    agree = draw.integers(0, 4, n).astype(np.uint64) << np.uint64(62)
    return z, agree, ~agree & np.uint64(1)


@pytest.mark.parametrize("n", [0, 1, 5_000])
def test_every_pair_is_in_the_group_of_its_evidence(n: int) -> None:
    z, agree, disagree = _pairs(n)
    made = grouped(z, agree, disagree, ENDS)
    assert (made.agree[made.of] == agree).all()
    assert (made.disagree[made.of] == disagree).all()
    near = np.clip(np.where(np.isnan(z), ENDS[0], z), *ENDS)
    assert np.abs(made.z[made.of] - near).max(initial=0) <= 0.5 / STEPS
    assert sorted(set(made.of.tolist())) == list(range(len(made.z)))
    kinds = np.concatenate([made.z, made.agree[:, None], made.disagree[:, None]], axis=1)
    assert len(np.unique(kinds, axis=0)) == len(kinds)


def test_the_groups_do_not_depend_on_the_order() -> None:
    z, agree, disagree = _pairs(2_000)
    order = np.random.default_rng(1).permutation(2_000)
    made = grouped(z, agree, disagree, ENDS)
    again = grouped(z[order], agree[order], disagree[order], ENDS)
    assert np.array_equal(made.z, again.z)
    assert np.array_equal(made.agree, again.agree)
    assert np.array_equal(made.of[order], again.of)
