"""A delivered cohort's report leaves the enclave: by a person, sealed, once, and to nobody else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linkage.cohort.spec import parse_spec
from linkage.errors import (
    Conflict,
    DeliveryFaulty,
    KeyRefused,
    NotAllowed,
    NotFound,
)
from linkage.messages import COHORT_REPORT, READER
from linkage.sealing import Context, seal
from sites.asking import ask, read_counts
from sites.audit_heads import HEADS
from sites.count_ledger import ledger_of
from sites.forgotten import _was_shared, forgotten
from sites.questions import decide
from sites.sharing import preview, read_report, share
from tests.broker_world import make_world, problem, running
from tests.cohort_world import Sites
from tests.programs import program
from tests.proposing import SPECIFICATION

OMOP = '\n[counts]\nvariables = ["sex", "age", "race"]\n'


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("shared")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "shared", imaging=range(290), enclave=range(20, 310))
        made.write_site("imaging", 'questions = "auto"')
        made.write_site("enclave", 'questions = "auto"\ncohorts = "cohorts"', OMOP)
        yield made
        made.close()


def asked(sites: Sites) -> str:
    """Ask from the enclave's site, and have it counted; return the question."""
    text = SPECIFICATION.replace('modality = ["CT"]', "any = true")
    spec = parse_spec(text, file="a test", base=None)
    with sites.session("enclave") as session:
        made = ask(session, spec, sites.run["run_id"], folder=keys(sites))
    sites.world.finish(f"{sites.world.path}/jobs/{made.job.job_id}")
    for party in ("imaging", "enclave"):
        looked(sites, party)
    return made.job.job_id


def looked(sites: Sites, party: str) -> None:
    """Let a party's agent look; it must do one thing."""
    events = sites.look(party)
    assert [one.state for one in events] == ["done"], [one.said for one in events]


def keys(sites: Sites) -> Path:
    return sites.folder / "keys"


def delivered(sites: Sites, question: str) -> tuple[str, Path]:
    """Have both sides approve, order and build the cohort; return the delivery and the folder."""
    for party in ("imaging", "enclave"):
        with sites.session(party) as session:
            decide(session, question, "approve")
    delivery = sites.deliver(question)
    for party in ("imaging", "enclave"):
        looked(sites, party)
    return delivery, sites.folder / "enclave" / "cohorts" / delivery


@pytest.fixture(scope="module")
def question(sites: Sites) -> str:
    return asked(sites)


@pytest.fixture(scope="module")
def cohort(sites: Sites, question: str) -> tuple[str, Path]:
    with sites.session("enclave") as session, pytest.raises(NotAllowed, match="did not approve"):
        preview(session, question)
    return delivered(sites, question)


