"""
What the key custodian does: make the study key, sign the study, seal the key to each site;
and what a site does with it: open the sealed key.

The custodian never sees a token, the broker never sees a key. A sealed key names study,
recipient and epoch, so it opens at one site, for one study, in one epoch only.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from linkage.certificate import GateCertificate
from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused, PackageRefused, StudyRefused
from linkage.messages import BROKER, CUSTODIAN, STUDY_KEY
from linkage.schema import schema_hash
from linkage.sealing import Context, Identity, PublicIdentity, seal, unseal
from linkage.signed_study import SignedStudy, require_same_encodings, sign_study
from linkage.strict_toml import text_of
from linkage.study import load_study


def read_public(path: Path) -> PublicIdentity:
    """Read a public identity file. Raises KeyRefused."""
    _require_file(path)
    try:
        return PublicIdentity.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise KeyRefused(
            f"{path} is no public identity",
            hint="ask for the file that `linkage-site keys identity` printed the path of",
        ) from None


def read_certificate(path: Path) -> GateCertificate:
    """Read a certificate of the release gate; the verdict is another matter. Raises KeyRefused."""
    _require_file(path)
    try:
        return GateCertificate.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise KeyRefused(
            f"{path} is no certificate of the release gate",
            hint="make it with `linkage attack study.toml --out gate`: gate/certificate.json",
        ) from None


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise KeyRefused(f"{path}: there is no such file", hint="check the path")


def sign(
    study_file: Path,
    public_files: list[Path],
    key: StudyKey,
    custodian: Identity,
    *,
    certificate: GateCertificate | None = None,
    rehearsal: bool = False,
) -> SignedStudy:
    """
    Check and sign a study file, pinning the keys of every party, contributor and of the broker.

    Raises StudyRefused for the file, and where it does not pass the release gate; KeyRefused where
    somebody's keys are missing or twice.
    """
    study = load_study(study_file)
    pins: dict[str, PublicIdentity] = {}
    for path in public_files:
        one = read_public(path)
        if one.name in pins:
            raise KeyRefused(f"two files hold keys of {one.name!r}", hint="give the right one")
        pins[one.name] = one
    wanted = {BROKER, *study.actors}
    if missing := sorted(wanted - set(pins)):
        raise KeyRefused(
            f"the keys of {', '.join(missing)} are missing",
            hint="add their public identity files with --public",
        )
    if foreign := sorted(set(pins) - wanted):
        raise KeyRefused(
            f"{foreign[0]!r} is no party or contributor of this study",
            hint="leave its public identity out",
        )
    return sign_study(
        text_of(study_file, StudyRefused),
        pins,
        schema_hash=schema_hash(study),
        key_check=key.key_check(study),
        custodian=custodian,
        certificate=certificate,
        rehearsal=rehearsal,
        file=study_file.name,
    )


def seal_key(signed: SignedStudy, key: StudyKey, custodian: Identity, uploader: str) -> bytes:
    """
    Return the study key sealed to one uploader: a contributor, or a party that has none.

    Raises KeyRefused for a key of another study, and for who tokenizes nothing: a commons with
    contributors only receives, and needs no key.
    """
    if uploader not in signed.study.uploaders:
        raise KeyRefused(
            f"{uploader!r} tokenizes nothing in this study and gets no study key",
            hint=f"it goes to: {', '.join(signed.study.uploaders)}",
        )
    if key.key_check(signed.study) != signed.key_check:
        raise KeyRefused(
            "this is not the key that the signed study was made with",
            hint="give the key file that `study sign` was given",
        )
    return seal(
        key.secret_bytes(),
        sender=custodian,
        recipient=signed.pin(uploader),
        context=_context(signed, uploader),
    )


def open_key(sealed: bytes, signed: SignedStudy, uploader: str, identity: Identity) -> StudyKey:
    """
    Return the study key that the custodian sealed to this site.

    Raises PackageRefused where it does not open, KeyRefused where it is not the signed study's,
    SchemaRefused where this software is not that of the custodian.
    """
    require_same_encodings(signed)
    require_own_keys(signed, uploader, identity)
    try:
        opened = unseal(
            sealed,
            sender=signed.pin(CUSTODIAN),
            recipient=identity,
            context=_context(signed, uploader),
        )
    except PackageRefused as fault:
        raise PackageRefused(
            fault.message,
            hint=f"take the file named {uploader}.study-key.sealed of epoch"
            f" {signed.study.study.epoch}, the signed study's, or first the signed study of the"
            " file's epoch; if they are of one, the custodian must send both anew",
        ) from None
    key = StudyKey(opened)
    if key.key_check(signed.study) != signed.key_check:
        raise KeyRefused(
            "the sealed key is not the one that the signed study was made with",
            hint="ask the custodian for the sealed key and the signed study of the same epoch",
        )
    return key


def _context(signed: SignedStudy, uploader: str) -> Context:
    header = signed.study.study
    return Context(header.id, CUSTODIAN, uploader, STUDY_KEY, (str(header.epoch),))


def require_own_keys(signed: SignedStudy, uploader: str, identity: Identity) -> None:
    """Raises KeyRefused unless the signed study pins the keys of this machine for `uploader`."""
    if identity.public() != signed.pin(uploader):
        raise KeyRefused(
            f"the signed study pins other keys for {uploader!r} than those of this machine",
            hint="check party and contributor in the site file; if they are right, the custodian"
            " must sign the study with your current public identity file",
        )


def require_new(path: Path) -> None:
    """Raises KeyRefused where something lies at `path`: nothing of a ceremony is overwritten."""
    if path.exists():
        raise KeyRefused(
            f"{path} exists and is never overwritten", hint="choose another name, or move it away"
        )
    if path.parent.exists() and not path.parent.is_dir():
        raise KeyRefused(f"{path.parent} is no folder", hint="choose another path")


def check_rotation(before: SignedStudy, after: SignedStudy, key: StudyKey) -> None:
    """
    Check that `after`, made with `key`, rotates the key of `before`.

    Raises StudyRefused where it is another study, no later epoch, or signed by another custodian;
    KeyRefused where the key is the old one.
    """
    old, new = before.study.study, after.study.study
    fault, place, hint = "", "epoch", "set epoch to one more than before"
    if new.id != old.id:
        fault, place = f"this is study {new.id!r}, the one before {old.id!r}", "id"
        hint = "give the signed study of the epoch before"
    elif new.epoch <= old.epoch:
        fault = f"epoch {new.epoch} does not come after epoch {old.epoch}"
    elif after.pin(CUSTODIAN) != before.pin(CUSTODIAN):
        fault, place = "another custodian signed the epoch before", ""
        hint = "the broker takes a new epoch from the same custodian only; sign with those keys"
    if fault:
        raise StudyRefused(file="study file", line=0, key=place, rule=fault, hint=hint)
    if key.key_check(before.study) == before.key_check:
        raise KeyRefused(
            "this is the study key of the epoch before",
            hint="make a new one with `linkage-site keys new`",
        )
