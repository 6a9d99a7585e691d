"""Nobody but the custodian can change what a signed study says or whose keys it pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkage.errors import KeyRefused, NotFound, PackageRefused, SchemaRefused, StudyRefused
from linkage.messages import BROKER, CUSTODIAN
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy, load_signed_study
from sites import custody
from tests.studies import STUDY, cast

EVERYONE = cast()


def test_it_reads_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "signed.json"
    path.write_text(EVERYONE.signed.model_dump_json(), encoding="utf-8")
    fingerprint = EVERYONE.identities[CUSTODIAN].public().fingerprint
    again = load_signed_study(path, custodian_fingerprint=fingerprint)
    assert again.study_hash == EVERYONE.signed.study_hash
    other = Identity.generate("custodian").public().fingerprint
    with pytest.raises(PackageRefused, match="another custodian"):
        load_signed_study(path, custodian_fingerprint=other)
    with pytest.raises(PackageRefused, match="no fingerprint of custodian: it has 8 digits"):
        load_signed_study(path, custodian_fingerprint="0000 1111")
    path.write_text("{}")
    with pytest.raises(StudyRefused, match="no signed study"):
        load_signed_study(path)


@pytest.mark.threat("T10")
@pytest.mark.parametrize(
    "change",
    [
        {"study_toml": STUDY.replace("A small study", "Another study")},
        {"key_check": "0" * 32},
        {"schema_hash": "0" * 64},
        {"rehearsal": True},
        {"signature": ""},
    ],
)
def test_any_change_breaks_the_signature(change: dict[str, object]) -> None:
    with pytest.raises(PackageRefused):
        EVERYONE.signed.model_copy(update=change).check()


def test_a_relayed_key_cannot_be_swapped() -> None:
    mine = Identity.generate("alpha").public()
    pins = {**EVERYONE.signed.pins, "alpha": mine}
    with pytest.raises(PackageRefused):
        EVERYONE.signed.model_copy(update={"pins": pins}).check()


def test_pins_must_be_exactly_the_actors() -> None:
    custodian = EVERYONE.identities[CUSTODIAN]
    for pins in (
        {k: v for k, v in EVERYONE.signed.pins.items() if k != "beta"},
        {**EVERYONE.signed.pins, "gamma": Identity.generate("gamma").public()},
        {**EVERYONE.signed.pins, "beta": EVERYONE.signed.pins["alpha"]},
    ):
        forged = EVERYONE.signed.model_copy(update={"pins": pins}).sign(custodian)
        with pytest.raises(StudyRefused, match="pin exactly"):
            forged.check()
    with pytest.raises(NotFound):
        EVERYONE.signed.pin("gamma")


def test_one_installation_plays_two_parts_only_in_a_rehearsal() -> None:
    custodian = EVERYONE.identities[CUSTODIAN]
    both = custodian.public().model_copy(update={"name": BROKER})
    pins = {**EVERYONE.signed.pins, BROKER: both}
    real = EVERYONE.signed.model_copy(update={"pins": pins}).sign(custodian)
    with pytest.raises(StudyRefused, match="only a rehearsal"):
        real.check()
    SignedStudy.check(real.model_copy(update={"rehearsal": True}).sign(custodian))


def test_nobody_lends_another_actor_its_sealing_key() -> None:
    beta = EVERYONE.signed.pins["beta"]
    lent = beta.model_copy(update={"sealing": EVERYONE.signed.pins["alpha"].sealing})
    forged = EVERYONE.signed.model_copy(update={"pins": {**EVERYONE.signed.pins, "beta": lent}})
    with pytest.raises(StudyRefused, match="only a rehearsal"):
        forged.sign(EVERYONE.identities[CUSTODIAN]).check()


@pytest.mark.threat("T10")
def test_the_study_key_opens_only_at_its_site() -> None:
    custodian = EVERYONE.identities[CUSTODIAN]
    sealed = custody.seal_key(EVERYONE.signed, EVERYONE.key, custodian, "alpha")
    alpha, beta = EVERYONE.identities["alpha"], EVERYONE.identities["beta"]
    assert custody.open_key(sealed, EVERYONE.signed, "alpha", alpha) == EVERYONE.key
    for party, identity in (("beta", beta), ("alpha", beta), ("beta", alpha)):
        with pytest.raises(PackageRefused if identity.name == party else KeyRefused):
            custody.open_key(sealed, EVERYONE.signed, party, identity)


def test_contributors_are_pinned_and_get_the_key_in_place_of_their_party() -> None:
    text = STUDY.replace('id = "alpha"', 'id = "alpha"\ncontributors = ["north", "south"]')
    made = cast(text)
    assert set(made.signed.pins) == {"alpha", "north", "south", "beta", BROKER, CUSTODIAN}
    custodian = made.identities[CUSTODIAN]
    for uploader in ("north", "south", "beta"):
        sealed = custody.seal_key(made.signed, made.key, custodian, uploader)
        own = made.identities[uploader]
        assert custody.open_key(sealed, made.signed, uploader, own) == made.key
    with pytest.raises(KeyRefused, match="'alpha' tokenizes nothing"):
        custody.seal_key(made.signed, made.key, custodian, "alpha")
    missing = {name: pin for name, pin in made.signed.pins.items() if name != "north"}
    forged = made.signed.model_copy(update={"pins": missing}).sign(custodian)
    with pytest.raises(StudyRefused, match="pin exactly"):
        forged.check()
    lent = {**made.signed.pins, "south": made.signed.pins["north"]}
    twice = made.signed.model_copy(update={"pins": lent}).sign(custodian)
    with pytest.raises(StudyRefused, match="pin exactly"):
        twice.check()


def test_what_was_signed_before_a_field_was_added_still_verifies() -> None:
    """A field that is at its default is not signed: earlier software did not know it."""
    custodian = EVERYONE.identities[CUSTODIAN]
    earlier = EVERYONE.signed.model_copy(update={"normalisation": ""}).sign(custodian)
    assert b"normalisation" not in earlier.signed_bytes()
    earlier.check()
    with pytest.raises(PackageRefused):
        earlier.model_copy(update={"normalisation": "2"}).check()
    with pytest.raises(PackageRefused):
        EVERYONE.signed.model_copy(update={"normalisation": ""}).check()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"normalisation": "999"}, "signed for version 999 of the normalisation, this software"),
        ({"schema_hash": "0" * 64}, "other encodings of the study than the custodian's did"),
    ],
)
def test_other_software_is_not_taken_for_a_wrong_key(change: dict[str, str], said: str) -> None:
    custodian, alpha = EVERYONE.identities[CUSTODIAN], EVERYONE.identities["alpha"]
    other = EVERYONE.signed.model_copy(update=change).sign(custodian)
    sealed = custody.seal_key(EVERYONE.signed, EVERYONE.key, custodian, "alpha")
    with pytest.raises(SchemaRefused, match=said) as caught:
        custody.open_key(sealed, other, "alpha", alpha)
    assert "same software version" in caught.value.hint
