"""
Who is in a cohort, and whether those who were lost differ from them.

    people = describe(source, {person_id: unit}, reached)       PEOPLE, exact
    who_was_lost(people, steps, rule)                            fit to be read

Compared are the delivered with those who meet the criteria but were lost on the way (their rows did
not come, did not open, or are another person's too), and with those who do not meet the clinical
criteria. Who was not linked at all cannot be compared: the enclave does not know who of its own
persons has images that no link found.

These counts are rounded, other than those of the delivered alone: both sides of a difference would
else tell how many the other one has.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import ibis
import pyarrow as pa

from sites.cohort import cdm
from sites.cohort.attrition import Step
from sites.cohort.disclosure import CellRule, Shown
from sites.cohort.omop import OmopSource
from sites.cohort.report_groups import (
    COARSE_AGES,
    ETHNICITY_GROUPS,
    RACE_GROUPS,
    SEX_GROUPS,
    coarse_age,
    ethnicity_group,
    race_group,
    table_of,
)
from sites.cohort.report_numbers import difference, readable, shares
from sites.cohort.tables import no_values_in_errors

MOST_SITES = 12
MET_NOT = "criterion not met"
"""How the reason of a step begins that somebody asked for; see sites.cohort.clinical."""

PEOPLE = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("reached", pa.int32(), nullable=False),
        pa.field("sex", pa.string(), nullable=False),
        pa.field("birth_year", pa.int32()),
        pa.field("race", pa.string(), nullable=False),
        pa.field("ethnicity", pa.string(), nullable=False),
        pa.field("site", pa.int64()),
    ]
)
"""
The matched persons that are in OMOP, one row a unit. reached: number of the last step of the
attrition they are in, from 0. site: care_site_id of the source, never shown.
"""


def describe(source: OmopSource, units: Mapping[int, str], reached: Mapping[str, int]) -> pa.Table:
    """
    Return PEOPLE for the units (cohort ID by person_id); a unit of two persons is its smaller id.

    reached: last step by unit. Raises SourceRefused for an unusable source.
    """
    firsts: dict[str, int] = {}
    for person in sorted(units):
        firsts.setdefault(units[person], person)
    asked = source.person_rows(
        {
            "person_id": pa.array(list(firsts.values()), pa.int64()),
            "unit": pa.array(list(firsts), pa.string()),
        }
    )
    with no_values_in_errors("person"):
        persons = source.table("person")
        gender = persons.gender_concept_id
        sex = ibis.cases(
            (gender == cdm.FEMALE, "female"), (gender == cdm.MALE, "male"), else_="unknown"
        )
        found = (
            persons.select(
                "person_id",
                sex=sex,
                birth_year=persons.year_of_birth,
                race=persons.race_concept_id,
                ethnicity=persons.ethnicity_concept_id,
                site=persons.care_site_id,
            )
            .inner_join(asked, "person_id")
            .order_by("unit")
            .to_pyarrow()
        )
    names = found["unit"].to_pylist()
    columns = {
        "unit": names,
        "reached": [reached.get(one, 0) for one in names],
        "sex": found["sex"].to_pylist(),
        "birth_year": found["birth_year"].to_pylist(),
        "race": [race_group(one) for one in found["race"].to_pylist()],
        "ethnicity": [ethnicity_group(one) for one in found["ethnicity"].to_pylist()],
        "site": found["site"].to_pylist(),
    }
    return pa.table(
        {field.name: pa.array(columns[field.name], field.type) for field in PEOPLE}
    ).cast(PEOPLE)


def reached(
    steps: Sequence[Step], units: Iterable[str], stages: Sequence[Collection[str]]
) -> dict[str, int]:
    """
    Return the number of the last step that each unit reached.

    stages: who is in each of the last steps, of which the first is the last clinical criterion.
    Which of several criteria somebody failed is not told apart: they count as failing the first.
    """
    first = len(steps) - len(stages)
    asked = [n for n, step in enumerate(steps) if step.reason.startswith(MET_NOT)]
    failed = (asked[0] if asked else first) - 1
    return {
        one: max((first + n for n, stage in enumerate(stages) if one in stage), default=failed)
        for one in units
    }


def who_is_in(people: pa.Table, last: int, rule: CellRule) -> dict[str, dict[str, Shown] | None]:
    """Return race and ethnicity of the delivered (those who reached step `last`), as shown."""
    rows = [row for row in people.to_pylist() if row["reached"] == last]
    return {
        "race": table_of([row["race"] for row in rows], RACE_GROUPS, rule),
        "ethnicity": table_of([row["ethnicity"] for row in rows], ETHNICITY_GROUPS, rule),
    }


def who_was_lost(
    people: pa.Table, steps: Sequence[Step], rule: CellRule, *, today: dt.date
) -> list[dict[str, Any]]:
    """
    Return, for each group that was not delivered, how it compares with the delivered.

    today: the day from which ages are counted. A group of too few people says so and nothing more.
    """
    coarse = CellRule(rule.minimum, min(5, rule.minimum))
    last = len(steps) - 1
    rows = people.to_pylist()
    delivered = [row for row in rows if row["reached"] == last]
    # A person is lost at the step after the last one reached.
    asked = {n for n, step in enumerate(steps) if step.reason.startswith(MET_NOT)}
    groups = {
        "lost on the way, though they meet the clinical criteria": [
            row for row in rows if row["reached"] < last and row["reached"] + 1 not in asked
        ],
        "do not meet the clinical criteria": [
            row for row in rows if row["reached"] < last and row["reached"] + 1 in asked
        ],
    }
    sites = _sites(rows)
    return [
        {
            "group": name,
            "persons": coarse.show(len(gone)),
            "delivered": coarse.show(len(delivered)),
            "variables": _compared(delivered, gone, sites, coarse, today),
        }
        for name, gone in groups.items()
    ]


def _compared(
    delivered: Sequence[Mapping[str, Any]],
    gone: Sequence[Mapping[str, Any]],
    sites: Mapping[int, str],
    rule: CellRule,
    today: dt.date,
) -> list[dict[str, Any]]:
    if any(len(group) < rule.minimum for group in (delivered, gone)):
        return []
    site_names = [*dict.fromkeys(sites.values()), "unknown"]
    variables: list[tuple[str, Sequence[str], Any]] = [
        ("sex", SEX_GROUPS, lambda row: row["sex"]),
        ("age", COARSE_AGES, lambda row: _age(row["birth_year"], today)),
        ("race", RACE_GROUPS, lambda row: row["race"]),
        ("ethnicity", ETHNICITY_GROUPS, lambda row: row["ethnicity"]),
        ("site", site_names, lambda row: sites.get(row["site"], "unknown")),
    ]
    compared: list[dict[str, Any]] = []
    for name, groups, of in variables:
        kept, lost = (
            table_of([of(row) for row in rows], groups, rule) for rows in (delivered, gone)
        )
        if kept is None or lost is None:
            compared.append({"name": name, "groups": [], "difference": None})
            continue
        whole = [rule.show(len(rows)) for rows in (delivered, gone)]
        whole = [_whole(table, total) for table, total in zip((kept, lost), whole, strict=True)]
        of_kept, of_lost = shares(kept, whole[0]), shares(lost, whole[1])
        compared.append(
            {
                "name": name,
                "groups": [
                    {"group": one, "delivered": of_kept[one], "lost": of_lost[one]}
                    for one in groups
                    if kept[one] != 0 or lost[one] != 0
                ],
                "difference": difference(readable(kept, whole[0]), readable(lost, whole[1])),
            }
        )
    return compared


def _whole(shown: Mapping[str, Shown], total: Shown) -> Shown:
    """Return what shares are of: the sum of the rounded cells, or the total where some hide."""
    seen = sum(count for count in shown.values() if isinstance(count, int))
    some_hide = any(not isinstance(count, int) for count in shown.values())
    return max(seen, total) if some_hide and isinstance(total, int) else seen


def _age(birth_year: int | None, today: dt.date) -> str:
    """Coarse: the report's own ages are of another day, and two cuts of one variable would tell."""
    return coarse_age(None if birth_year is None else today.year - birth_year)


def _sites(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return a name for each care site, numbered by size, ties by id; the smallest share one."""
    counted = Counter(row["site"] for row in rows if row["site"] is not None)
    order = sorted(counted, key=lambda site: (-counted[site], site))
    return {
        site: f"site {n}" if n <= MOST_SITES else "smaller sites"
        for n, site in enumerate(order, start=1)
    }
