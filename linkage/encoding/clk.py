"""
CLKs, bit for bit those of clkhash 0.17.0, vectorised.

    column = encode_clks(columns, study, clk, key)

A position of clkhash's blakeHash depends on field, token and its place in the token's stream
only, and the positions for k are the first k of those for a larger k. So each different token
is hashed once, each different value is cut into tokens once, and a record sets the bits of its
values. clkhash itself is the reference (tests/vectors/clk_v1.json and a property test).

Source: Schnell, Bachteler and Reiher 2009, doi:10.1186/1472-6947-9-41; Schnell and Borgs 2016
for composite filters; clkhash's bloomfilter.py for the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.encoding import fields
from linkage.encoding.diffusion import diffuse, diffusion_taps
from linkage.encoding.keys import StudyKey
from linkage.errors import EncodingRefused
from linkage.records import FixedColumn
from linkage.schema import Feature, LinkageSchema, clk_schema, parse_schema
from linkage.study import ClkSpec, StudyConfig, parse_field

_KDF_HASHES = {"SHA256": hashes.SHA256, "SHA512": hashes.SHA512}
_WORDS = 32
"""16-bit words in one BLAKE2b digest: clkhash takes one position from each."""


def encode_clks(
    columns: Mapping[str, Sequence[str]], study: StudyConfig, clk: ClkSpec, key: StudyKey
) -> FixedColumn:
    """
    Return one CLK a record, after keyed diffusion: N rows of length / 8 bytes.

    columns: normalised values by field, "" where missing, all of one length.
    Null where fewer than clk.min_fields of the CLK's fields are present.
    """
    return diffused(plain_clks(columns, study, clk, key), study, clk, key)


def plain_clks(
    columns: Mapping[str, Sequence[str]], study: StudyConfig, clk: ClkSpec, key: StudyKey
) -> FixedColumn:
    """
    Return the CLKs before diffusion: those that clkhash makes for `clk_schema(study, clk)`
    with the secret `key.derive(study, f"clk:{clk.id}")`. Never to be sent where t > 0.
    """
    schema = parse_schema(clk_schema(study, clk))
    values = [fields.apply(f.field, columns[parse_field(f.field)[0]]) for f in schema.features]
    bits, count = bloom_filters(values, schema, key.derive(study, f"clk:{clk.id}"))
    present = count >= clk.min_fields
    bits[~present] = 0
    return FixedColumn(bits, present)


def diffused(plain: FixedColumn, study: StudyConfig, clk: ClkSpec, key: StudyKey) -> FixedColumn:
    """Return `plain` after the study's keyed diffusion; nulls stay null."""
    if not (depth := study.diffusion_of(clk)):
        return plain
    secret = key.derive(study, f"diffusion:{clk.id}")
    taps = diffusion_taps(secret, length=clk.length, depth=depth)
    return FixedColumn(diffuse(plain.values, taps), plain.present)


def bloom_filters(
    values: Sequence[Sequence[str]], schema: LinkageSchema, secret: bytes
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """
    Return clkhash's Bloom filters, uint8[N, length / 8], and each record's fields present.

    values: one sequence of N strings for each feature of the schema, in its order.
    Raises EncodingRefused where the sequences differ in number or length, or hold None.
    """
    sizes = {len(one) for one in values}
    if len(values) != len(schema.features) or len(sizes) > 1:
        raise EncodingRefused("a CLK needs one column a field, all of one length")
    n = sizes.pop()
    filters = np.zeros((n, schema.length // 8), np.uint8)
    count = np.zeros(n, np.int64)
    for feature, column, field_key in zip(
        schema.features, values, field_keys(schema, secret), strict=True
    ):
        codes, unique = pd.factorize(np.asarray(column, dtype=object))
        if codes.size and codes.min() < 0:
            raise EncodingRefused("a column holds nulls", hint="a missing value is an empty string")
        starts, tokens, names = _tokenise(unique.tolist(), feature.ngram)
        positions = _positions(names, feature, np.diff(starts), field_key, schema.length)
        _set_bits(filters, codes, starts, tokens, feature.bits, positions)
        count += np.diff(starts)[codes] > 0
    return filters, count


def field_keys(schema: LinkageSchema, secret: bytes) -> list[bytes]:
    """Return the BLAKE2b key of each feature: clkhash derives two keys a feature, uses one."""
    size = schema.key_size
    kdf = HKDF(
        algorithm=_KDF_HASHES[schema.kdf_hash](),
        length=2 * size * len(schema.features),
        salt=schema.salt,
        info=schema.info,
    )
    block = kdf.derive(secret)
    return [block[2 * i * size : (2 * i + 1) * size] for i in range(len(schema.features))]


def _tokenise(
    unique: Sequence[str], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """
    Cut each value into n-grams, padded by n - 1 spaces at both ends as clkhash does.

    Returns starts int64[U + 1], tokens int64[starts[-1]] (numbers of tokens, value after
    value) and the tokens by number. An empty value has no token.
    """
    numbers: dict[str, int] = {}
    starts: list[int] = [0]
    tokens: list[int] = []
    pad = " " * (n - 1)
    for value in unique:
        if value:
            padded = f"{pad}{value}{pad}"
            tokens += [
                numbers.setdefault(padded[i : i + n], len(numbers))
                for i in range(len(padded) - n + 1)
            ]
        starts.append(len(tokens))
    return np.array(starts, np.int64), np.array(tokens, np.int64), list(numbers)


def _positions(
    tokens: Sequence[str],
    feature: Feature,
    counts: npt.NDArray[np.int64],
    key: bytes,
    length: int,
) -> npt.NDArray[np.uint16]:
    """Return the bit positions of each token, uint16[T, k of the shortest value]."""
    used = counts[counts > 0]
    most = -(-feature.bits // int(used.min())) if used.size else 0
    digests = -(-most // _WORDS)
    salts = [str(i).encode("ascii") for i in range(digests)]
    stream = b"".join(
        blake2b(data, key=key, salt=salt).digest()
        for data in (token.encode("utf-8") for token in tokens)
        for salt in salts
    )
    words = np.frombuffer(stream, "<u2").reshape(len(tokens), digests * _WORDS)
    return (words & np.uint16(length - 1)).astype(np.uint16)


@numba.njit(nogil=True, cache=True)
def _set_bits(filters, codes, starts, tokens, bits, positions):  # type: ignore[no-untyped-def]
    """
    Set the bits of each record's value; filters[row] is big-endian as in clkhash.

    bitsPerFeature: `bits` insertions are spread over a value's tokens, the first
    `bits % tokens` of them taking one more.
    """
    for row in range(len(codes)):
        start, stop = starts[codes[row]], starts[codes[row] + 1]
        if start == stop:
            continue
        each, more = divmod(bits, stop - start)
        for place in range(start, stop):
            token = tokens[place]
            k = each + 1 if place - start < more else each
            for i in range(k):
                position = positions[token, i]
                filters[row, position >> 3] |= np.uint8(128 >> (position & 7))
