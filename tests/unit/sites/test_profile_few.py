"""What the profile says beside its tables does not give a few people away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sites.profiling.report import FieldReport, ProfileReport
from tests.unit.sites.test_profile import codes, everything, person, profiled


def sex_of(report: ProfileReport) -> FieldReport:
    return next(one for one in report.fields if one.field == "sex")


@pytest.mark.parametrize("few", [1, 4, 7])
def test_a_sex_of_a_few_people_is_not_what_the_other_leaves(tmp_path: Path, few: int) -> None:
    people = [person(i, sex="M" if i < few else "F") for i in range(505)]
    report = profiled(tmp_path, people)
    found = sex_of(report)
    assert (found.present, found.highest, found.common) == (505, 505, ())
    assert codes(report)["sex-share"].records == 505
    for text in everything(report):
        assert not re.search(rf"\b{505 - few}\b", text)


def test_ten_of_a_sex_are_told(tmp_path: Path) -> None:
    people = [person(i, sex="M" if i < 10 else "F") for i in range(505)]
    found = sex_of(profiled(tmp_path, people))
    assert found.common == (("female", 495), ("male", 10))


@pytest.mark.parametrize(("other", "told"), [(9, False), (10, True)])
def test_a_few_of_another_sex_are_told_with_the_unknown(
    tmp_path: Path, other: int, told: bool
) -> None:
    people = [person(i, sex="O" if i < other else "U" if i < 25 else "F") for i in range(300)]
    report = profiled(tmp_path, people)
    expected = {"placeholder: told as other": 10, "placeholder: told as unknown": 15}
    if not told:
        expected = {"placeholder: told as other or unknown": 25}
    assert sex_of(report).reasons == expected
    assert told or all("told as unknown" not in text for text in everything(report))


def test_a_gap_between_decades_does_not_count_who_is_in_it(tmp_path: Path) -> None:
    numbers = set()
    for few in (1, 5, 9):
        years = [1945] * 500 + [1955] * few + [1965] * 700
        people = [person(i, dob=f"01/02/{year}") for i, year in enumerate(years)]
        numbers.add(codes(profiled(tmp_path, people))["decade-missing"].records)
    assert numbers == {500}


@pytest.mark.parametrize(("old", "said"), [(3, "Fewer than 10 records"), (12, "12 records")])
def test_a_few_very_old_people_are_not_counted(tmp_path: Path, old: int, said: str) -> None:
    people = [person(i, **({"dob": "02/03/1912"} if i < old else {})) for i in range(300)]
    found = codes(profiled(tmp_path, people))["age-over-110"]
    assert found.records == max(old, 9)
    assert found.text.startswith(said)
