"""What the run pages draw and say: geometry that can be read back, words that name a remedy."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from broker.run_compared import compared, lines
from broker.web import drawings, run_figures, run_tables, run_words
from broker.web.run_asked import RunAsked
from broker.web.run_remarks import remarks
from linkage.errors import MatchingFailed, PackageRefused
from linkage.matching.dataset import Shape
from linkage.matching.estimates import LEAST_THRESHOLD, below, estimate
from linkage.run_messages import RunBasis, RunState


def parsed(drawn: str) -> ET.Element:
    """An SVG that a browser's strict policy takes: it parses, and holds no style or script."""
    assert not re.search(r"style=|<script|on[a-z]+=|href=", drawn)
    return ET.fromstring(drawn)  # noqa: S314 - we made it ourselves


def test_a_histogram_shows_each_bin_once_and_where_the_thresholds_are() -> None:
    drawn = parsed(drawings.probabilities([5, 0, 1, 1000], link=0.8, review=0.3))
    bins = list(drawn.iter("rect"))
    assert [one.get("class") for one in bins] == [
        "bin apart",
        "bin doubt",
        "bin doubt",
        "bin linked",
    ]
    heights = [float(one.get("height", "")) for one in bins]
    assert heights[1] == 0 < heights[2] < heights[0] < heights[3]
    left, width = (float(drawn.get(name, "")) for name in ("data-left", "data-width"))
    for name, at in (("link", 0.8), ("review", 0.3)):
        line = drawn.find(f"g[@data-threshold='{name}']")
        assert line is not None
        assert line.get("transform") == f"translate({left + width * at:.1f} 0)"
    # A bin is of what its middle is: exactly on the threshold is linked.
    edge = parsed(drawings.probabilities([1, 1], link=0.75, review=0.25))
    assert [one.get("class") for one in edge.iter("rect")] == ["bin doubt", "bin linked"]


@pytest.mark.parametrize("counts", [[0] * 50, [0, 10**12]])
def test_nothing_and_very_much_can_be_drawn(counts: list[int]) -> None:
    drawn = parsed(drawings.probabilities(counts, link=1.0, review=1.0))
    for one in drawn.iter("rect"):
        assert 0 <= float(one.get("height", "")) <= 150


def test_an_overlap_plot_marks_who_is_in() -> None:
    drawn = parsed(drawings.overlaps([([0, 2], 90), ([1], 30)], ["A", "B", "C"]))
    dots = [one.get("class") for one in drawn.iter("circle")]
    assert dots == ["on", "off", "on", "off", "on", "off"]
    assert len([one for one in drawn.iter("line") if one.get("class") == "tie"]) == 1
    bars = [one for one in drawn.iter("rect") if one.get("class") != "stripe"]
    first, second = (float(one.get("width", "")) for one in bars)
    assert first == pytest.approx(3 * second, abs=0.1)
    many = parsed(drawings.overlaps([([i], 1) for i in range(63)], drawings.letters(63)))
    assert max(float(one.get("cx", "")) for one in many.iter("circle")) < 260
    parsed(drawings.overlaps([], []))


def test_names_are_escaped() -> None:
    assert "&lt;b&gt;" in drawings.bars([drawings.Bar("<b>", 1.0, "1")], "said")


def test_sizes_beyond_a_dozen_are_one_bar() -> None:
    made = drawings.sizes_as_bars({str(size): size for size in range(1, 31)})
    assert [one.label for one in made][:2] == ["1 record", "2 records"]
    assert (made[-1].label, made[-1].text) == ("13 or more", str(sum(range(13, 31))))
    assert max(one.share for one in made) == 1.0


