"""Figures of clerical reviews, against a published example and reviewers whose errors are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.review import (
    ANSWERS,
    MOST_RATIO,
    Answer,
    Case,
    Judged,
    Reading,
    cohen_kappa,
    corrected,
    judge,
    share,
    verdict,
)


def test_kappa_of_a_published_example() -> None:
    """Fleiss, Statistical Methods for Rates and Proportions, 1981: two raters, 100 diagnoses."""
    found = cohen_kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert found == pytest.approx((0.676, 0.088), abs=0.0006)


@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=3))
def test_kappa_does_not_depend_on_who_is_first(table: list[list[int]]) -> None:
    one, other = cohen_kappa(np.array(table)), cohen_kappa(np.array(table).T)
    assert (one is None) == (other is None)
    if one and other:
        assert one == pytest.approx(other)
        assert -1 <= one[0] <= 1


def test_kappa_without_a_meaning() -> None:
    assert cohen_kappa(np.zeros((3, 3), int)) is None
    assert cohen_kappa(np.diag([7, 0, 0])) is None


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], None),
        (["same"], None),
        (["same", "same"], "same"),
        (["same", "different"], None),
        (["same", "different", "different"], "different"),
        (["unsure", "unsure"], None),
        (["unsure", "unsure", "same"], "unsure"),
        (["unsure", "same", "same"], "same"),
    ],
)
def test_two_agree_or_a_third_is_asked(answers: list[Answer], expected: Answer | None) -> None:
    assert verdict(answers) == expected


def test_intervals_end_at_0_and_1() -> None:
    assert (share(0, 10).low, share(10, 10).high) == (0.0, 1.0)
    assert share(0, 0).value is None
    # Brown, Cai and DasGupta 2001, table 5: Jeffreys, n = 10, x = 3.
    assert (share(3, 10).low, share(3, 10).high) == pytest.approx((0.093, 0.606), abs=0.001)


def test_the_corrected_share_covers_the_truth() -> None:
    """Of many reviews with known errors, the interval holds the true precision in 95 %."""
    rng = np.random.default_rng(7)
    se, sp, true, inside, plain = 0.93, 0.9, 0.97, 0, 0
    for _ in range(1000):
        said = int(rng.binomial(100, true * se + (1 - true) * (1 - sp)))
        found = corrected(
            share(said, 100),
            share(int(rng.binomial(60, se)), 60),
            share(int(rng.binomial(60, sp)), 60),
        )
        assert found is not None
        assert found.value is not None
        inside += found.low <= true <= found.high
        plain += share(said, 100).low <= true <= share(said, 100).high
    assert inside >= 940
    assert plain < 500, "without the correction reviewers' errors look like false links"


def test_who_errs_as_often_as_chance_corrects_nothing() -> None:
    assert corrected(share(5, 10), share(5, 10), share(5, 10)) is None
    assert corrected(share(0, 0), share(9, 10), share(9, 10)) is None


def shown(
    rng: np.random.Generator, doubts: int, checks: int, decoys: int, wrong: int
) -> list[Case]:
    """Cases; `wrong` of the checks are two people. The truth is in `case_id`, for the reviewers."""
    cases = []
    for n in range(doubts + checks + decoys):
        kind = "doubt" if n < doubts else "check" if n < doubts + checks else "decoy"
        same = bool(rng.random() < 0.5)
        if kind == "check":
            same = n - doubts >= wrong
        cases.append(
            Case(
                case_id=f"{n:06}-{int(same)}",
                doubt=kind == "doubt",
                check=kind == "check",
                decoy=kind == "decoy",
                typical=kind == "decoy" and same and n % 2 == 0,
                truth=kind == "decoy" and same,
                probability={"doubt": 0.5, "check": 0.99}.get(kind, float(same)),
            )
        )
    return cases


def read(
    cases: list[Case], errors: dict[str, tuple[float, float]], rng: np.random.Generator
) -> list[Reading]:
    """Let reviewers of these sensitivities and specificities read, as the broker hands out."""
    found = []
    for case in cases:
        answers: list[Answer] = []
        same = case.case_id.endswith("1")
        for number, who in enumerate(rng.permutation(sorted(errors)), start=1):
            if verdict(answers) is not None:
                break
            se, sp = errors[str(who)]
            says = rng.random() < (se if same else 1 - sp)
            answers.append("same" if says else "different")
            found.append(Reading(case.case_id, number, str(who), answers[-1]))
    return found


@pytest.fixture(scope="module")
def judged() -> Judged:
    rng = np.random.default_rng(3)
    cases = shown(rng, 400, 600, 600, wrong=24)
    people = {"ada": (0.95, 0.92), "ben": (0.85, 0.97), "cleo": (0.9, 0.9)}
    return judge(cases, read(cases, people, rng))


def test_each_reviewers_errors_are_found(judged: Judged) -> None:
    true = {"ada": (0.95, 0.92), "ben": (0.85, 0.97), "cleo": (0.9, 0.9)}
    for one in judged.figures["reviewers"]:
        se, sp = true[one["reviewer"]]
        assert one["sensitivity"]["low"] <= se <= one["sensitivity"]["high"], one
        assert one["specificity"]["low"] <= sp <= one["specificity"]["high"], one
        assert one["counted"]


def test_kappa_is_that_of_independent_errors(judged: Judged) -> None:
    """Expected for two reviewers and an even mix: from their error rates alone."""
    true = {"ada": (0.95, 0.92), "ben": (0.85, 0.97), "cleo": (0.9, 0.9)}
    share_same = (200 + 576 + 300) / 1600
    for one in judged.figures["agreement"]:
        (a, b), (c, d) = (true[who] for who in one["reviewers"])
        both = share_same * a * c + (1 - share_same) * (1 - b) * (1 - d)
        neither = share_same * (1 - a) * (1 - c) + (1 - share_same) * b * d
        first = share_same * a + (1 - share_same) * (1 - b)
        second = share_same * c + (1 - share_same) * (1 - d)
        chance = first * second + (1 - first) * (1 - second)
        expected = (both + neither - chance) / (1 - chance)
        assert one["low"] - 0.03 <= expected <= one["high"] + 0.03, one


def test_the_precision_of_links_is_found(judged: Judged) -> None:
    found = judged.figures["precision"]["corrected"]
    assert found["low"] <= 1 - 24 / 600 <= found["high"]
    assert found["value"] == pytest.approx(0.96, abs=0.02)


def test_a_decision_is_bounded(judged: Judged) -> None:
    assert len(judged.decided) >= 390
    assert max(map(abs, judged.decided.values())) <= math.log(MOST_RATIO) + 0.01
    right = [(odds > 0) == name.endswith("1") for name, odds in judged.decided.items()]
    assert np.mean(right) > 0.95


def test_who_always_says_the_same_moves_nothing() -> None:
    rng = np.random.default_rng(4)
    cases = shown(rng, 50, 20, 60, wrong=0)
    careless = judge(cases, read(cases, {"ada": (1.0, 0.0), "ben": (1.0, 0.0)}, rng))
    assert careless.decided == {}
    assert careless.figures["precision"]["corrected"] is None
    # Beside two who are careful it is their word that counts.
    readings = read(cases, {"ada": (1.0, 0.0), "ben": (0.98, 0.98), "cleo": (0.98, 0.98)}, rng)
    mixed = judge(cases, readings)
    counted = {one["reviewer"]: one["counted"] for one in mixed.figures["reviewers"]}
    assert counted == {"ada": False, "ben": True, "cleo": True}
    by_case: dict[str, list[Reading]] = {}
    for one in readings:
        by_case.setdefault(one.case_id, []).append(one)
    for name, odds in mixed.decided.items():
        wanted = "same" if odds > 0 else "different"
        said = [r.answer for r in by_case[name] if r.reviewer != "ada"]
        assert said.count(wanted) == 2


def test_few_decoys_tell_little() -> None:
    rng = np.random.default_rng(5)
    cases = shown(rng, 20, 0, 4, wrong=0)
    perfect = dict.fromkeys(("ada", "ben"), (1.0, 1.0))
    few = judge(cases, read(cases, perfect, rng))
    cases = shown(rng, 20, 0, 200, wrong=0)
    many = judge(cases, read(cases, perfect, rng))
    assert few.figures["evidence"]["ratio_same"] < many.figures["evidence"]["ratio_same"] <= 19


def test_nobody_has_read_anything() -> None:
    cases = shown(np.random.default_rng(6), 5, 5, 5, wrong=0)
    nothing = judge(cases, [Reading("not there", 1, "ada", ANSWERS[0])])
    assert nothing.decided == {}
    assert nothing.figures["doubts_decided"]["open"] == 5
    assert nothing.figures["reviewers"] == []
    assert judge([], []).figures["cases"] == 0
