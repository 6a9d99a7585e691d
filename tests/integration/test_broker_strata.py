"""Marks of strata through a real broker: they change no link, rest sealed, and tell rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from broker import run_show
from linkage.strata import attested
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, opened, problem, running
from tests.strata_world import MARKED, marked_packages, with_marks

N = 2_000
PEOPLE = {"imaging": range(N), "enclave": range(N // 2, N + N // 2), "claims": range(N, N + 100)}


def groups_of(people: np.ndarray) -> Sequence[np.ndarray]:
    """Sex is even; of the black people hardly any are in two datasets."""
    apart = people < N // 2
    race = np.where(apart, np.where(people % 10 < 7, 2, 3), np.where(people % 10 == 0, 2, 3))
    return people % 2 + 1, race


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("strata"), text=MARKED)) as made:
        yield made


def seen_by_claims(world: World) -> list[dict[str, object]]:
    """Return what a party is shown of the two others, but for their newest version number."""
    state = world.actor("claims").get(world.path).json()
    others = [one for one in state["parties"] if one["party"] != "claims"]
    return [{name: said for name, said in one.items() if name != "dataset"} for one in others]


def test_marks_change_no_link_and_tell_the_rates_of_groups(world: World) -> None:
    for package in marked_packages(world, PEOPLE, groups_of, plain=tuple(PEOPLE)).values():
        world.upload(package)
    plain = world.run()
    assert plain["report"]["strata"]["datasets"] == []
    assert plain["report"]["strata"]["without_marks"] == ["claims", "enclave", "imaging"]
    shown_before = seen_by_claims(world)
    marked = marked_packages(world, PEOPLE, groups_of, dataset=2, plain=("claims",))
    for package in (marked["imaging"], marked["enclave"]):
        world.upload(package)
    run = world.run()
    assert len(shown_before) == 2
    assert seen_by_claims(world) == shown_before
    assert run["run_id"] != plain["run_id"]
    assert run["result_digest"] == plain["result_digest"]
    for key in ("persons", "overlaps", "estimated_recall", "overall", "links"):
        assert run["report"][key] == plain["report"][key]

    strata = run["report"]["strata"]
    assert strata["without_marks"] == ["claims"]
    imaging = next(one for one in strata["datasets"] if one["uploader"] == "imaging")
    assert imaging["people"] == N
    sex, race = imaging["variables"]
    assert (sex["id"], race["id"]) == ("sex", "race")
    truth = groups_of(np.arange(N))
    linked = np.arange(N) >= N // 2
    for variable, groups in zip((sex, race), truth, strict=True):
        for number, rate in enumerate(variable["groups"], start=1):
            of_group = groups == number
            if not of_group.sum():
                continue
            assert not rate["few"]
            # Twice the half width: one in ten thousand is outside by chance.
            half = (rate["high"] - rate["low"]) / 2
            assert abs(rate["share"] - linked[of_group].mean()) < 2 * half + 0.02
    black, white = race["groups"][1], race["groups"][2]
    assert black["behind"]
    assert not white["behind"]
    assert race["groups"][0]["few"]  # nobody

    shown = list(run_show.lines(run))
    assert any("race: black or african american" in line and "BEHIND" in line for line in shown)
    assert any("race: asian" in line and line.endswith("too few to say") for line in shown)

    # As every figure of a run: for the admin. A party is told that it is done.
    assert world.actor("enclave").get(f"{world.path}/runs/{run['run_id']}").json()["report"] is None


def test_marks_rest_sealed_and_their_values_change_no_size(world: World) -> None:
    packages = marked_packages(world, {"imaging": range(60)}, groups_of)
    other = marked_packages(world, {"imaging": range(60)}, lambda p: (p * 0 + 1, p * 0 + 3))
    assert [p.size for p in packages["imaging"].manifest.parts] == [
        p.size for p in other["imaging"].manifest.parts
    ]
    stored = [path.read_bytes() for path in world.home.blobs.rglob("*") if path.is_file()]
    assert stored
    assert not any(b"strata" in data or b"record_pseudonym" in data for data in stored)


def test_marks_that_are_not_the_study_s_are_refused(world: World) -> None:
    records = encoded(world.signed, "claims", range(50))
    marked = with_marks(records, groups_of(np.arange(50)), world)
    sender, study = world.identities["claims"], world.signed.study
    changed = tuple(one.model_copy(update={"epsilon": 2.5}) for one in attested(study.strata))
    for said in (changed, attested(study.strata)[:1], attested(study.strata)[::-1]):
        package = pack(world.signed, sender, marked, dataset=5, strata=said)
        answer = world.actor("claims").post(f"{world.path}/datasets", package.manifest)
        assert problem(answer)[:2] == (422, "package-refused")
        assert "are not those of the study" in problem(answer)[2]


@pytest.mark.parametrize(
    ("number", "fault", "said"),
    [(6, 5, "names no group"), (7, 0, "names no group"), (8, None, "columns are not those")],
)
def test_a_dataset_whose_marks_are_wrong_is_quarantined(
    world: World, number: int, fault: int | None, said: str
) -> None:
    records = encoded(world.signed, "claims", range(50))
    marked = with_marks(records, groups_of(np.arange(50)), world)
    assert marked.strata is not None
    if fault is None:
        marked = records  # attested, and not there
    else:
        marked.strata[7, 1] = fault
    strata = attested(world.signed.study.strata)
    sender = world.identities["claims"]
    world.upload(pack(world.signed, sender, marked, dataset=number, strata=strata))
    state = opened(world, "claims", number)
    assert state["state"] == "quarantined"
    assert said in state["reason"]
