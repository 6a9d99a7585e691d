"""What a site submits as a delta changes the version that the broker has, and no other one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from linkage.errors import Conflict
from sites.client import BrokerClient
from sites.packages import load_manifest, part_file
from sites.upload import submit
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import AUDIENCE, World, make_world, running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("submitted"))) as made:
        yield made


def kept(packages: Path, made: Package) -> Path:
    """Write a package as a site's private folder holds it."""
    folder = packages / str(made.manifest.dataset)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(made.manifest.model_dump_json())
    for number, sealed in enumerate(made.parts, start=1):
        part_file(folder, number).write_bytes(sealed)
    return folder


def test_a_folder_that_was_lost_and_remade_sends_no_delta_to_another_version(
    world: World, tmp_path: Path
) -> None:
    identity = world.identities["enclave"]
    broker = BrokerClient(world.url, f"{world.study_id}/enclave", identity, audience=AUDIENCE)
    first = encoded(world.signed, "enclave", range(40))
    delta = encoded(world.signed, "enclave", range(40, 44))
    figures = {"base": 1, "changed": 4, "records": 44, "groups": 44}

    def made(folder: str, number: int) -> Path:
        kept(tmp_path / folder, pack(world.signed, identity, first))
        later = pack(world.signed, identity, delta, dataset=number, **figures)
        return kept(tmp_path / folder, later)

    before, after = made("before", 2), made("after", 3)
    assert submit(before.parent / "1", broker).state == "complete"
    assert submit(before, broker).state == "complete"
    with pytest.raises(Conflict, match="dataset version 1 is another one than this") as caught:
        submit(after, broker)
    assert caught.value.hint == "tokenize again without --delta"
    assert len(broker.open_dataset(load_manifest(after)).missing) == 2, "not a part was sent"
    assert submit(before, broker).state == "complete", "what is complete may be sent again"
