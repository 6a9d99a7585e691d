"""A broker with something behind every address, so that a fuzzer gets further than 404."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linkage.messages import ReleaseRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import STUDY, World, make_world, running
from tests.questions import question as asking

TEXT = STUDY.replace(
    'id = "imaging"\nkind', 'id = "imaging"\ncontributors = ["hospital-a", "hospital-b"]\nkind'
)
CALLERS = ("stranger", "admin", "enclave", "imaging", "claims", "hospital-a")
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
    Yield a running broker whose study has a finished run, a release, a question and a dataset
    version of every uploader that is only announced. how: as `make_world`.
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
        run = world.run()
        assert run["state"] == "done", run["failure"]
        admin, enclave = world.actor("admin"), world.actor("enclave")
        everyone = ReleaseRequest(audience=("imaging", "enclave", "claims"))
        world.finish(f"{world.path}/jobs/{job(admin.post(f'{world.path}/releases', everyone))}")
        asked = asking(imaging={"a": 1}, clinical={"b": 2})
        world.finish(f"{world.path}/jobs/{job(enclave.post(f'{world.path}/questions', asked))}")
        yield world


def job(answer: Any) -> str:
    """Return the id in an answer that queued a job."""
    return str(answer.raise_for_status().json()["job_id"])


def known(world: World, caller: str) -> dict[str, list[Any]]:
    """Return what is there, by the name that paths give it: what the caller itself may list."""
    admin = world.actor("admin")
    lister = admin if caller in ("admin", "stranger") else world.actor(caller)
    runs = admin.get(f"{world.path}/runs").json()
    questions = admin.get(f"{world.path}/questions").json()
    released = admin.get(f"{world.path}/releases")
    inbox = lister.get(f"{world.path}/inbox")
    items = inbox.json()["items"] if inbox.is_success else []
    releases = {one["subject"] for one in items if one["purpose"] == "crosswalk"}
    return {
        "study_id": [world.study_id],
        "uploader": list(PEOPLE) if caller in ("admin", "stranger") else [caller],
        "dataset": [1, 2, 3],
        "part": [1, 2, 3],
        "number": [1, 2],
        "run_id": [one["run_id"] for one in runs],
        "question_id": [one["question_id"] for one in questions],
        "job_id": [*releases, *(one["question_id"] for one in questions)],
        "release_id": [one["release_id"] for one in released.json()] if released.is_success else [],
        "item_id": [one["item_id"] for one in items],
    }
