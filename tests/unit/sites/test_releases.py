"""A site believes no broker about consent: every steward's signature, over these very terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linkage.errors import PackageRefused
from linkage.release_messages import ReleaseConsent, ReleaseState, ReleaseTerms, quality
from sites.client import BrokerClient
from sites.config import SiteConfig
from sites.releases import _checked, needs_consent, require_consents
from sites.session import Session
from tests.studies import Cast, cast, vault_of

EVERYONE = cast()
REHEARSED = cast(rehearsal=True)


def session(folder: Path, everyone: Cast = EVERYONE) -> Session:
    identity = everyone.identities["alpha"]
    client = BrokerClient("https://broker.example", "small-study/alpha", identity, audience="a")
    site = SiteConfig(party="alpha", private=folder)
    return Session(site, vault_of(everyone, "alpha", folder), everyone.signed, identity, client)


def terms(**changed: Any) -> ReleaseTerms:
    said: dict[str, Any] = {
        "study_id": "small-study",
        "study_hash": EVERYONE.signed.study_hash,
        "release_id": "release-1",
        "run_id": "run-1",
        "audience": ("alpha", "beta"),
    }
    return ReleaseTerms(**(said | changed))


def consent(party: str, signer: str = "", **changed: Any) -> ReleaseConsent:
    said: dict[str, Any] = {
        "study_id": "small-study",
        "release_id": "release-1",
        "terms_hash": terms().hash,
        "party": party,
        "decision": "approve",
    }
    return ReleaseConsent(**(said | changed)).sign(EVERYONE.identities[signer or party])


def state(consents: dict[str, ReleaseConsent], **changed: Any) -> ReleaseState:
    return ReleaseState(
        release_id="release-1", terms=terms(**changed), state="done", consents=consents, asked_at=1
    )


def test_all_signatures_are_needed(tmp_path: Path) -> None:
    site = session(tmp_path)
    good = {party: consent(party) for party in ("alpha", "beta")}
    require_consents(site, state(good))
    forged = {
        "none": {"alpha": good["alpha"]},
        "by another": good | {"beta": consent("beta", "alpha")},
        "another's": good | {"beta": good["alpha"]},
        "of another release": good | {"beta": consent("beta", release_id="release-2")},
        "of other terms": good | {"beta": consent("beta", terms_hash="0" * 64)},
        "of another study": good | {"beta": consent("beta", study_id="other")},
        "a denial": good | {"beta": consent("beta", decision="deny")},
    }
    for consents in forged.values():
        with pytest.raises(PackageRefused, match="signed consent of: beta"):
            require_consents(site, state(consents))
    # The broker shows one audience and released to another: the hash is computed here.
    with pytest.raises(PackageRefused, match="alpha, beta"):
        require_consents(site, state(good, audience=("alpha",)))


def test_where_none_is_needed_the_signed_study_says(tmp_path: Path) -> None:
    site = session(tmp_path)
    assert not needs_consent(site, terms(audience=("beta",)))
    assert needs_consent(site, terms(audience=("beta",), methods=True))
    assert needs_consent(site, terms(audience=("alpha",)))
    require_consents(site, state({}, audience=("beta",)))
    rehearsed = session(tmp_path / "rehearsed", REHEARSED)
    assert not needs_consent(rehearsed, terms())


def test_a_broker_that_answers_of_something_else(tmp_path: Path) -> None:
    site = session(tmp_path)
    assert _checked(site, state({}), "release-1")
    with pytest.raises(PackageRefused, match="another release"):
        _checked(site, state({}), "release-2")
    with pytest.raises(PackageRefused, match="another release"):
        _checked(site, state({}, study_id="other"), "release-1")
    with pytest.raises(PackageRefused, match="is for gamma"):
        _checked(site, state({}, audience=("alpha", "gamma")), "release-1")


@pytest.mark.parametrize(
    ("estimate", "said"),
    [(0.99, "very good"), (0.9899, "good"), (0.95, "good"), (0.9, "fair"), (0.8999, "poor")],
)
def test_classes_are_inclusive(estimate: float, said: str) -> None:
    assert quality(estimate).startswith(said)
    assert quality(None) == "unknown"
