"""
Whoever relays the signed study or a sealed object puts in a key, a recipient, a purpose of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused, LinkageError, PackageRefused, StudyRefused
from linkage.messages import BROKER, CROSSWALK, CUSTODIAN, STUDY_KEY
from linkage.sealing import Context, Identity, PublicIdentity, seal, unseal
from linkage.signed_study import SignedStudy
from sites import custody
from sites.custody import require_own_keys
from tests.studies import cast, vault_of

pytestmark = pytest.mark.threat("T10")

EVERYONE = cast()
SIGNED, KEYS = EVERYONE.signed, EVERYONE.identities
TOLD = SIGNED.pin(CUSTODIAN).fingerprint
ACTORS = sorted(SIGNED.pins)


def attackers(name: str) -> Identity:
    return Identity.generate(name, kem="X25519")


def with_pin(name: str, pin: PublicIdentity) -> SignedStudy:
    return SIGNED.model_copy(update={"pins": {**SIGNED.pins, name: pin}})


@pytest.mark.parametrize("name", ACTORS)
@pytest.mark.parametrize("part", ["both", "signing", "sealing", "kem", "name"])
def test_no_pin_can_be_exchanged(name: str, part: str) -> None:
    """Of anybody, whole or in part; nor signed anew by somebody else as custodian."""
    mine = attackers(name).public()
    pin = {
        "both": mine,
        "signing": SIGNED.pin(name).model_copy(update={"signing": mine.signing}),
        "sealing": SIGNED.pin(name).model_copy(update={"sealing": mine.sealing}),
        "kem": SIGNED.pin(name).model_copy(update={"kem": "MLKEM768_X25519"}),
        "name": SIGNED.pin(name).model_copy(update={"name": "another"}),
    }[part]
    with pytest.raises((PackageRefused, StudyRefused)):
        with_pin(name, pin).check()
    thief = attackers(CUSTODIAN)
    again = with_pin(name, pin).model_copy(
        update={"pins": {**SIGNED.pins, name: pin, CUSTODIAN: thief.public()}}
    )
    with pytest.raises((PackageRefused, StudyRefused)):
        again.sign(thief).check(custodian_fingerprint=TOLD)


@pytest.mark.parametrize("name", ACTORS)
def test_no_pin_can_be_left_out_or_added(name: str) -> None:
    fewer = {one: pin for one, pin in SIGNED.pins.items() if one != name}
    more = {**SIGNED.pins, "eve": attackers("eve").public()}
    for pins in (fewer, more):
        with pytest.raises((PackageRefused, StudyRefused)):
            SIGNED.model_copy(update={"pins": pins}).check()


def test_a_site_notices_that_its_own_keys_were_exchanged() -> None:
    """Even where the custodian was made to sign it."""
    forged = with_pin("alpha", attackers("alpha").public()).sign(KEYS[CUSTODIAN])
    with pytest.raises(KeyRefused):
        require_own_keys(forged, "alpha", KEYS["alpha"])
    require_own_keys(SIGNED, "alpha", KEYS["alpha"])


def test_a_site_takes_no_study_key_but_the_custodians(
    record_property: Callable[[str, object], None],
) -> None:
    """A broker that could choose the study key could read every encoding."""
    known = StudyKey.generate()
    right = Context("small-study", CUSTODIAN, "alpha", STUDY_KEY, custody_details(KEYS[CUSTODIAN]))
    assert custody.open_key(
        custody.seal_key(SIGNED, EVERYONE.key, KEYS[CUSTODIAN], "alpha"),
        SIGNED,
        "alpha",
        KEYS["alpha"],
    )
    refused = 0
    for sender in (BROKER, "beta", "alpha", "stranger"):
        identity = KEYS.get(sender) or attackers(sender)
        for context in (
            right,
            dataclasses.replace(right, sender=sender),
            dataclasses.replace(right, purpose=CROSSWALK),
            dataclasses.replace(right, recipient="beta"),
            dataclasses.replace(right, study="second-study"),
            dataclasses.replace(right, details=("2",)),
        ):
            sealed = seal(
                known.to_bytes(), sender=identity, recipient=SIGNED.pin("alpha"), context=context
            )
            with pytest.raises(LinkageError):
                custody.open_key(sealed, SIGNED, "alpha", KEYS["alpha"])
            refused += 1
    record_property("study keys slipped in by others, refused", f"{refused} of {refused}")


def custody_details(custodian: Identity) -> tuple[str, ...]:
    """What the custodian binds a sealed key to besides study and site: found by opening one."""
    sealed = custody.seal_key(SIGNED, EVERYONE.key, custodian, "alpha")
    for details in ((str(SIGNED.study.study.epoch),), ()):
        context = Context("small-study", CUSTODIAN, "alpha", STUDY_KEY, details)
        try:
            unseal(sealed, sender=SIGNED.pin(CUSTODIAN), recipient=KEYS["alpha"], context=context)
        except PackageRefused:
            continue
        return details
    raise AssertionError("a sealed key is bound to something else by now")


def test_a_wrong_key_from_the_custodian_is_noticed_too() -> None:
    """Another study's key, sealed by mistake: its check value is signed."""
    sealed = custody.seal_key(SIGNED, EVERYONE.key, KEYS[CUSTODIAN], "alpha")
    assert custody.open_key(sealed, SIGNED, "alpha", KEYS["alpha"]) == EVERYONE.key
    with pytest.raises(LinkageError):
        custody.seal_key(SIGNED, StudyKey.generate(), KEYS[CUSTODIAN], "alpha")


def test_a_vault_opens_no_study_of_another_custodian(tmp_path: Path) -> None:
    """The whole file exchanged, consistent in itself."""
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    assert vault.signed_study(TOLD).study_hash == SIGNED.study_hash
    vault.signed_study_file.write_text(cast().signed.model_dump_json(), encoding="utf-8")
    with pytest.raises(PackageRefused, match="another custodian"):
        vault.signed_study(TOLD)


def test_a_pin_whose_key_is_degenerate_seals_nothing() -> None:
    """An all-zero X25519 key would make every shared secret known (RFC 7748, section 6.1)."""
    zero = SIGNED.pin("beta").model_copy(update={"sealing": "A" * 43 + "="})
    context = Context("small-study", "alpha", "beta", CROSSWALK)
    with pytest.raises((LinkageError, ValueError)):
        seal(b"rows", sender=KEYS["alpha"], recipient=zero, context=context)
