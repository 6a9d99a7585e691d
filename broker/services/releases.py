"""
Releases: cross-commons IDs of a finished run, for an audience that the study allows.

One to the enclave alone is made at once. Beyond that, or with how each ID was linked, it waits for
the consent of every party's steward (broker.services.consents). A newer release to the same
audience takes its place; one of which records were withdrawn since is given to nobody any more.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import ValidationError

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services import uses
from broker.services.affected import affected
from broker.services.once import made_before, remember
from broker.services.release_facts import Facts
from broker.store import jobs, overviews, releases, runs, studies
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotAllowed, NotFound
from linkage.messages import JobState, ReleaseRequest
from linkage.release_messages import (
    ReleaseConsent,
    ReleasePin,
    ReleaseState,
    ReleaseTerms,
    quality,
)
from linkage.storage_messages import AffectedState

T = TypeVar("T")
WAITING, DENIED = "waiting", "denied"
Among = Sequence[jobs.JobRow] | None


@dataclass(frozen=True, slots=True)
class Releases:
    """Releases, and the state of every job."""

    database: Database

    def ask(self, grant: Grant, request: ReleaseRequest, *, key: str | None = None) -> JobState:
        """
        Queue a release, or let it wait for consent; the same idempotency key makes one, and so
        does the same request while it is not made yet.

        Raises NotAllowed for an audience beyond the study's release_to (a rehearsal may release to
        all), and for the methods where the study does not say release_methods or the enclave is
        not alone.
        """
        study = grant.study
        audience = audience_of(study, request.audience, methods=request.methods)
        asked = jobs.JobRow(
            id=f"release-{secrets.token_hex(8)}",
            study_id=study.id,
            kind="release",
            run_id=request.run_id,
            request=json.dumps(
                {"audience": audience} | ({"methods": True} if request.methods else {})
            ),
            asked_at=int(time.time()),
        )
        with self.database.change() as connection:
            if before := made_before(connection, grant, key, asked):
                return job_state(before)
            run = uses.finished_for(connection, study, request.run_id)
            uses.require_use(connection, study, "releases", run, audience)
            row = replace(asked, run_id=run.id)
            if same := _same_under_way(connection, row):
                remember(connection, grant, key, replace(asked, id=same.id))
                return job_state(same)
            waits = needs_consent(study, audience, methods=request.methods)
            row = replace(row, state=WAITING if waits else "queued")
            row = replace(row, terms=terms_of(study, row).model_dump_json())
            jobs.add(connection, row)
            remember(connection, grant, key, asked)
            detail: dict[str, str | int] = {"run": row.run_id, "audience": ", ".join(audience)}
            if request.methods:
                detail["methods"] = 1
            if study.signed.rehearsal:
                detail["consent"] = "rehearsal"
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="release waits for consent" if waits else "release queued",
                study_id=row.study_id,
                subject=row.id,
                detail=detail,
            )
        return job_state(row)

    def all(self, grant: Grant) -> list[ReleaseState]:
        """Return the releases that concern the caller, newest first."""
        with self.database.read() as connection:
            rows = jobs.of_kind(connection, grant.study.id, "release")
            return [release_state(connection, row, grant) for row in rows if _concerns(row, grant)]

    def page(self, grant: Grant, *, number: int, size: int) -> tuple[list[ReleaseState], int]:
        """
        Return page `number`, from 1, of `size` of the releases that concern the caller, newest
        first; and how many releases there are in all.
        """
        with self.database.read() as connection:
            light = overviews.newest_of_kind(connection, grant.study.id, "release")
            known = [row.id for row in light if _concerns(row, grant)]
            wanted = known[(number - 1) * size : number * size]
            rows = [existing(connection, grant, release_id) for release_id in wanted]
            audiences = {terms_of(grant.study, row).audience for row in rows}
            newest = [_newest(connection, grant.study.id, one, light) for one in audiences]
            facts = Facts.of(connection, rows, newest)
            shown = [release_state(connection, row, grant, light, facts) for row in rows]
        return shown, len(known)

    def one(self, grant: Grant, release_id: str) -> ReleaseState:
        """Return a release as this caller may see it. Raises NotFound."""
        with self.database.read() as connection:
            return release_state(connection, existing(connection, grant, release_id), grant)

    def pin(self, grant: Grant, release_id: str, asked: ReleasePin) -> ReleaseState:
        """
        Keep what uses a release, or forget it. Raises Conflict for one that may not be used, or is
        not the caller's.
        """
        with self.database.change() as connection:
            row = existing(connection, grant, release_id)
            if grant.party not in releases.audience_of(row):
                raise Conflict("this release gives your party no IDs", hint="pin one that does")
            if asked.holds:
                require_usable(connection, grant.study, row, party=grant.party, today=_today())
            changed = releases.set_pin(
                connection, row.id, grant.party, asked.name, holds=asked.holds, now=int(time.time())
            )
            if changed:
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action="release pinned" if asked.holds else "release unpinned",
                    study_id=row.study_id,
                    subject=row.id,
                    detail={"by": asked.name},
                )
            return release_state(connection, row, grant)

    def affected(
        self, grant: Grant, *, number: int = 1, size: int | None = None
    ) -> tuple[list[AffectedState], int]:
        """
        Return page `number`, from 1, of `size` of the releases, questions and deliveries of which
        records were withdrawn since, newest first, with how many by party and since when; and how
        many these are in all. size: None for all of them. Of READ_AFFECTED.
        """
        with self.database.read() as connection:
            return affected(connection, grant.study.id, number=number, size=size)

    def state(self, grant: Grant, job_id: str) -> JobState:
        """Return how far a release, question or delivery is. Raises NotFound."""
        with self.database.read() as connection:
            row = jobs.find(connection, job_id)
        if row is None or row.study_id != grant.study.id or row.kind not in releases.GIVING:
            raise NotFound("there is no such job in this study", hint="check the id")
        return job_state(row)


def job_state(row: jobs.JobRow) -> JobState:
    """Return a job as a message."""
    return JobState.model_validate(
        {
            "job_id": row.id,
            "study_id": row.study_id,
            "kind": row.kind,
            "state": row.state,
            "failure": row.failure,
        }
    )


def audience_of(study: RegisteredStudy, asked: tuple[str, ...], *, methods: bool) -> list[str]:
    """
    Return the parties of a release, ascending: those asked for, else as the study says.

    Raises NotAllowed for what the signed study does not allow.
    """
    enclave = study.config.party_of_kind("enclave")
    alone = (enclave.id,) if enclave else ()
    allowed = study.config.study.release_to or alone
    parties = [party.id for party in study.config.party]
    permitted = set(parties) if study.signed.rehearsal else set(allowed)
    audience = sorted(set(asked or (alone if methods else allowed)))
    if strangers := [party for party in audience if party not in permitted]:
        raise NotAllowed(
            f"the study does not release to: {', '.join(strangers)}",
            hint="release_to in the signed study file names who may get cross-commons IDs",
        )
    if not audience:
        raise NotAllowed(
            "the study has no enclave and names nobody in release_to",
            hint="the custodian signs a study file that does",
        )
    if methods and not (study.config.study.release_methods or study.signed.rehearsal):
        raise NotAllowed(
            "the study does not release how IDs were linked",
            hint="the custodian signs a study file with release_methods = true",
        )
    if methods and audience != list(alone):
        # Whoever holds the same IDs would read from the list which of its records are linked.
        raise NotAllowed(
            "how IDs were linked is released to the enclave alone",
            hint="release to the enclave only, or without the methods",
        )
    return audience


def needs_consent(study: RegisteredStudy, audience: list[str], *, methods: bool) -> bool:
    """Does every party's steward have to consent? In rehearsals nobody's records are linked."""
    enclave = study.config.party_of_kind("enclave")
    beyond = any(enclave is None or party != enclave.id for party in audience)
    return (beyond or methods) and not study.signed.rehearsal


def require_within_study(study: RegisteredStudy, row: jobs.JobRow) -> None:
    """Raises NotAllowed where a later epoch's file does not release to these parties any more."""
    if row.kind == "release":
        methods = bool(json.loads(row.request).get("methods"))
        audience_of(study, releases.audience_of(row), methods=methods)


