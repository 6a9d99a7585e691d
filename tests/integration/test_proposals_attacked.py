"""
A broker that lies about what people proposed: what it can have done, and what no site does for it.

Whoever runs the broker can write its tables, so the lies are told by writing them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from broker.store import proposals
from broker.store.engine import Database
from broker.store.proposals import ProposalRow
from linkage.messages import QuestionRequest, ReleaseRequest
from linkage.proposal_messages import Allow, Consent, Decide, Deliver
from linkage.release_messages import ReleaseState
from sites.allowing import allow, allowed_by
from sites.allowing import withdraw as withdraw_yes
from sites.questions import decide as by_command
from tests.broker_world import make_world, problem, running
from tests.cohort_world import TWO_PARTIES, Sites
from tests.people import Person
from tests.proposing import about, decide, now, propose, read, states, steward

PORTAL = 'portal = ["ines"]'
DAY = 86_400
HEADER = 'purpose = "To test with"\n'


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    released = TWO_PARTIES.replace(HEADER, HEADER + 'release_to = ["enclave", "imaging"]\n')
    yield from _made(tmp_path_factory.mktemp("attacked"), released)


def _made(folder: Path, study: str) -> Iterator[Sites]:
    with running(make_world(folder)) as world:
        people = {"imaging": range(30), "enclave": range(10, 40)}
        made = Sites(world, folder / "attacked", text=study, **people)
        made.write_site("imaging", PORTAL)
        yield made
        made.close()


@pytest.fixture(scope="module", autouse=True)
def ines(sites: Sites) -> Person:
    """There for every test: of people without the role the broker shows a site nothing."""
    return steward(sites, "imaging", "ines")


@pytest.fixture
def question(sites: Sites) -> str:
    return sites.ask(imaging={"modality": ["CT"]}, clinical={"any": True})


@pytest.fixture
def tables(sites: Sites) -> Iterator[Database]:
    made = Database(sites.world.home.database_url())
    yield made
    made.close()


def invented(sites: Sites, body: Any, *, person: str = "ines", **changed: Any) -> ProposalRow:
    """A proposal that nobody made."""
    row = ProposalRow(
        id=f"proposal-{time.monotonic_ns():x}",
        study_id=sites.world.study_id,
        party="imaging",
        person=person,
        kind=body.kind,
        about=body.about,
        body=body.canonical().decode(),
        made_at=int(time.time()),
    )
    return dataclasses.replace(row, **changed)


def told(sites: Sites, tables: Database, row: ProposalRow) -> str:
    """Return what the agent makes of an invented proposal."""
    with tables.change() as connection:
        proposals.add(connection, row)
    return states(sites, "imaging").get(row.id, "never seen")


def write(tables: Database, statement: str, **values: Any) -> None:
    with tables.change() as connection:
        assert connection.execute(text(statement), values).rowcount == 1


def signed(sites: Sites, question: str) -> str | None:
    return read(sites, question).approvals.get("imaging")


def test_for_the_people_named_the_broker_is_trusted_and_for_nobody_else(
    sites: Sites, tables: Database, question: str
) -> None:
    """What [agent] portal gives away, in so many words (ADR 31)."""
    steward(sites, "imaging", "other")
    approve = decide(sites, question, "approve")
    said = told(sites, tables, invented(sites, approve, person="other"))
    assert said.startswith("waits: [agent] portal does not name 'other'")
    assert signed(sites, question) is None
    assert told(sites, tables, invented(sites, approve)) == f"done: approve {question}"
    assert signed(sites, question) == "approve"


def test_what_was_done_is_not_done_again(
    sites: Sites, tables: Database, ines: Person, question: str
) -> None:
    made = propose(sites, ines, "imaging", decide(sites, question, "approve"))
    assert states(sites, "imaging")[made.proposal_id].startswith("done")
    with sites.session("imaging") as session:
        by_command(session, question, "revoke")
    again = "UPDATE proposal SET state = 'waiting', begun_at = NULL WHERE id = :id"
    write(tables, again, id=made.proposal_id)
    before = len(sites.wires["imaging"].exchanges)
    assert states(sites, "imaging")[made.proposal_id].startswith("done")
    sent = [one.target for one in sites.wires["imaging"].exchanges[before:]]
    assert not [one for one in sent if "approvals" in one]
    assert signed(sites, question) == "revoke"
    # And where the site has forgotten it, what it last decided is the newer.
    (sites.folder / "imaging/private/kept/proposals" / made.proposal_id).unlink()
    write(tables, again, id=made.proposal_id)
    assert "a later decision" in states(sites, "imaging")[made.proposal_id]
    assert signed(sites, question) == "revoke"


def test_nor_is_another_one_done_under_its_name(
    sites: Sites, tables: Database, ines: Person, question: str
) -> None:
    made = propose(sites, ines, "imaging", decide(sites, question, "deny"))
    assert states(sites, "imaging")[made.proposal_id].startswith("done")
    write(
        tables,
        "UPDATE proposal SET state = 'waiting', made_at = made_at + 1, body = :body WHERE id = :id",
        body=decide(sites, question, "approve").canonical().decode(),
        id=made.proposal_id,
    )
    assert "another proposal" in states(sites, "imaging")[made.proposal_id]
    assert signed(sites, question) == "deny"


def test_the_hour_is_the_sites_own(sites: Sites, tables: Database, question: str) -> None:
    """A decision of tomorrow would let nobody take it back until then."""
    approve, today = decide(sites, question, "approve"), int(time.time())
    with tables.change() as connection:
        proposals.add(connection, ahead := invented(sites, approve, made_at=today + DAY))
    (event,) = [one for one in sites.look("imaging") if one.subject == ahead.id]
    assert "later than this machine's clock" in event.said
    write(tables, "DELETE FROM proposal WHERE id = :id", id=ahead.id)
    # One that was begun does not expire at the broker: the site counts the days for itself.
    old = invented(sites, approve, made_at=today - 14 * DAY, begun_at=today)
    assert "older than 14 days" in told(sites, tables, old)
    assert signed(sites, question) is None


def test_it_signs_for_the_question_that_it_computes_itself(
    sites: Sites, tables: Database, question: str
) -> None:
    other = sites.ask(imaging={"modality": ["MR"]}, clinical={"any": True})
    approve = decide(sites, other, "approve")
    swapped = approve.model_copy(update={"question_id": question})
    assert "another one than was read" in told(sites, tables, invented(sites, swapped))
    asked = QuestionRequest.model_validate_json(_column(tables, "request", other))
    wider = asked.model_copy(update={"imaging": {"modality": ["CT", "MR"]}})
    set_request = "UPDATE job SET request = :request WHERE id = :id"
    write(tables, set_request, request=wider.model_dump_json(), id=other)
    assert "is not what its hash commits to" in told(sites, tables, invented(sites, approve))
    write(tables, set_request, request=asked.model_dump_json(), id=other)
    terms = json.loads(_column(tables, "terms", other))
    for changed, reason in (
        (terms | {"study_hash": "0" * 64, "epoch": 7}, "asked under epoch 7"),
        (terms, f"done: approve {other}"),
    ):
        write(tables, "UPDATE job SET terms = :t WHERE id = :id", t=json.dumps(changed), id=other)
        assert reason in told(sites, tables, invented(sites, approve))
    assert signed(sites, other) == "approve"


def _column(tables: Database, name: str, job: str) -> str:
    with tables.read() as connection:
        found = connection.execute(text(f"SELECT {name} FROM job WHERE id = :id"), {"id": job})
        return str(found.scalar_one())


def test_the_sites_policy_stands_above_the_portal(
    sites: Sites, tables: Database, question: str
) -> None:
    sites.write_site("imaging", f'{PORTAL}\ndeliveries = "refuse"')
    approve = decide(sites, question, "approve")
    assert "policy refuses" in told(sites, tables, invented(sites, approve))
    sites.write_site("imaging", PORTAL)
    late = Decide.model_validate(approve.model_dump() | {"until": "2026-01-01"})
    assert "is over already" in told(sites, tables, invented(sites, late))
    assert signed(sites, question) is None
    revoke = decide(sites, question, "revoke")
    assert "has approved nothing" in told(sites, tables, invented(sites, revoke))


ALL = PORTAL + '\nportal_kinds = ["decide", "consent", "remark", "allow", "deliver"]'


def test_a_yes_to_counts_is_for_who_and_what_the_site_names(
    sites: Sites, tables: Database, question: str
) -> None:
    yes = about(sites, Allow, question)
    row = invented(sites, yes)
    assert "portal_kinds does not have 'allow'" in told(sites, tables, row)
    write(tables, "DELETE FROM proposal WHERE id = :id", id=row.id)
    sites.write_site("imaging", ALL)
    steward(sites, "imaging", "nina")
    assert "does not name 'nina'" in told(sites, tables, invented(sites, yes, person="nina"))
    other = sites.ask(imaging={"modality": ["MR"]}, clinical={"any": True})
    swapped = yes.model_copy(update={"question_id": other})
    assert "another one than was read" in told(sites, tables, invented(sites, swapped))
    row = invented(sites, yes)
    assert told(sites, tables, row) == f"done: allow {question}"
    with sites.session("imaging") as session:
        shown = session.broker.question(session.study_id, question)
        assert allowed_by(session, shown) == "person"
        # Taken back by command: neither that proposal nor an older one brings it back.
        withdraw_yes(session, question)
    (sites.folder / "imaging/private/kept/proposals" / row.id).unlink()
    write(
        tables, "UPDATE proposal SET state = 'waiting', begun_at = NULL WHERE id = :id", id=row.id
    )
    assert "later than that" in states(sites, "imaging")[row.id]
    with sites.session("imaging") as session:
        assert allowed_by(session, shown) is None
        allow(session, shown, by="person")
        by_command(session, question, "deny")
    assert "denied" in told(sites, tables, invented(sites, yes, made_at=int(time.time()) + 1))
    sites.write_site("imaging", f'{ALL}\nquestions = "refuse"')
    assert "policy refuses" in told(sites, tables, invented(sites, about(sites, Allow, other)))
    sites.write_site("imaging", PORTAL)


def test_a_delivery_is_ordered_by_the_enclave_alone_and_as_it_approved(
    sites: Sites, tables: Database, question: str
) -> None:
    sites.write_site("imaging", ALL)
    order = about(sites, Deliver, question)
    assert "the enclave orders" in told(sites, tables, invented(sites, order))
    named = ALL.replace("ines", "emil")
    sites.write_site("enclave", named)
    steward(sites, "enclave", "emil")

    def enclave(**changed: str) -> str:
        body = order.model_copy(update=changed)
        row = invented(sites, body, person="emil", party="enclave")
        with tables.change() as connection:
            proposals.add(connection, row)
        return states(sites, "enclave").get(row.id, "never seen")

    assert "did not approve" in enclave()
    with sites.session("enclave") as session:
        by_command(session, question, "approve")
    assert "not approved by: imaging" in enclave()
    assert "another one than was read" in enclave(spec_hash="0" * 64)
    assert read(sites, question).delivery_id is None
    sites.write_site("enclave", f'{named}\ndeliveries = "refuse"')
    assert "policy refuses" in enclave()
    for party in ("imaging", "enclave"):
        sites.write_site(party, PORTAL if party == "imaging" else "")


def test_what_ended_is_not_approved(sites: Sites, tables: Database, question: str) -> None:
    with sites.session("enclave") as session:
        by_command(session, question, "deny")
    approve = decide(sites, question, "approve")
    assert "denied by: enclave" in told(sites, tables, invented(sites, approve))


def test_consents_are_to_the_terms_that_were_read(
    sites: Sites, tables: Database, ines: Person
) -> None:
    path = f"{sites.world.path}/releases"
    body = ReleaseRequest(run_id=sites.run["run_id"], audience=("enclave", "imaging"))
    job = sites.world.actor("admin").post(path, body).raise_for_status().json()["job_id"]

    def release() -> ReleaseState:
        seen = sites.world.actor("admin").get(f"{path}/{job}")
        return ReleaseState.model_validate_json(seen.content)

    assert set(release().needs) == {"imaging", "enclave"}
    consent = Consent(release_id=job, terms_hash=release().terms.hash, decision="approve")
    other = consent.model_copy(update={"terms_hash": "0" * 64})
    assert "other terms" in told(sites, tables, invented(sites, other))
    wished = {"party": "imaging", "body": other.model_dump(mode="json")}
    answer = ines.call("POST", f"{sites.world.path}/proposals", json=wished)
    assert problem(answer)[0] == 409
    made = propose(sites, ines, "imaging", consent)
    assert made.command == f"linkage-site release approve {job}"
    assert states(sites, "imaging")[made.proposal_id] == f"done: approve {job}"
    assert release().needs == ("enclave",)
    assert now(sites, made.proposal_id).result == job


def test_where_a_side_is_sequestered_no_rows_are_approved(tmp_path: Path) -> None:
    sequestered = TWO_PARTIES.replace('id = "enclave"', 'id = "enclave"\nsequestered = true')
    for sites in _made(tmp_path, sequestered):
        steward(sites, "imaging", "ines")
        question = sites.ask(imaging={"modality": ["CT"]}, clinical={"any": True})
        tables = Database(sites.world.home.database_url())
        said = told(sites, tables, invented(sites, decide(sites, question, "approve")))
        assert "sequestered: counts only, no rows" in said
        tables.close()
