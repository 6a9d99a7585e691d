"""Fillers: nothing is null, and nothing but a contributor's secret tells what is made up."""

from __future__ import annotations

import hashlib
import hmac
import pickle

import numpy as np
import pytest

from linkage.encoding import fields
from linkage.encoding.clk import ClkEncoder
from linkage.encoding.columns import Coded
from linkage.encoding.encoder import BatchEncoder, Encoded, encode_records
from linkage.encoding.fillers import POOL, Fillers, leaders_of, made_up, pool
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.errors import EncodingRefused
from linkage.evaluation.attacks.crowds import simulated
from linkage.evaluation.attacks.similarity import encoded, observed
from linkage.pseudonyms import ContributorSecret
from linkage.records import EncodedRecords, FixedColumn, from_arrow, to_arrow
from linkage.schema import differences, schema_hash
from linkage.study import FIELDS, StudyConfig, parse_study
from tests.coded import coded

SECRET = ContributorSecret(bytes(range(50, 82)))
DEFAULT = ("fill_nulls = false", "")


@pytest.fixture
def filling(study_text: str) -> StudyConfig:
    return parse_study(study_text.replace(*DEFAULT))


def fillers(study: StudyConfig, key: StudyKey) -> Fillers:
    party = study.party_named("imaging")
    return Fillers(study, key, SECRET, BatchEncoder(study, party, key).clks)


def nothing(n: int) -> EncodedRecords:
    """Return n records without any match key or CLK."""
    null = np.zeros(n, dtype=bool)
    return EncodedRecords(
        pseudonyms=SECRET.pseudonyms("a-study", [str(i) for i in range(n)]),
        groups=np.arange(n, dtype=np.uint32),
        clks={"name-dob-sex": FixedColumn(np.zeros((n, 256), np.uint8), null)},
        match_keys={"first-last-dob": FixedColumn(np.zeros((n, 16), np.uint8), null)},
    )


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
        (f"{plain}fill_nulls = true", True),
        ("fill_nulls = false", False),
    ):
        study = parse_study(study_text.replace(DEFAULT[0], header).replace("diffusion = 10\n", ""))
        assert study.study.fills_nulls is expected


def test_the_schema_hash_covers_them(study: StudyConfig, filling: StudyConfig) -> None:
    assert schema_hash(study) != schema_hash(filling)
    assert differences(study, filling) == [
        "what becomes of nulls is left null in one and filled in the other"
    ]


@pytest.mark.threat("T04")
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
            message = length_prefixed(f"match-key:{rule}") + bytes(name)
            assert filler == hmac.digest(derived, message, "sha256")[:16]
    missing = [not text for text in people["date_of_birth"].texts()]
    for rule in ("first-last-dob", "sounds-year"):
        for lacks, leader, found_key in zip(missing, leaders, by_rule(made)[rule], strict=True):
            message = length_prefixed(f"match-key:{rule}") + leader
            filler = hmac.digest(derived, message, "sha256")[:16]
            if lacks:
                assert found_key == filler


def test_filling_in_place_gives_the_same(filling: StudyConfig, key: StudyKey) -> None:
    records = nothing(9)
    clk, rule = records.clks["name-dob-sex"], records.match_keys["first-last-dob"]
    records.match_keys["first-last-dob"] = rule = FixedColumn(rule.values, rule.present.copy())
    rule.present[3], rule.values[3] = True, 7
    made = fillers(filling, key).fill(records, records.pseudonyms)
    assert rule.present.tolist() == [row == 3 for row in range(9)]
    assert not clk.present.any()
    fillers(filling, key).fill_in(records, records.pseudonyms)
    for there, expected in (
        (clk, made.clks["name-dob-sex"]),
        (rule, made.match_keys["first-last-dob"]),
    ):
        assert there.present.all()
        assert expected.present.all()
        assert (there.values == expected.values).all()
    assert (rule.values[3] == 7).all()


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
    lacking = nothing(9)
    made = [
        fillers(study, with_key).fill(lacking, lacking.pseudonyms)
        for study, with_key in ((filling, key), (other, key), (filling, StudyKey.generate()))
    ]
    for kind in ("match_keys", "clks"):
        found = [
            row.tobytes() for one in made for c in getattr(one, kind).values() for row in c.values
        ]
        assert len(set(found)) == 27


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
    with pytest.raises(EncodingRefused, match="no secret to make fillers of"):
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
    for ours, theirs in ((back.match_keys, made.match_keys), (back.clks, made.clks)):
        for name, column in ours.items():
            assert column.present.all()
            assert (column.values == theirs[name].values).all()


