"""The table of threats is the one that tests wrote, and no row is without test or reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from linkage import certificate
from tests import threats
from tests.threat_rows import ATTACKS, HEADLINES, PROMISES, THREATS

MARKED = dict(threats.marked())


def test_every_row_has_a_test_or_a_reason() -> None:
    shown = Counter(row for rows in MARKED.values() for row in rows)
    for one in THREATS.values():
        assert bool(shown[one.id]) != bool(one.not_yet), f"{one.id}: a test, or a reason why none"
    assert not set(shown) - set(THREATS), "a mark of a row that is not there"
    assert len(THREATS) == len(ATTACKS) + len(PROMISES), "two rows of one id"


def test_the_results_are_of_the_tests_that_are_there() -> None:
    """Else: `make threats`, or with ROWS=... the rows that changed."""
    found = threats.read_results()
    assert {name: sorted(rows) for name, rows in MARKED.items()} == {
        name: told["rows"] for name, told in found.items()
    }
    assert not [name for name, told in found.items() if told["outcome"] == "failed"]


@pytest.mark.parametrize(
    ("page", "made"),
    [(threats.PAGE, threats.rendered), (threats.OFFICER, threats.rendered_for_officer)],
    ids=["threat-model", "privacy-officer"],
)
def test_the_pages_hold_the_tables_of_the_results(
    page: Path, made: Callable[[threats.Results], str]
) -> None:
    text = page.read_text(encoding="utf-8")
    begin, end = threats.MARKS
    assert text.count(begin) == text.count(end) == 1
    shown = begin + text.partition(begin)[2].partition(end)[0] + end
    assert shown == made(threats.read_results()), "run `python -m tests.threats`"


def test_every_figure_for_the_officer_is_one_of_a_test() -> None:
    figures = {name for told in threats.read_results().values() for name in told["figures"]}
    assert not [name for name, _ in HEADLINES if name not in figures]


def test_what_the_code_says_of_the_page_is_there() -> None:
    """Modules that name docs/threat-model.md name it rightly, and the page names every row."""
    text = threats.PAGE.read_text(encoding="utf-8")
    assert not [one for one in THREATS if f"**{one}**" not in text]
    named = {
        path
        for folder in ("linkage", "broker", "sites")
        for path in (threats.CHECKOUT / folder).rglob("*.py")
        if re.search(r"threat-?model", path.read_text(encoding="utf-8"))
    }
    assert len(named) >= 8
    for path in named:
        assert "docs/threat-model.md" in path.read_text(encoding="utf-8"), path


def test_the_page_names_the_limits_of_the_gate() -> None:
    text = threats.PAGE.read_text(encoding="utf-8")
    gate = text.partition("## The release gate")[2].partition("\n## ")[0]
    limits = [
        f"{certificate.MOST_CORRELATION:.2f}".lstrip("0"),
        f"{certificate.MOST_REIDENTIFIED:.0%}".replace("%", " %"),
        f"{certificate.MOST_UNIQUE:.1%}".lstrip("0").replace("%", " %"),
        f"{certificate.KNOWN_SHARE:.0%}".replace("%", " %"),
        f"{certificate.PLAIN_AT_LEAST:.0%}".replace("%", " %"),
        f"{certificate.LEAST_PEOPLE:,}",
        f"{certificate.LEAST_DRAWS} or more draws",
    ]
    assert not [one for one in limits if one not in gate]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("passed", "(3)"), ("skipped", "(**skipped**)"), ("failed", "(**failed**)")],
)
def test_a_test_that_did_not_pass_is_said_so(outcome: str, said: str) -> None:
    told = {"rows": ["T07"], "outcome": outcome, "cases": 3, "figures": {"found": "1 %"}}
    page = threats.rendered({"tests/test_x.py::test_y": told})
    assert f"`test_x y` {said}" in page
    assert ("NOT PASSED" in page) == (outcome != "passed")
    assert "found: **1 %**" in page
