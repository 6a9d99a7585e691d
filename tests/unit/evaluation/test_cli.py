"""The command line `linkage`, as a user and as a program meets it."""

from __future__ import annotations

import csv
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from linkage.cli import app
from linkage.evaluation.bench_filters import made_filters
from linkage.evaluation.people import PARTIES, simulate


def _run(*args: object) -> Result:
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
    done = _run("evaluate", linked / "ids", linked / "truth.csv", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    by_pair = {(p["left"], p["right"]): p for p in found["pairs"]}
    assert by_pair["claims", "imaging"]["f1"] == 1.0
    missed = by_pair["claims", "enclave"]
    assert missed["precision"] == 1.0
    assert 0.8 < missed["recall"] < 0.97
    assert found["overall"]["missed"] > 0
    table = _run("evaluate", linked / "ids", linked / "truth.csv")
    assert table.exit_code == 0
    assert "1.0000" in table.stdout


def test_evaluate_takes_columns_and_refuses_half_a_pair(linked: Path) -> None:
    common = ("evaluate", linked / "ids", linked / "truth.csv")
    assert _run(*common, "--column", "imaging=imaging_id").exit_code == 0
    assert _run(*common, "--column", "imaging").exit_code == 2
    assert _run(*common, "--column", "imaging=nothing").exit_code == 4


def test_a_refusal_says_fault_and_remedy_and_has_its_exit_code(tmp_path: Path) -> None:
    done = _run("evaluate", tmp_path, tmp_path / "truth.csv")
    assert done.exit_code == 4
    assert "Error: " in done.stderr
    assert "What to do: " in done.stderr
    assert _run("people", 0, "--out", tmp_path).exit_code == 7
    assert _run("bench", "match", "--left", 0).exit_code == 7
    assert _run("people", "many", "--out", tmp_path).exit_code == 2


def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (("people", 5), ("attack", "--n", 50_000), ("attack", "--sweep")):
        done = _run(*words, "--out", tmp_path / "file" / "below")
        assert done.exit_code == 7, words
        assert "Error: " in done.stderr
        assert "What to do: " in done.stderr


def test_a_narrow_terminal_loses_no_digit(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("evaluate", linked / "ids", linked / "truth.csv")
    monkeypatch.setenv("COLUMNS", "80")
    wide = _run(*words).stdout.split()
    monkeypatch.setenv("COLUMNS", "45")
    assert _run(*words).stdout.split() == wide


def test_evaluate_writes_over_nothing_that_it_reads(linked: Path) -> None:
    ids, truth = linked / "ids", linked / "truth.csv"
    before = {path: path.read_bytes() for path in linked.rglob("*.csv")}
    for option, place in (
        ("--errors", truth),
        ("--html", ids / ".." / "truth.csv"),
        ("--errors", ids / "imaging.csv"),
        ("--errors", ids / "wrong.csv"),  # the next time it would be a party's
    ):
        done = _run("evaluate", ids, truth, option, place)
        assert (done.exit_code, "files that are scored" in done.stderr) == (7, True), place
    assert {path: path.read_bytes() for path in linked.rglob("*.csv")} == before
    for _ in range(2):  # one's own output may be written again
        assert _run("evaluate", ids, truth, "--errors", linked / "wrong.csv").exit_code == 0
    listed = _run("evaluate", ids, linked / "wrong.csv")
    assert (listed.exit_code, "lists pairs" in listed.stderr) == (4, True)


def test_people_says_where(tmp_path: Path) -> None:
    done = _run("people", 5, "--out", tmp_path, "--seed", 9, "--contact", "--json")
    paths = json.loads(done.stdout)
    assert sorted(paths) == ["claims", "enclave", "imaging", "truth"]
    assert all(Path(path).is_file() for path in paths.values())


def test_bench_match_compares_with_anonlink() -> None:
    size = ("--left", 300, "--right", 200, "--bits", 512)
    done = _run("bench", "match", *size, "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["identical"] is True
    assert made["pairs"] >= 31
    theirs = made["anonlink_comparisons_per_second"]
    assert made["ratio"] == pytest.approx(made["comparisons_per_second"] / theirs)
    one = made["comparisons_per_second_one_thread"]
    assert made["ratio_one_thread"] == pytest.approx(one / theirs)
    assert "the same" in _run("bench", "match", *size).stdout


@pytest.mark.parametrize("bits", [512, 1024, 2048, 4096])
@pytest.mark.parametrize(("kind", "low", "high"), [("people", 0.15, 0.4), ("diffused", 0.45, 0.55)])
def test_bench_match_compares_clks_of_people(kind: str, low: float, high: float, bits: int) -> None:
    one, other = made_filters(kind, 300, 200, bits, seed=3)
    assert (one.shape, other.shape) == ((300, bits // 8), (200, bits // 8))
    assert low < np.bitwise_count(one).sum(dtype=int) / one.size / 8 < high
    again = made_filters(kind, 300, 200, bits, seed=3)
    assert np.array_equal(one, again[0])
    assert np.array_equal(other, again[1])
    same = (one[:31] == other[:31]).all(axis=1)
    assert 5 < same.sum() <= 31  # most common persons are registered alike, and nobody else is
    assert not (one[31:200] == other[31:]).all(axis=1).any()
    if bits == 512:
        size = ("--left", 300, "--right", 200, "--bits", bits)
        done = _run("bench", "match", *size, "--filters", kind, "--json", "--seed", 3)
        made = json.loads(done.stdout)
        assert (made["filters"], made["identical"]) == (kind, True)
        assert made["pairs"] >= same.sum()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--left", 0),
        ("--bits", 1000),
        ("--threshold", 0),
        ("--threshold", "nan"),
        ("--filters", "clowns"),
    ],
)
def test_bench_match_refuses_what_cannot_be(option: str, value: object) -> None:
    done = _run("bench", "match", "--left", 10, "--right", 10, option, value)
    assert done.exit_code != 0
    assert "Traceback" not in done.output


def test_bench_encode_compares_every_bit_with_clkhash(tmp_path: Path) -> None:
    """With the clkhash of the development environment: the other needs a package index."""
    python = ("--clkhash-python", sys.executable, "--folder", tmp_path)
    once = ("--repeats", 1)
    done = _run("bench", "encode", "--records", 1_000, "--workers", 0, "--json", *python, *once)
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["identical"] is True
    assert made["clkhash_version"] == version("clkhash")
    rates = ("records_per_second", "hardened_records_per_second", "clkhash_records_per_second")
    assert all(made[rate] > 0 for rate in (*rates, "ratio", "peak_memory_mb"))
    assert list(tmp_path.iterdir()) == []
    none = _run("bench", "encode", "--records", 1_000, "--clkhash-python", tmp_path / "none")
    assert none.exit_code == 7
    assert "cannot be run (FileNotFoundError)" in none.stderr


def test_people_shows_its_rate() -> None:
    from rich.progress import Progress

    from linkage.cli import Rate

    now = iter(range(100))
    with Progress(Rate("people/s"), get_time=lambda: float(next(now)), auto_refresh=False) as bar:
        task = bar.add_task("people", total=100_000)
        assert str(Rate("people/s").render(bar.tasks[0])) == ""
        for done in (0, 50_000, 100_000):
            bar.update(task, completed=done)
        assert str(Rate("people/s").render(bar.tasks[0])).endswith(" people/s")
