"""Presets of match-key rules: what their names mean, and when a study gets them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from linkage.errors import StudyRefused
from linkage.match_key_presets import PRESETS
from linkage.schema import schema_hash
from linkage.study import StudyConfig, parse_field, parse_study
from tests.studies import STUDY

NO_RULES = STUDY[: STUDY.index("[[match_key]]")]


def _with(presets: str, text: str = NO_RULES) -> str:
    return text.replace("release_to", f"match_key_presets = {presets}\nrelease_to", 1)


def _rules(study: StudyConfig) -> dict[str, tuple[str, ...]]:
    return {rule.id: rule.fields for rule in study.match_key}


def test_the_published_rules_are_as_published() -> None:
    assert PRESETS["opentoken"] == {
        "opentoken-t1": ("last_name", "first_name:initial", "sex", "date_of_birth"),
        "opentoken-t2": ("last_name", "first_name", "date_of_birth", "zip:3"),
        "opentoken-t3": ("last_name", "first_name", "sex", "date_of_birth"),
        "opentoken-t4": ("ssn", "sex", "date_of_birth"),
    }
    more = PRESETS["opentoken-all"].items() - PRESETS["opentoken"].items()
    assert more == {("opentoken-t5", ("last_name", "first_name:3", "sex"))}
    assert PRESETS["datavant"] == {
        "datavant-t1": ("last_name", "first_name:initial", "sex", "date_of_birth"),
        "datavant-t2": ("last_name:sound", "first_name:sound", "sex", "date_of_birth"),
    }


def test_the_documented_table_is_the_rules() -> None:
    page = Path(__file__).parents[3] / "docs" / "formats-encoding.md"
    rows = re.findall(
        r"^\| `(.+?)` \| ([a-z].*?) \|$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    documented = {rule: tuple(fields.split(", ")) for rule, fields in rows if "-" in rule}
    everything = {rule: fields for rules in PRESETS.values() for rule, fields in rules.items()}
    assert documented == everything


@pytest.mark.parametrize("name", PRESETS)
def test_every_rule_is_one_that_a_study_file_may_write(name: str) -> None:
    for rule, fields in PRESETS[name].items():
        assert rule.startswith(name.removesuffix("-all"))
        assert len(fields) >= 2
        for ref in fields:
            parse_field(ref)


def test_the_default_is_about_ten_rules_for_two_parties() -> None:
    fields = '"first_name", "middle_name", "last_name", "date_of_birth", "sex", "street", "ssn"'
    held = 'fields = ["first_name", "last_name", "date_of_birth", "sex"'
    study = parse_study(NO_RULES.replace(held, f"fields = [{fields}"))
    assert len(PRESETS["default"]) == 14
    assert len(study.rules_of(study.party[0])) == 12


def test_a_study_without_rules_gets_the_default_ones_that_two_parties_can_compute() -> None:
    study = parse_study(NO_RULES)
    assert list(_rules(study)) == [
        "default-last-dob",
        "default-first-dob",
        "default-soundlast-dob-sex",
        "default-first-last-monthday",
        "default-first-last-year",
    ]  # not those with a ZIP code, which beta alone holds
    for party in study.party:
        assert study.rules_of(party) == study.match_key


def test_own_rules_come_first_and_are_alone_unless_presets_are_named() -> None:
    assert list(_rules(parse_study(STUDY))) == ["first-last-dob", "sound-dob"]
    both = parse_study(_with('["datavant", "opentoken"]', STUDY))
    assert list(_rules(both)) == [
        *("first-last-dob", "sound-dob", "datavant-t1", "datavant-t2"),
        *("opentoken-t1", "opentoken-t3"),
    ]


def test_expanded_rules_are_part_of_the_schema_hash() -> None:
    written = NO_RULES + "".join(
        f'[[match_key]]\nid = "{rule}"\nfields = {list(fields)}\n'
        for rule, fields in PRESETS["datavant"].items()
    )
    by_name, by_hand = parse_study(_with('["datavant"]')), parse_study(written)
    assert by_name.match_key == by_hand.match_key
    assert schema_hash(by_name) == schema_hash(by_hand)
    assert schema_hash(by_name) != schema_hash(parse_study(NO_RULES))


def test_overlapping_presets_and_a_dumped_study_give_each_rule_once() -> None:
    study = parse_study(_with('["opentoken", "opentoken-all"]'))
    assert list(_rules(study)) == ["opentoken-t1", "opentoken-t3", "opentoken-t5"]
    assert StudyConfig.model_validate(study.model_dump()) == study
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


OWN = '[[match_key]]\nid = "opentoken-t1"\nfields = ["last_name", "sex"]\n'


@pytest.mark.parametrize(
    ("text", "line_of", "rule", "hint"),
    [
        (_with('["opentokn"]'), "match_key_presets", "no preset 'opentokn'", "opentoken-all"),
        (_with('["datavant", "datavant"]'), "match_key_presets", "named twice", "once"),
        (_with('"datavant"'), "match_key_presets", "valid tuple", "correct"),
        (_with("[3]"), "match_key_presets", "valid string", "correct"),
        (_with("[]"), "match_key_presets", "no match-key rule", "name a preset"),
        (NO_RULES + OWN, 'id = "opentoken-t1"', "a rule of the preset 'opentoken'", "rename"),
        (_with('["opentoken"]') + OWN, 'id = "opentoken-t1"', "rule of the preset", "rename"),
        (_with('["default"]') + OWN.replace("sex", "email"), 'fields = ["last_name", "email"]',
         "uses 'email', which no party holds", "drop the rule"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(text: str, line_of: str, rule: str, hint: str) -> None:
    if "email" in text:
        text = text.replace("opentoken-t1", "mine")
    with pytest.raises(StudyRefused, match=re.escape(rule)) as refused:
        parse_study(text)
    assert hint in refused.value.hint
    lines = text.splitlines()
    assert lines[refused.value.line - 1].startswith(line_of)


def test_no_rule_that_two_parties_can_compute_is_refused() -> None:
    only = _with('["opentoken"]').replace('"date_of_birth", "sex"]', '"date_of_birth", "phone"]')
    with pytest.raises(StudyRefused, match="no match-key rule"):
        parse_study(only.replace('{ field = "sex", bits = 40 }', '{ field = "phone" }'))
