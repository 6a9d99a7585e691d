"""A real agent, kill -9 while it carries a proposal out: nothing is lost, nothing is done twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linkage.proposal_messages import Allow, Deliver, ProposedRemark
from linkage.sealing import Identity
from sites.allowing import allowed_by
from sites.allowing import withdraw as withdraw_yes
from sites.questions import decide as by_command
from sites.questions import decided
from tests.broker_world import make_world, problem, running
from tests.cohort_world import Sites
from tests.people import Person
from tests.proposing import about, ask, decide, now, propose, read, researcher, steward

KILLED = -9
INES = 'portal = ["ines"]\nportal_kinds = ["decide", "remark", "allow"]'
ENCLAVE = 'portal = ["ada", "emil"]\nportal_kinds = ["ask", "deliver"]'
KEY = Identity.generate("reader")
_NUMBER = itertools.count()

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("killed")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "killed", imaging=range(30), enclave=range(10, 40))
        made.write_site("imaging", INES)
        made.write_site("enclave", ENCLAVE)
        yield made
        made.close()


@pytest.fixture(scope="module")
def ines(sites: Sites) -> Person:
    return steward(sites, "imaging", "ines")


@pytest.fixture(scope="module")
def ada(sites: Sites) -> Person:
    return researcher(sites)


@pytest.fixture(scope="module")
def emil(sites: Sites) -> Person:
    return steward(sites, "enclave", "emil")


@pytest.fixture
def question(sites: Sites) -> str:
    return sites.ask(imaging={"modality": ["CT"]}, clinical={"any": True})


def killed(sites: Sites, party: str, when: str, words: str) -> None:
    """Run an agent that is killed before or after the next POST that has these words."""
    wire, left = sites.wires[party], [when]

    def kill(method: str, target: str) -> str:
        return left.pop() if left and method == "POST" and target.endswith(words) else ""

    wire.kill = kill
    assert sites.agent(party) == KILLED, sites.log(party)
    assert not left


def entries(sites: Sites, *actions: str) -> int:
    """Return how many entries of the audit log have one of these actions."""
    log = sites.world.actor("admin").get("/v1/audit", limit=1000).raise_for_status().json()
    return sum(one["action"] in actions for one in log)


KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ask": ("enclave", "/questions", ("question asked",)),
    "decide": ("imaging", "/approvals", ("question decided: approve",)),
    "remark": ("imaging", "/remarks", ("question asked back",)),
}
"""By kind: whose agent does it, at which address, and what the audit log then has."""


MOMENTS = [
    (kind, when, step)
    for kind in KINDS
    for when in ("before", "after")
    for step in ("/begin", "the act", "/settle")
    if kind != "remark" or step == "the act"
]


@pytest.mark.parametrize(("kind", "when", "step"), MOMENTS)
def test_nothing_is_lost_and_nothing_is_done_twice(
    sites: Sites, ada: Person, ines: Person, question: str, kind: str, when: str, step: str
) -> None:
    party, address, actions = KINDS[kind]
    bodies: dict[str, Callable[[], Any]] = {
        "ask": lambda: ask(KEY),
        "decide": lambda: decide(sites, question, "approve"),
        "remark": lambda: ProposedRemark(
            question_id=question,
            spec_hash=read(sites, question).spec_hash,
            text=f"Why is this number {next(_NUMBER)}?",
        ),
    }
    who = ada if kind == "ask" else ines
    before = entries(sites, *actions)
    made = propose(sites, who, party, bodies[kind]())
    killed(sites, party, when, address if step == "the act" else step)
    assert sites.agent(party) == 0, sites.log(party)
    done = now(sites, made.proposal_id)
    assert done.state == "done", done
    assert entries(sites, *actions) == before + 1
    assert done.result == (question if kind != "ask" else done.result)
    if kind == "ask":
        assert read(sites, done.result).reader == KEY.public()
    if kind == "decide":
        with sites.session(party) as session:
            shown = session.broker.question(session.study_id, question)
            assert decided(session, shown) == "approve", "the site knows, and lets its rows go"
    requests = len(sites.wires[party].exchanges)
    assert sites.agent(party) == 0
    later = sites.wires[party].exchanges[requests:]
    assert [one.target for one in later if one.method == "POST" and "token" not in one.target] == []


def test_withdrawn_before_it_was_begun_it_is_never_done(
    sites: Sites, ines: Person, question: str
) -> None:
    made = propose(sites, ines, "imaging", decide(sites, question, "approve"))
    killed(sites, "imaging", "before", "/begin")
    at = f"{sites.world.path}/proposals/{made.proposal_id}/withdraw"
    assert ines.call("POST", at).json()["state"] == "withdrawn"
    assert sites.agent("imaging") == 0
    assert read(sites, question).approvals == {}


def test_once_begun_it_is_withdrawn_no_more(sites: Sites, ines: Person, question: str) -> None:
    made = propose(sites, ines, "imaging", decide(sites, question, "approve"))
    killed(sites, "imaging", "after", "/begin")
    at = f"{sites.world.path}/proposals/{made.proposal_id}/withdraw"
    assert problem(ines.call("POST", at))[:2] == (409, "conflict")
    assert now(sites, made.proposal_id).begun
    assert sites.agent("imaging") == 0
    assert now(sites, made.proposal_id).state == "done"
    assert read(sites, question).approvals == {"imaging": "approve"}


def test_what_was_done_stays_done_though_it_would_be_refused_now(
    sites: Sites, ines: Person, question: str
) -> None:
    """Killed between the signed decision and its settling, while the policy changed."""
    made = propose(sites, ines, "imaging", decide(sites, question, "approve"))
    killed(sites, "imaging", "after", "/approvals")
    sites.write_site("imaging", INES + '\ndeliveries = "refuse"')
    assert sites.agent("imaging") == 0
    assert now(sites, made.proposal_id).state == "done", "the broker holds the signed approval"
    sites.write_site("imaging", INES)


@pytest.mark.parametrize("step", ["/begin", "/delivery", "/settle"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delivery_is_ordered_once(
    sites: Sites, emil: Person, question: str, when: str, step: str
) -> None:
    for party in ("imaging", "enclave"):
        with sites.session(party) as session:
            by_command(session, question, "approve")
    before = entries(sites, "delivery queued")
    made = propose(sites, emil, "enclave", about(sites, Deliver, question))
    killed(sites, "enclave", when, step)
    assert sites.agent("enclave") == 0, sites.log("enclave")
    done = now(sites, made.proposal_id)
    assert (done.state, done.result) == ("done", read(sites, question).delivery_id)
    assert entries(sites, "delivery queued") == before + 1


@pytest.mark.parametrize(
    ("when", "step"),
    [(when, step) for when in ("before", "after") for step in ("/begin", "/settle")],
)
def test_a_yes_to_counts_is_kept_once_and_can_be_taken_back(
    sites: Sites, ines: Person, question: str, when: str, step: str
) -> None:
    made = propose(sites, ines, "imaging", about(sites, Allow, question))
    killed(sites, "imaging", when, step)
    with sites.session("imaging") as session:
        shown = session.broker.question(session.study_id, question)
        there = allowed_by(session, shown) == "person"
        assert there == (step == "/settle"), "it is there before it is told"
        if there:
            withdraw_yes(session, question)
    assert sites.agent("imaging") == 0, sites.log("imaging")
    assert now(sites, made.proposal_id).state == "done"
    with sites.session("imaging") as session:
        said = allowed_by(session, session.broker.question(session.study_id, question))
    assert said == (None if there else "person"), "what was taken back since stays taken back"
