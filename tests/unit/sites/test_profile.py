"""The profile of a source: what is planted is found, and nobody's value is shown."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from linkage.errors import SourceRefused
from linkage.study import StudyConfig, parse_study
from sites.config import SourceConfig
from sites.profile import profile_source
from sites.profiling.counting import Hashing
from sites.profiling.page import page
from sites.profiling.report import ProfileReport
from sites.profiling.screen import print_profile
from sites.sources import delimited
from tests.studies import STUDY

TODAY = dt.date(2026, 1, 1)
COLUMNS = {
    "first_name": "first",
    "last_name": "last",
    "date_of_birth": "dob",
    "sex": "sex",
    "ssn": "ssn",
    "phone": "phone",
    "email": "email",
    "street": "street",
    "zip": "zip",
}
ALL = parse_study(
    STUDY.replace('"sex", "zip"]', '"sex", "zip", "ssn", "phone", "email", "street"]')
)
SMALL = parse_study(STUDY)

Person = dict[str, str]


def person(i: int, **changed: str) -> Person:
    """Return an ordinary person, different from every other one."""
    born = dt.date(1930, 1, 1) + dt.timedelta(days=(i * 7919) % 29_000)
    letters = "".join(chr(97 + (i // 26**k) % 26) for k in range(4))
    return {
        "id": f"r{i}",
        "first": f"fi{letters}",
        "last": f"la{letters}",
        "dob": born.strftime("%m/%d/%Y"),
        "sex": "FM"[i % 2],
        "ssn": f"{100 + i % 500:03}-{10 + i % 80:02}-{1000 + i:04}",
        "phone": f"212{2_000_000 + i * 13:07}",
        "email": f"m{i}@mail.org",
        "street": f"{i + 1} oak st",
        "zip": f"{10_000 + (i * 37) % 80_000:05}",
        "race": ["white", "black", "asian"][i % 3],
        **changed,
    }


def written(folder: Path, people: Iterable[Person], **settings: Any) -> SourceConfig:
    path = folder / "people.csv"
    people = list(people)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(people[0] if people else person(0)))
        writer.writeheader()
        writer.writerows(people)
    return SourceConfig.model_validate(
        {
            "file": path,
            "record_id": "id",
            "date_format": "MM/DD/YYYY",
            "columns": COLUMNS,
            "subgroups": {"race": "race"},
            **settings,
        }
    )


def profiled(
    folder: Path,
    people: Iterable[Person],
    *,
    study: StudyConfig | None = ALL,
    party: str = "beta",
    **settings: Any,
) -> ProfileReport:
    return profile_source(
        written(folder, people, **settings),
        party=party,
        study=study,
        today=TODAY,
        hashing=Hashing("0123456789abcdef"),
    )


def everything(report: ProfileReport) -> Iterator[str]:
    """Yield the report in each of the forms that it is shown in."""
    yield json.dumps(report.as_json(), ensure_ascii=False)
    yield page(report, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    for width in (80, 200):
        console = Console(width=width, file=io.StringIO())
        print_profile(report, console)
        yield console.file.getvalue()  # type: ignore[attr-defined]
    yield repr(report)


def codes(report: ProfileReport) -> dict[str, Any]:
    return {one.code: one for one in report.findings}


def test_ordinary_people_are_ready(tmp_path: Path) -> None:
    report = profiled(tmp_path, map(person, range(2_000)))
    assert report.findings == ()
    assert report.verdict.startswith("Ready")
    assert (report.records, report.copies, report.repeated_ids) == (2_000, 0, 0)
    assert {one.present for one in report.fields} == {2_000}


def test_a_birthday_of_eight_percent_is_reported(tmp_path: Path) -> None:
    people = [person(i, dob="05/17/1961") if i < 80 else person(i) for i in range(1_000)]
    found = codes(profiled(tmp_path, people))["common-value"]
    assert (found.field, found.records) == ("date_of_birth", 80)
    assert "1961-05-17" in found.text
    assert "8.0 %" in found.text


def test_first_days_and_mid_months_are_heaps(tmp_path: Path) -> None:
    def born(i: int) -> str:
        year = 1930 + i % 70
        if i % 5 == 0:
            return f"01/01/{year}"
        return f"{1 + i % 12:02}/15/{year}" if i % 5 == 1 else person(i)["dob"]

    report = profiled(tmp_path, (person(i, dob=born(i)) for i in range(2_000)))
    found = codes(report)
    assert found["first-of-january"].records >= 400
    assert found["day-of-month"].records >= 400
    assert "day 15" in found["day-of-month"].text


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("field-empty", {"zip": ""}),
        ("constant", {"zip": "10001"}),
        ("one-letter", {"first": "J"}),
        ("shared-value", {}),
        ("same-name-twice", {"first": "same", "last": "same"}),
        ("placeholder", {"last": "unknown"}),
        ("invalid", {"ssn": "12"}),
        ("age-over-110", {"dob": "02/03/1912"}),
    ],
)
def test_what_is_planted_is_found(tmp_path: Path, code: str, changed: Person) -> None:
    people = [person(i, **changed) for i in range(300)]
    if code == "shared-value":
        people = [person(i, phone=f"212222{i // 15:04}") for i in range(300)]
    assert code in codes(profiled(tmp_path, people, max_invalid=1.0))


def test_rows_that_cannot_be_read_are_one_finding_by_rule(tmp_path: Path) -> None:
    config = written(tmp_path, map(person, range(50)))
    path = tmp_path / "people.csv"
    ragged = [f"x{i},canary,row" if i < 5 else f"y{i},canary" for i in range(8)]
    path.write_text(path.read_text() + "".join(f"{row}\n" for row in ragged))
    report = profile_source(config, party="beta", study=ALL, today=TODAY)
    assert (report.records, report.left_out) == (50, 8)
    found = codes(report)["left-out"]
    assert (found.weight, found.records) == ("stops", 8)
    assert found.text.count("columns") == 2
    assert not any("canary" in text for text in everything(report))


def test_exchanged_name_columns_are_noticed(tmp_path: Path) -> None:
    usual = ["James", "Mary", "Linda", "Robert", "Patricia"]
    people = [person(i, last=usual[i % 5], first=person(i)["last"]) for i in range(200)]
    found = codes(profiled(tmp_path, people))["names-exchanged"]
    assert found.records == 200
    right = [person(i, first=usual[i % 5]) for i in range(200)]
    assert "names-exchanged" not in codes(profiled(tmp_path, right))


def test_shifted_columns_are_the_first_thing_to_say(tmp_path: Path) -> None:
    def shifted(i: int) -> Person:
        one = person(i)
        return {**one, "last": one["dob"], "dob": one["sex"], "sex": one["ssn"]}

    report = profiled(tmp_path, map(shifted, range(100)))
    assert report.findings[0].code == "columns-shifted"
    assert "last_name, date_of_birth and sex" in report.findings[0].text


def test_one_sex_only_and_a_missing_decade_are_odd(tmp_path: Path) -> None:
    people = [
        person(i, sex="F" if i % 10 else "M")
        for i in range(2_000)
        if not 1950 <= int(person(i)["dob"][-4:]) < 1960
    ]
    found = codes(profiled(tmp_path, people))
    assert "female" in found["sex-share"].text
    assert "1950s" in found["decade-missing"].text


def test_a_decade_of_a_few_people_is_not_named(tmp_path: Path) -> None:
    people = [person(i) for i in range(2_000) if not 1950 <= int(person(i)["dob"][-4:]) < 1960]
    people += [person(3_000 + i, dob=f"05/{i + 1:02}/1954") for i in range(5)]
    found = codes(profiled(tmp_path, people))["decade-missing"]
    assert "195" not in found.text


def test_repeated_ids_and_copies_are_counted(tmp_path: Path) -> None:
    people = [person(i) for i in range(100)]
    people += [person(i, id=f"again{i}") for i in range(30)]
    people += [person(500 + i, id=f"r{i}") for i in range(20)]
    report = profiled(tmp_path, people)
    assert (report.copies, report.repeated_ids) == (30, 20)
    assert codes(report)["record-id-repeated"].weight == "stops"
    assert report.verdict.startswith("Not ready")


def test_a_wrong_date_format_is_the_first_thing_to_do(tmp_path: Path) -> None:
    people = [person(i, dob=f"{10 + i % 18}/{1 + i % 12:02}/1950") for i in range(200)]
    report = profiled(tmp_path, people)
    assert report.findings[0].weight == "stops"
    assert report.findings[0].field == "date_of_birth"


def test_findings_come_by_records_with_what_stops_first(tmp_path: Path) -> None:
    people = [
        person(
            i, street="" if i % 2 else "1 oak st", zip="" if i % 4 else "10001", id=f"r{i % 290}"
        )
        for i in range(300)
    ]
    report = profiled(tmp_path, people)
    assert report.findings[0].code == "record-id-repeated"
    same = [one.records for one in report.findings if one.weight == "fix"]
    assert same == sorted(same, reverse=True)
    assert len(same) >= 2


def test_no_value_of_nine_records_is_shown_and_one_of_many_may_be(tmp_path: Path) -> None:
    def planted(i: int) -> Person:
        rare = {
            "first": "canaryfirst", "last": "canarylast", "dob": "11/23/1987",
            "street": "777 canary st", "zip": "55577", "race": "canaryrace",
        }  # fmt: skip
        common = {"first": "commonfirst", "race": "commonrace", "street": "9 common rd"}
        return person(i, **(rare if i < 9 else common if i < 60 else {}))

    report = profiled(tmp_path, map(planted, range(200)))
    shown = list(everything(report))
    for text in shown:
        lower = text.lower()
        for value in ("canary", "1987-11-23", "19871123", "11/23", "55577"):
            assert value not in lower
    assert all("commonfirst" in text and "commonrace" in text for text in shown)


def test_ten_copies_of_one_record_are_one_person(tmp_path: Path) -> None:
    people = [person(i) for i in range(100)]
    people += [person(7, id=f"copy{i}", first="canary") for i in range(40)]
    report = profiled(tmp_path, people)
    assert not any("canary" in text for text in everything(report))


def test_unique_canaries_of_every_field_appear_nowhere(tmp_path: Path) -> None:
    fields = ("first", "last", "street", "email", "race")
    people = [
        person(i, **{name: f"canary{chr(97 + i % 26)}x{name}" for name in fields})
        for i in range(26)
    ]
    for one in people:
        one["email"] += "@canary.org"
    people += [person(i, id=f"canaryid{i}") for i in range(100, 140)]
    bad = [person(300 + i, dob=f"canarydate{i}", ssn="canaryssn", phone="canary") for i in range(9)]
    report = profiled(tmp_path, [*people, *bad])
    for text in everything(report):
        assert "canary" not in text.lower()


def test_numbers_that_name_a_person_are_never_shown(tmp_path: Path) -> None:
    people = [
        person(i, ssn="234-51-7893", phone="2122345678", email="front@desk.org") for i in range(200)
    ]
    report = profiled(tmp_path, people)
    assert {one.field for one in report.findings if one.code == "constant"} == {
        "ssn",
        "phone",
        "email",
    }
    for text in everything(report):
        for value in ("234517893", "234-51", "2345678", "front", "desk.org"):
            assert value not in text


def test_a_subgroup_that_is_a_number_of_a_person_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="no grouping of people"):
        profiled(tmp_path, map(person, range(20)), study=SMALL, subgroups={"ssn": "ssn"})


def test_a_subgroup_of_many_values_is_left_out(tmp_path: Path) -> None:
    report = profiled(tmp_path, map(person, range(400)), subgroups={"code": "street"})
    assert report.effect is not None
    table = next(one for one in report.effect.subgroups if one.dimension == "code")
    assert (table.groups, "different values" in table.note) == ((), True)


def test_an_empty_source_is_said_to_be_empty(tmp_path: Path) -> None:
    report = profiled(tmp_path, [])
    assert codes(report)["no-records"].weight == "stops"
    assert list(everything(report))


def test_three_records_are_profiled_without_a_value(tmp_path: Path) -> None:
    report = profiled(tmp_path, map(person, range(3)))
    assert report.records == 3
    assert all(one.common == () for one in report.fields)
    assert list(everything(report))


@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_the_size_of_a_batch_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    people = [
        person(
            i % 450, first="maria" if i % 9 == 0 else person(i)["first"], zip="" if i % 7 else "1"
        )
        for i in range(500)
    ]
    whole = profiled(tmp_path, people)
    monkeypatch.setattr(delimited, "BATCH_RECORDS", size)
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", size)
    assert profiled(tmp_path, people) == whole


def test_the_effect_is_told_by_rule_party_and_group(tmp_path: Path) -> None:
    people = [
        person(
            i,
            dob="" if i % 3 == 1 else person(i)["dob"],
            last="" if i % 6 == 1 else person(i)["last"],
        )
        for i in range(600)
    ]  # every record of race "black" (i % 3 == 1) lacks a date, every second of these a name too
    report = profiled(tmp_path, people)
    assert report.effect is not None
    made = {one.id: one.records for one in report.effect.evidence}
    assert made == {"name-dob-sex": 500, "first-last-dob": 400, "sound-dob": 400}
    assert report.effect.keys == (200, 400, 0)
    towards = report.effect.parties[0]
    assert (towards.party, towards.linkable, towards.with_key) == ("alpha", 500, 400)
    assert "100 records (16.7 %)" in towards.text
    race = next(one for one in report.effect.subgroups if one.dimension == "race")
    told = {line.group: line.linkable["alpha"].text for line in race.groups}
    assert told == {"asian": "100.0 %", "black": "50.0 %", "white": "100.0 %"}
    behind = codes(report)["subgroup-behind"]
    assert behind.text == ("race black: 50.0 % can be linked to alpha, of all records 83.3 %.")
    assert codes(report)["unlinkable"].records == 100


def test_small_groups_lose_their_name_and_their_figures(tmp_path: Path) -> None:
    people = [
        person(
            i,
            race="canaryrace" if i < 4 else person(i)["race"],
            dob="" if i < 3 else person(i)["dob"],
        )
        for i in range(300)
    ]
    report = profiled(tmp_path, people)
    assert report.effect is not None
    race = next(one for one in report.effect.subgroups if one.dimension == "race")
    last = race.groups[-1]
    assert (last.group, last.records.text) == ("(groups below 10)", "<10")
    assert {share.text for share in last.each.values()} == {"<10"}
    sizes = [line.records.text for line in race.groups]
    assert sum("-" in size for size in sizes) == 1  # else 300 less the others would be 4


def test_without_a_study_there_is_a_profile_but_no_effect(tmp_path: Path) -> None:
    report = profiled(tmp_path, map(person, range(50)), study=None)
    assert report.effect is None
    assert len(report.fields) == len(COLUMNS)
    assert list(everything(report))


def test_a_party_that_can_make_nothing_is_told_so(tmp_path: Path) -> None:
    fields = '["first_name", "last_name", "date_of_birth", "sex"]'
    bare = parse_study(STUDY.replace(fields, '["first_name", "sex"]', 1))
    report = profiled(tmp_path, map(person, range(100)), study=bare, party="alpha")
    assert report.effect is not None
    assert report.effect.evidence == ()
    assert "nothing of yours" in report.effect.parties[0].text
    assert list(everything(report))


def test_only_the_fields_of_the_study_are_read(tmp_path: Path) -> None:
    report = profiled(tmp_path, map(person, range(50)), study=SMALL, party="alpha")
    assert [one.field for one in report.fields] == [
        "first_name",
        "last_name",
        "date_of_birth",
        "sex",
    ]
