"""
What a cohort analyst tries (tests.unit.cohort.attacks), against rounding alone and as it is now.

0.5 is guessing. Rounds are played with fixed secrets, so figures repeat; the noise of the figures
themselves is about .06 (100 rounds).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion
from linkage.study_parts import CountRules
from sites.cohort.blur import Blur
from sites.cohort.counts import Counts, answer_counts
from sites.cohort.disclosure import TOO_FEW, CellRule, Shown
from sites.cohort.ledger import Ledger
from sites.cohort.omop import OmopSource
from sites.cohort.shown_sets import ShownSets, ShowRule

from . import attacks
from .attacks import Attack, Show, play
from .conftest import OpenOmop, events
from .ledgers import asked, ledger_in

DIFFERENCING = [
    attacks.differing_by_one_criterion,
    attacks.differing_at_a_step,
    attacks.differing_often,
    attacks.steps_that_differ_by_few,
    attacks.margins,
    attacks.margins_often,
]
WITHOUT_END = [
    attacks.planted_often,
    attacks.planted_apart(10),
    attacks.planted_apart(40),
    attacks.planted_apart(40, 130),
    attacks.many_long_questions(1),
    attacks.taken_out_often(40),
]
PLANTING = [
    attacks.ten_planted,
    attacks.planted_below_a_step,
    attacks.planted(17),
    attacks.planted(22),
    attacks.ten_taken_out,
    attacks.repeated,
]


def rounded_only(seed: int) -> Show:
    """Counts as they were shown before there was a ledger."""
    rule = CellRule(11, 5)
    return lambda persons: rule.show(len(persons))


def enclave(**changed: Any) -> Callable[[int], Show]:
    """Counts as they are shown by default, each enclave with a key of its own."""
    rules = CountRules(**changed)

    def make(seed: int) -> Show:
        rule = ShowRule(
            minimum=11,
            rounding=rules.rounding,
            zero=rules.zero,
            small_answers=rules.small_answers,
        )
        tags = np.random.default_rng(seed).integers(0, 2**64, 10_001, dtype=np.uint64)
        blur = Blur(hashlib.sha256(str(seed).encode()).digest(), rules.noise)
        sets = ShownSets(rule, blur, tags)

        def show(persons: Sequence[int]) -> Shown:
            return sets.show(np.array(persons, dtype=np.int64))

        return show

    return make


@pytest.mark.parametrize("attack", [*DIFFERENCING, *PLANTING, attacks.many_steps])
def test_rounding_alone_falls_to_every_attack(attack: Attack) -> None:
    assert play(attack, rounded_only, 40) > (0.7 if attack is attacks.margins_often else 0.95)


@pytest.mark.threat("T18")
@pytest.mark.parametrize("attack", DIFFERENCING)
def test_differencing_finds_nothing_at_all(attack: Attack) -> None:
    assert play(attack, enclave(), 6) == 0.5


@pytest.mark.threat("T18")
@pytest.mark.parametrize("attack", PLANTING)
def test_planted_members_hardly_help(attack: Attack) -> None:
    """One answer: at most .5 + p(no move) / 2 = .575, and rounding takes more away."""
    assert play(attack, enclave(), 100) < 0.7


@pytest.mark.threat("T18")
@pytest.mark.parametrize("attack", WITHOUT_END)
def test_planting_without_end_tells_little_of_anybody(attack: Attack) -> None:
    """
    Nobody is in more than ten small numbers of an epoch, which tell him in .68 of rounds.

    Asked by however many accounts in however many questions; no policy and no person looks on.
    """
    assert play(attack, enclave(), 40) < 0.78


@pytest.mark.parametrize("attack", [attacks.planted_apart(40), attacks.taken_out_often(40)])
def test_it_is_the_limit_on_each_person_that_ends_it(attack: Attack) -> None:
    assert play(attack, enclave(noise=6, small_answers=1000), 15) > 0.8


def test_without_noise_planted_members_find_the_target() -> None:
    """Why a study file that says noise = 0 is told off."""
    assert play(attacks.ten_planted, enclave(noise=0), 20) == 1.0


# The same through the whole answer, from question IDs and OMOP tables.

TARGET = 500
"""Person who has the diagnosis or not; persons 1 to 400 have it, 401 to 499 have not."""


def ill(*more: str) -> ClinicalCriteria:
    named = ConceptCriterion(domain="condition", concept_id=10, descendants=False)
    without = [
        ConceptCriterion(domain="condition", concept_id=int(one), descendants=False, exclude=True)
        for one in more
    ]
    return ClinicalCriteria(concepts=[named, *without])


@pytest.fixture(params=[False, True], ids=["target-is-not-ill", "target-is-ill"])
def source(open_omop: OpenOmop, request: pytest.FixtureRequest) -> OmopSource:
    """Person TARGET alone has concept 99, which everybody can ask for."""
    people = " ".join(f"{n},{8532 if n % 2 else 8507},1950,1,1" for n in range(1, TARGET + 1))
    rows = [(n, 10, "2000-06-01") for n in [*range(1, 401), *[TARGET] * request.param]]
    return open_omop(
        people, condition_occurrence=events("condition", *rows, (TARGET, 99, "2001-01-01"))
    )


def ask(
    source: OmopSource,
    ledger: Ledger,
    question: str,
    qualifying: Sequence[int],
    criteria: ClinicalCriteria,
    run: str = "run-1",
) -> Counts:
    """A fresh question ID for every person, as the broker makes them for every question."""
    names = {n: hashlib.sha256(f"{question}/{n}".encode()).hexdigest() for n in range(1, 501)}
    return answer_counts(
        [names[n] for n in qualifying],
        names,
        criteria,
        source,
        ledger=ledger,
        asked=asked(question, run),
    )


def numbers(counts: Counts) -> list[object]:
    return [counts.persons, counts.overlap, *(shown for _, shown in counts.attrition)]


@pytest.mark.threat("T18")
@pytest.mark.parametrize("first", [True, False], ids=["narrow-after-wide", "wide-after-narrow"])
def test_two_accounts_that_differ_in_one_criterion_read_the_same(
    source: OmopSource, tmp_path: Path, first: bool
) -> None:
    """Two researchers, two questions, two releases: the ledger is the study's, not theirs."""
    everyone = range(1, TARGET + 1)
    wide, narrow = ill(), ill("99")
    order = [wide, narrow] if first else [narrow, wide]
    one = ask(source, ledger_in(tmp_path), "account-1", everyone, order[0])
    # The second account comes another day, by another process.
    other = ask(source, ledger_in(tmp_path), "account-2", everyone, order[1], "run-2")
    assert one.persons == other.persons
    assert numbers(one)[-1] == numbers(other)[-1]


