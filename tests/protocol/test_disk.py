"""A thief of the broker's disk, without its private key, finds no encoding and no cohort there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from linkage.errors import PackageRefused
from linkage.messages import BROKER, DATASET_PART, QUESTION_ANSWER
from linkage.sealing import Context, Identity, seal, unseal
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, running
from tests.protocol.worlds import crosswalk, linked, released
from tests.questions import question as asking

EVERYBODY = ("imaging", "enclave", "claims")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("disk"))) as made:
        yield made


@pytest.mark.threat("T05")
@pytest.mark.threat("T11")
def test_the_disk_holds_no_encoding_no_id_and_no_answer(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """After a whole run, a release and an answered question; database, logs, blobs and scratch."""
    records = {p: encoded(world.signed, p, range(60)) for p in EVERYBODY}
    run = linked(world, records)
    assert run["state"] == "done", run["failure"]
    ids = crosswalk(world, "enclave", released(world, run, *EVERYBODY))
    asked = asking()
    job = world.actor("enclave").post(f"{world.path}/questions", asked).json()["job_id"]
    world.finish(f"{world.path}/jobs/{job}")
    answer = b"these qualify: " + bytes(range(64))
    context = Context(world.study_id, "imaging", "enclave", QUESTION_ANSWER, (job,))
    pin = world.signed.pin("enclave")
    sealed = seal(answer, sender=world.identities["imaging"], recipient=pin, context=context)
    to = {"recipient": "enclave", "purpose": QUESTION_ANSWER, "subject": job}
    world.actor("imaging").put(f"{world.path}/outbox", sealed, **to).raise_for_status()

    secrets = [answer, *ids.values()]
    for one in records.values():
        for column in (*one.clks.values(), *one.match_keys.values()):
            secrets += [row.tobytes() for row in column.values[column.present]]
    files = [path for path in world.home.path.rglob("*") if path.is_file()]
    disk = b"".join(path.read_bytes() for path in files)
    assert len(disk) > 100_000
    assert records["claims"].pseudonyms[0].tobytes() in disk, "the control: pseudonyms are there"
    for one in secrets:
        assert one not in disk
        assert one.hex().encode() not in disk
    record_property("encodings, IDs and answers looked for on the broker's disk", len(secrets))
    record_property("found", 0)


@pytest.mark.threat("T05")
def test_what_lies_there_opens_with_the_brokers_key_only(world: World) -> None:
    """Neither the custodian's, an admin's nor a party's keys open what parties uploaded."""
    made = pack(world.signed, world.identities["claims"], encoded(world.signed, "claims", range(9)))
    context = Context(world.study_id, "claims", BROKER, DATASET_PART, ("1", "1", "2"))
    sender = world.signed.pin("claims")
    for thief in (*world.identities.values(), world.admin):
        with pytest.raises(PackageRefused):
            unseal(made.parts[0], sender=sender, recipient=thief, context=context)
    owner = Identity.load(world.home.identity_file)
    assert unseal(made.parts[0], sender=sender, recipient=owner, context=context)
