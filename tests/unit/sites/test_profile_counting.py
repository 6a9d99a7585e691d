"""Counting in bounded memory gives what a dictionary of everything gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sites.profiling.counting import CommonValues, Hashing, ValueCounts, kinds_of, mixed

KEY = "0123456789abcdef"


@pytest.mark.parametrize("held", [10, 500_000])
def test_counts_are_exact_whether_they_fit_in_memory_or_not(held: int) -> None:
    random = np.random.default_rng(1)
    texts = [f"v{n}" for n in random.zipf(1.3, 20_000) % 4_000]
    truth = Counter(texts)
    hashing, counts = Hashing(KEY), ValueCounts(held)
    for start in range(0, len(texts), 777):
        batch = Counter(texts[start : start + 777])
        counts.add(hashing.of(list(batch)), np.array(list(batch.values())))
    asked = [*list(truth)[:50], "never there"]
    found = counts.summary(hashing.of(asked))
    assert found.distinct == len(truth)
    assert found.extra == len(texts) - len(truth)
    assert found.repeated == sum(n > 1 for n in truth.values())
    assert found.highest == max(truth.values())
    assert found.crowded == sum(n >= 10 for n in truth.values())
    assert found.crowded_records == sum(n for n in truth.values() if n >= 10)
    assert found.looked_up.tolist() == [truth[text] for text in asked]
    assert (counts._file is not None) == (held == 10)  # else the test tests nothing
    counts.close()


def test_nothing_counted_is_nothing() -> None:
    found = ValueCounts().summary(Hashing(KEY).of(["a"]))
    assert (found.distinct, found.extra, found.highest) == (0, 0, 0)
    assert found.looked_up.tolist() == [0]


def test_the_temporary_file_has_no_name(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    counts = ValueCounts(10)
    counts.add(Hashing(KEY).of([f"canary{i}" for i in range(100)]), np.ones(100, np.int64))
    assert counts._file is not None
    assert list(tmp_path.iterdir()) == []
    counts._file.seek(0)
    assert b"canary" not in counts._file.read()
    counts.close()


def test_hashes_differ_between_runs_and_are_equal_within_one() -> None:
    one, other = Hashing(), Hashing()
    assert one.of(["smith"]) == one.of(["smith"])
    assert one.of(["smith"]) != other.of(["smith"])


def test_common_values_survive_a_flood_of_rare_ones() -> None:
    common = CommonValues(kept=50)
    hashing = Hashing(KEY)
    for i in range(200):
        rare = [f"rare{i}-{j}" for j in range(40)]
        records = hashing.of([f"record{i}-{j}" for j in range(60)])
        codes = np.array([*range(40), *[40] * 20], np.int32)
        kinds = kinds_of(codes, 41, records)
        common.add([*rare, "common"], np.array([1] * 40 + [20]), kinds)
    assert common.showable() == ["common"]
    assert len(common.values) <= 100


def test_nine_different_records_are_never_taken_for_ten() -> None:
    random = np.random.default_rng(2)
    for _ in range(300):
        nine = random.integers(0, 2**63, 9).astype(np.uint64)
        common = CommonValues()
        codes = np.zeros(90, np.int32)
        common.add(["value"], np.array([90]), kinds_of(codes, 1, np.tile(nine, 10)))
        assert common.showable() == []


def test_a_record_is_told_from_one_with_its_values_exchanged() -> None:
    a, b = Hashing(KEY).of(["anna", "maria"]), Hashing(KEY).of(["maria", "anna"])
    made = mixed([a, b])
    assert made[0] != made[1]
    assert mixed([a, b])[0] == made[0]
