"""
CLKs of a study, bit for bit those of clkhash 0.17.0, and their keyed diffusion.

    column, bits_set = ClkEncoder(study, clk, key).encode(values)

clkhash itself is the reference for the plain CLKs (tests/vectors/clk_v1.json and a property
test). What a study encodes is a small, strict part of clkhash's schemas (linkage.schema); the
whole is in linkage.encoding.interchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.encoding.bloom import FeatureBits, bloom_filters
from linkage.encoding.columns import Coded
from linkage.encoding.diffusion import Taps, diffuse, diffusion_taps
from linkage.encoding.keys import StudyKey
from linkage.encoding.tokens import NgramCutter, blake_positions
from linkage.records import FixedColumn
from linkage.schema import LinkageSchema, clk_schema, parse_schema
from linkage.study import ClkSpec, StudyConfig

_KDF_HASHES = {"SHA256": hashes.SHA256, "SHA512": hashes.SHA512}


class ClkEncoder:
    """
    One CLK of a study, for batch after batch: plain as clkhash makes it, then diffused.

    refs: the CLK's fields and transforms, whose columns `encode` takes.
    """

    def __init__(self, study: StudyConfig, clk: ClkSpec, key: StudyKey) -> None:
        schema = parse_schema(clk_schema(study, clk))
        self._plain = PlainClks(schema, key.derive(study, f"clk:{clk.id}"))
        self._least = clk.min_fields
        self._taps: Taps | None = None
        if depth := study.diffusion_of(clk):
            secret = key.derive(study, f"diffusion:{clk.id}")
            self._taps = diffusion_taps(secret, length=clk.length, depth=depth)
        self.refs = tuple(feature.field for feature in schema.features)

    def encode(
        self, values: Mapping[str, Coded], *, least: int | None = None
    ) -> tuple[FixedColumn, npt.NDArray[np.uint32]]:
        """
        Return one CLK a record, after keyed diffusion, and its number of set bits before it.

        values: by ref, normalised and transformed, all of length N. Null where fewer than `least`
        are present, by default the CLK's `min_fields`.
        """
        plain = self.plain(values, least=least)
        bits_set = np.bitwise_count(plain.values.view(np.uint64)).sum(axis=1, dtype=np.uint32)
        if self._taps is None:
            return plain, bits_set
        return FixedColumn(diffuse(plain.values, self._taps), plain.present), bits_set

    def plain(self, values: Mapping[str, Coded], *, least: int | None = None) -> FixedColumn:
        """
        Return the CLKs before diffusion: those that clkhash makes for `clk_schema(study, clk)`
        with the secret `key.derive(study, f"clk:{clk.id}")`. Never to be sent where t > 0.
        """
        bits, count = self._plain.encode([values[ref] for ref in self.refs])
        present = count >= (self._least if least is None else least)
        bits[~present] = 0
        return FixedColumn(bits, present)


class PlainClks:
    """
    clkhash's CLKs for a linted schema and a secret, for batch after batch.

    Keeps the positions of n-grams, no value.
    """

    def __init__(self, schema: LinkageSchema, secret: bytes) -> None:
        self.length = schema.length
        self.features = [
            FeatureBits(
                # A value has n tokens or more, so none is inserted more often than this.
                NgramCutter(
                    one.ngram, blake_positions(key, schema.length, -(-one.bits // one.ngram))
                ),
                one.bits,
            )
            for one, key in zip(schema.features, field_keys(schema, secret), strict=True)
        ]

    def encode(
        self, columns: Sequence[Coded]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """
        Return the filters, uint8[N, length / 8], and each record's number of fields present.

        columns: one of N values for each feature of the schema, in its order. Raises
        EncodingRefused where the columns differ in number or length.
        """
        return bloom_filters(columns, self.features, length=self.length)


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