def terms_of(study: RegisteredStudy, row: jobs.JobRow) -> ReleaseTerms:
    """Return what stewards consent to; as it was when the release was asked for."""
    if row.terms:
        return ReleaseTerms.model_validate_json(row.terms)
    audience = releases.audience_of(row)
    known = {party.id for party in study.config.party}
    days = [study.config.study.expires, *(study.config.last_day(p) for p in audience if p in known)]
    last = min((day for day in days if day is not None), default=None)
    return ReleaseTerms(
        study_id=study.id,
        study_hash=study.study_hash,
        release_id=row.id,
        run_id=row.run_id,
        audience=audience,
        methods=bool(json.loads(row.request).get("methods")),
        expires=last.isoformat() if last else "",
    )


def existing(connection: Connection, grant: Grant, release_id: str) -> jobs.JobRow:
    """Return a release that concerns the caller. Raises NotFound."""
    row = jobs.find(connection, release_id)
    known = row is not None and row.study_id == grant.study.id and row.kind == "release"
    if row is None or not known or not _concerns(row, grant):
        raise NotFound("there is no such release for you in this study", hint="GET .../releases")
    return row


def require_usable(
    connection: Connection,
    study: RegisteredStudy,
    row: jobs.JobRow | None,
    *,
    party: str,
    today: dt.date,
) -> None:
    """
    Raises NotAllowed for everything that was given out once the last day of the study or of the
    party that fetches it is over; for releases and deliveries Conflict while it is not known
    whether records of it were withdrawn since, and where they were.
    """
    last = study.config.last_day(party)
    if last is not None and today > last:
        raise NotAllowed(
            f"the last day was {last}: IDs are given out no more",
            hint="agree anew, and have the custodian sign a study file with a later day",
        )
    if row is None or row.kind not in ("release", "delivery"):
        return
    if releases.affected_of(connection, row.id):
        newer = _newest_usable(connection, row) if row.kind == "release" else ""
        anew = "a new release" if row.kind == "release" else "a new delivery: a new question"
        raise Conflict(
            f"records of {row.id} were withdrawn since it was made; nobody uses it any more",
            hint=f"take {newer}" if newer else f"ask the broker's admin for {anew}",
        )
    if _checking(connection, row):
        raise Conflict(
            f"datasets changed since {row.id} was made; the broker is looking whether records of"
            " it were withdrawn",
            hint="try again in a minute; if it stays so, the broker's worker does not run",
        )


