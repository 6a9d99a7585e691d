"""
Fillers: random bytes in the place of null match keys, so that what is missing does not show.

    keys = Fillers(study, key, secret).fill(keys, leaders_of(pseudonyms, groups))

Which rules give a record no key, because a field is missing or because another record has the same
key, says much of the record, and tells records apart that match keys alone would not
(docs/threat-model.md). So a study may fill these nulls, after repeated keys are nulled. A filler is
HMAC-SHA-256 under a key that only the contributor can make, of the rule and the record: to whoever
lacks the contributor's secret it is a random match key that no other record has. It is made anew
whenever match keys are, by another study key, schema or epoch, and only then: one that outlived
them, or changed without them, would be known by it.

Records of one group share their fillers as they share their keys; the group is named by its first
pseudonym. Remaining weaknesses: where members of a group have different keys under a rule, one of
them may be a filler; and a record whose group gets or loses its first member between two dataset
versions changes its fillers and not its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from linkage.delta import sorting
from linkage.encoding.duplicates import Groups
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.encoding.tags import TAG_BYTES, Tagger
from linkage.pseudonyms import ContributorSecret
from linkage.records import MATCH_KEY_BYTES, Bytes2D, FixedColumn
from linkage.schema import NULL_KEYS_FILLED
from linkage.study import StudyConfig


class Fillers:
    """The fillers of one contributor in one study. Refuses pickling, for it holds a key."""

    def __init__(self, study: StudyConfig, key: StudyKey, secret: ContributorSecret) -> None:
        # The key-check value stands for all that match keys depend on: study key, study ID,
        # schema hash and epoch.
        self._tagger = Tagger(secret.derive(f"{NULL_KEYS_FILLED} {key.key_check(study)}"))

    def fill(self, keys: Mapping[str, FixedColumn], leaders: Bytes2D) -> dict[str, FixedColumn]:
        """
        Return match keys by rule, nothing null, for a study with `fills_null_keys`.

        leaders: uint8[N, 16], the pseudonym that names the group of each of the N records.
        """
        return {rule: self._filled(rule, column, leaders) for rule, column in keys.items()}

    def _filled(self, rule: str, column: FixedColumn, leaders: Bytes2D) -> FixedColumn:
        rows = np.flatnonzero(~column.present)
        prefix = np.frombuffer(length_prefixed(rule), np.uint8)
        messages = np.empty((len(rows), len(prefix) + leaders.shape[1]), np.uint8)
        messages[:, : len(prefix)] = prefix
        messages[:, len(prefix) :] = leaders[rows]
        starts = np.arange(len(rows) + 1, dtype=np.int64) * messages.shape[1]
        values = column.values.copy()
        values[rows] = self._tagger.tags(messages.ravel(), starts)
        return FixedColumn(values, np.ones(len(values), dtype=bool))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Fillers hold a key and refuse pickling and copying")


assert TAG_BYTES == MATCH_KEY_BYTES  # noqa: S101 (a filler must have the width of a match key)


def leaders_of(pseudonyms: Bytes2D, groups: Groups) -> Bytes2D:
    """
    Return the pseudonym that names each record's group, the smallest of its members: uint8[N, 16].

    pseudonyms: uint8[N, 16]. groups: uint32[N], equal for the records of one group, each the
    number of a row.
    """
    order = sorting(pseudonyms)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = np.full(len(order), len(order), np.int64)
    np.minimum.at(first, groups, place)
    return pseudonyms[order[first[groups]]]
