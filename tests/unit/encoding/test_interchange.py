"""Interchange: any clkhash v3 schema gives clkhash's own bits, and its refusals."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict
from clkhash.validate_data import EntryError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linkage.encoding import interchange
from linkage.encoding.clkhash_schema import read_schema
from linkage.encoding.columns import Coded
from linkage.encoding.interchange import SchemaEncoder, encode_with_schema, folded
from linkage.errors import EncodingRefused, LinkageError, RowRejected, SchemaRefused

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "clkhash_v3.json").read_text(encoding="ascii")
)
SECRET = bytes(range(32))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors_made_by_clkhash(case: dict[str, Any]) -> None:
    columns = [list(column) for column in zip(*case["records"], strict=True)]
    found = encode_with_schema(
        json.dumps(case["schema"]),
        columns,
        bytes.fromhex(case["secret"]),
        accept_weaknesses=True,
    )
    assert [base64.b64encode(row.tobytes()).decode() for row in found] == case["clks"]


def test_the_vectors_use_everything_a_schema_can_say() -> None:
    text = json.dumps(VECTORS["cases"])
    for word in (
        *("ngram", "exact", "numeric", "bitsPerToken", "bitsPerFeature", "blakeHash"),
        *("doubleHash", "prevent_singularity", "xor_folds", "SHA512", "replaceWith", "sentinel"),
        *("fractional_precision", '"ignored": true', '"positional": true', "pattern", "minLength"),
        *("maxLength", '"upper"', '"lower"', '"integer"', '"date"', '"enum"', "utf-16", "ascii"),
    ):
        assert word in text, word


_WORDS = st.text(alphabet="abcXYZ 0123456789-éß王", max_size=8)
_NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6, allow_nan=False).map(repr),
    st.sampled_from(["", "+7", " 12 ", "1_000", "٣", "0x1", "nan", "inf", "1e400", "-0", "4.5"]),
)
_DATES = st.one_of(
    st.dates().map(lambda day: day.strftime("%Y-%m-%d")),
    st.sampled_from(["", "2001-1-2", "2001-13-01", "01/02/2001", "today"]),
)


@st.composite
def _formats(draw: st.DrawFn) -> tuple[dict[str, Any], st.SearchStrategy[str]]:
    """Draw a format and values of which many, not all, fit it."""
    kind = draw(st.sampled_from(["text", "pattern", "integer", "date", "enum"]))
    if kind == "text":
        made: dict[str, Any] = {"type": "string"}
        if draw(st.booleans()):
            made["encoding"] = draw(st.sampled_from(["ascii", "utf-8", "utf-16", "utf-32"]))
        if draw(st.booleans()):
            made["case"] = draw(st.sampled_from(["upper", "lower", "mixed"]))
        if draw(st.booleans()):
            made["minLength"] = draw(st.integers(0, 2))
        if draw(st.booleans()):
            made["maxLength"] = draw(st.integers(5, 9))
        return made, st.one_of(_WORDS, _NUMBERS)
    if kind == "pattern":
        return {"type": "string", "pattern": "[a-z]*( [0-9]+)?"}, st.one_of(
            st.from_regex(r"\A[a-z]{0,6}( [0-9]{1,3})?\Z"), _WORDS
        )
    if kind == "integer":
        made = {"type": "integer"}
        if draw(st.booleans()):
            made["minimum"] = draw(st.integers(-100, 0))
        if draw(st.booleans()):
            made["maximum"] = draw(st.integers(100, 10**6))
        return made, _NUMBERS
    if kind == "date":
        return {"type": "date", "format": "%Y-%m-%d"}, _DATES
    return {"type": "enum", "values": ["f", "m", "7"]}, st.sampled_from(["f", "m", "7", "x", ""])


@st.composite
def _features(draw: st.DrawFn, hash_names: list[str]) -> tuple[dict[str, Any], Any]:
    if draw(st.integers(0, 9)) == 0:
        return {"identifier": "unused", "ignored": True}, _WORDS
    form, values = draw(_formats())
    comparison = draw(
        st.sampled_from(
            [
                *({"type": "ngram", "n": n} for n in (1, 2, 3, 4, 6)),
                *({"type": "ngram", "n": n, "positional": True} for n in (1, 2)),
                {"type": "exact"},
                {"type": "numeric", "thresholdDistance": 3, "resolution": 2},
                {"type": "numeric", "thresholdDistance": 0.05, "resolution": 3,
                 "fractional_precision": 2},
                {"type": "numeric", "thresholdDistance": 7.5, "resolution": 1},
            ]
        )
    )  # fmt: skip
    strategy = draw(st.sampled_from(["bitsPerToken", "bitsPerFeature"]))
    hashing: dict[str, Any] = {
        "comparison": dict(comparison),
        "strategy": {strategy: draw(st.integers(1, 80))},
    }
    name = draw(st.sampled_from(hash_names))
    if name != "blakeHash" or draw(st.booleans()):
        hashing["hash"] = {"type": name}
    if name == "doubleHash" and draw(st.booleans()):
        hashing["hash"]["prevent_singularity"] = draw(st.booleans())
    if draw(st.booleans()):
        hashing["missingValue"] = {"sentinel": draw(st.sampled_from(["", "7", "N/A"]))}
        if draw(st.booleans()):
            hashing["missingValue"]["replaceWith"] = draw(st.sampled_from(["", "12", "é"]))
        values = st.one_of(values, st.just(hashing["missingValue"]["sentinel"]))
    return {"identifier": "field", "format": form, "hashing": hashing}, values


@st.composite
def _cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[list[str]]]:
    odd = draw(st.booleans())
    names = ["doubleHash"] if odd else ["blakeHash", "doubleHash"]
    lengths = [2, 7, 33, 100, 384] if odd else [8, 64, 256, 1024]
    kdf: dict[str, Any] = {"type": "HKDF"}
    for key in ("salt", "info"):
        if draw(st.booleans()):
            kdf[key] = base64.b64encode(draw(st.binary(max_size=9))).decode()
    if draw(st.booleans()):
        kdf["keySize"] = draw(st.integers(1, 64))
    if draw(st.booleans()):
        kdf["hash"] = draw(st.sampled_from(["SHA256", "SHA512"]))
    features = draw(st.lists(_features(names), min_size=1, max_size=4))
    config = {"l": draw(st.sampled_from(lengths)), "kdf": kdf}
    if draw(st.booleans()):
        config["xor_folds"] = draw(st.integers(0, 3))
    row = st.tuples(*(values for _, values in features)).map(list)
    records = draw(st.lists(row, min_size=1, max_size=4))
    made = {"version": 3, "clkConfig": config, "features": [one for one, _ in features]}
    return made, records


@settings(max_examples=250, deadline=None)
@given(case=_cases(), secret=st.binary(min_size=1, max_size=40))
def test_equal_to_clkhash_itself_and_refused_where_it_refuses(
    case: tuple[dict[str, Any], list[list[str]]], secret: bytes
) -> None:
    made, records = case
    columns = [list(column) for column in zip(*records, strict=True)]
    theirs: Any = None
    row = None
    try:
        theirs = generate_clks(records, from_json_dict(copy.deepcopy(made)), secret, max_workers=1)
    except EntryError as fault:
        row = fault.row_index
    except (ValueError, OverflowError):  # it stumbles over what its formats let pass
        row = -1
    encoder = SchemaEncoder(read_schema(made), secret)
    if row is None:
        ours = encoder.encode(columns)
        assert [one.tobytes() for one in ours] == [clk.tobytes() for clk in theirs]
        return
    with pytest.raises(RowRejected) as refused:
        encoder.encode(columns, first_row=0)
    # clkhash checks all formats first and breaks off later; we name the first row of either.
    assert row == -1 or refused.value.row <= row


SCHEMA: dict[str, Any] = {
    "version": 3,
    "clkConfig": {"l": 1024, "kdf": {"type": "HKDF", "salt": "c2FsdA==", "info": "aW5mbw=="}},
    "features": [
        {
            "identifier": f"f{i}",
            "format": form,
            "hashing": {
                "comparison": comparison,
                "strategy": {"bitsPerFeature": 100},
                "missingValue": {"sentinel": ""},
            },
        }
        for i, (form, comparison) in enumerate(
            [
                ({"type": "string", "case": "lower", "maxLength": 9}, {"type": "ngram", "n": 2}),
                ({"type": "string", "pattern": "[A-Z]+"}, {"type": "exact"}),
                (
                    {"type": "integer", "minimum": 1, "maximum": 9},
                    {"type": "numeric", "thresholdDistance": 2, "resolution": 2},
                ),
                ({"type": "date", "format": "%d.%m.%Y"}, {"type": "exact"}),
                ({"type": "enum", "values": ["f", "m"]}, {"type": "exact"}),
                ({"type": "string", "encoding": "ascii", "minLength": 2}, {"type": "exact"}),
            ]
        )
    ],
}
GOOD = ["ann", "LEE", "3", "01.02.1990", "f", "xy"]


@pytest.mark.parametrize(
    ("feature", "value", "rule"),
    [
        (0, "Ann", "is not in lower case"),
        (0, "annannanna", "has more than 9 characters"),
        (1, "Lee", "does not match the pattern of its format"),
        (2, "three", "is no whole number"),
        (2, "0", "is below the minimum of 1"),
        (2, "10", "is above the maximum of 9"),
        (3, "30.02.1990", "is no date of the format '%d.%m.%Y'"),
        (4, "q", "is not one of the values of its enum"),
        (5, "é!", "cannot be written in ascii"),
        (5, "x", "has fewer than 2 characters"),
    ],
)
def test_a_value_that_breaks_its_format_is_named_and_never_shown(
    feature: int, value: str, rule: str
) -> None:
    columns = [[text, text, ""] for text in GOOD]
    columns[feature][1] = value
    with pytest.raises(RowRejected) as refused:
        encode_with_schema(SCHEMA, columns, SECRET, file="people.csv", first_row=2)
    told = refused.value
    assert (told.row, told.field, told.rule) == (3, f"f{feature}", rule)
    assert told.message == f"people.csv, row 3, field 'f{feature}': {rule}"


def test_the_first_row_is_named_then_the_first_field() -> None:
    columns = [[text] * 3 for text in GOOD]
    columns[4][2], columns[2][1], columns[3][1] = "q", "x", "x"
    with pytest.raises(RowRejected) as refused:
        encode_with_schema(SCHEMA, columns, SECRET)
    assert (refused.value.row, refused.value.field) == (2, "f2")


def test_blocks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[f"{'abc'[i % 3]}{i}"[:9] for i in range(50)], *([text] * 50 for text in GOOD[1:])]
    whole = encode_with_schema(SCHEMA, texts, SECRET)
    coded = encode_with_schema(SCHEMA, [Coded.of(text) for text in texts], SECRET)
    monkeypatch.setattr(interchange, "_ROWS", 7)
    cut = encode_with_schema(SCHEMA, texts, SECRET)
    again = encode_with_schema(SCHEMA, [Coded.of(text) for text in texts], SECRET)
    assert whole.shape == (50, 128)
    assert (whole == coded).all()
    assert (whole == cut).all()
    assert (whole == again).all()
    with pytest.raises(RowRejected) as refused:
        encode_with_schema(SCHEMA, [["ann"] * 49 + ["ANN"], *texts[1:]], SECRET)
    assert refused.value.row == 50


def test_columns_that_do_not_fit_the_schema_are_refused() -> None:
    columns: list[Any] = [[text] for text in GOOD]
    with pytest.raises(EncodingRefused, match="6 features"):
        encode_with_schema(SCHEMA, columns[:5], SECRET)
    with pytest.raises(EncodingRefused, match="one length"):
        encode_with_schema(SCHEMA, [*columns[:5], ["xy", "xy"]], SECRET)
    with pytest.raises(EncodingRefused, match="no text"):
        encode_with_schema(SCHEMA, [*columns[:5], [None]], SECRET)


def test_nobody_and_nothing_encoded() -> None:
    assert encode_with_schema(SCHEMA, [[]] * 6, SECRET).shape == (0, 128)
    ignored = {**SCHEMA, "features": [{"identifier": "a", "ignored": True}]}
    columns: list[Any] = [[None, 1]]  # an ignored column is never looked at
    found = encode_with_schema(ignored, columns, SECRET, accept_weaknesses=True)
    assert not found.any()
    assert found.shape == (2, 128)


def test_a_weak_schema_is_refused_unless_accepted() -> None:
    columns = [[text] for text in GOOD]
    with pytest.raises(SchemaRefused, match="secret"):
        encode_with_schema(SCHEMA, columns, b"short")
    encode_with_schema(SCHEMA, columns, b"short", accept_weaknesses=True)


@settings(max_examples=60, deadline=None)
@given(
    length=st.sampled_from([8, 24, 40, 64, 96]),
    folds=st.integers(0, 3),
    rows=st.lists(st.binary(min_size=12, max_size=12), max_size=4),
)
@example(length=24, folds=3, rows=[bytes(range(12))])
def test_folding_is_xor_of_halves(length: int, folds: int, rows: list[bytes]) -> None:
    filters = np.array([list(row) for row in rows], np.uint8).reshape(-1, 12)[:, : length // 8]
    bits = np.unpackbits(filters, axis=1)
    for _ in range(folds):
        half = bits.shape[1] // 2
        bits = bits[:, :half] ^ bits[:, half:]
    assert (folded(filters, length, folds) == np.packbits(bits, axis=1)).all()


def _broken(path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(SCHEMA)
    here: Any = made
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        here = here[part]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("version", 2, "version"),
        ("clkConfig.l", 0, "clkConfig.l"),
        ("clkConfig.l", 1000, "clkConfig.l"),
        ("clkConfig.l", 2**21, "clkConfig.l"),
        ("clkConfig.l", 1024.0, "clkConfig.l"),
        ("clkConfig.xor_folds", -1, "xor_folds"),
        ("clkConfig.xor_folds", 12, "clkConfig: makes filters"),
        ("clkConfig.kdf", ..., "clkConfig.kdf: is missing"),
        ("clkConfig.kdf.type", "legacy", "kdf.type"),
        ("clkConfig.kdf.hash", "MD5", "kdf.hash"),
        ("clkConfig.kdf.salt", "A", "kdf.salt"),
        ("clkConfig.kdf.keySize", 0, "keySize"),
        ("clkConfig.kdf.keySize", 65, "keySize"),
        ("clkConfig.kdf.keySize", 10_000, "HKDF"),
        ("features", {}, "features"),
        ("features.0", {"identifier": "x"}, "features[1].ignored: is missing"),
        ("features.0", {"identifier": "x", "ignored": False}, "neither format nor hashing"),
        ("features.0.format.type", "float", "features[1].format.type"),
        ("features.0.format.pattern", "x", "features[1].format.case"),
        ("features.0.format.maxLength", 0, "maxLength"),
        ("features.1.format.pattern", "(", "pattern: is no regular"),
        ("features.0.format.encoding", "latin-1", "encoding"),
        ("features.4.format.values", "fm", "values: is not a list"),
        ("features.0.hashing.strategy", {"k": 3}, "strategy"),
        ("features.0.hashing.strategy", {"bitsPerToken": 1, "bitsPerFeature": 1}, "strategy"),
        ("features.0.hashing.strategy", {"bitsPerFeature": 0}, "bitsPerFeature"),
        ("features.0.hashing.weight", 1, "hashing.weight: is not a known key"),
        ("features.0.hashing.comparison", {"type": "soundex"}, "comparison.type"),
        ("features.0.hashing.comparison.n", 0, "comparison.n"),
        ("features.0.hashing.hash", {"type": "md5"}, "hash.type"),
        ("features.0.hashing.hash", {"type": "blakeHash", "prevent_singularity": True},
         "only of doubleHash"),
        ("features.2.hashing.comparison.thresholdDistance", 0.2, "thresholdDistance: is 0"),
        ("features.2.hashing.comparison.thresholdDistance", 0, "above 0"),
        ("features.2.hashing.comparison.resolution", 0, "resolution"),
        ("features.2.hashing.missingValue", {}, "sentinel: is missing"),
    ],
)  # fmt: skip
def test_what_clkhash_cannot_encode_is_refused_at_its_place(
    path: str, value: Any, place: str
) -> None:
    made = _broken(path, value)
    with pytest.raises(SchemaRefused, match=re.escape(place)):
        read_schema(made)
    # But for our own limits, clkhash does not encode it either.
    ours = {1024.0, 2**21, 12}
    if not (isinstance(value, int | float) and value in ours):
        with pytest.raises(Exception) as theirs:  # noqa: PT011  (whatever clkhash raises)
            generate_clks(
                [GOOD[: len(made["features"])] or ["x"]],
                from_json_dict(made),
                SECRET,
                max_workers=1,
            )
        assert not isinstance(theirs.value, LinkageError)


def test_its_defaults_are_those_of_clkhash() -> None:
    schema = read_schema(json.dumps(SCHEMA))
    theirs = from_json_dict(copy.deepcopy(SCHEMA))
    assert (schema.length, schema.xor_folds) == (theirs.l, theirs.xor_folds)
    assert (schema.kdf_hash, schema.key_size) == (theirs.kdf_hash, theirs.kdf_key_size)
    assert (schema.salt, schema.info) == (theirs.kdf_salt, theirs.kdf_info)
    assert not schema.unread
