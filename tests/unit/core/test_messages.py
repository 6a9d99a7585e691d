"""Messages of others: no id becomes a path, nothing nested too deep becomes a crash."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from linkage.errors import PackageRefused
from linkage.messages import Approval, QuestionRequest, QuestionState
from linkage.sealing import Identity

QUESTION = {
    "study_id": "small-study",
    "run_id": "run-1",
    "title": "",
    "purpose": "",
    "spec_hash": "0" * 64,
    "state": "done",
}


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/b", "", "a" * 81, "question-1\n"])
def test_an_id_that_could_be_a_path_is_refused(name: str) -> None:
    QuestionState.model_validate({**QUESTION, "question_id": "question-0a"})
    with pytest.raises(ValidationError):
        QuestionState.model_validate({**QUESTION, "question_id": name})
    with pytest.raises(ValidationError):
        QuestionState.model_validate(
            {**QUESTION, "question_id": "question-0a", "delivery_id": name}
        )


@pytest.mark.parametrize("signature", ["", "é", "=", "a", "QUJD", "A" * 88, "\ud800", "\x00"])
def test_what_is_no_signature_is_refused_not_a_crash(signature: str) -> None:
    signer = Identity.generate("steward", kem="X25519").public()
    said = {"study_id": "s1", "question_id": "q", "spec_hash": "0" * 64, "party": "steward"}
    decision = Approval.model_validate({**said, "decision": "approve", "signature": signature})
    with pytest.raises(PackageRefused):
        decision.verify(signer)


@pytest.mark.threat("P08")
def test_deep_nesting_is_refused_not_a_crash() -> None:
    nested: dict[str, Any] = {}
    for _ in range(900):
        nested = {"a": nested}
    request = QuestionRequest(
        title="t", purpose="p", spec_hash="0" * 64, imaging=nested, clinical={}
    )
    with pytest.raises(PackageRefused, match="canonical JSON"):
        request.canonical()
