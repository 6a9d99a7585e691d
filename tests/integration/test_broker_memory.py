"""However much is uploaded, the server needs hardly more memory: the small form of bench_upload."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.bench_upload import measure


@pytest.mark.threat("P04")
@pytest.mark.parametrize("bucket", [False, True], ids=["folder", "bucket"])
def test_an_upload_of_many_parts_takes_bounded_memory(tmp_path: Path, bucket: bool) -> None:
    """Parts of 8 MiB, four at a time; of a bucket moto itself is the slow part."""
    gb = 0.1 if bucket else 0.4
    made = measure(gb, at_once=4, body_mb=0, bucket=bucket, folder=tmp_path)
    assert made["bytes"] > gb * 0.9e9
    assert made["server_mb_peak"] - made["server_mb_before"] < 150
    assert made["server_mb_peak"] < 512
