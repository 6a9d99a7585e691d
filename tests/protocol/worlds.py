"""Studies beside one another on one real broker, for attacks on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from linkage import idtables
from linkage.messages import BROKER, CROSSWALK, ReleaseRequest
from linkage.records import EncodedRecords, FixedColumn
from linkage.sealing import Context, Identity, unseal
from tests.broker_packages import pack
from tests.broker_world import STUDY, World, sign_for


def beside(
    world: World,
    study_id: str,
    *,
    text: str = STUDY,
    identities: dict[str, Identity] | None = None,
) -> World:
    """Register another study at the same broker; identities: keys that are there already."""
    signed, keys = sign_for(world.home.public(), study_id, text=text, identities=identities)
    made = World(world.home, signed, keys, world.admin, url=world.url, processes=world.processes)
    made.actor("admin").post("/v1/studies", signed).raise_for_status()
    return made


def linked(
    world: World, uploads: Mapping[str, EncodedRecords], *, dataset: int = 1
) -> dict[str, Any]:
    """Upload these records, run, and return the finished run as the admin sees it."""
    for uploader, records in uploads.items():
        sender = world.identities[uploader]
        world.upload(pack(world.signed, sender, records, dataset=dataset))
    return world.run()


def released(world: World, run: Mapping[str, Any], *audience: str) -> str:
    """Release the IDs of a run; return the release's id."""
    request = ReleaseRequest(run_id=run["run_id"], audience=audience)
    asked = world.actor("admin").post(f"{world.path}/releases", request).raise_for_status()
    job = world.finish(f"{world.path}/jobs/{asked.json()['job_id']}")
    assert job["state"] == "done", job["failure"]
    return str(job["job_id"])


def crosswalk(world: World, party: str, release: str) -> dict[bytes, bytes]:
    """Open a party's crosswalk; return IDs by pseudonym, in the order of its rows."""
    actor = world.actor(party)
    (item,) = actor.get(f"{world.path}/inbox", purpose=CROSSWALK, subject=release).json()["items"]
    opened = unseal(
        actor.get(f"{world.path}/inbox/{item['item_id']}").content,
        sender=world.signed.pin(BROKER),
        recipient=world.identities[party],
        context=Context(world.study_id, BROKER, party, CROSSWALK, (release,)),
    )
    table = idtables.unpack(opened, idtables.CROSSWALK)
    rows = zip(table["record_pseudonym"], table["cross_commons_id"], strict=True)
    return {name.tobytes(): one.tobytes() for name, one in rows}


def with_clks(records: EncodedRecords, values: np.ndarray) -> EncodedRecords:
    """Return the records with these CLKs, uint8[N, W], and match keys that nobody else has."""
    n = len(records)
    draw = np.random.default_rng(3)
    return EncodedRecords(
        records.pseudonyms,
        records.groups,
        {clk: FixedColumn(values, np.ones(n, bool)) for clk in records.clks},
        {
            rule: FixedColumn(draw.integers(0, 256, (n, 16), dtype=np.uint8), np.ones(n, bool))
            for rule in records.match_keys
        },
    )
