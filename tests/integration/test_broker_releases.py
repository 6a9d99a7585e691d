"""
Releases at a real broker, on SQLite and PostgreSQL: consent of every steward, versions, pins, what
withdrawals and the last day do, how IDs were linked, and the same request again.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from broker.store import jobs
from broker.store.engine import Database
from linkage import idtables
from linkage.errors import Conflict, NotFound
from linkage.messages import BROKER, CROSSWALK, CUSTODIAN, LINK_METHODS, ReleaseRequest
from linkage.release_messages import QUALITY, ReleaseConsent, ReleasePin, ReleaseState
from linkage.sealing import Context, unseal
from sites.client import BrokerClient
from sites.config import SiteConfig
from sites.releases import usable
from sites.session import Session
from sites.vault import Vault
from tests.broker_packages import encoded, pack
from tests.broker_world import (
    AUDIENCE,
    PROGRAM,
    STUDY,
    World,
    crash,
    make_world,
    packages,
    problem,
    wait_for,
)

PARTIES = ("imaging", "enclave", "claims")
TEXT = STUDY.replace(
    'purpose = "To test with"',
    'purpose = "To test with"\nrelease_methods = true\nexpires = 2097-06-30\n'
    'release_to = ["enclave", "imaging"]',
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    folder = tmp_path_factory.mktemp(f"releases-{request.param}")
    made = make_world(folder, url=url, rehearsal=False, text=TEXT)
    told = made.signed.pin(CUSTODIAN).fingerprint
    try:
        made.serve()
        made.work()
        registered = made.actor("admin").post(
            "/v1/studies", made.signed, custodian_fingerprint=told
        )
        registered.raise_for_status()
        made.confirm()
        for package in packages(made).values():
            made.upload(package)  # imaging holds 0 to 119, the enclave 60 to 179
        run = made.run()
        assert run["state"] == "done", run["failure"]
        yield made
    finally:
        made.stop()


def ask(world: World, *audience: str, methods: bool = False, key: str = "") -> dict[str, Any]:
    """Ask for a release as the admin; return the job."""
    request = ReleaseRequest(audience=audience, methods=methods)
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    answer = world.actor("admin").call(
        "POST", f"{world.path}/releases", content=request.model_dump_json(), headers=headers
    )
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def state(world: World, release: str, who: str = "admin") -> ReleaseState:
    answer = world.actor(who).get(f"{world.path}/releases/{release}").raise_for_status()
    return ReleaseState.model_validate_json(answer.content)


def console(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, *words, "--home", str(world.home.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def decide(
    world: World, who: str, release: str, decision: str = "approve", **changed: Any
) -> httpx.Response:
    said: dict[str, Any] = {
        "study_id": world.study_id,
        "release_id": release,
        "terms_hash": state(world, release).terms.hash,
        "party": who,
        "decision": decision,
    }
    consent = ReleaseConsent(**(said | changed)).sign(world.identities[who])
    return world.actor(who).post(f"{world.path}/releases/{release}/consents", consent)


def made(world: World, release: str) -> ReleaseState:
    job = world.finish(f"{world.path}/jobs/{release}")
    assert job["state"] == "done", job["failure"]
    return state(world, release)


def agreed(world: World, *audience: str, methods: bool = False) -> str:
    """A release to which everybody consented, made."""
    release = str(ask(world, *audience, methods=methods)["job_id"])
    for party in PARTIES:
        decide(world, party, release).raise_for_status()
    made(world, release)
    return release


def session(world: World, party: str) -> Session:
    """A party's site, without records."""
    site = SiteConfig(party=party, private=world.home.path / "no-such-folder")
    subject, identity = f"{world.study_id}/{party}", world.identities[party]
    client = BrokerClient(world.url, subject, identity, audience=AUDIENCE)
    return Session(site, Vault(site.private), world.signed, identity, client)


def fetch(world: World, party: str, purpose: str, release: str) -> httpx.Response:
    actor = world.actor(party)
    listed = actor.get(f"{world.path}/inbox", purpose=purpose, subject=release).json()["items"]
    assert len(listed) == 1, "whole or not at all"
    return actor.get(f"{world.path}/inbox/{listed[0]['item_id']}")


