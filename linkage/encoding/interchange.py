"""
CLKs by any clkhash v3 linkage schema, bit for bit those of clkhash 0.17.0.

    clks = encode_with_schema(schema_json, columns, secret)

For exchange with users of clkhash and anonlink. These are plain CLKs, which fall to graph
matching whatever the secret (docs/threat-model.md); weak schemas are refused besides unless the
caller accepts them in so many words. Studies use linkage.encoding.encoder instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.encoding import clkhash_lint
from linkage.encoding.bloom import FeatureBits, bloom_filters
from linkage.encoding.clkhash_schema import (
    ClkhashFeature,
    ClkhashSchema,
    Comparison,
    Hashing,
    read_schema,
)
from linkage.encoding.clkhash_values import broken_rule, formatted, numeric_tokens, unencodable
from linkage.encoding.columns import Coded
from linkage.encoding.tokens import (
    Cutter,
    Hasher,
    NgramCutter,
    TokenCutter,
    blake_positions,
    double_hash_positions,
    positional_ngrams,
)
from linkage.errors import EncodingRefused, RowRejected

_KDF_HASHES = {"SHA256": hashes.SHA256, "SHA512": hashes.SHA512}
_ROWS = 8192
"""Records encoded at once, which bounds memory whatever the schema."""

Column = Sequence[str] | Coded
Bytes2D = npt.NDArray[np.uint8]


def encode_with_schema(
    schema: str | bytes | Mapping[str, object],
    columns: Sequence[Column],
    secret: bytes,
    *,
    accept_weaknesses: bool = False,
    file: str = "the data",
    first_row: int = 1,
) -> Bytes2D:
    """
    Return one CLK a record, uint8[N, ceil(l / 8)], as clkhash makes it of the same row.

    schema: a clkhash v3 linkage schema, as JSON text or its parsed object. columns: N values for
    each feature of the schema in its order, ignored ones included. secret: what clkhash takes
    (its text secrets as UTF-8). accept_weaknesses: encode even what the lint refuses. file,
    first_row: how errors name the data and number its rows.

    Raises SchemaRefused for a malformed schema, or a weak one, listing every weakness;
    EncodingRefused for columns that do not fit the schema; RowRejected for the first row with a
    value that breaks its format, naming row, field and rule, never the value.
    """
    parsed = read_schema(schema)
    if not accept_weaknesses:
        clkhash_lint.require_strong(parsed, secret)
    return SchemaEncoder(parsed, secret).encode(columns, file=file, first_row=first_row)


class SchemaEncoder:
    """clkhash's CLKs by one schema and secret, for batch after batch. Keeps n-grams, no value."""

    def __init__(self, schema: ClkhashSchema, secret: bytes) -> None:
        self._schema = schema
        keys = _field_keys(schema, secret)
        self._bits = [
            None if one.hashing is None else _feature_bits(one.hashing, pair, schema, one)
            for one, pair in zip(schema.features, keys, strict=True)
        ]

    def encode(
        self, columns: Sequence[Column], *, file: str = "the data", first_row: int = 1
    ) -> Bytes2D:
        """Return uint8[N, ceil(l / 8)], as `encode_with_schema`, which says the rest."""
        sizes = {len(column) for column in columns}
        if len(columns) != len(self._schema.features) or len(sizes) != 1:
            raise EncodingRefused(
                f"the schema has {len(self._schema.features)} features: it needs as many columns,"
                " all of one length",
                hint="give ignored features their column too",
            )
        n = sizes.pop()
        found = np.zeros((n, -(-self._schema.length // 8)), np.uint8)
        if not any(self._bits):
            return found
        for start in range(0, n, _ROWS):
            block = [
                None if bits is None else _slice(column, start)
                for column, bits in zip(columns, self._bits, strict=True)
            ]
            found[start : start + _ROWS] = self._block(block, file, first_row + start)
        return found

    def _block(self, block: Sequence[Coded | None], file: str, first_row: int) -> Bytes2D:
        ready: list[Coded] = []
        faults: list[tuple[int, str, str]] = []
        for feature, column in zip(self._schema.features, block, strict=True):
            if column is not None:
                texts, rules = _prepared(column, feature)
                faults += _first_fault(column, rules, feature)
                ready.append(Coded(column.codes, texts))
        if faults:
            # The first row, then the first feature in it: `min` keeps the order of features.
            row, field, rule = min(faults, key=lambda fault: fault[0])
            raise RowRejected(
                file=file,
                row=first_row + row,
                field=field,
                rule=rule,
                hint="correct the value, or the format in the schema",
            )
        features = [bits for bits in self._bits if bits is not None]
        filters, _ = bloom_filters(ready, features, length=self._schema.unfolded)
        return folded(filters, self._schema.unfolded, self._schema.xor_folds)


def folded(filters: Bytes2D, length: int, folds: int) -> Bytes2D:
    """
    Return filters of `length` bits after `folds` foldings: the halves of each, XORed.

    filters: uint8[N, ceil(length / 8)], first bit first. `length` is a multiple of 2^folds.
    """
    while folds and length % 16 == 0:
        length, folds = length // 2, folds - 1
        filters = filters[:, : length // 8] ^ filters[:, length // 8 :]
    if folds:
        bits = np.unpackbits(filters, axis=1)[:, :length]
        for _ in range(folds):
            length //= 2
            bits = bits[:, :length] ^ bits[:, length:]
        filters = np.packbits(bits, axis=1)
    return filters


def _slice(column: Column, start: int) -> Coded:
    if isinstance(column, Coded):
        used, codes = np.unique(column.codes[start : start + _ROWS], return_inverse=True)
        return Coded(codes.astype(np.int32), [column.values[code] for code in used.tolist()])
    texts = column[start : start + _ROWS]
    if not all(type(text) is str for text in texts):
        raise EncodingRefused("a column holds what is no text", hint="write missing values as text")
    return Coded.of(texts)


def _prepared(column: Coded, feature: ClkhashFeature) -> tuple[list[str], list[str]]:
    """Return each value as it is cut, and the rule it breaks ("" if none)."""
    texts, rules = [], []
    for value in column.values:
        text, rule = "", broken_rule(value, feature)
        if not rule:
            text = formatted(value, feature)
            rule = unencodable(text, feature)
        texts.append(text)
        rules.append(rule)
    return texts, rules


def _first_fault(
    column: Coded, rules: Sequence[str], feature: ClkhashFeature
) -> list[tuple[int, str, str]]:
    broken = np.fromiter(map(bool, rules), bool, count=len(rules))
    rows: Sequence[int] = np.flatnonzero(broken[column.codes]).tolist() if broken.any() else []
    if not rows:
        return []
    row = rows[0]
    return [(row, feature.identifier, rules[column.codes[row]])]


def _field_keys(schema: ClkhashSchema, secret: bytes) -> list[tuple[bytes, bytes]]:
    """Return the two keys of each feature, ignored ones included, as clkhash deals them."""
    size = schema.key_size
    kdf = HKDF(
        algorithm=_KDF_HASHES[schema.kdf_hash](),
        length=2 * size * len(schema.features),
        salt=schema.salt,
        info=schema.info,
    )
    block = kdf.derive(secret)
    keys = [block[i : i + size] for i in range(0, len(block), size)]
    return list(zip(keys[::2], keys[1::2], strict=True))


def _feature_bits(
    hashing: Hashing, keys: tuple[bytes, bytes], schema: ClkhashSchema, feature: ClkhashFeature
) -> FeatureBits:
    comparison = hashing.comparison
    fewest = {"ngram": comparison.n, "exact": 1, "numeric": 2 * comparison.resolution + 1}
    most = hashing.bits if hashing.per_token else -(-hashing.bits // fewest[comparison.type])
    encoding = feature.format.encoding if feature.format else "utf-8"
    hasher: Hasher
    if hashing.hash == "blakeHash":
        hasher = blake_positions(keys[0], schema.unfolded, most, encoding)
    else:
        hasher = double_hash_positions(
            keys,
            schema.unfolded,
            most,
            encoding,
            prevent_singularity=hashing.prevent_singularity,
        )
    return FeatureBits(_cutter(comparison, hasher), hashing.bits, hashing.per_token)


def _cutter(comparison: Comparison, hasher: Hasher) -> Cutter:
    if comparison.type == "exact":
        return TokenCutter(lambda value: [value] if value else [], hasher)
    if comparison.type == "numeric":
        return TokenCutter(lambda value: numeric_tokens(value, comparison), hasher)
    if comparison.positional:
        return TokenCutter(lambda value: positional_ngrams(value, comparison.n), hasher)
    return NgramCutter(comparison.n, hasher)
