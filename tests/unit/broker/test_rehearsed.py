"""Probabilities of pairs are written in a rehearsal, and never in a real linkage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.config import create_home
from broker.registered import RegisteredStudy
from broker.rehearsed import keep_probabilities, probabilities_file
from linkage.matching.estimates import estimate
from linkage.matching.weights import Comparison, Weights
from linkage.plain_arrow import read_stream
from tests.studies import cast

_P = np.array([0.9, 0.25])
_MADE = Weights(
    (
        Comparison(
            ("claims", "imaging"),
            np.array([0, 1], np.uint32),
            np.array([2, 0], np.uint32),
            _P,
            estimate(_P, _P, 1.15),
        ),
    ),
    estimate(_P, _P, 1.15),
    (),
)
_NAMES = {
    "claims": np.arange(32, dtype=np.uint8).reshape(2, 16),
    "imaging": np.arange(100, 148, dtype=np.uint8).reshape(3, 16),
}


def _study(rehearsal: bool) -> RegisteredStudy:
    signed = cast(rehearsal=rehearsal).signed
    return RegisteredStudy("small", "", signed, signed.check(), "")


@pytest.mark.threat("T17")
def test_only_a_rehearsal_leaves_probabilities(tmp_path: Path) -> None:
    # Even where the broker takes rehearsals: what was signed for real is real.
    home = create_home(tmp_path / "home", allow_rehearsal=True)
    before = sorted(home.path.rglob("*"))
    keep_probabilities(home, _study(rehearsal=False), "run", _MADE, _NAMES)
    assert sorted(home.path.rglob("*")) == before
    keep_probabilities(home, _study(rehearsal=True), "run", _MADE, _NAMES)
    path = probabilities_file(home.path, "run")
    assert path.stat().st_mode & 0o077 == 0
    first = path.read_bytes()
    _, batches = read_stream(first)
    assert [row for batch in batches for row in batch.to_pylist()] == [
        {
            "left": "claims",
            "left_record": _NAMES["claims"][i].tobytes(),
            "right": "imaging",
            "right_record": _NAMES["imaging"][j].tobytes(),
            "probability": p,
        }
        for i, j, p in ((0, 2, 0.9), (1, 0, 0.25))
    ]
    keep_probabilities(home, _study(rehearsal=True), "run", _MADE, _NAMES)  # a repeated step
    assert path.read_bytes() == first


def test_a_run_of_which_two_parties_share_nothing_has_no_pairs(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", allow_rehearsal=True)
    none = replace(
        _MADE,
        comparisons=(
            replace(_MADE.comparisons[0], left=_rows(), right=_rows(), probability=np.zeros(0)),
        ),
    )
    keep_probabilities(home, _study(rehearsal=True), "run", none, _NAMES)
    _, batches = read_stream(probabilities_file(home.path, "run").read_bytes())
    assert sum(batch.num_rows for batch in batches) == 0


def _rows() -> np.ndarray:
    return np.zeros(0, np.uint32)
