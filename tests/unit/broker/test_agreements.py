"""Agreements at the moment of use: who is linked, what is given out, and what ends by itself."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from broker.container import Broker
from broker.opted_out import without
from broker.policy import Action, Caller, Grant
from broker.registered import RegisteredStudy
from broker.runs import RunMaker
from broker.services import agreements, uses
from broker.store import jobs, runs, second_looks, studies
from broker.store.second_looks import LookRow, RequestRow
from linkage.errors import Conflict, NotAllowed
from linkage.matching.dataset import Dataset
from linkage.release_messages import ReleaseConsent
from linkage.run_messages import RunRequest
from linkage.sealing import Identity
from tests.broker_packages import encoded
from tests.broker_world import STUDY, World, make_world

LAST, AFTER = dt.date(2097, 1, 31), dt.date(2097, 2, 1)
TEXT = (
    STUDY.replace('id = "claims"\n', 'id = "claims"\nexpires = 2097-01-31\n')
    + """
[[purpose]]
id = "lungs"
title = "Outcomes of lung nodules"

[[participation]]
party = "imaging"
purpose = "lungs"
features = ["linkage", "questions"]

[[participation]]
party = "enclave"
purpose = "lungs"
features = ["linkage", "questions", "releases"]

[[participation]]
party = "claims"
purpose = "lungs"
features = ["linkage", "releases"]
"""
)


@dataclass(slots=True)
class Place:
    """A broker with one run of all three parties."""

    world: World
    broker: Broker
    study: RegisteredStudy

    def begun(self, run_id: str, *, state: str = "running", purpose: str = "lungs") -> runs.RunRow:
        row = runs.RunRow(
            id=run_id,
            study_id=self.study.id,
            seed=1,
            epoch=1,
            inputs='{"claims": 1, "enclave": 1, "imaging": 1}',
            software="tests",
            state=state,
            started_at=1,
            purpose=purpose,
        )
        with self.broker.database.change() as connection:
            runs.add(connection, row)
        return row

    def found(self, run_id: str) -> runs.RunRow:
        with self.broker.database.read() as connection:
            row = runs.find(connection, run_id)
        assert row
        return row

    def maker(self, today: dt.date) -> RunMaker:
        identity = Identity.load(self.world.home.identity_file)
        return RunMaker(self.broker, identity, today=lambda: today)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    world = make_world(tmp_path_factory.mktemp("agreements"), text=TEXT)
    broker = Broker.at(world.home)
    broker.studies.register("console", world.signed, custodian_fingerprint=None)
    with broker.database.read() as connection:
        row = studies.find_study(connection, world.study_id)
    assert row
    yield Place(world, broker, RegisteredStudy.of(row))
    broker.database.close()


def test_who_is_linked_on_the_last_day_and_the_day_after(place: Place) -> None:
    config = place.study.config
    assert agreements.linkable(config, "lungs", today=LAST)[1] == {}
    found, left = agreements.linkable(config, "lungs", today=AFTER)
    assert found == ("imaging", "enclave")
    assert left == {"claims": "its last day was 2097-01-31"}


def test_a_dry_run_says_who_is_left_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreements, "utc_today", lambda: AFTER)
    grant = place.broker.studies.grant(
        Caller("console", None), Action.START_RUN, study_id=place.study.id
    )
    told = place.broker.forecasts.of(grant, RunRequest())
    assert {one.uploader: (one.state, one.note) for one in told.datasets} == {
        "imaging": ("missing", "has uploaded nothing"),
        "enclave": ("missing", "has uploaded nothing"),
        "claims": ("left out", "its last day was 2097-01-31"),
    }


def test_a_run_that_waits_ends_by_itself_when_a_last_day_passes(place: Place) -> None:
    """Its sites are asked, one is silent, and meanwhile the agreement of another ends."""
    place.begun("run-waits")
    blob = place.broker.blobs.put(b"questions")
    look = LookRow(run_id="run-waits", asked_at=1.0, until=4e9)
    asked = RequestRow(
        run_id="run-waits",
        uploader="enclave",
        blob_id=blob.blob_id,
        size=blob.size,
        digest=blob.digest,
        questions=1,
    )
    with place.broker.database.change() as connection:
        second_looks.add(connection, look, [asked])
    place.maker(LAST).end_what_is_over()
    assert place.found("run-waits").state == "running", "the last day is a day of the agreement"
    place.maker(AFTER).end_what_is_over()
    row = place.found("run-waits")
    assert row.state == "failed"
    assert row.failure is not None
    assert "while the run was under way the agreement has ended" in row.failure
    assert "claims (2097-01-31)" in row.failure
    assert "imaging" not in row.failure
    with place.broker.database.read() as connection:
        assert second_looks.waiting(connection) == []
    place.maker(AFTER).end_what_is_over()
    assert place.found("run-waits").failure == row.failure, "once is enough"


def test_a_step_of_a_run_finds_the_agreement_ended(place: Place) -> None:
    place.begun("run-steps")
    place.maker(LAST)._require_going("run-steps")
    with pytest.raises(Conflict, match="its last day was: claims"):
        place.maker(AFTER)._require_going("run-steps")
    place.maker(AFTER).end_what_is_over()


def test_what_a_run_may_be_used_for(place: Place) -> None:
    run = place.begun("run-used", state="done")
    with place.broker.database.change() as connection:
        runs.change(connection, run.id, sequence=1)

    def may(feature: str, *audience: str, today: dt.date = LAST) -> None:
        with place.broker.database.read() as connection:
            uses.require_use(
                connection,
                place.study,
                feature,  # type: ignore[arg-type]
                run,
                audience,
                today=today,
            )

    may("releases", "enclave")
    may("questions", "imaging", "enclave")
    with pytest.raises(NotAllowed, match="take no part in releases: imaging"):
        may("releases", "enclave", "imaging", "claims")
    with pytest.raises(NotAllowed, match="take no part in deliveries: enclave, imaging"):
        may("deliveries", "imaging", "enclave")
    with pytest.raises(NotAllowed, match="take no part in review"):
        may("review", "claims")
    may("linkage", "claims")
    with pytest.raises(NotAllowed, match="the agreement has ended"):
        may("linkage", "claims", today=AFTER)
    release = jobs.JobRow(
        id="release-1",
        study_id=place.study.id,
        kind="release",
        run_id=run.id,
        request=json.dumps({"audience": ["imaging"]}),
        asked_at=1,
    )
    with place.broker.database.read() as connection:
        with pytest.raises(NotAllowed, match="take no part in releases: imaging"):
            uses.require_job(connection, place.study, release, today=LAST)
        place_run = uses.finished_for(connection, place.study, "")
    assert place_run.id == "run-used"
    other = place.begun("run-other", state="done", purpose="hearts")
    with place.broker.database.change() as connection:
        runs.change(connection, other.id, sequence=2)
        with pytest.raises(Conflict, match="several purposes are done: hearts, lungs"):
            uses.finished_for(connection, place.study, "")
        assert uses.finished_for(connection, place.study, run.id).id == run.id


def test_nobody_consents_to_a_release_past_its_last_day(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.begun("run-released", state="done")
    release = jobs.JobRow(
        id="release-late",
        study_id=place.study.id,
        kind="release",
        run_id="run-released",
        request=json.dumps({"audience": ["claims"]}),
        state="waiting",
        asked_at=1,
    )
    with place.broker.database.change() as connection:
        jobs.add(connection, release)
    key = place.world.identities["claims"]

    def decided(decision: Literal["approve", "deny"]) -> str:
        grant = Grant(Caller("claims", place.study.id), Action.CONSENT, place.study)
        said = ReleaseConsent(
            study_id=place.study.id,
            release_id="release-late",
            terms_hash=place.broker.releases.one(grant, "release-late").terms.hash,
            party="claims",
            decision=decision,
        )
        return place.broker.consents.decide(grant, "release-late", said.sign(key)).state

    monkeypatch.setattr(agreements, "utc_today", lambda: AFTER)
    with pytest.raises(NotAllowed, match=rf"its last day was: claims \({LAST}\)"):
        decided("approve")
    monkeypatch.setattr(agreements, "utc_today", lambda: LAST)
    assert decided("approve") == "waiting", "the last day is a day of the agreement"
    monkeypatch.setattr(agreements, "utc_today", lambda: AFTER)
    assert decided("deny") == "denied"


def test_a_closed_study_ends_its_runs(place: Place) -> None:
    place.begun("run-closed")
    place.broker.lifecycle.close("console", place.study.id)
    with pytest.raises(Conflict, match="the study is closed"):
        place.broker.studies.grant(
            Caller("console", None), Action.START_RUN, study_id=place.study.id
        )
    place.maker(LAST).end_what_is_over()
    assert "the study is closed" in (place.found("run-closed").failure or "")
    place.broker.lifecycle.reopen("console", place.study.id)


def test_opted_out_records_leave_their_groups_whole(place: Place) -> None:
    records = encoded(place.world.signed, "enclave", range(20))
    # Rows 0 to 3 are one person, named by its first row.
    groups = np.arange(20, dtype=np.uint32)
    groups[:4] = 0
    dataset = Dataset(
        party="enclave",
        records=type(records)(records.pseudonyms, groups, records.clks, {}),
        collisions={},
    )
    gone = records.pseudonyms[[0, 7]]
    left = without(dataset, gone)
    assert len(left.records) == 18
    assert left.records.groups[:4].tolist() == [0, 0, 0, 3]
    assert len(np.unique(left.records.groups)) == 16
    assert without(dataset, gone[:0]) is dataset
    strangers = np.zeros((1, 16), np.uint8)
    assert without(dataset, strangers) is dataset
