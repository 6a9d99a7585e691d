"""What a site is asked has one form, whoever matched: cover questions fill what is not in doubt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.look_tables import Questions, names_of
from linkage.matching.dataset import Shape
from linkage.matching.estimates import estimate
from linkage.matching.look_choice import Limits, choose
from linkage.matching.look_cover import Form, Room, covered, forms_of
from linkage.matching.second_look import Looks, questions
from linkage.matching.weights import Comparison, Weights

PARTIES = ("claims", "enclave", "imaging")
RECORDS = 300
SHAPES = [Shape(party, RECORDS, RECORDS, (), (), {}, {}) for party in PARTIES]
PAIRS = (("claims", "enclave"), ("claims", "imaging"), ("enclave", "imaging"))
SHARED = dict.fromkeys(PAIRS, ("last_name", "sex"))
NAMES = {
    party: np.random.default_rng([1, *party.encode()]).integers(0, 256, (RECORDS, 16), np.uint8)
    for party in PARTIES
}


def believed(common: int, doubts: int, seed: int) -> Weights:
    """As many common people of every two parties, and pairs in doubt among the others."""
    rng = np.random.default_rng(seed)
    made = []
    for parties in SHARED:
        left = np.r_[np.arange(common), rng.integers(0, RECORDS, doubts)]
        right = np.r_[np.arange(common), rng.integers(0, RECORDS, doubts)]
        p = np.r_[np.full(common, 0.99), rng.uniform(0.1, 0.9, doubts)]
        at = np.unique(left * RECORDS + right, return_index=True)[1]
        left, right, p = left[at].astype(np.uint32), right[at].astype(np.uint32), p[at]
        quality = estimate(p, p, float(max(1, common)))
        made.append(Comparison(parties, left, right, p, replace(quality, link_threshold=0.5)))
    return Weights(tuple(made), made[0].estimate, ())


def asked(
    made: Weights, most_per_record: int, most_per_run: int, seed: int
) -> tuple[dict[str, Form], Looks, dict[str, Questions]]:
    forms = forms_of(
        made, SHAPES, SHARED, most_per_record=most_per_record, most_per_run=most_per_run
    )
    draw = np.random.default_rng([seed, 2]).bytes
    looks = choose(made, forms, SHARED, Limits(most_per_run, 0.5), seed=seed, draw=draw)
    return forms, looks, questions(looks, NAMES, forms, seed=seed, draw=draw)


@given(
    common=st.integers(0, RECORDS),
    doubts=st.integers(0, 200),
    most_per_record=st.integers(1, 6),
    most_per_run=st.integers(1, 900),
    seed=st.integers(0, 2**16),
)
def test_the_form_is_that_of_the_limits_alone(
    common: int, doubts: int, most_per_record: int, most_per_run: int, seed: int
) -> None:
    made = believed(common, doubts, seed)
    forms, looks, found = asked(made, most_per_record, most_per_run, seed)
    times = min(most_per_record, most_per_run, 2)
    records = min(RECORDS, most_per_run // times)
    for party, one in found.items():
        assert len(one) == records * times <= most_per_run
        often = Counter(names_of(one.pseudonyms))
        assert set(often.values()) == {times}
        named = Counter(one.partners)
        assert max(named.values()) - min(named.values()) <= 1
        # As large a share of the linked is asked about as of all.
        linked = set(names_of(NAMES[party][forms[party].linked]))
        assert len(linked & set(often)) == round(records * len(linked) / RECORDS)
    # What the broker wants to know is all among it, at both sites.
    for pairs in looks.comparisons:
        for party in pairs.parties:
            assert set(names_of(pairs.nonces)) <= set(names_of(found[party].nonces))


def test_a_cover_question_has_no_other_half() -> None:
    _, looks, found = asked(believed(100, 40, 1), 5, 600, 1)
    real = {nonce for pairs in looks.comparisons for nonce in names_of(pairs.nonces)}
    halves = Counter(nonce for one in found.values() for nonce in names_of(one.nonces))
    assert {nonce for nonce, n in halves.items() if n == 2} == real
    assert len(halves) > len(real), "and there are cover questions"
    tags = np.concatenate([one.tags for one in found.values()])
    assert len(np.unique(tags, axis=0)) == len(tags)


def test_nothing_in_doubt_is_asked_as_much_as_anything() -> None:
    """Nobody of a site is anywhere else, or all are: its questions have the same size."""
    none, all_of_them = (asked(believed(n, d, 3), 5, 500, 3)[2] for n, d in ((0, 0), (250, 50)))
    for party in PARTIES:
        assert len(none[party]) == len(all_of_them[party]) == 500
        assert Counter(none[party].partners) == Counter(all_of_them[party].partners)


def test_without_a_comparison_nobody_is_asked() -> None:
    made = believed(10, 10, 1)
    forms = forms_of(made, SHAPES, (), most_per_record=5, most_per_run=100)
    assert forms == {}
    assert covered(forms, (), NAMES, np.random.default_rng(1).bytes, np.random.default_rng(1)) == {}
    assert not Room(forms).take(("claims", "enclave"), 0, 0)


def test_a_party_without_records_is_not_asked() -> None:
    shapes = [replace(SHAPES[0], records=0, people=0), *SHAPES[1:]]
    forms = forms_of(believed(0, 0, 1), shapes, SHARED, most_per_record=5, most_per_run=100)
    assert set(forms) == {"enclave", "imaging"}


@pytest.mark.parametrize("parties", [2, 12])
def test_many_partners_share_the_questions(parties: int) -> None:
    names = [f"p{n:02}" for n in range(parties)]
    shapes = [Shape(name, RECORDS, RECORDS, (), (), {}, {}) for name in names]
    shared = [(one, other) for n, one in enumerate(names) for other in names[n + 1 :]]
    made = Weights((), believed(1, 0, 1).overall, ())
    forms = forms_of(made, shapes, shared, most_per_record=5, most_per_run=100)
    for form in forms.values():
        assert form.times == (2 if parties == 2 else 5)
        assert sum(form.partners.values()) == form.times * sum(form.quota) == 100
