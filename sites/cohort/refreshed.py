"""
What changed between two deliveries of one question, without telling of few people.

    figures = shown_figures(report)            every count of a report, by what it is of
    held = hold_back(report, earlier)          the report, less what differs from an earlier by few
    changes(before, after, same)               who is new, who is gone, as it may be read

Two reports that differ by three persons tell of three persons. So the report of a refreshed cohort
hides each table in which a count is within (minimum - 1) of what any earlier report of the chain
showed; it carries those earlier counts along. Remaining weakness: two refreshes of one cohort that
know nothing of each other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sites.cohort.disclosure import HIDDEN, CellRule, Shown
from sites.cohort.report_checks import part
from sites.cohort.saved import SavedCohort

TABLES = ("sex", "age", "race", "ethnicity")
CLOSE = "it is too close to what an earlier report of this cohort shows"
REASONS = ("their record or its images are no longer there", "they no longer meet the criteria")


def shown_figures(report: Mapping[str, Any]) -> dict[str, int]:
    """Return every count of people or rows that a report shows as a number, by its name."""
    return {name: count for name, count in _counts(report) if isinstance(count, int)}


def _counts(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("persons", "studies", "series"):
        yield name, report.get(name)
    for name in TABLES:
        yield from ((f"{name}/{g}", n) for g, n in (report.get(name) or {}).items())
    for step in report["attrition"]["enclave"]:
        yield f"step/{step['step']}", step["persons"]
    for table in report.get("tables", ()):
        yield f"rows/{table['table']}", table["rows"]
    for table in report.get("images", ()):
        yield from ((f"{table['name']}/{g}", n) for g, n in (table["groups"] or {}).items())
    for group, count in (report.get("links", {}).get("evidence") or {}).items():
        yield f"evidence/{group}", count
    for check in report.get("plausibility", ()):
        yield f"check/{check['check']}", check["persons"]
        yield f"of/{check['check']}", check["of"]


def hold_back(report: Mapping[str, Any], earlier: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """
    Return the report without what would tell, beside an earlier one, of few people.

    earlier: the counts that reports before it showed. A table goes as a whole: one hidden cell
    would follow from the others.
    """
    rule = CellRule(int(report["minimum_cell"]))
    held = copy.deepcopy(dict(report))

    def close(name: str, count: Any) -> bool:
        return isinstance(count, int) and any(
            name in one and rule.small(abs(count - one[name])) for one in earlier
        )

    for name in ("persons", "studies", "series"):
        if close(name, held[name]):
            held[name] = HIDDEN
    for name in TABLES:
        if any(close(f"{name}/{g}", n) for g, n in (held.get(name) or {}).items()):
            held[name] = None
            for one in held["representativeness"]["variables"]:
                if one["name"] == name:
                    kept = {"name": name, "note": one["note"], "groups": [], "left_out": []}
                    one.clear()
                    one |= kept | {"why_not": CLOSE}
    steps = held["attrition"]["enclave"]
    for n, step in enumerate(steps):
        if close(f"step/{step['step']}", step["persons"]):
            step["persons"] = HIDDEN
            for lost in held["lost_links"][max(0, n - 1) : n + 1]:
                lost["persons"] = HIDDEN
    for table in held["tables"]:
        if close(f"rows/{table['table']}", table["rows"]):
            table["rows"] = HIDDEN
    for table in held["images"]:
        if any(close(f"{table['name']}/{g}", n) for g, n in (table["groups"] or {}).items()):
            table |= {"groups": None, "note": CLOSE}
    evidence = held["links"]["evidence"] or {}
    if any(close(f"evidence/{group}", n) for group, n in evidence.items()):
        held["links"] |= {"evidence": None, "why_not": f"The evidence is not shown: {CLOSE}"}
    for check in held["plausibility"]:
        for key, name in (("persons", "check"), ("of", "of")):
            if close(f"{name}/{check['check']}", check[key]):
                check[key] = HIDDEN
    # Shares of rounded counts, of two groups: an earlier report has them too.
    held["lost_groups"] = [] if earlier else held["lost_groups"]
    return held


def changes(
    before: SavedCohort, after: SavedCohort, same: Mapping[str, str], *, still_sent: int
) -> dict[str, Any]:
    """
    Return who is new and who is gone, as it may be read.

    same: cohort ID after, by cohort ID before, of those who are in both. still_sent: how many of
    those who are gone still have rows that came; they no longer meet the criteria.
    """
    rule = CellRule(max(before.minimum_cell, after.minimum_cell))
    both = len(same)
    gone, new = len(before.persons) - both, len(after.persons) - both
    told = gone_and_new(gone, new, rule)
    reasons = None
    if isinstance(told[0], int) and gone:
        reasons = rule.show_table({REASONS[0]: gone - still_sent, REASONS[1]: still_sent})
    more, fewer = _image_changes(before, after, same)
    return {
        "in_both": part(both, (len(before.persons), len(after.persons)), rule),
        "gone": told[0],
        "new": told[1],
        "gone_because": reasons,
        "with_more_series": part(more, (both,), rule),
        "with_fewer_series": part(fewer, (both,), rule),
        "minimum_cell": rule.minimum,
    }


def why_hidden(found: Mapping[str, Any]) -> str:
    """Return in words why changes are not shown, "" where they are."""
    if HIDDEN not in (found["gone"], found["new"]):
        return ""
    return (
        f"1 to {found['minimum_cell'] - 1} persons are new, or gone: beside both reports the one"
        " number would give the other away"
    )


def gone_and_new(gone: int, new: int, rule: CellRule) -> tuple[Shown, Shown]:
    """
    Return both as they may be read: neither where one of them is few people.

    Their difference follows from the two reports, and would give the one away by the other.
    """
    if rule.small(gone) or rule.small(new):
        return HIDDEN, HIDDEN
    return rule.show(gone), rule.show(new)


def _image_changes(
    before: SavedCohort, after: SavedCohort, same: Mapping[str, str]
) -> tuple[int, int]:
    """Return how many of those in both gained series, and how many lost some."""
    had, have = _series(before), _series(after)
    more = fewer = 0
    for old, new in same.items():
        then = had.get(before.persons[old], set())
        now = have.get(after.persons[new], set())
        more += bool(now - then)
        fewer += bool(then - now)
    return more, fewer


def _series(cohort: SavedCohort) -> dict[int, set[str]]:
    rows = cohort.table("omop/image_occurrence", ["person_id", "image_series_uid"])
    found: dict[int, set[str]] = {}
    for person, uid in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        found.setdefault(person, set()).add(uid)
    return found
