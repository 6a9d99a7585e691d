"""
Upload a package: announce it, send what the broker misses, confirm. May be repeated at will.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from linkage.errors import Conflict, PackageRefused
from linkage.messages import DatasetState, Part, StudyState
from linkage.signed_study import SignedStudy
from sites import casemaps
from sites.client import BrokerClient
from sites.packages import load_manifest, part_file
from sites.session import Session
from sites.strata_config import marks_told

Progress = Callable[[int, int], None]


def submit_dataset(
    session: Session, dataset: int, progress: Progress = lambda done, n: None
) -> DatasetState:
    """
    Send dataset version `dataset` of this site and, at a contributor, its case map to the commons.

    The map goes before the version is complete, so that whatever is linked can be named. May be
    repeated at will. progress: called with bytes of the package sent and bytes in all.
    """

    def send_map() -> None:
        if session.site.contributor:
            casemaps.send(session, dataset)

    package = session.vault.package(dataset)
    return submit(package, session.broker, progress, before_complete=send_map)


def submit(
    package: Path,
    broker: BrokerClient,
    progress: Progress = lambda done, n: None,
    *,
    before_complete: Callable[[], None] = lambda: None,
) -> DatasetState:
    """
    Send the package in `package`; after an interruption only the missing parts go.

    progress: called with bytes sent and bytes in all. before_complete: what else has to arrive.
    Raises what the broker refuses.
    """
    manifest = load_manifest(package)
    state = broker.open_dataset(manifest)
    if manifest.base and state.missing:
        _require_same_base(package.parent / str(manifest.base), broker)
    total = sum(part.size for part in manifest.parts)
    sent = sum(part.size for part in manifest.parts if part.number not in state.missing)
    progress(sent, total)
    for part in manifest.parts:
        if part.number not in state.missing:
            continue
        sealed = whole_part(package, part)
        broker.put_part(manifest, part.number, sealed)
        sent += part.size
        progress(sent, total)
    before_complete()
    return broker.complete_dataset(manifest)


def _require_same_base(package: Path, broker: BrokerClient) -> None:
    """
    A delta changes the very version that the broker has under that number. A private folder that
    was lost or restored may have made another one: raises Conflict. To announce again asks.
    """
    try:
        broker.open_dataset(load_manifest(package))
    except Conflict as fault:
        raise Conflict(
            f"the broker's dataset version {package.name} is another one than this delta changes",
            hint="tokenize again without --delta",
        ) from fault


def whole_part(package: Path, part: Part) -> bytes:
    """Return a sealed part. Raises PackageRefused where it is missing or was altered here."""
    # The broker would take it for damage on the way, and have it sent again for ever.
    path = part_file(package, part.number)
    sealed = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(sealed).hexdigest() != part.digest:
        raise PackageRefused(
            f"part {part.number} of the package is missing or altered in {package}",
            hint="tokenize again; that makes the next dataset version",
        )
    return sealed


def check_package(session: Session, dataset: int) -> dict[str, object]:
    """Return what would be sent. Raises PackageRefused unless every part is there and whole."""
    package = session.vault.package(dataset)
    manifest = load_manifest(package)
    for part in manifest.parts:
        whole_part(package, part)
    return {
        "dataset version": dataset,
        "records": f"{manifest.records:,}",
        "parts": len(manifest.parts),
        "bytes": f"{sum(part.size for part in manifest.parts):,}",
        **marks_told(session.signed.study.strata, manifest.strata),
    }


_STATES = {
    "draft": "draft: no uploads before every party has run `linkage-site confirm`",
    "open": "open",
    "linking": "open, runs have begun",
    "closed": "closed: nothing new is taken",
    "destroyed": "DESTROYED: see `linkage-site certificate`",
}


def status_rows(state: StudyState) -> dict[str, object]:
    """Return how far everybody is, in words; who has to do what comes first."""
    rows: dict[str, object] = {"state": _STATES.get(state.state, state.state)}
    if state.deactivated:
        rows["STUDY KEY DEACTIVATED"] = f"{state.deactivated}; uploads wait for the next epoch"
    for one in state.parties:
        uploader = one.uploader or one.party
        name = uploader if uploader == one.party else f"{uploader} for {one.party}"
        if one.dataset:
            records = f", {one.records:,} records" if one.records is not None else ""
            rows[name] = f"dataset version {one.dataset}{records}"
        elif one.outdated:
            rows[name] = (
                f"MUST UPLOAD ANEW: version {one.outdated} is of an epoch before {state.epoch}"
            )
        else:
            rows[name] = "not submitted yet"
        if one.suspended:
            rows[name] = f"{rows[name]}; ACCESS SUSPENDED by the broker's admin"
        if one.quarantined:
            why = one.reason or "it must submit again"
            rows[f"{name}, version {one.quarantined}"] = f"IN QUARANTINE: {why}"
        if one.bytes_kept and one.bytes_allowed:
            share = f"{one.bytes_kept / 1e6:,.0f} of {one.bytes_allowed / 1e6:,.0f} MB"
            rows[f"kept for {one.party}"] = share
    return rows


def epoch_notice(state: StudyState, signed: SignedStudy, who: str) -> str:
    """Say what site `who` must do where the broker's signed study is not its own, else ""."""
    if state.study_hash == signed.study_hash:
        return ""
    mine = signed.study.study.epoch
    if state.epoch > mine:
        return f"the study is in epoch {state.epoch}, this site in {mine}: {_to_do(signed, who)}"
    return "the broker has another signed study than this site: compare the study hash with it"


def _to_do(signed: SignedStudy, who: str) -> str:
    """Return what a new epoch asks of a party, a contributor, a commons that tokenizes nothing."""
    confirms = any(party.id == who for party in signed.study.party)
    tokenizes = who in signed.study.uploaders
    key = " and sealed key" if tokenizes else ""
    steps = (
        f"take the newest signed study{key} from the custodian",
        "`linkage-site confirm`" if confirms else "",
        "`linkage-site keys open`, tokenize, submit" if tokenizes else "",
    )
    return ", ".join(filter(None, steps))
