"""The next version of a site's data, sent as what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linkage.delta import apply_delta, sorting
from linkage.errors import Conflict
from sites import assembly
from sites.changes import RowMarks
from sites.packages import load_manifest
from sites.tokenizer import tokenize
from tests.studies import vault_of
from tests.unit.sites.test_streaming import EVERYONE, in_memory, people, same, small_batches, source
from tests.unit.sites.test_tokenizer import opened

assert small_batches


@pytest.mark.usefixtures("small_batches")
def test_a_delta_and_its_base_are_the_whole(tmp_path: Path) -> None:
    """Records come, go and change; groups form and dissolve; keys begin and cease to repeat."""
    before = people(1_500)
    after = [row for i, row in enumerate(before) if i % 50]
    after[100] = (after[100][0], "Zelda", *after[100][2:])
    after[200] = (after[200][0], *after[700][1:])  # now the same person as another record
    after += [(f"new{i}", *row[1:]) for i, row in enumerate(people(40, seed=9))]
    config, vault = source(tmp_path, before), vault_of(EVERYONE, "alpha", tmp_path / "private")
    first = tokenize(config, "alpha", EVERYONE.signed, vault)
    assert (first.base, first.added) == (0, None)
    source(tmp_path, after)
    done = tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)
    assert (done.base, done.added, done.removed) == (1, 40, 30)
    assert done.changed
    assert done.changed >= 2
    manifest = load_manifest(done.package)
    assert (manifest.base, manifest.records) == (1, len(after))
    assert 70 <= manifest.changed < len(after) // 2
    assert sum(part.records for part in manifest.parts) == manifest.changed
    base = opened(EVERYONE, first.package, load_manifest(first.package))
    whole = apply_delta(base, opened(EVERYONE, done.package, manifest))
    same(whole, in_memory(after, config, vault))
    assert manifest.groups == len(set(whole.groups.tolist()))
    assert sorted(vault.load_map(2).values()) == sorted(row[0] for row in after)

    third = tokenize(config, "alpha", EVERYONE.signed, vault)
    assert (third.base, third.added, third.changed, third.removed) == (0, 0, 0, 0)
    assert load_manifest(third.package).collisions == manifest.collisions
    with pytest.raises(Conflict, match="nothing differs from dataset version 3"):
        tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)


def test_a_delta_needs_an_earlier_version_of_the_same_study(tmp_path: Path) -> None:
    config, vault = source(tmp_path, people(30)), vault_of(EVERYONE, "alpha", tmp_path / "private")
    with pytest.raises(Conflict, match="no earlier dataset version"):
        tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)
    tokenize(config, "alpha", EVERYONE.signed, vault)
    other = EVERYONE.signed.model_copy(update={"rehearsal": True})
    with pytest.raises(Conflict, match="another signed study"):
        tokenize(config, "alpha", other, vault, delta=True)


def test_versions_are_compared_alike_in_ranges_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    pool = draw.integers(0, 256, (3_000, 16), dtype=np.uint8)
    pool[:40, :2] = 0, 7  # many names of one leading word

    def version(rows: np.ndarray) -> RowMarks:
        names = pool[rows]
        return RowMarks(names[sorting(names)], draw.integers(0, 2, len(rows), dtype=np.uint64))

    old, new = version(np.arange(2_000)), version(np.arange(20, 3_000))
    groups = (np.arange(len(new.names)) // 3 * 3).astype(np.uint32)
    at_once = new.since(old, groups)
    monkeypatch.setattr(assembly, "PASS_ROWS", 50)
    ranged = new.since(old, groups)
    assert (ranged.told == at_once.told).all()
    assert (ranged.removed == at_once.removed).all()
    assert (ranged.added, ranged.changed) == (at_once.added, at_once.changed)
    assert (at_once.added, len(at_once.removed)) == (1_000, 20)
