"""Two studies compared in words: what differs, where, and nothing else."""

from __future__ import annotations

import pytest

from linkage.schema import differences, schema_hash
from linkage.study import StudyConfig, parse_study

RULE = """[[match_key]]
id = "sounds-year"
fields = ["first_name:sound", "last_name:sound", "date_of_birth:year"]
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('id = "lung-outcomes"', 'id = "lungs"',
         ["the study ID is lung-outcomes in one and lungs in the other"]),
        ("epoch = 3", "epoch = 4", ["the epoch is 3 in one and 4 in the other"]),
        ("bits = 140", "bits = 120",
         ["CLK 'name-dob-sex': field 'date_of_birth': bits are 140 in one and 120 in the other"]),
        ("ngram = 3", "ngram = 1",
         ["CLK 'name-ssn': field 'first_name': the n of its n-grams is 3 in one"
          " and 1 in the other"]),
        ("length = 1024", "length = 2048",
         ["CLK 'name-ssn': the length is 1024 in one and 2048 in the other"]),
        ("length = 1024\ndiffusion = 10", "length = 1024\ndiffusion = 12",
         ["CLK 'name-ssn': the diffusion t is 10 in one and 12 in the other"]),
        ("min_fields = 2", "min_fields = 3",
         ["CLK 'name-ssn': min_fields are 2 in one and 3 in the other"]),
        ("middle_name:initial", "middle_name",
         ["CLK 'name-dob-sex': field 'middle_name:initial' is only in one",
          "CLK 'name-dob-sex': field 'middle_name' is only in the other"]),
        ('{ field = "ssn", ngram = 1, bits = 50 }',
         '{ field = "ssn", ngram = 1, bits = 50 }, { field = "ssn", ngram = 2 }',
         ["CLK 'name-ssn': field 'ssn' is only in the other"]),
        ('{ field = "first_name", ngram = 3 }, { field = "last_name" },',
         '{ field = "last_name" }, { field = "first_name", ngram = 3 },',
         ["CLK 'name-ssn': fields stand in another order in the other"]),
        ('id = "name-ssn"', 'id = "ssn-name"',
         ["CLK 'name-ssn' is only in one", "CLK 'ssn-name' is only in the other"]),
        (RULE, "", ["match-key rule 'sounds-year' is only in one"]),
        ('"ssn:last4", "last_name:1"', '"ssn:last4", "last_name:2"',
         ["match-key rule 'ssn-initial': the fields are ssn:last4, last_name:1 in one"
          " and ssn:last4, last_name:2 in the other"]),
        ("Lung outcomes", "Lungs", []),
        ('purpose = "tests"', 'purpose = "others"', []),
    ],
)  # fmt: skip
def test_each_difference_is_told_and_no_other(
    study: StudyConfig, study_text: str, old: str, new: str, told: list[str]
) -> None:
    assert study_text.count(old) == 1
    other = parse_study(study_text.replace(old, new))
    assert differences(study, other) == told
    same = (study.study.id, study.study.epoch, schema_hash(study)) == (
        *(other.study.id, other.study.epoch, schema_hash(other)),
    )
    assert same == (not told)
    assert len(differences(other, study)) == len(told)


def test_another_order_of_rules_is_told(study: StudyConfig, study_text: str) -> None:
    other = parse_study(study_text.replace(RULE, "") + RULE)
    assert differences(study, other, names=("ours", "theirs")) == [
        "match-key rules stand in another order in theirs"
    ]
    assert schema_hash(study) != schema_hash(other)


def test_many_differences_are_told_together(study: StudyConfig, study_text: str) -> None:
    text = study_text.replace("bits = 140", "bits = 120").replace("epoch = 3", "epoch = 9")
    assert len(differences(study, parse_study(text.replace(RULE, "")))) == 3


def test_versions_of_normalisation_are_compared_where_told(study: StudyConfig) -> None:
    assert differences(study, study, normalisation=("1", "2"), names=("a.toml", "b.toml")) == [
        "the normalisation version is 1 in a.toml and 2 in b.toml"
    ]
