"""The lint of interchange schemas: every weakness at once, by place, with its remedy."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from clkhash.schema import from_json_dict

from linkage.encoding.clkhash_lint import expected_density, require_strong, weaknesses
from linkage.encoding.clkhash_schema import read_schema
from linkage.encoding.interchange import encode_with_schema
from linkage.errors import SchemaRefused

SECRET = bytes(range(32))
STRONG: dict[str, Any] = {
    "version": 3,
    "clkConfig": {
        "l": 1024,
        "kdf": {"type": "HKDF", "salt": "c2FsdA==", "info": "aW5mbw==", "keySize": 32},
    },
    "features": [
        {
            "identifier": name,
            "description": "of the person",
            "format": {"type": "string"},
            "hashing": {
                "comparison": {"type": "ngram", "n": 2},
                "strategy": {"bitsPerFeature": 100},
                "hash": {"type": "blakeHash"},
                "missingValue": {"sentinel": ""},
            },
        }
        for name in ("first", "last", "born", "street")
    ],
}
Weaken = Callable[[dict[str, Any]], Any]


def _hashing(schema: dict[str, Any], feature: int = 0) -> dict[str, Any]:
    hashing: dict[str, Any] = schema["features"][feature]["hashing"]
    return hashing


def _each(schema: dict[str, Any], **changes: Any) -> None:
    for feature in schema["features"]:
        feature["hashing"].update(copy.deepcopy(changes))


WEAKENED: dict[str, tuple[Weaken, str]] = {
    "keys of one byte": (
        lambda s: s["clkConfig"]["kdf"].update(keySize=1), "clkConfig.kdf.keySize"),
    "keys of 31 bytes": (
        lambda s: s["clkConfig"]["kdf"].update(keySize=31), "clkConfig.kdf.keySize"),
    "no info": (lambda s: s["clkConfig"]["kdf"].pop("info"), "clkConfig.kdf.info"),
    "empty info": (lambda s: s["clkConfig"]["kdf"].update(info=""), "clkConfig.kdf.info"),
    "info that decodes to nothing": (
        lambda s: s["clkConfig"]["kdf"].update(info="%%"), "clkConfig.kdf.info"),
    "no salt": (lambda s: s["clkConfig"]["kdf"].pop("salt"), "clkConfig.kdf.salt"),
    "empty salt": (lambda s: s["clkConfig"]["kdf"].update(salt=""), "clkConfig.kdf.salt"),
    "three features": (lambda s: s["features"].pop(), "features"),
    "one feature": (lambda s: s.update(features=s["features"][:1]), "features"),
    "a feature left out by ignoring it": (
        lambda s: s["features"].__setitem__(0, {"identifier": "first", "ignored": True}),
        "features"),
    "a feature ignored, with its hashing": (
        lambda s: s["features"][0].update(ignored=True), "features"),
    "double hashing": (
        lambda s: _hashing(s).update(hash={"type": "doubleHash"}), "features[1].hashing.hash"),
    "double hashing without its flaw": (
        lambda s: _hashing(s, 3).update(hash={"type": "doubleHash", "prevent_singularity": True}),
        "features[4].hashing.hash"),
    "too many bits": (lambda s: _each(s, strategy={"bitsPerFeature": 300}), "clkConfig.l"),
    "too few bits": (lambda s: _each(s, strategy={"bitsPerFeature": 10}), "clkConfig.l"),
    "too many bits a token": (lambda s: _each(s, strategy={"bitsPerToken": 30}), "clkConfig.l"),
    "one bit a token": (lambda s: _each(s, strategy={"bitsPerToken": 1}), "clkConfig.l"),
    "short filter": (lambda s: s["clkConfig"].update(l=256), "clkConfig.l"),
    "long filter": (lambda s: s["clkConfig"].update(l=8192), "clkConfig.l"),
    "xorFolds, documented and unread": (
        lambda s: s["clkConfig"].update(xorFolds=1), "clkConfig.xorFolds"),
    "keysize": (
        lambda s: s["clkConfig"]["kdf"].update(keysize=64), "clkConfig.kdf.keysize"),
    "key_size": (
        lambda s: s["clkConfig"]["kdf"].update(key_size=64), "clkConfig.kdf.key_size"),
    "preventSingularity": (
        lambda s: _hashing(s)["hash"].update(preventSingularity=True),
        "features[1].hashing.hash.preventSingularity"),
    "fractionalPrecision": (
        lambda s: _hashing(s).update(comparison={
            "type": "numeric", "thresholdDistance": 2, "resolution": 3, "fractionalPrecision": 2}),
        "features[1].hashing.comparison.fractionalPrecision"),
    "Positional": (
        lambda s: _hashing(s)["comparison"].update(Positional=True),
        "features[1].hashing.comparison.Positional"),
    "replace_with": (
        lambda s: _hashing(s)["missingValue"].update(replace_with=""),
        "features[1].hashing.missingValue.replace_with"),
    "weight of a feature": (lambda s: s["features"][1].update(weight=2), "features[2].weight"),
    "global hash, of version 1": (lambda s: s["clkConfig"].update(hash={}), "clkConfig.hash"),
    "a comment at the top": (lambda s: s.update(comment="ours"), "comment"),
}  # fmt: skip


def test_a_strong_schema_has_no_weakness() -> None:
    assert weaknesses(read_schema(STRONG), SECRET) == []
    require_strong(read_schema(STRONG), SECRET)


def test_the_corpus_is_large_enough() -> None:
    assert len(WEAKENED) >= 25


@pytest.mark.threat("T09")
@pytest.mark.parametrize("name", WEAKENED)
def test_each_weakened_schema_is_refused_though_clkhash_takes_it(name: str) -> None:
    weaken, place = WEAKENED[name]
    made = copy.deepcopy(STRONG)
    weaken(made)
    from_json_dict(copy.deepcopy(made))
    found = weaknesses(read_schema(json.dumps(made)), SECRET)
    assert place in [one.place for one in found]
    assert all(one.fault and one.remedy for one in found)
    with pytest.raises(SchemaRefused, match="weak"):
        encode_with_schema(made, [["x"]] * len(made["features"]), SECRET)


@pytest.mark.parametrize(("size", "fault"), [(0, "is empty"), (31, "has 31 bytes")])
def test_a_weak_secret_is_told_by_its_length_only(size: int, fault: str) -> None:
    found = weaknesses(read_schema(STRONG), b"q" * size)
    assert [one.place for one in found] == ["secret"]
    assert found[0].fault.startswith(fault)
    assert "qq" not in str(found[0])


def test_all_weaknesses_are_told_at_once() -> None:
    made = copy.deepcopy(STRONG)
    made["clkConfig"] = {"l": 64, "xorFolds": 2, "kdf": {"type": "HKDF", "keySize": 8}}
    made["features"] = made["features"][:2]
    _each(made, hash={"type": "doubleHash"})
    with pytest.raises(SchemaRefused) as refused:
        require_strong(read_schema(made), b"")
    places = (
        *("clkConfig.kdf.keySize", "clkConfig.kdf.info", "clkConfig.kdf.salt", "(4) features:"),
        *("features[1].hashing.hash", "features[2].hashing.hash", "clkConfig.l"),
        *("clkConfig.xorFolds", "secret: "),
    )
    text = refused.value.message
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)
    assert "did you mean 'xor_folds'?" in refused.value.hint


def test_density_is_that_of_the_data_where_it_was_measured() -> None:
    schema = read_schema(STRONG)
    assert expected_density(schema) == pytest.approx(1 - (1 - 1 / 1024) ** 400)
    assert weaknesses(schema, SECRET, density=0.10) == []
    assert weaknesses(schema, SECRET, density=0.55) == []
    for measured in (0.0999, 0.5501):
        assert [one.place for one in weaknesses(schema, SECRET, density=measured)] == [
            "clkConfig.l"
        ]


def test_folding_is_part_of_the_expected_density() -> None:
    made = copy.deepcopy(STRONG)
    made["clkConfig"].update(l=512, xor_folds=1)
    share = 1 - (1 - 1 / 1024) ** 400
    assert expected_density(read_schema(made)) == pytest.approx(2 * share * (1 - share))
