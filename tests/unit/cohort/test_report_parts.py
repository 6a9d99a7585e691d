"""The parts of a cohort report: right on made tables, and no count of few in any of them."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.errors import SiteRefused
from sites.cohort.attrition import Step
from sites.cohort.disclosure import HIDDEN, CellRule
from sites.cohort.report_checks import part, plausibility
from sites.cohort.report_flow import WIDTH, flow
from sites.cohort.report_images import imaging_characteristics
from sites.cohort.report_links import LinkQuality, link_quality
from sites.cohort.report_people import describe, reached, who_is_in, who_was_lost
from sites.cohort.report_reference import load_reference, representativeness

from .conftest import OpenOmop

RULE = CellRule(11)
TODAY = dt.date(2026, 1, 2)


def write(folder: Path, path: str, rows: list[dict[str, Any]]) -> None:
    file = folder / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def delivered(folder: Path, persons: list[dict[str, Any]]) -> Path:
    """
    Write the tables that the report reads. persons: sex, born, and of the one image: sex_said,
    age_said, day, frame, modality, maker, slice; death and event: dates.
    """
    person, images, series, frames, deaths, events = [], [], [], [], [], []
    for n, one in enumerate(persons, start=1):
        gender = {"f": 8532, "m": 8507}.get(one.get("sex", "f"), 0)
        born = one.get("born", 1960)
        person.append({"person_id": n, "gender_concept_id": gender, "year_of_birth": born})
        day = one.get("day", dt.date(2010, 5, 1))
        images.append(
            {
                "image_occurrence_id": n,
                "person_id": n,
                "image_occurrence_date": day,
                "image_study_uid": f"1.{n}",
            }
        )
        series.append(
            {
                "image_occurrence_id": n,
                "modality": one.get("modality", "CT"),
                "manufacturer": one.get("maker", "GE"),
                "body_part": "CHEST",
                "slice_thickness": one.get("slice", 1.0),
                "subject_sex": one.get("sex_said", "female"),
                "subject_age": one.get("age_said", 50.0),
            }
        )
        confidence = "exact" if one.get("frame", "true") == "true" else "none"
        frames.append(
            {
                "image_occurrence_id": n,
                "procedure_occurrence_id": 500 + n,
                "date_frame": one.get("frame", "true"),
                "date_confidence": confidence,
            }
        )
        if "death" in one:
            deaths.append({"person_id": n, "death_date": one["death"]})
        if "event" in one:
            events.append({"person_id": n, "day": one["event"]})
    write(folder, "omop/person", person)
    write(folder, "omop/image_occurrence", images)
    write(folder, "side/image_series", series)
    write(folder, "side/image_occurrence_provenance", frames)
    empty_day = pa.schema([("person_id", pa.int64()), ("death_date", pa.date32())])
    pq.write_table(pa.Table.from_pylist(deaths, empty_day), folder / "omop" / "death.parquet")
    starts = {
        "visit_occurrence": "visit_start_date",
        "condition_occurrence": "condition_start_date",
        "procedure_occurrence": "procedure_date",
        "drug_exposure": "drug_exposure_start_date",
        "measurement": "measurement_date",
        "observation": "observation_date",
    }
    for name, start in starts.items():
        schema = pa.schema(
            [(f"{name}_id", pa.int64()), ("person_id", pa.int64()), (start, pa.date32())]
        )
        rows = [
            {f"{name}_id": n, "person_id": e["person_id"], start: e["day"]}
            for n, e in enumerate(events if name == "condition_occurrence" else [], start=1)
        ]
        file = folder / "omop" / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema), file)
    return folder


def checks(folder: Path) -> dict[str, tuple[object, object]]:
    return {row["check"]: (row["persons"], row["of"]) for row in plausibility(folder, RULE)}


def test_sex_and_age_that_differ_are_counted(tmp_path: Path) -> None:
    same = [{} for _ in range(60)]
    sex = [{"sex_said": "male"} for _ in range(20)]
    age = [{"age_said": 20.0} for _ in range(15)]
    found = checks(delivered(tmp_path, same + sex + age))
    assert found["sex differs between images and clinical records"] == (20, 95)
    assert found["age at the image is more than 2 years off the birth year"] == (15, 95)


def test_events_and_images_around_death_are_counted(tmp_path: Path) -> None:
    death = dt.date(2009, 1, 1)
    late = [{"death": death, "event": death + dt.timedelta(61)} for _ in range(12)]
    soon = [
        {"death": death, "event": death + dt.timedelta(60), "day": dt.date(2008, 1, 1)}
        for _ in range(13)
    ]
    found = checks(delivered(tmp_path, late + soon + [{} for _ in range(30)]))
    assert found["clinical events over 60 days after death"] == (12, 25)
    assert found["images after death"] == (12, 25)
    assert found["clinical events before the year of birth"] == (0, 55)


def test_rows_made_of_images_are_no_clinical_events(tmp_path: Path) -> None:
    """A measurement that is the value of an image feature has the image's date."""
    people = [{"death": dt.date(2009, 1, 1)} for _ in range(20)]
    folder = delivered(tmp_path, [*people, *({} for _ in range(20))])
    rows = [
        {"measurement_id": n, "person_id": n, "measurement_date": dt.date(2019, 1, 1)}
        for n in range(1, 21)
    ]
    write(folder, "omop/measurement", rows)
    assert checks(folder)["clinical events over 60 days after death"] == (20, 20)
    write(folder, "omop/image_feature", [{"image_feature_event_id": n} for n in range(1, 21)])
    assert checks(folder)["clinical events over 60 days after death"] == (0, 20)


