"""
One person in two studies, or in two epochs, or in two releases: nothing of hers looks alike.

The worst case is tested: the same secret and the same study key in both. A control shows that each
test sees what it looks for. What does not depend on any key, the similarities between people, is
another attack: linkage.evaluation.attacks.linking.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from broker.crosswalks import Members, crosswalks
from linkage import idtables
from linkage.encoding.encoder import BatchEncoder
from linkage.encoding.keys import StudyKey
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.pseudonyms import ContributorSecret, random_ids
from linkage.records import FixedColumn
from linkage.study import StudyConfig, parse_study
from tests.unit.encoding.conftest import STUDY

pytestmark = pytest.mark.threat("T21")

PEOPLE = 4000
ERROR = 1e-6
"""Chance that one statistical test here fails though nothing is wrong."""

LIMIT = float(stats.norm.isf(ERROR / 2))
"""What a z may reach, 4.9."""

KEY = StudyKey.generate()
Bits = npt.NDArray[np.uint8]


def study_of(name: str, epoch: int = 1, *, diffusion: int | None = None) -> StudyConfig:
    text = STUDY.replace('"lung-outcomes"', f'"{name}"').replace("epoch = 3", f"epoch = {epoch}")
    if diffusion == 0:
        plain = 'profile = "clkhash"\naccept_graph_matching_risk = true\n'
        text = text.replace('purpose = "tests"\n', f'purpose = "tests"\n{plain}')
        text = re.sub(r"^diffusion = .*\n", "", text, flags=re.MULTILINE)
    return parse_study(text)


FIRST = study_of("first-study")
PAIRS = [
    pytest.param(FIRST, study_of("second-study"), id="two studies"),
    pytest.param(FIRST, study_of("first-study", 2), id="two epochs"),
]


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    fields = {field for party in FIRST.party for field in party.fields}
    return simulated(PEOPLE, seed=1, fields=fields)


def encodings(study: StudyConfig, crowd: Crowd) -> dict[str, FixedColumn]:
    """Every CLK and match key of the study's first party."""
    made = BatchEncoder(study, study.party[0], KEY).encode(crowd.columns, normalised=True)
    return {**made.clks, **made.match_keys}


def z_of_own(one: FixedColumn, other: FixedColumn) -> tuple[float, float]:
    """
    Return how much more row i of both agrees than rows of different people, as the z of a
    permutation test, and the share of rows whose likeliest partner is their own.

    z: sum of the diagonal of the double-centred agreements over its standard deviation under
    random pairings (Hoeffding 1951, doi:10.1214/aoms/1177729436).
    """
    rows = np.flatnonzero(one.present & other.present)[:2000]
    left, right = (
        2 * np.unpackbits(side.values[rows], axis=1).astype(np.float32) - 1 for side in (one, other)
    )
    agreement = (left @ right.T).astype(np.float64)
    found = float((agreement.argmax(axis=1) == np.arange(len(rows))).mean())
    agreement -= agreement.mean(axis=1, keepdims=True)
    agreement -= agreement.mean(axis=0, keepdims=True)
    spread = np.sqrt((agreement**2).sum() / (len(rows) - 1))
    return float(np.trace(agreement) / spread), found


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_encodings_of_one_person_look_independent(
    one: StudyConfig,
    other: StudyConfig,
    crowd: Crowd,
    record_property: Callable[[str, object], None],
) -> None:
    """CLKs and match keys under one study key; 2,000 people; any pairing would do as well."""
    left, right = encodings(one, crowd), encodings(other, crowd)
    zs, shares = {}, {}
    for name in left:
        zs[name], shares[name] = z_of_own(left[name], right[name])
    worst = max(map(abs, zs.values()))
    where = "studies" if one.study.id != other.study.id else "epochs"
    record_property(f"worst z of own against others over two {where}", f"{worst:.1f}")
    record_property(f"linked by bits alone over two {where}", f"{max(shares.values()):.2%}")
    assert worst < LIMIT, zs
    # One guess in 2,000 is right by chance; more than 12 come once in ten million.
    assert max(shares.values()) <= 12 / 2000
    for rule in (r.id for r in one.match_key if r.id in left):
        there = left[rule].present & right[rule].present
        same = (left[rule].values[there] == right[rule].values[there]).all(axis=1)
        assert not same.any(), rule


