"""
Rows of what parties offer, and the search through them.

A search takes the shortest names that fit. A list's first names are read; whoever is not satisfied
by them asks the list's words for the others (offered_words).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, select, tuple_

from broker.store import bulk, offered_words
from broker.store.among import among
from broker.store.tables import offered_concept, offered_list

_AT_ONCE = 1_000
"""Names that are read by their places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """
    A party's newest list. least: persons that each entry stands for at the least; 0: the list was
    taken back. head: JSON, signed by the party: of the list, or what takes it back. Times: Unix
    seconds.
    """

    study_id: str
    party: str
    made_at: int
    placed_at: int
    least: int
    head: str


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """
    A concept of a list. position: from 0, the shortest names first. folded, code_folded: name and
    code as they are searched.
    """

    party: str
    position: int
    concept_id: int
    domain: str
    name: str
    folded: str
    vocabulary: str
    code: str
    code_folded: str
    standard: str


def lists(connection: Connection, study_id: str) -> list[ListRow]:
    """Return the newest list of each party, by party."""
    wanted = select(offered_list).where(offered_list.c.study_id == study_id)
    found = connection.execute(wanted.order_by(offered_list.c.party)).mappings()
    return [ListRow(**row) for row in found]


def parties(connection: Connection, study_id: str, *, least: int) -> list[str]:
    """Return whose lists stand for at least so many persons an entry, ascending."""
    c = offered_list.c
    wanted = select(c.party).where(c.study_id == study_id, c.least >= least).order_by(c.party)
    return list(connection.execute(wanted).scalars())


def find(connection: Connection, study_id: str, party: str) -> ListRow | None:
    """Return a party's list."""
    c = offered_list.c
    wanted = select(offered_list).where(c.study_id == study_id, c.party == party)
    row = connection.execute(wanted).mappings().first()
    return ListRow(**row) if row else None


def drop(connection: Connection, study_id: str, party: str) -> None:
    """Delete a party's list; its words go with it."""
    for table in (offered_concept, offered_list):
        mine = (table.c.study_id == study_id) & (table.c.party == party)
        connection.execute(delete(table).where(mine))


def put(connection: Connection, row: ListRow, concepts: Sequence[ConceptRow]) -> None:
    """Keep a party's list in place of the one before."""
    drop(connection, row.study_id, row.party)
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    connection.execute(offered_list.insert().values(**values))
    columns: dict[str, bulk.Column] = {"study_id": row.study_id}
    for field in fields(ConceptRow):
        columns[field.name] = [getattr(one, field.name) for one in concepts]
    bulk.insert(connection, offered_concept, len(concepts), columns)
    offered_words.put(connection, row.study_id, row.party, concepts)


def with_words(
    connection: Connection,
    study_id: str,
    party: str,
    words: Collection[str],
    *,
    domain: str,
    most: int,
) -> list[ConceptRow]:
    """
    Return a party's concepts whose folded names hold every word, the shortest names first. domain:
    "" for any kind of record, which units are not.
    """
    c = offered_concept.c
    wanted = _of(study_id, domain).where(c.party == party)
    for word in words:
        wanted = wanted.where(c.folded.contains(word, autoescape=True))

    def read(which: ColumnElement[bool], most: int) -> list[ConceptRow]:
        return _rows(connection, wanted.where(which).order_by(c.position).limit(most))

    found = read(c.position < offered_words.HEAD, most)
    if len(found) == most:
        return found
    places = offered_words.fitting(connection, study_id, party, words, domain=domain)
    if places is None:
        return found + read(c.position >= offered_words.HEAD, most - len(found))
    rest = [place for place in places if place >= offered_words.HEAD]
    for start in range(0, len(rest), _AT_ONCE):
        if len(found) == most:
            break
        some = among(connection, c.position, rest[start : start + _AT_ONCE])
        found += read(some, most - len(found))
    return found


def exactly(
    connection: Connection, study_id: str, *, ids: Collection[int], code: str, domain: str | None
) -> list[ConceptRow]:
    """
    Return the concepts of all parties with one of these ids, or with this folded code. domain: as
    in `with_words`; None for units too.
    """
    c = offered_concept.c
    found: dict[tuple[str, int], ConceptRow] = {}
    # Places, by one index each, and their rows; the few that fit are sorted here. Asked for ids and
    # codes at once, for an order or for whole rows, SQLite reads all lists from end to end.
    for asked in ([c.concept_id.in_(ids)] if ids else []) + ([c.code_folded == code] * bool(code)):
        places = select(c.party, c.position).where(c.study_id == study_id, asked)
        fitting = _of(study_id, None).where(tuple_(c.party, c.position).in_(places))
        found |= {(row.party, row.position): row for row in _rows(connection, fitting)}
    return [row for _, row in sorted(found.items()) if _is_of(row, domain)]


def of_domain(connection: Connection, study_id: str, *, domain: str, most: int) -> list[ConceptRow]:
    """Return concepts of a domain that any party offers, the shortest names first."""
    c = offered_concept.c
    return _rows(connection, _of(study_id, domain).order_by(c.position, c.party).limit(most))


def _rows(connection: Connection, wanted: Select[Any]) -> list[ConceptRow]:
    return [ConceptRow(*row) for row in connection.execute(wanted)]


def _is_of(row: ConceptRow, domain: str | None) -> bool:
    return domain is None or (row.domain == domain if domain else row.domain != "unit")


def _of(study_id: str, domain: str | None) -> Select[Any]:
    c = offered_concept.c
    wanted = select(*(c[field.name] for field in fields(ConceptRow))).where(c.study_id == study_id)
    if domain is None:
        return wanted
    return wanted.where(c.domain == domain if domain else c.domain != "unit")