def table(world: World, party: str, purpose: str, release: str) -> dict[str, np.ndarray]:
    opened = unseal(
        fetch(world, party, purpose, release).raise_for_status().content,
        sender=world.signed.pin(BROKER),
        recipient=world.identities[party],
        context=Context(world.study_id, BROKER, party, purpose, (release,)),
    )
    widths = idtables.CROSSWALK if purpose == CROSSWALK else idtables.LINK_METHODS
    return idtables.unpack(opened, widths)


def upload(world: World, party: str, held: range, dataset: int) -> None:
    records = encoded(world.signed, party, held)
    world.upload(pack(world.signed, world.identities[party], records, dataset=dataset))


def test_beyond_the_enclave_every_steward_consents_first(world: World) -> None:
    job = ask(world, "enclave", "imaging")
    release = job["job_id"]
    assert job["state"] == "waiting"
    assert ask(world, "enclave", "imaging") == job, "the same again while it waits is one"
    seen = state(world, release, "claims")
    assert seen.needs == PARTIES
    assert seen.records == {"claims": 120}, "of others a party is told nothing"
    assert (seen.precision, seen.recall) == ("", ""), "what it is told depends on no match"
    assert state(world, release, "enclave").precision in {said for _, said in QUALITY}
    assert (seen.number, seen.terms.expires) == (None, "2097-06-30")
    for party in ("imaging", "claims"):
        left = decide(world, party, release).raise_for_status().json()["needs"]
        assert party not in left
    assert state(world, release).state == "waiting"
    assert decide(world, "claims", release).raise_for_status().json()["state"] == "waiting"
    decide(world, "enclave", release).raise_for_status()
    done = made(world, release)
    assert (done.number, done.current, done.needs) == (1, True, ())
    for party in PARTIES:
        done.consents[party].verify(world.signed.pin(party))
    assert done.records == {"enclave": 120, "imaging": 120}
    assert len(table(world, "imaging", CROSSWALK, release)["cross_commons_id"]) == 120
    late = decide(world, "imaging", release, "deny")
    assert problem(late)[:2] == (409, "conflict")


def test_one_denial_ends_it(world: World) -> None:
    release = ask(world, "imaging")["job_id"]
    decide(world, "claims", release).raise_for_status()
    assert decide(world, "enclave", release, "deny").json()["state"] == "denied"
    assert problem(decide(world, "imaging", release))[:2] == (409, "conflict")
    again = ask(world, "imaging")
    assert (again["job_id"] != release, again["state"]) == (True, "waiting")
    decide(world, "enclave", again["job_id"], "deny").raise_for_status()


def test_a_consent_is_for_these_terms_by_this_party(world: World) -> None:
    release = ask(world, "imaging")["job_id"]
    wrong = [
        (decide(world, "claims", release, terms_hash="0" * 64), 409),
        (decide(world, "claims", release, study_id="other-study"), 409),
        (decide(world, "claims", release, party="enclave"), 403),
    ]
    consent = ReleaseConsent(
        study_id=world.study_id,
        release_id=release,
        terms_hash=state(world, release).terms.hash,
        party="claims",
        decision="approve",
    ).sign(world.identities["enclave"])
    path = f"{world.path}/releases/{release}/consents"
    wrong.append((world.actor("claims").post(path, consent), 422))
    wrong.append((world.actor("admin").post(path, consent), 403))
    for answer, status in wrong:
        assert problem(answer)[0] == status
    assert state(world, release).consents == {}
    decide(world, "enclave", release, "deny").raise_for_status()


def test_whoever_writes_the_database_cannot_consent(world: World) -> None:
    """A release that somebody queued by hand is not made."""
    release = ask(world, "imaging")["job_id"]
    decide(world, "claims", release).raise_for_status()
    database = Database(world.home.database_url())
    with database.change() as connection:
        for party in ("imaging", "enclave"):
            jobs.set_approval(connection, release, party, "approve", "{}", 1)
        jobs.change(connection, release, state="queued")
    database.close()
    job = world.finish(f"{world.path}/jobs/{release}")
    assert job["state"] == "failed"
    assert "not consented to by: imaging, enclave" in job["failure"]


