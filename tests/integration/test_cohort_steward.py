"""
A researcher and two stewards at their terminals: from asking a question to an approval taken back,
with the mistakes that people make. Real sites, real broker, real commands.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from linkage.errors import Conflict, NotAllowed
from sites.agent_tasks import waiting_tasks
from sites.allowing import PERSON, allow
from sites.answers import answer_imaging, send_rows
from sites.cohort_cli import app
from sites.enclave import count, join
from tests.broker_world import make_world, running
from tests.cohort_world import CONDITION, Sites

pytestmark = pytest.mark.long

SPEC = f"""
[cohort]
id = "chest-ct"
title = "Chest CT in persons with a condition"
purpose = "To test what a steward sees"

[imaging]
modality = ["CT"]

[[clinical.concepts]]
domain = "condition"
concept_id = {CONDITION}
descendants = false
"""


@dataclass(slots=True)
class Desk:
    """A terminal at which everybody sits in turn. keys: the researcher's folder."""

    sites: Sites
    folder: Path

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def type(self, party: str, *words: object, code: int = 0) -> str:
        """Run a command at a party's site; return what it printed, and hold its exit code."""
        site = ["--site", str(self.sites.site_file(party))]
        done = CliRunner().invoke(app, [*map(str, words), *site], env={"COLUMNS": "300"})
        assert done.exit_code == code, (words, done.output, done.exception)
        return str(done.output)

    def request(self, *words: object) -> str:
        """Ask the cohort's question; return its ID once the worker has prepared it."""
        said = self.type("enclave", "request", self.spec, "--folder", self.keys, *words)
        found = re.search(r"question-[0-9a-f]{16}", said)
        assert found, said
        world = self.sites.world
        done = world.finish(f"{world.path}/jobs/{found[0]}")
        assert done["state"] == "done", done["failure"]
        return found[0]

    @property
    def spec(self) -> Path:
        path = self.folder / "cohort.toml"
        path.write_text(SPEC)
        return path

    def told(self, party: str, question: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.type(party, "show", question, "--json"))
        return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("stewards")
    with running(make_world(folder)) as world:
        sites = Sites(world, folder / "steward", imaging=range(60), enclave=range(20, 80))
        yield Desk(sites, folder)
        sites.close()


@pytest.fixture(scope="module")
def question(desk: Desk) -> str:
    return desk.request("--expires", "2999-12-31")


