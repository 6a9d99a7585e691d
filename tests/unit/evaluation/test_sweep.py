"""A sweep measures what it says, resumes where it was stopped, and draws what it measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import simulated
from linkage.evaluation.frontier import (
    advice,
    best,
    measure_all,
    plot,
    read_record,
    settings,
    share_at,
    sweep_study,
    table,
)
from linkage.evaluation.sweep import Measured, Setting, Sweep, common_fields, simulated_sides
from linkage.study import load_study

STUDY = load_study(Path(__file__).resolve().parents[3] / "configs" / "three-commons" / "study.toml")
CLK = "name-dob-sex"
SHALLOW, DEEP = Setting(CLK, 1024, 2, 0.5), Setting(CLK, 1024, 12, 0.5)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    fields = common_fields(STUDY, STUDY.clk[0])
    assert fields == ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
    crowd = simulated(600, seed=1, fields=fields)
    return Sweep(STUDY, simulated_sides(STUDY, CLK, n=400), crowd, sizes=(300, 600), targets=200)


@pytest.fixture(scope="module")
def record(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "sweep.jsonl"
    list(measure_all(sweep, [SHALLOW, DEEP], path, whole=lambda one: one == SHALLOW))
    return path


def test_depth_costs_quality_and_hides(record: Path) -> None:
    shallow, deep = read_record(record).values()
    assert shallow.true_pairs == 200
    assert shallow.people == 400
    for size in (300, 600):
        assert shallow.found[size] > 0.4 > 0.1 > deep.found[size]
    assert shallow.correlation > deep.correlation
    assert shallow.attacker_correlation > deep.attacker_correlation
    assert shallow.clk_f1 > 0.97
    assert shallow.clk_f1 > deep.clk_f1 > 0.5
    assert shallow.linked_f1 is not None
    assert shallow.linked_f1 > 0.97
    assert deep.linked_f1 is None


def test_a_stopped_sweep_goes_on(sweep: Sweep, record: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sweep.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    copy.write_text(lines[0] + lines[1][:40], encoding="utf-8")  # killed while writing
    told: list[tuple[int, int]] = []
    made = list(measure_all(sweep, [SHALLOW, DEEP], copy, progress=lambda *at: told.append(at)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert made[0] == read_record(record)[SHALLOW]  # not measured again: keys are random
    assert [json.loads(line)["setting"]["diffusion"] for line in copy.open()] == [2, 12]


def test_a_record_of_other_people_is_refused(sweep: Sweep, record: Path) -> None:
    other = Sweep(STUDY, sweep.sides, simulated(300, seed=1, fields=("sex",)), seed=2)
    with pytest.raises(LinkageError, match="other people"):
        list(measure_all(other, [SHALLOW], record))


def test_every_clk_of_a_study_is_swept(tmp_path: Path) -> None:
    fields = sorted({field for party in STUDY.party for field in party.fields})
    crowd = simulated(300, seed=1, fields=fields)
    told: list[tuple[int, int]] = []
    made = sweep_study(
        STUDY,
        crowd,
        "simulated",
        n=200,
        seed=1,
        lengths=(1024,),
        depths=(4,),
        out=tmp_path,
        progress=lambda *at: told.append(at),
    )
    assert list(made) == ["name-dob-sex", "name-ssn", "name-street"]
    assert [len(some) for some in made.values()] == [2, 3, 3]  # at .5, one density is under .10
    assert told == [(done, 8) for done in range(1, 9)]
    for clk, some in made.items():
        assert list(read_record(tmp_path / f"sweep-{clk}.jsonl").values()) == some
        assert (tmp_path / f"frontier-{clk}.svg").read_text(encoding="utf-8").startswith("<svg")
    # Shallow diffusion passes nowhere, and a sweep of it says so.
    assert [line for line in advice(made["name-ssn"]) if "none of these passes" in line]


def test_fields_change_as_a_setting_says() -> None:
    setting = Setting(CLK, 4096, 12, 2.0, without=("sex",), added=("zip=50",))
    spec = setting.spec(STUDY)
    assert {one.field: one.bits for one in spec.fields} == {
        "first_name": 200,
        "middle_name:initial": 80,
        "last_name": 200,
        "date_of_birth": 280,
        "zip": 100,
    }
    assert (spec.length, spec.diffusion) == (4096, 12)
    assert setting.fields == "-sex +zip=50"
    with pytest.raises(LinkageError, match="no CLK"):
        replace(setting, without=("street",)).spec(STUDY)


def test_the_grid_keeps_to_what_a_study_may_have() -> None:
    made = settings(STUDY, CLK, lengths=(1024, 2048), scales=(0.4, 0.5, 1.0, 3.0), depths=(8, 12))
    assert [(one.length, one.scale, one.diffusion) for one in made] == [
        (1024, 0.5, 8),  # at .4, one field would have 16 bits
        (1024, 0.5, 12),
        (1024, 1.0, 8),
        (1024, 1.0, 12),
        (2048, 1.0, 8),
        (2048, 1.0, 12),
    ]


def _measured(t: int, f1: float, share: float) -> Measured:
    return Measured(
        setting=Setting(CLK, 2048, t),
        density=0.18,
        people=10,
        true_pairs=5,
        leak_people=10,
        draws=2,
        correlation=0.1,
        attacker_correlation=0.2,
        found={4_000: share},
        foretold={100_000: min(1.0, 4 * share)},
        clk_f1=f1,
    )


def test_the_best_is_the_best_that_passes() -> None:
    ones = [_measured(8, 0.99, 0.2), _measured(12, 0.98, 0.01), _measured(14, 0.97, 0.002)]
    chosen = {size: best(ones, size=size) for size in (4_000, 20_000)}
    assert chosen[4_000] == ones[1]  # the limit itself passes
    assert chosen[20_000] == ones[2]  # as for the next larger size known
    assert best(ones[:1], size=4_000) is None
    both = replace(ones[2], foretold={4_000: 0.3})
    assert share_at(both, 4_000) == 0.3  # the worse of measured and foretold
    assert share_at(ones[0], 5_000) == 0.8
    assert share_at(ones[0], 1_000_000) == 0.8  # at least
    with pytest.raises(LinkageError, match="1,000,000"):
        share_at(ones[1], 1_000_000)


def test_a_plot_shows_every_setting_and_asks_nobody(record: Path) -> None:
    measured = list(read_record(record).values())
    drawn = plot(measured, size=300, default=DEEP, title="names & dates")
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    marks = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(marks) == 3  # two settings, and the ring of the default
    assert drawn.count("http") == 1  # the name space
    assert "<script" not in drawn
    lines = table(measured).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 1024 | 0.19 | 2 |")