def test_the_enclave_alone_needs_no_consent_and_others_do_not_see_it(world: World) -> None:
    job = ask(world, "enclave", key="enclave-once")
    assert job["state"] == "queued"
    done = made(world, job["job_id"])
    assert (done.number, done.current) == (1, True)
    assert ask(world, "enclave", key="enclave-once")["job_id"] == job["job_id"]
    newer = made(world, ask(world, "enclave")["job_id"])
    assert (newer.number, newer.current) == (2, True)
    site = session(world, "enclave")
    assert usable(site).release_id == newer.release_id
    assert usable(site, job["job_id"], pinned=True).number == 1
    with pytest.raises(Conflict, match="superseded by a newer release") as caught:
        usable(site, job["job_id"])
    assert newer.release_id in caught.value.hint
    with pytest.raises(NotFound):
        usable(session(world, "claims"), job["job_id"])
    older = state(world, job["job_id"], "enclave")
    assert (older.current, older.newest, older.affected) == (False, newer.release_id, False)
    fetch(world, "enclave", CROSSWALK, job["job_id"]).raise_for_status()
    stranger = world.actor("claims").get(f"{world.path}/releases/{job['job_id']}")
    assert problem(stranger)[0] == 404
    listed = world.actor("claims").get(f"{world.path}/releases").json()
    assert all(one["terms"]["audience"] != ["enclave"] for one in listed)


def test_how_ids_were_linked_goes_to_the_enclave_alone(world: World) -> None:
    several = ReleaseRequest(audience=("enclave", "imaging"), methods=True)
    refused = world.actor("admin").post(f"{world.path}/releases", several)
    assert problem(refused)[0] == 403
    assert ask(world, "enclave", methods=True)["state"] == "waiting"
    release = agreed(world, "enclave", methods=True)
    ids = table(world, "enclave", CROSSWALK, release)["cross_commons_id"]
    how = table(world, "enclave", LINK_METHODS, release)
    linked = {one.tobytes() for one in how["cross_commons_id"]}
    assert linked <= {one.tobytes() for one in ids}
    # The enclave holds 60 to 179: all but a few of them are also at imaging or claims.
    assert len(linked) >= 110
    assert set(how["tier"].ravel().tolist()) <= {0, 1, 2, 3}
    for party in ("imaging", "claims"):
        listed = world.actor(party).get(f"{world.path}/inbox", subject=release).json()
        assert listed["items"] == []


def test_what_a_party_gets_has_a_size_of_its_own_records_only(world: World) -> None:
    release = agreed(world, "enclave", "imaging")
    sizes = [
        world.actor(p).get(f"{world.path}/inbox", subject=release).json()["items"][0]["size"]
        for p in ("enclave", "imaging")
    ]
    assert len(set(sizes)) == 1, "120 records each"


def test_killed_in_the_middle_it_is_there_once(world: World) -> None:
    release = ask(world, "enclave")["job_id"]
    crash(world.processes.pop())
    world.work()
    made(world, release)
    assert len(fetch(world, "enclave", CROSSWALK, release).raise_for_status().content) > 1000


def test_pins_are_kept_by_party(world: World) -> None:
    release = agreed(world, "enclave", "imaging")
    path = f"{world.path}/releases/{release}/pins"
    pin = ReleasePin(name="lung-cohort")
    for _ in range(2):
        world.actor("enclave").post(path, pin).raise_for_status()
    assert state(world, release).pins == {"enclave": ("lung-cohort",)}
    assert state(world, release, "imaging").pins == {}
    assert problem(world.actor("claims").post(path, pin))[0] == 409
    gone = pin.model_copy(update={"holds": False})
    assert world.actor("enclave").post(path, gone).json()["pins"] == {}
    world.actor("enclave").post(path, pin).raise_for_status()


def test_after_the_last_day_nothing_is_handed_out(world: World) -> None:
    from broker.registered import RegisteredStudy
    from broker.services.releases import require_usable
    from broker.store import studies
    from linkage.errors import NotAllowed

    release = agreed(world, "enclave", "imaging")
    database = Database(world.home.database_url())
    with database.read() as connection:
        row, study = jobs.find(connection, release), studies.find_study(connection, world.study_id)
        assert row is not None
        assert study is not None
        registered, last = RegisteredStudy.of(study), dt.date(2097, 6, 30)
        require_usable(connection, registered, row, party="imaging", today=last)
        late = last + dt.timedelta(days=1)
        with pytest.raises(NotAllowed, match="last day was 2097-06-30"):
            require_usable(connection, registered, row, party="imaging", today=late)
    database.close()


