"""After the drill: is everything there that was acknowledged, and is anything there twice?"""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from sqlalchemy import text

from broker import audit_heads
from broker.container import Broker
from linkage import idtables
from linkage.messages import BROKER, CROSSWALK, Manifest
from linkage.sealing import Context, unseal
from tests.broker_world import World
from tests.drill.workload import PEOPLE, Acknowledged


def lost(world: World, told: Acknowledged) -> list[str]:
    """Return what was acknowledged and is not there, byte for byte."""
    admin, gone = world.actor("admin"), []
    for who, number in sorted({(who, number) for who, number, _ in told.parts}):
        found = admin.get(f"{world.path}/datasets/{who}/{number}").raise_for_status().json()
        parts = {part for w, n, part in told.parts if (w, n) == (who, number)}
        gone += [f"part {who}/{number}/{part}" for part in parts & set(found["missing"])]
        if (who, number) in told.complete and found["state"] != "complete":
            gone.append(f"dataset {who}/{number} is {found['state']}")
    for kind, subjects in (("runs", told.runs), ("jobs", told.releases)):
        for subject in subjects.values():
            answer = admin.get(f"{world.path}/{kind}/{subject}")
            if answer.status_code != 200 or answer.json()["state"] != "done":
                gone.append(f"{kind} {subject}: {answer.status_code}")
    return gone + _altered(world, told)


def _altered(world: World, told: Acknowledged) -> list[str]:
    """Return the parts whose stored bytes are not those of the manifest."""
    broker, gone = Broker.at(world.home), []
    parts = "SELECT uploader, dataset, number, blob_id FROM part"
    manifests = "SELECT uploader, number, manifest FROM dataset"
    with broker.database.read() as connection:
        blobs = {tuple(row[:3]): row[3] for row in connection.execute(text(parts))}
        announced = {
            (row.uploader, row.number): Manifest.model_validate_json(row.manifest)
            for row in connection.execute(text(manifests))
        }
        try:
            audit_heads.verify(connection, world.home.public())
        except Exception as fault:
            gone.append(f"the audit log: {fault}")
    for who, number, part in told.parts:
        wanted = announced[who, number].parts[part - 1].digest
        blob = blobs.get((who, number, part))
        if blob is None or hashlib.sha256(broker.blobs.read(blob)).hexdigest() != wanted:
            gone.append(f"bytes of {who}/{number}/{part}")
    broker.database.close()
    return gone


def duplicates(world: World, told: Acknowledged, *, persons: int) -> list[str]:
    """
    Return what is there more often than it was asked for: runs, releases, records, persons, IDs,
    entries of the audit log. persons: as many as an undisturbed broker makes of these people.
    """
    broker = Broker.at(world.home)
    study, twice = {"s": world.study_id}, []

    def count(sql: str) -> int:
        with broker.database.read() as connection:
            return int(connection.execute(text(sql), study).scalar_one())

    wanted = {
        "runs": (count("SELECT count(*) FROM run WHERE study_id = :s"), len(told.runs)),
        "releases": (
            count("SELECT count(*) FROM job WHERE study_id = :s AND kind = 'release'"),
            len(told.releases),
        ),
        "crosswalks": (count("SELECT count(*) FROM item WHERE study_id = :s"), len(told.releases)),
        "records": (
            count("SELECT count(*) FROM membership WHERE study_id = :s"),
            PEOPLE * len(world.signed.study.party),
        ),
        "persons": (count("SELECT count(*) FROM person WHERE study_id = :s"), persons),
    }
    twice += [f"{name}: {n} of {most}" for name, (n, most) in wanted.items() if n > most]
    log = broker.oversight.audit_page(after=0, limit=1_000_000)
    broker.database.close()
    entries = [json.loads(row.entry) for row in log]
    once = {"dataset announced", "dataset completed", "release queued", "release made"}
    once |= {"run queued", "run started", "run done"}
    named = Counter((e["action"], e["subject"]) for e in entries if e["action"] in once)
    twice += [f"audit: {what[0]} of {what[1]}, {n} times" for what, n in named.items() if n > 1]
    for job_id in told.releases.values():
        twice += _twice_in_crosswalk(world, job_id)
    return twice


def _twice_in_crosswalk(world: World, job_id: str) -> list[str]:
    """An ID stands for one person; a record of the enclave has one ID, and each has one."""
    enclave = world.actor("enclave")
    asked = enclave.get(f"{world.path}/inbox", purpose=CROSSWALK, subject=job_id)
    [item] = asked.raise_for_status().json()["items"]
    sealed = enclave.get(f"{world.path}/inbox/{item['item_id']}").raise_for_status().content
    opened = unseal(
        sealed,
        sender=world.signed.pin(BROKER),
        recipient=world.identities["enclave"],
        context=Context(world.study_id, BROKER, "enclave", CROSSWALK, (job_id,)),
    )
    table = idtables.unpack(opened, idtables.CROSSWALK)
    names, ids = (
        [row.tobytes() for row in table[column]]
        for column in ("record_pseudonym", "cross_commons_id")
    )
    # The made-up people of one party are all different ones.
    faults = [f"{job_id}: {len(names)} records"] if len(names) != PEOPLE else []
    if len(set(names)) != len(names):
        faults.append(f"{job_id}: a record twice")
    if len(set(ids)) != len(ids):
        faults.append(f"{job_id}: an ID of two records")
    return faults