def release_state(
    connection: Connection,
    row: jobs.JobRow,
    grant: Grant,
    among: Among = None,
    facts: Facts | None = None,
) -> ReleaseState:
    """
    Return a release as the caller may see it: counts and pins of its own, unless an admin. among,
    facts: all releases of the study, and what those of a page have, where they are read already.
    """
    study, viewer = grant.study, None if grant.is_admin else grant.viewer
    terms, done = terms_of(study, row), row.state == "done"
    newest = _newest(connection, row.study_id, terms.audience, among) if done else row.id
    facts = facts or Facts.of(connection, [row], [newest])
    gone = facts.gone.get(row.id, {})
    run, precision, recall = facts.made[row.run_id]
    consents = _consents(connection, row)
    counts = json.loads(row.made)["records"] if row.made else _in_run(connection, study, run)
    waits = row.state == WAITING
    agreed = {party for party, one in consents.items() if one.decision == "approve"}
    # Even a class depends on who matched; only the enclave may know anything of that.
    enclave = study.config.party_of_kind("enclave")
    told = viewer is None or (enclave is not None and viewer == enclave.id)
    return ReleaseState.model_validate(
        {
            "release_id": row.id,
            "terms": terms,
            "state": row.state,
            "number": row.number,
            "current": done and newest == row.id,
            "newest": "" if newest == row.id or newest in facts.gone else newest,
            "precision": quality(precision) if told else "",
            "recall": quality(recall) if told else "",
            "records": _own(counts, viewer),
            "needs": [p.id for p in study.config.party if p.id not in agreed] if waits else [],
            "consents": consents,
            "checking": done and row.checked != facts.mark,
            "affected": bool(gone),
            "withdrawn": _own({party: n for party, (n, _) in gone.items()}, viewer),
            "withdrawn_since": _own({party: at for party, (_, at) in gone.items()}, viewer),
            "pins": _own(facts.pins.get(row.id, {}), viewer),
            "failure": row.failure,
            "asked_at": row.asked_at,
            "made_at": row.finished_at if done else None,
        }
    )


def _newest(connection: Connection, study_id: str, audience: tuple[str, ...], among: Among) -> str:
    """Return the newest release to exactly these parties, "" where none was made."""
    every = releases.of_audience(connection, study_id, audience, among)
    return every[-1].id if every else ""


def _consents(connection: Connection, row: jobs.JobRow) -> dict[str, ReleaseConsent]:
    """Return the signed decisions by party; text that is none counts for none."""
    found = {}
    for party, text in jobs.approval_texts(connection, row.id).items():
        with suppress(ValidationError):
            found[party] = ReleaseConsent.model_validate_json(text)
    return found


def _own(by_party: dict[str, T], viewer: str | None) -> dict[str, T]:
    return {p: one for p, one in by_party.items() if viewer is None or p == viewer}


def _concerns(row: jobs.JobRow, grant: Grant) -> bool:
    """Who gets IDs sees a release, and where consent is needed every party, for it is asked."""
    if grant.is_admin:
        return True
    audience = list(releases.audience_of(row))
    methods = bool(json.loads(row.request).get("methods"))
    return grant.viewer in audience or needs_consent(grant.study, audience, methods=methods)


def _same_under_way(connection: Connection, row: jobs.JobRow) -> jobs.JobRow | None:
    return next(
        (
            one
            for one in jobs.of_kind(connection, row.study_id, "release")
            if one.state in (WAITING, "queued", "running")
            and (one.run_id, one.request) == (row.run_id, row.request)
        ),
        None,
    )


def _newest_usable(connection: Connection, row: jobs.JobRow) -> str:
    """Return the newest release to the same audience, "" where it is this one or affected too."""
    newest = _newest(connection, row.study_id, releases.audience_of(row), None)
    return "" if newest == row.id or releases.affected_of(connection, newest) else newest


def _checking(connection: Connection, row: jobs.JobRow) -> bool:
    return row.checked != releases.mark(connection, row.study_id)


def _in_run(
    connection: Connection, study: RegisteredStudy, run: runs.RunRow | None
) -> dict[str, int]:
    """Return by party how many records the run took, from the manifests."""
    found: dict[str, int] = {}
    inputs: dict[str, int] = json.loads(run.inputs) if run else {}
    party_of = {one: p.id for p in study.config.party for one in study.config.uploaders_of(p)}
    for uploader, number in inputs.items():
        dataset = studies.find_dataset(connection, study.id, uploader, number)
        if dataset is not None and (party := party_of.get(uploader)):
            records = int(json.loads(dataset.manifest)["records"])
            found[party] = found.get(party, 0) + records
    return found


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
