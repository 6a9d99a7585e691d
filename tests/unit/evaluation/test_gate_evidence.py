"""What the release gate writes down of a piece of evidence is the worst that was found."""

from __future__ import annotations

from dataclasses import replace

from linkage.evaluation.attacks.crowds import simulated
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.gate_choice import at_depths
from linkage.evaluation.gate_evidence import Pieces, attack_plain, expectations
from linkage.evaluation.gate_people import fields_of
from linkage.study import parse_study
from tests.studies import STUDY


def test_whom_an_attacker_finds_who_knows_nobody_counts_too() -> None:
    study = at_depths(parse_study(STUDY), {"name-dob-sex": 5})
    crowd = simulated(600, seed=1, fields=fields_of(study))
    pieces = Pieces.of(study, expectations(study, crowd, seed=1))
    for draw in (1, 2):
        pieces.draw(study, crowd, known_share=0.05, seed=draw)
    (piece,) = pieces.all
    # As if who knows some of the people had found nobody.
    piece.seeded = [Reidentified(len(crowd), 0)]
    # A guess in the dark hits nobody now and then; whom it hits must count.
    tries = (
        piece.measured(study, 2_000, known_share=0.05, thinned=1.0, seed=seed)
        for seed in range(1, 20)
    )
    measured = next(one for one in tries if one.blind.correct)
    assert measured.figures.seeded == measured.worst == measured.blind.share > 0


def test_who_lacks_a_clk_counts_as_not_found_in_the_attack_on_plain_ones() -> None:
    """2,000 people are enough for a measurement, although one of them lacks a field."""
    study = parse_study(STUDY)
    crowd = simulated(600, seed=1, fields=fields_of(study))
    (guess,) = expectations(study, crowd, seed=1)
    present = guess.present.copy()
    present[[5, 77, 431]] = False
    found = attack_plain(study, replace(guess, present=present), crowd)
    assert found.n == 600
    assert 580 <= found.correct <= present.sum() <= 597
