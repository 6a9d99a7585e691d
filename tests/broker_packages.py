"""Made-up encodings and the packages that a party uploads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from linkage.messages import BROKER, DATASET_PART, Manifest, Part
from linkage.records import EncodedRecords, FixedColumn, to_arrow
from linkage.schema import NORMALISATION_VERSION
from linkage.sealing import Context, Identity, seal
from linkage.signed_study import SignedStudy


@dataclass(slots=True)
class Package:
    """What a party uploads: a manifest and its sealed parts, by number from 1."""

    manifest: Manifest
    parts: list[bytes]


def encoded(
    signed: SignedStudy, party: str, people: Sequence[int], *, seed: int = 1
) -> EncodedRecords:
    """
    Return made-up encodings of people, who are numbers: the same person's CLKs at two parties
    agree on most bits, and most of its match keys are equal; the others are null, or made up where
    the study fills nulls. party: who uploads.
    """
    study = signed.study
    owner = study.party_of_uploader(party)
    noise = np.random.default_rng([seed, sum(party.encode())])
    n = len(people)

    def text(*words: object) -> bytes:
        return hashlib.sha256("/".join(map(str, words)).encode()).digest()[:16]

    names = [text("pseudonym", study.study.id, party, p) for p in people]
    order = sorted(range(n), key=lambda i: names[i])
    clks, keys = {}, {}
    for clk in study.clks_of(owner):
        bits = np.stack(
            [np.random.default_rng([7, people[i]]).random(clk.length) < 0.4 for i in order]
        )
        flipped = bits ^ (noise.random(bits.shape) < 0.1)
        clks[clk.id] = FixedColumn(np.packbits(flipped, axis=1), np.ones(n, dtype=bool))
    for rule in study.rules_of(owner):
        made = b"".join(text("key", rule.id, people[i]) for i in order)
        there = noise.random(n) < 0.8
        other = b"".join(text("filler", party, rule.id, people[i]) for i in order)
        real, filler = (np.frombuffer(one, np.uint8).reshape(n, 16) for one in (made, other))
        if study.study.fills_nulls:
            keys[rule.id] = FixedColumn(np.where(there[:, None], real, filler), there | True)
        else:
            keys[rule.id] = FixedColumn(real * there[:, None].astype(np.uint8), there)
    pseudonyms = np.frombuffer(b"".join(names[i] for i in order), np.uint8).reshape(n, 16)
    return EncodedRecords(pseudonyms.copy(), np.arange(n, dtype=np.uint32), clks, keys)


def pack(
    signed: SignedStudy,
    sender: Identity,
    rows: EncodedRecords,
    *,
    dataset: int = 1,
    parts: int = 2,
    **changed: Any,
) -> Package:
    """Seal and sign records as a site does; `changed` replaces fields of the manifest."""
    study, uploader = signed.study, sender.name
    who = study.party_of_uploader(uploader)
    batch = to_arrow(rows, study)
    cuts = np.linspace(0, batch.num_rows, parts + 1).astype(int)
    sealed, listed = [], []
    for number in range(1, parts + 1):
        piece = batch.slice(cuts[number - 1], cuts[number] - cuts[number - 1])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, piece.schema) as writer:
            writer.write_batch(piece)
        details = (str(dataset), str(number), str(parts))
        context = Context(study.study.id, uploader, BROKER, DATASET_PART, details)
        data = seal(
            bytes(sink.getvalue()), sender=sender, recipient=signed.pin(BROKER), context=context
        )
        sealed.append(data)
        digest = hashlib.sha256(data).hexdigest()
        listed.append(Part(number=number, size=len(data), records=piece.num_rows, digest=digest))
    fields: dict[str, Any] = {
        "study_id": study.study.id,
        "study_hash": signed.study_hash,
        "schema_hash": signed.schema_hash,
        "party": who.id,
        "contributor": uploader if who.contributors else "",
        "dataset": dataset,
        "epoch": study.study.epoch,
        "normalisation": NORMALISATION_VERSION,
        "key_check": signed.key_check,
        "software": "test",
        "records": len(rows),
        "groups": len(np.unique(rows.groups)),
        "densities": {clk.id: 0.32 for clk in study.clks_of(who)},
        "null_reasons": {},
        "collisions": {rule.id: 0 for rule in study.rules_of(who)},
        "parts": tuple(listed),
    } | changed
    return Package(Manifest(**fields).sign(sender), sealed)
