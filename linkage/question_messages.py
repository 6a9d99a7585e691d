"""
What stewards and a researcher say to each other about a question, before anybody decides.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, StringConstraints

from linkage.messages import Count, Hex256, Id, Message, Name, SignedMessage

MOST_REMARKS = 100
"""About one question."""


class Remark(SignedMessage):
    """
    A steward's question back, or the answer to one; signed by who wrote it.

    author: a party, with its key; or READER, with the signing key of the question's reader.
    answers: the number of the remark that it answers, 0 where it asks. Everybody who may read the
    question reads it, the broker too: it holds nothing about a person. said_at: Unix seconds.
    """

    study_id: Name
    question_id: Id
    spec_hash: Hex256
    author: Id
    answers: int = Field(default=0, ge=0, le=MOST_REMARKS)
    text: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\x80-\x9f]{3,1000}$")]
    said_at: Count

    @property
    def hash(self) -> str:
        """SHA-256, hex, of what is signed; the audit log names it, and never the text."""
        return hashlib.sha256(self.signed_bytes()).hexdigest()


class RemarkState(Message):
    """A remark as the broker keeps it. number: 1 and up, by question."""

    number: int = Field(ge=1)
    remark: Remark
