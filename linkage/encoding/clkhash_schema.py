"""
Any clkhash v3 linkage schema, read strictly: for interchange with users of clkhash.

    schema = read_schema(text)

Reads what clkhash 0.17.0 reads and in the same way: its own names where they differ from its
documentation (`xor_folds`, `fractional_precision`, `prevent_singularity`), its defaults, and no
key that it does not read. Those are kept in `unread`, for the lint (clkhash_lint) to refuse: a
misspelt key silently weakens a schema. What clkhash would only find while encoding (a length
that BLAKE2 cannot take, a threshold that rounds to 0) is refused here.

A study's own CLKs need none of this: linkage.schema is their strict subset.
Source: clkhash 0.17.0, schemas/v3.json, schema.py, field_formats.py and comparators.py.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

from linkage import schema_json
from linkage.schema_json import is_integer, refused

MOST_BITS = 1 << 20
"""Longest filter before folding that is encoded; clkhash has no limit but memory."""
_MOST_INSERTIONS = 100_000
_DIGEST_BYTES = {"SHA256": 32, "SHA512": 64}
_REMEDY = "see clkhash's documentation of linkage schema version 3"


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    How a value becomes tokens. n, positional: of n-grams.

    interval, resolution, fractional_precision: of numeric tokens; interval is thresholdDistance
    times 10^fractional_precision, rounded to an integer above 0.
    """

    type: Literal["ngram", "exact", "numeric"]
    n: int = 0
    positional: bool = False
    interval: int = 0
    resolution: int = 0
    fractional_precision: int = 0


@dataclass(frozen=True, slots=True)
class ValueFormat:
    """
    What a value must look like; None where the schema does not ask.

    encoding: of tokens before hashing. pattern: must match the whole value. lengths in
    characters, bounds inclusive. date: strptime format. values: of an enum.
    """

    type: Literal["string", "integer", "date", "enum"]
    encoding: str = "utf-8"
    pattern: re.Pattern[str] | None = None
    case: str = "mixed"
    min_length: int | None = None
    max_length: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    date: str = ""
    values: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MissingValue:
    """The text that stands for "missing", and what is encoded instead (itself by default)."""

    sentinel: str
    replace_with: str


@dataclass(frozen=True, slots=True)
class Hashing:
    """
    How tokens set bits. bits: of each token if per_token, else of the feature as a whole.

    hash: "blakeHash" or "doubleHash"; prevent_singularity concerns the latter.
    """

    comparison: Comparison
    bits: int
    per_token: bool
    hash: Literal["blakeHash", "doubleHash"]
    prevent_singularity: bool
    missing: MissingValue | None


@dataclass(frozen=True, slots=True)
class ClkhashFeature:
    """One column of the data. format and hashing are None where the feature is ignored."""

    identifier: str
    format: ValueFormat | None
    hashing: Hashing | None

    @property
    def ignored(self) -> bool:
        """Whether the column is there but not encoded. It still takes its two keys."""
        return self.hashing is None


@dataclass(frozen=True, slots=True)
class ClkhashSchema:
    """
    A linkage schema that clkhash can encode with.

    length: bits of a CLK after xor_folds halvings. salt, info: HKDF inputs, None where absent.
    key_size: bytes of each field key. unread: places of keys that clkhash does not read.
    """

    length: int
    xor_folds: int
    kdf_hash: str
    salt: bytes | None
    info: bytes | None
    key_size: int
    features: tuple[ClkhashFeature, ...]
    unread: tuple[str, ...]

    @property
    def unfolded(self) -> int:
        """Bits of the filter before folding."""
        return self.length << self.xor_folds


def read_schema(source: str | bytes | Mapping[str, object]) -> ClkhashSchema:
    """
    Read a clkhash v3 linkage schema, given as JSON text or as its parsed object.

    Raises SchemaRefused, naming the place and the remedy, for what clkhash refuses or cannot
    encode, for a key given twice, and for filters above 2^20 bits. Says nothing of weakness.
    """
    return _Reader().schema(schema_json.parsed(source, _REMEDY))


