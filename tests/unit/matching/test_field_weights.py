"""What the fields of asked pairs weigh, where families and initials look like matches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.field_weights import weigh_looks
from linkage.matching.second_look import LookLevels, LookPairs, Looks, Reason

PARTIES = ("alpha", "beta")
FIELDS = ("first_name", "middle_name", "last_name", "street")
RULES = {"street-mi-last": ("street", "middle_name:initial", "last_name")}
LEVEL = dict(zip("-DACE", range(5), strict=True))
PEOPLE, MATCHES = 2_000, 1_300.0


def weights(
    shown: Mapping[str, int], attested: int, rules: Mapping[str, tuple[str, ...]] = RULES
) -> dict[str, float]:
    """Return the log weight of each pattern of levels, of which that many pairs were asked."""
    patterns = [text for text, count in shown.items() for _ in range(count)]
    count = len(patterns)
    rows = np.arange(count, dtype=np.uint32)
    pairs = LookPairs(
        parties=PARTIES,
        fields=FIELDS,
        left=rows,
        right=rows,
        reason=np.full(count, Reason.UNCERTAIN, np.uint8),
        probability=np.full(count, 0.5),
        stands_for=np.array([4.0 if p == "EEEE" else 1.0 for p in patterns]),
        nonces=np.zeros((count, 16), np.uint8),
    )
    levels = np.array([[LEVEL[letter] for letter in text] for text in patterns], np.uint8)
    chance: dict[str, Floats] = {}
    answered = LookLevels(PARTIES, levels, np.ones(count, np.bool_), chance)
    shapes = [
        Shape(party, PEOPLE, PEOPLE, (), tuple(RULES), dict.fromkeys(RULES, attested), {})
        for party in PARTIES
    ]
    found = weigh_looks(Looks((pairs,)), [answered], shapes, {PARTIES: MATCHES}, rules)
    return dict(zip(patterns, found.comparisons[PARTIES].log_weight.tolist(), strict=True))


SHOWN = {"EEEE": 300, "DEEE": 20, "AEEE": 10, "DDDD": 100, "DEDD": 20}
"""As three parties of 2,000 simulated people show them, the 20 mostly of two relatives."""


def test_relatives_who_share_a_key_are_known_by_attested_collisions() -> None:
    """Another first name, the same street, surname and initial: as many as that were foretold."""
    many, few = (weights(SHOWN, attested) for attested in (200, 0))
    assert many["DEEE"] < 0 < few["DEEE"]
    for found in (many, few):
        assert found["EEEE"] > 5
        assert found["AEEE"] > 2
        assert found["DDDD"] < -5


def test_without_their_fields_rules_tell_nothing() -> None:
    other = {"street-mi-last": ("street", "zip")}
    assert weights(SHOWN, 200, {}) == weights(SHOWN, 0, {}) == weights(SHOWN, 200, other)


def test_initials_that_agree_are_no_coincidence_of_whole_names() -> None:
    """Where strangers who agree do so as initials, EQUAL is worth less than where they do not."""
    initials = weights({**SHOWN, "DEDD": 60}, 20)
    names = weights({**SHOWN, "DEDD": 0, "DADD": 60}, 20)
    assert initials["EEEE"] < names["EEEE"] - 0.5


def test_levels_that_nobody_shows_keep_a_finite_weight() -> None:
    found = weights({**SHOWN, "ECEE": 1}, 20)
    assert abs(found["ECEE"]) < 50
