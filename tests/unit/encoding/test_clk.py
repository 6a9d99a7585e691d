"""CLKs: the bits of clkhash 0.17.0, on its vectors and on whatever hypothesis finds."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding.clk import ClkEncoder, PlainClks
from linkage.encoding.columns import Coded
from linkage.encoding.diffusion import diffuse_reference, diffusion_taps
from linkage.encoding.keys import StudyKey
from linkage.errors import EncodingRefused, SchemaRefused
from linkage.records import FixedColumn
from linkage.schema import clk_schema, parse_schema
from linkage.study import ClkSpec, StudyConfig, parse_study
from tests.coded import coded, transformed

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "clk_v1.json").read_text(encoding="ascii")
)


def _columns(records: list[list[str]]) -> list[Coded]:
    return [Coded.of(column) for column in zip(*records, strict=True)]


def _plain(
    study: StudyConfig, clk: ClkSpec, key: StudyKey, columns: dict[str, Coded]
) -> FixedColumn:
    encoder = ClkEncoder(study, clk, key)
    return encoder.plain(transformed(columns, encoder.refs))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors_made_by_clkhash(case: dict[str, Any]) -> None:
    columns = _columns(VECTORS["records"])
    schema = parse_schema(case["schema"])
    filters, count = PlainClks(schema, bytes.fromhex(case["secret"])).encode(columns)
    assert [base64.b64encode(row.tobytes()).decode() for row in filters] == case["clks"]
    assert count.tolist() == [sum(map(bool, record)) for record in VECTORS["records"]]


@st.composite
def _schemas(draw: st.DrawFn) -> dict[str, Any]:
    made = copy.deepcopy(VECTORS["cases"][0]["schema"])
    made["clkConfig"]["l"] = draw(st.sampled_from([512, 1024, 2048, 4096]))
    made["clkConfig"]["kdf"]["keySize"] = draw(st.integers(32, 64))
    made["clkConfig"]["kdf"]["hash"] = draw(st.sampled_from(["SHA256", "SHA512"]))
    for feature in made["features"]:
        feature["hashing"]["comparison"]["n"] = draw(st.integers(1, 4))
        feature["hashing"]["strategy"]["bitsPerFeature"] = draw(st.integers(20, 400))
    return made


_VALUES = st.one_of(
    st.text(alphabet="abz01 '", max_size=12),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=5),
    st.text(alphabet="xyz", min_size=100, max_size=110),
)


@settings(max_examples=60, deadline=None)
@given(
    made=_schemas(),
    records=st.lists(st.lists(_VALUES, min_size=5, max_size=5), min_size=1, max_size=5),
    secret=st.binary(min_size=32, max_size=64),
)
def test_equal_to_clkhash_itself(
    made: dict[str, Any], records: list[list[str]], secret: bytes
) -> None:
    try:
        schema = parse_schema(made)
    except SchemaRefused:
        return  # density outside the band: another test's concern
    theirs = generate_clks(records, from_json_dict(made), secret, max_workers=1)
    ours, _ = PlainClks(schema, secret).encode(_columns(records))
    assert [row.tobytes() for row in ours] == [clk.tobytes() for clk in theirs]


def test_a_study_makes_the_clks_that_clkhash_makes_for_its_schema(
    study: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    clk = study.clk[0]
    initials = [value[:1] for value in people["middle_name"].texts()]
    names = ("first_name", "last_name", "date_of_birth", "sex")
    first, last, born, sex = (people[name].texts() for name in names)
    records = list(zip(first, initials, last, born, sex, strict=True))
    secret = key.derive(study, "clk:name-dob-sex")
    theirs = generate_clks(records, from_json_dict(clk_schema(study, clk)), secret, max_workers=1)
    ours = _plain(study, clk, key, people)
    for row, record in enumerate(records):
        assert ours.present[row] == (sum(map(bool, record)) >= 3)
        expected = theirs[row].tobytes() if ours.present[row] else bytes(256)
        assert ours.values[row].tobytes() == expected
    assert 0 < (~ours.present).sum() < len(records)


def test_min_fields_is_inclusive(study: StudyConfig, key: StudyKey) -> None:
    columns = {
        "first_name": ["ann", "ann", "", ""],
        "middle_name": ["", "", "b", ""],
        "last_name": ["lee", "lee", "", ""],
        "date_of_birth": ["19700102", "", "", ""],
        "sex": ["", "", "", ""],
    }
    found = _plain(study, study.clk[0], key, coded(columns))
    assert found.present.tolist() == [True, False, False, False]
    assert not found.values[1:].any()


def test_diffusion_follows_the_plain_clk_and_keeps_nulls(
    study: StudyConfig, key: StudyKey, people: dict[str, Coded]
) -> None:
    few = coded({name: column.texts()[:40] for name, column in people.items()})
    for clk in study.clk:
        encoder = ClkEncoder(study, clk, key)
        values = transformed(few, encoder.refs)
        plain, (found, bits_set) = encoder.plain(values), encoder.encode(values)
        secret = key.derive(study, f"diffusion:{clk.id}")
        taps = diffusion_taps(secret, length=clk.length, depth=10)
        assert (bits_set == np.unpackbits(plain.values, axis=1).sum(axis=1)).all()
        expected = np.where(plain.present[:, None], diffuse_reference(plain.values, taps), 0)
        assert (found.values == expected).all()
        assert (found.present == plain.present).all()


def test_profile_clkhash_leaves_clks_plain(
    study_text: str, key: StudyKey, people: dict[str, Coded]
) -> None:
    plain_profile = 'profile = "clkhash"\naccept_graph_matching_risk = true\nepoch = 3'
    text = study_text.replace("diffusion = 10\n", "")
    study = parse_study(text.replace("epoch = 3", plain_profile))
    encoder = ClkEncoder(study, study.clk[0], key)
    values = transformed(people, encoder.refs)
    assert (encoder.encode(values)[0].values == encoder.plain(values).values).all()


@pytest.mark.parametrize("n", [0, 2])
def test_nobody_and_nothing_known(study: StudyConfig, key: StudyKey, n: int) -> None:
    names = ("first_name", "middle_name", "last_name", "ssn")
    encoder = ClkEncoder(study, study.clk[1], key)
    found, bits_set = encoder.encode(coded({name: [""] * n for name in names}))
    assert found.values.shape == (n, 128)
    assert not found.values.any()
    assert not found.present.any()
    assert not bits_set.any()


def test_columns_of_unequal_length_are_refused() -> None:
    schema = parse_schema(VECTORS["cases"][0]["schema"])
    one, two = Coded.of(["a"]), Coded.of(["a", "b"])
    with pytest.raises(EncodingRefused, match="one length"):
        PlainClks(schema, bytes(32)).encode([one, one, two, one, one])
    with pytest.raises(EncodingRefused, match="one column a field"):
        PlainClks(schema, bytes(32)).encode([one] * 4)


def test_one_huge_value_sets_only_its_bits() -> None:
    schema = parse_schema(VECTORS["cases"][0]["schema"])
    values = [Coded.of([text]) for text in ("a" * 100_000, "", "", "", "")]
    filters, _ = PlainClks(schema, bytes(32)).encode(values)
    assert 0 < np.bitwise_count(filters).sum() <= 100
