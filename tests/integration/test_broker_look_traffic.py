"""
What a second look asks of a site does not tell whether its records matched.

Two studies on one real broker differ only in whom the other parties hold: people of the imaging
commons, or none of them. A proxy keeps what passes between it and the broker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest

from linkage.look_tables import Questions, names_of
from linkage.run_messages import RunRequest
from tests.broker_looks import Held, Site, held_by, make_look_world, study_text, upload, waits
from tests.broker_world import World, running, wait_for
from tests.integration.test_broker_traffic import form, tapped
from tests.protocol.worlds import beside

LIMITS = {"most_per_record": 3, "most_per_run": 120}


@dataclass(frozen=True)
class Asked:
    """A run that asks: what the imaging commons fetched, as it passed and opened."""

    exchanges: list[tuple[bytes, bytes]]
    questions: Questions


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_look_world(tmp_path_factory.mktemp("looks"), **LIMITS)) as made:
        yield made


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Held]:
    return held_by(tmp_path_factory.mktemp("here"))


def play(world: World, study_id: str, held: Mapping[str, Held]) -> Asked:
    """Upload, run until it asks, and fetch what it asks of the imaging commons."""
    study = beside(world, study_id, text=study_text(**LIMITS))
    upload(study, held)
    started = study.actor("admin").post(f"{study.path}/runs", RunRequest(seed=1))
    run_id = str(started.raise_for_status().json()["run_id"])
    wait_for(waits(study, run_id), 300)
    site = study.actor("imaging")
    token = site.sign_in().json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    with tapped(world.url) as (url, tap):
        for path in ("", f"/{run_id}"):
            httpx.get(f"{url}{study.path}/second-looks{path}", headers=headers)
    asked = Site(study, "imaging", held["imaging"]).asked(run_id)
    study.actor("admin").post(f"{study.path}/second-looks/{run_id}/end").raise_for_status()
    return Asked(tap.exchanges, asked)


@pytest.fixture(scope="module")
def hits(world: World, here: dict[str, Held]) -> Asked:
    return play(world, "all-there", here)


@pytest.fixture(scope="module")
def misses(world: World, here: dict[str, Held], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The other two share people with each other, and none with the imaging commons."""
    others = held_by(tmp_path_factory.mktemp("others"), seed=13)
    return play(world, "none-here", {**others, "imaging": here["imaging"]})


@pytest.mark.threat("T07")
def test_questions_have_the_same_form_and_size(
    hits: Asked, misses: Asked, record_property: Callable[[str, object], None]
) -> None:
    assert len(hits.exchanges) == len(misses.exchanges) == 2
    for one, other in zip(hits.exchanges, misses.exchanges, strict=True):
        assert one[1].startswith(b"HTTP/1.1 200")
        assert form(one) == form(other)
    record_property("bytes of sealed questions", len(hits.exchanges[1][1]))


@pytest.mark.threat("T07")
def test_each_record_and_partner_is_asked_about_as_often(hits: Asked, misses: Asked) -> None:
    for asked in (hits.questions, misses.questions):
        assert len(asked) == LIMITS["most_per_run"]
        assert Counter(asked.partners) == {"claims": 60, "enclave": 60}
        assert set(Counter(names_of(asked.pseudonyms)).values()) == {2}
        assert names_of(asked.nonces) == sorted(names_of(asked.nonces))
