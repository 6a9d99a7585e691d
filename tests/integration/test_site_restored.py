"""
A site's private folder restored from an old backup, over a real broker: what was sent before
stands, the agent says so once, and goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkage.cohort.spec import parse_spec
from sites.agent_tasks import SENT_BEFORE
from sites.allowing import allow
from sites.answers import answer_everything, imaging_of, waiting
from sites.asking import ask, read_counts
from sites.enclave import join
from sites.outbox import was_sent
from sites.questions import decide
from tests.broker_world import make_world, running
from tests.cohort_world import Sites

pytestmark = pytest.mark.long

SPEC = """
[cohort]
id = "chest-ct"
title = "Chest CT"
purpose = "To restore a folder"
[imaging]
modality = "CT"
[clinical]
any = true
"""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("restored")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "site", imaging=range(60), enclave=range(20, 80))
        for party in ("imaging", "enclave"):
            made.write_site(party, 'questions = "auto"')
        yield made
        made.close()


def backed_up(sites: Sites, party: str) -> Path:
    copy = sites.folder / party / "backup"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sites.folder / party / "private", copy)
    return copy


def restore(sites: Sites, party: str, copy: Path) -> None:
    private = sites.folder / party / "private"
    shutil.rmtree(private)
    shutil.copytree(copy, private)


def said(sites: Sites, party: str, subject: str) -> list[tuple[str, str]]:
    return [(e.state, e.said) for e in sites.look(party) if e.subject == subject]


def test_what_was_sent_before_the_backup_stands_and_is_said_once(
    sites: Sites, tmp_path: Path
) -> None:
    with sites.session("enclave") as enclave:
        made = ask(enclave, parse_spec(SPEC), sites.run["run_id"], folder=tmp_path / "keys")
    question = made.job.job_id
    world = sites.world
    assert world.finish(f"{world.path}/jobs/{question}")["state"] == "done"
    with sites.session("imaging") as imaging:
        assert list(waiting(imaging)) == [question]
    copies = {party: backed_up(sites, party) for party in ("imaging", "enclave")}
    by_policy = [("done", "by policy")]
    assert said(sites, "imaging", question) == by_policy
    assert said(sites, "enclave", question) == by_policy
    with sites.session("enclave") as enclave:
        told = read_counts(enclave, question, tmp_path / "keys")
    for party in ("imaging", "enclave"):
        restore(sites, party, copies[party])
        assert said(sites, party, question) == [("done", SENT_BEFORE)]
        assert said(sites, party, question) == []
    # By hand, too.
    restore(sites, "imaging", copies["imaging"])
    with sites.session("imaging") as imaging:
        allow(imaging, imaging.broker.question(imaging.study_id, question), by="person")
        assert answer_everything(imaging) == {question: SENT_BEFORE}
        assert answer_everything(imaging) == {}
    # The counts are those of the first answer, and the question goes on to its cohort.
    with sites.session("enclave") as enclave:
        assert read_counts(enclave, question, tmp_path / "keys") == told
        assert was_sent(enclave, f"question-counts.{imaging_of(enclave)}", question)
    for party in ("imaging", "enclave"):
        with sites.session(party) as site:
            decide(site, question, "approve")
    delivery = sites.deliver(question)
    before_rows = backed_up(sites, "imaging")
    assert said(sites, "imaging", delivery) == [("done", "approved by the steward")]
    restore(sites, "imaging", before_rows)
    assert said(sites, "imaging", delivery) == [("done", SENT_BEFORE)]
    assert said(sites, "imaging", delivery) == []
    with sites.session("enclave") as enclave:
        assert join(enclave, question, tmp_path / "cohort").delivery.persons > 0
