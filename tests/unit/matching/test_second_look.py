"""Second looks: what is asked, within which bounds, and what lying or silent sites can do."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from linkage.encoding.columns import Coded
from linkage.encoding.field_filters import answer
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.errors import EncodingRefused, MatchingFailed
from linkage.look_tables import (
    Answers,
    Questions,
    answers_from_arrow,
    answers_to_arrow,
    fields_between,
    names_of,
    questions_from_arrow,
    questions_to_arrow,
)
from linkage.matching import look_choice
from linkage.matching.dataset import Shape
from linkage.matching.estimates import estimate
from linkage.matching.field_weights import weigh_looks
from linkage.matching.look_choice import MOST_LEFT_OVER, Limits, choose
from linkage.matching.look_cover import Form, forms_of
from linkage.matching.second_look import (
    Level,
    LookPairs,
    Looks,
    Reason,
    compare,
    looks_from_arrow,
    looks_to_arrow,
    questions,
)
from linkage.matching.weights import Comparison, Weights
from linkage.study import FIELDS, parse_study
from tests.studies import STUDY

EXCEPTION = 'release_gate_exception = "a study of the tests, on nobody"'
CONFIG = parse_study(STUDY.replace("[[party]]", f"{EXCEPTION}\n\n[[party]]", 1))
KEY = StudyKey(hashlib.sha256(b"second look").digest())
PARTIES = ("alpha", "beta")
SHARED = {PARTIES: fields_between(CONFIG, *PARTIES)}
PEOPLE = 60


def columns(names: list[str]) -> dict[str, Coded]:
    draw = np.random.default_rng(5)
    rows = {
        "first_name": [f"{'abcdefgh'[n % 8]}nna{'klmnop'[n % 6]}" for n in range(PEOPLE)],
        "last_name": names,
        "date_of_birth": [f"19{40 + n:02}{1 + n % 12:02}{1 + n % 28:02}" for n in range(PEOPLE)],
        "sex": draw.choice(["m", "f"], PEOPLE).tolist(),
        "zip": [f"{10000 + 7 * n}" for n in range(PEOPLE)],
    }
    return {
        field: Normaliser(field, Reading()).column(values).column for field, values in rows.items()
    }


def surnames(seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("bcdfgklmnrst"), 9)) for _ in range(PEOPLE)]


HELD = {"alpha": columns(surnames(1)), "beta": columns(surnames(1))}
PSEUDONYMS = {
    party: np.random.default_rng([3, *party.encode()]).integers(
        0, 256, (PEOPLE, 16), dtype=np.uint8
    )
    for party in PARTIES
}
ROWS = {p: {name: row for row, name in enumerate(names_of(PSEUDONYMS[p]))} for p in PARTIES}
SHAPES = [Shape(party, PEOPLE, PEOPLE, (), (), {}, {}) for party in PARTIES]


def weights() -> Weights:
    """Half of the true pairs are in doubt, with as many false ones that share a record."""
    left = np.r_[np.arange(PEOPLE), np.arange(30)].astype(np.uint32)
    right = np.r_[np.arange(PEOPLE), np.arange(30) + 30].astype(np.uint32)
    p = np.r_[np.full(30, 0.5), np.full(30, 0.99), np.full(30, 0.4)]
    order = np.lexsort((right, left))
    made = estimate(p[:PEOPLE], p, float(PEOPLE))
    one = Comparison(PARTIES, left[order], right[order], p[order], made)
    return Weights((one,), made, ())


FEW_DECOYS = Limits(decoys=1 / 3)


def forms(made: Weights | None = None, most_per_record: int = 5) -> dict[str, Form]:
    return forms_of(
        made or weights(), SHAPES, SHARED, most_per_record=most_per_record, most_per_run=5_000
    )


def looks(limits: Limits = FEW_DECOYS, most_per_record: int = 5) -> Looks:
    shape = forms(most_per_record=most_per_record)
    draw = np.random.default_rng(9).bytes
    return choose(weights(), shape, SHARED, limits, seed=1, draw=draw)


def asked_about(found: Looks) -> dict[str, Questions]:
    return questions(found, PSEUDONYMS, forms(), seed=1, draw=np.random.default_rng(10).bytes)


def answered(found: Looks) -> dict[str, Answers]:
    asked = asked_about(found)
    return {
        party: answer(asked[party], HELD[party], ROWS[party], study=CONFIG, key=KEY)
        for party in PARTIES
    }


def test_doubts_come_first_and_decoys_fill_up() -> None:
    (pairs,) = looks().comparisons
    reasons = np.bincount(pairs.reason, minlength=len(Reason))
    assert reasons[Reason.UNCERTAIN] == 60
    assert reasons[Reason.LIKELY] == 30
    assert len(set(names_of(pairs.nonces))) == len(pairs)


def test_no_record_and_no_run_is_asked_more_than_the_study_allows() -> None:
    (pairs,) = looks(Limits(20, 0.5), most_per_record=1).comparisons
    assert len(pairs) <= 20
    for side in (pairs.left, pairs.right):
        assert np.unique(side, return_counts=True)[1].max() == 1
    assert (pairs.reason == Reason.UNCERTAIN).sum() == 10
    assert (pairs.reason != Reason.UNCERTAIN).sum() == 10


@pytest.mark.parametrize("decoys", [0.2, 0.5, 0.8])
def test_what_is_in_doubt_hides_among_decoys_or_is_not_asked(decoys: float) -> None:
    """30 pairs are no doubt: however many doubts there are, decoys keep their share."""
    (pairs,) = looks(Limits(decoys=decoys)).comparisons
    assert (pairs.reason != Reason.UNCERTAIN).mean() >= decoys
    # The most doubtful are asked first: those at .5 before those at .4.
    doubts = pairs.probability[pairs.reason == Reason.UNCERTAIN]
    assert len(doubts) == min(60, int(30 * (1 - decoys) / decoys + 1e-9))
    assert (doubts == 0.5).sum() == min(30, len(doubts))


def test_nobody_is_asked_where_nothing_is_in_doubt() -> None:
    made = weights()
    (one,) = made.comparisons
    sure = replace(made, comparisons=(replace(one, probability=np.full(len(one.left), 0.99)),))
    draw = np.random.default_rng(9).bytes
    assert len(choose(sure, forms(sure), SHARED, Limits(), seed=1, draw=draw)) == 0


def test_a_comparison_without_a_common_field_is_not_asked_about() -> None:
    none = forms_of(weights(), SHAPES, {}, most_per_record=5, most_per_run=5_000)
    assert none == {}
    draw = np.random.default_rng(9).bytes
    assert len(choose(weights(), none, {}, Limits(), seed=1, draw=draw)) == 0


def test_answers_tell_true_pairs_from_others() -> None:
    found = looks()
    (pairs,) = found.comparisons
    levels = compare(found, list(answered(found).values()))
    true = pairs.left == pairs.right
    last = pairs.fields.index("last_name")
    assert (levels[0].levels[true, last] == Level.EQUAL).all()
    assert (levels[0].levels[~true, last] < Level.CLOSE).all()
    weighed = weigh_looks(found, levels, SHAPES, {PARTIES: 50.0}).comparisons[PARTIES]
    assert len(weighed.left) == len(pairs)
    same = weighed.left == weighed.right
    assert weighed.log_weight[same].min() > 3
    assert weighed.log_weight[~same].max() < -3


def test_a_silent_site_leaves_its_pairs_as_they_were() -> None:
    found = looks()
    levels = compare(found, [answered(found)["alpha"]])
    assert not levels[0].answered.any()
    weighed = weigh_looks(found, levels, SHAPES, {PARTIES: 50.0}).comparisons[PARTIES]
    assert len(weighed.left) == 0


def test_a_site_cannot_answer_twice() -> None:
    found = looks()
    mine = answered(found)["alpha"]
    with pytest.raises(MatchingFailed, match="came twice"):
        compare(found, [mine, mine])


def test_questions_and_answers_travel_unchanged() -> None:
    found = looks()
    assert looks_to_arrow(looks_from_arrow(looks_to_arrow(found))).equals(looks_to_arrow(found))
    asked = asked_about(found)["alpha"]
    read = questions_from_arrow(questions_to_arrow(asked), CONFIG, "alpha", most=1000)
    assert questions_to_arrow(read).equals(questions_to_arrow(asked))
    made = answers_to_arrow(answered(found)["alpha"])
    again = answers_from_arrow(made, CONFIG, asked, FIELDS)
    assert answers_to_arrow(again).equals(made)


def test_more_questions_than_allowed_are_refused_by_the_site() -> None:
    batch = questions_to_arrow(asked_about(looks())["alpha"])
    with pytest.raises(EncodingRefused, match="more than 3 rows"):
        questions_from_arrow(batch, CONFIG, "alpha", most=3)


def _with(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.names.index(name), batch.schema.field(name), values)


def test_lies_of_a_site_are_refused_by_name() -> None:
    found = looks()
    asked = asked_about(found)["alpha"]
    good = answers_to_arrow(answered(found)["alpha"])
    n = good.num_rows
    nonces = good.column("nonce").to_pylist()
    lies = {
        "another number|does not have 64 bits": _with(
            good, "field:last_name", pa.array([b"\xff" * 128] * n, pa.binary(128))
        ),
        "a nonce twice": _with(good, "nonce", pa.array([nonces[0]] * n, pa.binary(16))),
        "not asked": _with(good, "nonce", pa.array([b"?" * 16, *nonces[1:]], pa.binary(16))),
        "does not share": _with(
            good, "field:ssn", pa.array([good.column("field:sex")[0].as_py()] * n, pa.binary(128))
        ),
        "nulls": _with(good, "nonce", pa.array([None, *nonces[1:]], pa.binary(16))),
        "other columns": good.drop_columns(["field:sex"]),
    }
    for rule, lie in lies.items():
        with pytest.raises(EncodingRefused, match=rule):
            answers_from_arrow(lie, CONFIG, asked, FIELDS)


def test_a_broker_cannot_ask_for_a_stranger_or_a_nonce_twice() -> None:
    asked = asked_about(looks())["alpha"]
    batch = questions_to_arrow(asked)
    n = batch.num_rows
    with pytest.raises(EncodingRefused, match="upload nothing"):
        questions_from_arrow(
            _with(batch, "partner", pa.array(["gamma"] * n)), CONFIG, "alpha", most=n
        )
    with pytest.raises(EncodingRefused, match="a nonce comes twice"):
        replace(asked, nonces=np.repeat(asked.nonces[:1], n, axis=0))
    with pytest.raises(EncodingRefused, match="its own records"):
        replace(asked, partners=("alpha",) * n)


def with_left_over(unlikely: int = 15) -> Weights:
    """
    Ten true pairs in doubt, 20 likely; of the other 30 people some have an unlikely true pair, and
    records that have a likely partner have unlikely ones besides, which are likelier.
    """
    true, kin = np.arange(30 + unlikely), np.arange(10, 30)
    left, right = np.r_[true, kin].astype(np.uint32), np.r_[true, kin + 30].astype(np.uint32)
    p = np.r_[np.full(10, 0.5), np.full(20, 0.99), np.linspace(0.09, 0.01, unlikely)]
    p = np.r_[p, np.full(20, 0.095)]
    order = np.lexsort((right, left))
    made = estimate(p[:30], p, 45.0)
    return Weights((Comparison(PARTIES, left[order], right[order], p[order], made),), made, ())


def left_over(limits: Limits, made: Weights, most_per_record: int = 5) -> Looks:
    draw = np.random.default_rng(9).bytes
    return choose(made, forms(made, most_per_record), SHARED, limits, seed=1, draw=draw)


def test_the_best_of_who_is_left_over_is_asked_about_and_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(look_choice, "LEAST_DECOYS", 10)
    found = left_over(Limits(), with_left_over())
    (pairs,) = found.comparisons
    mine = pairs.reason == Reason.LEFT_OVER
    # Some were drawn as decoys already; whoever has a likely partner is none of them.
    asked = {*zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)}
    assert asked >= {(n, n) for n in range(30, 45)}
    assert mine.any()
    assert (pairs.left[mine] >= 30).all()
    assert found.uncertain == pairs.uncertain == 10 + mine.sum()
    assert (pairs.stands_for[mine] == 1).all()
    levels = compare(found, list(answered(found).values()))
    weighed = weigh_looks(found, levels, SHAPES, {PARTIES: 30.0}).comparisons[PARTIES]
    assert weighed.log_weight[(weighed.left == weighed.right) & (weighed.left >= 30)].min() > 3


@pytest.mark.parametrize("decoys", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("most_per_run", [20, 36, 5_000])
@pytest.mark.parametrize("most_per_record", [1, 5])
def test_who_is_left_over_takes_nothing_from_doubts_and_decoys(
    decoys: float, most_per_run: int, most_per_record: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> tuple[LookPairs, dict[tuple[int, int], int]]:
        (pairs,) = left_over(limits, with_left_over(), most_per_record).comparisons
        rows = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
        return pairs, dict(zip(rows, pairs.reason.tolist(), strict=True))

    monkeypatch.setattr(look_choice, "LEAST_DECOYS", 10)
    limits = Limits(most_per_run, decoys)
    pairs, reasons = asked()
    monkeypatch.setattr(look_choice, "MOST_LEFT_OVER", 0)
    without, before = asked()
    assert reasons.items() >= before.items()
    assert len(pairs) <= most_per_run
    assert (without.reason != Reason.LEFT_OVER).all()
    assert len(pairs) - pairs.uncertain >= decoys * len(pairs)


def test_few_of_who_is_left_over_are_asked_about() -> None:
    people = 3 * MOST_LEFT_OVER
    rows = np.arange(people, dtype=np.uint32)
    p = np.r_[np.full(5, 0.5), np.full(people - 5, 0.02)]
    made = estimate(p[:5], p, 10.0)
    some = Weights((Comparison(PARTIES, rows, rows, p, made),), made, ())
    shapes = [Shape(party, people, people, (), (), {}, {}) for party in PARTIES]
    form = forms_of(some, shapes, SHARED, most_per_record=5, most_per_run=5_000)
    draw = np.random.default_rng(9).bytes
    (pairs,) = choose(some, form, SHARED, Limits(), seed=1, draw=draw).comparisons
    assert (pairs.reason == Reason.LEFT_OVER).sum() == MOST_LEFT_OVER
