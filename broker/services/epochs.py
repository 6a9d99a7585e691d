"""
Epochs of a study: the custodian makes a new key and signs the study again, one epoch on.

Encodings of two epochs never compare, so every party uploads anew; record pseudonyms stay, and with
them every record's person.
"""

from __future__ import annotations

import json

from broker.registered import RegisteredStudy
from linkage.errors import Conflict
from linkage.messages import CUSTODIAN
from linkage.signed_study import SignedStudy
from linkage.study import StudyConfig


def next_epoch(
    old: RegisteredStudy, new: SignedStudy, *, allow_changed_parties: bool
) -> dict[str, str | int]:
    """
    Check that `new` is a later epoch of `old`; return what the audit log says of the change.

    Raises Conflict for the same or an earlier epoch, another custodian, a rehearsal in place of a
    real study or the other way round, an uploader of another party, or other parties than before
    unless they are allowed.
    """
    config, before, after = new.study, old.config.study.epoch, new.study.study.epoch
    if after <= before:
        raise Conflict(
            f"another signed study has this id: it is of epoch {before}, this one of {after}",
            hint="to rotate the key, raise epoch in the study file and sign it again; give another"
            " study another id",
        )
    if new.pin(CUSTODIAN) != old.pin(CUSTODIAN):
        raise Conflict(
            "the new epoch is signed by another custodian",
            hint="the custodian of the earlier epochs signs it; a new custodian signs a new study",
        )
    if new.rehearsal != old.signed.rehearsal:
        raise Conflict(
            "a rehearsal and a real study do not follow each other",
            hint="give the real study an id of its own",
        )
    changed = _parties(config) != _parties(old.config)
    if changed and not allow_changed_parties:
        raise Conflict(
            "the new epoch has other parties or contributors than the one before",
            hint="if all have agreed: linkage-broker study register --allow-changed-parties",
        )
    # Records of earlier runs stay with who uploaded them: moved, they would be told to a stranger.
    for uploader in set(config.uploaders) & set(old.config.uploaders):
        left, right = (one.party_of_uploader(uploader).id for one in (old.config, config))
        if left != right:
            raise Conflict(
                f"the new epoch moves {uploader!r} from {left!r} to {right!r}",
                hint="give it another id there",
            )
    both = set(new.pins) & set(old.signed.pins)
    renewed = sorted(name for name in both if new.pins[name] != old.signed.pins[name])
    return {
        "epoch": after,
        "after epoch": before,
        "parties": "changed" if changed else "same",
        "new keys of": ", ".join(renewed) or "nobody",
        **_settings(old.config, config),
    }


def _settings(old: StudyConfig, new: StudyConfig) -> dict[str, str]:
    """
    Return what else is otherwise in the study file: settings of [study] with both values, as JSON,
    and the names of other tables, for whoever reads the audit log without the files.
    """
    before, after = (one.study.model_dump(mode="json") for one in (old, new))
    said = {
        f"study.{name}": f"{json.dumps(before[name])} -> {json.dumps(after[name])}"
        for name in after
        if name != "epoch" and before[name] != after[name]
    }
    tables: list[str] = []
    for noun in ("party", "clk", "match_key"):
        left = {one.id: one for one in getattr(old, noun)}
        right = {one.id: one for one in getattr(new, noun)}
        names = [*right, *(name for name in left if name not in right)]
        tables += [f"{noun} {name}" for name in names if left.get(name) != right.get(name)]
    if old.second_look != new.second_look:
        tables.append("second_look")
    return said | ({"changed tables": ", ".join(tables)} if tables else {})


def _parties(config: StudyConfig) -> dict[str, tuple[str, frozenset[str]]]:
    return {party.id: (party.kind, frozenset(party.contributors)) for party in config.party}
