"""
A registered study, parsed once: `RegisteredStudy.of(row)` remembers by the study's hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from broker.store.studies import StudyRow
from linkage.sealing import PublicIdentity
from linkage.signed_study import SignedStudy
from linkage.study import StudyConfig


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredStudy:
    """
    A study of this broker: its id, the signed study, the study file in it, and what the release
    gate says of it in words.
    """

    id: str
    study_hash: str
    signed: SignedStudy
    config: StudyConfig
    release_gate: str

    @staticmethod
    def of(row: StudyRow) -> RegisteredStudy:
        """Parse a row. Raises StudyRefused or PackageRefused if it was altered."""
        return _parsed(row.id, row.study_hash, row.signed)

    def pin(self, name: str) -> PublicIdentity:
        """Return the pinned keys of a party, "broker" or "custodian"."""
        return self.signed.pin(name)


@lru_cache(maxsize=64)
def _parsed(study_id: str, study_hash: str, text: str) -> RegisteredStudy:
    signed = SignedStudy.model_validate_json(text)
    # Whoever can write the database still cannot put in a key or a rule of its own.
    config = signed.check()
    return RegisteredStudy(study_id, study_hash, signed, config, signed.release_gate)
