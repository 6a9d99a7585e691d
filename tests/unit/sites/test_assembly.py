"""What only the whole dataset can tell, worked out in passes, against the plainest way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sites import assembly
from sites.assembly import Assembled, Runs, passes
from sites.spool import Spool
from sites.spool_sums import sum_of


def spooled(folder: Path, sizes: list[int], rng: np.random.Generator) -> Spool:
    """Write batches as workers do: rows in pseudonym order, some record ids and digests twice."""
    spool = Spool(folder / "spool")
    spool.make()
    total = sum(sizes)
    names = rng.integers(0, 256, (total, 16), dtype=np.uint8)
    for later in rng.choice(np.arange(1, total), total // 20, replace=False):
        names[later] = names[rng.integers(0, later)]
    digests = rng.integers(0, 2**64, (total // 2 + 1, 2), dtype=np.uint64)[
        rng.integers(0, total // 2 + 1, total)
    ]
    digests[rng.random((total, 2)) < 0.3] = 0
    start = 0
    for number, size in enumerate(sizes, start=1):
        rows = np.arange(start, start + size)
        rows = rows[np.lexsort(names[rows].T[::-1])]
        columns = {"pseudonyms": names[rows], "numbers": rows + 2, "digests": digests[rows]}
        spool.write(number, columns, {"rows": size, "digest": "0"}, [])
        start += size
    return spool


@pytest.mark.parametrize("sizes", [[1], [40, 300, 7], [500]])
@pytest.mark.parametrize("pass_rows", [3, 100, 10_000])
def test_order_and_groups_are_those_of_the_plain_way(
    tmp_path: Path, sizes: list[int], pass_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "PASS_ROWS", pass_rows)
    spool = spooled(tmp_path, sizes, np.random.default_rng(sum(sizes)))
    whole = Assembled(spool)
    repeated = whole.order_records()
    groups = whole.group_records(2)

    names = np.concatenate([b.column("pseudonyms") for b, _ in whole.batches])
    numbers = np.concatenate([b.column("numbers") for b, _ in whole.batches])
    digests = np.concatenate([b.column("digests") for b, _ in whole.batches])
    first: dict[bytes, int] = {}
    for row in np.argsort(numbers):
        first.setdefault(names[row].tobytes(), int(row))
    order = [first[name] for name in sorted(first)]
    assert spool.load("order").tolist() == order
    assert [one.later for one in repeated] == sorted(
        int(numbers[row]) for row in range(len(names)) if first[names[row].tobytes()] != row
    )
    assert all(one.earlier < one.later for one in repeated)

    group = list(range(len(names)))
    for place in range(2):
        seen: dict[int, int] = {}
        for row in order:
            if digest := int(digests[row, place]):
                other = group[seen.setdefault(digest, row)]
                group = [other if one == group[row] else one for one in group]
    leaders: dict[int, int] = {}
    expected = [leaders.setdefault(group[row], place) for place, row in enumerate(order)]
    assert spool.load("group_positions").tolist() == expected
    assert groups == len(leaders)


def test_a_batch_is_kept_only_whole_and_of_the_same_input(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [30, 20], np.random.default_rng(1))
    assert spool.made_of(1, "0")
    assert not spool.made_of(1, "1")
    assert not spool.made_of(3, "0")
    path = spool.path(1) / "digests.npy"
    path.write_bytes(path.read_bytes()[:-8])  # as a power failure leaves it
    assert not spool.made_of(1, "0")
    (spool.path(2) / "facts.json").write_text("{")
    assert not spool.made_of(2, "0")


@pytest.mark.parametrize("sizes", [[1], [40, 300, 7], [500]])
def test_any_stretch_of_records_is_gathered_from_the_batches_that_hold_it(
    tmp_path: Path, sizes: list[int]
) -> None:
    spool = spooled(tmp_path, sizes, np.random.default_rng(sum(sizes)))
    whole = Assembled(spool)
    whole.order_records()  # leaves out every twentieth: a run has rows that nobody takes
    order = np.asarray(spool.load("order"))
    for start, stop in ((0, len(order)), (0, 1), (len(order) // 3, len(order) // 2), (1, 1)):
        runs = Runs(whole, order[start:stop])
        for name, kind, shape in (
            ("pseudonyms", np.uint8, (16,)),
            ("numbers", np.int64, ()),
            ("digests", np.uint64, (2,)),
        ):
            everything = np.concatenate([np.asarray(b.column(name)) for b, _ in whole.batches])
            expected = everything[order[start:stop]]
            assert (runs.column(name, kind, *shape) == expected).all()


def test_a_batch_that_lost_its_end_is_no_batch_of_zeros(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [40], np.random.default_rng(3))
    path = spool.path(1) / "pseudonyms.npy"
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(OSError, match="ends too early"):
        spool.batch(1).read("pseudonyms", 0, np.zeros((40, 16), np.uint8))
    with pytest.raises(ValueError, match="a row of pseudonyms"):
        spool.batch(1).read("pseudonyms", 0, np.zeros((40, 8), np.uint8))


def test_a_shorter_source_leaves_no_batch_of_the_longer_one(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [5, 5, 5], np.random.default_rng(2))
    spool.cut(1)
    assert Assembled(spool).rows == 5


def test_passes_cover_every_value_once() -> None:
    for rows, most in [(1, 10), (10, 10), (11, 10), (1_000_000, 7), (0, 5)]:
        edges = list(passes(rows, most))
        assert [low for low, _ in edges] == [0, *(high for _, high in edges)][: len(edges)]
        assert not edges or edges[-1][1] == 1 << 16


def test_columns_are_written_as_numpy_would_with_their_checksum(tmp_path: Path) -> None:
    columns = {
        "numbers": np.arange(10),
        "none": np.zeros((0, 10, 16), np.uint8),
        "no_rules": np.zeros((5, 0), bool),
        "every_other": np.arange(20, dtype=np.uint8).reshape(10, 2)[::2],
    }
    spool = Spool(tmp_path / "spool")
    spool.make()
    spool.write(1, columns, {"digest": "0"}, [])
    sums = spool.batch(1).facts["sums"]
    for name, column in columns.items():
        np.save(tmp_path / "expected.npy", column)
        written = (tmp_path / "expected.npy").read_bytes()
        assert (spool.path(1) / f"{name}.npy").read_bytes() == written
        assert sums[f"{name}.npy"] == sum_of(written)
