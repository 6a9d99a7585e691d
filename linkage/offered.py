"""
What questions about a party's data may name: the concepts and values that its site offers.

    data = to_lines(concepts)
    said = Offered(..., concepts=len(concepts), digest=digest_of(data)).sign(identity)
    body = packed(said, data)               travels: the signed head, then a line a concept

A list names what enough persons of the site have (docs/adr/0033), and no count of them. The broker
keeps the newest of each party; researchers and stewards of the study search it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, BinaryIO, ClassVar, Literal, get_args

from pydantic import Field, StringConstraints, ValidationError

from linkage.errors import PackageRefused
from linkage.messages import Count, Hex256, Id, Message, Name, SignedMessage

MOST_CONCEPTS = 200_000
MOST_VALUES = 2_000
"""Of each field."""
MOST_OFFERED_BYTES = 64 * 1024 * 1024
_MOST_HEAD_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 1 << 20
MOST_SAID = 200
"""Characters of the words that are searched for."""

Domain = Literal[
    "condition", "procedure", "drug", "measurement", "observation", "visit", "death", "unit"
]
"""As a cohort specification has it, by the table that holds the concept; unit: of a value."""
DOMAINS: tuple[Domain, ...] = get_args(Domain)
ImagingField = Literal[
    "collection",
    "modality",
    "body_part",
    "manufacturer",
    "manufacturer_model",
    "finding",
    "measurement",
    "unit",
    "algorithm",
]
"""Of an imaging half, as a specification names it; the last four are of features."""
FIELDS: tuple[ImagingField, ...] = get_args(ImagingField)

_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\x80-\x9f]{1,255}$")]
_Short = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\x80-\x9f]{0,64}$")]
Values = Annotated[tuple[_Text, ...], Field(max_length=MOST_VALUES)]


class OfferedConcept(Message):
    """
    A concept that a question may name. domain: kind of record that has it, or one below it.
    standard: "S", "C" (classification) or "". code: of the concept in its vocabulary, "" without.
    """

    concept_id: int = Field(ge=1, le=2**53 - 1)
    domain: Domain
    name: _Text
    vocabulary: _Short = ""
    code: _Short = ""
    standard: Literal["S", "C", ""] = ""


class Offered(SignedMessage):
    """
    The head of a list, signed by the party. made_at: when the site counted, Unix seconds. least:
    persons that each entry stands for at the least. concepts: how many; digest: SHA-256 of their
    lines. values: of the imaging half, by field. left_out: vocabularies that may not be passed on.
    said_at: when it was signed: a list that was taken back comes again only by a later word.
    """

    study_id: Name
    party: Name
    made_at: Count
    least: int = Field(ge=1, le=10_000)
    concepts: int = Field(ge=0, le=MOST_CONCEPTS)
    digest: Hex256
    values: dict[ImagingField, Values] = Field(default={})
    left_out: tuple[_Short, ...] = Field(default=(), max_length=200)
    said_at: Count = 0

    added: ClassVar[frozenset[str]] = frozenset({"said_at"})

    def offers_the_same(self, other: Offered) -> bool:
        """Is it the same list, whenever both were signed?"""
        again = {"said_at": other.said_at, "signature": other.signature}
        return self.model_copy(update=again) == other

    @property
    def hash(self) -> str:
        """SHA-256, hex, of what is signed; the audit log names it."""
        return hashlib.sha256(self.signed_bytes()).hexdigest()


class OfferWithdrawal(SignedMessage):
    """
    A party takes its list back; signed by it. made_at: of the newest list that is meant, so that
    who kept this message cannot take back later ones with it. said_at: when it was signed.
    """

    study_id: Name
    party: Name
    made_at: Count
    said_at: Count = 0

    added: ClassVar[frozenset[str]] = frozenset({"said_at"})


class ConceptFound(Message):
    """A concept that the words fit. parties: who offers it, ascending."""

    concept: OfferedConcept
    parties: tuple[Name, ...]


class ConceptsFound(Message):
    """
    A page of what was found, best first. page: from 1. more: further pages follow. cut: so many
    fit that only the ones with the shortest names were looked at.
    """

    page: int = Field(ge=1)
    more: bool
    cut: bool
    found: tuple[ConceptFound, ...]


class OfferedHead(Message):
    """A party's list as the broker keeps it: its head, and when it came, Unix seconds."""

    head: Offered
    placed_at: Count


