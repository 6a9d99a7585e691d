"""
What makes a clkhash schema weak, all of it at once, with place and remedy.

    for weakness in weaknesses(schema, secret): print(weakness)
    require_strong(schema, secret)

clkhash lets all of these pass. Minimums: docs/threat-model.md. Remaining weakness: what passes
is still a plain CLK, which falls to graph matching whatever the secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from linkage.encoding.clkhash_schema import ClkhashSchema, Comparison
from linkage.errors import SchemaRefused
from linkage.schema import DENSITY, MINIMUM_FEATURES, MINIMUM_KEY_SIZE

MINIMUM_SECRET = 32
"""Bytes; a passphrase of any length should be replaced by random bytes."""
_TYPICAL_LETTERS = 8
"""Letters of a value assumed where a schema sets bits for each token."""
_READ = (
    *("version", "clkConfig", "features", "l", "kdf", "xor_folds", "type", "hash", "salt", "info"),
    *("keySize", "identifier", "description", "ignored", "format", "hashing", "n", "positional"),
    *("thresholdDistance", "resolution", "fractional_precision", "prevent_singularity"),
    *("sentinel", "replaceWith"),
)


@dataclass(frozen=True, slots=True)
class Weakness:
    """One weakness: place in the schema ("secret" for the secret), what is wrong, what to do."""

    place: str
    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}; {self.remedy}"


def weaknesses(
    schema: ClkhashSchema, secret: bytes | None = None, *, density: float | None = None
) -> list[Weakness]:
    """
    Return every weakness of a schema, in the order of the schema; the secret's come last.

    secret: None where it is not at hand. density: share of bits set as measured on the data;
    None expects it of a record that has every field.
    """
    return [
        *_keys(schema),
        *_shape(schema, density),
        *(_unread(place) for place in schema.unread),
        *_secret(secret),
    ]


def require_strong(schema: ClkhashSchema, secret: bytes | None = None) -> None:
    """Raise SchemaRefused, listing every weakness, if there is one."""
    if found := weaknesses(schema, secret):
        listed = "; ".join(f"({i}) {one.place}: {one.fault}" for i, one in enumerate(found, 1))
        remedies = "; ".join(f"({i}) {one.remedy}" for i, one in enumerate(found, 1))
        raise SchemaRefused(f"the linkage schema is weak: {listed}", hint=remedies)


def expected_density(schema: ClkhashSchema) -> float:
    """
    Return the share of bits that a record with every field sets, after folding.

    Exact where features have bitsPerFeature; where bits are set for each token, values of eight
    letters are assumed.
    """
    insertions = 0
    for feature in schema.features:
        if hashing := feature.hashing:
            tokens = _typical_tokens(hashing.comparison) if hashing.per_token else 1
            insertions += hashing.bits * tokens
    share = 1 - (1 - 1 / schema.unfolded) ** insertions
    for _ in range(schema.xor_folds):
        share = 2 * share * (1 - share)
    return float(share)


def _typical_tokens(comparison: Comparison) -> int:
    if comparison.type == "numeric":
        return 2 * comparison.resolution + 1
    return _TYPICAL_LETTERS + comparison.n - 1 if comparison.type == "ngram" else 1


def _keys(schema: ClkhashSchema) -> Iterator[Weakness]:
    if schema.key_size < MINIMUM_KEY_SIZE:
        fault = f"field keys of {schema.key_size} bytes can be guessed or collide"
        yield Weakness("clkConfig.kdf.keySize", fault, f"use {MINIMUM_KEY_SIZE} to 64")
    if not schema.info:
        fault = "is missing or empty, so other schemas under this secret share field keys"
        yield Weakness("clkConfig.kdf.info", fault, "name project and schema in it, in base64")
    if not schema.salt:
        fault = "is missing or empty"
        yield Weakness("clkConfig.kdf.salt", fault, "write random bytes of your own, in base64")


def _shape(schema: ClkhashSchema, measured: float | None) -> Iterator[Weakness]:
    encoded = [one for one in schema.features if not one.ignored]
    if len(encoded) < MINIMUM_FEATURES:
        fault = f"only {len(encoded)} are encoded; a CLK of few fields falls easily"
        yield Weakness("features", fault, f"encode {MINIMUM_FEATURES} or more")
    for i, feature in enumerate(schema.features):
        if feature.hashing and feature.hashing.hash == "doubleHash":
            fault = "doubleHash has few patterns a token and was broken (Kroll, Steinmetzer 2015)"
            yield Weakness(f"features[{i + 1}].hashing.hash", fault, "use blakeHash")
    density = expected_density(schema) if measured is None else measured
    if not DENSITY[0] <= density <= DENSITY[1]:
        told = "would set" if measured is None else "sets"
        fault = f"a record {told} {density:.1%} of the bits; 10 to 55 % are safe"
        yield Weakness("clkConfig.l", fault, "change l, or bitsPerFeature of the features")


def _unread(place: str) -> Weakness:
    key = place.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, _READ, n=1)
    remedy = f"did you mean {near[0]!r}? else drop it" if near else "drop it"
    return Weakness(place, "clkhash does not read this key", remedy)


def _secret(secret: bytes | None) -> Iterator[Weakness]:
    if secret is not None and len(secret) < MINIMUM_SECRET:
        fault = f"has {len(secret)} bytes, so it can be guessed" if secret else "is empty"
        yield Weakness("secret", fault, f"use {MINIMUM_SECRET} random bytes or more")
