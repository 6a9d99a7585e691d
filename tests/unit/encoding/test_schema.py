"""Linkage schemas: what clkhash accepts of ours, what our lint refuses of others."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from clkhash.schema import from_json_dict

from linkage.errors import SchemaRefused
from linkage.schema import clk_schema, density_of, parse_schema, schema_hash
from linkage.study import StudyConfig, expected_density, parse_study

Weaken = Callable[[dict[str, Any]], Any]

WEAKENED: dict[str, tuple[Weaken, str]] = {
    "short field keys": (lambda s: s["clkConfig"]["kdf"].update(keySize=1), "keySize"),
    "field keys of 31 bytes": (lambda s: s["clkConfig"]["kdf"].update(keySize=31), "keySize"),
    "more than BLAKE2b takes": (lambda s: s["clkConfig"]["kdf"].update(keySize=65), "keySize"),
    "key size not a number": (lambda s: s["clkConfig"]["kdf"].update(keySize=True), "keySize"),
    "default key size": (lambda s: s["clkConfig"]["kdf"].pop("keySize"), "keySize: is missing"),
    "no info": (lambda s: s["clkConfig"]["kdf"].pop("info"), "info: is missing"),
    "empty info": (lambda s: s["clkConfig"]["kdf"].update(info=""), "info: is empty"),
    "no salt": (lambda s: s["clkConfig"]["kdf"].pop("salt"), "salt: is missing"),
    "salt not base64": (lambda s: s["clkConfig"]["kdf"].update(salt="%%%"), "salt: is empty"),
    "no derivation": (lambda s: s["clkConfig"]["kdf"].update(type="legacy"), "kdf.type"),
    "unknown KDF hash": (lambda s: s["clkConfig"]["kdf"].update(hash="MD5"), "kdf.hash"),
    "xorFolds, documented": (lambda s: s["clkConfig"].update(xorFolds=1), "xorFolds"),
    "xor_folds, read": (lambda s: s["clkConfig"].update(xor_folds=0), "xor_folds"),
    "odd length": (lambda s: s["clkConfig"].update(l=1000), "clkConfig.l"),
    "tiny length": (lambda s: s["clkConfig"].update(l=8), "clkConfig.l"),
    "version 2": (lambda s: s.update(version=2), "version"),
    "version true": (lambda s: s.update(version=True), "version"),
    "unknown key at the top": (lambda s: s.update(comment=""), "comment"),
    "three features": (lambda s: s.update(features=s["features"][:3]), "fewer than 4"),
    "no features": (lambda s: s.update(features=[]), "fewer than 4"),
    "features not a list": (lambda s: s.update(features={}), "not a list"),
    "an ignored feature": (
        lambda s: s["features"].append({"identifier": "sex", "ignored": True}), "ignored",
    ),
    "double hashing": (
        lambda s: s["features"][0]["hashing"]["hash"].update(type="doubleHash"), "hash.type",
    ),
    "hash left to the default": (
        lambda s: s["features"][0]["hashing"].pop("hash"), "hash: is missing",
    ),
    "bitsPerToken": (
        lambda s: s["features"][0]["hashing"].update(strategy={"bitsPerToken": 20}), "bitsPerToken",
    ),
    "positional": (
        lambda s: s["features"][0]["hashing"]["comparison"].update(positional=True), "positional",
    ),
    "exact": (
        lambda s: s["features"][0]["hashing"].update(comparison={"type": "exact"}), "n: is missing",
    ),
    "missing value that sets bits": (
        lambda s: s["features"][0]["hashing"]["missingValue"].update(replaceWith="x"),
        "replaceWith",
    ),
    "pattern": (lambda s: s["features"][0]["format"].update(pattern=".*"), "pattern"),
    "unknown field": (lambda s: s["features"][0].update(identifier="mrn"), "unknown field"),
    "one bit": (
        lambda s: s["features"][0]["hashing"]["strategy"].update(bitsPerFeature=1),
        "bitsPerFeature",
    ),
    "too dense": (
        lambda s: [f["hashing"]["strategy"].update(bitsPerFeature=400) for f in s["features"]],
        "of the bits",
    ),
    "too sparse": (
        lambda s: [f["hashing"]["strategy"].update(bitsPerFeature=20) for f in s["features"]],
        "of the bits",
    ),
}  # fmt: skip


@pytest.fixture
def strong(study: StudyConfig) -> dict[str, Any]:
    return copy.deepcopy(clk_schema(study, study.clk[0]))


def test_our_schema_passes_our_lint_and_clkhash(study: StudyConfig) -> None:
    for clk in study.clk:
        schema = parse_schema(json.dumps(clk_schema(study, clk)))
        theirs = from_json_dict(clk_schema(study, clk))
        assert [f.field for f in schema.features] == [f.identifier for f in theirs.fields]
        assert (schema.length, schema.key_size) == (theirs.l, theirs.kdf_key_size)
        assert (schema.info, schema.salt) == (theirs.kdf_info, theirs.kdf_salt)
        assert density_of(schema) == expected_density(clk)


@pytest.mark.threat("T09")
@pytest.mark.parametrize("name", WEAKENED)
def test_each_weakened_schema_is_refused_at_its_place(name: str, strong: dict[str, Any]) -> None:
    weaken, place = WEAKENED[name]
    weaken(strong)
    with pytest.raises(SchemaRefused, match=re.escape(place)):
        parse_schema(strong)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"schema"', "1", "[" * 100_000, b"\xff\xfe", '{"version": 3}'],
    ids=["empty", "cut", "list", "null", "text", "number", "nested", "bytes", "no config"],
)
def test_what_is_no_schema_is_refused(text: str | bytes) -> None:
    with pytest.raises(SchemaRefused):
        parse_schema(text)


def test_a_key_given_twice_is_refused(strong: dict[str, Any]) -> None:
    text = json.dumps(strong).replace('"l": 2048', '"l": 2048, "l": 512')
    with pytest.raises(SchemaRefused, match="twice"):
        parse_schema(text)


def test_the_ends_of_the_density_band_are_allowed(strong: dict[str, Any]) -> None:
    bits = [f["hashing"]["strategy"] for f in strong["features"]]
    for one in bits:
        one["bitsPerFeature"] = 327
    bits[0]["bitsPerFeature"] = 326  # 1,634 insertions: .5498; one more passes .55
    assert density_of(parse_schema(strong)) == pytest.approx(0.55, abs=3e-4)
    bits[0]["bitsPerFeature"] = 327
    with pytest.raises(SchemaRefused, match="of the bits"):
        parse_schema(strong)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "lung-outcomes"', 'id = "other-study"'),
        ("bits = 140", "bits = 141"),
        ("ngram = 3", "ngram = 2"),
        ("length = 1024\ndiffusion = 10", "length = 1024\ndiffusion = 11"),
        ("min_fields = 2", "min_fields = 3"),
        ('"date_of_birth:year"', '"date_of_birth:month"'),
        ('id = "ssn-initial"', 'id = "ssn-letter"'),
    ],
)
def test_whatever_shapes_the_encodings_changes_the_hash(
    study: StudyConfig, study_text: str, old: str, new: str
) -> None:
    assert study_text.count(old) == 1
    assert schema_hash(parse_study(study_text.replace(old, new))) != schema_hash(study)


@pytest.mark.parametrize(
    ("old", "new"), [("epoch = 3", "epoch = 4"), ("Lung outcomes", "Lungs"), ('"tests"', '"else"')]
)
def test_what_does_not_shape_them_leaves_the_hash(
    study: StudyConfig, study_text: str, old: str, new: str
) -> None:
    assert study_text.count(old) == 1
    assert schema_hash(parse_study(study_text.replace(old, new))) == schema_hash(study)


def test_the_normalisation_version_is_in_the_hash(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema_hash(study)
    monkeypatch.setattr("linkage.schema.NORMALISATION_VERSION", "another")
    assert schema_hash(study) != before