def test_they_are_not_pickled(filling: StudyConfig, key: StudyKey) -> None:
    with pytest.raises(TypeError, match="refuse pickling"):
        pickle.dumps(fillers(filling, key))


def test_a_clk_that_is_missing_is_a_made_up_persons(
    study: StudyConfig, filling: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    without, made = (
        encode(people, study, key, party="claims"),
        encode(people, filling, key, party="claims"),
    )
    assert made.densities == pytest.approx(without.densities, rel=0.02)  # of real ones only
    there = without.records.clks["name-ssn"].present
    assert 0 < (~there).sum() < 100
    column = made.records.clks["name-ssn"]
    assert column.present.all()
    refs = {one.field: one.field.partition(":")[0] for one in filling.clk[1].fields}
    encoder = ClkEncoder(filling, filling.clk[1], key)
    real = encoder.encode({ref: fields.apply(ref, people[field]) for ref, field in refs.items()})[0]
    assert (column.values[there] == real.values[there]).all()

    leaders = leaders_of(made.records.pseudonyms, made.records.groups)[~there]
    derived = SECRET.derive(f"commons-linkage/fillers/v1 {key.key_check(filling)}")
    known = pool(sorted(set(refs.values())))
    person = {}
    for field in known:
        label = length_prefixed(f"clk:name-ssn:{field}")
        drawn = b"".join(hmac.digest(derived, label + bytes(n), "sha256")[:16] for n in leaders)
        person[field] = made_up(field, known[field], np.frombuffer(drawn, np.uint8).reshape(-1, 16))
    expected = encoder.encode(
        {ref: fields.apply(ref, person[field]) for ref, field in refs.items()}
    )
    assert (column.values[~there] == expected[0].values).all()


def test_made_up_values_are_as_normalised_ones_and_differ() -> None:
    draw = np.random.default_rng(5)
    different = {"sex": 2, "ssn": 1_990, "phone": 1_990, "street": 1_800, "email": 1_900}
    for field, texts in pool(list(FIELDS)).items():
        found = made_up(field, texts, draw.integers(0, 256, (2_000, 16), dtype=np.uint8))
        fields.require_normalised(field, found)
        assert len(set(found.texts())) >= different.get(field, 200)


def test_the_pool_is_part_of_the_format() -> None:
    """Other people would change every filler, and show which CLKs are fillers: raise the label."""
    digest = hashlib.sha256()
    for field, texts in pool(list(FIELDS)).items():
        assert len(texts) == POOL
        digest.update("\n".join([field, *texts]).encode())
    assert digest.hexdigest()[:16] == "545623ba9b0c2c2c"
    assert (pool(["ssn"])["ssn"] == pool(list(FIELDS))["ssn"]).all()


@pytest.mark.threat("T04")
def test_fillers_of_clks_look_like_clks(filling: StudyConfig, key: StudyKey) -> None:
    """How alike a row is to all others tells random bits from real CLKs, not made-up people."""
    clk = filling.clk[0].model_copy(update={"diffusion": 6})
    study = filling.model_copy(update={"clk": (clk, *filling.clk[1:])})
    crowd = simulated(1_500, seed=3, fields=study.party[0].fields)
    real = encoded(study, clk, crowd, key)
    lacking = nothing(150)
    made = fillers(study, key).fill(lacking, lacking.pseudonyms).clks[clk.id].values
    noise = np.random.default_rng(2).integers(0, 256, made.shape, dtype=np.uint8)
    found = {}
    for name, some in (("made up", made), ("random", noise)):
        rows = np.concatenate([real.values[real.present], some])
        spread = observed(FixedColumn(rows, np.ones(len(rows), dtype=bool))).var(axis=1)
        ours, theirs = spread[:-150], spread[-150:]
        found[name] = float((ours[:, None] > theirs).mean())
    assert found["random"] > 0.9
    assert abs(found["made up"] - 0.5) < 0.1
