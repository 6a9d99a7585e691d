"""The command line `linkage`, as a user and as a program meets it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from linkage.cli import app
from linkage.evaluation.people import PARTIES, simulate


def _run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Simulated people, and IDs in which every tenth person of the enclave was missed."""
    assert _run("people", 400, "--out", tmp_path).exit_code == 0
    (tmp_path / "ids").mkdir()
    for party in PARTIES:
        held = simulate(400).holdings(party)
        with (tmp_path / "ids" / f"{party}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["record_id", "cross_commons_id"])
            for record, person in zip(held.record_ids, held.person.tolist(), strict=True):
                missed = party == "enclave" and person % 10 == 0
                writer.writerow([record, f"{'lost' if missed else 'ID'}{person}"])
    return tmp_path


def test_people_then_evaluate(linked: Path) -> None:
    done = _run("evaluate", "--ids", linked / "ids", "--truth", linked / "truth.csv", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    by_pair = {(p["left"], p["right"]): p for p in found["pairs"]}
    assert by_pair["claims", "imaging"]["f1"] == 1.0
    missed = by_pair["claims", "enclave"]
    assert missed["precision"] == 1.0
    assert 0.8 < missed["recall"] < 0.97
    assert found["overall"]["missed"] > 0
    table = _run("evaluate", "--ids", linked / "ids", "--truth", linked / "truth.csv")
    assert table.exit_code == 0
    assert "1.0000" in table.stdout


def test_evaluate_takes_columns_and_refuses_half_a_pair(linked: Path) -> None:
    common = ("evaluate", "--ids", linked / "ids", "--truth", linked / "truth.csv")
    assert _run(*common, "--column", "imaging=imaging_id").exit_code == 0
    assert _run(*common, "--column", "imaging").exit_code == 2
    assert _run(*common, "--column", "imaging=nothing").exit_code == 4


def test_a_refusal_says_fault_and_remedy_and_has_its_exit_code(tmp_path: Path) -> None:
    done = _run("evaluate", "--ids", tmp_path, "--truth", tmp_path / "truth.csv")
    assert done.exit_code == 4
    assert "Error: " in done.stderr
    assert "What to do: " in done.stderr
    assert _run("people", 0, "--out", tmp_path).exit_code == 7
    assert _run("bench", "--scale", 0).exit_code == 7
    assert _run("people", "many", "--out", tmp_path).exit_code == 2


def test_people_says_where(tmp_path: Path) -> None:
    done = _run("people", 5, "--out", tmp_path, "--seed", 9, "--contact", "--json")
    paths = json.loads(done.stdout)
    assert sorted(paths) == ["claims", "enclave", "imaging", "truth"]
    assert all(Path(path).is_file() for path in paths.values())


def test_bench_compares_with_the_reference_packages() -> None:
    done = _run("bench", "--scale", 0.01, "--json")
    assert done.exit_code == 0, done.output
    dice, clks = json.loads(done.stdout)
    assert (dice["reference"], clks["reference"]) == ("anonlink", "clkhash")
    for result in (dice, clks):
        assert result["rate"] > 0
        assert result["ratio"] == pytest.approx(result["rate"] / result["reference_rate"])
    assert "reference" in _run("bench", "--scale", 0.01).stdout
