"""Every secret can be given as bytes and made from them: a keyring holds bytes, not files."""

from __future__ import annotations

import pytest

from linkage.encoding.keys import StudyKey, tombstone
from linkage.errors import KeyRefused
from linkage.pseudonyms import ContributorSecret
from linkage.sealing import Identity


def test_each_secret_is_the_same_again() -> None:
    identity, key = Identity.generate("alpha", kem="X25519"), StudyKey.generate()
    assert Identity.from_bytes(identity.to_bytes()).public() == identity.public()
    assert StudyKey.from_bytes(key.to_bytes()) == key
    secret = ContributorSecret.generate()
    again = ContributorSecret.from_bytes(secret.to_bytes())
    assert (again.pseudonyms("s", ["r1"]) == secret.pseudonyms("s", ["r1"])).all()


@pytest.mark.parametrize("kind", [Identity, StudyKey, ContributorSecret])
def test_what_is_garbled_is_refused_without_showing_it(
    kind: type[Identity] | type[StudyKey] | type[ContributorSecret],
) -> None:
    for data in (b"", b"canary\n", b"\xff\x00", StudyKey.generate().to_bytes()[:-12]):
        with pytest.raises(KeyRefused, match="the vault's entry") as caught:
            kind.from_bytes(data, name="the vault's entry")
        assert "canary" not in str(caught.value)


def test_a_deactivated_key_says_when_and_why() -> None:
    with pytest.raises(KeyRefused, match="epoch 2 was deactivated on 2026-05-01: machine lost"):
        StudyKey.from_bytes(tombstone(2, "2026-05-01", "machine\nlost"))
