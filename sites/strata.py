"""
Marks of strata, drawn: which group each record is in, and by chance another one (linkage.strata).

    chosen = chosen_strata(config, source, study, party)
    marks, rest = Marker(chosen).draw(table, columns)

A mark of k groups keeps the record's group with chance p - q, and is else any of the k groups, the
record's own among them, all alike: so it is the own one with chance p and each other one with q.
The coin that decides is tossed by OpenDP, exactly and for a whole batch at once (its randomised
response over a vector of zeros bits is one independent coin a bit); OpenDP, too, says what the
mechanism's epsilon is. Which group stands in comes from the system's generator of random bytes. One
call of OpenDP a record, the same mechanism, takes 40 times as long; it is the reference
(tests/unit/sites/test_strata.py).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.columns import Coded
from linkage.encoding.fields import text_of
from linkage.errors import SourceRefused
from linkage.strata import BIRTH_DECADE, SEX, Stratum, as_group
from linkage.study import Party, StudyConfig
from sites.sources.config import SourceConfig
from sites.strata_config import StrataConfig

if TYPE_CHECKING:
    from opendp.mod import Measurement

Marks = npt.NDArray[np.uint8]

_OF_FIELD = {SEX: "sex", BIRTH_DECADE: "date_of_birth"}
_SEXES = {"f": "female", "m": "male"}
_YEARS = re.compile(r"before (?P<before>\d{4})|(?P<decade>\d{4})s|(?P<since>\d{4}) or later")
_A_HAIR = 1e-9
"""By how much less than allowed a group is kept, relatively: p and q are rounded numbers."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    A variable that this site marks. names: how its source writes groups, where otherwise. column:
    what its batches call the source's column, "" where none is read. made_of: the identifier field
    instead, or "". Neither: all records are in the group of the rest.
    """

    stratum: Stratum
    column: str = ""
    made_of: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def number(self, value: str) -> int:
        """Return the number, from 1, of the group that a value, or a year of birth, is in."""
        text = as_group(value)
        if self.made_of == "sex":
            text = _SEXES.get(text, text)
        text = self.names.get(text, text)
        if self.made_of == "date_of_birth":
            text = next((g for g in self.stratum.groups if _holds(g, value)), "")
        groups = self.stratum.groups
        return groups.index(text) + 1 if text in groups else len(self.stratum.named)

    def numbers(self, table: pa.Table, columns: Mapping[str, Coded]) -> Marks:
        """Return every record's group, uint8[n]. table: as read; columns: normalised."""
        if self.made_of:
            found = columns[self.made_of]
            # Of a date the year is enough, and there are few.
            values = [one[:4] for one in found.values]
            known = {one: self.number(one) for one in set(values)}
            return np.array([known[one] for one in values], np.uint8)[found.codes]
        rest = len(self.stratum.named)
        if not self.column:
            return np.full(table.num_rows, rest, np.uint8)
        coded = table.column(self.column).combine_chunks().dictionary_encode()
        groups = [self.number(text_of(one)) for one in coded.dictionary.to_pylist()]
        codes = coded.indices.fill_null(len(groups)).to_numpy(zero_copy_only=False)
        marks: Marks = np.array([*groups, rest], np.uint8)[codes]
        return marks


def chosen_strata(
    config: StrataConfig, source: SourceConfig, study: StudyConfig, party: Party
) -> tuple[Chosen, ...]:
    """
    Return what this site marks its records by, in the study's order; nothing where it says no.

    Raises SourceRefused where the site file does not say which column holds a variable.
    """
    if not config.send or not study.strata:
        return ()
    known = {one.id: one for one in study.strata}
    for variable, names in config.names.items():
        if variable not in known:
            raise _refused(f"strata.names.{variable}", "is no variable of the study", known)
        if wrong := sorted(set(names.values()) - set(known[variable].groups)):
            rule = f"{wrong[0]!r} is no group of it"
            raise _refused(f"strata.names.{variable}", rule, known[variable].groups)
    for variable in config.lacks:
        if variable not in known:
            raise _refused("strata.lacks", f"{variable!r} is no variable of the study", known)
    return tuple(_chosen(one, config, source, party) for one in study.strata)


def columns_of(strata: Sequence[Chosen], source: SourceConfig) -> dict[str, tuple[str, ...]]:
    """Return the source's columns to be read besides its fields, as `open_source` takes them."""
    return {one.column: source.subgroups[one.column] for one in strata if one.column}