def report() -> dict[str, Any]:
    found = np.array([0.99] * 90 + [0.7] * 10 + [0.2] * 50)
    made = estimate(found[:100], found, 110.0)
    plain = made.to_json() | {
        "below": [
            {name: getattr(one, name) for name in ("threshold", "pairs", "matches", "variance")}
            for one in below(found, made)
        ]
    }
    return {
        "records": {"a": 120, "b": 100},
        "people": {"a": 110, "b": 100},
        "persons": 110,
        "candidates": 150,
        "overall": plain,
        "comparisons": [{"parties": ["a", "b"], "estimate": plain, "wanted": []}],
        "overlaps": {"a": 10, "b": 0, "a+b": 100},
        "warnings": [],
    }


def test_the_sliders_have_every_threshold_that_may_be_chosen_and_the_runs_own() -> None:
    view = run_figures.view_of(report(), "no such key")
    assert view is not None
    figures = view.figures
    thresholds = [point[0] for point in figures["points"]]
    assert thresholds == sorted(thresholds)
    assert min(thresholds) >= LEAST_THRESHOLD
    assert figures["link"] in thresholds
    under = [one[0] for one in figures["below"]]
    assert figures["review"] in under
    assert figures["link"] in under
    older = report()
    del older["comparisons"][0]["estimate"]["below"]
    seen = run_figures.view_of(older, "")
    assert seen is not None
    assert seen.figures["below"] == []


def test_link_rates_count_persons_that_another_dataset_holds() -> None:
    a, b = run_figures.held(report())
    assert (a.persons, a.linked, b.persons, b.linked) == (110, 100, 100, 100)
    assert a.rate == pytest.approx(100 / 110)
    sets, smaller = run_figures.sets_of(report())
    assert [count for _, count in sets] == [100, 10, 0]
    assert smaller == 0


def test_two_runs_side_by_side() -> None:
    one, other = report(), report()
    other["persons"] = 2000
    other["overlaps"] = {"a+b": 90, "b": 10}
    first, second = (state(state="done", report=told, seconds={"open": 2}) for told in (one, other))
    together, sets = run_tables.tables(compared(first, second))
    assert together.rows[0] == run_tables.Row("Persons", "110", "2\u202f000", "+1\u202f890")
    said = {row.name: row.change for row in sets.rows}
    assert said == {"a and b": "\N{MINUS SIGN}10", "a only": "\N{MINUS SIGN}10", "b only": "+10"}
    assert together.rows[-1] == run_tables.Row("All stages", "2.0 s", "2.0 s")


def test_what_one_of_two_runs_did_not_compare_or_link_is_said() -> None:
    one, other = report(), report()
    nothing = other["overall"] | {"chosen": other["overall"]["chosen"] | {"links": 0}}
    one["comparisons"] = [
        {"parties": parties, "estimate": one["overall"], "wanted": []}
        for parties in (["a", "b"], ["a", "c"])
    ]
    other["comparisons"] = [{"parties": ["a", "b"], "estimate": nothing, "wanted": []}]
    found = compared(*(state(state="done", report=told) for told in (one, other)))
    _, by_two, _ = run_tables.tables(found)
    rows = {row.name: row for row in by_two.rows}
    assert rows["a and c: compared"] == run_tables.Row("a and c: compared", "yes", "no")
    assert rows["a and b: estimated precision"].second == "nothing linked"
    assert rows["a and b: estimated precision"].change == ""
    assert "a and c: estimated precision" not in rows
    said = "\n".join(lines(found))
    assert re.search(r"a \+ c: links +100 +-$", said, re.MULTILINE)
    # An "all together" figure is of the whole run, whatever two datasets are called.
    assert {one.about for one in found.figures} == {"", "a+b", "a+c", "a", "b"}


