"""
A report that leaves the enclave, beside the counts that were shown: what subtracting them tells.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion
from linkage.errors import NotAllowed
from sites.cohort.counts import Counts, answer_counts
from sites.cohort.disclosure import TOO_FEW, CellRule
from sites.cohort.ledger import Ledger
from sites.cohort.omop import OmopSource
from sites.cohort.one_way import Cell
from sites.cohort.report_links import LinkQuality
from sites.cohort.report_reference import load_reference
from sites.cohort.shared_report import OTHER, SharedCohort, _together, shared_report

from . import attacks
from .attacks import Attack, Show, play
from .conftest import OpenOmop, events
from .ledgers import asked, ledger_in

ROUNDS = 12
ILL = 400
"""Persons 1 to ILL have the condition; of 500."""
TARGET = 7


def key(n: int) -> bytes:
    """An enclave's own key of its blur."""
    return hashlib.sha256(str(n).encode()).digest()


@pytest.fixture
def source(open_omop: OpenOmop) -> OmopSource:
    people = " ".join(f"{n},{8532 if n % 2 else 8507},1950,1,1" for n in range(1, 501))
    rows = [(n, 10, "2000-06-01") for n in range(1, ILL + 1)]
    return open_omop(people, condition_occurrence=events("condition", *rows))


def counted(source: OmopSource, ledger: Ledger, question: str = "question-1") -> Counts:
    """Count who has the condition, with a table by sex."""
    ids = {n: hashlib.sha256(f"{question}/{n}".encode()).hexdigest() for n in range(1, 501)}
    ill = ConceptCriterion(domain="condition", concept_id=10, descendants=False)
    return answer_counts(
        list(ids.values()),
        ids,
        ClinicalCriteria(concepts=[ill]),
        source,
        ledger=ledger,
        asked=asked(question),
        variables=("sex",),
    )


def cohort(who: Sequence[int], modality: Sequence[str] = (), **more: Any) -> SharedCohort:
    """The cohort of these persons, as it was delivered."""
    people = pa.table(
        {
            "name": pa.array([str(n) for n in who], pa.string()),
            "sex": pa.array(["female" if n % 2 else "male" for n in who], pa.string()),
            "age": pa.array([40 + n % 40 for n in who], pa.int64()),
            "race": pa.array([8527 if n % 3 else 8516 for n in who], pa.int64()),
            "ethnicity": pa.array([38003564] * len(who), pa.int64()),
        }
    )
    made: dict[str, Any] = {
        "about": {"title": "x"},
        "people": people,
        "groups": {"modality": list(modality)} if modality else {},
        "variables": ("sex",),
        "counted": (),
        "tabled": ("sex",),
        "links": LinkQuality(),
        "reference": load_reference(),
    }
    return SharedCohort(**made | more)


def table(report: dict[str, Any], name: str) -> dict[str, Any] | None:
    (found,) = [one for one in report["tables"] if one["name"] == name]
    rows = found["groups"]
    return None if rows is None else {one["group"]: one["persons"] for one in rows}


def everybody(*but: int) -> list[int]:
    return [n for n in range(1, ILL + 1) if n not in but]


def test_the_report_minus_the_counts_is_nothing(source: OmopSource, tmp_path: Path) -> None:
    """Whether or not the one person, or six, were lost on the way to the delivery."""
    exact = set()
    for n in range(ROUNDS):
        for lost in ((), (TARGET,), tuple(range(1, 7))):
            ledger = ledger_in(tmp_path / f"{n}-{len(lost)}", key=key(n))
            counts = counted(source, ledger)
            report = shared_report(ledger, asked("delivery-1"), cohort(everybody(*lost)))
            assert report["persons"] == counts.persons
            assert table(report, "sex") == counts.distributions["sex"]
            assert report["flow"][-1]["persons"] == counts.persons
            exact.add(CellRule(11).show(ILL - len(lost)))
    assert len(exact) == 3, "the report in the folder tells them apart"


