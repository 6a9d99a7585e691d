"""People who propose to parties' agents in a browser, for tests; and what an agent made of it."""

from __future__ import annotations

from typing import Any

from linkage.messages import QuestionState
from linkage.proposal_messages import (
    Allow,
    Ask,
    Decide,
    Deliver,
    ProposalRequest,
    ProposalSaid,
    ProposalState,
)
from linkage.sealing import Identity
from tests.broker_world import Actor, wait_for
from tests.cohort_world import CONDITION, Sites
from tests.people import Person, in_session

SPECIFICATION = f"""\
[cohort]
id = "portal-cohort"
title = "Asked in a browser"
purpose = "To test with"

[imaging]
modality = ["CT"]

[[clinical.concepts]]
domain = "condition"
concept_id = {CONDITION}
"""


def researcher(sites: Sites, name: str = "ada") -> Person:
    """Return a researcher of the study, signed in."""
    return _person(sites, name, f"researcher:{sites.world.study_id}")


def steward(sites: Sites, party: str, name: str) -> Person:
    """Return a steward of a party, signed in."""
    return _person(sites, name, f"steward:{sites.world.study_id}:{party}")


def _person(sites: Sites, name: str, role: str) -> Person:
    return in_session(sites.world.home, sites.world.url, name, role)


def propose(sites: Sites, who: Person, party: str, body: Any) -> ProposalState:
    """Propose; it must be taken."""
    request = ProposalRequest(party=party, body=body).model_dump(mode="json")
    answer = who.call("POST", f"{sites.world.path}/proposals", json=request)
    assert answer.status_code == 201, answer.text
    return ProposalState.model_validate_json(answer.content)


def says(actor: Actor, proposal_id: str, state: Any, **more: Any) -> ProposalSaid:
    """Return what a party says of a proposal, signed with the actor's key."""
    study_id, _, party = actor.subject.partition("/")
    about = {"study_id": study_id, "proposal_id": proposal_id, "party": party}
    return ProposalSaid(**about, state=state, **more).sign(actor.identity)


def ask(key: Identity, text: str = SPECIFICATION, **more: Any) -> Ask:
    """Return an ask with the public half of a reading key."""
    return Ask(specification=text, reader=key.public(), **more)


def decide(sites: Sites, question_id: str, decision: Any, **more: Any) -> Decide:
    """Return a decision about a question as the broker shows it."""
    question = read(sites, question_id)
    return Decide(question_id=question_id, spec_hash=question.spec_hash, decision=decision, **more)


def about(sites: Sites, kind: type[Allow | Deliver], question_id: str) -> Any:
    """Return a yes to counts alone, or an order, about a question as the broker shows it."""
    return kind(question_id=question_id, spec_hash=read(sites, question_id).spec_hash)


def read(sites: Sites, question_id: str) -> QuestionState:
    """Return a question as the broker shows it to its admin."""
    path = f"{sites.world.path}/questions/{question_id}"
    return QuestionState.model_validate_json(sites.world.actor("admin").get(path).content)


def now(sites: Sites, proposal_id: str) -> ProposalState:
    """Return a proposal as it stands."""
    listed = sites.world.actor("admin").get(f"{sites.world.path}/proposals").json()
    (found,) = [one for one in listed if one["proposal_id"] == proposal_id]
    return ProposalState.model_validate(found)


def states(sites: Sites, party: str) -> dict[str, str]:
    """
    Let a party's agent look until nothing is ahead of its clock (proposals of one second are
    numbered on into the next); return what became of each proposal, in words.
    """
    told: dict[str, str] = {}

    def looked() -> bool:
        found = {
            event.subject: f"{event.state}: {event.said}"
            for event in sites.look(party)
            if event.kind.startswith("proposal")
        }
        told.update(found)
        return not any("clock" in said for said in found.values())

    wait_for(looked, 60)
    return told
