"""
A real agent, kill -9 in the middle of what it does: the next one finishes, and nothing is doubled.

Each kill is at a named moment, by a proxy between the agent and the real broker.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linkage.errors import Conflict
from linkage.messages import DELIVERY_ROWS, QUESTION_ANSWER, QUESTION_COUNTS
from sites.cli import app
from sites.cohort.integrity import check_delivery
from sites.count_ledger import ledger_of
from sites.questions import decide
from tests.broker_world import crash, make_world, running, wait_for
from tests.cohort_world import CONDITION, Sites, Wire

KILLED = -9

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("killed")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "killed", imaging=range(60), enclave=range(20, 80))
        yield made
        made.close()


@pytest.fixture(scope="module")
def question(sites: Sites) -> str:
    criteria = {"concepts": [{"domain": "condition", "concept_id": [CONDITION]}]}
    return sites.ask(imaging={"modality": ["CT"]}, clinical=criteria)


def kill_at(wire: Wire, when: str, method: str, words: str) -> None:
    """Kill once, the next time that such a request comes."""
    left = [when]

    def kill(asked: str, target: str) -> str:
        return left.pop() if left and asked == method and words in target else ""

    wire.kill = kill


def killed(sites: Sites, party: str, when: str, method: str, words: str) -> None:
    """Run an agent that is killed at this moment."""
    wire = sites.wires[party]
    before = wire.kills
    kill_at(wire, when, method, words)
    assert sites.agent(party) == KILLED, sites.log(party)
    assert wire.kills == before + 1


def items(sites: Sites, purpose: str, subject: str) -> list[str]:
    """Return the items of a purpose that the broker holds for the enclave."""
    listed = sites.world.actor("enclave").get(f"{sites.world.path}/inbox", purpose=purpose)
    return [one["item_id"] for one in listed.json()["items"] if one["subject"] == subject]


def left_over(folder: Path) -> list[str]:
    """Return what an interrupted process would leave, by name."""
    return [path.name for path in folder.rglob(".*") if path.name.endswith((".making", ".partial"))]


def test_an_answer_leaves_once_and_as_the_same_bytes(sites: Sites, question: str) -> None:
    sites.write_site("imaging", 'questions = "auto"')
    private = sites.folder / "imaging" / "private"
    waiting = private / "outbox" / f"{question}.{QUESTION_ANSWER}"
    killed(sites, "imaging", "before", "PUT", QUESTION_ANSWER)
    assert items(sites, QUESTION_ANSWER, question) == []
    sealed = waiting.read_bytes()
    killed(sites, "imaging", "after", "PUT", QUESTION_ANSWER)
    (first,) = items(sites, QUESTION_ANSWER, question)
    assert not (private / "answered" / question).exists(), "the broker has it, the site cannot know"
    assert sites.agent("imaging") == 0, sites.log("imaging")
    assert items(sites, QUESTION_ANSWER, question) == [first]
    sent = sites.wires["imaging"].puts(QUESTION_ANSWER)
    assert [one.body for one in sent] == [sealed] * 3, "sealed once"
    assert [one.status for one in sent] == [0, 201, 200]
    assert (private / "answered" / question).exists()
    assert not waiting.exists()
    # Whoever forgets that it answered is not answered for twice either.
    (private / "answered" / question).unlink()
    assert [event.state for event in sites.look("imaging")] == ["done"]
    assert len(sites.wires["imaging"].puts(QUESTION_ANSWER)) == 3
    assert left_over(private) == []


def test_counts_are_made_and_told_once(sites: Sites, question: str) -> None:
    sites.write_site("enclave", 'questions = "auto"')
    killed(sites, "enclave", "after", "PUT", QUESTION_COUNTS)
    assert sites.agent("enclave") == 0, sites.log("enclave")
    sent = sites.wires["enclave"].puts(QUESTION_COUNTS)
    assert [one.status for one in sent] == [201, 200]
    assert len({one.body for one in sent}) == 1
    with sites.session("enclave") as session:
        (entry,) = ledger_of(session).entries()
    assert sites.look("enclave") == []
    assert entry.question == question


def test_rows_and_the_cohort_are_built_once(sites: Sites, question: str) -> None:
    for party in ("imaging", "enclave"):
        with sites.session(party) as session:
            decide(session, question, "approve")
    delivery = sites.deliver(question)
    killed(sites, "imaging", "after", "PUT", DELIVERY_ROWS)
    assert sites.agent("imaging") == 0, sites.log("imaging")
    sent = sites.wires["imaging"].puts(DELIVERY_ROWS)
    assert [one.status for one in sent] == [201, 200]
    assert len({one.body for one in sent}) == 1
    assert len(items(sites, DELIVERY_ROWS, delivery)) == 1
    _joins(sites, delivery)


def _joins(sites: Sites, delivery: str) -> None:
    """It is killed with half a cohort built: the map of concepts is read then, and never comes."""
    joining, never = 'questions = "auto"\ncohorts = "cohorts"', sites.folder / "never.toml"
    os.mkfifo(never)
    sites.write_site("enclave", joining, more=f'concepts = "{never}"\n')
    cohorts = sites.folder / "enclave" / "cohorts"
    building = f".{delivery}.*.partial"
    agent = sites.start("enclave", "--once", "--json")
    wait_for(lambda: any(cohorts.glob(building)) or agent.poll() is not None, 60)
    assert agent.poll() is None, sites.log("enclave")
    crash(agent)
    sites.world.processes.remove(agent)
    sites.write_site("enclave", joining)
    assert list(cohorts.glob(building))
    assert not (cohorts / delivery).exists(), "half a cohort is none"
    assert sites.agent("enclave") == 0, sites.log("enclave")
    assert [path.name for path in cohorts.iterdir()] == [delivery], "and what was half is gone"
    assert sum(check_delivery(cohorts / delivery).values()) > 100, "a whole one"
    made = {p: p.stat().st_mtime_ns for p in (cohorts / delivery).rglob("*")}
    assert sites.look("enclave") == []
    assert {p: p.stat().st_mtime_ns for p in (cohorts / delivery).rglob("*")} == made


def test_a_service_stops_when_it_is_told_and_runs_alone(sites: Sites) -> None:
    agent = sites.start("imaging")
    wait_for(lambda: "agent started" in sites.log("imaging"), 60)
    status = sites.folder / "imaging" / "private" / "agent.json"
    wait_for(lambda: status.exists() and f'"pid": {agent.pid}' in status.read_text(), 60)
    with pytest.raises(Conflict, match=rf"runs already \(process {agent.pid}\)"):
        sites.look("imaging")
    told = json.loads(typed(sites, "agent", "--status", "--json"))
    assert (told["runs"], told["pid"], told["failed"]) == (True, agent.pid, [])
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.wait(120) == 0
    sites.world.processes.remove(agent)
    assert sites.log("imaging").rstrip().endswith("agent stopped, as asked; nothing is lost")
    assert "runs                  no" in typed(sites, "agent", "--status")


def test_a_person_says_yes(sites: Sites) -> None:
    sites.write_site("imaging")
    asked = sites.ask(imaging={"modality": ["MR"]}, clinical={"any": True})
    (event,) = sites.look("imaging")
    assert (event.subject, event.state) == (asked, "waits")
    said = typed(sites, "agent", "--dry-run")
    assert f"answer of question {asked}  waits for a yes: linkage-site allow {asked}" in said
    assert "Dry run: would say yes" in typed(sites, "allow", asked, "--dry-run")
    assert "modality is MR" in typed(sites, "allow", asked)
    assert "yes of the person" in typed(sites, "agent", "--dry-run")
    assert "taken back" in typed(sites, "allow", asked, "--withdraw")
    assert [one.state for one in sites.look("imaging")] == ["waits"]
    typed(sites, "allow", asked)
    assert f"DONE    answer of question {asked}: yes of the person" in typed(
        sites, "agent", "--once"
    )
    assert "nothing waits" in typed(sites, "agent", "--once")


def typed(sites: Sites, *words: str) -> str:
    """Return what the imaging commons' operator sees."""
    done = CliRunner().invoke(app, [*words, "--site", str(sites.site_file("imaging"))])
    assert done.exit_code == 0, done.output
    return done.stdout
