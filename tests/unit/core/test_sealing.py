"""What is sealed opens for its recipient in its own context, and nowhere else."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.errors import KeyRefused, PackageRefused
from linkage.sealing import (
    MOST_BYTES,
    MOST_SEALED_BYTES,
    Context,
    Identity,
    Kem,
    seal,
    unseal,
    verify_seal,
)

CONTEXT = Context("study-one", "alpha", "broker", "dataset-part", ("1", "2", "3"))
ALPHA = Identity.generate("alpha")
BROKER = Identity.generate("broker")
SEALED = seal(b"secret rows", sender=ALPHA, recipient=BROKER.public(), context=CONTEXT)


@pytest.mark.parametrize("kem", ["MLKEM768_X25519", "X25519"])
def test_both_suites_open_again(kem: Kem) -> None:
    sender, recipient = Identity.generate("a", kem=kem), Identity.generate("b", kem=kem)
    sealed = seal(b"rows", sender=sender, recipient=recipient.public(), context=CONTEXT)
    assert b"rows" not in sealed
    opened = unseal(sealed, sender=sender.public(), recipient=recipient, context=CONTEXT)
    assert opened == b"rows"


def test_the_largest_sealed_object_has_the_larger_suite_around_it() -> None:
    assert len(SEALED) - len(b"secret rows") == MOST_SEALED_BYTES - MOST_BYTES


@pytest.mark.threat("T22")
@settings(max_examples=60)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_altered_byte_is_refused(at: int, flip: int) -> None:
    altered = SEALED[:at] + bytes([SEALED[at] ^ flip]) + SEALED[at + 1 :]
    with pytest.raises(PackageRefused):
        unseal(altered, sender=ALPHA.public(), recipient=BROKER, context=CONTEXT)


@settings(max_examples=30)
@given(st.integers(0, len(SEALED) - 1))
def test_any_truncation_is_refused(length: int) -> None:
    with pytest.raises(PackageRefused):
        unseal(SEALED[:length], sender=ALPHA.public(), recipient=BROKER, context=CONTEXT)


@pytest.mark.threat("T22")
@pytest.mark.parametrize(
    "change",
    [
        {"study": "study-two"},
        {"sender": "beta"},
        {"recipient": "beta"},
        {"purpose": "crosswalk"},
        {"details": ("1", "3", "3")},
        {"details": ("1", "2")},
        {"details": ("12", "3")},
    ],
)
def test_another_context_is_refused(change: dict[str, object]) -> None:
    other = dataclasses.replace(CONTEXT, **change)  # type: ignore[arg-type]
    with pytest.raises(PackageRefused, match="not signed by"):
        unseal(SEALED, sender=ALPHA.public(), recipient=BROKER, context=other)
    with pytest.raises(PackageRefused):
        verify_seal(SEALED, sender=ALPHA.public(), context=other)


def test_a_foreign_sender_or_recipient_is_refused() -> None:
    other = Identity.generate("other")
    with pytest.raises(PackageRefused, match="not signed by"):
        unseal(SEALED, sender=other.public(), recipient=BROKER, context=CONTEXT)
    with pytest.raises(PackageRefused, match="does not open"):
        unseal(SEALED, sender=ALPHA.public(), recipient=other, context=CONTEXT)


def test_an_identity_survives_its_file_and_hides_itself(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    ALPHA.save(path)
    again = Identity.load(path)
    assert again.public() == ALPHA.public()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "hidden" in repr(ALPHA)
    with pytest.raises(KeyRefused, match="pickled"):
        pickle.dumps(ALPHA)
    with pytest.raises(KeyRefused, match="overwritten"):
        ALPHA.save(path)
    path.chmod(0o640)
    with pytest.raises(KeyRefused, match="chmod 600"):
        Identity.load(path)


def test_a_garbled_identity_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(KeyRefused, match=r"identity\.key"):
        Identity.load(path)
    with pytest.raises(KeyRefused, match="cannot be read"):
        Identity.load(tmp_path / "none")
