"""A broker with something behind every address, so that a fuzzer gets further than 404."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linkage.messages import QUESTION_COUNTS, READER, Message, ReleaseRequest
from linkage.offered import Offered, OfferedConcept, digest_of, packed, to_lines
from linkage.proposal_messages import Ask, Decide, ProposalRequest
from linkage.question_messages import Remark
from linkage.sealing import Context, Identity, seal
from tests.broker_packages import encoded, pack
from tests.broker_world import STUDY, World, make_world, running
from tests.people import Person, in_session
from tests.questions import question as asking

TEXT = STUDY.replace(
    'id = "imaging"\nkind', 'id = "imaging"\ncontributors = ["hospital-a", "hospital-b"]\nkind'
)
PROGRAMS = ("stranger", "admin", "enclave", "imaging", "claims", "hospital-a")
PEOPLE_AS = {
    "ada": "researcher:small-study",
    "ines": "steward:small-study:imaging",
    "rita": "reviewer:small-study",
    "otto": "auditor",
}
"""Who signed in, with a session, and as what."""
CALLERS = (*PROGRAMS, *PEOPLE_AS)
KEY = Identity.generate("reader", kem="X25519")
_SIGNED_IN: dict[tuple[str, str], Person] = {}
PEOPLE = {
    "hospital-a": range(40),
    "hospital-b": range(20, 60),
    "enclave": range(10, 50),
    "claims": range(30, 70),
}
LIVES_S = 3600
"""Of an access token: no caller has to sign in anew while it is examined."""

PATIENT = "[accounts]\nfailed_per_minute = 100000\n"
"""What is made up signs nobody in; the next caller must not have to wait for it."""


@contextmanager
def furnished(folder: Path, **how: Any) -> Iterator[World]:
    """
    Yield a running broker whose study has two finished runs, a release, a question with counts, a
    question back and proposals, lists of concepts, and a dataset version of every uploader that is
    only announced. how: as `make_world`.
    """
    world = make_world(folder, text=TEXT, **how)
    config = world.home.path / "config.toml"
    text = config.read_text()
    assert "[tokens]" not in text
    config.write_text(f"{text}\n[tokens]\naccess_seconds = {LIVES_S}\n{PATIENT}")
    with running(world):
        for dataset in (1, 2):
            for uploader, people in PEOPLE.items():
                records = encoded(world.signed, uploader, people)
                package = pack(world.signed, world.identities[uploader], records, dataset=dataset)
                if dataset == 1:
                    world.upload(package)
                else:
                    answer = world.actor(uploader).post(f"{world.path}/datasets", package.manifest)
                    answer.raise_for_status()
        for run in (world.run(), world.run(precision=0.9)):
            assert run["state"] == "done", run["failure"]
        admin, enclave = world.actor("admin"), world.actor("enclave")
        everyone = ReleaseRequest(audience=("imaging", "enclave", "claims"))
        world.finish(f"{world.path}/jobs/{job(admin.post(f'{world.path}/releases', everyone))}")
        asked = asking(imaging={"a": 1}, clinical={"b": 2}, reader=KEY.public())
        question = job(enclave.post(f"{world.path}/questions", asked))
        world.finish(f"{world.path}/jobs/{question}")
        in_session(world.home, world.url, "spare", "auditor")
        _talk(world, question, asked.spec_hash)
        for party in ("imaging", "enclave"):
            _offer(world, party)
        yield world


def person(world: World, name: str) -> Person:
    """Return one of PEOPLE_AS, signed in."""
    if (world.url, name) not in _SIGNED_IN:
        made = in_session(world.home, world.url, name, PEOPLE_AS[name])
        _SIGNED_IN[world.url, name] = made
    return _SIGNED_IN[world.url, name]


def _talk(world: World, question: str, spec_hash: str) -> None:
    """What is said about a question: counts, a question back, a decision and an ask that wait."""
    imaging, enclave = world.actor("imaging"), world.actor("enclave")
    counts = seal(
        b"counts",
        sender=enclave.identity,
        recipient=KEY.public(),
        context=Context(world.study_id, "enclave", READER, QUESTION_COUNTS, (question,)),
    )
    to = {"recipient": READER, "purpose": QUESTION_COUNTS, "subject": question}
    enclave.call("PUT", f"{world.path}/outbox", content=counts, params=to).raise_for_status()
    remark = Remark(
        study_id=world.study_id,
        question_id=question,
        spec_hash=spec_hash,
        author="imaging",
        text="Why is that?",
        said_at=1,
    ).sign(imaging.identity)
    at = f"{world.path}/questions/{question}/remarks"
    imaging.post(at, remark).raise_for_status()
    words = '[cohort]\nid = "made-up"\n'
    bodies: dict[str, tuple[str, Ask | Decide]] = {
        "ada": ("enclave", Ask(specification=words, reader=KEY.public())),
        "ines": ("imaging", Decide(question_id=question, spec_hash=spec_hash, decision="deny")),
    }
    for name, (party, body) in bodies.items():
        who = person(world, name)
        asked: Message = ProposalRequest(party=party, body=body)
        sent = asked.model_dump(mode="json")
        who.call("POST", f"{world.path}/proposals", json=sent).raise_for_status()


def _offer(world: World, party: str) -> None:
    """Send a short list of concepts."""
    lines = to_lines(
        OfferedConcept(concept_id=n, domain="condition", name=f"Concept {n}") for n in range(1, 50)
    )
    head = Offered(
        study_id=world.study_id,
        party=party,
        made_at=1,
        least=100,
        concepts=49,
        digest=digest_of(lines),
        values={"modality": ("CT",)} if party == "imaging" else {},
    ).sign(world.identities[party])
    sent = world.actor(party).put(f"{world.path}/offered", packed(head, lines))
    sent.raise_for_status()


def job(answer: Any) -> str:
    """Return the id in an answer that queued a job."""
    return str(answer.raise_for_status().json()["job_id"])


def known(world: World, caller: str) -> dict[str, list[Any]]:
    """Return what is there, by the name that paths give it: what the caller itself may list."""
    admin = world.actor("admin")
    lister = world.actor(caller) if caller in world.identities else admin
    runs = admin.get(f"{world.path}/runs").json()
    questions = admin.get(f"{world.path}/questions").json()
    released = admin.get(f"{world.path}/releases")
    inbox = lister.get(f"{world.path}/inbox")
    items = inbox.json()["items"] if inbox.is_success else []
    releases = {one["subject"] for one in items if one["purpose"] == "crosswalk"}
    return {
        "study_id": [world.study_id],
        "uploader": [caller] if caller in world.identities else list(PEOPLE),
        "dataset": [1, 2, 3],
        "part": [1, 2, 3],
        "number": [1, 2],
        "run_id": [one["run_id"] for one in runs],
        "question_id": [one["question_id"] for one in questions],
        "job_id": [*releases, *(one["question_id"] for one in questions)],
        "release_id": [one["release_id"] for one in released.json()] if released.is_success else [],
        "item_id": [one["item_id"] for one in items],
        "proposal_id": [one["proposal_id"] for one in admin.get(f"{world.path}/proposals").json()],
        # Of nobody who calls: an admin may disable it.
        "account": ["spare"],
    }
