"""
Replay and misdirection: what was sent once, or for somewhere else, is of no use here and now.

Over HTTP where the broker must refuse; at a site with an adversary in the broker's place where
the broker itself is the one who replays. Single faults of uploads are in tests/integration.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from linkage.errors import PackageRefused
from linkage.messages import (
    BROKER,
    CROSSWALK,
    CUSTODIAN,
    DATASET_PART,
    DELIVERY_CROSSWALK,
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    Approval,
    QuestionRequest,
    SealedItem,
)
from linkage.sealing import Context, Identity, seal
from sites.config import SiteConfig
from sites.session import Session
from sites.vault import Vault
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import World, make_world, problem, running
from tests.protocol.worlds import beside, linked
from tests.questions import question as asking
from tests.studies import cast, vault_of
from tests.unit.sites.test_tokenizer import source

pytestmark = pytest.mark.threat("T22")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("replay"))) as made:
        yield made


@pytest.fixture(scope="module")
def other(world: World) -> World:
    """A second study whose parties use the very same keys."""
    return beside(world, "second-study", identities=world.identities)


@pytest.fixture(scope="module")
def question(world: World) -> tuple[str, str]:
    """Two questions over a finished run, of one specification."""
    parties = ("imaging", "enclave", "claims")
    linked(world, {p: encoded(world.signed, p, range(60)) for p in parties}, dataset=90)
    asked = asking(imaging={"a": 1}, clinical={"b": 2})
    made = [world.actor("enclave").post(f"{world.path}/questions", asked) for _ in range(2)]
    ids = [str(one.raise_for_status().json()["job_id"]) for one in made]
    for one in ids:
        world.finish(f"{world.path}/jobs/{one}")
    return ids[0], ids[1]


def package(world: World, *, dataset: int, **how: Any) -> Package:
    records = encoded(world.signed, "imaging", range(30))
    return pack(world.signed, world.identities["imaging"], records, dataset=dataset, **how)


def test_a_package_of_another_study_is_refused_whole_and_part_by_part(
    world: World, other: World
) -> None:
    """The same site, the same keys, the same records: only the study differs."""
    foreign = package(world, dataset=50)
    site = other.actor("imaging")
    told = problem(site.post(f"{other.path}/datasets", foreign.manifest))
    assert told[:2] == (422, "package-refused")
    assert "wrong study" in told[2]
    # A manifest of this study may announce those bytes; their seal says where they belong.
    own = package(other, dataset=50).manifest
    replayed = own.model_copy(update={"parts": foreign.manifest.parts}).sign(site.identity)
    assert site.post(f"{other.path}/datasets", replayed).status_code == 201
    for number, data in enumerate(foreign.parts, 1):
        refused = problem(site.put(f"{other.path}/datasets/imaging/50/parts/{number}", data))
        assert refused[:2] == (422, "package-refused")
        assert "not signed by 'imaging' for this study, recipient and place" in refused[2]


def test_parts_of_an_earlier_version_are_refused_in_a_later_one(world: World) -> None:
    earlier, site = package(world, dataset=60), world.actor("imaging")
    later = package(world, dataset=61).manifest
    swapped = later.model_copy(update={"parts": earlier.manifest.parts}).sign(site.identity)
    assert site.post(f"{world.path}/datasets", swapped).status_code == 201
    for number, data in enumerate(earlier.parts, 1):
        refused = problem(site.put(f"{world.path}/datasets/imaging/61/parts/{number}", data))
        assert refused[:2] == (422, "package-refused")
    assert problem(site.post(f"{world.path}/datasets/imaging/61/complete"))[0] == 409


def test_an_older_version_does_not_come_back(world: World) -> None:
    """Who kept a replaced package cannot make the broker link over it again."""
    old, new = package(world, dataset=70), package(world, dataset=71)
    world.upload(old)
    world.upload(new)
    site = world.actor("imaging")
    again = site.post(f"{world.path}/datasets", old.manifest)
    assert (again.status_code, again.json()["state"]) == (200, "complete")
    state = site.get(world.path).json()["parties"]
    assert [one["dataset"] for one in state if one["uploader"] == "imaging"] == [71]


def test_a_manifest_that_another_site_signed_is_not_its_own(world: World) -> None:
    """A site that got hold of another's manifest cannot hand it in, nor claim its records."""
    theirs, thief = package(world, dataset=80).manifest, world.actor("claims")
    assert problem(thief.post(f"{world.path}/datasets", theirs))[:2] == (403, "not-allowed")
    taken = theirs.model_copy(update={"party": "claims"})
    assert problem(thief.post(f"{world.path}/datasets", taken))[:2] == (422, "package-refused")


def test_an_approval_counts_for_its_own_question_and_study_only(
    world: World, other: World, question: tuple[str, str]
) -> None:
    first, second = question
    steward = world.actor("imaging")
    approval = Approval(
        study_id=world.study_id,
        question_id=first,
        spec_hash=steward.get(f"{world.path}/questions/{first}").json()["spec_hash"],
        party="imaging",
        decision="approve",
        study_hash=world.signed.study_hash,
    ).sign(steward.identity)
    assert steward.post(f"{world.path}/questions/{first}/approvals", approval).status_code == 200
    elsewhere = problem(steward.post(f"{world.path}/questions/{second}/approvals", approval))
    assert elsewhere[:2] == (409, "conflict")
    for study, named in ((world, second), (other, first)):
        refused = study.actor("imaging").post(f"{study.path}/questions/{named}/approvals", approval)
        assert refused.status_code in (404, 409)
    assert steward.get(f"{world.path}/questions/{second}").json()["approvals"] == {}
    turned = approval.model_copy(update={"decision": "deny"})
    assert problem(steward.post(f"{world.path}/questions/{first}/approvals", turned))[0] == 422


