"""
Confirming the signed study: what a party agrees to, in words, and its signed word for it.

The broker hands out the signed study that it holds; only one that is the site's own, letter for
letter, is confirmed. What is agreed is read from the site's copy, which the custodian's fingerprint
vouches for.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkage.errors import NotAllowed, PackageRefused
from linkage.governance import Confirmation, Confirmations
from linkage.participation import FEATURES, RetentionRules
from linkage.strata import in_words
from linkage.study import StudyConfig
from sites.session import Session

_CLOCKS = {
    "packages_days": "packages {} days after the study is closed",
    "old_epochs_days": "packages of an earlier epoch {} days after it was replaced",
    "intermediates_days": "what a run leaves between its steps after {} days",
    "inbox_days": "what waits in an inbox after {} days",
}


def agreed_to(study: StudyConfig, party: str) -> dict[str, object]:
    """Return what a party agrees to by confirming the study, for people."""
    header, looks = study.study, study.looks
    enclave = study.party_of_kind("enclave")
    audience = ", ".join(header.release_to) or (f"{enclave.id} (enclave)" if enclave else "nobody")
    rows: dict[str, object] = {
        "study": f"{header.id}: {header.title} (epoch {header.epoch})",
        "purpose": header.purpose,
        "parties": "; ".join(_party(study, one.id) for one in study.party),
        "last day": _last_day(study, party),
        "IDs are released to": audience,
        "counts are shown": study.counts.in_words(header.minimum_cell),
        "images are fetched": header.image_retrieval,
        "second looks": "never"
        if looks is None
        else f"at most {looks.most_per_run:,} pairs a run, {looks.most_per_record} a record,"
        f" {looks.most_runs:,} runs, over {', '.join(_looked_at(study, looks.fields))}",
        "review by people": "never"
        if study.reviews is None
        else f"reviewers see how fields agree, of at most {study.reviews.most_pairs:,} pairs in"
        f" doubt and {study.reviews.sample:,} links a run",
    }
    if study.strata:
        rows["marks of groups"] = in_words(study.strata)
    for one in study.purpose:
        said = ", ".join(study.agreed.features(party, one.id)) or "nothing"
        rows[f"for {one.id}"] = f"{one.title} ({one.use} use): {party!r} takes part in {said}"
    if not study.purpose:
        rows["use"] = header.use
        rows["takes part in"] = ", ".join(FEATURES)
    rows["deleted by itself"] = _retention(study.retention)
    return rows


def require_same(session: Session) -> None:
    """Raises PackageRefused unless the broker holds the same signed study as this site."""
    registered = session.broker.signed_study(session.study_id)
    mine, theirs = session.signed.study_hash, registered.study_hash
    if mine != theirs:
        raise PackageRefused(
            f"the broker holds another signed study: its hash begins {theirs[:16]}, this site's"
            f" {mine[:16]}",
            hint="confirm nothing; ask the custodian by telephone which hash is right;"
            " `linkage-site study compare` shows what differs",
        )


def confirm(session: Session) -> Confirmations:
    """
    Sign and send this party's confirmation; the same again has no further effect.

    Raises NotAllowed at a contributor, PackageRefused where the broker holds another study.
    """
    if session.site.contributor:
        raise NotAllowed(
            f"{session.uploader!r} tokenizes for {session.party!r} and agrees to nothing itself",
            hint=f"the commons {session.party!r} confirms the study",
        )
    require_same(session)
    said = Confirmation(
        study_id=session.study_id,
        epoch=session.signed.study.study.epoch,
        study_hash=session.signed.study_hash,
        party=session.party,
    ).sign(session.identity)
    return session.broker.confirm(said)


def _looked_at(study: StudyConfig, fields: Iterable[str]) -> list[str]:
    """Return those fields that two parties hold: nobody can be asked about another."""
    return [field for field in fields if sum(field in one.fields for one in study.party) > 1]


def _party(study: StudyConfig, party_id: str) -> str:
    party = study.party_named(party_id)
    tokenized = f", tokenized by {' and '.join(party.contributors)}" if party.contributors else ""
    until = f", until {party.expires}" if party.expires else ""
    return f"{party.id} ({party.kind}{tokenized}{until})"


def _last_day(study: StudyConfig, party: str) -> str:
    last = study.last_day(party)
    return f"{last} (UTC); after it nothing more is matched or released" if last else "none"


def _retention(rules: RetentionRules | None) -> str:
    found = [
        text.format(days)
        for name, text in _CLOCKS.items()
        if (days := getattr(rules, name, None)) is not None
    ]
    return "; ".join(found) or "nothing the study file names; the broker may have rules of its own"
