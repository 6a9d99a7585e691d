"""The study's strata: what may be asked, and that no mark tells more than its epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest

from linkage.delta import apply_delta, removals
from linkage.errors import EncodingRefused, StudyRefused
from linkage.records import (
    EncodedRecords,
    FixedColumn,
    arrow_schema,
    from_arrow,
    row_bytes,
    to_arrow,
)
from linkage.strata import NO_MARK, REST, Stratum, as_group, attested, chances, in_words
from linkage.study import parse_study
from tests.studies import STUDY

STRATA = """
[[strata]]
id = "sex"
groups = ["female", "male"]

[[strata]]
id = "race"
groups = ["asian", "black", "white"]
epsilon = 2.0
"""
MARKED = parse_study(STUDY + STRATA)
WIDTHS = {"name-dob-sex": 256}


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("groups", range(2, 9))
def test_no_mark_shifts_the_odds_of_two_groups_by_more_than_e_to_epsilon(
    epsilon: float, groups: int
) -> None:
    p, q = chances(epsilon, groups)
    matrix = np.full((groups, groups), q) + np.eye(groups) * (p - q)
    assert matrix.sum(axis=1) == pytest.approx(1)
    ratios = matrix[:, None, :] / matrix[None, :, :]
    assert ratios.max() == pytest.approx(math.exp(epsilon))


def test_a_study_names_its_groups_and_everybody_else_has_one() -> None:
    sex, race = MARKED.strata
    assert sex.named == ("female", "male", REST)
    assert (sex.epsilon, race.epsilon) == (1.0, 2.0)
    assert parse_study(STUDY).strata == ()
    assert "7.4-fold" in in_words(MARKED.strata)
    assert in_words(()) == "none"
    assert [one.groups for one in attested(MARKED.strata)] == [sex.groups, race.groups]
    assert as_group("  Not \t KNOWN ") == "not known"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epsilon = 2.0", "epsilon = 2.01", "less than or equal to 2"),
        ("epsilon = 2.0", "epsilon = 0.49", "greater than or equal to 0.5"),
        ("epsilon = 2.0", "epsilon = nan", "finite"),
        ('id = "race"', 'id = "sex"', "two .*are named 'sex'"),
        ('id = "race"', 'id = "zip"', "is an identifier"),
        ('"asian"', '"Asian"', "is no name of a group"),
        ('"asian"', '"black"', "named twice"),
        ('"asian"', f'"{REST}"', "has the group"),
        ('"asian"', '"a", "b", "c", "d", "e", "f"', "at most 7"),
        ('groups = ["asian", "black", "white"]', "groups = []", "at least 1"),
    ],
)
def test_a_study_that_asks_too_much_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(StudyRefused, match=said):
        parse_study(STUDY + STRATA.replace(old, new))


def test_epsilons_add_up_and_are_bounded_together() -> None:
    more = '\n[[strata]]\nid = "state"\ngroups = ["ia", "ny"]\nepsilon = {}\n'
    assert len(parse_study(STUDY + STRATA + more.format(1.0)).strata) == 3
    with pytest.raises(StudyRefused, match="add up to more than 4"):
        parse_study(STUDY + STRATA + more.format(1.01))


def marked(rows: int, seed: int = 1, marks: bool = True) -> EncodedRecords:
    draw = np.random.default_rng(seed)
    names = np.sort(draw.integers(0, 256, (rows, 16), dtype=np.uint8), axis=0)
    some = np.ones(rows, dtype=bool)
    return EncodedRecords(
        names,
        np.arange(rows, dtype=np.uint32),
        {
            n: FixedColumn(draw.integers(0, 256, (rows, w), np.uint8), some)
            for n, w in WIDTHS.items()
        },
        {
            rule.id: FixedColumn(draw.integers(0, 256, (rows, 16), np.uint8), some)
            for rule in MARKED.match_key
        },
        draw.integers(1, 4, (rows, 2), dtype=np.uint8) if marks else None,
    )


def test_marks_travel_with_their_records_and_only_where_attested() -> None:
    records = marked(50)
    batch = to_arrow(records, MARKED)
    assert batch.schema.equals(arrow_schema(MARKED, marked=True))
    cut = [batch.slice(0, 20), batch.slice(20)]
    back = from_arrow(iter(cut), MARKED, "alpha", rows=50, marked=True)
    assert back.strata is not None
    assert (back.strata == records.strata).all()
    assert row_bytes(MARKED, marked=True) == row_bytes(MARKED) + 2
    with pytest.raises(EncodingRefused, match="columns are not those"):
        from_arrow([batch], MARKED, "alpha")
    plain = to_arrow(marked(50, marks=False), MARKED)
    assert plain.schema.equals(to_arrow(marked(50, marks=False), parse_study(STUDY)).schema)
    with pytest.raises(EncodingRefused, match="columns are not those"):
        from_arrow([plain], MARKED, "alpha", marked=True)
    assert from_arrow([plain], MARKED, "alpha").strata is None


def test_a_delta_carries_the_marks_of_what_it_names() -> None:
    base = marked(6)
    assert base.strata is not None
    gone = removals(base.pseudonyms[:1], WIDTHS, [r.id for r in MARKED.match_key], 16, strata=2)
    assert gone.strata is not None
    assert (gone.strata == NO_MARK).all()
    whole = apply_delta(base, gone)
    assert whole.strata is not None
    assert (whole.strata == base.strata[1:]).all()
    with pytest.raises(EncodingRefused, match="bears marks of strata where its base does not"):
        apply_delta(marked(6, marks=False), gone)


def test_marks_are_in_no_repr() -> None:
    assert repr(marked(3)).startswith("<")
    with pytest.raises(EncodingRefused, match="marks of strata have another number"):
        EncodedRecords(
            np.zeros((1, 16), np.uint8), np.zeros(1, np.uint32), {}, {}, np.ones((2, 2), np.uint8)
        )
    assert Stratum(id="sex", groups=("female",)).epsilon == 1.0
