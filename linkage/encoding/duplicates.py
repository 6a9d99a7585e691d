"""
Duplicates inside one dataset, grouped in clear text at the site, and keys that still repeat.

    groups = group_duplicates(columns)
    repeated, pairs = repeats(keys, groups)

Records are one person where they agree exactly on the fields of a grouping rule; agreement is
passed on, so three records may be one person by two rules. The rules are strict, because two
people in one group can be linked only once. Remaining weakness: a duplicate with another
spelling in all of these is not found, and costs the matching model some of its calibration.

A streaming tokenizer works on `digests`, 8 bytes a record and rule; equality of digests is
that of the values, but for one chance in 2^64 a pair.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from linkage.encoding.columns import Coded
from linkage.encoding.fields import apply
from linkage.encoding.keys import length_prefixed
from linkage.encoding.spelt import Spelt
from linkage.encoding.tags import Tagger
from linkage.errors import EncodingRefused
from linkage.study import parse_field

IDENTIFYING = ("date_of_birth", "ssn", "phone", "email")
"""Beside both names, one of these must be present before equal records are one person."""

# An SSN alone is not enough: families lend it, and fathers pass on both names.
_EXACT = (
    ("ssn", "date_of_birth", "first_name:3"),
    ("ssn", "first_name", "middle_name:initial", "last_name"),
    ("first_name", "last_name", "date_of_birth", "phone"),
    ("first_name", "last_name", "date_of_birth", "email"),
    ("first_name", "last_name", "date_of_birth", "street"),
)

Digests = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Groups = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class GroupingRule:
    """
    Fields (or `field:transform`) that must all be equal. all_fields: the rule of wholly equal
    records, where missing equals missing, but names and one of IDENTIFYING are present.
    """

    fields: tuple[str, ...]
    all_fields: bool = False


def grouping_rules(fields: Sequence[str]) -> tuple[GroupingRule, ...]:
    """Return the rules for a party that holds `fields`; none without both names."""
    held = set(fields)
    found = []
    if {"first_name", "last_name"} <= held and held & set(IDENTIFYING):
        found.append(GroupingRule(tuple(sorted(held)), all_fields=True))
    found += [
        GroupingRule(refs) for refs in _EXACT if {parse_field(ref)[0] for ref in refs} <= held
    ]
    return tuple(found)


def digests(
    columns: Mapping[str, Coded], rules: Sequence[GroupingRule], secret: bytes
) -> tuple[Digests, Digests]:
    """
    Return uint64[N, G]: equal where the records agree under the rule, 0 where it says nothing;
    and uint64[N]: equal where all values are equal, nulls among them.

    columns: normalised, all of length N. secret: 16 bytes or more, the same for all batches of
    a dataset. The digest of a record is the XOR of an HMAC-SHA-256 of each of its fields, cut to
    64 bits (Zobrist hashing), so that each different value is hashed once.
    """
    tagger = Tagger(hmac.digest(secret, b"digests", "sha256"))
    n = len(next(iter(columns.values()))) if columns else 0
    if any(len(column) != n for column in columns.values()):
        raise EncodingRefused("columns differ in length")
    made = np.zeros((n, len(rules)), np.uint64)
    hashed = {
        (field, id(column)): _hashed(field, column, tagger) for field, column in columns.items()
    }
    contents = np.bitwise_xor.reduce([*hashed.values(), np.zeros(n, np.uint64)])
    for place, rule in enumerate(rules):
        says = np.ones(n, dtype=bool)
        for ref in rule.fields:
            column = _column(columns, ref, rule)
            known = ref, id(column)  # the rules share what no transform changes
            if known not in hashed:
                hashed[known] = _hashed(ref, column, tagger)
            made[:, place] ^= hashed[known]
            if not rule.all_fields:
                says &= column.present()
        if rule.all_fields:
            says = _tells_people_apart(columns)
        made[made[:, place] == 0, place] = 1
        made[~says, place] = 0
    return made, contents


def unite(groups: Groups, digest: Digests, rows: Rows) -> None:
    """
    Join, in place, the groups of rows with equal digests.

    groups: uint32[N], each row's group is a row of it; start with `arange(N)`. digest, rows: n
    parallel digests and row numbers, zeros among them left alone.
    """
    order = np.argsort(digest)
    equal = (digest[order][1:] == digest[order][:-1]) & (digest[order][1:] != 0)
    left, right = rows[order][:-1][equal], rows[order][1:][equal]
    _join(groups, left, right)


def settle(groups: Groups) -> None:
    """Make every row name the first row of its group, in place."""
    _flatten(groups)


def group_duplicates(columns: Mapping[str, Coded]) -> Groups:
    """Group a whole dataset: uint32[N], the row number of the first member."""
    rules = grouping_rules(sorted(columns))
    n = len(next(iter(columns.values()))) if columns else 0
    groups = np.arange(n, dtype=np.uint32)
    found, _ = digests(columns, rules, bytes(16))
    for place in range(len(rules)):
        unite(groups, found[:, place], np.arange(n, dtype=np.int64))
    settle(groups)
    return groups


def group_duplicates_reference(columns: Mapping[str, Sequence[str]]) -> list[int]:
    """Return the same as `group_duplicates` of texts by field, value by value."""
    coded = {field: Coded.of(list(texts)) for field, texts in columns.items()}
    n = len(next(iter(columns.values()))) if columns else 0
    group = list(range(n))
    for rule in grouping_rules(sorted(columns)):
        parts = [_column(coded, ref, rule).texts() for ref in rule.fields]
        first: dict[tuple[str, ...], int] = {}
        for row, record in enumerate(zip(*parts, strict=True)):
            one_of = any(columns[f][row] for f in IDENTIFYING if f in columns)
            named = rule.all_fields and columns["first_name"][row] and columns["last_name"][row]
            if (named and one_of) if rule.all_fields else all(record):
                other = first.setdefault(record, row)
                low, high = sorted((group[other], group[row]))
                group = [low if one == high else one for one in group]
    return group


def equal_ones(digest: Digests) -> npt.NDArray[np.bool_]:
    """
    Return which of n uniform numbers have an equal, bool[n].

    Few have: a table of places finds them in a tenth of the time that ordering all would take.
    """
    size = 1 << max(4, (2 * len(digest)).bit_length())
    found: npt.NDArray[np.bool_] = _equal_ones(digest, np.full(size, -1, np.int32))
    return found


def repeats(keys: npt.NDArray[np.uint8], groups: Groups) -> tuple[npt.NDArray[np.bool_], int]:
    """
    Return which of n keys occur in two or more groups, bool[n], and how many values do in two.

    keys: uint8[n, 16], none null. groups: uint32[n]. The number is exact: round it before it is
    told to anybody.
    """
    found = np.zeros(len(keys), dtype=bool)
    halves = np.ascontiguousarray(keys).view(np.uint64).reshape(len(keys), 2)
    rows = np.flatnonzero(equal_ones(np.ascontiguousarray(halves[:, 0])))
    rows = rows[np.lexsort((groups[rows], halves[rows, 1], halves[rows, 0]))]
    ordered, group = halves[rows], groups[rows]
    new_value = np.ones(len(rows), dtype=bool)
    new_value[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    new_holder = new_value.copy()
    new_holder[1:] |= group[1:] != group[:-1]
    value = np.cumsum(new_value) - 1
    holders = np.bincount(value[new_holder], minlength=int(new_value.sum()))
    found[rows] = holders[value] > 1
    return found, int((holders == 2).sum())


def _column(columns: Mapping[str, Coded], ref: str, rule: GroupingRule) -> Coded:
    # Partial values too (the last four of an SSN) must be equal in records that are equal in all.
    return columns[ref] if rule.all_fields else apply(ref, columns[parse_field(ref)[0]])


def _tells_people_apart(columns: Mapping[str, Coded]) -> npt.NDArray[np.bool_]:
    named = columns["first_name"].present() & columns["last_name"].present()
    identified = np.zeros(len(named), dtype=bool)
    for field in IDENTIFYING:
        if field in columns:
            identified |= columns[field].present()
    return named & identified


def _hashed(ref: str, column: Coded, tagger: Tagger) -> Digests:
    # The field is hashed with its value, or a first name would cancel an equal last name.
    name = np.frombuffer(length_prefixed(ref), np.uint8)
    tags = tagger.tags_of(name, [Spelt.of_each(column)], np.arange(column.size))
    return np.take(tags.view("<u8")[:, 0], column.codes)


@numba.njit(nogil=True, cache=True)
def _equal_ones(digest, table):  # type: ignore[no-untyped-def]
    """table: int32[S], all -1; S a power of two, larger than n. Open addressing, step one."""
    last = np.uint64(len(table) - 1)
    found = np.zeros(len(digest), np.bool_)
    for row in range(len(digest)):
        place = digest[row] & last
        while table[place] >= 0:
            other = table[place]
            if digest[other] == digest[row]:
                found[row] = found[other] = True
                break
            place = (place + np.uint64(1)) & last
        else:
            table[place] = row
    return found


@numba.njit(nogil=True, cache=True)
def _root(groups, row):  # type: ignore[no-untyped-def]
    while groups[row] != row:
        groups[row] = groups[groups[row]]
        row = groups[row]
    return row


@numba.njit(nogil=True, cache=True)
def _join(groups, left, right):  # type: ignore[no-untyped-def]
    for i in range(len(left)):
        a, b = _root(groups, left[i]), _root(groups, right[i])
        if a < b:
            groups[b] = a
        elif b < a:
            groups[a] = b


@numba.njit(nogil=True, cache=True)
def _flatten(groups):  # type: ignore[no-untyped-def]
    for row in range(len(groups)):
        groups[row] = _root(groups, row)
