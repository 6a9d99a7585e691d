"""
What a steward approves of a question: one hash that commits to all of it.

    half digest  = SHA-256(salt || canonical JSON of the half)
    commitment   = SHA-256(canonical JSON of {title, purpose, run_id, imaging, clinical, expires,
                   reader}), where imaging and clinical are the half digests; of a question for
                   commercial use also {use}, which others lack as they did before there was one

Each party sees one half with its salt, and both digests. So it checks that the half it answers is
the one in the hash that every steward approves, and learns nothing of the other: its 32 random
bytes of salt keep anybody from trying likely criteria against the digest. Canonical JSON: RFC 8785.
A commitment by a hash binds because SHA-256 has no known collisions, and hides by its salt
(Halevi and Micali 1996, doi:10.1007/3-540-68697-5_16).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from linkage.errors import PackageRefused
from linkage.messages import QuestionRequest, QuestionState
from linkage.sealing import PublicIdentity
from linkage.uses import NON_COMMERCIAL, Use

SALT_BYTES = 32
_ANEW = "it must be asked again, with the version of the software that all parties run"


def commit(asked: QuestionRequest, imaging_salt: bytes, clinical_salt: bytes) -> QuestionRequest:
    """
    Return the question with these salts, SALT_BYTES random bytes each, and its commitment.

    Raises PackageRefused for what canonical JSON cannot carry.
    """
    if len(imaging_salt) != SALT_BYTES or len(clinical_salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    salts = {"imaging_salt": imaging_salt.hex(), "clinical_salt": clinical_salt.hex()}
    salted = asked.model_copy(update=salts)
    return salted.model_copy(update={"spec_hash": commitment_of(salted)})


def half_digest(salt: str, half: Mapping[str, Any]) -> str:
    """Return the digest of one half, hex. salt: hex. Raises PackageRefused."""
    return hashlib.sha256(bytes.fromhex(salt) + _canonical(dict(half))).hexdigest()


def commitment_of(asked: QuestionRequest) -> str:
    """Return the hash that commits to a question with its salts, hex. Raises PackageRefused."""
    return _commitment(
        title=asked.title,
        purpose=asked.purpose,
        run_id=asked.run_id,
        imaging=half_digest(asked.imaging_salt, asked.imaging),
        clinical=half_digest(asked.clinical_salt, asked.clinical),
        expires=asked.expires,
        reader=asked.reader,
        use=asked.use,
    )


def require_committed(asked: QuestionRequest) -> None:
    """Raises PackageRefused unless a question has salts and its hash commits to all of it."""
    if not asked.imaging_salt or not asked.clinical_salt:
        raise PackageRefused("the question has no salts, so its hash binds nothing", hint=_ANEW)
    if asked.spec_hash != commitment_of(asked):
        raise PackageRefused("the question's hash is not that of what it asks", hint=_ANEW)


def require_shown(question: QuestionState) -> None:
    """
    Check, at a site, that what it is shown of a question is what its hash commits to.

    Raises PackageRefused where a half is not in the hash, or the question has no commitment.
    """
    halves = (
        (question.imaging, question.imaging_salt, question.imaging_digest),
        (question.clinical, question.clinical_salt, question.clinical_digest),
    )
    for half, salt, digest in halves:
        if not digest or (half is not None and not salt):
            raise PackageRefused("the question was asked without a commitment", hint=_ANEW)
        if half is not None and (not _is_hex(salt) or half_digest(salt, half) != digest):
            raise _altered()
    made = _commitment(
        title=question.title,
        purpose=question.purpose,
        run_id=question.asked_run,
        imaging=question.imaging_digest,
        clinical=question.clinical_digest,
        expires=question.expires,
        reader=question.reader,
        use=question.use,
    )
    # A question for the newest run names whichever that was; any other names its run.
    if made != question.spec_hash or question.asked_run not in ("", question.run_id):
        raise _altered()


def _altered() -> PackageRefused:
    return PackageRefused(
        "what is shown of this question is not what its hash commits to",
        hint="do not decide about it; ask the researcher for the hash, and the broker's admin why",
    )


def _commitment(*, reader: PublicIdentity | None, use: Use, **said: str) -> str:
    key = reader.model_dump(mode="json") if reader else None
    if use != NON_COMMERCIAL:
        said["use"] = use
    return hashlib.sha256(_canonical({**said, "reader": key})).hexdigest()


def _is_hex(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == SALT_BYTES
    except ValueError:
        return False


def _canonical(content: dict[str, Any]) -> bytes:
    try:
        return rfc8785.dumps(content)
    except (rfc8785.CanonicalizationError, ValueError, RecursionError):
        raise PackageRefused(
            "a question holds what canonical JSON cannot carry", hint="it must be asked again"
        ) from None
