"""The broker's certificate of a study's destruction: verified, kept, and told in words."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import ValidationError

from linkage.errors import PackageRefused
from linkage.governance import DestructionCertificate
from linkage.signed_study import SignedStudy


def read(data: bytes, signed: SignedStudy) -> DestructionCertificate:
    """Return a certificate that the study's broker signed. Raises PackageRefused."""
    try:
        found = DestructionCertificate.model_validate_json(data)
    except ValidationError:
        raise PackageRefused(
            "this is no certificate of a destruction",
            hint="take it from the broker: linkage-site certificate",
        ) from None
    found.check(signed)
    return found


def read_file(path: Path, signed: SignedStudy) -> DestructionCertificate:
    """Return the certificate in a file. Raises PackageRefused."""
    if not path.is_file():
        raise PackageRefused(f"{path}: there is no such file", hint="check the path")
    return read(path.read_bytes(), signed)


def keep(found: DestructionCertificate, folder: Path) -> Path:
    """Write the certificate, canonical JSON, into the site's private folder; return where."""
    path = folder / "destruction-certificate.json"
    path.write_bytes(found.canonical())
    return path


def rows(found: DestructionCertificate) -> dict[str, object]:
    """Return what the certificate says, for people."""
    made: dict[str, object] = {
        "signed by": "the broker, with the key that your signed study pins",
        "asked by": f"{found.asked_by}, {_moment(found.asked_at)}",
        "finished": found.moment,
        "study hash": found.study_hash,
        "dataset versions destroyed": len(found.manifests),
        "sealed packages destroyed": found.blobs,
        "rows destroyed": ", ".join(f"{name} {n:,}" for name, n in found.rows.items()) or "none",
        "audit log": f"entry {found.audit_number}, {found.audit_hash[:16]}...",
    }
    for one in found.given_out:
        made[f"given out before: {one.job_id}"] = _moment(one.at)
    for number, left in enumerate(found.remains, start=1):
        made[f"REMAINS ({number})"] = f"{left.what}: {left.why}; until: {left.until}"
    return made


def _moment(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
