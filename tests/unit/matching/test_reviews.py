"""What reviewers are shown of a run, and what a later run makes of what they decide."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from linkage.errors import EncodingRefused, StudyRefused
from linkage.matching.looked_at import LookedAt, LookWeights
from linkage.matching.review_cases import (
    CaseLimits,
    Pooled,
    ShownCase,
    cases_from_json,
    cases_to_json,
    choose,
    pool_from_arrow,
    pool_to_arrow,
)
from linkage.matching.reviewed import (
    Decision,
    Reviewed,
    decisions_from_json,
    decisions_to_json,
    over,
)
from linkage.matching.second_look import Level, Reason
from linkage.matching.solve import Entities
from linkage.study import parse_study
from tests.broker_looks import SHIPPED

RNG = np.random.default_rng(1)
NAMES = {p: RNG.integers(1, 256, (2_000, 16), dtype=np.uint8) for p in ("a", "b")}


def made(doubts: int = 10, matches: int = 200, others: int = 60) -> Pooled:
    """A pool: every asked match stands for five, everything else for itself."""
    n = doubts + matches + others
    sizes = (doubts, matches, others)
    rng = np.random.default_rng(2)
    probability = np.repeat([0.5, 0.9999, 0.0005], sizes)
    levels = rng.integers(0, 5, (n, 3)).astype(np.uint8)
    levels[doubts : doubts + matches] = np.maximum(levels[doubts : doubts + matches], Level.CLOSE)
    return Pooled(
        parties=("a", "b"),
        fields=("first_name", "last_name", "sex"),
        left=np.arange(n, dtype=np.uint32),
        right=np.arange(n, dtype=np.uint32)[::-1].copy(),
        levels=levels,
        reason=np.repeat([Reason.UNCERTAIN, Reason.LIKELY, Reason.UNLIKELY], sizes).astype(
            np.uint8
        ),
        probability=probability,
        stands_for=np.repeat([1.0, 5.0, 1.0], sizes),
    )


def shown(pool: Pooled, limits: CaseLimits, seed: int = 3) -> list[ShownCase]:
    draw = np.random.default_rng(seed).bytes
    return choose([pool], lambda one: one.probability >= 0.5, limits, NAMES, draw)


def test_everything_is_shown_alike_and_for_its_reason() -> None:
    pool = made()
    cases = shown(pool, CaseLimits(most=6, sample=50, decoys=0.5))
    kinds = Counter(
        name
        for one in cases
        for name in ("doubt", "check", "decoy", "typical", "truth")
        if getattr(one.case, name)
    )
    assert (kinds["doubt"], kinds["check"]) == (6, 50)
    assert 50 <= kinds["decoy"] <= 66
    assert kinds["typical"] >= 18
    assert 0 < kinds["truth"] < kinds["decoy"]
    assert not [one for one in cases if one.case.decoy and (one.case.doubt or one.case.check)]
    assert all((one.case.probability > 0.5) == one.case.truth for one in cases if one.case.decoy)
    ids = [one.case.case_id for one in cases]
    assert ids == sorted(set(ids))
    words = {word for one in cases for word in one.fields.values()}
    assert words == {"equal", "similar", "different", "missing"}
    assert all(set(one.fields) == set(pool.fields) for one in cases)
    assert cases_from_json(cases_to_json(cases)) == cases


def test_decoys_agree_about_as_well_as_the_doubts() -> None:
    cases = shown(made(others=300), CaseLimits(most=10, sample=0, decoys=0.5))
    points = {"equal": 3, "similar": 1.5, "different": 0}

    def alike(one: ShownCase) -> float:
        there = [points[word] for word in one.fields.values() if word in points]
        return sum(there) / max(1, len(there))

    doubts = np.mean([alike(one) for one in cases if one.case.doubt])
    decoys = np.mean([alike(one) for one in cases if one.case.decoy and not one.case.truth])
    assert abs(doubts - decoys) < 0.4


def test_every_link_has_the_same_chance_to_be_checked() -> None:
    """Asked matches stand for five links each, the doubts that were linked for one."""
    pool = made(doubts=100, matches=100)
    count = Counter[str]()
    for seed in range(60):
        cases = shown(pool, CaseLimits(most=1, sample=60, decoys=0.5), seed)
        checks = [one.case for one in cases if one.case.check]
        assert len(checks) == 60
        count.update("doubt" if c.probability == 0.5 else "match" for c in checks)
    # 100 of 600 links.
    assert count["doubt"] / count.total() == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize("sample", [0, 5, 5000])
def test_a_sample_is_no_larger_than_it_can_be(sample: int) -> None:
    cases = shown(made(doubts=0), CaseLimits(most=10, sample=sample, decoys=0.5))
    assert sum(one.case.check for one in cases) == min(sample, 200)
    assert bool(cases) == bool(sample), "without doubts and checks nothing is shown"


def test_a_pool_travels() -> None:
    pool = made()
    (again,) = pool_from_arrow(pool_to_arrow([pool]))
    assert again.parties == pool.parties
    for name in ("left", "right", "levels", "reason", "probability", "stands_for"):
        assert np.array_equal(getattr(again, name), getattr(pool, name)), name
    with pytest.raises(EncodingRefused):
        pool_from_arrow(pool_to_arrow([pool]).replace_schema_metadata({}))


def decision(name: str, left: int, right: int, odds: float) -> Decision:
    ends = (NAMES["a"][left].tobytes(), NAMES["b"][right].tobytes())
    return Decision(name, ("a", "b"), ends, odds)


GROUPS = {p: np.arange(2_000, dtype=np.uint32) for p in ("a", "b")}


def test_the_newest_decision_stands_over_a_look() -> None:
    made = [decision("r1/x", 1, 2, 2.0), decision("r1/y", 3, 4, 2.0), decision("r2/x", 1, 2, -2.0)]
    assert decisions_from_json(decisions_to_json(made)) == made
    strange = Decision("r1/z", ("a", "c"), (b"q" * 16, b"q" * 16), 1.0)
    known = Reviewed.of([*made, strange], NAMES, GROUPS)
    assert known.unknown == 1
    looked = LookWeights(
        {("a", "b"): LookedAt(np.uint32([1, 7]), np.uint32([2, 8]), np.array([0.1, 0.2]))}
    )
    both = over(looked, known.weights)
    assert both is not None
    one = both.comparisons["a", "b"]
    found = {
        (i, j): odds
        for i, j, odds in zip(one.left.tolist(), one.right.tolist(), one.log_weight, strict=True)
    }
    assert found == {(7, 8): 0.2, (1, 2): -2.0, (3, 4): 2.0}
    assert over(None, Reviewed.of([], NAMES, GROUPS).weights) is None
    assert over(looked, Reviewed.of([], NAMES, GROUPS).weights) is looked


def test_a_record_stands_for_its_group() -> None:
    groups = {**GROUPS, "a": np.minimum(GROUPS["a"], 5)}
    known = Reviewed.of([decision("r/x", 9, 2, 1.0)], NAMES, groups)
    assert known.weights.comparisons["a", "b"].left.tolist() == [5]


def test_contradictions_are_told_by_their_cases() -> None:
    known = Reviewed.of(
        [decision("r/1", 1, 1, 2.0), decision("r/2", 1, 2, 2.0), decision("r/3", 3, 3, -2.0)],
        NAMES,
        GROUPS,
    )
    of = {p: np.arange(2_000) + (0 if p == "a" else 2_000) for p in ("a", "b")}
    of["b"][1] = 1
    of["b"][3] = 3
    told = known.report(Entities(of, 4_000))
    assert (told["pairs"], told["same"], told["different"]) == (3, 2, 1)
    assert told["contradicting"] == [
        {"why": "one record is taken for two people of one dataset", "cases": ["r/1", "r/2"]},
        {"why": "other evidence makes them two people", "cases": ["r/2"]},
        {"why": "other evidence makes them one person", "cases": ["r/3"]},
    ]


def test_a_review_needs_second_looks() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert parse_study(text).reviews is None
    allowed = parse_study(f"{text}\n[review]\nsample = 5\n").reviews
    assert allowed is not None
    assert (allowed.most_pairs, allowed.sample, allowed.decoys) == (200, 5, 0.3)
    assert parse_study(f"{text}\n[review]\nenabled = false\n").reviews is None
    without = text.partition("\n[second_look]")[0]
    with pytest.raises(StudyRefused, match=r"second look|\[second_look\]"):
        parse_study(f"{without}\n[review]\nsample = 5\n")
    for wrong in ("decoys = 0.0", "most_pairs = 0", "reviewers = 3"):
        with pytest.raises(StudyRefused):
            parse_study(f"{text}\n[review]\n{wrong}\n")
