"""A dataset version sent as a delta links exactly as the whole one would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from linkage.delta import removals
from linkage.records import EncodedRecords, FixedColumn
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, opened, problem, running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("deltas"))) as made:
        yield made


def of_rows(records: EncodedRecords, rows: np.ndarray) -> EncodedRecords:
    def some(columns: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
        return {n: FixedColumn(c.values[rows], c.present[rows]) for n, c in columns.items()}

    groups = np.arange(len(rows), dtype=np.uint32)
    names = records.pseudonyms[rows]
    return EncodedRecords(names, groups, some(records.clks), some(records.match_keys))


def joined(left: EncodedRecords, right: EncodedRecords) -> EncodedRecords:
    def both(a: dict[str, FixedColumn], b: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
        return {
            name: FixedColumn(
                np.concatenate([a[name].values, b[name].values]),
                np.concatenate([a[name].present, b[name].present]),
            )
            for name in a
        }

    return EncodedRecords(
        np.concatenate([left.pseudonyms, right.pseudonyms]),
        np.concatenate([left.groups, right.groups]),
        both(left.clks, right.clks),
        both(left.match_keys, right.match_keys),
    )


def test_a_delta_links_as_the_whole(world: World, tmp_path: Path) -> None:
    signed, identities = world.signed, world.identities
    for party in ("imaging", "claims"):
        world.upload(pack(signed, identities[party], encoded(signed, party, range(90))))
    sender = identities["enclave"]
    first = encoded(signed, "enclave", range(100))
    second = encoded(signed, "enclave", range(20, 120))
    kept = {name.tobytes() for name in first.pseudonyms}
    now = {name.tobytes() for name in second.pseudonyms}
    new = np.flatnonzero([n.tobytes() not in kept for n in second.pseudonyms])
    gone = first.pseudonyms[[n.tobytes() not in now for n in first.pseudonyms]]
    stays = np.flatnonzero([n.tobytes() in now for n in first.pseudonyms])
    added = of_rows(second, new)
    clk_bytes = {name: column.values.shape[1] for name, column in first.clks.items()}
    told = joined(added, removals(gone, clk_bytes, list(first.match_keys), 16))
    whole = joined(of_rows(first, stays), added)
    whole = of_rows(whole, np.lexsort(whole.pseudonyms.T[::-1]))
    figures = {"base": 1, "changed": len(told), "records": len(whole), "groups": len(whole)}

    early = pack(signed, sender, told, dataset=2, **figures)
    refused = world.actor("enclave").post(f"{world.path}/datasets", early.manifest)
    assert problem(refused)[:2] == (409, "conflict")
    assert "no complete dataset version 1" in problem(refused)[2]

    world.upload(pack(signed, sender, first)).raise_for_status()
    before = world.run()
    world.upload(pack(signed, sender, told, dataset=2, **figures)).raise_for_status()
    by_delta = world.run()
    world.upload(pack(signed, sender, whole, dataset=3)).raise_for_status()
    by_whole = world.run()
    assert [r["state"] for r in (before, by_delta, by_whole)] == ["done"] * 3, by_delta["failure"]
    assert by_delta["result_digest"] == by_whole["result_digest"] != before["result_digest"]

    world.upload(pack(signed, sender, told, dataset=4, **{**figures, "base": 3})).raise_for_status()
    checked = opened(world, sender.name, 4)
    assert checked["state"] == "quarantined"
    assert "delta removes a record that its base lacks" in checked["reason"]
