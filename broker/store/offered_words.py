"""
The words of a long list of offered concepts, and where in the list each stands.

    put(connection, study_id, party, concepts)
    fitting(connection, study_id, party, ["lung", "carcin"], domain="condition")

A word that is searched has no space in it, so a name holds it where one of the name's own words
does. There are far fewer of these than names, so each kind of record has its words in one text: in
that the searched ones are found, then their places. A list of not more than HEAD concepts has none
of it: its names are read at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from broker.store import bulk
from broker.store.among import among
from broker.store.tables import offered_concept, offered_vocabulary, offered_word
from linkage.offered import MOST_CONCEPTS

HEAD = 5_000
MANY = 2_000
"""A part of more words than these is no help: a letter, the end of a plural."""
_FEW, _SOME = 1_000, 10_000
"""So few names are read whatever other words they hold, or only if those were looked up, too."""
_NUMBER = np.dtype("<u4")

Numbers = npt.NDArray[np.uint32]


class Named(Protocol):
    """What of a concept is needed here."""

    @property
    def domain(self) -> str:
        """Kind of record."""

    @property
    def folded(self) -> str:
        """The name as it is searched, in single spaces."""


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """Of one kind of record. text: UTF-8, a word a line. counts: names that hold it, by line."""

    domain: str
    text: bytes
    counts: Numbers

    def with_part(self, part: bytes) -> Numbers:
        """Return which lines hold this, ascending; of more than MANY so many and one."""
        starts: list[int] = []
        at = self.text.find(part)
        while at >= 0 and len(starts) <= MANY:
            starts.append(at)
            at = self.text.find(part, self.text.find(b"\n", at))  # each line once
        ends = np.flatnonzero(np.frombuffer(self.text, np.uint8) == ord("\n"))
        return np.searchsorted(ends, starts).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a searched word was found. lines: by kind of record. names: in which these are."""

    lines: dict[str, Numbers]
    names: int

    @property
    def helps(self) -> bool:
        """Is it in few enough words?"""
        return sum(len(each) for each in self.lines.values()) <= MANY


def put(connection: Connection, study_id: str, party: str, concepts: Sequence[Named]) -> None:
    """Keep the words of a party's list, whose concepts come in the order of their positions."""
    if len(concepts) <= HEAD:
        return
    found: dict[str, dict[str, list[int]]] = {}
    for position, one in enumerate(concepts):
        of_kind = found.setdefault(one.domain, {})
        for word in set(one.folded.split()):
            of_kind.setdefault(word, []).append(position)
    shared: dict[str, bulk.Column] = {"study_id": study_id, "party": party}
    for domain, places in found.items():
        counts = np.array([len(each) for each in places.values()], _NUMBER)
        text = "".join(f"{word}\n" for word in places)
        of_domain = shared | {"domain": domain}
        vocabulary: dict[str, bulk.Column] = {"words": [text], "counts": [counts.tobytes()]}
        bulk.insert(connection, offered_vocabulary, 1, of_domain | vocabulary)
        columns: dict[str, bulk.Column] = {
            "line": np.arange(len(places)),
            "positions": [np.array(each, _NUMBER).tobytes() for each in places.values()],
        }
        bulk.insert(connection, offered_word, len(places), of_domain | columns)
    bulk.count(connection, offered_concept, offered_vocabulary, offered_word)


def fitting(
    connection: Connection, study_id: str, party: str, words: Collection[str], *, domain: str
) -> list[int] | None:
    """
    Return the positions of all names that may hold all of `words`, ascending. None where names had
    better be read one after the other, or the list has no words. domain: as `offered.with_words`.
    """
    known = _vocabularies(connection, study_id, party)
    if not known:
        return None
    wanted = [one for one in known if (one.domain == domain if domain else one.domain != "unit")]
    found = [_find(wanted, word) for word in words]
    helping = sorted((one for one in found if one.helps), key=lambda one: one.names)
    may = np.ones(MOST_CONCEPTS, np.bool_)
    for one in helping:
        may &= _places(connection, study_id, party, one)
        if np.count_nonzero(may) <= _FEW:
            break
    else:
        if len(helping) < len(found) and np.count_nonzero(may) > _SOME:
            return None
    places: list[int] = np.flatnonzero(may).tolist()
    return places


def _find(known: Sequence[_Vocabulary], word: str) -> _Found:
    lines = {one.domain: one.with_part(word.encode()) for one in known}
    return _Found(lines, sum(int(one.counts[lines[one.domain]].sum()) for one in known))


def _vocabularies(connection: Connection, study_id: str, party: str) -> list[_Vocabulary]:
    v = offered_vocabulary.c
    wanted = select(v.domain, v.words, v.counts).where(v.study_id == study_id, v.party == party)
    return [
        _Vocabulary(row.domain, row.words.encode(), np.frombuffer(row.counts, _NUMBER))
        for row in connection.execute(wanted)
    ]


def _places(
    connection: Connection, study_id: str, party: str, found: _Found
) -> npt.NDArray[np.bool_]:
    """Return for every position whether its name holds the word."""
    w = offered_word.c
    holds = np.zeros(MOST_CONCEPTS, np.bool_)
    for domain, lines in found.lines.items():
        if len(lines):
            wanted = select(w.positions).where(
                w.study_id == study_id,
                w.party == party,
                w.domain == domain,
                among(connection, w.line, lines.tolist()),
            )
            positions = b"".join(connection.execute(wanted).scalars())
            holds[np.frombuffer(positions, _NUMBER)] = True
    return holds
