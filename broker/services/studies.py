"""Studies: registering what a custodian signed, and saying how far each party is."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from broker import audit
from broker.config import Home
from broker.policy import ADMIN, PERSON, Action, Caller, Grant, check
from broker.registered import RegisteredStudy
from broker.services import lifecycle
from broker.services.epochs import next_epoch
from broker.services.quotas import Usage, usage_of
from broker.store import access, studies
from broker.store.engine import Connection, Database
from linkage.admin_messages import StudyListed
from linkage.errors import NotAllowed, NotFound, PackageRefused, StudyRefused
from linkage.messages import BROKER, Deactivation, PartyState, StudyState
from linkage.signed_study import SignedStudy, check_deactivation


@dataclass(frozen=True, slots=True)
class Studies:
    """The studies of this broker."""

    database: Database
    home: Home

    def grant(
        self, caller: Caller, action: Action, *, study_id: str | None, uploader: str | None = None
    ) -> Grant:
        """Look up the study and pass everything to the policy."""
        return self.grant_in(
            caller, action, self.find(study_id), study_id=study_id, uploader=uploader
        )

    def find(self, study_id: str | None) -> studies.StudyRow | None:
        """Return a study as it is now, None where there is none of this id, or no id."""
        if study_id is None:
            return None
        with self.database.read() as connection:
            return studies.find_study(connection, study_id)

    def grant_in(
        self,
        caller: Caller,
        action: Action,
        row: studies.StudyRow | None,
        *,
        study_id: str | None,
        uploader: str | None = None,
    ) -> Grant:
        """Pass everything to the policy, of a study just looked up. The only way to a grant."""
        registered = RegisteredStudy.of(row) if row else None
        today = dt.datetime.now(dt.UTC).date()
        grant = check(caller, action, registered, study_id=study_id, uploader=uploader, today=today)
        if row is not None:
            lifecycle.require_allowed(action, row)
        return grant

    def register(
        self,
        actor: str,
        signed: SignedStudy,
        *,
        custodian_fingerprint: str | None,
        allow_changed_parties: bool = False,
    ) -> tuple[StudyState, bool]:
        """
        Take a signed study, or the next epoch of one; return its state, and whether it is new.

        The same study twice is one. Raises StudyRefused or PackageRefused where it does not hold,
        names another broker or custodian, or does not pass the release gate and has no exception;
        NotAllowed for a rehearsal on a broker of record;
        Conflict where another signed study has its id and this one is not its next epoch.
        """
        config = signed.check(custodian_fingerprint=custodian_fingerprint)
        if signed.rehearsal and not self.home.config.server.allow_rehearsal:
            raise NotAllowed(
                "this broker takes no rehearsals",
                hint="use a rehearsal broker (allow_rehearsal = true), or sign the study for real",
            )
        if not signed.rehearsal and not custodian_fingerprint:
            raise PackageRefused(
                "the custodian's fingerprint was not given",
                hint="ask the custodian by telephone, and give it as it is read out",
            )
        if signed.pin(BROKER) != self.home.public():
            raise PackageRefused(
                "the signed study names another broker's keys",
                hint="send the custodian this broker's public.json, compare fingerprints",
            )
        if config.study.id in (ADMIN, PERSON):
            raise StudyRefused(
                file="signed study",
                line=0,
                key="study.id",
                rule="the names 'admin' and 'person' are taken by the broker's admins and people",
                hint="choose another study id",
            )
        return self._add(actor, signed, config.study.id, allow_changed_parties)

    def _add(
        self, actor: str, signed: SignedStudy, study_id: str, allow_changed_parties: bool
    ) -> tuple[StudyState, bool]:
        made = studies.StudyRow(
            id=study_id,
            study_hash=signed.study_hash,
            signed=signed.model_dump_json(),
            registered_at=int(time.time()),
            state=lifecycle.first_state(signed.rehearsal),
            state_since=int(time.time()),
        )
        action, detail = "study registered", dict[str, str | int]()
        with self.database.change() as connection:
            found = studies.find_study(connection, study_id)
            new = found is None or found.study_hash != made.study_hash
            if new:
                # Studies registered before there was a gate stay readable; none comes in without.
                signed.require_gate()
                detail = {"release gate": signed.release_gate, "state": made.state}
            if found is None:
                studies.add_study(connection, made)
            elif new:
                lifecycle.require(connection, study_id, lifecycle.DRAFT, *lifecycle.IN_USE)
                old = RegisteredStudy.of(found)
                detail |= next_epoch(old, signed, allow_changed_parties=allow_changed_parties)
                action = "study epoch registered"
                studies.replace_study(connection, made, found, old.config.study.epoch)
                access.forget_study(connection, study_id)
            if new:
                audit.record(
                    connection,
                    actor=actor,
                    action=action,
                    study_id=study_id,
                    detail={"study_hash": made.study_hash, **detail},
                )
        return self._state(RegisteredStudy.of(made), viewer=None), new

    def deactivate(self, actor: str, notice: Deactivation) -> tuple[StudyState, bool]:
        """
        Take the custodian's notice that an epoch's study key is out of use; the same again is one.

        From then on nothing of that epoch is uploaded; what is complete stays. Raises NotFound for
        a study that is not here, PackageRefused where the custodian did not sign it or it is about
        another key.
        """
        with self.database.change() as connection:
            row = studies.find_study_at(connection, notice.study_id, notice.epoch)
            current = studies.find_study(connection, notice.study_id)
            if row is None or current is None:
                raise NotFound("there is no such study here", hint="register it first")
            study = RegisteredStudy.of(row)
            check_deactivation(notice, study.signed)
            new = studies.find_deactivation(connection, study.id, notice.epoch) is None
            if new:
                text = notice.model_dump_json()
                now = int(time.time())
                studies.add_deactivation(connection, study.id, notice.epoch, text, now)
                audit.record(
                    connection,
                    actor=actor,
                    action="study key deactivated",
                    study_id=study.id,
                    detail={"epoch": notice.epoch, "date": notice.date, "reason": notice.reason},
                )
        return self._state(RegisteredStudy.of(current), viewer=None), new

    def all(self) -> list[StudyState]:
        """Return every study, by id; for the console."""
        with self.database.read() as connection:
            rows = studies.all_studies(connection)
        return [self._state(RegisteredStudy.of(row), viewer=None) for row in rows]

    def seen_by(self, caller: Caller) -> list[StudyListed]:
        """Return what is there for this caller, by id: the studies that it may read."""
        today = dt.datetime.now(dt.UTC).date()
        with self.database.read() as connection:
            rows = studies.all_studies(connection)
        found = []
        # A party knows one study of maybe hundreds: no other is parsed for it.
        for row in (one for one in rows if caller.knows(one.id)):
            study = RegisteredStudy.of(row)
            try:
                check(caller, Action.READ_STUDY, study, study_id=row.id, today=today)
            except (NotAllowed, NotFound):
                continue
            found.append(_listed(row, study))
        return found

    def state(self, grant: Grant) -> StudyState:
        """Return the study and each uploader's newest complete dataset version."""
        return self._state(grant.study, viewer=None if grant.is_admin else grant.viewer)

    def _state(self, study: RegisteredStudy, *, viewer: str | None) -> StudyState:
        header = study.config.study
        with self.database.read() as connection:
            newest = studies.newest_numbers(connection, study.id)
            away = access.suspended(connection, study.id)
            # Of a party with all that tokenize for it: once, not once for each of them.
            usages = {
                party.id: usage_of(connection, self.home.config.limits, study, party.id)
                for party in study.config.party
                if viewer in (None, party.id, *party.contributors)
            }
            parties = tuple(
                _uploader_state(connection, study, uploader, viewer, newest, away, usages)
                for uploader in study.config.uploaders
            )
            notice = studies.find_deactivation(connection, study.id, header.epoch)
            row = studies.find_study(connection, study.id)
        return StudyState(
            study_id=study.id,
            title=header.title,
            study_hash=study.study_hash,
            rehearsal=study.signed.rehearsal,
            release_gate=study.release_gate,
            state=row.state if row else lifecycle.DESTROYED,
            epoch=header.epoch,
            deactivated=Deactivation.model_validate_json(notice).said if notice else None,
            parties=parties,
        )