def test_a_report_of_rounded_counts_would_tell_whether_the_last_person_is_in(
    source: OmopSource, tmp_path: Path
) -> None:
    """
    Who knows all but one of a cohort sees a sharp rounding step by that one: the way that was not
    taken. 397 others are known; 398 rounds to 400, and 397 to 395.
    """
    sharp = {lost: CellRule(11, 5).show(398 - lost) for lost in (0, 1)}
    assert sharp == {0: 400, 1: 395}
    found: dict[int, list[Any]] = {0: [], 1: []}
    for n in range(ROUNDS):
        for lost in found:
            ledger = ledger_in(tmp_path / f"{n}-{lost}", key=key(n))
            counted(source, ledger)
            who = everybody(*[ILL, ILL - 1, TARGET][: 2 + lost])
            found[lost].append(shared_report(ledger, asked("delivery-1"), cohort(who)))
    assert found[0] == found[1]


def test_nobody_tells_who_alone_has_another_modality(source: OmopSource, tmp_path: Path) -> None:
    """Of 400 persons with CT one has MR, or has not: no name, no number and no cell tells it."""
    who = everybody()
    told = []
    for n in range(ROUNDS):
        for odd in ("CT", "MR"):
            ledger = ledger_in(tmp_path / f"{n}-{odd}", key=key(n))
            counted(source, ledger)
            made = cohort(who, [odd if one == TARGET else "CT" for one in who])
            told.append(shared_report(ledger, asked("delivery-1"), made))
    assert told[::2] == told[1::2]
    assert list(table(told[0], "modality") or {}) == [f"CT or {OTHER}"]


@pytest.mark.parametrize(
    "attack",
    [attacks.ten_planted, attacks.planted(17), attacks.planted(22), attacks.planted_below_a_step],
)
def test_known_members_of_a_group_hardly_help(tmp_path: Path, attack: Attack) -> None:
    """Who knows all but one of those with MR: as little as of a count (.5 is guessing)."""
    everyone = [*range(1, 5001), attacks.TARGET]

    def enclave(seed: int) -> Show:
        ledger = ledger_in(tmp_path / str(seed), key=key(seed))

        def show(persons: Sequence[int]) -> Any:
            chosen = set(persons)
            of = ["MR" if n in chosen else "CT" for n in everyone]
            made = shared_report(ledger, asked("delivery-1"), cohort(everyone, of), keep=False)
            told = table(made, "modality") or {}
            return next((n for name, n in told.items() if name.startswith("MR")), TOO_FEW)

        return show

    assert play(attack, enclave, 60) < 0.7


def test_groups_of_enough_persons_are_named_the_largest_first(tmp_path: Path) -> None:
    who = everybody()
    of = ["MR" if n % 4 == 0 else "US" if n < 5 else OTHER if n % 10 == 1 else "CT" for n in who]
    made = shared_report(ledger_in(tmp_path), asked("delivery-1"), cohort(who, of))
    found = table(made, "modality")
    assert found is not None
    assert list(found) == ["CT", "MR", OTHER]
    assert "'US'" not in str(made)
    assert all(abs(found[name] - of.count(name)) <= 14 for name in ("CT", "MR"))


def test_a_report_is_made_once_and_stays_whatever_comes(source: OmopSource, tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path, questions=2)
    counts = counted(source, ledger)
    seen = shared_report(ledger, asked("delivery-1"), cohort(everybody()), keep=False)
    assert len(ledger.entries()) == 1, "a preview enters nothing"
    made = shared_report(ledger, asked("delivery-1"), cohort(everybody()))
    assert made == seen
    again = shared_report(ledger_in(tmp_path, questions=2), asked("delivery-1"), cohort([1, 2, 3]))
    assert again == made
    entry = ledger.entries()[-1]
    assert (entry.question, entry.exact) == ("delivery-1", 400)
    assert entry.answer["persons"] == counts.persons
    with pytest.raises(NotAllowed, match="2 questions of this epoch"):
        shared_report(ledger_in(tmp_path, questions=2), asked("delivery-2"), cohort([1]))


def test_a_preview_writes_nothing(source: OmopSource, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        found = (path for path in sorted(tmp_path.rglob("*")))
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}

    ledger = ledger_in(tmp_path)
    for whom in (everybody(), [*everybody(), 498, 499]):
        before = files()
        seen = shared_report(ledger, asked("delivery-1"), cohort(whom), keep=False)
        assert files() == before, "nobody of these is in the ledger yet"
        with ledger_in(tmp_path / "busy").held():
            # Nor does it wait for whoever counts.
            shared_report(ledger_in(tmp_path / "busy"), asked("x"), cohort(whom), keep=False)
        shutil.rmtree(tmp_path / "busy")
    assert shared_report(ledger, asked("delivery-1"), cohort(whom)) == seen
    assert files() != before
    # Those whom an answer made known are so for the next one that reads the ledger.
    counts = counted(source, ledger_in(tmp_path))
    assert counts.persons == seen["persons"]


