"""Who says what about a question: the signature says whose words they are, whoever brings them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from broker.person_roles import parse_role
from broker.policy import Action, Caller, Grant
from broker.registered import RegisteredStudy
from broker.services.remarks import Remarks
from broker.store import jobs, runs, studies
from broker.store.engine import Database
from linkage.errors import LinkageError, NotAllowed, PackageRefused
from linkage.messages import READER
from linkage.question_messages import Remark
from linkage.sealing import Identity
from tests.broker_world import sign_for
from tests.questions import question

SIGNED, IDENTITIES = sign_for(Identity.generate("broker", kem="X25519").public(), "small-study")
ROW = studies.StudyRow(
    id="small-study",
    study_hash=SIGNED.study_hash,
    signed=SIGNED.model_dump_json(),
    registered_at=0,
)
KEY = Identity.generate("reader", kem="X25519")
ASKED = question("run-1", reader=KEY.public())
RESEARCHER = Caller(
    "ada", None, person=True, roles=frozenset({parse_role("researcher:small-study")})
)


def grant(caller: Caller) -> Grant:
    return Grant(caller, Action.REMARK, RegisteredStudy.of(ROW))


def remark(author: str, signer: Identity, answers: int = 1, text: str = "The protocol.") -> Remark:
    made = Remark(
        study_id="small-study",
        question_id="question-1",
        spec_hash=ASKED.spec_hash,
        author=author,
        answers=answers,
        text=text,
        said_at=1,
    )
    return made.sign(signer)


@pytest.fixture
def remarks(tmp_path: Path) -> Iterator[Remarks]:
    """About a question that the imaging commons has asked something about."""
    database = Database(make_url(f"sqlite:///{tmp_path / 'x.sqlite'}"))
    database.migrate()
    run = runs.RunRow(
        id="run-1",
        study_id="small-study",
        seed=1,
        epoch=1,
        inputs="{}",
        software="1",
        started_at=1,
    )
    job = jobs.JobRow(
        id="question-1",
        study_id="small-study",
        kind="question",
        run_id="run-1",
        request=json.dumps(ASKED.model_dump(mode="json")),
        asked_at=1,
    )
    with database.change() as connection:
        studies.add_study(connection, ROW)
        runs.add(connection, run)
        jobs.add(connection, job)
    made = Remarks(database)
    asked = remark("imaging", IDENTITIES["imaging"], answers=0, text="Why CT alone?")
    made.say(grant(Caller("imaging", "small-study")), "question-1", asked)
    yield made
    database.close()


@pytest.mark.parametrize("caller", [RESEARCHER, Caller("enclave", "small-study")])
def test_an_answer_signed_with_the_reading_key_is_taken(remarks: Remarks, caller: Caller) -> None:
    said = remarks.say(grant(caller), "question-1", remark(READER, KEY))
    assert [one.remark.author for one in said] == ["imaging", READER]
    assert remarks.say(grant(caller), "question-1", remark(READER, KEY)) == said


@pytest.mark.parametrize(
    ("brought", "refused"),
    [
        (remark(READER, Identity.generate("reader", kem="X25519")), PackageRefused),
        (remark(READER, IDENTITIES["enclave"]), PackageRefused),
        (remark(READER, KEY, answers=0), NotAllowed),
        (remark("imaging", IDENTITIES["imaging"], answers=0), NotAllowed),
        (remark("enclave", IDENTITIES["enclave"]), NotAllowed),
        (remark("ada", KEY), NotAllowed),
    ],
)
def test_a_researcher_brings_nothing_else(
    remarks: Remarks, brought: Remark, refused: type[LinkageError]
) -> None:
    with pytest.raises(refused):
        remarks.say(grant(RESEARCHER), "question-1", brought)


def test_another_party_does_not_carry_the_researchers_words(remarks: Remarks) -> None:
    with pytest.raises(NotAllowed, match="another's name"):
        remarks.say(grant(Caller("imaging", "small-study")), "question-1", remark(READER, KEY))