def test_what_two_runs_are_made_of() -> None:
    one, other = (state(state="done", report=report()) for _ in range(2))
    assert (one.basis, other.basis) != (None, None)
    other = state(state="done", report=report(), precision=0.99, result_digest="0" * 64)
    assert other.basis is not None
    other.basis.inputs["a"] = 2
    other.basis.reviewed.append("run-0")
    found = compared(one, other)
    assert [(made.what, made.first, made.second) for made in found.made_of] == [
        ("Wanted precision", "the best F1", "0.99"),
        ("Reviews that count", "none", "run-0"),
        ("Dataset of a", "none", "2"),
    ]
    assert not found.same_persons
    assert compared(one, one).same_persons
    assert "  nothing: the same datasets, lists and settings" in list(lines(compared(one, one)))


WARNED = (
    "party 'a' has no records",
    "party 'a': 12 filters of 'x' are nearly empty or full",
    "'a' and 'b' share no CLK and no match key: not compared",
    "'a' and 'b': only about 3 matches expected; the estimates are rough",
    "party 'a': 90 pairs of its own records look like one person; recall suffers",
)


def test_every_warning_of_a_run_has_a_remedy() -> None:
    """Those of linkage.matching.weights, as it words them."""
    for text in WARNED:
        [(texts, remedy)] = run_words.warnings([text])
        assert remedy, text
        assert texts[0].endswith(".")
    assert run_words.warnings([WARNED[0], WARNED[0], "unheard of"])[1] == (["Unheard of."], "")
    from linkage.matching import weights

    empty = Shape("a", 0, 0, clks=(), keys=(), collisions={}, unusable={})
    for text in weights._warnings([empty], []):
        assert run_words.warnings([text])[0][1], text


def test_a_failure_is_cause_and_remedy() -> None:
    told = run_words.failure("'a', part 2: altered. Hint: have it submitted again")
    assert (told.cause, told.remedy) == ("'a', part 2: altered.", "Have it submitted again.")
    assert run_words.failure("it broke").remedy == ""


def state(**changed: Any) -> RunState:
    basis = RunBasis(
        epoch=1, seed=1, inputs={}, asserted={}, opted_out={}, reviewed=[], second_look=True,
        software="1",
    )  # fmt: skip
    return RunState(
        run_id="run-1", study_id="study", basis=basis, **{"state": "running", **changed}
    )


def test_stages_are_those_that_the_run_has() -> None:
    def names(run: RunState) -> list[tuple[str, str]]:
        return [(one.name, one.state) for one in run_words.stages(run)]

    whole = names(state(stage="candidates"))
    assert [one for _, one in whole] == ["done", "now", "next", "next", "next", "next"]
    assert ("Compare the rest", "next") not in whole
    anew = names(state(stage="weights", of="run-0"))
    assert anew[0] == ("Weigh the pairs", "now")
    failed = names(state(state="failed", stage="open"))
    assert failed == [("Open the datasets", "now")]
    done = names(state(state="done", stage="identity", seconds={"open": 1.0, "identity": 2.0}))
    assert done == [("Open the datasets", "done"), ("Keep the person IDs", "done")]
    assert names(state(state="queued"))[0] == ("Open the datasets", "next")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "under 1 s"),
        (9.96, "10.0 s"),
        (8, "8 s"),
        (75, "75 s"),
        (1800, "30 min"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert run_words.duration(seconds) == said


def test_what_is_asked_of_a_run_is_read_from_text() -> None:
    assert RunAsked.read({}).second_look
    assert not RunAsked.read({"asked": "yes"}).second_look
    assert RunAsked.read({"precision": "0,97"}).request().precision == 0.97
    assert RunAsked.read({}).request().precision is None
    for text in ("99", "x", "nan", "inf", "-1"):
        with pytest.raises(MatchingFailed, match="wanted precision"):
            RunAsked.read({"precision": text}).request()
    with pytest.raises(PackageRefused):
        RunAsked.read({"of": "<b>"}).request()


def test_remarks_part_thousands_as_the_portal_does() -> None:
    told = list(remarks({"links": {"CLK only": 1234567}, "reuse": {"reused": 0, "comparisons": 9}}))
    assert told == ["Links by their evidence: 1\u202f234\u202f567 by CLK only."]
