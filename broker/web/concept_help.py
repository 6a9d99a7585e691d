"""
Help with concepts in the form of a question: searched by name, added to a criterion, taken out, and
shown by name wherever a number stands. What is offered, sites say (broker.services.offered).

A button of a criterion says what it does in the form's field `act`: "find-concept-0-2" shows page 2
of what was found for the first criterion, "add-concept-0-condition-443388" adds a concept to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from broker.services.offered import Search
from broker.web.visits import Visit
from linkage.cohort.spec import CohortSpec
from linkage.offered import ConceptsFound, OfferedHead, values_in

_ACT = re.compile(
    r"(?P<verb>find|add|remove|names)-concept-(?P<row>\d{1,2})"
    r"(?:-(?P<domain>[a-z]{1,16}))?(?:-(?P<number>\d{1,15}))?"
)
_SPLIT = re.compile(r"[\s,;]+")
_NUMBER = re.compile(r"[0-9]{1,15}")
_MOST_SEARCHES = 3
"""So many criteria are searched for where a whole form comes, without scripts."""
_MOST_NAMED = 2_000

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Act:
    """What a button of a criterion does. row: from 0. number: a concept's id, or a page."""

    verb: str
    row: int
    domain: str = ""
    number: int = 0

    @classmethod
    def of(cls, text: str) -> Act | None:
        """Read the field `act`; None for what another button says."""
        found = _ACT.fullmatch(text)
        if found is None:
            return None
        return cls(
            found["verb"], int(found["row"]), found["domain"] or "", int(found["number"] or 0)
        )


def changed(rows: Sequence[Row], text: str) -> tuple[Row, ...]:
    """Return the criteria with a concept more or less, where the button says so."""
    act = Act.of(text)
    if act is None or act.row >= len(rows) or not act.number or act.verb not in ("add", "remove"):
        return tuple(rows)
    row = dict(rows[act.row])
    ids = _tokens(row)
    others = [one for one in ids if one != str(act.number)]
    if act.verb == "add":
        row["ids"] = ", ".join([*others, str(act.number)])
        if not ids:
            row["domain"] = act.domain
    else:
        row["ids"] = ", ".join(others)
    return (*rows[: act.row], row, *rows[act.row + 1 :])


@dataclass(frozen=True, slots=True)
class ConceptHelp:
    """
    What the form's page shows of what the sites offer. heads: by party. names: of the concepts that
    the criteria name. found: by criterion. units: of values, by concept id. act: of the button.
    """

    heads: Sequence[OfferedHead] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    found: Mapping[int, ConceptsFound] = field(default_factory=dict)
    units: Mapping[int, str] = field(default_factory=dict)
    act: Act | None = None

    @property
    def offered(self) -> bool:
        """Does anybody offer concepts?"""
        return any(one.head.concepts for one in self.heads)

    @property
    def values(self) -> Mapping[str, tuple[str, ...]]:
        """What the images' fields may hold, by field."""
        return values_in(one.head for one in self.heads)

    @property
    def news(self) -> str:
        """What the pressed button did, in a sentence for who hears the page."""
        if self.act is None:
            return ""
        number = self.act.number
        name = self.names.get(number, f"concept {number}")
        if self.act.verb == "add":
            return f"Added: {name}."
        if self.act.verb == "remove":
            return f"Taken out: concept {number}."
        there = self.found.get(self.act.row)
        if there is None:
            return ""
        if not there.found:
            return "Nothing found."
        return f"{len(there.found)} found{', and more on the next page' if there.more else ''}."

    def chosen(self, row: Row) -> list[tuple[str, str]]:
        """Return what a criterion names: as it stands there, and its name, "" where none is."""
        return [
            (one, self.names.get(int(one), "") if _NUMBER.fullmatch(one) else "")
            for one in _tokens(row)
        ]


def help_for(visit: Visit, rows: Sequence[Row]) -> ConceptHelp:
    """Return the help for these criteria, searched where the form says so."""
    grant, offered = visit.grant, visit.broker.offered
    heads = offered.heads(grant)
    act = Act.of(visit.text("act"))
    act = act if act is not None and act.row < len(rows) else None
    if not heads:
        return ConceptHelp(act=act)
    ids = {int(one) for row in rows for one in _tokens(row) if _NUMBER.fullmatch(one)}
    if act is not None and act.verb != "find" and act.number:
        ids.add(act.number)
    wanted = [act.row] if act is not None else list(range(len(rows)))
    asked = [n for n in wanted if n < len(rows) and rows[n].get("find", "").strip()]
    found = {
        n: offered.search(grant, _search(rows[n], act if act is not None else Act("find", n)))
        for n in asked[:_MOST_SEARCHES]
    }
    names = offered.named(grant, sorted(ids)[:_MOST_NAMED])
    units = {} if act is not None and act.verb in ("find", "names") else offered.units(grant)
    return ConceptHelp(heads, names, found, units, act)


def names_in(visit: Visit, content: object) -> list[tuple[int, str]]:
    """
    Return the names of the concepts that criteria name: those that somebody offers, ascending by
    id. content: a specification; or one half, as JSON or what JSON holds; None for nothing.
    """
    if isinstance(content, CohortSpec):
        content = content.model_dump(mode="json")
    try:
        read = json.loads(content) if isinstance(content, str) else content
    except ValueError:
        return []
    ids = sorted(set(_ids_in(read)))[:_MOST_NAMED]
    return sorted(visit.broker.offered.named(visit.grant, ids).items()) if ids else []


def _ids_in(read: object) -> Iterator[int]:
    if isinstance(read, Mapping):
        for key, value in read.items():
            held = value if isinstance(value, list | tuple) else [value]
            if key in ("concept_id", "unit"):
                yield from (one for one in held if type(one) is int)
            else:
                yield from _ids_in(held)
    elif isinstance(read, list | tuple):
        for one in read:
            yield from _ids_in(one)


def _search(row: Row, act: Act) -> Search:
    # A criterion is of one kind of record: once it names a concept, only those of its kind fit.
    domain = row.get("domain", "") if _tokens(row) else ""
    page = act.number if act.verb == "find" and act.number else 1
    return Search(row["find"], domain, page=min(page, 1_000))


def _tokens(row: Row) -> list[str]:
    return list(dict.fromkeys(one for one in _SPLIT.split(row.get("ids", "")) if one))
