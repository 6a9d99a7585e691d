"""
What the parties of a study offer questions to name: kept as their sites signed it, and searched.

The search goes over one list at a time, from its shortest names on, so that a word which fits tens
of thousands ends early; a rarer one is looked up among the list's words. What was found is then put
in order. Names are compared without case and accents. A concept id or a code must be the whole of
what is searched.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from broker import audit
from broker.blobs import Receiving
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services import lifecycle
from broker.store import offered
from broker.store.engine import Connection, Database
from broker.store.offered import ConceptRow, ListRow
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.offered import (
    MOST_SAID,
    ConceptFound,
    ConceptsFound,
    Offered,
    OfferedConcept,
    OfferedHead,
    OfferTaken,
    OfferWithdrawal,
    head_of,
    received,
    require_whole,
)

PAGE = 20
MOST_FOUND = 500
"""So many of a list are put in order; who has more needs another word."""
_MOST_WORDS = 8
_AHEAD_S = 300
"""Clocks of sites and broker may differ by so much."""
_TAKEN_BACK = 0
"""As `least`: of a list that was taken back, in whose place lies the party's word of that."""


@dataclass(frozen=True, slots=True)
class Search:
    """
    What is searched. words: as they were typed. domain: "" for any kind of record, which units are
    not. party: "" for any. page: from 1.
    """

    words: str
    domain: str = ""
    party: str = ""
    page: int = 1


@dataclass(frozen=True, slots=True)
class OfferedLists:
    """The newest list of each party of the studies."""

    database: Database

    def heads(self, grant: Grant) -> list[OfferedHead]:
        """Return the heads of the lists that are there, by party; values are in them."""
        with self.database.read() as connection:
            here = _parties(connection, grant.study)
            rows = offered.lists(connection, grant.study.id)
        return [_head(row) for row in rows if row.party in here]

    def take(self, grant: Grant, body: Receiving) -> OfferTaken:
        """
        Keep the calling party's list in place of the one before; the same again is one.

        Raises PackageRefused for what is no list, or not signed by the party for this study;
        Conflict where a newer one is here, or it was taken back.
        """
        study, party = grant.study, grant.party
        with body.reader() as file:
            head = head_of(file)
            # Before any line is read: who has a token and no key costs the broker a look.
            head.verify(study.pin(party))
            _require_fit(head, study, party)
            require_whole(file, head)
            taken = OfferTaken(
                study_id=study.id, party=party, made_at=head.made_at, concepts=head.concepts
            )
            with self.database.read() as connection:
                if _is_here(offered.find(connection, study.id, party), head):
                    return taken
            rows = _rows(party, received(file, head).concepts)
        with self.database.change() as connection:
            lifecycle.require(connection, study.id)
            if not _is_here(offered.find(connection, study.id, party), head):
                row = ListRow(
                    study_id=study.id,
                    party=party,
                    made_at=head.made_at,
                    placed_at=int(time.time()),
                    least=head.least,
                    head=head.model_dump_json(),
                )
                offered.put(connection, row, rows)
                _record(connection, grant, "concepts offered", head)
        return taken

    def withdraw(self, grant: Grant, said: OfferWithdrawal) -> OfferTaken:
        """Delete the calling party's list. Raises NotFound, PackageRefused, Conflict for newer."""
        study, party = grant.study, grant.party
        said.verify(study.pin(party))
        if (said.study_id, said.party) != (study.id, party):
            raise PackageRefused(
                "the withdrawal is another party's, or of another study", hint="sign this one"
            )
        with self.database.change() as connection:
            row = offered.find(connection, study.id, party)
            if row is None or row.least == _TAKEN_BACK:
                raise NotFound("this party offers no list", hint="nothing is to be taken back")
            if row.made_at > said.made_at:
                raise Conflict("a newer list of this party is here", hint="withdraw that one")
            # What was said stays, so that who kept the list cannot send it again with a token.
            gone = replace(
                row,
                least=_TAKEN_BACK,
                placed_at=int(time.time()),
                head=said.model_dump_json(),
            )
            offered.put(connection, gone, ())
            _record(
                connection,
                grant,
                "offered concepts withdrawn",
                Offered.model_validate_json(row.head),
            )
        return OfferTaken(study_id=study.id, party=party)

    def search(self, grant: Grant, asked: Search) -> ConceptsFound:
        """Return a page of what fits, best first; nothing where nothing is asked."""
        words = folded(asked.words[:MOST_SAID]).split()[:_MOST_WORDS]
        if not words:
            return ConceptsFound(page=1, more=False, cut=False, found=())
        study_id = grant.study.id
        with self.database.read() as connection:
            parties = [one for one in _parties(connection, grant.study) if asked.party in ("", one)]
            hits = offered.exactly(
                connection,
                study_id,
                ids=_ids(words),
                code=" ".join(words),
                domain=asked.domain,
            )
            exact = [row for row in hits if row.party in parties]
            named: list[ConceptRow] = []
            cut = False
            # A number or code that is there is what was meant: names need not be read.
            read = [] if exact and any(one.isdigit() for one in words[0]) else parties
            for party in read:
                rows = offered.with_words(
                    connection, study_id, party, words, domain=asked.domain, most=MOST_FOUND
                )
                named += rows
                cut = cut or len(rows) == MOST_FOUND
        begins = [re.compile(rf"(?:^|[^\w]){re.escape(word)}") for word in words]
        named.sort(key=lambda row: _rank(row, " ".join(words), begins))
        ordered = _together([*exact, *named])
        start = (asked.page - 1) * PAGE
        return ConceptsFound(
            page=asked.page,
            more=len(ordered) > start + PAGE,
            cut=cut,
            found=tuple(_found(rows) for rows in ordered[start : start + PAGE]),
        )

    def named(self, grant: Grant, ids: Collection[int]) -> dict[int, str]:
        """Return the names of those concepts that somebody offers, by id."""
        with self.database.read() as connection:
            parties = _parties(connection, grant.study)
            rows = offered.exactly(connection, grant.study.id, ids=ids, code="", domain=None)
        return {row.concept_id: row.name for row in rows if row.party in parties}

    def units(self, grant: Grant) -> dict[int, str]:
        """Return the names of the units of values that somebody offers, by concept id."""
        with self.database.read() as connection:
            parties = _parties(connection, grant.study)
            rows = offered.of_domain(connection, grant.study.id, domain="unit", most=MOST_FOUND)
        return {row.concept_id: row.name for row in rows if row.party in parties}