def test_dates_that_are_not_true_are_not_compared(tmp_path: Path) -> None:
    people = [{"frame": "shifted", "age_said": 3.0, "born": 2015} for _ in range(30)]
    found = checks(delivered(tmp_path, people))
    assert found["images before the year of birth"] == (0, 0)
    assert found["age at the image is more than 2 years off the birth year"] == (0, 0)


def test_one_person_who_cannot_be_compared_is_not_told(tmp_path: Path) -> None:
    people = [{} for _ in range(60)] + [{"sex_said": None}] + [{"sex_said": "male"}] * 20
    found = checks(delivered(tmp_path, people))
    assert found["sex differs between images and clinical records"] == (20, HIDDEN)
    assert part(55, [60], RULE) == HIDDEN
    assert part(3, [60], RULE) == "<11"


def test_images_are_counted_once_a_person_and_rare_makers_are_not_named(tmp_path: Path) -> None:
    people = [{"modality": "CT"} for _ in range(40)] + [{"modality": "DX"} for _ in range(20)]
    for one in people[:4]:
        one["maker"] = "RARE WORKS"
    folder = delivered(tmp_path, people)
    found = {one["name"]: one["groups"] for one in imaging_characteristics(folder, RULE)}
    assert found["modality"] == {"CT only": 40, "DX only": 20}
    assert found["manufacturer"] == {"GE only": HIDDEN, "others": HIDDEN}
    assert found["year of the first image"] == {"2010": 60}
    assert found["thinnest slice"] == {"1 mm or less": 60}
    assert "RARE" not in json.dumps(found)


def test_no_year_is_told_where_dates_are_shifted(tmp_path: Path) -> None:
    folder = delivered(tmp_path, [{"frame": "shifted"} for _ in range(30)])
    years = imaging_characteristics(folder, RULE)[-1]
    assert years["groups"] is None
    assert "no true dates" in years["note"]


STEPS = (
    Step(label="matched", subjects=100),
    Step(label="in OMOP", subjects=100, reason="not in OMOP"),
    Step(label="has it", subjects=70, reason="criterion not met: has it"),
    Step(label="came", subjects=50, reason="no rows came"),
    Step(label="opened", subjects=50, reason="did not open"),
)


def test_who_was_lost_is_compared_with_the_delivered(open_omop: OpenOmop) -> None:
    """70 meet the criterion; of these all 20 whose rows did not come are men born in 1930."""
    persons = " ".join(
        f"{n},{8507 if n % 2 or 50 < n <= 70 else 8532},{1930 if 50 < n <= 70 else 1990},,"
        for n in range(1, 101)
    )
    units = {n: f"C{n}" for n in range(1, 101)}
    fits, came = {f"C{n}" for n in range(1, 71)}, {f"C{n}" for n in range(1, 51)}
    where = reached(STEPS, units.values(), (fits, came, came))
    assert (where["C1"], where["C60"], where["C99"]) == (4, 2, 1)
    people = describe(open_omop(persons), units, where)
    assert people.num_rows == 100
    lost, unmet = who_was_lost(people, STEPS, RULE, today=TODAY)
    assert (lost["persons"], unmet["persons"], lost["delivered"]) == (20, 30, 50)
    of = {one["name"]: one for one in lost["variables"]}
    assert of["sex"]["difference"]["difference"] > of["sex"]["difference"]["chance"]
    assert of["age"]["difference"]["difference"] > of["age"]["difference"]["chance"]
    assert of["race"]["difference"] is None  # all are of one race
    assert {"group": "65 and over", "delivered": 0.0, "lost": 1.0} in of["age"]["groups"]
    assert who_is_in(people, 4, RULE)["race"] == {
        **dict.fromkeys(who_is_in(people, 4, RULE)["race"] or {}, 0),
        "White": 50,
    }


