"""
Match keys: exact keyed tokens over combinations of fields, and what guards them.

    keys, missing = encode_match_keys(columns, rule, study, key)
    keys, collisions = null_repeats(keys, group_duplicates(columns))

A key is equal wherever its fields are, under any study key, so keys that repeat inside a
dataset would show the broker its structure. Hence duplicates are grouped first, and a key
that still occurs in two groups is nulled; only a rounded count of such collisions is attested,
because the matching model needs that chance. Figures: docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from linkage.encoding import fields
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.errors import EncodingRefused
from linkage.records import MATCH_KEY_BYTES, FixedColumn
from linkage.study import MatchKeyRule, StudyConfig, parse_field

COLLISION_ROUNDING = 5
"""Collision counts are attested in steps of this, rounded up, so that no one pair shows."""

IDENTIFYING = ("date_of_birth", "ssn", "phone", "email")
"""Beside both names, one of these must be present before equal records are one person."""


def encode_match_keys(
    columns: Mapping[str, Sequence[str]], rule: MatchKeyRule, study: StudyConfig, key: StudyKey
) -> tuple[FixedColumn, dict[str, int]]:
    """
    Return one match key a record and how many are null, by reason.

    columns: normalised values by field, "" where missing. A record that lacks a field of the
    rule has a null, counted as "missing:<field>" for the first such field in the rule's order.
    """
    values = [fields.apply(ref, columns[parse_field(ref)[0]]) for ref in rule.fields]
    n = len(values[0])
    if any(len(one) != n for one in values):
        raise EncodingRefused("a match-key rule needs columns of one length")
    reasons: dict[str, int] = {}
    present = np.ones(n, dtype=bool)
    for ref, column in zip(rule.fields, values, strict=True):
        empty = np.fromiter((not value for value in column), dtype=bool, count=n)
        if lost := int((present & empty).sum()):
            reasons[f"missing:{ref}"] = lost
        present &= ~empty
    messages = map(b"".join, zip(*(_prefixed(column) for column in values), strict=True))
    start = HMAC(key.derive(study, "match-keys"), hashes.SHA256())
    start.update(length_prefixed(rule.id))
    found = np.zeros((n, MATCH_KEY_BYTES), np.uint8)
    tags = b"".join(_tag(start, message) for message in compress(messages, present.tolist()))
    found[present] = np.frombuffer(tags, np.uint8).reshape(-1, MATCH_KEY_BYTES)
    return FixedColumn(found, present), reasons


def _tag(start: HMAC, message: bytes) -> bytes:
    mac = start.copy()
    mac.update(message)
    return mac.finalize()[:MATCH_KEY_BYTES]


def _prefixed(column: Sequence[str]) -> Iterator[bytes]:
    known = {value: length_prefixed(value) for value in set(column)}
    return map(known.__getitem__, column)


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
    if not rows.size:
        return column, 0
    _, number = np.unique(
        np.ascontiguousarray(column.values[rows]).view(f"V{column.values.shape[1]}").ravel(),
        return_inverse=True,
    )
    pairs = np.unique(number.astype(np.uint64) << np.uint64(32) | groups[rows])
    holders = np.bincount((pairs >> np.uint64(32)).astype(np.int64))
    present = column.present.copy()
    present[rows[holders[number] > 1]] = False
    values = np.where(present[:, None], column.values, np.uint8(0))
    collisions = int((holders == 2).sum())
    return FixedColumn(values, present), -(-collisions // COLLISION_ROUNDING) * COLLISION_ROUNDING


def group_duplicates(columns: Mapping[str, Sequence[str]]) -> npt.NDArray[np.uint32]:
    """
    Group a dataset's duplicates in clear text: uint32[N], the row number of the first member.

    Conservative: records are one person only if every normalised field is equal (missing
    equals missing), both names are present, and so is one of date_of_birth, ssn, phone, email.
    """
    names = sorted(columns)
    n = len(columns[names[0]]) if names else 0
    if any(len(columns[name]) != n for name in names):
        raise EncodingRefused("columns differ in length")
    groups = np.arange(n, dtype=np.uint32)
    if not {"first_name", "last_name"} <= set(names):
        return groups
    needed = [names.index("first_name"), names.index("last_name")]
    one_of = [names.index(name) for name in IDENTIFYING if name in names]
    first: dict[tuple[str, ...], int] = {}
    for row, record in enumerate(zip(*(columns[name] for name in names), strict=True)):
        if all(record[i] for i in needed) and any(record[i] for i in one_of):
            groups[row] = first.setdefault(record, row)
    return groups
