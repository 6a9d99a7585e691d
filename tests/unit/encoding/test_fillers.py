"""Fillers: no match key is null, and nothing but a contributor's secret tells which are made up."""

from __future__ import annotations

import hmac
import pickle

import numpy as np
import pytest

from linkage.encoding.columns import Coded
from linkage.encoding.encoder import Encoded, encode_records
from linkage.encoding.fillers import Fillers, leaders_of
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.errors import EncodingRefused
from linkage.pseudonyms import ContributorSecret
from linkage.records import FixedColumn, from_arrow, to_arrow
from linkage.schema import differences, schema_hash
from linkage.study import StudyConfig, parse_study
from tests.coded import coded

SECRET = ContributorSecret(bytes(range(50, 82)))
DEFAULT = ("fill_null_keys = false", "")


@pytest.fixture
def filling(study_text: str) -> StudyConfig:
    return parse_study(study_text.replace(*DEFAULT))


def encode(
    people: dict[str, Coded],
    study: StudyConfig,
    key: StudyKey,
    secret: ContributorSecret | None = SECRET,
    party: str = "imaging",
) -> Encoded:
    n = len(next(iter(people.values())))
    names = SECRET.pseudonyms(study.study.id, [f"r{i}" for i in range(n)])
    return encode_records(
        people, names, study=study, party=study.party_named(party), key=key, secret=secret
    )


def by_rule(made: Encoded) -> dict[str, list[bytes]]:
    keys = made.records.match_keys
    return {rule: [row.tobytes() for row in column.values] for rule, column in keys.items()}


def test_they_are_the_default_of_the_hardened_profile_only(study_text: str) -> None:
    plain = 'profile = "clkhash"\naccept_graph_matching_risk = true\n'
    for header, expected in (
        ("", True),
        (plain, False),
        (f"{plain}fill_null_keys = true", True),
        ("fill_null_keys = false", False),
    ):
        study = parse_study(study_text.replace(DEFAULT[0], header))
        assert study.study.fills_null_keys is expected


def test_the_schema_hash_covers_them(study: StudyConfig, filling: StudyConfig) -> None:
    assert schema_hash(study) != schema_hash(filling)
    assert differences(study, filling) == [
        "what becomes of null match keys is left null in one and filled in the other"
    ]


