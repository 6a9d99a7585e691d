"""Case maps in many chunks, interrupted, malformed, of several versions: all told apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linkage.case_map_names import case_map_subject, read_case_map_subject
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.messages import (
    CASE_MAP,
    PART_BYTES,
    SealedItem,
)
from linkage.pseudonyms import random_ids
from linkage.records import Bytes2D
from linkage.sealing import Context, seal
from sites import casemaps
from sites.config import SiteConfig
from sites.session import Session
from tests.studies import STUDY, cast, save_map, vault_of

EVERYONE = cast(STUDY.replace('id = "alpha"', 'id = "alpha"\ncontributors = ["north", "south"]'))


@dataclass
class Relay:
    """A relay that keeps what is sent, first come first kept; it may lose what it likes."""

    items: dict[tuple[str, str], bytes] = field(default_factory=dict)
    fails_after: int = 1_000_000

    def as_seen_by(self, sender: str) -> Any:
        return _Side(self, sender)


@dataclass
class _Side:
    relay_: Relay
    sender: str

    def relay(self, _study: str, _to: str, purpose: str, subject: str, sealed: bytes) -> None:
        assert purpose == CASE_MAP
        assert len(sealed) <= 2 * PART_BYTES
        if len(self.relay_.items) >= self.relay_.fails_after:
            raise ConnectionError
        if (self.sender, subject) in self.relay_.items:
            raise Conflict("another case-map was sent for this subject already")
        self.relay_.items[self.sender, subject] = sealed

    def inbox(self, _study: str, *, purpose: str) -> tuple[SealedItem, ...]:
        assert purpose == CASE_MAP
        return tuple(
            SealedItem(
                item_id=f"item-{number}",
                purpose=CASE_MAP,
                subject=subject,
                sender=sender,
                recipient="alpha",
                size=len(data),
                digest="0" * 64,
            )
            for number, ((sender, subject), data) in enumerate(self.relay_.items.items())
        )

    def fetch(self, _study: str, item: SealedItem) -> bytes:
        return self.relay_.items[item.sender, item.subject]


def session(folder: Path, relay: Relay, name: str) -> Session:
    party = "beta" if name == "beta" else "alpha"
    contributor = None if name == party else name
    site = SiteConfig(party=party, contributor=contributor, private=folder / name)
    vault = vault_of(EVERYONE, name, folder / name)
    identity = EVERYONE.identities[name]
    return Session(site, vault, EVERYONE.signed, identity, relay.as_seen_by(name))


def as_matrix(names: casemaps.Names) -> Bytes2D:
    return np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16).copy()


def tokenized(here: Session, dataset: int, ids: list[str], seed: int = 1) -> casemaps.Names:
    """As if the contributor had tokenized these cases; the same case gets the same pseudonym."""
    names = here.vault.secret().pseudonyms("small-study", ids)
    save_map(here.vault, dataset, names, ids)
    return here.vault.load_map(dataset)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casemaps, "CHUNK_BYTES", 500)


def test_many_chunks_arrive_as_one_map_also_after_an_interruption(tmp_path: Path) -> None:
    relay = Relay(fails_after=3)
    north, alpha = session(tmp_path, relay, "north"), session(tmp_path, relay, "alpha")
    made = tokenized(north, 1, [f"case-{i}" for i in range(200)])
    with pytest.raises(ConnectionError):
        casemaps.send(north, 1)
    assert casemaps.receive(alpha) == ([], {}), "half a map is none"
    relay.fails_after = 1_000
    chunks = casemaps.send(north, 1)
    assert chunks == len(relay.items) > 5
    assert casemaps.send(north, 1) == chunks
    assert len(relay.items) == chunks
    assert casemaps.receive(alpha) == ([casemaps.Received("north", 1, chunks)], {})
    assert casemaps.covering(alpha, as_matrix(made)) == made
    assert not [key for key in relay.items.values() if b"case-1" in key]


def test_each_question_gets_the_versions_that_it_is_about(tmp_path: Path) -> None:
    """A release may be of an earlier run than the newest upload."""
    relay = Relay()
    north, south = (session(tmp_path, relay, name) for name in ("north", "south"))
    alpha = session(tmp_path, relay, "alpha")
    versions = [
        tokenized(north, 1, ["a", "b", "c"]),
        tokenized(north, 2, ["b", "c"]),
        tokenized(north, 3, ["b", "c", "d", "e"]),
    ]
    other = tokenized(south, 1, ["x", "y"])
    for dataset in (1, 2, 3):
        casemaps.send(north, dataset)
    casemaps.send(south, 1)
    for made in versions:
        both = made | other
        assert casemaps.covering(alpha, as_matrix(both)) == both
        assert casemaps.covering(alpha, as_matrix(made)) == made, "south took no part"
    assert casemaps.newest(alpha) == versions[2] | other
    strange = np.concatenate([as_matrix(other), random_ids(2)])
    with pytest.raises(NotFound, match="no case map names 2 of the 4 records; none fits of: north"):
        casemaps.covering(alpha, strange)


def test_a_case_of_two_hospitals_is_refused_by_name_of_both(tmp_path: Path) -> None:
    relay = Relay()
    alpha = session(tmp_path, relay, "alpha")
    for name in ("north", "south"):
        here = session(tmp_path, relay, name)
        tokenized(here, 1, ["1001", "1002"] if name == "north" else ["1002", "1003"])
        casemaps.send(here, 1)
    with pytest.raises(PackageRefused, match="'north' and 'south' both use a case id") as caught:
        casemaps.newest(alpha)
    assert "1002" not in str(caught.value)


@pytest.mark.parametrize(
    ("sender", "data", "said"),
    [
        ("north", b"no table", "the case map of 'north', dataset version 1, is malformed"),
        ("south", b"no table", "not signed by 'north'"),
    ],
)
def test_a_map_that_is_none_is_refused(tmp_path: Path, sender: str, data: bytes, said: str) -> None:
    relay, subject = Relay(), case_map_subject(1, 1, 1)
    relay.items["north", subject] = seal(
        data,
        sender=EVERYONE.identities[sender],
        recipient=EVERYONE.signed.pin("alpha"),
        context=Context("small-study", sender, "alpha", CASE_MAP, (subject,)),
    )
    alpha = session(tmp_path, relay, "alpha")
    for _ in range(2):
        with pytest.raises(PackageRefused, match=said):
            casemaps.newest(alpha)
    assert alpha.vault.kept("case-maps/index") is None


def test_a_map_that_cannot_be_read_does_not_keep_later_ones_away(tmp_path: Path) -> None:
    """It stays with the broker: sealed by keys of an epoch that is over, or by a fault."""
    relay = Relay()
    relay.items["north", case_map_subject(1, 1, 1)] = b"sealed to keys of long ago"
    north, south = (session(tmp_path, relay, name) for name in ("north", "south"))
    alpha = session(tmp_path, relay, "alpha")
    early, other = tokenized(north, 1, ["a", "b"]), tokenized(south, 1, ["x"])
    casemaps.send(south, 1)
    assert casemaps.covering(alpha, as_matrix(other)) == other
    with pytest.raises(PackageRefused, match="'north'"):
        casemaps.newest(alpha)
    with pytest.raises(PackageRefused, match="'north'"):
        casemaps.covering(alpha, as_matrix(early | other))
    later = tokenized(north, 2, ["a", "c"])
    casemaps.send(north, 2)
    assert casemaps.newest(alpha) == later | other
    assert casemaps.covering(alpha, as_matrix(later | other)) == later | other


def test_a_party_names_the_records_of_an_earlier_version_too(tmp_path: Path) -> None:
    """It may have tokenized anew, with records gone, before it asks about an earlier run."""
    beta = session(tmp_path, Relay(), "beta")
    versions = [tokenized(beta, 1, ["a", "b"]), tokenized(beta, 2, ["b", "c"])]
    for dataset, made in enumerate(versions, start=1):
        beta.vault.package(dataset).mkdir(parents=True)
        assert casemaps.covering(beta, as_matrix(made)) == made
    for made in versions:
        assert casemaps.covering(beta, as_matrix(made)) == made


def test_what_others_send_is_left_alone(tmp_path: Path) -> None:
    relay = Relay()
    relay.items["beta", case_map_subject(1, 1, 1)] = b"anything"
    assert casemaps.receive(session(tmp_path, relay, "alpha")) == ([], {})


@pytest.mark.parametrize(
    "subject",
    [
        "dataset-0-chunk-1-of-1",
        "dataset-1-chunk-0-of-1",
        "dataset-1-chunk-2-of-1",
        "dataset-1-chunk-1-of-10001",
        "dataset-01-chunk-1-of-1",
        "dataset-1-chunk-1-of-1x",
        "release-1",
        "",
    ],
)
def test_only_a_chunk_is_named_so(subject: str) -> None:
    assert read_case_map_subject(case_map_subject(12, 3, 10_000)) == (12, 3, 10_000)
    with pytest.raises(PackageRefused):
        read_case_map_subject(subject)
