"""A model's figures by subgroup: right against plain loops, and silent about few people."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import DeliveryFaulty, LinkageError, NotFound
from sites.cohort.disclosure import CellRule
from sites.cohort.performance import performance, read_predictions
from sites.cohort.performance_numbers import auroc, block, shares_told
from sites.cohort.performance_page import performance_page
from sites.cohort.saved import SavedCohort, open_saved
from sites.commands.reuse import performance as command

SCORES = st.lists(st.integers(0, 6), min_size=2, max_size=12)


def plain_auroc(scores: list[float], labels: list[bool]) -> float:
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, one in zip(scores, labels, strict=True)
        if one
        for n, other in zip(scores, labels, strict=True)
        if not other
    ]
    return sum(pairs) / len(pairs)


@given(SCORES, SCORES)
def test_the_area_is_that_of_all_pairs(positive: list[int], negative: list[int]) -> None:
    scores = [float(one) for one in positive + negative]
    labels = [True] * len(positive) + [False] * len(negative)
    found = auroc(np.array(scores), np.array(labels))
    assert found is not None
    assert found["auroc"] == pytest.approx(plain_auroc(scores, labels), abs=6e-4)
    assert 0 <= found["low"] <= found["auroc"] <= found["high"] <= 1


def test_delong_s_variance_is_that_of_the_structural_components() -> None:
    """By the formula of the paper, pair by pair, on the logit scale."""
    draw = np.random.default_rng(1)
    x, y = draw.normal(1, 1, 60).round(1), draw.normal(0, 1, 80).round(1)
    kernel = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)
    area = kernel.mean()
    variance = kernel.mean(1).var(ddof=1) / 60 + kernel.mean(0).var(ddof=1) / 80
    half = 1.959963984540054 * np.sqrt(variance) / (area * (1 - area))
    centre = np.log(area / (1 - area))
    found = auroc(np.concatenate([x, y]), np.array([True] * 60 + [False] * 80))
    assert found is not None
    assert found["low"] == pytest.approx(1 / (1 + np.exp(half - centre)), abs=1e-3)
    assert found["high"] == pytest.approx(1 / (1 + np.exp(-half - centre)), abs=1e-3)


def test_a_perfect_model_has_an_interval_still() -> None:
    found = auroc(np.array([1.0] * 15 + [0.0] * 20), np.array([True] * 15 + [False] * 20))
    assert found is not None
    assert found["auroc"] == found["high"] == 1
    assert found["low"] < 0.9
    assert auroc(np.array([1.0]), np.array([True])) is None


@pytest.mark.parametrize(
    ("minimum", "sizes", "most"),
    [
        (11, (40, 45), 0),
        (11, (60, 25), 0),
        (11, (20, 25, 14), 0),
        # Below any real minimum, one way in hundreds: everybody is at the edge of every block.
        (4, (9, 9, 12), 5),
        (4, (14, 16), 2),
        (3, (6, 8, 11), 7),
        (3, (3, 4, 5, 6), 8),
    ],
)
def test_no_count_of_few_can_be_worked_out_from_shares(
    minimum: int, sizes: tuple[int, ...], most: int
) -> None:
    """
    Every way to find some of groups whose sizes are known, with one and the same figures for each
    and for all, is found by trying all: few hits, or few misses, have more than one possible count.
    """
    rule, alike = CellRule(minimum), defaultdict(list)
    of = dict(zip("abcd", sizes, strict=False))
    for hits in itertools.product(*(range(size + 1) for size in sizes)):
        alike[str(shares_told(dict(zip(of, hits, strict=True)), of, rule))].append(hits)
    assert len(alike) > 4
    known = 0
    for ways in alike.values():
        for place, size in enumerate(sizes):
            counts = {one[place] for one in ways}
            few = any(rule.small(count) or rule.small(size - count) for count in counts)
            known += len(ways) if few and len(counts) == 1 else 0
    assert known <= most


@given(st.integers(2, 20), st.integers(2, 200), st.data())
def test_blocks_are_wide_and_hold_their_count(minimum: int, of: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, of))
    least, most = block(hits, of, minimum)
    assert least <= hits <= most
    assert {block(one, of, minimum) for one in range(least, most + 1)} == {(least, most)}
    assert least >= 0
    assert most <= of
    assert most - least + 1 >= min(minimum, of + 1)


def test_an_interval_holds_the_true_share() -> None:
    rule, draw = CellRule(11), random.Random(2)
    shown = 0
    for _ in range(200):
        of = {name: draw.randint(8, 80) for name in "abc"}
        hits = {name: draw.randint(0, count) for name, count in of.items()}
        for name, told in shares_told(hits, of, rule).items():
            if told is not None and name in of:
                shown += 1
                assert told["low"] - 0.005 <= hits[name] / of[name] <= told["high"] + 0.005
    assert shown > 300


@pytest.fixture
def cohort(tmp_path: Path) -> SavedCohort:
    """200 persons, 120 women; 6 of another manufacturer; every seventh of another race."""
    return open_saved(saved_folder(tmp_path / "cohort"))


def saved_folder(folder: Path, persons: int = 200) -> Path:
    """Write the parts of a delivered folder that performance and refresh read."""
    numbers = list(range(10_001, 10_001 + persons))
    tables: dict[str, dict[str, Any]] = {
        "omop/person": {
            "person_id": numbers,
            "gender_concept_id": [8532 if n < 120 else 8507 for n in range(persons)],
            "year_of_birth": [1940 + n % 60 for n in range(persons)],
            "race_concept_id": [8515 if n % 7 == 0 else 8527 for n in range(persons)],
            "ethnicity_concept_id": [0] * persons,
        },
        "omop/cohort": {
            "subject_id": numbers,
            "cohort_start_date": pa.array(["2019-01-01"] * persons).cast(pa.date32()),
        },
        "omop/image_occurrence": {
            "image_occurrence_id": numbers,
            "person_id": numbers,
            "image_series_uid": [f"1.2.{n}" for n in numbers],
        },
        "side/image_series": {
            "image_occurrence_id": numbers,
            "modality": ["CT"] * persons,
            "manufacturer": ["RARE WORKS" if n < 6 else "GE" for n in range(persons)],
        },
        "side/cohort_person": {
            "cohort_id": [f"C-{number}" for number in numbers],
            "person_id": numbers,
        },
    }
    files = {}
    for path, columns in tables.items():
        file = folder / f"{path}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        files[f"{path}.parquet"] = hashlib.sha256(file.read_bytes()).hexdigest()
    report = {
        "version": 2,
        "title": "A title",
        "study": "study",
        "made_at": "2026-01-02",
        "trace": {"delivery": "d-1", "question": "q-1"},
        "minimum_cell": 11,
        "persons": persons,
        "specification": {"clinical": ["any person at all"], "imaging": []},
        "files": files,
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


def predictions(path: Path, cohort: SavedCohort, **changed: str) -> Path:
    """Write a good model's predictions; `changed`: line by cohort ID without its hyphen."""
    draw, lines = random.Random(3), ["cohort_id,score,label"]
    for one in cohort.persons:
        label = draw.random() < 0.5
        lines.append(changed.get(one.replace("-", ""), f"{one},{draw.gauss(label, 0.6)},{label:d}"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_everybody_and_each_group_are_measured(cohort: SavedCohort, tmp_path: Path) -> None:
    read = read_predictions(predictions(tmp_path / "p.csv", cohort), cohort)
    found = performance(cohort, read, threshold=0.5)
    said = [float(one) for one in read.scores]
    labels = [bool(one) for one in read.labels]
    assert found["overall"]["auroc"]["auroc"] == pytest.approx(plain_auroc(said, labels), abs=6e-4)
    hits = sum(s >= 0.5 for s, label in zip(said, labels, strict=True) if label) / sum(labels)
    told = found["overall"]["sensitivity"]
    assert told["share"] == pytest.approx(hits, abs=11 / sum(labels))
    assert told["low"] < hits < told["high"]
    assert [one["name"] for one in found["variables"]] == ["sex", "age", "race", "manufacturer"]
    page = performance_page(found)
    assert "For whom it works" in page
    assert "<script" not in page


def test_few_persons_have_no_figures_and_a_rare_name_is_not_printed(
    cohort: SavedCohort, tmp_path: Path
) -> None:
    read = read_predictions(predictions(tmp_path / "p.csv", cohort), cohort)
    found = performance(cohort, read, threshold=0.5)
    assert "RARE" not in json.dumps(found)
    maker = next(one for one in found["variables"] if one["name"] == "manufacturer")
    others = next(group for group in maker["groups"] if group["group"] == "others")
    assert (others["with"], others["without"]) == ("hidden", "hidden")
    assert others["auroc"] is others["sensitivity"] is others["specificity"] is None


def test_a_threshold_is_inclusive_and_an_empty_score_is_no_finding(
    cohort: SavedCohort, tmp_path: Path
) -> None:
    rows = [f"{one},{'' if n < 100 else 0.5},1" for n, one in enumerate(cohort.persons)]
    path = tmp_path / "p.csv"
    path.write_text("\n".join(["cohort_id,score,label", *rows]), encoding="utf-8")
    found = performance(cohort, read_predictions(path, cohort), threshold=0.5)
    assert found["overall"]["sensitivity"]["share"] == pytest.approx(0.5, abs=0.06)
    assert found["without_score"] == 100
    assert found["overall"]["auroc"] is None


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("C-99,0.5,1", "row 2, field 'cohort_id': is nobody of this cohort"),
        ("C-10002,0.5,1", "row 3, field 'cohort_id': occurs twice"),
        ("C-10001,high,1", "row 2, field 'score': is no number"),
        ("C-10001,nan,1", "row 2, field 'score': is no number"),
        ("C-10001,0.5,maybe", "row 2, field 'label': is neither 1 nor 0"),
    ],
)
def test_a_bad_row_is_refused_by_its_line_and_without_its_value(
    cohort: SavedCohort, tmp_path: Path, line: str, rule: str
) -> None:
    path = predictions(tmp_path / "p.csv", cohort, C10001=line)
    with pytest.raises(LinkageError) as fault:
        read_predictions(path, cohort)
    assert rule in str(fault.value)
    assert "C-99" not in str(fault.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "cohort_id,score\nC-10001,1\n"])
