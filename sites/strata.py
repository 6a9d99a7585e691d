"""
Marks of strata, drawn: which group each record is in, and by chance another one (linkage.strata).

    chosen = chosen_strata(config, source, study, party)
    marks, rest = Marker(chosen).draw(table, columns)

Of k groups a mark is the record's own with chance p and each other one with q: OpenDP's
make_randomized_response, to which each group is given once a record that is in it. Nothing here
draws. One call answers many records of one group, independently of each other: a composition of the
same mechanism with itself, which gives each of its members the same argument. A call a record would
take three times as long. What is left is mostly Python's, which reads one answer after the other
(docs/strata.md): so nobody is drawn for who has a mark already (sites.strata_kept). OpenDP 0.16
leaves 8 bytes an answer behind until the process ends.
"""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.columns import Coded
from linkage.encoding.fields import text_of
from linkage.errors import SourceRefused
from linkage.strata import BIRTH_DECADE, NO_MARK, SEX, Stratum, as_group
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
"""By how much less than allowed a mark is the own group, relatively: p is a rounded number."""
_AT_ONCE = 1024
"""Records that one call of OpenDP answers at most."""


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

    Raises SourceRefused where the site file does not say which column holds a variable, or what
    draws marks is not installed.
    """
    if not config.send or not study.strata:
        return ()
    if find_spec("opendp") is None:
        raise SourceRefused(
            file="[strata]",
            rule="says send = true, and what draws marks, OpenDP, is not installed",
            hint='pip install "commons-linkage[site,marks]", or [strata] send = false: links are'
            " the same without marks",
        )
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


def readings(strata: Sequence[Chosen], source: SourceConfig) -> dict[str, str]:
    """Return by variable and its rule how the source's values become groups, to be compared."""
    return {
        one.stratum.model_dump_json(): json.dumps(
            [one.made_of, source.subgroups.get(one.column, ()), sorted(one.names.items())]
        )
        for one in strata
    }


class Marker:
    """Draws the marks of a site's variables. Make it in the process that draws."""

    def __init__(self, strata: Sequence[Chosen]) -> None:
        self._strata = [(one, Response(one.stratum)) for one in strata]

    def draw(
        self,
        table: pa.Table,
        columns: Mapping[str, Coded],
        marked: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Marks, dict[str, int]]:
        """
        Return the marks of a batch, uint8[n, V], and by variable how many of its records are in no
        group that the study names. Every call draws anew.

        marked: bool[n], whose marks are kept already: nothing is drawn for them (NO_MARK).
        """
        made, rest = np.full((table.num_rows, len(self._strata)), NO_MARK, np.uint8), {}
        asked = np.arange(table.num_rows) if marked is None else np.flatnonzero(~marked)
        for place, (one, response) in enumerate(self._strata):
            groups = one.numbers(table, columns)
            made[asked, place] = response.draw(groups[asked])
            rest[one.stratum.id] = int((groups == len(one.stratum.named)).sum())
        return made, rest


class Response:
    """OpenDP's k-ary randomised response over one variable's groups."""

    def __init__(self, stratum: Stratum) -> None:
        # Loaded here, by the process that draws: it is large, and no chance is shared by a fork.
        from opendp.measurements import make_randomized_response
        from opendp.mod import enable_features

        # What was not vetted by OpenDP's own process, which none of its randomised responses has
        # been through; its proofs are published.
        enable_features("contrib")
        p, _ = stratum.chances
        groups = list(range(1, len(stratum.named) + 1))
        self._one = make_randomized_response(groups, prob=p * (1 - _A_HAIR))
        self._several: dict[int, Measurement] = {}
        if self.epsilon > stratum.epsilon:
            raise AssertionError("a mark would tell more than its epsilon")

    @property
    def epsilon(self) -> float:
        """What OpenDP says that one mark tells at most."""
        return float(self._one.map(1))  # type: ignore[no-untyped-call]

    def draw(self, groups: Marks) -> Marks:
        """Return marks of records in these groups, uint8[n], both from 1."""
        marks = np.empty(len(groups), np.uint8)
        for own in np.unique(groups).tolist():
            rows = np.flatnonzero(groups == own)
            marks[rows] = self._of(own, len(rows))
        return marks

    def _of(self, own: int, count: int) -> list[int]:
        """Return `count` marks of records in group `own`."""
        drawn: list[int] = []
        size = _AT_ONCE
        while size:
            while count - len(drawn) >= size:
                with _uninterrupted():
                    drawn += self._answers(size)(own)
            size //= 2
        return drawn

    def _answers(self, size: int) -> Measurement:
        """Return what gives this many answers about one group, each drawn by itself."""
        from opendp.combinators import make_composition

        if size not in self._several:
            self._several[size] = make_composition([self._one] * size)
        return self._several[size]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """
    Let Ctrl-C wait for the end of a call of OpenDP, some hundredths of a second.

    Its Python frees what its library made; interrupted in between, it frees some of it twice, and
    the process dies of it, or the interruption is lost in a destructor (0.16).
    """
    heard: list[tuple[int, FrameType | None]] = []
    before = signal.getsignal(signal.SIGINT)
    # Other threads are not interrupted, nor are workers, who pass Ctrl-C over.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: heard.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            before(*heard[0])


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
