"""
A custodian in a hurry signs, past this software, a study that failed the release gate.

What makes a certificate fail is in tests/unit/core/test_certificate.py; here a real broker and a
site are given studies that somebody signed all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linkage.errors import StudyRefused
from linkage.messages import CUSTODIAN
from linkage.signed_study import SignedStudy
from sites.required import require_keys
from tests.broker_world import STUDY, World, make_world, problem, running, sign_for
from tests.studies import EXCEPTION, cast, excepted, vault_of
from tests.unit.core.test_certificate import changed

pytestmark = pytest.mark.threat("T23")

FAILING: dict[str, dict[str, Any]] = {
    "of another study": {"study_id": "another-study"},
    "of another epoch": {"epoch": 2},
    "older than the schema": {"schema_hash": "0" * 64},
    "of other parties": {"study_shape": "0" * 64},
    "for fewer records": {"records": 10},
    "of few people": {"n": 300},
    "of one key": {"draws": 1},
    "of an attacker who knows nobody": {"known_share": 0.0},
    "of an attack that does not work": {"plain_reidentified": 0.2},
    "of an attack on few plain CLKs": {"plain_n": 100},
    "of no evidence": {"figures": ()},
    "that is correlated": {"correlation": 0.16},
    "that is correlated the other way": {"correlation": -0.5},
    "that falls to known people": {"seeded": 0.02},
    "that will fall at its size": {"predicted_seeded": 0.3},
    "that does not hold so far": {"holds_up_to": 1000},
    "unique by structure": {"unique_by_structure": 0.01},
    "of a small structure": {"structure_people": 500},
    "that falls to all together": {"combined_reidentified": 0.5},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("gate")), worker=False) as made:
        yield made


@pytest.fixture(scope="module")
def real(world: World) -> tuple[SignedStudy, Any]:
    """A study that is no rehearsal and passes, and its custodian."""
    signed, identities = sign_for(world.home.public(), "real-study", rehearsal=False)
    return signed, identities[CUSTODIAN]


def register(world: World, signed: SignedStudy) -> Any:
    told = signed.pin(CUSTODIAN).fingerprint
    return world.actor("admin").post("/v1/studies", signed, custodian_fingerprint=told)


def weakened(real: tuple[SignedStudy, Any], **how: Any) -> SignedStudy:
    """Sign a weaker certificate without asking `sign_study`."""
    signed, custodian = real
    assert signed.certificate is not None
    certificate = changed(signed.certificate, **how)
    return signed.model_copy(update={"certificate": certificate}).sign(custodian)


@pytest.mark.parametrize("name", FAILING)
def test_a_broker_registers_no_study_with_a_certificate(
    world: World, real: tuple[SignedStudy, Any], name: str
) -> None:
    status, code, detail = problem(register(world, weakened(real, **FAILING[name])))
    assert (status, code) == (422, "study-refused")
    assert "does not pass the release gate" in detail


def test_a_broker_registers_no_study_without_one_but_that_which_passes(
    world: World,
    real: tuple[SignedStudy, Any],
    record_property: Callable[[str, object], None],
) -> None:
    signed, custodian = real
    without = signed.model_copy(update={"certificate": None})
    assert problem(register(world, without.sign(custodian)))[:2] == (422, "study-refused")
    # Nor with the certificate exchanged on the way: it is part of what was signed.
    assert problem(register(world, without))[:2] == (422, "package-refused")
    better = weakened(real, seeded=0.02).model_copy(update={"certificate": signed.certificate})
    assert problem(register(world, better))[:2] == (422, "package-refused")
    assert register(world, signed).status_code == 201
    record_property("failed or altered certificates, refused by broker", len(FAILING) + 3)


def test_a_later_epoch_does_not_drop_the_gate(world: World, real: tuple[SignedStudy, Any]) -> None:
    """A study that passed cannot go on as one that does not."""
    signed, custodian = real
    register(world, signed)
    text = signed.study_toml.replace("[study]", "[study]\nepoch = 2")
    later = signed.model_copy(update={"study_toml": text}).sign(custodian)
    assert problem(register(world, later))[:2] == (422, "study-refused")


def test_everybody_reads_an_exception(world: World) -> None:
    """It is signed words: the broker's log and every party see them."""
    text = excepted(STUDY)
    signed, identities = sign_for(world.home.public(), "excepted-study", rehearsal=False, text=text)
    made = World(world.home, signed, identities, world.admin, url=world.url)
    without = signed.model_copy(update={"certificate": None}).sign(identities[CUSTODIAN])
    assert register(world, without).status_code == 201
    for party in ("imaging", "enclave", "claims"):
        read = made.actor(party).get(f"{made.path}/signed").json()
        assert EXCEPTION in read["study_toml"], party
    entries = world.actor("admin").get("/v1/audit", limit=1000).json()
    assert EXCEPTION in str([entry for entry in entries if "excepted-study" in str(entry)])


@pytest.mark.parametrize("name", FAILING)
def test_a_site_encodes_nothing_for_it_either(tmp_path: Path, name: str) -> None:
    """Whatever the broker says."""
    everyone = cast()
    vault = vault_of(everyone, "alpha", tmp_path / "private")
    require_keys(everyone.signed, "alpha", vault)
    failed = weakened((everyone.signed, everyone.identities[CUSTODIAN]), **FAILING[name])
    with pytest.raises(StudyRefused, match="does not pass the release gate"):
        require_keys(failed, "alpha", vault)
