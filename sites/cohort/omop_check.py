"""
What the enclave's OMOP tables can answer, before anybody asks: for its data manager.

    report = check(source)
    report.tables["measurement"]       "found", or what is missing and what that means
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linkage.errors import LinkageError
from sites.cohort import cdm
from sites.cohort.clinical import matching_records
from sites.cohort.concepts import vocabulary_notes
from sites.cohort.omop import OmopSource
from sites.cohort.tables import no_values_in_errors

_ASKED = frozenset(
    "value_as_number unit_concept_id cause_concept_id month_of_birth day_of_birth".split()
)
"""Columns that the CDM lets be left out and criteria ask for."""

_VOCABULARY = {
    "concept_ancestor": "descendants = true is refused",
    "concept": "mistyped concepts are found by concept_ancestor only",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OmopCheck:
    """
    tables: by name, "found" or what is not. index_events: by name, whether it can be dated. notes:
    values that cannot be read, and other oddities, by table and column. No value, no count of
    persons. usable: no table is broken, and every index event can be dated.
    """

    tables: dict[str, str]
    index_events: dict[str, str]
    notes: tuple[str, ...]
    usable: bool

    def to_json(self) -> dict[str, Any]:
        """Return the same for a program."""
        return {
            "usable": self.usable,
            "tables": self.tables,
            "index_events": self.index_events,
            "notes": list(self.notes),
        }


def check(source: OmopSource) -> OmopCheck:
    """Read every table's header and types, and ask for the first record of every index event."""
    tables: dict[str, str] = {}
    broken = False
    for name in [*(table.name for table in cdm.TABLES), *_VOCABULARY]:
        if not source.has(name):
            tables[name] = f"missing: {_VOCABULARY.get(name, _without(name))}"
            continue
        try:
            absent = [column for column in source.absent(name) if column in _ASKED]
        except LinkageError as fault:
            tables[name], broken = f"{fault.message}. {fault.hint}", True
            continue
        tables[name] = f"found, without {', '.join(absent)}" if absent else "found"
    events = {name: _dated(source, name) for name in source.config.index_events}
    usable = not broken and all(said.startswith("dated") for said in events.values())
    return OmopCheck(tables=tables, index_events=events, notes=tuple(source.notes), usable=usable)


def _without(name: str) -> str:
    domains = [domain for domain, (table, _, _) in cdm.DOMAINS.items() if table == name]
    if not domains:
        return "delivered empty"
    return f"criteria of domain {domains[0]} are refused; delivered empty"


def _dated(source: OmopSource, name: str) -> str:
    one = source.config.index_events[name]
    try:
        with no_values_in_errors("index_events"):
            found = matching_records(one, source).limit(1).to_pyarrow().num_rows
            notes = vocabulary_notes(one, source)
    except LinkageError as fault:
        return f"{fault.message}. {fault.hint}"
    if not found:
        return f"no {one.domain} record meets it. {'; '.join(notes)}".rstrip(". ")
    return "; ".join(["dated by the first record that meets it", *notes])
