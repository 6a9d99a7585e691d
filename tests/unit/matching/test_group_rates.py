"""Link rates of groups: unbiased, covered by their intervals, silent where nothing can be said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from linkage.matching import group_rates
from linkage.matching.group_rates import GroupRate, estimated, report_of, share_interval
from linkage.matching.solve import Entities
from linkage.records import EncodedRecords
from linkage.strata import Stratum

SHARES = np.array([0.5, 0.25, 0.15, 0.1])
LINKED = np.array([0.8, 0.6, 0.8, 0.7])
RACE = Stratum(id="race", groups=("a", "b", "c"), epsilon=1.0)
TIMES = 300


def marked(
    groups: npt.NDArray[np.int64], stratum: Stratum, draw: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Mark as the matrix says; that sites do so is their test (tests/unit/sites/test_strata.py)."""
    p, q = stratum.chances
    kept = draw.random(len(groups)) < p - q
    other = draw.integers(1, len(stratum.named) + 1, len(groups))
    return np.where(kept, groups, other).astype(np.uint8)


def world(people: int, seed: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    draw = np.random.default_rng(seed)
    groups = draw.choice(np.arange(1, 5), people, p=SHARES)
    return groups, draw.random(people) < LINKED[groups - 1]


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_estimates_hit_the_truth_on_average_and_intervals_hold_it(epsilon: float) -> None:
    stratum = Stratum(id="race", groups=("a", "b", "c"), epsilon=epsilon)
    groups, linked = world(60_000)
    draw = np.random.default_rng(2)
    runs = [
        estimated(stratum, marked(groups, stratum, draw), linked, minimum=11) for _ in range(TIMES)
    ]
    for number in range(4):
        of_group = groups == number + 1
        people, share = of_group.sum(), linked[of_group].mean()
        found = [run[number] for run in runs if not run[number].few]
        assert len(found) > 0.95 * TIMES
        chance = np.std([one.people for one in found]) / np.sqrt(len(found))
        assert np.mean([one.people for one in found]) == pytest.approx(people, abs=4 * chance)
        held = np.mean([one.low <= share <= one.high for one in found])
        assert held == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / TIMES))
        held = np.mean([one.people_low <= people <= one.people_high for one in found])
        assert held == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / TIMES))
        shares = np.median([one.share for one in found])
        spread = np.std([one.share for one in found]) / np.sqrt(len(found))
        assert shares == pytest.approx(share, abs=5 * spread)


def test_only_who_is_clearly_behind_is_said_to_be() -> None:
    groups, linked = world(200_000)
    draw = np.random.default_rng(3)
    runs = [estimated(RACE, marked(groups, RACE, draw), linked, minimum=11) for _ in range(50)]
    behind = np.array([[one.behind for one in run] for run in runs]).mean(axis=0)
    assert behind[1] > 0.95  # 60 % of 73 %
    assert behind[0] == behind[2] == 0


def test_where_no_group_differs_hardly_a_report_says_so() -> None:
    """Of reports of 16 groups, one in forty at most; tested apart, many more would."""
    draw, times = np.random.default_rng(6), 300
    groups = np.repeat(np.arange(1, 5), 1_500)
    linked = np.arange(6_000) % 4 > 0
    wrong = {16: 0, 1: 0}
    for among in wrong:
        for _ in range(times):
            marks = [marked(groups, RACE, draw) for _ in range(4)]
            rates = [estimated(RACE, m, linked, minimum=11, among=among) for m in marks]
            wrong[among] += any(rate.behind for four in rates for rate in four)
    assert wrong[16] <= times * 0.025 + 3 * np.sqrt(times * 0.025)
    assert wrong[1] > 3 * wrong[16]


def test_few_people_are_too_few_whatever_chance_says() -> None:
    groups, linked = world(60_000)
    groups[groups == 4] = 1
    groups[:8] = 4
    draw = np.random.default_rng(4)
    runs = [estimated(RACE, marked(groups, RACE, draw), linked, minimum=11) for _ in range(100)]
    assert sum(not run[3].few for run in runs) <= 5
    few = next(run[3] for run in runs if run[3].few)
    assert few == GroupRate("other or not known", few=True)
    everything = estimated(RACE, marked(groups, RACE, draw), linked, minimum=60_001)
    assert all(one.few for one in everything)


def test_a_share_has_no_bounds_where_there_may_be_nobody() -> None:
    assert share_interval(3, 100, 2, 100) is None
    assert share_interval(-50, 1, 10, 1) is None
    low, high = share_interval(80, 4, 20, 4) or (0, 0)
    assert low < 0.8 < high
    assert share_interval(0, 0, 100, 1) == (0, 0)
    # What Fieller's equation says of its own ends.
    for r in (low, high):
        spread = np.sqrt((1 - r) ** 2 * 4 + r**2 * 4)
        assert abs(80 - r * 100) == pytest.approx(group_rates.Z95 * spread)


def records(
    names: int, strata: npt.NDArray[np.uint8] | None, groups: npt.NDArray[np.uint32]
) -> EncodedRecords:
    draw = np.random.default_rng(names)
    pseudonyms = draw.integers(0, 256, (len(groups), 16), dtype=np.uint8)
    return EncodedRecords(pseudonyms, groups, {}, {}, strata)


def test_a_report_counts_people_and_says_who_sent_no_marks() -> None:
    n = 4_000
    groups = np.arange(n, dtype=np.uint32)
    groups[1::2] = groups[::2]  # every person twice
    marks = np.ones((n, 1), np.uint8)
    entities = Entities({"alpha": groups.astype(np.int64) // 2, "beta": np.arange(500)}, n // 2)
    said = report_of(
        (RACE,),
        {
            "alpha": records(1, marks, groups),
            "beta": records(2, None, np.arange(500, dtype=np.uint32)),
        },
        entities,
        minimum=11,
    )
    assert said is not None
    (alpha,) = said["datasets"]
    assert (alpha["people"], alpha["linked"], said["without_marks"]) == (2_000, 500, ["beta"])
    told = alpha["variables"][0]["groups"]
    assert [one["group"] for one in told] == list(RACE.named)
    assert report_of((), {}, entities, minimum=11) is None


def test_nobody_at_all_is_too_few() -> None:
    found = estimated(RACE, np.zeros(0, np.uint8), np.zeros(0, dtype=bool), minimum=11)
    assert all(one.few for one in found)
