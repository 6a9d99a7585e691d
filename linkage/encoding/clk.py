"""
CLKs, bit for bit those of clkhash 0.17.0, vectorised.

    column, bits_set = ClkEncoder(study, clk, key).encode(values)

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
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.encoding.columns import Coded
from linkage.encoding.diffusion import Taps, diffuse, diffusion_taps
from linkage.encoding.keys import StudyKey
from linkage.errors import EncodingRefused
from linkage.records import FixedColumn
from linkage.schema import Feature, LinkageSchema, clk_schema, parse_schema
from linkage.study import ClkSpec, StudyConfig

_KDF_HASHES = {"SHA256": hashes.SHA256, "SHA512": hashes.SHA512}
_WORDS = 32
"""16-bit words in one BLAKE2b digest: clkhash takes one position from each."""


class ClkEncoder:
    """
    One CLK of a study, for batch after batch: plain as clkhash makes it, then diffused.

    refs: the CLK's fields and transforms, whose columns `encode` takes.
    """

    def __init__(self, study: StudyConfig, clk: ClkSpec, key: StudyKey) -> None:
        self._schema = parse_schema(clk_schema(study, clk))
        self._secret = key.derive(study, f"clk:{clk.id}")
        self._least = clk.min_fields
        self._taps: Taps | None = None
        if depth := study.diffusion_of(clk):
            secret = key.derive(study, f"diffusion:{clk.id}")
            self._taps = diffusion_taps(secret, length=clk.length, depth=depth)
        self.refs = tuple(feature.field for feature in self._schema.features)

    def encode(self, values: Mapping[str, Coded]) -> tuple[FixedColumn, int]:
        """
        Return one CLK a record, after keyed diffusion, and the set bits before it.

        values: by ref, normalised and transformed, all of length N. Null where fewer than the
        CLK's `min_fields` are present.
        """
        plain = self.plain(values)
        bits_set = int(np.bitwise_count(plain.values.view(np.uint64)).sum(dtype=np.int64))
        if self._taps is None:
            return plain, bits_set
        return FixedColumn(diffuse(plain.values, self._taps), plain.present), bits_set

    def plain(self, values: Mapping[str, Coded]) -> FixedColumn:
        """
        Return the CLKs before diffusion: those that clkhash makes for `clk_schema(study, clk)`
        with the secret `key.derive(study, f"clk:{clk.id}")`. Never to be sent where t > 0.
        """
        bits, count = bloom_filters([values[ref] for ref in self.refs], self._schema, self._secret)
        present = count >= self._least
        bits[~present] = 0
        return FixedColumn(bits, present)


def bloom_filters(
    values: Sequence[Coded], schema: LinkageSchema, secret: bytes
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """
    Return clkhash's Bloom filters, uint8[N, length / 8], and each record's fields present.

    values: a column of N values for each feature of the schema, in its order. Raises
    EncodingRefused where the columns differ in number or length.
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
        starts, tokens, names = _tokenise(column.values, feature.ngram)
        positions = _positions(names, feature, np.diff(starts), field_key, schema.length)
        _set_bits(filters, column.codes, starts, tokens, feature.bits, positions)
        count += np.diff(starts)[column.codes] > 0
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
