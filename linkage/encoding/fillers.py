"""
Fillers in the place of nulls, so that what is missing does not show.

    fillers = Fillers(study, key, secret, encoder.clks)
    records = fillers.fill(records, leaders_of(pseudonyms, groups))

Which match keys and CLKs a record lacks, because a field is missing or because another record has
the same key, tells records apart that all else would not (docs/threat-model.md). So a study may
fill these nulls, after repeated keys are nulled:

    match key   HMAC-SHA-256 of rule and record, under a key that only the contributor can make: to
                whoever lacks its secret a random match key that no other record has
    CLK         that of a made-up person, whose fields the same HMAC draws one by one from POOL
                simulated people. Random bits would not do: real CLKs resemble each other a little,
                and in a large dataset a row without such resemblances stands out

Fillers are made anew whenever encodings are, by another study key, schema or epoch, and only then:
one that outlived its neighbours, or changed without them, would be known by it.

Records of one group share their fillers as they share their encodings; the group is named by its
first pseudonym. Remaining weaknesses: where members of a group differ, one may have a filler; a
record whose group gets or loses its first member between two dataset versions changes its fillers
alone; and made-up people have no relatives, so a made-up CLK resembles others a little less than
most real ones do (docs/formats-encoding.md has the figures).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from linkage.delta import sorting
from linkage.encoding import fields
from linkage.encoding.clk import ClkEncoder
from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import Groups
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.encoding.tags import TAG_BYTES, Tagger
from linkage.evaluation.attacks.crowds import simulated
from linkage.pseudonyms import ContributorSecret
from linkage.records import MATCH_KEY_BYTES, Bytes2D, EncodedRecords, FixedColumn
from linkage.schema import NULLS_FILLED
from linkage.study import StudyConfig, parse_field

POOL = 4096
"""Simulated people whose values made-up ones are mixed of. Size, seed and people are part of
what the label NULLS_FILLED stands for."""
_POOL_SEED = 1

Texts = npt.NDArray[np.object_]

assert TAG_BYTES == MATCH_KEY_BYTES  # noqa: S101 (a filler has the width of a match key)


class Fillers:
    """
    The fillers of one contributor in one study. Refuses pickling, for it holds keys.

    clks: by CLK id, what encodes the CLKs of the contributor's party. people: what `pool` gives for
    `fields_of(clks)`, where it is at hand; else it is made when a CLK is missing.
    """

    def __init__(
        self,
        study: StudyConfig,
        key: StudyKey,
        secret: ContributorSecret,
        clks: Mapping[str, ClkEncoder],
        people: Mapping[str, Texts] | None = None,
    ) -> None:
        # The key-check value stands for all that encodings depend on: study key, study ID,
        # schema hash and epoch.
        self._tagger = Tagger(secret.derive(f"{NULLS_FILLED} {key.key_check(study)}"))
        self._clks = clks
        self._people = people

    def fill(self, records: EncodedRecords, leaders: Bytes2D) -> EncodedRecords:
        """
        Return the records with no null, for a study with `fills_nulls`.

        leaders: uint8[N, 16], the pseudonym that names the group of each of the N records.
        """
        keys = {rule: _copy(column) for rule, column in records.match_keys.items()}
        clks = {clk: _copy(column) for clk, column in records.clks.items()}
        made = replace(records, match_keys=keys, clks=clks)
        self.fill_in(made, leaders)
        return made

    def fill_in(self, records: EncodedRecords, leaders: Bytes2D) -> None:
        """Do the same in place, in records that nobody else holds."""
        for rule, column in records.match_keys.items():
            rows = np.flatnonzero(~column.present)
            column.values[rows] = self._drawn(f"match-key:{rule}", leaders[rows])
            column.present[rows] = True
        for clk, column in records.clks.items():
            rows = np.flatnonzero(~column.present)
            if len(rows):
                column.values[rows] = self._made_up(leaders[rows], clk)
                column.present[rows] = True

    def _made_up(self, leaders: Bytes2D, clk_id: str) -> Bytes2D:
        encoder = self._clks[clk_id]
        held = {parse_field(ref)[0] for ref in encoder.refs}
        people = {
            field: made_up(field, self.pool[field], self._drawn(f"clk:{clk_id}:{field}", leaders))
            for field in sorted(held)
        }
        values = {ref: fields.apply(ref, people[parse_field(ref)[0]]) for ref in encoder.refs}
        # A made-up person has every field, but for some middle names: never too few.
        return encoder.encode(values, least=0)[0].values

    def _drawn(self, label: str, leaders: Bytes2D) -> Bytes2D:
        """Return uint8[n, 16], the HMAC of label and leader."""
        prefix = np.frombuffer(length_prefixed(label), np.uint8)
        messages = np.empty((len(leaders), len(prefix) + leaders.shape[1]), np.uint8)
        messages[:, : len(prefix)] = prefix
        messages[:, len(prefix) :] = leaders
        starts = np.arange(len(leaders) + 1, dtype=np.int64) * messages.shape[1]
        return self._tagger.tags(messages.ravel(), starts)

    @cached_property
    def pool(self) -> Mapping[str, Texts]:
        """The simulated people, by field."""
        return self._people or pool(fields_of(self._clks))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Fillers hold keys and refuse pickling and copying")


def fields_of(clks: Mapping[str, ClkEncoder]) -> list[str]:
    """Return the fields that the CLKs are made of."""
    return sorted({parse_field(ref)[0] for one in clks.values() for ref in one.refs})


def pool(held: Sequence[str]) -> dict[str, Texts]:
    """Return the values of POOL simulated people by field, normalised; always the same."""
    people = simulated(POOL, seed=_POOL_SEED, fields=held, registered=None)
    return {field: np.array(one.texts(), dtype=object) for field, one in people.columns.items()}


def made_up(field: str, texts: Texts, drawn: Bytes2D) -> Coded:
    """
    Return one value of `field` for each row of `drawn`, uint8[n, 16], 128 uniform bits.

    texts: the pool's values. Values that hardly two people share get digits of their own.
    """
    words = np.ascontiguousarray(drawn).view(">u8").astype(np.uint64)
    found = texts[words[:, 0] % np.uint64(len(texts))].tolist()
    numbers = words[:, 1].tolist()
    if field in _NUMBERED:
        pattern = re.compile(_NUMBERED[field])
        found = [
            pattern.sub(partial(_digits, n), text, count=1)
            for text, n in zip(found, numbers, strict=True)
        ]
    return Coded.of(found)


_NUMBERED = {"ssn": r"^\d{9}", "phone": r"\d{7}$", "street": r"^\d+", "email": r"\d+"}
"""By field, the digits that are drawn and not taken from the pool."""


def _digits(number: int, old: re.Match[str]) -> str:
    """Return as many digits, with no 0 and no 9 in front: no SSN and few houses begin so."""
    more = len(old[0]) - 1
    rest = f"{number // 8 % 10**more:0{more}d}" if more else ""
    return f"{number % 8 + 1}{rest}"


def _copy(column: FixedColumn) -> FixedColumn:
    return FixedColumn(column.values.copy(), column.present.copy())


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