class _Reader:
    """Walks the parsed JSON, gathering keys that nobody reads."""

    def __init__(self) -> None:
        self._unread: list[str] = []

    def schema(self, found: object) -> ClkhashSchema:
        top = self._open(found, "", {"version", "clkConfig", "features"})
        if top["version"] != 3 or isinstance(top["version"], bool):
            raise refused("version", "is not 3", "let clkhash convert older schemas to version 3")
        config = self._open(top["clkConfig"], "clkConfig", {"l", "kdf"}, {"xor_folds"})
        kdf = self._open(
            config["kdf"], "clkConfig.kdf", {"type"}, {"hash", "salt", "info", "keySize"}
        )
        _one_of(kdf["type"], {"HKDF"}, "clkConfig.kdf.type")
        schema = ClkhashSchema(
            length=_integer(config["l"], "clkConfig.l", 1, MOST_BITS),
            xor_folds=_integer(config.get("xor_folds", 0), "clkConfig.xor_folds", 0, 20),
            kdf_hash=_one_of(kdf.get("hash", "SHA256"), set(_DIGEST_BYTES), "clkConfig.kdf.hash"),
            salt=_base64(kdf, "salt"),
            info=_base64(kdf, "info"),
            key_size=_integer(kdf.get("keySize", 64), "clkConfig.kdf.keySize", 1, 1 << 14),
            features=self._features(top["features"]),
            unread=tuple(self._unread),
        )
        _encodable(schema)
        return schema

    def _features(self, found: object) -> tuple[ClkhashFeature, ...]:
        if not isinstance(found, list) or not found:
            raise refused("features", "is not a list of features", _REMEDY)
        return tuple(self._feature(one, f"features[{i + 1}]") for i, one in enumerate(found))

    def _feature(self, found: object, place: str) -> ClkhashFeature:
        if isinstance(found, Mapping) and not {"format", "hashing"} & found.keys():
            table = _closed(found, place, {"identifier", "ignored"}, {"description"})
            if table["ignored"] is not True:
                raise refused(place, "has neither format nor hashing", _REMEDY)
            return ClkhashFeature(_text(table["identifier"], f"{place}.identifier"), None, None)
        optional = {"description", "ignored"}
        table = self._open(found, place, {"identifier", "format", "hashing"}, optional)
        identifier = _text(table["identifier"], f"{place}.identifier")
        form = _format(table["format"], f"{place}.format")
        hashing = self._hashing(table["hashing"], f"{place}.hashing")
        if _flag(table.get("ignored", False), f"{place}.ignored"):
            return ClkhashFeature(identifier, None, None)
        return ClkhashFeature(identifier, form, hashing)

    def _hashing(self, found: object, place: str) -> Hashing:
        table = _closed(found, place, {"comparison", "strategy"}, {"hash", "missingValue"})
        kind = self._open(
            table.get("hash", {"type": "blakeHash"}),
            *(f"{place}.hash", {"type"}, {"prevent_singularity"}),
        )
        name: Any = _one_of(kind["type"], {"blakeHash", "doubleHash"}, f"{place}.hash.type")
        if name == "blakeHash" and kind.get("prevent_singularity") is not None:
            raise refused(f"{place}.hash.prevent_singularity", "is only of doubleHash", "drop it")
        singular = _flag(
            kind.get("prevent_singularity", False), f"{place}.hash.prevent_singularity"
        )
        strategy, per_token = _strategy(table["strategy"], f"{place}.strategy")
        return Hashing(
            comparison=self._comparison(table["comparison"], f"{place}.comparison"),
            bits=strategy,
            per_token=per_token,
            hash=name,
            prevent_singularity=singular,
            missing=self._missing(table, f"{place}.missingValue"),
        )

    def _comparison(self, found: object, place: str) -> Comparison:
        kind = found.get("type") if isinstance(found, Mapping) else None
        if kind == "exact":
            self._open(found, place, {"type"})
            return Comparison("exact")
        if kind == "ngram":
            table = self._open(found, place, {"type", "n"}, {"positional"})
            return Comparison(
                "ngram",
                n=_integer(table["n"], f"{place}.n", 1, 1000),
                positional=_flag(table.get("positional", False), f"{place}.positional"),
            )
        if kind == "numeric":
            required = {"type", "thresholdDistance", "resolution"}
            return _numeric(self._open(found, place, required, {"fractional_precision"}), place)
        raise refused(f"{place}.type", "is unknown", "use ngram, exact or numeric")

    def _missing(self, hashing: Mapping[str, Any], place: str) -> MissingValue | None:
        if "missingValue" not in hashing:
            return None
        table = self._open(hashing["missingValue"], place, {"sentinel"}, {"replaceWith"})
        sentinel = _text(table["sentinel"], f"{place}.sentinel")
        return MissingValue(sentinel, _text(table.get("replaceWith", sentinel), place))

    def _open(
        self, found: object, place: str, required: Set[str], optional: Set[str] = frozenset()
    ) -> Mapping[str, Any]:
        """Return an object in which clkhash allows more keys than it reads; note those."""
        table = schema_json.object_at(found, place, required, _REMEDY)
        unread = sorted(str(key) for key in table.keys() - required - optional)
        self._unread += [schema_json.join(place, key) for key in unread]
        return table


