"""
Read concept sets as OHDSI's ATLAS exports them (Circe JSON).

    read(Path("lung-cancer.json"))                 a concept set
    read(Path("definition.json"), "Lung cancer")   one of a cohort definition's, by name or id

Taken: an expression `{"items": [...]}`, a whole concept set `{"name", "expression"}`, or the
ConceptSets of a cohort definition, of which nothing else is read. `includeMapped` is refused: it
asks for source codes mapped to a concept, and the criteria are evaluated on standard concepts.
Source: OHDSI circe-be, ConceptSetExpression; ATLAS, tab Export of a concept set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkage.strict_toml import FaultHere

LARGEST_FILE = 20_000_000
"""Bytes. A set of 5,000 concepts with all that ATLAS writes takes 2 MB."""
_KNOWN = {"concept", "isExcluded", "includeDescendants", "includeMapped", "annotation"}
_FLAGS = ("isExcluded", "includeDescendants", "includeMapped")


@dataclass(frozen=True, slots=True)
class ConceptSet:
    """
    One concept set. name: as in ATLAS, else the file's. items: concept_id, descendants, exclude.

    oddities: what may surprise, in words: concepts that are not standard or no longer valid.
    domains: the OMOP domains of the included concepts, small letters, as far as the file tells.
    """

    name: str
    items: tuple[dict[str, Any], ...]
    oddities: tuple[str, ...]
    domains: frozenset[str]


def read_named(base: Path, name: str) -> ConceptSet:
    """Read what concept_set = "file.json" or "file.json#set" names; base: where paths start."""
    file, mark, which = name.rpartition("#")
    if not mark or (base / name).exists():
        file, which = name, ""
    return read(base / file, which)


def read(path: Path, which: str = "") -> ConceptSet:
    """
    Read one concept set of a file; which: its name or id, needed where the file holds several.

    Raises FaultHere, with the remedy, at the key concept_set.
    """
    sets = _sets_in(_content(path), path.stem, path.name)
    if not which and len(sets) == 1:
        ((_, name, items),) = sets
        return _concept_set(name, items, path.name)
    found = [one for one in sets if which and which in one[:2]]
    if len(found) != 1:
        held = ", ".join(f"{name!r} (id {number})" for number, name, _ in sets)
        said = f"{len(found)} concept sets {which!r}" if which else f"{len(sets)} concept sets"
        raise _fault(
            f"{path.name} holds {said}",
            f'name one by its id: concept_set = "{path.name}#{sets[0][0]}". It holds {held}',
        )
    return _concept_set(found[0][1], found[0][2], path.name)


def _content(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise _fault(f"{path.name} is larger than 20 MB", "export the concept set alone")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _fault(
            f"there is no file {path.name}", "the path starts at the specification's own folder"
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise _fault(
            f"{path.name} cannot be read ({type(fault).__name__})", "it must be UTF-8 text"
        ) from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _fault(
            f"{path.name} is not JSON",
            "in ATLAS open the concept set, Export, Concept Set Expression; a CSV won't do",
        ) from None


def _sets_in(content: Any, stem: str, file: str) -> list[tuple[str, str, Any]]:
    """Return (id, name, items) of every concept set in a file."""
    if isinstance(content, dict) and "ConceptSets" not in content and "expression" in content:
        # What ATLAS calls `expression` is, in what its server gives, an object or its text.
        inner = content["expression"]
        if isinstance(inner, str):
            try:
                inner = json.loads(inner)
            except (ValueError, RecursionError):
                raise _fault(f"{file}: its expression is not JSON", "export it again") from None
        if isinstance(inner, dict) and "items" in inner:
            return [(str(content.get("id", 0)), str(content.get("name") or stem), inner["items"])]
        content = inner
    if isinstance(content, dict) and "items" in content:
        return [("0", stem, content["items"])]
    sets = content.get("ConceptSets") if isinstance(content, dict) else None
    if not isinstance(sets, list) or not sets:
        raise _fault(
            f"{file} holds no concept set of ATLAS",
            'it needs {"items": [...]}, or the ConceptSets of a cohort definition',
        )
    found = []
    for one in sets:
        items = one.get("expression") if isinstance(one, dict) else None
        if not isinstance(items, dict) or "items" not in items:
            raise _fault(f"{file}: a concept set without expression", "export it again")
        found.append((str(one.get("id")), str(one.get("name")), items["items"]))
    return found


def _concept_set(name: str, items: Any, file: str) -> ConceptSet:
    if not isinstance(items, list) or not items:
        raise _fault(f"{file}: concept set {name!r} is empty", "add concepts in ATLAS")
    made, oddities, domains = [], [], set()
    for nth, item in enumerate(items, start=1):
        concept = item.get("concept") if isinstance(item, Mapping) else None
        if not isinstance(concept, Mapping):
            raise _fault(f"{file}: item {nth} has no concept", "export it again")
        number = concept.get("CONCEPT_ID", concept.get("conceptId"))
        if not isinstance(number, int) or isinstance(number, bool):
            raise _fault(f"{file}: item {nth} has no CONCEPT_ID", "export it again")
        _check_flags(item, nth, number, file)
        exclude = item.get("isExcluded") or False
        made.append(
            {
                "concept_id": number,
                "descendants": item.get("includeDescendants") or False,
                "exclude": exclude,
            }
        )
        if not exclude:
            domains.add(str(concept.get("DOMAIN_ID") or "").lower())
            oddities += _odd(concept, number)
    return ConceptSet(name[:100], tuple(made), tuple(oddities), frozenset(domains - {""}))


def _check_flags(item: Mapping[str, Any], nth: int, number: int, file: str) -> None:
    for flag in _FLAGS:
        if not isinstance(item.get(flag), bool | None):
            raise _fault(f"{file}: {flag} of item {nth} is neither true nor false", "export again")
    if item.get("includeMapped"):
        raise _fault(
            f"{file}: concept {number} has includeMapped, which is not supported",
            "untick 'Mapped' in ATLAS and export again: records are searched by their standard"
            " concepts, to which the source codes are already mapped",
        )
    if unknown := sorted(set(item) - _KNOWN):
        raise _fault(
            f"{file}: item {nth} says {unknown[0]!r}, which is not supported",
            "export the set from ATLAS, or write its items out: "
            "concept_set = [{ concept_id = 4115276, descendants = true }]",
        )


def _odd(concept: Mapping[str, Any], number: int) -> list[str]:
    odd = []
    if concept.get("STANDARD_CONCEPT") not in ("S", None):
        odd.append(f"concept {number} is not a standard concept: few records carry it, if any")
    if concept.get("INVALID_REASON") not in ("V", "", None):
        odd.append(f"concept {number} is no longer valid in the vocabulary it was exported from")
    return odd


def _fault(rule: str, hint: str) -> FaultHere:
    return FaultHere(rule, hint, "concept_set")