def test_few_who_were_lost_are_compared_with_nobody(open_omop: OpenOmop) -> None:
    persons = " ".join(f"{n},8532,1990,," for n in range(1, 61))
    units = {n: f"C{n}" for n in range(1, 61)}
    came = {f"C{n}" for n in range(1, 55)}
    where = reached(STEPS, units.values(), (set(units.values()), came, came))
    people = describe(open_omop(persons), units, where)
    lost, unmet = who_was_lost(people, STEPS, RULE, today=TODAY)
    assert (lost["persons"], lost["variables"]) == ("<11", [])
    assert (unmet["persons"], unmet["variables"]) == (0, [])


def test_the_shipped_reference_adds_up() -> None:
    reference = load_reference()
    totals = {sum(one.count for one in variable.category) for variable in reference.variable}
    assert totals == {331_449_281}
    assert "census" in reference.source.lower()


def test_hidden_groups_are_compared_together_and_unknown_ones_not_at_all() -> None:
    reference = load_reference()
    race: dict[str, Any] = {
        "unknown": 0,
        "White": 60,
        "Black or African American": 20,
        "Asian": HIDDEN,
        "another race, or several": HIDDEN,
        "American Indian or Alaska Native": 0,
        "Native Hawaiian or Other Pacific Islander": 0,
    }
    found = representativeness({"race": race, "sex": None}, 100, reference)["variables"]
    by_name = {one["name"]: one for one in found}
    groups = {row["group"]: row["cohort"] for row in by_name["race"]["groups"]}
    assert groups["Asian or another race, or several"] == 0.2
    assert by_name["sex"]["why_not"]
    unsure = representativeness({"race": race | {"unknown": HIDDEN}}, 100, reference)["variables"]
    assert unsure[2]["left_out"] == ["Asian", "another race, or several"]
    assert "Asian" not in json.dumps(unsure[2]["groups"])


def test_a_reference_without_a_source_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('name = "x"\nyear = 2020\n', encoding="utf-8")
    with pytest.raises(SiteRefused):
        load_reference(file)


def test_how_persons_were_linked_is_one_kind_a_person() -> None:
    told = LinkQuality(
        release="r",
        precision="good (at least .95)",
        recall="fair (at least .9)",
        evidence={
            **{f"C{n}": ("probabilistic: keys only",) for n in range(40)},
            **{f"D{n}": ("asserted: asserted", "probabilistic: keys only") for n in range(20)},
        },
    )
    delivered_units = frozenset([*(f"C{n}" for n in range(30)), *(f"D{n}" for n in range(20))])
    found = link_quality(told, delivered_units, RULE)
    assert found["evidence"] == {"probabilistic: keys only": 30, "several kinds": 20}
    nothing = link_quality(None, delivered_units, RULE)
    assert nothing["evidence"] is None
    assert nothing["why_not"]


def test_the_flow_fits_its_width_and_says_all_in_words() -> None:
    steps = [{"step": f"step {n} " + "long " * 30, "persons": 100 - 20 * n} for n in range(4)]
    lost = [{"reason": "why " * 20, "persons": p} for p in (20, HIDDEN, 0)]
    made = flow(steps, lost, "persons")
    boxes = [*made["boxes"], *made["sides"]]
    assert len(made["boxes"]) == 4
    assert len(made["sides"]) == 2  # nobody is lost at the last step
    for box in boxes:
        assert box["x"] + box["width"] <= WIDTH
        assert box["y"] + box["height"] <= made["height"]
        assert all(box["y"] < line["y"] < box["y"] + box["height"] for line in box["lines"])
    spans = sorted((box["y"], box["y"] + box["height"]) for box in boxes)
    assert all(low[1] <= high[0] for low, high in itertools.pairwise(spans))
    assert "100 persons" in made["told"]
    assert "persons: hidden less: why" in made["told"]
