"""What happens to ids, visits, dates and texts of one table, row by row."""

from __future__ import annotations

import pytest

from linkage.errors import SourceRefused
from sites.cohort.delivered import Deliverer, number_persons
from sites.cohort.omop import OmopSource

from .conftest import PERSON, RACE, OpenOmop

VISITS = """\
visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_end_date,\
visit_type_concept_id,preceding_visit_occurrence_id
70,1,9201,2001-01-02,,0,71
71,1,9201,2001-01-01,2001-01-01,0,
72,2,9201,2001-01-01,2001-01-01,0,70"""
CONDITIONS = """\
condition_occurrence_id,person_id,condition_concept_id,condition_start_date,\
condition_type_concept_id,visit_occurrence_id,provider_id,condition_source_value
500,1,10,2003-01-01,0,70,9,common
501,1,10,2002-01-01,0,72,9,common
502,1,,2001-01-01,0,99,9,rare
503,1,10,2004-01-01,0,0,9,
504,1,10,,0,70,9,common
505,2,10,2001-01-01,0,,9,common
506,2,10,2001-01-01,0,,9,common"""


@pytest.fixture
def source(open_omop: OpenOmop) -> OmopSource:
    return open_omop(
        "1,8532,1950,6,15 2,8507,1950,1,1",
        visit_occurrence=VISITS,
        condition_occurrence=CONDITIONS,
    )


def test_each_row_of_a_table(source: OmopSource) -> None:
    numbering = number_persons(["C1", "C2"], source, b"s" * 32)
    units = {1: "C1", 2: "C2"}
    tables, facts = Deliverer(source, units, numbering, minimum_cell=2).all_tables()
    one = numbering.persons["C1"]
    visits = [v for v in tables["visit_occurrence"].to_pylist() if v["person_id"] == one]
    first, second = visits  # by date, so the source's order of ids is gone
    assert [str(v["visit_start_date"]) for v in visits] == ["2001-01-01", "2001-01-02"]
    assert str(second["visit_end_date"]) == "2001-01-02"
    assert second["preceding_visit_occurrence_id"] == first["visit_occurrence_id"]
    rows = [c for c in tables["condition_occurrence"].to_pylist() if c["person_id"] == one]
    assert [(str(c["condition_start_date"]), c["condition_concept_id"]) for c in rows] == [
        ("2001-01-01", 0),
        ("2002-01-01", 10),
        ("2003-01-01", 10),
        ("2004-01-01", 10),
    ]
    assert [c["visit_occurrence_id"] for c in rows] == [
        None,  # no such visit
        None,  # a visit of another person
        second["visit_occurrence_id"],
        None,  # 0 means none, and is no orphan
    ]
    assert [c["condition_source_value"] for c in rows] == [None, "common", "common", None]
    assert {c["provider_id"] for c in rows} == {None}
    fact = facts["condition_occurrence"]
    assert (fact.rows, fact.persons, fact.orphan_visits) == (6, 2, 2)
    assert (fact.texts_left_out, fact.concepts_filled, fact.undated) == (1, 1, 1)
    assert facts["visit_occurrence"].orphan_visits == 1


@pytest.mark.parametrize(
    ("largest", "base"), [(9, 10_000), (10_000, 10_000), (10_001, 100_000), (5 * 10**12, 10_000)]
)
def test_new_ids_lie_where_the_source_has_none(
    open_omop: OpenOmop, largest: int, base: int
) -> None:
    source = open_omop(f"1,0,1950,1,1 {largest},0,1950,1,1")
    assert number_persons(["C"], source, b"s" * 32).persons == {"C": base + 1}


def test_a_source_that_leaves_no_room_is_refused(open_omop: OpenOmop) -> None:
    source = open_omop(person=f"{PERSON},{RACE}\n{2**31 - 1},0,1950,1,1,0,0")
    with pytest.raises(SourceRefused, match="whole range"):
        number_persons(["C"], source, b"s" * 32)
