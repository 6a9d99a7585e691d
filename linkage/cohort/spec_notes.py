"""What is allowed in a specification and may still surprise its author."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from linkage.cohort import circe
from linkage.cohort.spec import CohortSpec, load_spec

_OTHER_DOMAINS = frozenset({"condition", "procedure", "drug", "measurement", "observation"})


def oddities(path: Path) -> list[str]:
    """
    Return notes in words on the specification in a file, which is one that `load_spec` takes.

    They are of its concept-set files, of which the specification itself holds no more than items,
    and of pairs of criteria that nobody can meet.
    """
    return [*_of_files(path), *of_criteria(load_spec(path))]


def _of_files(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    raw = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    notes = []
    for criterion in raw["clinical"].get("concepts", []):
        named = criterion.get("concept_set")
        if not isinstance(named, str):
            continue
        read = circe.read_named(path.parent.resolve(), named)
        notes += [f"{named}: {oddity}" for oddity in read.oddities]
        if read.domains & _OTHER_DOMAINS and criterion["domain"] not in read.domains:
            held = " and ".join(sorted(read.domains))
            notes.append(
                f"{named}: its concepts are of domain {held}, and domain {criterion['domain']} is"
                " searched: little or nothing will be found"
            )
    return notes


def of_criteria(spec: CohortSpec) -> list[str]:
    """Return notes on pairs of criteria that nobody can meet, and on what may be refused."""
    notes = []
    concepts = spec.clinical.concepts
    wanted = [set(one.items) for one in concepts if not one.exclude and one.items]
    for one in concepts:
        plain = not (one.value or one.unit or one.days_from_imaging or one.at_least > 1)
        if one.exclude and plain and any(items <= set(one.items) for items in wanted):
            notes.append("a concept is asked for and excluded: nobody has both")
        if one.value and not one.unit:
            named = one.name or ", ".join(map(str, one.concept_id)) or "a set"
            notes.append(
                f"the value of {named} is compared in whatever unit a record has, mg/dL and mmol/L"
                " alike: name the unit's concept too (unit = 8840 is mg/dL)"
            )
    if spec.imaging.study != "any" and not spec.imaging.dates:
        notes.append(
            f"only the {spec.imaging.study} study of each subject is meant: a commons that knows"
            " no dates at all must refuse that"
        )
    return notes
