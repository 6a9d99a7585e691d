"""
A malicious site sends CLKs that resemble everybody's, or one CLK again and again.

Whatever it sends, the run ends, and what the others are to each other stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from linkage.matching.candidates import MAX_CANDIDATES, find
from linkage.matching.dataset import Dataset, shape_of
from linkage.matching.planning import plan
from linkage.records import EncodedRecords, FixedColumn
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, opened, running
from tests.protocol.worlds import beside, crosswalk, linked, released, with_clks

pytestmark = pytest.mark.threat("T08")

PEOPLE = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("saturation"))) as made:
        yield made


def ones(victim: EncodedRecords, shape: tuple[int, int]) -> np.ndarray:
    return np.full(shape, 255, np.uint8)


def zeros(victim: EncodedRecords, shape: tuple[int, int]) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def nearly_ones(victim: EncodedRecords, shape: tuple[int, int]) -> np.ndarray:
    """Just inside the band of filters that are compared."""
    bits = np.random.default_rng(1).random((shape[0], shape[1] * 8)) < 0.94
    return np.packbits(bits, axis=1)


def one_of_the_victims(victim: EncodedRecords, shape: tuple[int, int]) -> np.ndarray:
    """Who holds one of the victim's CLKs sends it for everybody."""
    return np.repeat(victim.clks["name-dob-sex"].values[:1], shape[0], axis=0)


def all_of_the_victims(victim: EncodedRecords, shape: tuple[int, int]) -> np.ndarray:
    return victim.clks["name-dob-sex"].values[: shape[0]]


FLOODS = (one_of_the_victims, all_of_the_victims)
BETRAYED = (ones, zeros, nearly_ones)
"""Floods that set another share of bits than the manifest says, and the schema allows."""


Flood = Callable[[EncodedRecords, tuple[int, int]], np.ndarray]


def all_three(study: World, flood: Flood) -> dict[str, EncodedRecords]:
    """Return what all three upload; claims floods."""
    signed = study.signed
    uploads = {p: encoded(signed, p, range(PEOPLE)) for p in ("imaging", "enclave")}
    mine = encoded(signed, "claims", range(1000, 1000 + PEOPLE))
    width = signed.study.clk[0].length // 8
    return uploads | {"claims": with_clks(mine, flood(uploads["enclave"], (PEOPLE, width)))}


@pytest.mark.parametrize("flood", BETRAYED)
def test_a_flood_that_shows_itself_is_put_aside(world: World, flood: Flood) -> None:
    """It comes into no run, its sender is told, and the others are linked without it."""
    study = beside(world, f"aside-{flood.__name__.replace('_', '-')}")
    for uploader, records in all_three(study, flood).items():
        study.upload(pack(study.signed, study.identities[uploader], records))
    told = opened(study, "claims")
    assert told["state"] == "quarantined"
    assert "of their bits" in told["reason"]
    started = study.actor("admin").post(f"{study.path}/runs", RunRequest(), allow_missing=True)
    run = study.finish(f"{study.path}/runs/{started.json()['run_id']}")
    assert run["state"] == "done", run["failure"]
    assert run["report"]["overlaps"]["enclave+imaging"] >= 0.95 * PEOPLE


@pytest.mark.parametrize("flood", FLOODS)
def test_the_others_are_linked_as_ever(world: World, flood: Flood) -> None:
    """Claims floods; how many persons imaging and enclave have in common stays."""
    study = beside(world, f"flood-{flood.__name__.replace('_', '-')}")
    uploads = all_three(study, flood)
    run = linked(study, uploads)
    assert run["state"] == "done", run["failure"]
    release = released(study, run, "imaging", "enclave", "claims")
    ids = {p: set(crosswalk(study, p, release).values()) for p in uploads}
    assert len(ids["imaging"] & ids["enclave"]) >= 0.95 * PEOPLE
    assert len(ids["claims"]) == PEOPLE, "no two of its records are made one"
    # A copy of a victim's CLK is that victim to a broker without keys; copies of one are one link.
    linked_to = len(ids["claims"] & (ids["imaging"] | ids["enclave"]))
    most = {"one_of_the_victims": 1, "all_of_the_victims": PEOPLE}.get(flood.__name__, 2)
    assert linked_to <= most


def test_two_thousand_by_two_thousand_stay_within_the_cap(
    record_property: Callable[[str, object], None],
) -> None:
    """An ordinary Dice comparison makes 4,000,000 candidates of two floods of ones."""
    n = 2000
    draw = np.random.default_rng(2)
    sides = {
        "all ones": np.full((n, 128), 255, np.uint8),
        "all zeros": np.zeros((n, 128), np.uint8),
        "94 % ones": np.packbits(draw.random((n, 1024)) < 0.94, axis=1),
        "random": draw.integers(0, 256, (n, 128), dtype=np.uint8),
    }
    worst = 0
    for name, one in sides.items():
        for other_name, other in sides.items():
            left, right = flooded("a", one), flooded("b", other)
            found = sum(
                len(
                    find(
                        chunk,
                        *(left if p == "a" else right for p in (chunk.left, chunk.right)),
                        seed=1,
                    )
                )
                for chunk in plan([shape_of(left), shape_of(right)])
            )
            worst = max(worst, found)
            assert found < 10 * n, (name, other_name)
    record_property("most candidates of 2,000 x 2,000 saturated CLKs", worst)
    record_property("cap on candidates of a comparison", MAX_CANDIDATES)


def flooded(party: str, clks: np.ndarray) -> Dataset:
    n = len(clks)
    names = np.random.default_rng(len(party)).integers(0, 256, (n, 16), dtype=np.uint8)
    there = np.ones(n, bool)
    records = EncodedRecords(
        names, np.arange(n, dtype=np.uint32), {"x": FixedColumn(clks, there)}, {}
    )
    return Dataset(party, records, {})
