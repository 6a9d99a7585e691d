"""
Laying two clouds of points upon each other when nobody says which points belong together.

    rows, columns = aligned(kernel(observed), kernel(expected), seed=1)

A matrix of similarities is a cloud of points, known but for a rotation. Two samples of one
population have clouds of one shape, whether or not the same people are in them: that is why extra
records on both sides hardly hinder graph matching. First points are compared by the sorted list of
their similarities, which no rotation changes; then rotation and soft assignment are found in turn,
from the few broadest directions to many.

Sources: Schaefer, Armknecht and Heng, "R+R", ACSAC 2024 (embedding, then alignment); Grave, Joulin
and Berthet, "Unsupervised alignment of embeddings with Wasserstein Procrustes", AISTATS 2019;
Cuturi, "Sinkhorn distances", NIPS 2013; hubs: Conneau et al., "Word translation without parallel
data", ICLR 2018.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats2D = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DIRECTIONS = 60
"""Most directions of a cloud that are laid upon each other; fewer for fewer than 120 points."""
_FIRST_DIRECTIONS = 5
_SAMPLE = 1000
"""Points a side that look for the rotation; all are laid by it in the end."""
_STEPS, _TURNS = 20, 3
_SOFTNESS = (0.5, 0.05)
"""First and last width of an assignment, as a share of the points' mean squared length."""
_PROFILE = 100
_NEIGHBOURS = 5


def kernel(similarity: Floats2D) -> Floats2D:
    """
    Return similarities about the cloud's centre, float32[N, N]: symmetric, 1 on the diagonal.

    similarity: 0 on the diagonal; a row of zeros is a record of which nothing is known, and stays.
    """
    made = similarity.astype(np.float32)
    present = made.any(axis=1)
    at = np.flatnonzero(present)
    made[at, at] = 1
    mean = made.sum(axis=1, dtype=np.float64) / max(len(at), 1)
    middle = np.float32(mean[at].mean() if len(at) else 0)
    mean = mean.astype(np.float32)
    made -= mean[:, None]
    made -= mean[None, :]
    made += middle
    made[~present] = 0
    made[:, ~present] = 0
    length = np.sqrt(np.maximum(np.diagonal(made), 1e-6), dtype=np.float32)
    length[~present] = 1
    made /= length[:, None]
    made /= length[None, :]
    return made


def aligned(rows: Floats2D, columns: Floats2D, *, seed: int) -> tuple[Ints, Ints]:
    """
    Return pairs of a row and a column that are each other's nearest: the first guesses.

    rows: float32[N, N], columns: float32[M, M], as `kernel` makes them. Ascending by row.
    """
    draw = np.random.default_rng(seed)
    most = max(min(DIRECTIONS, len(rows) // 2, len(columns) // 2), 1)
    one, other = _points(rows, most, draw), _points(columns, most, draw)
    some = np.sort(draw.permutation(len(rows))[:_SAMPLE])
    few = np.sort(draw.permutation(len(columns))[:_SAMPLE])
    shares = _by_profile(rows[some], columns[few])
    left, right = one[some], other[few]
    turned = one
    first = min(_FIRST_DIRECTIONS, most)
    for k, width in zip(
        np.geomspace(first, most, _STEPS).round().astype(int),
        np.geomspace(*_SOFTNESS, _STEPS),
        strict=True,
    ):
        for _ in range(_TURNS):
            turn = _rotation(left[:, :k].T @ (shares @ right[:, :k]))
            near = closeness(left[:, :k] @ turn, right[:, :k])
            size = max(float((left[:, :k] ** 2).sum(axis=1).mean()), 1e-12)
            shares = _assigned(near, width * size)
        turned = one[:, :k] @ turn
    near = without_hubs(closeness(turned, other[:, : turned.shape[1]]))
    best, back = near.argmax(axis=1), near.argmax(axis=0)
    found = np.flatnonzero((back[best] == np.arange(len(best))) & one.any(axis=1))
    return found, best[found]


def closeness(one: Floats2D, other: Floats2D) -> Floats2D:
    """Return minus the squared distance of all points, float32[N, M]."""
    made: Floats2D = one @ (2 * other).T
    made -= np.einsum("ij,ij->i", one, one)[:, None]
    made -= np.einsum("ij,ij->i", other, other)[None, :]
    return made


def without_hubs(near: Floats2D) -> Floats2D:
    """Return closeness beyond what is usual near the row and near the column."""
    made = 2 * near
    for axis in (0, 1):
        side = np.ascontiguousarray(near.T) if axis == 0 else near
        k = min(_NEIGHBOURS, side.shape[1])
        usual = np.partition(side, -k, axis=1)[:, -k:].mean(axis=1)
        made -= usual[None, :] if axis == 0 else usual[:, None]
    return made


def _points(similarity: Floats2D, k: int, draw: np.random.Generator) -> Floats2D:
    """
    Return points whose products are about `similarity`, float32[N, k], broadest direction first.

    Random subspace iteration: Halko, Martinsson and Tropp, SIAM Review 2011.
    """
    basis = draw.standard_normal((len(similarity), min(k + 20, len(similarity)))).astype(np.float32)
    for _ in range(5):
        basis = np.linalg.qr(similarity @ basis)[0]
    size, turn = np.linalg.eigh(basis.T @ (similarity @ basis))
    order = np.argsort(-size)[:k]
    made: Floats2D = (basis @ turn[:, order]) * np.sqrt(np.maximum(size[order], 0))
    return made


def _by_profile(rows: Floats2D, columns: Floats2D) -> Floats2D:
    """Return a soft assignment of records whose similarities are alike when sorted."""
    at = np.linspace(0, 1, _PROFILE)
    one, other = (
        # The greatest is the record itself.
        np.sort(side, axis=1)[:, (at * max(side.shape[1] - 2, 0)).astype(np.int64)]
        for side in (rows, columns)
    )
    usual = np.concatenate([one, other]).std(axis=0) + np.float32(1e-6)
    return _assigned(closeness(one / usual, other / usual), 0.1 * _PROFILE)


def _rotation(covariance: Floats2D) -> Floats2D:
    """Return the rotation that a covariance asks for: Schoenemann's Procrustes solution, 1966."""
    left, _, right = np.linalg.svd(covariance)
    made: Floats2D = left @ right
    return made


def _assigned(near: Floats2D, width: float, turns: int = 8) -> Floats2D:
    """Return shares float32[N, M] whose rows sum to 1 / N and columns, nearly, to 1 / M."""
    made = near / np.float32(width)
    made -= made.max(axis=1, keepdims=True)
    np.exp(made, out=made)
    for _ in range(turns):
        made /= np.maximum(made.sum(axis=0), 1e-30)[None, :] * len(made.T)
        made /= np.maximum(made.sum(axis=1), 1e-30)[:, None] * len(made)
    return made