def test_counts_after_a_report_read_as_the_report(source: OmopSource, tmp_path: Path) -> None:
    """In the other order, too: the ledger knows of reports."""
    for n in range(ROUNDS):
        ledger = ledger_in(tmp_path / str(n), key=key(n))
        report = shared_report(ledger, asked("delivery-1"), cohort(everybody(TARGET)))
        assert counted(source, ledger).persons == report["persons"]


def test_what_is_left_of_what_may_be_told_is_for_counts(source: OmopSource, tmp_path: Path) -> None:
    """A table that was shown costs no more; another one would be too much."""
    ledger = ledger_in(tmp_path, small_answers=2)
    counts = counted(source, ledger)
    assert counts.distributions["sex"]
    made = shared_report(ledger, asked("delivery-1"), cohort(everybody(), ["CT"] * ILL))
    assert table(made, "sex") == counts.distributions["sex"]
    assert table(made, "modality") is None
    assert "the rest is for counts" in made["tables"][-1]["why_not"]


def test_a_small_cohort_has_no_tables(tmp_path: Path) -> None:
    for size in (3, 60):
        ledger = ledger_in(tmp_path / str(size))
        made = shared_report(ledger, asked("delivery-1"), cohort(range(size), ["CT"] * size))
        assert [one["groups"] for one in made["tables"]] == [None, None]
        assert made["links"]["evidence"] is None
        assert all(one["why_not"] for one in made["representativeness"]["variables"])
    assert shared_report(ledger_in(tmp_path / "0"), asked("d"), cohort([]))["persons"] == TOO_FEW


def test_distances_are_of_what_is_shown(tmp_path: Path) -> None:
    """Categories that share a cell are compared as one, on both sides."""
    variables = ("sex", "age", "race", "ethnicity")
    made = shared_report(
        ledger_in(tmp_path), asked("delivery-1"), cohort(everybody(), variables=variables)
    )
    found = {one["name"]: one for one in made["representativeness"]["variables"]}
    assert set(found) == set(variables)
    sex, age = found["sex"], found["age"]
    shown = table(made, "sex") or {}
    assert sex["groups"][0]["cohort"] == pytest.approx(
        shown["female"] / sum(shown.values()), abs=1e-4
    )
    assert 0 <= sex["low"] <= sex["distance"] <= sex["high"] <= 1
    # Nobody is below 40: whoever is of an age without a cell of its own is taken together.
    assert sum(one["cohort"] for one in age["groups"]) == pytest.approx(1, abs=1e-3)
    assert sum(one["reference"] for one in age["groups"]) == pytest.approx(1, abs=1e-3)
    assert any(" or " in one["group"] for one in age["groups"])


def test_categories_that_no_cell_tells_apart_go_together() -> None:
    cells = [Cell(("a",), 40), Cell(("b", "c"), 50), Cell(("d",), "<110"), Cell(("unknown",), 20)]
    parts = _together([{"a"}, {"b"}, {"c"}, {"d"}, {"e"}], cells)
    assert parts == [([0], 40), ([1, 2], 50), ([3], 0), ([4], 0)]


def test_evidence_of_links_is_told_in_cells_as_well(tmp_path: Path) -> None:
    who = everybody()
    kinds = ["deterministic: high" if n % 3 else "probabilistic: high" for n in who]
    made = cohort(
        who,
        groups={"evidence": kinds},
        links=LinkQuality(release="release-1", precision="good", recall="fair"),
    )
    links = shared_report(ledger_in(tmp_path), asked("delivery-1"), made)["links"]
    assert links["estimated_precision"] == "good"
    names = [one["group"] for one in links["evidence"]]
    assert names == ["deterministic: high", f"probabilistic: high or {OTHER}"]
    assert np.all([one["persons"] % 5 == 0 for one in links["evidence"]])
