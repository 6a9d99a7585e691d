"""
A study key that is out of use: the custodian's signed notice, and what a site does on it.

The site destroys its copy of the key. A stone lies in its place, so that tokenizing says when and
why there is none, and the notice stays, so that the same key is not opened a second time.
Remaining weakness: backups and the sealed file of the key are out of reach; the operator deletes
them.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from linkage.encoding.keys import StudyKey, tombstone
from linkage.errors import KeyRefused, PackageRefused
from linkage.messages import Deactivation
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy, check_deactivation
from sites.vault import STUDY_KEY, Vault


def make_notice(
    signed: SignedStudy, custodian: Identity, *, reason: str, date: str
) -> Deactivation:
    """
    Return the signed notice. reason: a line for everyone to read. date: YYYY-MM-DD.

    Raises KeyRefused where `custodian` did not sign the study, or for an unfit reason or date.
    """
    header = signed.study.study
    try:
        notice = Deactivation(
            study_id=header.id,
            epoch=header.epoch,
            key_check=signed.key_check,
            date=date,
            reason=reason,
        ).sign(custodian)
    except ValidationError:
        raise KeyRefused(
            "the notice needs a reason of 3 to 200 plain characters, and a date like 2026-05-31",
            hint='for example: --reason "the linkage is verified"',
        ) from None
    try:
        check_deactivation(notice, signed)
    except PackageRefused:
        raise KeyRefused(
            "these are not the custodian's keys that signed this study",
            hint="give the custodian.key that `study sign` was given",
        ) from None
    return notice


def read_notice(path: Path) -> Deactivation:
    """Read a notice. Raises KeyRefused."""
    try:
        return Deactivation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise KeyRefused(
            f"{path} is no notice of a deactivation",
            hint="the custodian makes it with `linkage-site keys deactivate`",
        ) from None


def retire(notice: Deactivation, signed: SignedStudy, vault: Vault) -> bool:
    """
    Destroy this site's copy of the key that the notice is about; return whether there was one.

    The same again is no fault. Raises PackageRefused where the custodian did not sign the notice,
    or it is about another study, epoch or key than `signed`.
    """
    check_deactivation(notice, signed)
    # The notice first: after a crash in between, the key can be destroyed again, but not opened.
    vault.keep(_name(signed), notice.model_dump_json().encode())
    had = _holds(vault, signed)
    if had or not vault.keystore.has(STUDY_KEY):
        vault.forget_study_key()
        stone = tombstone(notice.epoch, notice.date, notice.reason)
        vault.keystore.write(STUDY_KEY, stone)
    return had


def require_active(signed: SignedStudy, vault: Vault) -> None:
    """Raises KeyRefused, saying when and why, where the study's key was deactivated."""
    kept = vault.kept(_name(signed))
    if kept is not None:
        notice = Deactivation.model_validate_json(kept)
        raise KeyRefused(
            f"the study key of epoch {notice.epoch} was deactivated {notice.said}",
            hint="ask the custodian for the next epoch's signed study and sealed key",
        )


def _holds(vault: Vault, signed: SignedStudy) -> bool:
    if not vault.keystore.has(STUDY_KEY):
        return False
    content = vault.keystore.read(STUDY_KEY)
    try:
        key = StudyKey.from_bytes(content)
    except KeyRefused:
        return False  # a stone already, or what no key can be read from
    return key.key_check(signed.study) == signed.key_check


def _name(signed: SignedStudy) -> str:
    return f"deactivated/{signed.key_check}"
