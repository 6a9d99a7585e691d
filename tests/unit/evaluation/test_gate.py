"""The release gate on small crowds: weak studies fail, strong ones do not, bad input is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from linkage.attack_cli import NOT_PASSED, shipped_study
from linkage.cli import app
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.gate import GateRun, run_gate
from linkage.evaluation.gate_choice import (
    at_depths,
    choose_diffusion,
    deeper,
    failing,
)
from linkage.evaluation.gate_evidence import Expected, expectations
from linkage.evaluation.gate_people import fields_of
from linkage.evaluation.gate_records import measure_structure
from linkage.evaluation.gate_report import page
from linkage.study import StudyConfig, load_study, parse_study

PEOPLE = 700

STUDY = """\
[study]
id = "gate-study"
title = "A study <to> measure"
purpose = "To test with"

[[party]]
id = "alpha"
records = 2_000
fields = ["first_name", "last_name", "date_of_birth", "sex", "street"]

[[party]]
id = "beta"
records = 2_000
fields = ["first_name", "last_name", "date_of_birth", "sex"]

[[clk]]
id = "name-dob-sex"
diffusion = 5
fields = [
    { field = "first_name" },
    { field = "last_name" },
    { field = "date_of_birth", bits = 140 },
    { field = "sex", bits = 40 },
]

[[clk]]
id = "name-street"
diffusion = 5
fields = [
    { field = "first_name" },
    { field = "last_name" },
    { field = "sex", bits = 40 },
    { field = "street", bits = 140 },
]