def test_the_test_sees_what_it_looks_for(
    crowd: Crowd, record_property: Callable[[str, object], None]
) -> None:
    """Controls: the same study at another desk, with typos; and plain CLKs over two studies."""
    fields = {field for party in FIRST.party for field in party.fields}
    desk = simulated(PEOPLE, seed=1, fields=fields, registered="claims")
    z, found = z_of_own(*(encodings(FIRST, who)["name-dob-sex"] for who in (crowd, desk)))
    assert z > 100
    assert found > 0.5
    plain = [study_of(name, diffusion=0) for name in ("first-study", "second-study")]
    z, _ = z_of_own(*(encodings(study, crowd)["name-dob-sex"] for study in plain))
    record_property("z of plain CLKs over two studies", f"{z:.0f}")


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_number_of_ones_tells_little(
    one: StudyConfig,
    other: StudyConfig,
    crowd: Crowd,
    record_property: Callable[[str, object], None],
) -> None:
    """
    A record that lacks fields has a sparse plain CLK, and diffusion leaves it a trace of that: the
    only thing that CLKs of one person share over keys. Bounded, not zero.
    """
    worst = 0.0
    for clk in one.clks_of(one.party[0]):
        columns = [encodings(study, crowd)[clk.id] for study in (one, other)]
        both = columns[0].present & columns[1].present
        ones = [np.bitwise_count(column.values[both]).sum(axis=1) for column in columns]
        worst = max(worst, abs(float(np.corrcoef(*ones)[0, 1])))
    where = "studies" if one.study.id != other.study.id else "epochs"
    record_property(f"correlation of the number of ones over two {where}", f"{worst:.3f}")
    assert worst < 0.15


def test_pseudonyms_look_independent(record_property: Callable[[str, object], None]) -> None:
    """One site, one secret, two studies; and two sites, one study, one record id."""
    ids = [f"record-{i}" for i in range(PEOPLE)]
    secret, others = ContributorSecret.generate(), ContributorSecret.generate()
    first = secret.pseudonyms("first-study", ids)
    told = {}
    for name, second in (
        ("studies", secret.pseudonyms("second-study", ids)),
        ("sites", others.pseudonyms("first-study", ids)),
    ):
        assert not set(map(bytes, first)) & set(map(bytes, second))
        told[name], _ = z_of_own(column(first), column(second))
        assert p_of_bits(first ^ second) > ERROR
    record_property("worst z of pseudonyms", f"{max(map(abs, told.values())):.1f}")
    assert max(map(abs, told.values())) < LIMIT
    again = secret.pseudonyms("first-study", ids)
    assert p_of_bits(first ^ again) < ERROR, "the control: the same names again"


def test_cross_commons_ids_look_independent(
    record_property: Callable[[str, object], None],
) -> None:
    """Two releases of the same persons to the same party."""
    who = {"a": Members(random_ids(PEOPLE), np.arange(PEOPLE))}
    ids = []
    for _ in range(2):
        made = crosswalks(who, ["a"], idtables.CROSSWALK, "cross_commons_id")["a"]
        table = idtables.unpack(made, idtables.CROSSWALK)
        order = np.lexsort(table["record_pseudonym"].T)
        ids.append(table["cross_commons_id"][order])
    assert not set(map(bytes, ids[0])) & set(map(bytes, ids[1]))
    z, _ = z_of_own(column(ids[0]), column(ids[1]))
    record_property("z of IDs over two releases", f"{z:.1f}")
    assert abs(z) < LIMIT
    assert p_of_bits(ids[0] ^ ids[1]) > ERROR


def column(values: Bits) -> FixedColumn:
    return FixedColumn(values, np.ones(len(values), bool))


def p_of_bits(differences: Bits) -> float:
    """Return the chi-square p that each of the 128 bits differs in half of the rows."""
    ones = np.unpackbits(differences, axis=1).sum(axis=0)
    n = len(differences)
    return float(stats.chi2.sf(((ones - n / 2) ** 2 / (n / 4)).sum(), len(ones)))
