"""
Match keys: exact keyed tokens over combinations of fields, and what guards them.

    keys, missing = MatchKeyEncoder(rule, study, key).encode({ref: Spelt.of(column), ...})
    keys, collisions = null_repeats(keys, groups)

A key is equal wherever its fields are, under any study key, so keys that repeat inside a
dataset would show the broker its structure. Hence duplicates are grouped first, and a key
that still occurs in two groups is nulled; only a rounded count of such collisions is attested,
because the matching model needs that chance. Figures: docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from linkage.encoding.duplicates import repeats
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.encoding.spelt import Spelt
from linkage.encoding.tags import Tagger
from linkage.encoding.whys import COLLISION_ROUNDING
from linkage.errors import EncodingRefused
from linkage.records import MATCH_KEY_BYTES, FixedColumn
from linkage.study import MatchKeyRule, StudyConfig


class MatchKeyEncoder:
    """
    One match-key rule of a study, for batch after batch.

    refs: the rule's fields and transforms, whose columns `encode` takes.
    """

    def __init__(self, rule: MatchKeyRule, study: StudyConfig, key: StudyKey) -> None:
        self.refs = rule.fields
        self._name = np.frombuffer(length_prefixed(rule.id), np.uint8)
        self._tagger = Tagger(key.derive(study, "match-keys"))

    def encode(self, values: Mapping[str, Spelt]) -> tuple[FixedColumn, dict[str, int]]:
        """
        Return one match key a record and how many are null, by reason.

        values: by ref, normalised and transformed. A record that lacks a field of the rule has a
        null, counted as "missing:<field>" for the first such field in the rule's order.
        """
        columns = [values[ref] for ref in self.refs]
        n = len(columns[0].codes)
        if any(len(one.codes) != n for one in columns):
            raise EncodingRefused("a match-key rule needs columns of one length")
        reasons: dict[str, int] = {}
        present = np.ones(n, dtype=bool)
        for ref, column in zip(self.refs, columns, strict=True):
            before = int(np.count_nonzero(present))
            present &= column.present
            if lost := before - int(np.count_nonzero(present)):
                reasons[f"missing:{ref}"] = lost
        rows = np.flatnonzero(present)
        found = self._tagger.tags_of(self._name, columns, rows)
        if len(rows) < n:
            tags, found = found, np.zeros((n, MATCH_KEY_BYTES), np.uint8)
            found[rows] = tags
        return FixedColumn(found, present), reasons


def null_repeats(column: FixedColumn, groups: npt.NDArray[np.uint32]) -> tuple[FixedColumn, int]:
    """
    Null each key that occurs in two or more groups; equal keys inside one group stay.

    groups: uint32[N], equal for the records of one person.
    Returns the column and the attested collision count: the number of values held by exactly
    two groups, rounded up to a multiple of 5, so 0 stays 0.
    """
    rows = np.flatnonzero(column.present)
    if len(groups) != len(column.present):
        raise EncodingRefused("groups and match keys differ in length")
    repeated, collisions = repeats(column.values[rows], groups[rows])
    present = column.present.copy()
    present[rows[repeated]] = False
    values = np.where(present[:, None], column.values, np.uint8(0))
    return FixedColumn(values, present), -(-collisions // COLLISION_ROUNDING) * COLLISION_ROUNDING
