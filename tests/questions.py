"""Cohort questions for tests, committed to as `linkage-cohort request` does."""

from __future__ import annotations

from typing import Any

from linkage.commitments import SALT_BYTES, commit, half_digest
from linkage.messages import QuestionRequest, QuestionState
from linkage.sealing import PublicIdentity
from linkage.uses import NON_COMMERCIAL, Use


def question(
    run_id: str = "",
    *,
    title: str = "x",
    purpose: str = "x",
    imaging: dict[str, Any] | None = None,
    clinical: dict[str, Any] | None = None,
    expires: str = "",
    reader: PublicIdentity | None = None,
    use: Use = NON_COMMERCIAL,
) -> QuestionRequest:
    """Return a question with fixed salts: the same words give the same hash."""
    asked = QuestionRequest(
        run_id=run_id,
        title=title,
        purpose=purpose,
        spec_hash="0" * 64,
        imaging=imaging or {},
        clinical=clinical or {},
        expires=expires,
        reader=reader,
        use=use,
    )
    return commit(asked, b"i" * SALT_BYTES, b"c" * SALT_BYTES)


def shown(asked: QuestionRequest, side: str, **also: Any) -> QuestionState:
    """Return the question as the broker shows it to one side: "imaging" or "clinical"."""
    content = {
        "question_id": "question-1",
        "study_id": "small-study",
        "run_id": "run-1",
        "asked_run": asked.run_id,
        "state": "done",
        "title": asked.title,
        "purpose": asked.purpose,
        "spec_hash": asked.spec_hash,
        "expires": asked.expires,
        "reader": asked.reader,
        "use": asked.use,
        side: getattr(asked, side),
        f"{side}_salt": getattr(asked, f"{side}_salt"),
        "imaging_digest": half_digest(asked.imaging_salt, asked.imaging),
        "clinical_digest": half_digest(asked.clinical_salt, asked.clinical),
    }
    return QuestionState.model_validate(content | also)