def _strategy(found: object, place: str) -> tuple[int, bool]:
    table = schema_json.object_at(found, place, set(), _REMEDY)
    if len(table) != 1 or not table.keys() <= {"bitsPerToken", "bitsPerFeature"}:
        raise refused(place, "is not one of bitsPerToken and bitsPerFeature", _REMEDY)
    name, bits = next(iter(table.items()))
    return _integer(bits, f"{place}.{name}", 1, _MOST_INSERTIONS), name == "bitsPerToken"


def _numeric(table: Mapping[str, Any], place: str) -> Comparison:
    threshold = table["thresholdDistance"]
    if not isinstance(threshold, int | float) or isinstance(threshold, bool) or not threshold > 0:
        raise refused(f"{place}.thresholdDistance", "is not a number above 0", _REMEDY)
    precision = _integer(
        table.get("fractional_precision", 0), f"{place}.fractional_precision", 0, 300
    )
    try:
        interval = round(threshold * pow(10, precision))
        _ = interval / 2
    except (OverflowError, ValueError):
        interval = 0
    if interval == 0:
        raise refused(
            f"{place}.thresholdDistance", "is 0 or endless at this precision",
            "raise fractional_precision, or take another distance",
        )  # fmt: skip
    resolution = _integer(table["resolution"], f"{place}.resolution", 1, 10_000)
    return Comparison(
        "numeric", interval=interval, resolution=resolution, fractional_precision=precision
    )


def _format(found: object, place: str) -> ValueFormat:
    kind = schema_json.object_at(found, place, {"type"}, _REMEDY)["type"]
    about = {"description"}
    if kind == "string":
        return _string_format(found, place)
    if kind == "integer":
        table = _closed(found, place, {"type"}, about | {"minimum", "maximum"})
        low, high = (
            _integer(table[key], f"{place}.{key}") if key in table else None
            for key in ("minimum", "maximum")
        )
        return ValueFormat("integer", minimum=low, maximum=high)
    if kind == "date":
        table = _closed(found, place, {"type", "format"}, about)
        return ValueFormat("date", date=_text(table["format"], f"{place}.format"))
    if kind == "enum":
        table = _closed(found, place, {"type", "values"}, about)
        values = table["values"]
        if not isinstance(values, list):
            raise refused(f"{place}.values", "is not a list", _REMEDY)
        return ValueFormat(
            "enum", values=frozenset(_text(one, f"{place}.values") for one in values)
        )
    raise refused(f"{place}.type", "is unknown", "use string, integer, date or enum")


