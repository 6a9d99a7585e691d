"""
Similarities, as the broker can compute them from CLKs and as an attacker expects them from a list.

    seen = observed(column)                          # what whoever holds the CLKs computes
    guessed = expected(study, clk, crowd, keys=2)    # from names alone, without the study key
    correlation(seen, guessed)

Keyed diffusion makes each output bit the XOR of t input bits. Two plain CLKs that differ in a
share d of their bits therefore agree after it on a share (1 + (1 - 2d)^t) / 2, whatever the key. So
an attacker need not diffuse anything: plain CLKs under keys of his own give d, and (1 - 2d)^t is
what he should see, free of diffusion's noise. If two keys' encodings correlate with rho, he
reaches up to sqrt(rho) (figures: docs/threat-model.md).
Diffusion: Armknecht, Heng and Schnell, PoPETs 2023.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.encoding.clk import ClkEncoder
from linkage.encoding.keys import StudyKey
from linkage.evaluation.attacks.crowds import Crowd
from linkage.records import FixedColumn
from linkage.study import ClkSpec, StudyConfig

Floats2D = npt.NDArray[np.float32]


def encoded(study: StudyConfig, clk: ClkSpec, crowd: Crowd, key: StudyKey) -> FixedColumn:
    """Return the crowd's CLKs as a site would send them under `key`: diffused if the study is."""
    encoder = ClkEncoder(study, clk, key)
    return encoder.encode({ref: crowd.taken(ref) for ref in encoder.refs})[0]


def undiffused(clk: ClkSpec) -> ClkSpec:
    """Return the CLK without diffusion, as an attacker encodes it for himself."""
    return clk.model_copy(update={"diffusion": 0})


def signs(values: npt.NDArray[np.uint8]) -> Floats2D:
    """Return each bit of uint8[N, B] as 1 or -1, float32[N, 8 B]: products say where they agree."""
    made: Floats2D = 2 * np.unpackbits(values, axis=1).astype(np.float32) - 1
    return made


def observed(column: FixedColumn) -> Floats2D:
    """
    Return similarities float32[N, N]: correlation of two records' bits, each position centred.

    0 on the diagonal and where either record has no such CLK.
    """
    bits = np.unpackbits(column.values, axis=1).astype(np.float32)
    if column.present.any():
        bits -= bits[column.present].mean(axis=0)
    bits[~column.present] = 0
    norms = np.sqrt(np.einsum("ij,ij->i", bits, bits))
    bits /= np.where(norms > 0, norms, 1)[:, None]
    made: Floats2D = bits @ bits.T
    np.fill_diagonal(made, 0)
    return made


def expected(
    study: StudyConfig, clk: ClkSpec, crowd: Crowd, *, keys: int = 2, depth: int | None = None
) -> Floats2D:
    """
    Return what an attacker expects to see, float32[N, N]: (1 - 2d)^t, d from `keys` own keys.

    depth: t, by default that of the study; 0 gives 1 - 2d, for plain CLKs. 0 on the diagonal and
    where either record has no such CLK.
    """
    depth = study.diffusion_of(clk) if depth is None else depth
    agreement = np.zeros((len(crowd), len(crowd)), np.float32)
    present = np.ones(len(crowd), bool)
    for _ in range(keys):
        plain = encoded(study, undiffused(clk), crowd, StudyKey.generate())
        bits = signs(plain.values)
        agreement += bits @ bits.T / np.float32(clk.length * keys)
        present = plain.present
    made = np.clip(agreement, 0, None) ** max(depth, 1)
    made[~present] = 0
    made[:, ~present] = 0
    np.fill_diagonal(made, 0)
    return made


def centred(similarity: Floats2D, present: npt.NDArray[np.bool_]) -> Floats2D:
    """Return each row minus its mean over the other present records; 0 where nothing is known."""
    made = similarity.copy()
    others = max(int(present.sum()) - 1, 1)
    made[present] -= (made[present].sum(axis=1, keepdims=True) / others).astype(np.float32)
    made[~present] = 0
    made[:, ~present] = 0
    np.fill_diagonal(made, 0)
    return made


def correlation(one: Floats2D, other: Floats2D) -> float:
    """Return the correlation of two row-centred similarities over all pairs; 0.0 if one is flat."""
    scale = float(np.sqrt(_dot(one, one) * _dot(other, other)))
    return _dot(one, other) / scale if scale else 0.0


def _dot(one: Floats2D, other: Floats2D) -> float:
    """Sum of products, row by row in float64: float32 sums of millions of terms lose digits."""
    return float(np.einsum("ij,ij->i", one, other).astype(np.float64).sum())
