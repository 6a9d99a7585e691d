"""One person in two uploads: linked where diffusion is shallow, and not where it is deep."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from linkage.encoding.encoder import encode_records
from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.attacks.linking import equal_values, link_by_clks, several_epochs
from linkage.evaluation.attacks.similarity import encoded, observed
from linkage.evaluation.attacks.structure import named_by_structure, unique_by_structure
from linkage.pseudonyms import ContributorSecret
from linkage.records import EncodedRecords
from linkage.study import StudyConfig, load_study

SHIPPED = load_study(Path(__file__).parents[3] / "configs" / "three-commons" / "study.toml")
IMAGING = SHIPPED.party_named("imaging")
IDS = [f"row {i}" for i in range(300)]


def study_named(name: str = "three-commons", *, depth: int = 10, **header: object) -> StudyConfig:
    """Return the shipped study under another name, with this diffusion."""
    return SHIPPED.model_copy(
        update={
            "study": SHIPPED.study.model_copy(update={"id": name, **header}),
            "clk": tuple(clk.model_copy(update={"diffusion": depth}) for clk in SHIPPED.clk),
        }
    )


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return simulated(300, seed=1, fields=IMAGING.fields)


def uploaded(
    study: StudyConfig, crowd: Crowd, key: StudyKey, secret: ContributorSecret
) -> EncodedRecords:
    """Return what the imaging commons sends of the crowd."""
    names = secret.pseudonyms(study.study.id, IDS)
    return encode_records(
        crowd.columns, names, study=study, party=IMAGING, key=key, secret=secret
    ).records


@pytest.mark.threat("T21")
def test_two_studies_have_no_value_in_common_even_of_one_site_and_one_key(crowd: Crowd) -> None:
    key, secret = StudyKey.generate(), ContributorSecret.generate()
    one = uploaded(study_named("one-study"), crowd, key, secret)
    other = uploaded(study_named("other-study"), crowd, key, secret)
    assert not equal_values(one, other)
    again = equal_values(one, uploaded(study_named("one-study"), crowd, key, secret))
    assert again.pseudonyms == 300
    assert again.match_keys > 2_000
    assert again.clks > 500


def test_two_epochs_have_pseudonyms_in_common_and_nothing_else(crowd: Crowd) -> None:
    key, secret = StudyKey.generate(), ContributorSecret.generate()
    one, other = (uploaded(study_named(epoch=e), crowd, key, secret) for e in (1, 2))
    found = equal_values(one, other)
    assert (found.pseudonyms, found.match_keys, found.clks) == (300, 0, 0)


def pictures(crowd: Crowd, depth: int) -> list[np.ndarray]:
    """Return the similarities that two studies' uploads show."""
    names = ("one-study", "other-study")
    # Fixed keys: without anybody known, chance has a say in whether the graphs are found.
    keys = [StudyKey(hashlib.sha256(name.encode()).digest()) for name in names]
    studies = [study_named(name, depth=depth) for name in names]
    return [
        observed(encoded(study, study.clk[0], crowd, key))
        for study, key in zip(studies, keys, strict=True)
    ]


def test_graphs_of_shallow_clks_link_two_uploads(crowd: Crowd) -> None:
    one, other = pictures(crowd, 1)
    people = np.arange(300)
    assert link_by_clks(one, other, (people, people)).share > 0.9
    some = np.arange(50, 300)[::-1]
    moved = link_by_clks(one, other[np.ix_(some, some)], (people, some), known=20)
    assert moved.share > 0.9
    assert (moved.n, moved.known) == (230, 20)


@pytest.mark.threat("T21")
def test_graphs_of_deep_clks_do_not(crowd: Crowd) -> None:
    one, other = pictures(crowd, 24)
    people = np.arange(300)
    assert link_by_clks(one, other, (people, people)).share < 0.03
    assert link_by_clks(one, other, (people, people), known=15).share < 0.03


def test_who_is_unique_by_structure_is_linked_across_studies(crowd: Crowd) -> None:
    """What match keys show is the same under every key: why nulls are filled."""
    secret = ContributorSecret.generate()
    seen = [
        uploaded(study_named(name, fill_nulls=False), crowd, StudyKey.generate(), secret)
        for name in ("one-study", "other-study")
    ]
    people = np.arange(300)
    linked = named_by_structure(seen[:1], seen[1:], (people, people))
    assert linked.correct == unique_by_structure(seen[:1]).unique > 2
    filled = [
        uploaded(study_named(name), crowd, StudyKey.generate(), secret)
        for name in ("one-study", "other-study")
    ]
    assert named_by_structure(filled[:1], filled[1:], (people, people)).correct == 0


@pytest.mark.threat("T21")
def test_every_epoch_shows_more(crowd: Crowd) -> None:
    found = list(several_epochs(study_named(depth=10), IMAGING, crowd, epochs=(1, 4)))
    one, four = found
    assert four.attacker_correlation > 1.5 * one.attacker_correlation
    assert four.correlation > 2 * one.correlation
    # (2 rho_1 corrected for its noise): the mean of E pictures has E times less noise.
    foretold = 4 * one.correlation / (1 + 3 * one.correlation)
    assert four.correlation == pytest.approx(foretold, rel=0.35)
    assert four.as_json()["epochs"] == 4


def test_numbers_of_epochs_rise(crowd: Crowd) -> None:
    for wrong in ((), (0, 1), (2, 1), (2, 2)):
        with pytest.raises(LinkageError):
            next(several_epochs(SHIPPED, IMAGING, crowd, epochs=wrong))
    with pytest.raises(LinkageError):
        link_by_clks(*pictures(crowd, 1), who=(np.arange(299), np.arange(300)))