def test_asking_keeps_a_key_for_the_counts_that_nobody_else_has(desk: Desk, question: str) -> None:
    (key,) = desk.keys.glob("*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.stem == desk.told("enclave", question)["question"]["spec_hash"][:16]
    said = desk.type("enclave", "counts", question, "--folder", desk.keys, code=6)
    assert "no counts of this question yet" in said
    # A question that the broker refuses leaves no key behind, nor does a dry run.
    wrong = ("--run", "run-none", "--folder", desk.keys)
    desk.type("enclave", "request", desk.spec, *wrong, code=6)
    desk.type("enclave", "request", desk.spec, "--folder", desk.keys, "--dry-run")
    for date in ("tomorrow", "2001-01-01"):
        desk.type("enclave", "request", desk.spec, "--expires", date, code=6)
    assert list(desk.keys.iterdir()) == [key]


def test_a_steward_sees_all_that_a_decision_needs(desk: Desk, question: str) -> None:
    shown = desk.type("imaging", "show", question)
    for needed in (
        "To test what a steward sees",
        "modality is CT",
        "2999-12-31",
        "yes: what is shown here is what every steward's hash commits to",
        "series_uid",
        "counts wait for a yes of imaging; delivery waits for the steward of: imaging, enclave",
        f"linkage-site allow {question}",
    ):
        assert needed in shown, needed
    assert str(CONDITION) not in shown, "the other side's half"
    assert question in desk.type("imaging", "status")


def test_a_question_back_is_answered_by_who_asked(desk: Desk, question: str) -> None:
    desk.type("imaging", "ask", question, "Why CT alone?")
    assert "asked back by imaging" in desk.type("enclave", "status")
    answer = ("answer", question, 1, "The trial is about CT.")
    assert "is missing" in desk.type("enclave", *answer, "--folder", desk.folder, code=5)
    desk.type("imaging", *answer, "--folder", desk.keys, code=6)
    said = desk.type("enclave", *answer, "--folder", desk.keys)
    assert "researcher to 1" in said
    assert "NOT SIGNED" not in desk.type("imaging", "show", question)


def test_counts_come_to_the_researcher_and_to_the_steward(desk: Desk, question: str) -> None:
    imaging, enclave = desk.sites.session("imaging"), desk.sites.session("enclave")
    with pytest.raises(NotAllowed):
        answer_imaging(imaging, question)
    allow(imaging, imaging.broker.question(imaging.study_id, question), by=PERSON)
    answer_imaging(imaging, question)
    assert "enclave has still to count" in desk.type("enclave", "status")
    assert question in {task.subject for task in waiting_tasks(enclave)}
    made = count(enclave, question).to_json()
    assert question not in {task.subject for task in waiting_tasks(enclave)}, "counted by hand"
    for _ in range(2):  # asked again, the same answer: nothing is sent twice
        assert count(enclave, question).to_json() == made
    read = json.loads(desk.type("enclave", "counts", question, "--folder", desk.keys, "--json"))
    assert read == made
    assert desk.told("enclave", question)["counts"] == made
    shown = desk.told("imaging", question)["counts"]
    assert (shown["persons"], shown["distributions"]) == (made["persons"], made["distributions"])
    assert str(CONDITION) not in str(shown), "the clinical half in words"
    assert "Persons:" in desk.type("enclave", "counts", question, "--folder", desk.keys)
    assert "rounded" in desk.type("imaging", "show", question)
    whole = json.dumps(made, sort_keys=True).encode()
    for wire in desk.sites.wires.values():
        assert not [one for one in wire.exchanges if whole in one.everything]
    sizes = {len(one.body) for one in desk.sites.wires["enclave"].puts("question-counts")}
    assert len(sizes) <= 2, "the length tells nothing but whose key it is"


def test_counts_go_to_no_reader_whom_the_enclave_does_not_know(desk: Desk) -> None:
    """Whoever runs the broker asks with a reading key of its own: the enclave seals nothing."""
    from linkage.sealing import Identity
    from tests.questions import question as asking

    world = desk.sites.world
    stranger = Identity.generate("reader", kem="X25519").public()
    body = asking(
        desk.sites.run["run_id"],
        imaging={"modality": ["CT"]},
        clinical={"concepts": [{"domain": "condition", "concept_id": [CONDITION]}]},
        reader=stranger,
    )
    asked = world.actor("admin").post(f"{world.path}/questions", body).raise_for_status()
    job = str(asked.json()["job_id"])
    world.finish(f"{world.path}/jobs/{job}")
    imaging, enclave = desk.sites.session("imaging"), desk.sites.session("enclave")
    allow(imaging, imaging.broker.question(imaging.study_id, job), by=PERSON)
    answer_imaging(imaging, job)
    count(enclave, job)
    assert job in {task.subject for task in waiting_tasks(enclave)}, "till its reader is known"
    assert world.actor("enclave").get(f"{world.path}/questions/{job}/counts").status_code == 404
    assert desk.told("imaging", job)["counts"] is not None


def test_from_an_approval_to_one_that_is_taken_back(desk: Desk, question: str) -> None:
    imaging, enclave = desk.sites.session("imaging"), desk.sites.session("enclave")
    desk.type("imaging", "revoke", question, code=6)
    desk.type("imaging", "approve", question, "--until", "2001-01-01", code=6)
    desk.type("enclave", "deliver", question, code=6)
    assert "approved until 2999-01-01" in desk.type(
        "imaging", "approve", question, "--until", "2999-01-01"
    )
    assert "approved by all: linkage-cohort deliver" in desk.type("enclave", "approve", question)
    delivery = desk.sites.deliver(question)
    send_rows(imaging, question, delivery)
    made = join(enclave, question, desk.folder / "cohort")
    assert made.delivery.persons > 0
    newer = desk.request()
    assert "Revoked" in desk.type("imaging", "revoke", question)
    assert f"take {newer}" in desk.type("enclave", "status", "--question", question)
    with pytest.raises(Conflict, match="revoked by: imaging") as caught:
        join(enclave, question, desk.folder / "again")
    assert newer in caught.value.hint
    assert not (desk.folder / "again").exists()
    with pytest.raises(NotAllowed):
        send_rows(imaging, question, delivery)
    desk.type("imaging", "approve", question, code=6)
