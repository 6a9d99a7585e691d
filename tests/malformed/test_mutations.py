"""Sources with bytes changed at random: records, bad records, or an error of ours, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from linkage.errors import LinkageError
from sites.config import SourceConfig
from sites.sources.opening import open_source
from tests.unit.sites.test_sources_agree import FIELDS, MAKERS

ROUNDS = 60


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change, insert or delete a few bytes, or cut the end off."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(made)) if made else 0
        how = chance.randrange(8)
        if how < 2 and made:
            made[at] = chance.randrange(256)
        elif how < 4:
            made[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif how < 7:
            del made[at : at + chance.randrange(1, 60)]
        else:
            del made[at:]
    return bytes(made)


@pytest.mark.parametrize("kind", MAKERS)
def test_damage_is_never_a_bug(kind: str, tmp_path: Path) -> None:
    chance = random.Random(20261121)
    config = SourceConfig.model_validate(MAKERS[kind](tmp_path))
    path = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    whole, refused = path.read_bytes(), 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(whole, chance))
        try:
            for batch in open_source(config, FIELDS).batches():
                assert all(
                    len(column.to_pylist()) == len(batch) for column in batch.columns.values()
                )
        except LinkageError:
            refused += 1
    # DICOM has three more files, and FHIR three more lines: there a bad one is left out.
    assert refused > 0 or kind in ("dicom", "fhir")
