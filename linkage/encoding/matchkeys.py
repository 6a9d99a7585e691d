"""
Match keys: exact keyed tokens over combinations of fields, and what guards them.

    keys, missing = MatchKeyEncoder(rule, study, key).encode(values)
    keys, collisions = null_repeats(keys, groups)

A key is equal wherever its fields are, under any study key, so keys that repeat inside a
dataset would show the broker its structure. Hence duplicates are grouped first, and a key
that still occurs in two groups is nulled; only a rounded count of such collisions is attested,
because the matching model needs that chance. Figures: docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import compress

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import repeats
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.errors import EncodingRefused
from linkage.records import MATCH_KEY_BYTES, FixedColumn
from linkage.study import MatchKeyRule, StudyConfig

COLLISION_ROUNDING = 5
"""Collision counts are attested in steps of this, rounded up, so that no one pair shows."""


class MatchKeyEncoder:
    """
    One match-key rule of a study, for batch after batch.

    refs: the rule's fields and transforms, whose columns `encode` takes.
    """

    def __init__(self, rule: MatchKeyRule, study: StudyConfig, key: StudyKey) -> None:
        self.refs = rule.fields
        self._start = HMAC(key.derive(study, "match-keys"), hashes.SHA256())
        self._start.update(length_prefixed(rule.id))

    def encode(self, values: Mapping[str, Coded]) -> tuple[FixedColumn, dict[str, int]]:
        """
        Return one match key a record and how many are null, by reason.

        values: by ref, normalised and transformed. A record that lacks a field of the rule has a
        null, counted as "missing:<field>" for the first such field in the rule's order.
        """
        columns = [values[ref] for ref in self.refs]
        n = len(columns[0])
        if any(len(one) != n for one in columns):
            raise EncodingRefused("a match-key rule needs columns of one length")
        reasons: dict[str, int] = {}
        present = np.ones(n, dtype=bool)
        for ref, column in zip(self.refs, columns, strict=True):
            there = column.present()
            if lost := int((present & ~there).sum()):
                reasons[f"missing:{ref}"] = lost
            present &= there
        messages = map(b"".join, zip(*(_prefixed(column) for column in columns), strict=True))
        found = np.zeros((n, MATCH_KEY_BYTES), np.uint8)
        tags = b"".join(_tag(self._start, one) for one in compress(messages, present.tolist()))
        found[present] = np.frombuffer(tags, np.uint8).reshape(-1, MATCH_KEY_BYTES)
        return FixedColumn(found, present), reasons


def _tag(start: HMAC, message: bytes) -> bytes:
    mac = start.copy()
    mac.update(message)
    return mac.finalize()[:MATCH_KEY_BYTES]


def _prefixed(column: Coded) -> Iterator[bytes]:
    known = [length_prefixed(value) for value in column.values]
    return map(known.__getitem__, column.codes.tolist())


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
