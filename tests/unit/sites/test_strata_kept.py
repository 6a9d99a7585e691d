"""Kept marks, read and renewed a range of names at a time: as a dictionary of all would do it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from linkage.errors import Conflict
from linkage.strata import Stratum
from sites import strata_kept
from sites.spool import Spool
from sites.vault import Vault

SEX = Stratum(id="sex", groups=("female", "male"))
RACE = Stratum(id="race", groups=("asian", "black"))
STUDY = "a-study"


def spooled(folder: Path, names: npt.NDArray[np.uint8], groups: npt.NDArray[np.uint32]) -> Spool:
    """Return the spool of a tokenization whose batches are to be encoded."""
    spool = Spool(folder)
    spool.make()
    spool.save("names", names)
    spool.save("order", np.arange(len(names), dtype=np.uint32))
    spool.save("group_positions", groups)
    return spool


def settled(
    vault: Vault, spool: Spool, strata: tuple[Stratum, ...], drawn: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    spool.write(1, {"strata": drawn}, {"rows": len(drawn)}, [])
    strata_kept.settle(vault, spool, STUDY, strata, 9.0)
    return np.array(spool.load("strata"))


def test_versions_settle_as_with_a_dictionary_of_all_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is a loop over records; chunks are so small that ranges meet in every way."""
    monkeypatch.setattr(strata_kept, "_CHUNK_ROWS", 37)
    vault, draw = Vault(tmp_path / "private"), np.random.default_rng(3)
    everybody = np.unique(draw.integers(0, 256, (900, 16), dtype=np.uint8), axis=0)
    everybody[:, :2] //= 64  # many names that begin alike
    everybody = np.unique(everybody, axis=0)
    marks: dict[tuple[bytes, str], int] = {}
    for version in range(12):
        count = int(draw.integers(1, 700))
        names = everybody[np.sort(draw.choice(len(everybody), count, replace=False))]
        strata = (SEX, RACE)
        if version in (5, 9):  # the study changes a rule, and changes it back
            strata = (SEX, RACE.model_copy(update={"epsilon": 0.5}))
        groups = np.arange(count, dtype=np.uint32)
        groups[3:6] = groups[1:2]  # one person, where there are as many records
        spool = spooled(tmp_path / f"spool-{version}", names, groups)
        strata_kept.lay_out(vault, spool, STUDY, strata, 9.0)
        of = [[marks.get((n.tobytes(), repr(s)), 0) for s in strata] for n in names]
        kept = strata_kept.marked(spool, names)
        assert kept.tolist() == [all(row) for row in of]
        drawn = draw.integers(1, 4, (count, 2), dtype=np.uint8)
        drawn[kept] = 0
        found = settled(vault, spool, strata, drawn)
        for column, stratum in enumerate(strata):
            of_group: dict[int, int] = {}
            for row in range(count):
                if of[row][column]:
                    of_group.setdefault(int(groups[row]), of[row][column])
            for row in range(count):
                fresh = of_group.get(int(groups[row]), int(drawn[groups[row], column]))
                expected = of[row][column] or fresh
                assert found[row, column] == expected
                marks[names[row].tobytes(), repr(stratum)] = expected
        chunks = list(strata_kept._Kept.load(vault, STUDY).chunks())
        assert {len(chunk) for chunk in chunks[:-1]} <= {37}
        rows = np.concatenate(chunks)
        assert len(rows) == len({name for name, _ in marks})
        ordered = [row[:16].tobytes() for row in rows]
        assert ordered == sorted(ordered)


def test_where_nobody_is_new_nothing_is_written(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private")
    names = np.unique(np.random.default_rng(1).integers(0, 256, (50, 16), np.uint8), axis=0)
    groups = np.arange(len(names), dtype=np.uint32)
    before: dict[str, int] = {}
    for version in range(3):
        spool = spooled(tmp_path / f"spool-{version}", names, groups)
        strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
        assert strata_kept.marked(spool, names).tolist() == [version > 0] * len(names)
        drawn = np.full((len(names), 1), 0 if version else 2, np.uint8)
        assert (settled(vault, spool, (SEX,), drawn) == 2).all()
        written = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "private").rglob("*-0*")}
        assert len(written) == 1
        if version:
            assert written == before
        before = written


def test_an_interrupted_tokenization_does_not_count_on_marks_that_are_gone(tmp_path: Path) -> None:
    """Who had a mark was not drawn for; without the kept marks there would be none at all."""
    vault = Vault(tmp_path / "private")
    names = np.unique(np.random.default_rng(1).integers(0, 256, (50, 16), np.uint8), axis=0)
    groups = np.arange(len(names), dtype=np.uint32)
    none, one = np.zeros((len(names), 1), np.uint8), np.ones((len(names), 1), np.uint8)
    spool = spooled(tmp_path / "first", names, groups)
    strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
    settled(vault, spool, (SEX,), one)

    spool = spooled(tmp_path / "second", names, groups)
    strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
    spool.write(1, {"strata": none}, {"rows": len(names)}, [])
    strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
    assert spool.path(1).exists()  # resumed as it is
    shutil.rmtree(tmp_path / "private" / "kept" / "strata")
    with pytest.raises(Conflict, match="were removed while"):
        strata_kept.settle(vault, spool, STUDY, (SEX,), 4.0)
    strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
    assert not spool.path(1).exists()
    assert not strata_kept.marked(spool, names).any()


def test_a_missing_chunk_stops_and_what_a_study_may_cost_is_said_first(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private")
    names = np.unique(np.random.default_rng(1).integers(0, 256, (50, 16), np.uint8), axis=0)
    spool = spooled(tmp_path / "spool", names, np.arange(len(names), dtype=np.uint32))
    with pytest.raises(Conflict, match="an epsilon of 2, and this site allows 1"):
        strata_kept.lay_out(vault, spool, STUDY, (SEX, RACE), 1.9)
    strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
    settled(vault, spool, (SEX,), np.ones((len(names), 1), np.uint8))
    (chunk,) = (tmp_path / "private").rglob("*-00000")
    chunk.unlink()
    with pytest.raises(Conflict, match="a part of the kept marks of strata is missing"):
        strata_kept.lay_out(vault, spool, STUDY, (SEX,), 4.0)