@pytest.mark.threat("T18")
def test_no_step_of_the_attrition_gives_the_target_away(source: OmopSource, tmp_path: Path) -> None:
    """The last step excludes the target alone: whether it is ill shows in no step."""
    counts = ask(source, ledger_in(tmp_path), "q", range(1, TARGET + 1), ill("99"))
    before, after = [shown for _, shown in counts.attrition][-2:]
    assert before == after


@pytest.mark.threat("T18")
def test_rewording_a_question_gives_the_same_numbers(source: OmopSource, tmp_path: Path) -> None:
    everyone = range(1, TARGET + 1)
    found = set()
    for n in range(6):
        # Concepts that nobody has, in other numbers and orders, make other specifications.
        criteria = ill(*(str(1000 + n * 7 + i) for i in range(n % 4)))
        found.add(ask(source, ledger_in(tmp_path), f"q{n}", everyone, criteria).persons)
    assert len(found) == 1


@pytest.mark.threat("T18")
def test_an_imaging_party_that_answers_with_a_chosen_set_reads_too_few(
    source: OmopSource, tmp_path: Path
) -> None:
    """It names ten persons whom it knows to be ill, and the target."""
    shown = {
        ask(
            source,
            ledger_in(tmp_path / str(n), key=hashlib.sha256(str(n).encode()).digest()),
            "q",
            [*range(1, 11), TARGET],
            ill(),
        ).persons
        for n in range(5)
    }
    assert shown == {TOO_FEW}


@pytest.mark.threat("T18")
def test_an_imaging_party_that_leaves_one_out_reads_the_same(
    source: OmopSource, tmp_path: Path
) -> None:
    ledger = ledger_in(tmp_path)
    everyone = ask(source, ledger, "q1", range(1, TARGET + 1), ill())
    but_one = ask(source, ledger, "q2", range(1, TARGET), ill())
    assert numbers(everyone) == numbers(but_one)
