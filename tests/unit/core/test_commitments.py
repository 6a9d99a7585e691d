"""One hash that every steward approves: it binds both halves, and hides each from the other."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import rfc8785

from linkage.commitments import commit, half_digest, require_committed, require_shown
from linkage.errors import PackageRefused
from linkage.messages import QuestionState
from linkage.sealing import Identity
from tests.questions import question, shown

READER = Identity.generate("reader", kem="X25519").public()
ASKED = question(
    "run-1",
    title="Chest CT in lung cancer",
    purpose="To test",
    imaging={"modality": ["CT"], "kvp": {"min": 150}},
    clinical={"concepts": [{"concept_id": [4115276]}]},
    expires="2031-01-31",
    reader=READER,
)


def test_the_bytes_that_are_hashed() -> None:
    """By hand, as the module says, so that another program can check a hash."""
    halves = {
        "imaging": hashlib.sha256(b"i" * 32 + rfc8785.dumps(ASKED.imaging)).hexdigest(),
        "clinical": hashlib.sha256(b"c" * 32 + rfc8785.dumps(ASKED.clinical)).hexdigest(),
    }
    content = {
        "title": "Chest CT in lung cancer",
        "purpose": "To test",
        "run_id": "run-1",
        "expires": "2031-01-31",
        "reader": READER.model_dump(mode="json"),
        **halves,
    }
    assert hashlib.sha256(rfc8785.dumps(content)).hexdigest() == ASKED.spec_hash
    profit = question(
        **ASKED.model_dump(include={"run_id", "title", "purpose", "expires"}),
        imaging=ASKED.imaging,
        clinical=ASKED.clinical,
        reader=READER,
        use="commercial",
    )
    content["use"] = "commercial"
    assert hashlib.sha256(rfc8785.dumps(content)).hexdigest() == profit.spec_hash
    vector = question(imaging={"modality": ["CT"]}, clinical={"any": True})
    assert vector.spec_hash == ("d94d947953ecdf99ad80dd8b4800e086714efbad2d3168f05e40bbadf3737217")


@pytest.mark.threat("T22")
def test_each_side_checks_its_own_half() -> None:
    require_committed(ASKED)
    for side in ("imaging", "clinical"):
        require_shown(shown(ASKED, side))
    nobody = shown(ASKED, "imaging").model_copy(update={"imaging": None, "imaging_salt": ""})
    require_shown(nobody)


@pytest.mark.parametrize(
    "changes",
    [
        {"imaging": {"modality": ["CT"]}},
        {"imaging_salt": "0" * 64},
        {"imaging_salt": "no hex"},
        {"imaging_salt": ""},
        {"imaging_digest": "0" * 64},
        {"imaging_digest": ""},
        {"clinical_digest": "0" * 64},
        {"clinical_digest": ""},
        {"title": "Another"},
        {"purpose": "Another"},
        {"asked_run": ""},
        {"run_id": "run-2"},
        {"expires": "2041-01-31"},
        {"expires": ""},
        {"use": "commercial"},
        {"reader": None},
        {"reader": Identity.generate("reader", kem="X25519").public()},
        {"spec_hash": "0" * 64},
    ],
)
@pytest.mark.threat("T22")
def test_a_question_that_was_exchanged_is_refused(changes: dict[str, Any]) -> None:
    question: QuestionState = shown(ASKED, "imaging").model_copy(update=changes)
    with pytest.raises(PackageRefused) as caught:
        require_shown(question)
    assert caught.value.hint


def test_the_broker_takes_only_what_is_committed_to() -> None:
    for changes in ({"clinical": {}}, {"imaging_salt": ""}, {"reader": None}, {"run_id": ""}):
        with pytest.raises(PackageRefused):
            require_committed(ASKED.model_copy(update=changes))


@pytest.mark.threat("T22")
def test_the_salt_hides_a_half_that_could_be_guessed() -> None:
    guess = {"any": True}
    assert half_digest("00" * 32, guess) != half_digest("01" * 32, guess)
    with pytest.raises(ValueError, match="32 bytes"):
        commit(ASKED, b"short", b"c" * 32)
