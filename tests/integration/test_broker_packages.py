"""What lies in the blob folder is opened only where it is what the signed manifest names."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.blob_stores import FolderStore
from broker.container import Broker
from broker.packages import open_dataset
from broker.registered import RegisteredStudy
from broker.store import studies
from linkage.errors import PackageRefused
from linkage.sealing import Identity
from tests.broker_packages import encoded, pack
from tests.broker_world import make_world, running


def test_other_bytes_that_the_uploader_sealed_for_the_same_place_are_refused(
    tmp_path: Path,
) -> None:
    """Signature and context fit; only the digest in the manifest tells the two apart."""
    world = make_world(tmp_path)
    identity = world.identities["claims"]
    first, second = (
        pack(world.signed, identity, encoded(world.signed, "claims", people))
        for people in (range(20), range(30, 50))
    )
    with running(world, worker=False):
        world.upload(first)
    broker, keys = Broker.at(world.home), Identity.load(world.home.identity_file)
    with broker.database.read() as connection:
        row = studies.find_study(connection, world.study_id)
        dataset = studies.find_dataset(connection, world.study_id, "claims", 1)
        assert row is not None
        assert dataset is not None
        blobs = studies.part_blobs(connection, dataset)
    study = RegisteredStudy.of(row)
    assert len(open_dataset(broker, keys, study, "claims", 1).records) == 20
    for swapped in (second.parts[1], first.parts[1] + b"x", first.parts[1][:-1]):
        FolderStore(world.home.blobs).path(blobs[2]).write_bytes(swapped)
        with pytest.raises(PackageRefused, match="part 2: what is stored is not what its manifest"):
            open_dataset(broker, keys, study, "claims", 1)
    broker.database.close()