def _listed(row: studies.StudyRow, study: RegisteredStudy) -> StudyListed:
    header = study.config.study
    return StudyListed(
        study_id=row.id,
        title=header.title,
        state=row.state,
        state_since=row.state_since,
        epoch=header.epoch,
        expires=header.expires.isoformat() if header.expires else None,
        rehearsal=study.signed.rehearsal,
        release_gate=study.release_gate,
        parties=tuple(party.id for party in study.config.party),
    )


def _uploader_state(
    connection: Connection,
    study: RegisteredStudy,
    uploader: str,
    viewer: str | None,
    newest: Mapping[tuple[str, str, int], int],
    away: frozenset[str],
    usages: Mapping[str, Usage],
) -> PartyState:
    party, epoch = study.config.party_of_uploader(uploader), study.config.study.epoch
    here, bad = (newest.get((uploader, one, epoch)) for one in ("complete", "quarantined"))
    older = [n for (who, state, _), n in newest.items() if (who, state) == (uploader, "complete")]
    # How many records another party holds, and what is wrong with them, is no party's business.
    own = viewer in (None, uploader, party.id)
    # Every site asks often, of a study with many: only what is shown is read.
    row = studies.find_dataset(connection, study.id, uploader, here) if own and here else None
    why = studies.find_dataset(connection, study.id, uploader, bad) if own and bad else None
    usage = usages.get(party.id) if own else None
    return PartyState(
        party=party.id,
        uploader=uploader,
        dataset=here,
        records=json.loads(row.manifest)["records"] if row else None,
        outdated=max(older) if older and here is None else None,
        suspended=uploader in away,
        quarantined=bad,
        reason=why.quarantine if why else "",
        bytes_kept=usage.datasets + usage.other if usage else None,
        bytes_allowed=usage.quota if usage else None,
    )
