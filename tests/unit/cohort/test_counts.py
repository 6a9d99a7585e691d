"""Answers to questions: on persons, suppressed, entered in the ledger, always the same."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion
from linkage.errors import Conflict, KeyRefused, NotAllowed
from linkage.study_parts import CountRules
from sites.cohort.config_counts import CountsConfig
from sites.cohort.counts import Counts, answer_counts, falling
from sites.cohort.disclosure import TOO_FEW
from sites.cohort.ledger import Ledger
from sites.cohort.omop import OmopSource
from sites.cohort.one_way import AGE_BANDS, age_band
from sites.count_ledger import listed

from .conftest import OpenOmop, events
from .ledgers import asked, ledger_in

CRITERIA = ClinicalCriteria(
    concepts=[ConceptCriterion(domain="procedure", concept_id=10, descendants=False)]
)
Ask = Callable[..., Counts]
_QUESTIONS = itertools.count(1)


@pytest.fixture
def source(open_omop: OpenOmop) -> OmopSource:
    """400 persons, women with odd ids; the first 300 have the procedure, aged 20 to 79."""
    people = " ".join(
        f"{n},{8532 if n % 2 else 8507},{2000 - 20 - n % 60},1,1" for n in range(1, 401)
    )
    rows = [(n, 10, "2000-06-01") for n in range(1, 301)]
    return open_omop(people, procedure_occurrence=events("procedure", *rows))


@pytest.fixture
def ask(source: OmopSource, tmp_path: Path) -> Ask:
    """Ask about those of the 400 who have images that fit; each time a new question."""

    def answer(
        qualifying: Collection[int],
        *,
        ledger: Ledger | None = None,
        question: str = "",
        criteria: ClinicalCriteria = CRITERIA,
        **more: Any,
    ) -> Counts:
        return answer_counts(
            [f"Q{n}" for n in qualifying] + ["Q-of-nobody-here"],
            {n: f"Q{n}" for n in range(1, 401)},
            criteria,
            source,
            ledger=ledger or ledger_in(tmp_path / "private"),
            asked=asked(question or f"question-{next(_QUESTIONS)}"),
            **more,
        )

    return answer


def exact(tmp_path: Path) -> Ledger:
    """Return a ledger of a study that blurs and rounds nothing."""
    return ledger_in(tmp_path / "exact", noise=0, rounding=1)


def test_the_answer_is_the_intersection_of_both_halves(ask: Ask, tmp_path: Path) -> None:
    counts = ask(range(101, 401), ledger=exact(tmp_path))
    assert counts.exact == counts.persons == 200
    assert counts.overlap == 300
    assert counts.distributions["sex"] == {"female": 100, "male or unknown": 100}
    assert [shown for _, shown in counts.attrition] == [400, 300, 300, 200]


def test_blurred_and_rounded_is_the_default(ask: Ask) -> None:
    counts = ask(range(101, 401))
    assert isinstance(counts.persons, int)
    assert counts.persons % 5 == 0
    assert abs(counts.persons - 200) <= 10 + 2.5
    assert counts.to_json()["noise"] == 10


def test_small_answers_show_nothing_but_their_smallness(ask: Ask) -> None:
    for qualifying in ([1, 2], range(10, 20), range(301, 401), []):
        counts = ask(qualifying)
        assert counts.persons == TOO_FEW
        assert counts.distributions == {"sex": None, "age": None}


def test_nobody_is_told_from_few_where_the_study_says_so(ask: Ask, tmp_path: Path) -> None:
    open_study = ledger_in(tmp_path / "open", zero="shown")
    assert ask(range(301, 401), ledger=open_study).persons == 0
    assert ask(range(292, 392), ledger=open_study).persons == TOO_FEW


def test_tables_come_with_large_cohorts_and_for_approved_variables_only(ask: Ask) -> None:
    assert set(ask(range(1, 301), variables=["race"]).distributions) == {"race"}
    assert ask(range(1, 301), variables=[]).distributions == {}
    fewer = ask(range(1, 80))
    assert isinstance(fewer.persons, int)
    assert fewer.distributions["sex"] is None


def test_a_table_leaves_nobody_over(ask: Ask, tmp_path: Path) -> None:
    table = ask(range(1, 301), ledger=exact(tmp_path)).distributions["age"]
    assert table is not None
    assert sum(int(shown) for shown in table.values()) == 300
    assert any(" or " in name for name in table), "bands without anybody are shown with another"


def test_without_an_age_there_is_no_table_of_ages(ask: Ask) -> None:
    counts = ask(range(1, 401), criteria=ClinicalCriteria(sex=["female", "male"]))
    assert counts.distributions["sex"] is not None
    assert counts.distributions["age"] is None


@pytest.mark.threat("T18")
def test_what_leaves_holds_no_id_and_not_the_exact_number(ask: Ask) -> None:
    counts = ask(range(1, 249))
    text = json.dumps(counts.to_json())
    assert "Q" not in text
    assert "exact" not in text + repr(counts)
    assert "248" not in text


@pytest.mark.threat("T18")
def test_the_same_question_has_the_same_answer(ask: Ask, tmp_path: Path) -> None:
    one, again = ask(range(1, 249)), ask(range(1, 249))
    assert one == again
    entries = ledger_in(tmp_path / "private").entries()
    assert [bool(entry.same_as) for entry in entries] == [False, True]


def test_an_answered_question_stays_answered(ask: Ask) -> None:
    first = ask(range(1, 249), question="q1")
    assert ask(range(1, 20), question="q1") == first


@pytest.mark.threat("T18")
def test_no_new_count_until_enough_records_changed(ask: Ask, tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path / "study", noise=0, rounding=1, changed=30)
    first = ask(range(1, 201), ledger=ledger)
    assert ask(range(1, 230), ledger=ledger) == first, "29 more"
    later = ask(range(1, 231), ledger=ledger)
    assert (first.persons, later.persons) == (200, 230)


def test_the_questions_of_an_epoch_are_counted(ask: Ask, tmp_path: Path) -> None:
    few = ledger_in(tmp_path / "study", questions=2)
    for last in (100, 200):
        ask(range(1, last), ledger=few)
    assert ask(range(1, 200), ledger=few).exact == 199
    with pytest.raises(NotAllowed, match="2 questions of this epoch"):
        ask(range(1, 300), ledger=few)
    ask(range(1, 300), ledger=ledger_in(tmp_path / "study", questions=2, epoch=2))


def test_a_missing_entry_of_the_ledger_is_noticed(ask: Ask, tmp_path: Path) -> None:
    for last in (100, 200):
        ask(range(1, last))
    (tmp_path / "private" / "kept" / "counts" / "answer-000001").unlink()
    with pytest.raises(KeyRefused, match="is missing before"):
        ask(range(1, 300))


def test_one_question_is_counted_at_a_time(ask: Ask, tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path / "private")
    with ledger.held(), pytest.raises(Conflict, match="being counted"):
        ask(range(1, 200), ledger=ledger)
    assert ask(range(1, 200), ledger=ledger).exact == 199


def test_nothing_of_the_ledger_is_readable_on_the_disk(ask: Ask, tmp_path: Path) -> None:
    ask(range(1, 249), question="question-with-a-name")
    kept = [path for path in (tmp_path / "private" / "kept").rglob("*") if path.is_file()]
    assert len(kept) == 3
    for path in kept:
        content = path.read_bytes()
        assert b"question-with-a-name" not in content
        assert b"exact" not in content
        assert path.stat().st_mode & 0o077 == 0


def test_a_person_with_two_records_counts_once(source: OmopSource, tmp_path: Path) -> None:
    names = {1: "one", 2: "one", 3: "two"}
    counts = answer_counts(
        ["one", "two"],
        names,
        ClinicalCriteria(any=True),
        source,
        ledger=ledger_in(tmp_path / "private"),
        asked=asked("q"),
    )
    assert counts.exact == 2


def test_a_step_never_seems_to_add_persons() -> None:
    assert falling([100, 95, TOO_FEW, 105, TOO_FEW]) == [105, 105, 105, 105, TOO_FEW]
    assert falling([200, 100, 100, 0]) == [200, 100, 100, 0]


@given(st.integers(-5, 150) | st.none())
def test_every_age_has_one_band(age: int | None) -> None:
    band = age_band(age)
    assert band in AGE_BANDS
    if age is not None and 0 <= age <= 130 and "-" in band:
        low, high = band.split("-")
        assert int(low) <= age <= int(high)


def test_every_setting_of_counts_is_explained() -> None:
    page = (Path(__file__).parents[3] / "docs" / "counts.md").read_text(encoding="utf-8")
    table = page.partition("## What a study sets")[2].partition("##")[0]
    for key, field in CountRules.model_fields.items():
        default = f'"{field.default}"' if isinstance(field.default, str) else field.default
        assert f"| `{key}` | " in table
        assert str(default) in table.partition(f"| `{key}` | ")[2].partition(" | ")[0]
    example = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])
    assert CountsConfig.model_validate(example["counts"]).variables[2:] == ("race", "ethnicity")
    with pytest.raises(ValidationError, match="named twice"):
        CountsConfig(variables=("sex", "sex"))


def test_a_reloaded_database_meets_its_earlier_answers(open_omop: OpenOmop, tmp_path: Path) -> None:
    """New person_ids, the same record ids: the ledger knows the persons again."""
    for turn, offset in enumerate((0, 5000)):
        people = " ".join(f"{n + offset},8507,1950,1,1" for n in range(1, 101))
        answer_counts(
            [f"{turn}-{n}" for n in range(1, 61)],
            {n + offset: f"{turn}-{n}" for n in range(1, 101)},
            ClinicalCriteria(any=True),
            open_omop(people),
            ledger=ledger_in(tmp_path / "private"),
            asked=asked(f"q{turn}", run=f"run-{turn}"),
            names={n + offset: f"record {n}" for n in range(1, 101)},
        )
    assert [one.same_as for one in ledger_in(tmp_path / "private").entries()] == ["", "q0"]


def test_the_data_manager_sees_what_was_shown_and_no_exact_number(ask: Ask, tmp_path: Path) -> None:
    shown = ask(range(1, 249), question="q1").persons
    ask(range(1, 249), question="q2")
    rows = listed(ledger_in(tmp_path / "private"))
    assert [(row["question"], row["persons"], row["answer of"]) for row in rows] == [
        ("q1", shown, "q1"),
        ("q2", shown, "q1"),
    ]
    assert rows[0]["counted at"] == "2027-01-15T08:00:00+00:00"
    assert "248" not in json.dumps(rows)
