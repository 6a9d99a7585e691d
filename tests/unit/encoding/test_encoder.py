"""encode_records: what a party computes, attests and refuses."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding.clk import ClkEncoder
from linkage.encoding.columns import Coded
from linkage.encoding.encoder import BatchEncoder, encode_records
from linkage.encoding.keys import StudyKey
from linkage.errors import EncodingRefused
from linkage.records import from_arrow, to_arrow
from linkage.schema import schema_hash
from linkage.study import StudyConfig
from tests.coded import coded, transformed

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "encoding_v2.json").read_text(encoding="ascii")
)


def _pseudonyms(n: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (n, 16), dtype=np.uint8)


def test_pinned_bytes(study: StudyConfig, study_text: str, key: StudyKey) -> None:
    assert VECTORS["study"] == study_text
    assert bytes.fromhex(VECTORS["key"]) == key.secret_bytes()
    assert schema_hash(study) == VECTORS["schema_hash"]
    assert key.key_check(study) == VECTORS["key_check"]
    columns = coded(VECTORS["columns"])
    for party_id, expected in VECTORS["parties"].items():
        party = study.party_named(party_id)
        found = encode_records(columns, _pseudonyms(4), study=study, party=party, key=key)
        for name, column in {**found.records.clks, **found.records.match_keys}.items():
            rows = [
                row.tobytes().hex() if there else None
                for row, there in zip(column.values, column.present, strict=True)
            ]
            assert rows == expected[name], name


def test_a_party_computes_what_its_fields_allow(
    study: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    made = encode_records(
        people,
        _pseudonyms(300),
        study=study,
        party=study.party_named("imaging"),
        key=key,
    )
    assert list(made.records.clks) == ["name-dob-sex"]
    assert list(made.records.match_keys) == ["first-last-dob", "sounds-year"]
    encoder = ClkEncoder(study, study.clk[0], key)
    plain = encoder.plain(transformed(people, encoder.refs))
    bits = np.unpackbits(plain.values[plain.present], axis=1)
    assert made.densities == {"name-dob-sex": pytest.approx(bits.mean())}


def test_reasons_and_collisions_add_up(study: StudyConfig, key: StudyKey) -> None:
    texts = {
        "first_name": ["ann", "ann", "bo", "bo", ""],
        "middle_name": ["", "", "", "", ""],
        "last_name": ["lee", "lee", "ng", "ng", "ng"],
        "ssn": ["111223333", "444553333", "777889999", "777889999", "123004567"],
    }
    made = encode_records(
        coded(texts), _pseudonyms(5), study=study, party=study.party_named("claims"), key=key
    )
    # Rows 0 and 1 share the last four digits and the letter; rows 2 and 3 are one person.
    assert made.records.groups.tolist() == [0, 1, 2, 2, 4]
    assert made.null_reasons == {"ssn-initial": {"repeated": 2}}
    assert made.collisions == {"ssn-initial": 5}
    assert made.records.match_keys["ssn-initial"].present.tolist() == [False, False, *[True] * 3]


def test_two_parties_agree_on_the_same_person_and_keys_differ(
    study: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    party = study.party_named("imaging")
    one = encode_records(people, _pseudonyms(300), study=study, party=party, key=key)
    two = encode_records(people, _pseudonyms(300), study=study, party=party, key=key)
    other = encode_records(
        people, _pseudonyms(300), study=study, party=party, key=StudyKey.generate()
    )
    a, b = one.records.clks["name-dob-sex"], two.records.clks["name-dob-sex"]
    c = other.records.clks["name-dob-sex"]
    assert (a.values == b.values).all()
    agreement = 1 - np.bitwise_count(a.values ^ c.values)[a.present].mean() / 8
    assert agreement == pytest.approx(0.5, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=3))
def test_batches_give_what_the_whole_gives(
    study: StudyConfig, key: StudyKey, people: dict[str, Coded], cuts: list[int]
) -> None:
    ends = sorted({0, 300, *cuts})
    for party in study.party:
        whole = BatchEncoder(study, party, key).encode(people)
        encoder = BatchEncoder(study, party, key)
        texts = {name: column.texts() for name, column in people.items()}
        parts = [
            encoder.encode(coded({name: column[a:b] for name, column in texts.items()}))
            for a, b in pairwise(ends)
        ]
        for kind in ("clks", "match_keys"):
            for name, column in getattr(whole, kind).items():
                found = [getattr(part, kind)[name] for part in parts]
                assert (np.concatenate([one.values for one in found]) == column.values).all()
                assert (np.concatenate([one.present for one in found]) == column.present).all()
        for name, bits_set in whole.bits_set.items():
            assert (np.concatenate([part.bits_set[name] for part in parts]) == bits_set).all()
        for rule, reasons in whole.missing.items():
            assert sum((Counter(part.missing[rule]) for part in parts), Counter()) == reasons


def test_they_survive_the_wire(study: StudyConfig, key: StudyKey, people: dict[str, Coded]) -> None:
    party = study.party_named("claims")
    made = encode_records(people, _pseudonyms(300), study=study, party=party, key=key).records
    back = from_arrow([to_arrow(made, study)], study, "claims")
    assert (back.clks["name-ssn"].values == made.clks["name-ssn"].values).all()
    keys, sent = back.match_keys["ssn-initial"], made.match_keys["ssn-initial"]
    assert (keys.values == sent.values).all()
    assert (keys.present == sent.present).all()


def test_no_records(study: StudyConfig, key: StudyKey) -> None:
    party = study.party_named("claims")
    empty = coded({name: [] for name in party.fields})
    made = encode_records(empty, _pseudonyms(0), study=study, party=party, key=key)
    assert len(made.records) == 0
    assert made.densities == {"name-ssn": 0.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", "Ann"),
        ("last_name", "o'brien"),
        ("ssn", "078-05-1120"),
        ("ssn", "12345678"),
        ("middle_name", " "),
        ("middle_name", "\u0142"),
    ],
)
def test_raw_values_are_refused_and_never_shown(
    study: StudyConfig, key: StudyKey, field: str, value: str
) -> None:
    party = study.party_named("claims")
    columns = {name: ["", ""] for name in party.fields}
    columns[field] = ["", value]
    with pytest.raises(EncodingRefused, match=f"column '{field}' is not norm") as refused:
        encode_records(coded(columns), _pseudonyms(2), study=study, party=party, key=key)
    assert f"'{value}'" not in str(refused.value)


def test_missing_and_short_columns_are_named(
    study: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    party = study.party_named("claims")
    without = {name: column for name, column in people.items() if name != "ssn"}
    with pytest.raises(EncodingRefused, match="no such column"):
        encode_records(without, _pseudonyms(300), study=study, party=party, key=key)
    with pytest.raises(EncodingRefused, match="every record"):
        encode_records(people, _pseudonyms(299), study=study, party=party, key=key)