def test_a_question_is_asked_once_under_one_key(world: World, question: tuple[str, str]) -> None:
    asked = asking(title="y", purpose="y")
    enclave, path = world.actor("enclave"), f"{world.path}/questions"

    def ask(body: QuestionRequest) -> Any:
        keyed = {"Idempotency-Key": "asked-once"}
        return enclave.call("POST", path, json=body.model_dump(mode="json"), headers=keyed)

    ids = {ask(asked).json()["job_id"] for _ in range(3)}
    assert len(ids) == 1
    other_body = asked.model_copy(update={"spec_hash": "2" * 64})
    assert problem(ask(other_body))[:2] == (422, "request-reused")


def test_a_token_opens_its_own_study_only(world: World, other: World) -> None:
    """The same keys in two studies: a token of one is no token of the other."""
    site = world.actor("imaging")
    assert site.get(world.path).status_code == 200
    assert problem(site.get(other.path))[:2] == (404, "not-found")
    assert problem(site.get(f"{other.path}/inbox"))[:2] == (404, "not-found")


# At the site: the broker itself replays or exchanges what it relays.

EVERYONE = cast()
FROM_BROKER = (CROSSWALK, QUESTION_IDS, DELIVERY_KEY, DELIVERY_CROSSWALK)
FROM_IMAGING = (QUESTION_ANSWER, DELIVERY_ROWS)
PURPOSES = (*FROM_BROKER, *FROM_IMAGING, DATASET_PART)


class Serving:
    """An adversary in the broker's place: serves these bytes as whatever is asked for."""

    def __init__(self, data: bytes, subject: str) -> None:
        self.data, self.subject = data, subject

    def inbox(self, _study: str, *, purpose: str, subject: str) -> tuple[SealedItem, ...]:
        return (
            SealedItem(
                item_id="item-1",
                purpose=purpose,
                subject=subject or self.subject,
                sender=BROKER,
                recipient="beta",
                size=len(self.data),
                digest=hashlib.sha256(self.data).hexdigest(),
            ),
        )

    def fetch(self, _study: str, _item: SealedItem) -> bytes:
        return self.data


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return vault_of(EVERYONE, "beta", tmp_path_factory.mktemp("beta") / "private")


def at_beta(vault: Vault, served: bytes) -> Session:
    folder: Path = vault.folder
    site = SiteConfig(party="beta", private=folder, source=source(folder.parent))
    broker: Any = Serving(served, "release-1")
    return Session(site, vault, EVERYONE.signed, EVERYONE.identities["beta"], broker)


def sealed(context: Context, *, by: str, to: str) -> bytes:
    sender = EVERYONE.identities[by] if by in EVERYONE.identities else Identity.generate(by)
    return seal(b"rows", sender=sender, recipient=EVERYONE.signed.pin(to), context=context)


def test_the_broker_cannot_pass_one_object_for_another(
    vault: Vault, record_property: Callable[[str, object], None]
) -> None:
    """
    Every purpose that a site receives, against objects sealed for another purpose, subject,
    study, recipient or by another sender; and each is accepted where it belongs.
    """
    refused = 0
    for wanted in (*FROM_BROKER, *FROM_IMAGING):
        sender = BROKER if wanted in FROM_BROKER else "alpha"
        right = Context("small-study", sender, "beta", wanted, ("subject-1",))
        here = at_beta(vault, sealed(right, by=sender, to="beta"))
        assert here.receive(wanted, subject="subject-1", sender=sender)[1] == b"rows"
        wrong = [
            *(dataclasses.replace(right, purpose=p) for p in PURPOSES if p != wanted),
            dataclasses.replace(right, details=("subject-2",)),
            dataclasses.replace(right, details=()),
            dataclasses.replace(right, details=("subject-1", "1")),
            dataclasses.replace(right, study="second-study"),
            dataclasses.replace(right, recipient="alpha"),
            *(
                dataclasses.replace(right, sender=s)
                for s in (BROKER, "alpha", CUSTODIAN)
                if s != sender
            ),
        ]
        signers = {sender, BROKER, "alpha", CUSTODIAN, "beta", "stranger"}
        tried = list(product(wrong, (sender,), ("beta", "alpha")))
        tried += list(product([right], signers - {sender}, ("beta",)))
        tried += [(right, sender, "alpha"), (right, sender, BROKER)]
        for context, by, to in tried:
            here = at_beta(vault, sealed(context, by=by, to=to))
            with pytest.raises(PackageRefused):
                here.receive(wanted, subject="subject-1", sender=sender)
            refused += 1
    record_property("objects passed for another, refused", f"{refused} of {refused}")
    assert refused > 150


def test_an_old_release_is_not_the_one_asked_for(vault: Vault) -> None:
    """The broker may withhold the newest release; it cannot give an older one its name."""
    old = Context("small-study", BROKER, "beta", CROSSWALK, ("release-1",))
    here = at_beta(vault, sealed(old, by=BROKER, to="beta"))
    assert here.receive(CROSSWALK)[0] == "release-1"
    with pytest.raises(PackageRefused):
        here.receive(CROSSWALK, subject="release-2")