def test_nothing_is_null_and_what_was_not_stays(
    study: StudyConfig, filling: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    """Keys depend on the schema hash, so the two studies are compared by their patterns."""
    without, made = encode(people, study, key), encode(people, filling, key)
    assert made.null_reasons == without.null_reasons
    assert made.collisions == without.collisions
    again = encode(people, filling, key, secret=ContributorSecret.generate()).records
    for rule, column in made.records.match_keys.items():
        there = without.records.match_keys[rule].present
        assert 20 < (~there).sum() < 280
        assert column.present.all()
        other = again.match_keys[rule]
        assert (column.values[there] == other.values[there]).all()
        assert (column.values[~there] != other.values[~there]).any(axis=1).all()
    # No two groups share a key, filled or not, under any rule.
    groups = made.records.groups.tolist()
    held = {(k, g) for keys in by_rule(made).values() for k, g in zip(keys, groups, strict=True)}
    assert len({k for k, _ in held}) == len(held)


def test_the_bytes_are_what_the_format_says(
    filling: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    made = encode(people, filling, key)
    names = made.records.pseudonyms
    leaders = [
        min(bytes(n) for n, g in zip(names, made.records.groups, strict=True) if g == group)
        for group in made.records.groups
    ]
    derived = SECRET.derive(f"commons-linkage/fillers/v1 {key.key_check(filling)}")
    blank = coded({field: [""] * 300 for field in people})
    for rule, found in by_rule(encode(blank, filling, key)).items():
        for name, filler in zip(names, found, strict=True):
            message = length_prefixed(rule) + bytes(name)
            assert filler == hmac.digest(derived, message, "sha256")[:16]
    missing = [not text for text in people["date_of_birth"].texts()]
    for rule in ("first-last-dob", "sounds-year"):
        for lacks, leader, found_key in zip(missing, leaders, by_rule(made)[rule], strict=True):
            message = length_prefixed(rule) + leader
            filler = hmac.digest(derived, message, "sha256")[:16]
            if lacks:
                assert found_key == filler


def test_a_group_shares_its_fillers_as_it_shares_its_keys(study_text: str, key: StudyKey) -> None:
    texts = {
        "first_name": ["ann", "ann", "bo", "ann"],
        "middle_name": ["", "", "", ""],
        "last_name": ["lee", "lee", "ng", "lee"],
        "ssn": ["111223333", "111223333", "", ""],
    }
    rule = '[[match_key]]\nid = "middle-last"\nfields = ["middle_name", "last_name"]\n'
    study = parse_study(study_text.replace(*DEFAULT) + rule)
    made = encode(coded(texts), study, key, party="claims")
    assert made.records.groups.tolist() == [0, 0, 2, 3]
    found = by_rule(made)["middle-last"]
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert made.null_reasons["middle-last"] == {"missing:middle_name": 4}


def test_leaders_are_the_smallest_pseudonyms_of_each_group() -> None:
    draw = np.random.default_rng(3)
    names = draw.integers(0, 256, (500, 16), dtype=np.uint8)
    names[:50, :8] = 0  # many whose first halves are equal
    groups = draw.integers(0, 200, 500).astype(np.uint32)
    members: dict[int, list[bytes]] = {}
    for name, group in zip(names, groups.tolist(), strict=True):
        members.setdefault(group, []).append(bytes(name))
    expected = [min(members[group]) for group in groups.tolist()]
    assert [bytes(one) for one in leaders_of(names, groups)] == expected
    assert leaders_of(names[:0], groups[:0]).shape == (0, 16)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lung-outcomes", "lung-outcome"),
        ("epoch = 3", "epoch = 4"),
        ("bits = 140", "bits = 139"),
    ],
)
def test_whatever_changes_match_keys_changes_fillers(
    filling: StudyConfig, study_text: str, key: StudyKey, old: str, new: str
) -> None:
    other = parse_study(study_text.replace(*DEFAULT).replace(old, new))
    null = {"rule": FixedColumn(np.zeros((9, 16), np.uint8), np.zeros(9, dtype=bool))}
    names = SECRET.pseudonyms("a-study", [str(i) for i in range(9)])
    made = [
        Fillers(study, with_key, SECRET).fill(null, names)["rule"].values
        for study, with_key in ((filling, key), (other, key), (filling, StudyKey.generate()))
    ]
    assert len({row.tobytes() for one in made for row in one}) == 27


def test_what_does_not_change_match_keys_leaves_fillers(
    filling: StudyConfig, study_text: str, key: StudyKey, people: dict[str, Coded]
) -> None:
    renamed = study_text.replace(*DEFAULT).replace("Lung outcomes", "Lungs")
    assert by_rule(encode(people, filling, key)) == by_rule(
        encode(people, parse_study(renamed), key)
    )


def test_without_the_secret_nothing_is_encoded(
    study: StudyConfig, filling: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    with pytest.raises(EncodingRefused, match="no secret to make fillers"):
        encode(people, filling, key, secret=None)
    assert (
        not encode(people, study, key, secret=None)
        .records.match_keys["sounds-year"]
        .present[[not text for text in people["date_of_birth"].texts()]]
        .any()
    )


def test_they_survive_the_wire_without_a_null(
    filling: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    made = encode(people, filling, key).records
    back = from_arrow([to_arrow(made, filling)], filling, "imaging")
    for rule, column in back.match_keys.items():
        assert column.present.all()
        assert (column.values == made.match_keys[rule].values).all()


def test_they_are_not_pickled(filling: StudyConfig, key: StudyKey) -> None:
    with pytest.raises(TypeError, match="refuse pickling"):
        pickle.dumps(Fillers(filling, key, SECRET))
