"""
Concept sets against the vocabulary of the enclave: what they hold, and what looks mistyped.

    concepts = concepts_of(criterion.items, source)      frozenset of concept ids
    fits = among(events.condition_concept_id, concepts, source)

The vocabulary is public, so a note about it tells nothing of any person. That no record of the
enclave has a concept would tell something, so no note says that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from linkage.cohort.spec_clinical import ConceptCriterion, ConceptItem
from linkage.errors import SourceRefused
from sites.cohort.omop import OmopSource

LISTED_CONCEPTS = 1000
"""Up to so many stand in the query itself, where a database uses its index; more are joined."""

LISTED_NOTES = 5
"""Of notes that are alike, so many are written out: a set may hold thousands."""

_DOMAIN_ID = {
    "condition": "Condition",
    "procedure": "Procedure",
    "drug": "Drug",
    "measurement": "Measurement",
    "observation": "Observation",
    "visit": "Visit",
}
"""concept.domain_id by domain of a criterion; the cause of a death may be of several."""


def concepts_of(items: Sequence[ConceptItem], source: OmopSource) -> frozenset[int]:
    """
    Return the concepts of a set: what is included without what is excluded.

    An item is its own descendant, whether or not concept_ancestor has that row. Raises
    SourceRefused where descendants are asked for and there is no concept_ancestor.
    """
    included = [item for item in items if not item.exclude]
    excluded = [item for item in items if item.exclude]
    return _with_descendants(included, source) - _with_descendants(excluded, source)


def _with_descendants(items: Sequence[ConceptItem], source: OmopSource) -> frozenset[int]:
    own = {item.concept_id for item in items}
    parents = sorted(item.concept_id for item in items if item.descendants)
    if not parents:
        return frozenset(own)
    if not source.has("concept_ancestor"):
        raise SourceRefused(
            file="concept_ancestor",
            rule="is not in the source, and descendants were asked for",
            hint="load the vocabulary, or ask with descendants = false",
        )
    ancestors = source.table("concept_ancestor")
    below = ancestors.filter(among(ancestors.ancestor_concept_id, parents, source))
    found = below.select("descendant_concept_id").distinct().to_pyarrow()
    return frozenset(own.union(found["descendant_concept_id"].to_pylist()))


def among(column: Any, values: Iterable[int], source: OmopSource) -> Any:
    """Return the condition that `column` is one of `values`, however many there are."""
    wanted = sorted(values)
    if len(wanted) <= LISTED_CONCEPTS:
        return column.isin(wanted)
    listed = source.person_rows({"concept_id": pa.array(wanted, pa.int64())})
    return column.isin(listed.concept_id)


def vocabulary_notes(one: ConceptCriterion, source: OmopSource) -> list[str]:
    """Return what the vocabulary says against the concepts of a criterion: they may be mistyped."""
    named = [item.concept_id for item in one.items if not item.exclude]
    if not source.has("concept"):
        return _unknown_notes(_not_among_ancestors(named, source))
    concepts = source.table("concept")
    rows = (
        concepts.filter(among(concepts.concept_id, named, source))
        .select("concept_id", "domain_id", "standard_concept")
        .to_pyarrow()
        .to_pylist()
    )
    known = {row["concept_id"]: row for row in rows}
    notes = _unknown_notes([concept for concept in named if concept not in known])
    domain = _DOMAIN_ID.get(one.domain)
    elsewhere = [c for c in named if c in known and domain and known[c]["domain_id"] != domain]
    notes += _first(
        f"concept {concept} is of domain {known[concept]['domain_id']}, not {domain}: "
        f"{one.domain} records seldom have it; check the domain of the criterion"
        for concept in elsewhere
    )
    standing = [concept for concept in named if concept in known and concept not in elsewhere]
    return notes + _first(
        f"concept {concept} is not a standard concept: OMOP records have the standard concept that "
        "it maps to (concept_relationship, 'Maps to'); ask for that one"
        for concept in standing
        if known[concept]["standard_concept"] != "S"
    )


def _first(notes: Iterable[str]) -> list[str]:
    """Return the first few of notes that are alike, and how many more there are."""
    told = list(notes)
    more = len(told) - LISTED_NOTES
    return told[:LISTED_NOTES] + ([f"... and {more} more concepts like these"] if more > 0 else [])


def _not_among_ancestors(named: Sequence[int], source: OmopSource) -> list[int]:
    """Return those that concept_ancestor never mentions; none where there is no such table."""
    if not source.has("concept_ancestor"):
        return []
    found: set[int] = set()
    ancestors = source.table("concept_ancestor")
    for column in ("ancestor_concept_id", "descendant_concept_id"):
        fitting = ancestors.filter(among(ancestors[column], named, source))
        found.update(fitting.select(column).distinct().to_pyarrow()[column].to_pylist())
    return [concept for concept in named if concept not in found]


def _unknown_notes(unknown: Sequence[int]) -> list[str]:
    if not unknown:
        return []
    first = ", ".join(map(str, unknown[:LISTED_NOTES]))
    first += f" and {len(unknown) - LISTED_NOTES} more" if len(unknown) > LISTED_NOTES else ""
    return [f"not in the enclave's vocabulary: concept {first}; check the concept id"]