[[match_key]]
id = "first-last-dob"
fields = ["first_name", "last_name", "date_of_birth"]
"""


@pytest.fixture(scope="module")
def weak() -> StudyConfig:
    return parse_study(STUDY)


@pytest.fixture(scope="module")
def crowd(weak: StudyConfig) -> Crowd:
    return simulated(PEOPLE, seed=1, fields=fields_of(weak))


@pytest.fixture(scope="module")
def guesses(weak: StudyConfig, crowd: Crowd) -> tuple[Expected, ...]:
    return expectations(weak, crowd, seed=1)


Measure = Callable[[StudyConfig], GateRun]


@pytest.fixture(scope="module")
def measure(crowd: Crowd, guesses: tuple[Expected, ...]) -> Measure:
    def run(study: StudyConfig) -> GateRun:
        return run_gate(study, crowd, people="simulated, seed 1", draws=1, guesses=guesses)

    return run


@pytest.fixture(scope="module")
def weak_run(weak: StudyConfig, measure: Measure) -> GateRun:
    return measure(weak)


@pytest.fixture(scope="module")
def deep_run(weak: StudyConfig, measure: Measure) -> GateRun:
    return measure(at_depths(weak, {"name-dob-sex": 24, "name-street": 28}))


def _reasons(run: GateRun) -> list[str]:
    return run.certificate(date="2026-11-21", software="test").reasons(run.study)


@pytest.mark.threat("T23")
def test_a_weak_study_fails_by_name(weak_run: GateRun) -> None:
    assert weak_run.plain_reidentified > 0.95  # so the attack works
    assert {one.figures.evidence for one in weak_run.evidence} == {
        *("clk:name-dob-sex", "clk:name-street"),
        "party:alpha",
    }
    for one in weak_run.evidence:
        assert one.figures.correlation > 0.15
        assert one.figures.attacker_correlation > one.figures.correlation
        assert one.figures.seeded > 0.5
        assert one.figures.holds_up_to == 0
        assert [reason for reason in _reasons(weak_run) if one.figures.evidence in reason]


@pytest.mark.threat("T02")
def test_deep_diffusion_passes_where_it_was_measured(deep_run: GateRun) -> None:
    for one in deep_run.evidence:
        # Keys are drawn anew; .022 has been seen, and the gate's limit is .15.
        assert abs(one.figures.correlation) < 0.05
        assert one.worst <= 0.01
        assert one.figures.predicted_seeded <= 0.01
        assert one.figures.holds_up_to >= 4_000
    # What is left to say is that so few people were measured, and of match keys.
    reasons = [reason for reason in _reasons(deep_run) if "clk:" in reason or "party:" in reason]
    assert not reasons
    assert not failing(deep_run.evidence, deep_run.records)


@pytest.mark.threat("T02")
def test_what_is_foretold_from_a_quarter_is_found(weak_run: GateRun, deep_run: GateRun) -> None:
    for run, most in ((weak_run, 1.0), (deep_run, 0.04)):
        for one in run.evidence:
            assert [fit.people for fit in one.fit][-1] == one.people
            assert all(fit.found <= most and fit.predicted <= most for fit in one.fit)


def test_figures_follow_from_the_seed_but_for_the_keys(
    weak: StudyConfig, weak_run: GateRun, measure: Measure
) -> None:
    again = measure(weak)
    assert weak_run.structure == again.structure
    for first, second in zip(weak_run.evidence, again.evidence, strict=True):
        assert first.people == second.people
        assert first.figures.attacker_correlation == pytest.approx(
            second.figures.attacker_correlation, abs=0.05
        )
        # A mean of energies hangs on its few largest: two keys may well differ by half.
        assert 1 / 4 < first.relatives / second.relatives < 4


def test_depths_are_chosen_for_the_declared_size(
    weak: StudyConfig, guesses: tuple[Expected, ...]
) -> None:
    chosen = choose_diffusion(weak, guesses)
    assert all(5 < depth < 30 for depth in chosen.depths().values())
    assert all(chosen.depths()[clk] >= alone for clk, alone in chosen.alone.items())
    parties = tuple(party.model_copy(update={"records": 200_000}) for party in weak.party)
    larger = choose_diffusion(weak.model_copy(update={"party": parties}), guesses)
    assert sum(larger.depths().values()) > sum(chosen.depths().values())
    assert 'id = "name-dob-sex"' in chosen.lines()
    assert f"diffusion = {chosen.depths()['name-dob-sex']}" in " ".join(chosen.lines())
    next_one = deeper(chosen, ["clk:name-street", "party:alpha"])
    raised = {clk: depth - chosen.depths()[clk] for clk, depth in next_one.depths().items()}
    assert raised == {"name-dob-sex": 0, "name-street": 1}
    both = deeper(chosen, ["party:alpha"]).depths()
    assert all(both[clk] == depth + 1 for clk, depth in chosen.depths().items())


def test_the_report_stands_alone_and_tells_the_verdict(
    weak_run: GateRun, deep_run: GateRun
) -> None:
    for run in (weak_run, deep_run):
        certificate = run.certificate(date="2026-11-21", software="test")
        text = page(run, certificate, command="linkage attack <study.toml>")
        assert "http" not in text
        assert "<script" not in text
        assert "A study &lt;to&gt; measure" in text
        assert "linkage attack &lt;study.toml&gt;" in text
        assert "Does not pass the release gate." in text  # too few people
        # In the dark scheme the bar that is dark by day is the lighter one.
        assert not {"Dark:", "Light:"} & set(text.split())
        for one in run.evidence:
            assert one.figures.evidence in text


def test_structure_is_measured_at_the_declared_size(weak: StudyConfig) -> None:
    parties = tuple(party.model_copy(update={"records": 12_000}) for party in weak.party)
    found = measure_structure(weak.model_copy(update={"party": parties}), seed=1)
    assert found.people >= 12_000
    assert 0 <= found.share == found.together <= 0.01


def test_an_epoch_more_needs_more(weak: StudyConfig, guesses: tuple[Expected, ...]) -> None:
    study = weak.model_copy(update={"clk": weak.clk[:1]})
    third = study.model_copy(update={"study": study.study.model_copy(update={"epoch": 3})})
    once, later = (
        choose_diffusion(one, guesses[:1]).depths()["name-dob-sex"] for one in (study, third)
    )
    assert later > once


def test_crowds_that_say_nothing_are_refused(weak: StudyConfig, crowd: Crowd) -> None:
    with pytest.raises(LinkageError, match="too few"):
        run_gate(weak, crowd.rows(np.arange(100)), people="few")
    alike = crowd.rows(np.zeros(PEOPLE, np.int64))
    with pytest.raises(LinkageError, match="the same values"):
        run_gate(weak, alike, people="one person")
    plain = weak.study.model_copy(update={"profile": "clkhash"})
    with pytest.raises(LinkageError, match="plain CLKs"):
        run_gate(weak.model_copy(update={"study": plain}), crowd, people="any")


# --- The command ---------------------------------------------------------------------------------


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, ["attack", *(str(arg) for arg in args)])


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("diffusion = 5", "diffusion = 9"), encoding="utf-8")
    return path


def _people(path: Path, crowd: Crowd, **changed: Callable[[int], str]) -> Path:
    """Write a file of people; `changed` gives other values, by row."""
    texts = {field: column.texts() for field, column in crowd.columns.items()}
    for field, value in changed.items():
        texts[field] = [value(i) for i in range(len(crowd))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(texts)
        writer.writerows(zip(*texts.values(), strict=True))
    return path


def test_the_command_prints_json_and_writes_what_the_custodian_signs(
    study_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "gate"
    done = _run(study_file, "--n", 600, "--draws", 1, "--json", "--out", out)
    assert done.exit_code == NOT_PASSED, done.output
    said = json.loads(done.stdout)
    assert {
        *("passed", "reasons", "plain_reidentified", "hardened_reidentified"),
        *("hardened_correlation", "combined_reidentified", "n", "certificate", "evidence"),
    } <= set(said)
    assert said["n"] == 600
    assert said["passed"] is False
    assert json.loads((out / "certificate.json").read_text()) == said["certificate"]
    assert "privacy report" in (out / "report.html").read_text(encoding="utf-8")


def test_the_command_says_a_verdict_with_remedies(
    study_file: Path, tmp_path: Path, crowd: Crowd
) -> None:
    people = _people(tmp_path / "people.csv", crowd)
    # Crowds are normalised already, and so are their dates: YYYYMMDD.
    done = _run(
        study_file, "--people", people, "--draws", 1, "--n", 600, "--date-format", "YYYYMMDD"
    )
    assert done.exit_code == NOT_PASSED, done.output
    assert "does not pass the release gate" in done.stdout
    assert "raise diffusion" in done.stdout
    # A row of the table is a line, in a terminal of 80 columns.
    rows = [line for line in done.stdout.splitlines() if line.startswith((" clk ", " party "))]
    assert [row.split("  ")[0].strip() for row in rows] == [
        "clk name-dob-sex",
        "clk name-street",
        "party alpha",
    ]
    assert all(len(row.rstrip()) <= 80 and row.count("%") == 2 for row in rows)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("none", "is not there"),
        ("column", "has no column street"),
        ("few", "100 rows are too few"),
        ("alike", "rows differ from each other"),
        ("dates", "--date-format"),
    ],
)
def test_a_bad_file_is_refused_with_a_remedy(
    fault: str, said: str, study_file: Path, tmp_path: Path, crowd: Crowd
) -> None:
    path = tmp_path / "people.csv"
    iso = {"date_of_birth": lambda i: f"{1920 + i % 90}-{1 + i % 12:02}-{1 + i % 28:02}"}
    if fault == "column":
        fewer = Crowd({f: c for f, c in crowd.columns.items() if f != "street"}, crowd.person)
        _people(path, fewer, **iso)
    elif fault == "few":
        _people(path, crowd.rows(np.arange(100)), **iso)
    elif fault == "alike":
        _people(path, crowd.rows(np.zeros(PEOPLE, np.int64)), date_of_birth=lambda i: "1970-01-02")
    elif fault == "dates":
        _people(path, crowd, date_of_birth=lambda i: f"{1 + i % 12}/{1 + i % 28}/1970")
    done = _run(study_file, "--people", path)
    assert done.exit_code == 4, done.output
    assert said in " ".join(done.stderr.split())
    assert "What to do: " in done.stderr


def test_too_few_and_too_many_are_refused(study_file: Path) -> None:
    assert _run(study_file, "--n", 100).exit_code == 7
    assert _run(study_file, "--n", 10**6).exit_code == 7


def test_the_shipped_study_is_found() -> None:
    assert load_study(shipped_study()).study.id == "three-commons"
