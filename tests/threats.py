"""
The tables of docs/threat-model.md and docs/privacy-officer.md, from tests that run.

    python -m tests.threats --run           # run every marked test, write results and table
    python -m tests.threats --run T07 T22   # only these rows' tests; the others stay as they are
    python -m tests.threats                 # write the tables from docs/threat-results.json

A test shows a row with `@pytest.mark.threat("T01")` and tells figures with `record_property`.
"""

from __future__ import annotations

import argparse
import ast
import datetime as dt
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.threat_rows import ATTACKS, HEADLINES, PROMISES, THREATS, Threat

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "docs" / "threat-results.json"
PAGE = CHECKOUT / "docs" / "threat-model.md"
OFFICER = CHECKOUT / "docs" / "privacy-officer.md"
MARKS = ("<!-- written by `make threats`: begin -->", "<!-- written by `make threats`: end -->")

Results = dict[str, dict[str, Any]]
"""By test (file::function): rows, outcome, cases, figures."""


@dataclass(slots=True, eq=False)
class Collector:
    """A pytest plugin that keeps what the marked tests showed. only: rows, all where empty."""

    only: frozenset[str] = frozenset()
    rows: dict[str, list[str]] = field(default_factory=dict)
    found: Results = field(default_factory=dict)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep marked tests only."""
        kept, dropped = [], []
        for item in items:
            ids = sorted({mark.args[0] for mark in item.iter_markers("threat")})
            wanted = ids and (not self.only or self.only & set(ids))
            (kept if wanted else dropped).append(item)
            if wanted:
                self.rows.setdefault(_function(item.nodeid), ids)
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst outcome of all cases of a test, and its figures."""
        name = _function(report.nodeid)
        if report.when != "call" and report.passed:
            return
        kept = self.found.setdefault(
            name, {"rows": self.rows[name], "outcome": "passed", "cases": 0, "figures": {}}
        )
        kept["cases"] += report.when == "call" or report.skipped
        if report.failed or (report.skipped and kept["outcome"] == "passed"):
            kept["outcome"] = report.outcome
        kept["figures"] |= dict(report.user_properties)


def _function(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def run(only: Sequence[str] = ()) -> Results:
    """Run the marked tests in this process; return what they showed."""
    collector = Collector(frozenset(only))
    files = sorted({name.partition("::")[0] for name, ids in marked() if not only or ids & {*only}})
    # Long tests belong to it, and one may take longer than the suite allows.
    code = pytest.main(["-q", "--timeout=1800", "-p", "no:cacheprovider", *files], [collector])
    if code == pytest.ExitCode.INTERRUPTED and collector.found:
        collector.found.popitem()  # whoever was running may have cases left
    elif code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {code!r}")
    return collector.found


def marked() -> Iterator[tuple[str, set[str]]]:
    """Yield every marked test (file::function) and its rows, from the source of the tests."""
    for path in sorted((CHECKOUT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.threat(" in text:
            name = str(path.relative_to(CHECKOUT))
            yield from _marked_in(ast.parse(text), name, set())


def _marked_in(node: ast.Module | ast.ClassDef, name: str, outer: set[str]) -> Iterator[Any]:
    for one in node.body:
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "pytestmark":
            outer = outer | _rows_of([one.value])
        elif isinstance(one, ast.ClassDef):
            yield from _marked_in(one, f"{name}::{one.name}", outer | _rows_of(one.decorator_list))
        elif isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
            rows = outer | _rows_of(one.decorator_list)
            if rows:
                yield f"{name}::{one.name}", rows


def _rows_of(nodes: Sequence[ast.expr]) -> set[str]:
    calls = [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {
        ast.literal_eval(call.args[0])
        for call in calls
        if ast.unparse(call.func) == "pytest.mark.threat"
    }


def read_results() -> Results:
    """Return the results that the pages were written from; none where no test ran yet."""
    if not RESULTS.exists():
        return {}
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))["tests"]
    return found


def write_results(found: Results) -> None:
    """Write the results, ordered by test."""
    made = {"date": dt.date.today().isoformat(), "tests": dict(sorted(found.items()))}
    RESULTS.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def rendered(found: Results) -> str:
    """Return the generated part of the page, marks included."""
    lines = [MARKS[0], ""]
    for heading, rows in (("Attacks", ATTACKS), ("Promises under load and faults", PROMISES)):
        lines += [f"### {heading}", "", "| | who: how | what defends | measured | what remains |"]
        lines += ["|---|---|---|---|---|", *(_line(one, found) for one in rows), ""]
    lines += ["### Tests, by row", ""]
    for one in THREATS.values():
        names = [
            f"`{_short(name)}` {_said(told)}"
            for name, told in sorted(found.items())
            if one.id in told["rows"]
        ]
        lines.append(f"- **{one.id}** {'; '.join(names) or f'none: {one.not_yet}'}")
    return "\n".join([*lines, "", MARKS[1]])


def rendered_for_officer(found: Results) -> str:
    """Return the generated part of the privacy officer's page: the figures in plain words."""
    figures = {name: value for told in found.values() for name, value in told["figures"].items()}
    lines = [MARKS[0], "", "| what was tried, on simulated people | result |", "|---|---|"]
    lines += [f"| {said} | **{figures[name]}** |" for name, said in HEADLINES if name in figures]
    return "\n".join([*lines, "", MARKS[1]])


def _line(row: Threat, found: Results) -> str:
    tests = [told for told in found.values() if row.id in told["rows"]]
    figures = {name: value for told in tests for name, value in told["figures"].items()}
    said = "; ".join(f"{name}: **{value}**" for name, value in figures.items())
    cases = sum(told["cases"] for told in tests)
    bad = sum(told["outcome"] != "passed" for told in tests)
    passed = f"{len(tests)} tests, {cases} cases" + (f", {bad} NOT PASSED" if bad else "")
    reason = row.not_yet or "NOT RUN: make threats"
    measured = "; ".join(one for one in (said, passed) if one) if tests else f"*{reason}*"
    cells = (f"**{row.id}**", f"{row.adversary}: {row.attack}", row.defence, measured, row.remains)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _short(name: str) -> str:
    return name.removeprefix("tests/").replace("::test_", " ").replace(".py", "")


def _said(told: dict[str, Any]) -> str:
    return f"({told['cases']})" if told["outcome"] == "passed" else f"(**{told['outcome']}**)"


def write_pages(found: Results) -> None:
    """Put the generated parts between their marks in the pages."""
    for page, made in ((PAGE, rendered(found)), (OFFICER, rendered_for_officer(found))):
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        page.write_text(before + made + after, encoding="utf-8")


def main() -> int:
    """Run as a program; 1 where a marked test did not pass."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    asked.add_argument(
        "--run", nargs="*", metavar="ROW", help="run the tests, of all rows or these"
    )
    only = asked.parse_args().run
    if strange := set(only or ()) - set(THREATS):
        asked.error(f"no such row: {', '.join(sorted(strange))}")
    shown = run(only) if only is not None else {}
    there = dict(marked())
    found = {name: told for name, told in read_results().items() if name in there}
    if only is not None:
        found = {name: told for name, told in found.items() if only} | shown
        write_results(found)
    write_pages(found)
    return int(any(told["outcome"] == "failed" for told in found.values()))


if __name__ == "__main__":
    sys.exit(main())
