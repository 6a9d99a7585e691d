"""Scores: counted by hand, by brute force, and where nothing is there to count."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import LinkageError, SourceRefused
from linkage.evaluation.quality import PairQuality, reliability, score, wilson
from linkage.evaluation.quality_files import read_ids, read_truth

IDS = {
    "imaging": {"A1": "X", "A2": "Y", "A3": "Z"},
    "enclave": {"1": "X", "2": "Z", "3": "W"},
    "claims": {"B1": "Y", "B2": "V"},
}
TRUTH = {
    "imaging": {"A1": "p", "A2": "q", "A3": "r"},
    "enclave": {"1": "p", "2": "s", "3": "r"},
    "claims": {"B1": "q", "B2": "p"},
}


def test_counts_by_hand() -> None:
    quality = score(IDS, TRUTH)
    both = quality.between("enclave", "imaging")
    # Found: A1-1 (right), A3-2 (wrong). True: A1-1, A3-3.
    assert (both.found, both.true, both.correct, both.false, both.missed) == (2, 2, 1, 1, 1)
    assert (both.precision, both.recall, both.f1) == (0.5, 0.5, 0.5)
    assert quality.between("imaging", "claims").recall == 0.5  # A2-B1 found, A1-B2 not
    assert quality.overall.found == 3
    assert quality.overall.true == 5
    assert quality.records == {"imaging": 3, "enclave": 3, "claims": 2}
    assert quality.as_json()["overall"]["false"] == 1


_LABELS = st.sampled_from(["a", "b", "c", "d"])
_SIDE = st.lists(st.tuples(_LABELS, st.none() | _LABELS), max_size=8)


@given(left=_SIDE, right=_SIDE)
def test_equal_to_comparing_all_pairs(
    left: list[tuple[str, str | None]], right: list[tuple[str, str | None]]
) -> None:
    """Duplicates within a party and records that the truth does not know included."""
    sides = {"one": left, "two": right}
    ids = {p: {str(i): given for i, (given, _) in enumerate(s)} for p, s in sides.items()}
    truth = {p: {str(i): who for i, (_, who) in enumerate(s) if who} for p, s in sides.items()}
    pair = score(ids, truth).between("one", "two")
    every = [(a, b) for a in left for b in right]
    assert pair.found == sum(a[0] == b[0] for a, b in every)
    assert pair.true == sum(a[1] == b[1] is not None for a, b in every)
    assert pair.correct == sum(a[0] == b[0] and a[1] == b[1] is not None for a, b in every)
    assert 0 <= pair.f1 <= 1
    low, high = pair.precision_interval
    assert 0 <= low <= pair.precision <= 1
    assert low <= high


def test_records_dropped_by_the_linkage_are_missed_and_unknown_ones_false() -> None:
    ids = {"one": {"1": "X"}, "two": {"7": "X", "8": "X"}}
    truth = {"one": {"1": "p", "2": "q"}, "two": {"7": "p", "9": "q"}}
    quality = score(ids, truth)
    assert (quality.overall.found, quality.overall.true, quality.overall.correct) == (2, 2, 1)
    assert quality.unknown == {"one": 0, "two": 1}


def test_nothing_found_and_nothing_to_find() -> None:
    none_found = PairQuality("a", "b", found=0, true=5, correct=0)
    assert (none_found.precision, none_found.recall, none_found.f1) == (1.0, 0.0, 0.0)
    nothing = PairQuality("a", "b", found=0, true=0, correct=0)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1.0, 1.0, 1.0)
    assert nothing.precision_interval == (0.0, 1.0)


def test_one_party_or_a_party_without_truth_is_refused() -> None:
    with pytest.raises(LinkageError, match="no two parties"):
        score({"one": {}}, {"one": {}})
    with pytest.raises(LinkageError, match="no column for party 'two'"):
        score({"one": {}, "two": {}}, {"one": {}})
    with pytest.raises(LinkageError, match="were not compared"):
        score(IDS, TRUTH).between("imaging", "registry")


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3: 81/263, 15/148, 0/20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_reliability_of_honest_and_of_boastful_probabilities() -> None:
    rng = np.random.default_rng(5)
    said = rng.random(20_000)
    happened = rng.random(20_000) < said
    honest = reliability(said, happened)
    assert honest.error < 0.02
    assert sum(b.pairs for b in honest.bins) == 20_000
    inside = [b.true_95[0] <= b.said <= b.true_95[1] for b in honest.bins]
    assert sum(inside) >= 7
    boastful = reliability(np.sqrt(said), happened)
    assert boastful.error > 0.1
    assert boastful.brier > honest.brier


def test_reliability_puts_ends_in_the_end_bins() -> None:
    found = reliability(np.array([0.0, 0.1, 1.0]), np.array([False, False, True]))
    assert [(b.low, b.pairs) for b in found.bins] == [(0.0, 1), (0.1, 1), (0.9, 1)]


@pytest.mark.parametrize("bad", [[1.1], [-0.1], [float("nan")], []])
def test_reliability_refuses_what_is_no_probability(bad: list[float]) -> None:
    with pytest.raises(LinkageError):
        reliability(np.array(bad, dtype=float), np.ones(len(bad), dtype=bool))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ids").mkdir()
    for party, ids in IDS.items():
        rows = "".join(f"{record},{person}\n" for record, person in ids.items())
        (tmp_path / "ids" / f"{party}.csv").write_text(f"record_id,cross_commons_id\n{rows}")
    (tmp_path / "truth.csv").write_text(
        "truth_id,imaging_id,person_id,subject_key\np,A1,1,B2\nq,A2,,B1\nr,A3,3,\ns,,2,\n"
    )
    return tmp_path


def test_files_say_the_same(folder: Path) -> None:
    ids = read_ids(folder / "ids")
    assert ids == IDS
    assert read_truth(folder / "truth.csv", ids) == TRUTH
    columns = {"enclave": "person_id", "claims": "subject_key"}
    assert read_truth(folder / "truth.csv", ids, columns) == TRUTH


def test_columns_that_could_be_either_have_to_be_said(folder: Path) -> None:
    ids = {"one": {"1": "X", "2": "Y"}, "two": {"1": "X", "2": "Z"}}
    (folder / "truth.csv").write_text("truth_id,left,right\np,1,2\nq,2,1\n")
    with pytest.raises(SourceRefused, match="say --column one=COLUMN"):
        read_truth(folder / "truth.csv", ids)
    truth = read_truth(folder / "truth.csv", ids, {"one": "left", "two": "right"})
    assert truth["one"] == {"1": "p", "2": "q"}
    assert truth["two"] == {"2": "p", "1": "q"}
    with pytest.raises(SourceRefused, match="one of: truth_id, left, right"):
        read_truth(folder / "truth.csv", ids, {"one": "no such column", "two": "right"})


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "is empty"),
        ("record,id\n1,X\n", "the header lacks"),
        ("record_id,cross_commons_id\nSECRET-1,\n", "row 2, field 'cross_commons_id': is empty"),
        (
            "record_id,cross_commons_id\nSECRET-1,X\nSECRET-1,Y\n",
            "row 3, field 'record_id': repeats",
        ),
        ("record_id,cross_commons_id\nSECRET-1,X,Y\n", "row 2: has another number of cells"),
        ("record_id,cross_commons_id\nSECRET-1\n", "row 2: has another number of cells"),
    ],
)
def test_a_bad_id_file_is_named_without_its_values(folder: Path, content: str, rule: str) -> None:
    (folder / "ids" / "claims.csv").write_text(content)
    with pytest.raises(SourceRefused, match=rule) as refused:
        read_ids(folder / "ids")
    assert "claims.csv" in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_missing_and_undecodable_files(folder: Path) -> None:
    with pytest.raises(SourceRefused, match="is no folder"):
        read_ids(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(SourceRefused, match="fewer than two"):
        read_ids(folder / "empty")
    with pytest.raises(SourceRefused, match="is not there"):
        read_truth(folder / "nowhere.csv", IDS)
    (folder / "ids" / "claims.csv").write_bytes(b"record_id,cross_commons_id\n\xff,X\n")
    with pytest.raises(SourceRefused, match="UnicodeDecodeError"):
        read_ids(folder / "ids")


def test_truth_of_the_measurement_set_gives_its_published_overlaps(three_commons: Path) -> None:
    columns = {"imaging": "imaging_id", "enclave": "person_id", "claims": "subject_key"}
    truth = read_truth(three_commons / "truth.csv", {p: {} for p in columns}, columns)
    perfect = score(truth, truth)
    counts = {(p.left, p.right): p.true for p in perfect.pairs}
    assert counts == {
        ("imaging", "enclave"): 698,
        ("imaging", "claims"): 1329,
        ("enclave", "claims"): 1806,
    }
    assert all(pair.f1 == 1.0 for pair in perfect.pairs)
    assert len(perfect.pairs) == len(list(combinations(columns, 2)))