def folded(text: str) -> str:
    """Return a text as it is searched: no case, no accents, single spaces, no NUL (PostgreSQL)."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(one for one in apart if not unicodedata.combining(one))
    return " ".join(plain.replace("\0", " ").split())


def _parties(connection: Connection, study: RegisteredStudy) -> list[str]:
    """Return whose lists hold still: a new epoch may drop a party, or raise the minimum cell."""
    known = {one.id for one in study.config.party}
    least = study.config.study.minimum_cell
    return [one for one in offered.parties(connection, study.id, least=least) if one in known]


def _require_fit(head: Offered, study: RegisteredStudy, party: str) -> None:
    late = int(time.time()) + _AHEAD_S
    mine = (head.study_id, head.party) == (study.id, party)
    if not mine or max(head.made_at, head.said_at) > late:
        raise PackageRefused(
            "the list is another party's, of another study, or of the future",
            hint="look at the site's clock, and send this party's own list",
        )
    if head.least < study.config.study.minimum_cell:
        raise PackageRefused(
            "the list names what fewer persons have than the study's minimum cell",
            hint="make it anew: linkage-site offer-concepts",
        )


def _is_here(before: ListRow | None, head: Offered) -> bool:
    """Raises Conflict where a newer list is here, or the party's later word that took it back."""
    if before is None:
        return False
    if before.made_at > head.made_at:
        raise Conflict("a newer list of this party is here", hint="send the newest one")
    if before.least != _TAKEN_BACK:
        return Offered.model_validate_json(before.head).offers_the_same(head)
    if head.said_at <= OfferWithdrawal.model_validate_json(before.head).said_at:
        raise Conflict(
            "this party has taken the list back since",
            hint="to offer it again: linkage-site offer-concepts",
        )
    return False


def _rows(party: str, concepts: Iterable[OfferedConcept]) -> list[ConceptRow]:
    ready = [(folded(one.name), one) for one in concepts]
    ready.sort(key=lambda pair: (len(pair[0]), pair[0], pair[1].concept_id, pair[1].domain))
    return [
        ConceptRow(
            party=party,
            position=position,
            concept_id=one.concept_id,
            domain=one.domain,
            name=one.name,
            folded=name,
            vocabulary=one.vocabulary,
            code=one.code,
            code_folded=folded(one.code)[:64],
            standard=one.standard,
        )
        for position, (name, one) in enumerate(ready)
    ]


def _ids(words: list[str]) -> list[int]:
    """Return the concept ids that are searched: all words are numbers, or there is none."""
    numbers = [word.strip(",;") for word in words]
    whole = all(re.fullmatch(r"[0-9]{1,15}", one) for one in numbers)
    return [int(one) for one in numbers] if whole else []


def _rank(
    row: ConceptRow, phrase: str, begins: Sequence[re.Pattern[str]]
) -> tuple[int, bool, int, str]:
    """The name itself, what begins with it, what has words that begin so; then the rest."""
    if row.folded == phrase:
        rank = 0
    elif row.folded.startswith(phrase):
        rank = 1
    elif all(one.search(row.folded) for one in begins):
        rank = 2
    else:
        rank = 3
    return rank, row.standard != "S", row.position, row.party


def _together(rows: Iterable[ConceptRow]) -> list[list[ConceptRow]]:
    """Return each concept once, in this order: its rows, one of everybody who offers it, or two."""
    found: dict[tuple[int, str], list[ConceptRow]] = {}
    for row in rows:
        found.setdefault((row.concept_id, row.domain), []).append(row)
    return list(found.values())


def _found(rows: Sequence[ConceptRow]) -> ConceptFound:
    first = rows[0]
    names = (name for name in OfferedConcept.model_fields if name != "version")
    return ConceptFound(
        concept=OfferedConcept.model_validate({name: getattr(first, name) for name in names}),
        parties=tuple(sorted({row.party for row in rows})),
    )


def _head(row: ListRow) -> OfferedHead:
    return OfferedHead(head=Offered.model_validate_json(row.head), placed_at=row.placed_at)


def _record(connection: Connection, grant: Grant, action: str, head: Offered) -> None:
    audit.record(
        connection,
        actor=grant.caller.actor,
        action=action,
        study_id=grant.study.id,
        subject=head.party,
        detail={
            "digest": head.hash,
            "concepts": head.concepts,
            "values": sum(map(len, head.values.values())),
        },
    )