def run(sites: Sites, *words: str, ok: bool = True) -> str:
    """Run linkage-cohort at the enclave's site; return what it printed."""
    command = [program("linkage-cohort"), *words, "--site", str(sites.site_file("enclave"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stderr
    return done.stdout + done.stderr


def report_of(sites: Sites, question: str) -> dict[str, Any]:
    with sites.session("enclave") as session:
        return read_report(session, question, keys(sites))


def private_files(sites: Sites) -> dict[str, bytes]:
    """All that the enclave keeps, but what every look at the broker adds."""
    folder = sites.folder / "enclave" / "private"
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != HEADS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_all_that_would_leave_is_shown_and_nothing_leaves(
    sites: Sites, question: str, cohort: tuple[str, Path]
) -> None:
    with sites.session("enclave") as session:
        before = len(ledger_of(session).entries())
    files = private_files(sites)
    told = run(sites, "share-report", question, "--dry-run")
    for words in ("all that would leave", "distance by sex", "persons", "nothing below 11"):
        assert words in told
    listed = json.loads(run(sites, "share-report", question, "--dry-run", "--json"))
    assert private_files(sites) == files
    with sites.session("enclave") as session:
        assert len(ledger_of(session).entries()) == before
        assert preview(session, question) == listed
        with pytest.raises(NotFound, match="shared no report"):
            read_report(session, question, keys(sites))


def test_the_researcher_reads_it_and_it_is_no_more_than_the_counts(
    sites: Sites, question: str, cohort: tuple[str, Path]
) -> None:
    delivery, folder = cohort
    assert "Shared with the researcher" in run(sites, "share-report", question)
    assert "Was shared before" in run(sites, "share-report", question)
    with sites.session("enclave") as session:
        counts = read_counts(session, question, keys(sites))
    report = report_of(sites, question)
    assert report["persons"] == counts["persons"]
    assert [one["persons"] for one in report["flow"]] == [
        *(one["persons"] for one in counts["attrition"]),
        report["persons"],
    ]
    of = {one["name"]: one["groups"] for one in report["tables"]}
    for name, cells in counts["distributions"].items():
        shown = {one["group"]: one["persons"] for one in of[name] or ()}
        assert shown == (cells or {}), name
    told = run(sites, "report", question, "--folder", str(keys(sites)))
    assert "Asked in a browser" in told
    exact = json.loads((folder / "report.json").read_text())
    assert exact["persons"] > 100
    for line in ("files", "lost_groups", "plausibility", "trace", "warnings"):
        assert line in exact
        assert line not in report
    with sites.session("enclave") as session:
        entry = ledger_of(session).entries()[-1]
    assert (entry.question, entry.exact) == (delivery, exact["persons"])


def test_the_broker_has_a_digest_and_no_word_of_it(
    sites: Sites, question: str, cohort: tuple[str, Path]
) -> None:
    with sites.session("enclave") as session:
        share(session, question)
        sealed = session.broker.sealed_report(session.study_id, question)
    log = sites.world.actor("admin").get("/v1/audit", limit=1000).json()
    (entry,) = [one for one in log if one["action"] == f"relayed: {COHORT_REPORT}"]
    assert entry["subject"] == cohort[0]
    assert len(entry["detail"]["digest"]) == 64
    assert entry["detail"]["recipient"] == READER
    assert len(sealed) > 60_000
    for word in (b"CANARYMAKER", b"Asked in a browser", b"condition"):
        assert word not in sealed


def test_nobody_else_sends_or_fetches_one(
    sites: Sites, question: str, cohort: tuple[str, Path]
) -> None:
    world, delivery = sites.world, cohort[0]
    path = f"{world.path}/questions/{question}/report"
    assert problem(world.actor("imaging").get(path))[0] == 403
    assert problem(world.actor("admin").get(path))[0] == 403
    assert problem(world.actor("enclave").get(f"{world.path}/questions/none/report"))[0] == 404
    for sender, recipient, subject in (
        ("imaging", READER, delivery),
        ("imaging", "enclave", delivery),
        ("enclave", "imaging", delivery),
        ("enclave", READER, question),
    ):
        identity = world.identities[sender]
        context = Context(world.study_id, sender, recipient, COHORT_REPORT, (subject,))
        sealed = seal(b"{}", sender=identity, recipient=identity.public(), context=context)
        answer = world.actor(sender).put(
            f"{world.path}/outbox",
            sealed,
            recipient=recipient,
            purpose=COHORT_REPORT,
            subject=subject,
        )
        assert problem(answer)[0] in (403, 404), (sender, recipient, subject)
    with sites.session("imaging") as session, pytest.raises(NotAllowed, match="only the enclave"):
        share(session, question)


def test_it_opens_with_its_key_only(sites: Sites, question: str, tmp_path: Path) -> None:
    with sites.session("enclave") as session, pytest.raises(KeyRefused, match="is missing"):
        read_report(session, question, tmp_path)


def test_a_folder_of_another_delivery_or_one_that_was_changed_is_refused(
    sites: Sites, cohort: tuple[str, Path]
) -> None:
    second = asked(sites)
    delivery, folder = delivered(sites, second)
    assert delivery != cohort[0]
    with sites.session("enclave") as session:
        with pytest.raises(DeliveryFaulty, match="another delivery"):
            preview(session, second, cohort[1])
        table = folder / "omop" / "person.parquet"
        table.write_bytes(table.read_bytes() + b"x")
        with pytest.raises(DeliveryFaulty, match="is not what was delivered"):
            preview(session, second, folder)


def test_once_it_is_taken_back_nobody_fetches_it(
    sites: Sites, question: str, cohort: tuple[str, Path]
) -> None:
    assert report_of(sites, question)["persons"]
    with sites.session("imaging") as session:
        decide(session, question, "revoke")
    with pytest.raises(Conflict, match="revoked by: imaging"):
        report_of(sites, question)
    with sites.session("enclave") as session, pytest.raises(Conflict, match="revoked by"):
        share(session, question)


def test_one_list_says_of_every_question_whether_its_report_was_shared(
    sites: Sites, question: str, cohort: tuple[str, Path]
) -> None:
    ordered = [asked(sites) for _ in range(2)]
    for one in ordered:
        delivered(sites, one)
    wire = sites.wires["enclave"]
    with sites.session("enclave") as session:
        said = {
            one.question_id: one for one in session.broker.questions(session.study_id, reports=True)
        }
        heard = len(wire.exchanges)
        assert forgotten(session) == []
        (list_of_questions,) = wire.exchanges[heard:]
        assert list_of_questions.target.endswith("/questions?reports=true")
        # A broker of an earlier version leaves it out and is asked for each: it says the same.
        silent = [one.model_copy(update={"report_shared": None}) for one in said.values()]
        each = {one.question_id: _was_shared(session, one) for one in silent}
    assert {one: state.report_shared for one, state in said.items()} == each
    # Of the one that was revoked, too.
    assert (each[question], said[question].stopped) == (True, "revoked by: imaging")
    assert [each[one] for one in ordered] == [False, False]
    path = f"{sites.world.path}/questions"
    for caller, asking in (
        ("enclave", {}),
        ("imaging", {"reports": True}),
        ("admin", {"reports": True}),
    ):
        rows = sites.world.actor(caller).get(path, **asking).json()
        # Sites of earlier versions refuse what they do not know; others learn nothing new.
        assert len(rows) == len(said)
        assert not any("report_shared" in row for row in rows), caller