class Marker:
    """Draws the marks of a site's variables. Make it in the process that draws."""

    def __init__(self, strata: Sequence[Chosen]) -> None:
        self._strata = [(one, _Response(one.stratum)) for one in strata]

    def draw(self, table: pa.Table, columns: Mapping[str, Coded]) -> tuple[Marks, dict[str, int]]:
        """
        Return the marks of a batch, uint8[n, V], and by variable how many of its records are in no
        group that the study names. Every call draws anew.
        """
        drawn, rest = [], {}
        for one, response in self._strata:
            groups = one.numbers(table, columns)
            drawn.append(response.draw(groups))
            rest[one.stratum.id] = int((groups == len(one.stratum.named)).sum())
        return np.stack(drawn, axis=1), rest


class _Response:
    """k-ary randomised response over one variable's groups."""

    def __init__(self, stratum: Stratum) -> None:
        # Loaded here, by the process that draws: it is large, and no chance is shared by a fork.
        from opendp.mod import enable_features

        # What was not vetted by OpenDP's own process, which none of its randomised responses has
        # been through; its proofs are published.
        enable_features("contrib")
        self._groups = len(stratum.named)
        p, q = stratum.chances
        self.kept = (p - q) * (1 - _A_HAIR)
        if self.epsilon > stratum.epsilon:
            raise AssertionError("a mark would tell more than its epsilon")

    @property
    def epsilon(self) -> float:
        """What OpenDP says of the mechanism with this chance of the own group."""
        from opendp.measurements import make_randomized_response

        own = self.kept + (1 - self.kept) / self._groups
        mechanism = make_randomized_response(list(range(self._groups)), prob=own)
        return float(mechanism.map(1))  # type: ignore[no-untyped-call]

    def draw(self, groups: Marks) -> Marks:
        """Return marks of records in these groups, uint8[n], both from 1."""
        kept = self._tossed(len(groups))
        return np.where(kept, groups, _any_of(self._groups, len(groups)) + np.uint8(1))

    def _tossed(self, count: int) -> npt.NDArray[np.bool_]:
        """Return `count` coins that each show True with the chance `kept`."""
        zeros = bytes(-(-count // 8))
        found = np.unpackbits(np.frombuffer(self._coin(zeros), np.uint8), count=count).astype(bool)
        return found if self.kept <= 0.5 else ~found

    @cached_property
    def _coin(self) -> Measurement:
        """Return what turns each bit over with the chance `kept` or, where rarer, its opposite."""
        from opendp.domains import bitvector_domain
        from opendp.measurements import make_randomized_response_bitvec
        from opendp.metrics import discrete_distance

        rarer = min(self.kept, 1 - self.kept)
        # Its f is the share of bits that are drawn anew, of which half come out the same.
        return make_randomized_response_bitvec(
            bitvector_domain(max_weight=1), discrete_distance(), f=2 * rarer
        )


def _any_of(groups: int, count: int) -> Marks:
    """Return `count` numbers below `groups`, all alike likely, from the system's generator."""
    most = 256 - 256 % groups
    found = np.zeros(0, np.uint8)
    while len(found) < count:
        raw = np.frombuffer(secrets.token_bytes(count - len(found) + 64), np.uint8)
        found = np.concatenate([found, raw[raw < most] % np.uint8(groups)])
    return found[:count]


def _chosen(stratum: Stratum, config: StrataConfig, source: SourceConfig, party: Party) -> Chosen:
    names = config.names.get(stratum.id, {})
    if stratum.id in config.lacks:
        return Chosen(stratum)
    made_of = _OF_FIELD.get(stratum.id, "")
    if stratum.id in source.subgroups and stratum.id not in party.fields:
        return Chosen(stratum, column=stratum.id, names=names)
    if made_of in party.fields and made_of not in source.lacks:
        return Chosen(stratum, made_of=made_of, names=names)
    raise SourceRefused(
        file="[source.subgroups]",
        rule=f"does not say which column holds {stratum.id!r}, by which the study marks records",
        hint=f'add {stratum.id} = "its column", or [strata] lacks = ["{stratum.id}"], or send none',
    )


def _holds(group: str, year_of_birth: str) -> bool:
    """Return whether a year, or "", is of a group "1950s", "before 1930" or the like."""
    said = _YEARS.fullmatch(group)
    if said is None or not year_of_birth.isdigit():
        return False
    year = int(year_of_birth)
    if said["before"]:
        return year < int(said["before"])
    if said["since"]:
        return year >= int(said["since"])
    return int(said["decade"]) <= year < int(said["decade"]) + 10


def _refused(key: str, rule: str, known: Sequence[str] | Mapping[str, object]) -> SourceRefused:
    return SourceRefused(file=f"[{key}]", rule=rule, hint=f"known: {', '.join(known)}")
