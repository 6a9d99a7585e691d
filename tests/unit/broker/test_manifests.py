"""Caps hold for a delta's rows as for whole dataset versions."""

from __future__ import annotations

import pytest

from broker.config import Limits
from broker.services.manifests import _check_parts
from linkage.errors import TooLarge
from linkage.messages import Manifest, Part


def delta(rows: int) -> Manifest:
    return Manifest(
        study_id="small-study",
        study_hash="0" * 64,
        schema_hash="0" * 64,
        party="alpha",
        dataset=2,
        base=1,
        changed=rows,
        epoch=1,
        normalisation="2",
        key_check="0" * 32,
        software="1",
        records=5,
        groups=5,
        densities={},
        null_reasons={},
        collisions={},
        parts=(Part(number=1, size=1, records=rows, digest="0" * 64),),
    )


def test_rows_that_only_remove_records_count_too() -> None:
    limits = Limits(dataset_records=10)
    _check_parts(delta(10), limits)
    with pytest.raises(TooLarge, match="more than 10 records"):
        _check_parts(delta(11), limits)
