"""
Linkage schemas: how each CLK of a study is made, as clkhash v3 JSON, and the schema hash.

    clk_schema(study, clk)   what clkhash 0.17.0 needs to make the same plain CLK
    parse_schema(json)       own strict parser and lint; the broker has no clkhash
    schema_hash(study)       SHA-256 of everything that shapes the study's encodings
    differences(a, b)        what of that differs between two studies, in words

clkhash itself lets weak schemas pass (`keySize` 1, no `info`, unknown keys), so the lint is
here, at both ends. Minimums: docs/threat-model.md. Remaining weakness: a schema that passes
is still only a plain CLK; what protects it is keyed diffusion (linkage.encoding.diffusion).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import rfc8785

from linkage import schema_json
from linkage.schema_json import is_integer, refused
from linkage.study import ClkField, ClkSpec, StudyConfig, parse_field

NORMALISATION_VERSION = "2"
"""Version of the rules of linkage.encoding.fields; part of the schema hash."""

NULLS_FILLED = "commons-linkage/fillers/v1"
"""What the schema hash covers where nulls are filled (linkage.encoding.fillers)."""

LABEL = "commons-linkage/clk/v1"
KEY_SIZE = 64
"""Bytes of each field key: the most that keyed BLAKE2b takes."""

MINIMUM_KEY_SIZE = 32
MINIMUM_FEATURES = 4
DENSITY = (0.10, 0.55)
"""Expected share of bits set by a full record, before diffusion; both ends allowed."""

_LENGTHS = (512, 1024, 2048, 4096)
_FIRST_REMEDY = "make the schema from the study file with linkage.schema.clk_schema"


@dataclass(frozen=True, slots=True)
class Feature:
    """One field of a CLK. field: as in the study file; ngram: n; bits: bitsPerFeature."""

    field: str
    ngram: int
    bits: int


@dataclass(frozen=True, slots=True)
class LinkageSchema:
    """
    A linkage schema that passed the lint.

    length: bits of the CLK, a power of two. kdf_hash: "SHA256" or "SHA512" (HKDF).
    salt, info: HKDF inputs. key_size: bytes of each field key, 32 to 64.
    features: in order; the order fixes the field keys.
    """

    length: int
    kdf_hash: str
    salt: bytes
    info: bytes
    key_size: int
    features: tuple[Feature, ...]


def clk_schema(study: StudyConfig, clk: ClkSpec) -> dict[str, object]:
    """
    Return the linkage schema (clkhash v3 JSON) of the plain CLK `clk`.

    An empty value is the schema's missing value and sets no bits. The study's key does not
    appear: it is the secret given beside the schema (linkage.encoding.keys).
    """
    info = f"{LABEL}|{study.study.id}|{clk.id}".encode("ascii")
    return {
        "version": 3,
        "clkConfig": {
            "l": clk.length,
            "kdf": {
                "type": "HKDF",
                "hash": "SHA256",
                "salt": base64.b64encode(LABEL.encode("ascii")).decode("ascii"),
                "info": base64.b64encode(info).decode("ascii"),
                "keySize": KEY_SIZE,
            },
        },
        "features": [
            {
                "identifier": one.field,
                "format": {"type": "string", "encoding": "utf-8"},
                "hashing": {
                    "comparison": {"type": "ngram", "n": one.ngram, "positional": False},
                    "strategy": {"bitsPerFeature": one.bits},
                    "hash": {"type": "blakeHash"},
                    "missingValue": {"sentinel": ""},
                },
            }
            for one in clk.fields
        ],
    }


def schema_hash(study: StudyConfig) -> str:
    """
    Return the hex SHA-256 over the canonical JSON (RFC 8785) of all that shapes encodings.

    Covers the CLK schemas, t, min_fields, the match-key rules, whether nulls are filled and the
    normalisation version. The epoch is not in it: it is an input of its own to key derivation.
    """
    shape: Any = {
        "format": "commons-linkage/encodings/1",
        "normalisation": NORMALISATION_VERSION,
        "clks": [
            {
                "id": clk.id,
                "schema": clk_schema(study, clk),
                "diffusion": study.diffusion_of(clk),
                "min_fields": clk.min_fields,
            }
            for clk in study.clk
        ],
        "match_keys": [{"id": rule.id, "fields": list(rule.fields)} for rule in study.match_key],
    }
    if study.study.fills_nulls:
        shape["nulls"] = NULLS_FILLED
    return hashlib.sha256(rfc8785.dumps(shape)).hexdigest()


def differences(
    a: StudyConfig,
    b: StudyConfig,
    *,
    names: tuple[str, str] = ("one", "the other"),
    normalisation: tuple[str, str] = (NORMALISATION_VERSION, NORMALISATION_VERSION),
) -> list[str]:
    """
    Return in words, field by field, why the encodings of two studies do not compare.

    Empty only if ID, epoch and schema hash are equal: then, under one key, they do compare.
    names: how to call a and b. normalisation: their versions of the rules, where known.
    """
    told = _Told(names)
    told.compare("the study ID", a.study.id, b.study.id)
    told.compare("the epoch", a.study.epoch, b.study.epoch)
    told.compare("the normalisation version", *normalisation)
    filled = ("filled" if one.study.fills_nulls else "left null" for one in (a, b))
    told.compare("what becomes of nulls", *filled)
    for clk, other in told.matched("CLK", a.clk, b.clk):
        about = f"CLK {clk.id!r}: "
        told.compare(f"{about}the length", clk.length, other.length)
        told.compare(f"{about}the diffusion t", a.diffusion_of(clk), b.diffusion_of(other))
        told.compare(f"{about}min_fields", clk.min_fields, other.min_fields)
        left, right = ([_Named(f.field, f) for f in one.fields] for one in (clk, other))
        for field, same in told.matched(f"{about}field", left, right):
            what = f"{about}field {field.id!r}: "
            told.compare(f"{what}bits", field.of.bits, same.of.bits)
            told.compare(f"{what}the n of its n-grams", field.of.ngram, same.of.ngram)
    for rule, twin in told.matched("match-key rule", a.match_key, b.match_key):
        listed = (", ".join(one.fields) for one in (rule, twin))
        told.compare(f"match-key rule {rule.id!r}: the fields", *listed)
    return told.lines


def parse_schema(source: str | bytes | Mapping[str, object]) -> LinkageSchema:
    """
    Read a clkhash v3 linkage schema, given as JSON text or as its parsed object, and lint it.

    Accepts what this project encodes: string fields, non-positional n-grams, bitsPerFeature,
    blakeHash, HKDF. Raises SchemaRefused, naming the place and the remedy, for anything else:
    unknown or repeated keys (`xorFolds` too: clkhash ignores it), a key size below 32 bytes,
    no salt or info, fewer than 4 features, a density outside .10-.55.
    """
    top = _table(
        schema_json.parsed(source, _FIRST_REMEDY), "", {"version", "clkConfig", "features"}
    )
    if top["version"] != 3 or isinstance(top["version"], bool):
        raise refused("version", "is not 3", "only clkhash schema version 3 is read")
    config = _table(top["clkConfig"], "clkConfig", {"l", "kdf"})
    length = _integer(config["l"], "clkConfig.l", 1, max(_LENGTHS))
    if length not in _LENGTHS:
        raise refused("clkConfig.l", "is not a CLK length", "use 512, 1024, 2048 or 4096")
    kdf = _table(
        config["kdf"], "clkConfig.kdf", {"type", "salt", "info", "keySize"}, optional={"hash"}
    )
    _constant(kdf["type"], "HKDF", "clkConfig.kdf.type")
    if (kdf_hash := kdf.get("hash", "SHA256")) not in ("SHA256", "SHA512"):
        raise refused("clkConfig.kdf.hash", "is unknown", "use SHA256")
    features = _features(top["features"])
    schema = LinkageSchema(
        length=length,
        kdf_hash=str(kdf_hash),
        salt=_base64(kdf["salt"], "clkConfig.kdf.salt"),
        info=_base64(kdf["info"], "clkConfig.kdf.info"),
        key_size=_integer(kdf["keySize"], "clkConfig.kdf.keySize", MINIMUM_KEY_SIZE, KEY_SIZE),
        features=features,
    )
    if not DENSITY[0] <= (density := density_of(schema)) <= DENSITY[1]:
        raise refused(
            "features",
            f"set {density:.2%} of the bits of a full record; 10 to 55 % are safe",
            "change bitsPerFeature or l",
        )
    return schema


def density_of(schema: LinkageSchema) -> float:
    """Return the expected share of bits that a full record sets, before diffusion."""
    insertions = sum(feature.bits for feature in schema.features)
    return float(1 - (1 - 1 / schema.length) ** insertions)


@dataclass(frozen=True, slots=True)
class _Named:
    """A field of a CLK under its name, which may occur twice."""

    id: str
    of: ClkField


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


_T = TypeVar("_T", bound=_HasId)


class _Told:
    """Gathers differences between two studies that `names` calls so."""

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names
        self.lines: list[str] = []

    def compare(self, what: str, a: object, b: object) -> None:
        if a != b:
            verb = "are" if what.endswith((" bits", " fields", "min_fields")) else "is"
            one, other = self.names
            self.lines.append(f"{what} {verb} {a} in {one} and {b} in {other}")

    def matched(self, what: str, a: Sequence[_T], b: Sequence[_T]) -> list[tuple[_T, _T]]:
        """Return the pairs of equal id, and tell of the rest and of another order."""
        keyed = [_keyed(items) for items in (a, b)]
        for mine, name in enumerate(self.names):
            alone = [key for key in keyed[mine] if key not in keyed[1 - mine]]
            self.lines += [f"{what} {key[0]!r} is only in {name}" for key in alone]
        common = [key for key in keyed[0] if key in keyed[1]]
        if common != [key for key in keyed[1] if key in keyed[0]]:
            self.lines.append(f"{what}s stand in another order in {self.names[1]}")
        return [(keyed[0][key], keyed[1][key]) for key in common]


def _keyed(items: Sequence[_T]) -> dict[tuple[str, int], _T]:
    """Return the items by id and how many of that id came before."""
    seen = Counter[str]()
    found: dict[tuple[str, int], _T] = {}
    for item in items:
        found[item.id, seen[item.id]] = item
        seen[item.id] += 1
    return found


def _features(found: object) -> tuple[Feature, ...]:
    if not isinstance(found, list):
        raise refused("features", "is not a list", _FIRST_REMEDY)
    if len(found) < MINIMUM_FEATURES:
        raise refused("features", "has fewer than 4 entries", "a CLK of few fields falls easily")
    features = tuple(_feature(one, f"features[{i + 1}]") for i, one in enumerate(found))
    if len({parse_field(one.field)[0] for one in features}) < MINIMUM_FEATURES:
        raise refused("features", "has fewer than 4 different fields", "parts of one count once")
    return features


def _feature(found: object, place: str) -> Feature:
    feature = _table(found, place, {"identifier", "format", "hashing"})
    if not isinstance(feature["identifier"], str):
        raise refused(f"{place}.identifier", "is not text", _FIRST_REMEDY)
    try:
        parse_field(feature["identifier"])
    except ValueError as fault:
        raise refused(f"{place}.identifier", str(fault), _FIRST_REMEDY) from None
    form = _table(feature["format"], f"{place}.format", {"type"}, optional={"encoding"})
    _constant(form["type"], "string", f"{place}.format.type")
    _constant(form.get("encoding", "utf-8"), "utf-8", f"{place}.format.encoding")
    hashing = _table(
        feature["hashing"], f"{place}.hashing", {"comparison", "strategy", "hash", "missingValue"}
    )
    comparison = _table(
        hashing["comparison"], f"{place}.hashing.comparison", {"type", "n"}, optional={"positional"}
    )
    _constant(comparison["type"], "ngram", f"{place}.hashing.comparison.type")
    _constant(comparison.get("positional", False), False, f"{place}.hashing.comparison.positional")
    strategy = _table(hashing["strategy"], f"{place}.hashing.strategy", {"bitsPerFeature"})
    kind = _table(hashing["hash"], f"{place}.hashing.hash", {"type"})
    _constant(kind["type"], "blakeHash", f"{place}.hashing.hash.type")
    missing = _table(hashing["missingValue"], f"{place}.hashing.missingValue", {"sentinel"})
    _constant(missing["sentinel"], "", f"{place}.hashing.missingValue.sentinel")
    return Feature(
        field=feature["identifier"],
        ngram=_integer(comparison["n"], f"{place}.hashing.comparison.n", 1, 4),
        bits=_integer(
            strategy["bitsPerFeature"], f"{place}.hashing.strategy.bitsPerFeature", 20, 400
        ),
    )


def _table(
    found: object,
    place: str,
    required: Set[str],
    optional: Set[str] = frozenset(),
) -> Mapping[str, object]:
    return schema_json.closed(found, place, required, optional, _FIRST_REMEDY)


def _integer(found: object, place: str, low: int, high: int) -> int:
    if not isinstance(found, int) or not is_integer(found) or not low <= found <= high:
        raise refused(place, f"is not an integer from {low} to {high}", _FIRST_REMEDY)
    return found


def _constant(found: object, only: str | bool, place: str) -> None:
    if found != only or type(found) is not type(only):
        raise refused(place, f"is not {json.dumps(only)}", "this project encodes nothing else")


def _base64(found: object, place: str) -> bytes:
    try:
        value = base64.b64decode(found, validate=True) if isinstance(found, str) else b""
    except (binascii.Error, ValueError):
        value = b""
    if not value:
        raise refused(place, "is empty or not base64", "field keys must differ between CLKs")
    return value