def _string_format(found: object, place: str) -> ValueFormat:
    known = {"encoding", "description"}
    patterned = isinstance(found, Mapping) and "pattern" in found
    more = {"pattern"} if patterned else {"case", "minLength", "maxLength"}
    table = _closed(found, place, {"type"}, known | more)
    encodings = {"ascii", "utf-8", "utf-16", "utf-32"}
    encoding = _one_of(table.get("encoding", "utf-8"), encodings, f"{place}.encoding")
    if patterned:
        try:
            pattern = re.compile(_text(table["pattern"], f"{place}.pattern"))
        except (re.error, OverflowError, RecursionError):
            raise refused(
                f"{place}.pattern", "is no regular expression", "Python's syntax counts"
            ) from None
        return ValueFormat("string", encoding=encoding, pattern=pattern)
    return ValueFormat(
        "string",
        encoding=encoding,
        case=_one_of(table.get("case", "mixed"), {"upper", "lower", "mixed"}, f"{place}.case"),
        min_length=_integer(table.get("minLength", 0), f"{place}.minLength", 0),
        max_length=(
            _integer(table["maxLength"], f"{place}.maxLength", 1) if "maxLength" in table else None
        ),
    )


def _encodable(schema: ClkhashSchema) -> None:
    """Refuse what clkhash would stumble over while encoding."""
    if schema.unfolded > MOST_BITS:
        raise refused("clkConfig", f"makes filters above {MOST_BITS:,} bits", "use a smaller l")
    most = 255 * _DIGEST_BYTES[schema.kdf_hash]
    if 2 * schema.key_size * len(schema.features) > most:
        rule = f"needs more than the {most:,} bytes of keys that HKDF gives"
        raise refused("clkConfig.kdf", rule, "use a smaller keySize or SHA512")
    for i, feature in enumerate(schema.features):
        place = f"features[{i + 1}].hashing.hash"
        if feature.hashing is None:
            continue
        if feature.hashing.hash == "blakeHash":
            if schema.unfolded & (schema.unfolded - 1):
                rule = "blakeHash needs a power of two as length before folding"
                raise refused("clkConfig.l", rule, "use 1024, or doubleHash")
            if schema.key_size > 64:
                raise refused("clkConfig.kdf.keySize", "BLAKE2b takes at most 64 bytes", "use 64")
        elif feature.hashing.prevent_singularity and schema.unfolded < 2:
            raise refused(place, "cannot prevent singularity in one bit", "use a longer l")


def _closed(found: object, place: str, required: Set[str], optional: Set[str]) -> Mapping[str, Any]:
    """Return an object in which clkhash allows no other key."""
    return schema_json.closed(found, place, required, optional, _REMEDY)


def _integer(found: object, place: str, low: int | None = None, high: int | None = None) -> int:
    if not isinstance(found, int) or not is_integer(found):
        raise refused(place, "is not an integer", _REMEDY)
    if low is not None and found < low:
        raise refused(place, f"is below {low}", _REMEDY)
    if high is not None and found > high:
        raise refused(place, f"is above {high:,}", "no schema needs that much")
    return found


def _one_of(found: object, known: Set[str], place: str) -> str:
    if not isinstance(found, str) or found not in known:
        raise refused(place, "is unknown", f"use {' or '.join(sorted(known))}")
    return found


def _flag(found: object, place: str) -> bool:
    if not isinstance(found, bool):
        raise refused(place, "is neither true nor false", _REMEDY)
    return found


def _text(found: object, place: str) -> str:
    if not isinstance(found, str):
        raise refused(place, "is not text", _REMEDY)
    return found


def _base64(kdf: Mapping[str, Any], key: str) -> bytes | None:
    """Decode as clkhash does, which skips characters that are not base64."""
    place = f"clkConfig.kdf.{key}"
    if key not in kdf:
        return None
    try:
        return base64.b64decode(_text(kdf[key], place))
    except (binascii.Error, ValueError):
        raise refused(place, "is not base64", _REMEDY) from None
