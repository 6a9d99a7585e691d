"""A study with strata, and datasets whose records bear marks, as sites draw them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from linkage.records import EncodedRecords
from linkage.strata import attested
from sites.strata import Response
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import STUDY, World

MARKED = (
    STUDY
    + """
[[strata]]
id = "sex"
groups = ["female", "male"]
epsilon = 2.0

[[strata]]
id = "race"
groups = ["asian", "black or african american", "white"]
epsilon = 2.0
"""
)
GroupOf = Callable[[np.ndarray], Sequence[np.ndarray]]
"""From people, who are numbers, to their groups of each variable, from 1."""


def with_marks(
    records: EncodedRecords, groups: Sequence[np.ndarray], world: World
) -> EncodedRecords:
    """Return records that bear marks drawn for these groups."""
    strata = world.signed.study.strata
    drawn = [
        Response(one).draw(of.astype(np.uint8)) for one, of in zip(strata, groups, strict=True)
    ]
    return replace(records, strata=np.stack(drawn, axis=1))


def marked_packages(
    world: World,
    people: Mapping[str, range],
    group_of: GroupOf,
    *,
    dataset: int = 1,
    plain: Sequence[str] = (),
    **changed: Any,
) -> dict[str, Package]:
    """Return a package of each of these uploaders; `plain` ones send no marks."""
    made = {}
    for uploader, numbers in people.items():
        records, said = encoded(world.signed, uploader, numbers), dict(changed)
        if uploader not in plain:
            # `encoded` puts people in the order of their pseudonyms.
            order = _order(world, uploader, numbers)
            records = with_marks(records, group_of(order), world)
            said = {"strata": attested(world.signed.study.strata)} | changed
        sender = world.identities[uploader]
        made[uploader] = pack(world.signed, sender, records, dataset=dataset, **said)
    return made


def _order(world: World, uploader: str, numbers: range) -> np.ndarray:
    said = f"pseudonym/{world.study_id}/{uploader}/{{}}"
    names = {n: hashlib.sha256(said.format(n).encode()).digest()[:16] for n in numbers}
    return np.array(sorted(numbers, key=names.__getitem__))