def test_another_file_is_refused(cohort: SavedCohort, tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LinkageError, match="has not the columns"):
        read_predictions(path, cohort)


def test_semicolons_an_empty_file_and_a_threshold_of_another_scale_are_said(
    cohort: SavedCohort, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text("cohort_id;score;label\nC-10001;0.5;1\n", encoding="utf-8")
    with pytest.raises(LinkageError) as fault:
        read_predictions(path, cohort)
    assert "parted by commas" in fault.value.hint
    path.write_text("cohort_id,score,label\n", encoding="utf-8")
    with pytest.raises(LinkageError, match="holds no prediction"):
        read_predictions(path, cohort)
    read = read_predictions(predictions(path, cohort), cohort)
    assert performance(cohort, read, threshold=0.5)["notes"] == []
    found = performance(cohort, read, threshold=50)
    assert found["notes"] == [
        "no score reaches the threshold of 50: is it on the scale of the scores?"
    ]
    assert "is it on the scale" in performance_page(found)
    (note,) = performance(cohort, read, threshold=-50)["notes"]
    assert note.startswith("every score reaches")


def test_a_folder_that_was_changed_or_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_saved(tmp_path)
    folder = saved_folder(tmp_path / "cohort")
    pq.write_table(pa.table({"person_id": [1]}), folder / "omop" / "person.parquet")
    with pytest.raises(DeliveryFaulty, match="digest"):
        open_saved(folder).groups()
    (folder / "report.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DeliveryFaulty):
        open_saved(folder)


def test_the_command_writes_page_and_figures(
    cohort: SavedCohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = predictions(tmp_path / "p.csv", cohort), tmp_path / "page.html"
    command(path, cohort.folder, 0.5, out, True, False)
    assert not out.exists()
    command(path, cohort.folder, 0.5, out, False, True)
    told = json.loads("{" + capsys.readouterr().out.partition("{")[2])
    assert json.loads(out.with_suffix(".json").read_text()) == told
    assert "AUROC" in out.read_text()