def test_an_admin_cancels_what_still_waits(world: World) -> None:
    release = ask(world, "imaging", "enclave")["job_id"]
    for _ in range(2):
        told = console(world, "release", "cancel", world.study_id, release, "--json")
        assert json.loads(told.stdout)["state"] == "denied", told.stderr
    # No steward's word brings it back, and the log says who ended it, once.
    assert problem(decide(world, "claims", release))[:2] == (409, "conflict")
    with Database(world.home.database_url()).read() as connection:
        entries = connection.execute(text("SELECT entry FROM audit")).scalars().all()
    ended = [e for e in map(json.loads, entries) if e["action"] == "release cancelled"]
    assert [(one["actor"], one["subject"]) for one in ended] == [("admin/console", release)]
    other = ask(world, "imaging", "enclave")["job_id"]
    at = f"{world.path}/releases/{other}/cancel"
    assert problem(world.actor("imaging").post(at))[0] == 403
    assert state(world, other).state == "waiting"
    gone = world.actor("admin").post(at).raise_for_status().json()
    assert (gone["state"], gone["failure"]) == ("denied", "cancelled by the broker's admin")
    made = ask(world, "enclave")["job_id"]
    taken = world.actor("admin").post(f"{world.path}/releases/{made}/cancel")
    assert problem(taken)[:2] == (409, "conflict")
    refused = console(world, "release", "cancel", world.study_id, made)
    assert (refused.returncode, "waits for nobody" in refused.stderr) == (1, True)


def test_withdrawn_records_end_the_use_of_what_held_them(world: World) -> None:
    own = made(world, ask(world, "enclave")["job_id"]).release_id
    before = agreed(world, "enclave", "imaging")
    upload(world, "claims", range(120, 260), dataset=2)  # only adds, and is not in the audience
    wait_for(lambda: not state(world, before).checking, 60)
    assert not state(world, before).affected
    fetch(world, "imaging", CROSSWALK, before).raise_for_status()
    upload(world, "imaging", range(7, 120), dataset=2)
    refused = fetch(world, "enclave", CROSSWALK, before)
    assert problem(refused)[:2] == (409, "conflict"), "at once, before the worker has looked"
    wait_for(lambda: state(world, before).affected, 60)
    told = state(world, before)
    assert (told.withdrawn, told.checking, told.newest) == ({"imaging": 7}, False, "")
    assert state(world, before, "imaging").withdrawn == {"imaging": 7}
    other = state(world, before, "enclave")
    assert (other.affected, other.withdrawn, other.withdrawn_since) == (True, {}, {})
    assert "withdrawn since" in problem(fetch(world, "enclave", CROSSWALK, before))[2]
    for pinned in (False, True):
        with pytest.raises(Conflict, match="used no more"):
            usable(session(world, "enclave"), before, pinned=pinned)
    pin = ReleasePin(name="new-cohort")
    pinned = world.actor("enclave").post(f"{world.path}/releases/{before}/pins", pin)
    assert problem(pinned)[0] == 409
    after = agreed(world, "enclave", "imaging")
    assert state(world, before, "enclave").newest == after
    with pytest.raises(Conflict, match="used no more") as caught:
        usable(session(world, "enclave"), before)
    assert caught.value.hint == f"take {after}"
    assert usable(session(world, "imaging"), after).release_id == after
    assert len(table(world, "imaging", CROSSWALK, after)["cross_commons_id"]) == 113
    assert not state(world, after).affected
    # The enclave's own releases held none of imaging's records.
    assert not state(world, own).affected
    # Somebody withdraws everything: the server needs no worker to stop it.
    world.withdraw("imaging").raise_for_status()
    assert problem(fetch(world, "enclave", CROSSWALK, after))[0] == 409
    wait_for(lambda: state(world, after).affected, 60)
    assert state(world, after).withdrawn == {"imaging": 113}