class OfferTaken(Message):
    """The broker's answer to a list, or to its withdrawal (concepts: 0, made_at: None)."""

    study_id: Name
    party: Id
    made_at: int | None = None
    concepts: Count = 0


@dataclass(frozen=True, slots=True)
class Received:
    """A list that came whole. concepts: as they stood there."""

    head: Offered
    concepts: tuple[OfferedConcept, ...]


def to_lines(concepts: Iterable[OfferedConcept]) -> bytes:
    """Return a JSON array a line, UTF-8: id, domain, name, vocabulary, code, standard."""
    rows = (
        [one.concept_id, one.domain, one.name, one.vocabulary, one.code, one.standard]
        for one in concepts
    )
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def digest_of(data: bytes) -> str:
    """SHA-256, hex, of a list's lines."""
    return hashlib.sha256(data).hexdigest()


def packed(head: Offered, data: bytes) -> bytes:
    """Return what travels: the head in one line, then the concepts'."""
    return head.to_json() + b"\n" + data


def head_of(body: BinaryIO) -> Offered:
    """
    Read the head of a list, the first line; its signature the caller checks, before it reads on.
    Raises PackageRefused for what is none.
    """
    first = body.readline(_MOST_HEAD_BYTES + 1)
    if len(first) > _MOST_HEAD_BYTES:
        raise _refused("the head of the list is too long")
    try:
        return Offered.model_validate_json(first)
    except ValidationError:
        raise _refused("the first line is not the head of a list of concepts") from None


def require_whole(body: BinaryIO, head: Offered) -> None:
    """
    Raises PackageRefused unless the lines that follow are those that the head tells of; none of
    them is read as a concept for that.
    """
    begin, told = body.tell(), hashlib.sha256()
    while piece := body.read(_PIECE_BYTES):
        told.update(piece)
    if told.hexdigest() != head.digest:
        raise _refused("the list is not the one that its head tells of")
    body.seek(begin)


def received(body: BinaryIO, head: Offered) -> Received:
    """Read the lines that follow the head. Raises PackageRefused for what is no such list."""
    require_whole(body, head)
    concepts = tuple(_concepts(body, head.concepts))
    if len(concepts) != head.concepts:
        raise _refused("the list is not the one that its head tells of")
    if len({(one.concept_id, one.domain) for one in concepts}) != len(concepts):
        raise _refused("the list names a concept twice")
    return Received(head, concepts)


def _concepts(lines: Iterable[bytes], most: int) -> Iterator[OfferedConcept]:
    for number, line in enumerate(lines, start=1):
        if number > most:
            raise _refused("the list has more lines than its head tells of")
        try:
            values = json.loads(line)
            if [type(one) for one in values] != _TYPES:
                raise TypeError
            yield OfferedConcept.model_validate(dict(zip(_COLUMNS, values, strict=True)))
        except (ValueError, TypeError, RecursionError):  # ValidationError is a ValueError
            raise _refused(f"line {number + 1} is no concept") from None


_COLUMNS = ("concept_id", "domain", "name", "vocabulary", "code", "standard")
_TYPES = [int, str, str, str, str, str]
"""Exactly: true is no number of a concept, nor is a text of digits."""


def _refused(rule: str) -> PackageRefused:
    return PackageRefused(rule, hint="make it with linkage-site offer-concepts of this software")


def values_in(heads: Iterable[Offered]) -> Mapping[str, tuple[str, ...]]:
    """Return the values that any of the lists offers, by field, ascending."""
    found: dict[str, set[str]] = {}
    for head in heads:
        for field, values in head.values.items():
            found.setdefault(field, set()).update(values)
    return {field: tuple(sorted(values)) for field, values in found.items()}
