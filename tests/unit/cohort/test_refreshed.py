"""Two reports of one cohort, subtracted: nothing of few people comes out."""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from sites.cohort.disclosure import HIDDEN, CellRule
from sites.cohort.refreshed import changes, gone_and_new, hold_back, shown_figures, why_hidden
from sites.cohort.report import report_of
from sites.cohort.saved import open_saved

from .test_performance import saved_folder
from .test_report import delivered


def report(*counts: int) -> dict[str, Any]:
    return report_of(delivered(*counts))


def test_what_differs_by_few_is_held_back() -> None:
    before, after = report(100, 60), report(103, 63)
    held = hold_back(after, [shown_figures(before)])
    assert held["persons"] == HIDDEN
    assert held["sex"] is None
    assert [step["persons"] for step in held["attrition"]["enclave"]] == [HIDDEN, HIDDEN]
    assert [lost["persons"] for lost in held["lost_links"]] == [HIDDEN]
    sex = next(one for one in held["representativeness"]["variables"] if one["name"] == "sex")
    assert (sex["groups"], "distance" in sex) == ([], False)
    assert after["persons"] == 63  # what was given is not changed


def test_what_is_the_same_or_differs_by_many_is_shown() -> None:
    before = report(100, 60)
    assert hold_back(report(100, 60), [shown_figures(before)])["persons"] == 60
    held = hold_back(report(150, 80), [shown_figures(before)])
    assert held["persons"] == 80
    assert held["sex"] == report(150, 80)["sex"]


def test_every_earlier_report_of_the_chain_counts() -> None:
    first, second = report(100, 60), report(130, 90)
    held = hold_back(report(133, 63), [shown_figures(first), shown_figures(second)])
    assert held["persons"] == HIDDEN
    assert held["attrition"]["enclave"][0]["persons"] == HIDDEN


@pytest.mark.parametrize("minimum", [3, 4])
def test_nobody_can_work_out_few_new_or_gone(minimum: int) -> None:
    """Whoever knows both totals, where both are shown, and what is told of new and gone."""
    rule = CellRule(minimum)
    alike = defaultdict(set)
    for gone, new in itertools.product(range(12), repeat=2):
        apart = new - gone
        known = HIDDEN if rule.small(abs(apart)) else apart
        alike[str((known, gone_and_new(gone, new, rule)))].add((gone, new))
    few = [
        ways
        for ways in alike.values()
        if any(rule.small(gone) or rule.small(new) for gone, new in ways)
        and max(g for g, _ in ways) < 11
        and max(n for _, n in ways) < 11
    ]
    assert all(len({g for g, _ in ways}) > 1 and len({n for _, n in ways}) > 1 for ways in few)
    assert few


def test_who_is_new_who_is_gone_and_who_has_more_images(tmp_path: Path) -> None:
    """200 before, 230 after: 180 in both; the series of 120 of these are other ones now."""
    before = open_saved(saved_folder(tmp_path / "before", 200))
    after = open_saved(saved_folder(tmp_path / "after", 230))
    # The made folders give the nth person the nth series.
    same = {f"C-{10_001 + n}": f"C-{10_001 + n}" for n in range(60)}
    same |= {f"C-{10_061 + n}": f"C-{10_062 + n}" for n in range(120)}
    found = changes(before, after, same, still_sent=5)
    assert (found["in_both"], found["gone"], found["new"]) == (180, 20, 50)
    assert (found["with_more_series"], found["with_fewer_series"]) == (120, 120)
    assert found["gone_because"] == {
        "their record or its images are no longer there": HIDDEN,
        "they no longer meet the criteria": HIDDEN,
    }


def test_few_who_are_gone_are_not_told_with_their_reasons(tmp_path: Path) -> None:
    before = open_saved(saved_folder(tmp_path / "before", 200))
    after = open_saved(saved_folder(tmp_path / "after", 230))
    same = {f"C-{10_001 + n}": f"C-{10_001 + n}" for n in range(195)}
    found = changes(before, after, same, still_sent=5)
    assert (found["gone"], found["new"], found["gone_because"]) == (HIDDEN, HIDDEN, None)
    assert found["in_both"] == HIDDEN
    assert why_hidden(found).startswith("1 to 10 persons are new, or gone")
    assert why_hidden(found | {"gone": 20, "new": 30}) == ""


def test_a_held_back_report_still_makes_a_page() -> None:
    from sites.cohort.report_page import html_of

    before = report(100, 60)
    held = hold_back(copy.deepcopy(report(103, 63)), [shown_figures(before)])
    page = html_of(held)
    assert "hidden" in page
    assert "too close to what an earlier report" in page
