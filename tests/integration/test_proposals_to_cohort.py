"""From a browser to the delivered cohort: two agents as services, and nobody at their machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from linkage.proposal_messages import ProposalState
from linkage.sealing import Identity
from sites.cohort.integrity import check_delivery
from sites.counted import open_counts
from tests.broker_world import make_world, running, wait_for
from tests.cohort_world import Sites
from tests.people import Person
from tests.proposing import ask, decide, propose, read, researcher, steward

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("delivered")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "delivered", imaging=range(60), enclave=range(20, 80))
        made.write_site("imaging", 'questions = "auto"\nportal = ["ines"]')
        lines = ['questions = "auto"', 'cohorts = "cohorts"', 'portal = ["ada", "emil"]']
        made.write_site("enclave", "\n".join(lines))
        for party in ("imaging", "enclave"):
            made.start(party)
        yield made
        made.close()


def settled(sites: Sites, who: Person, proposal: ProposalState) -> ProposalState:
    """Wait, as the person sees it, until the party's agent has been there."""
    found: list[ProposalState] = []

    def done() -> bool:
        listed = who.call("GET", f"{sites.world.path}/proposals").raise_for_status().json()
        (one,) = [one for one in listed if one["proposal_id"] == proposal.proposal_id]
        found.append(ProposalState.model_validate(one))
        return found[-1].state != "waiting"

    wait_for(done, 120)
    return found[-1]


def test_asked_decided_and_delivered(sites: Sites) -> None:
    key, path = Identity.generate("reader"), sites.world.path
    ada, ines = researcher(sites), steward(sites, "imaging", "ines")
    emil = steward(sites, "enclave", "emil")
    asked = settled(sites, ada, propose(sites, ada, "enclave", ask(key)))
    assert asked.state == "done", asked.note
    at = f"{path}/questions/{asked.result}/counts"
    wait_for(lambda: ada.call("GET", at).status_code == 200, 120)
    with sites.session("enclave") as session:
        sealed = ada.call("GET", at).content
        counts = open_counts(session, read(sites, asked.result), sealed, key)
    assert "condition" in counts["attrition"][-1]["step"]
    for who, party in ((ines, "imaging"), (emil, "enclave")):
        approve = decide(sites, asked.result, "approve")
        decided = settled(sites, who, propose(sites, who, party, approve))
        assert decided.state == "done", decided.note
    delivery = sites.deliver(asked.result)
    cohort = sites.folder / "enclave" / "cohorts" / delivery
    wait_for(cohort.exists, 120)
    assert sum(check_delivery(cohort).values()) > 50
