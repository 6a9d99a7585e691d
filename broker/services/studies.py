"""Studies: registering what a custodian signed, and saying how far each party is."""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import dataclass

from broker import audit
from broker.config import Home
from broker.policy import ADMIN, Action, Caller, Grant, check
from broker.registered import RegisteredStudy
from broker.store import studies
from broker.store.engine import Database
from linkage.errors import Conflict, NotAllowed, PackageRefused, StudyRefused
from linkage.messages import BROKER, PartyState, StudyState
from linkage.signed_study import SignedStudy


@dataclass(frozen=True, slots=True)
class Studies:
    """The studies of this broker."""

    database: Database
    home: Home

    def grant(
        self, caller: Caller, action: Action, *, study_id: str | None, party: str | None
    ) -> Grant:
        """Look up the study and pass everything to the policy. The only way to a grant."""
        row = None
        if study_id is not None:
            with self.database.read() as connection:
                row = studies.find_study(connection, study_id)
        registered = RegisteredStudy.of(row) if row else None
        today = dt.datetime.now(dt.UTC).date()
        return check(caller, action, registered, study_id=study_id, party=party, today=today)

    def register(
        self, actor: str, signed: SignedStudy, *, custodian_fingerprint: str | None
    ) -> tuple[StudyState, bool]:
        """
        Take a signed study; return its state, and whether it is new. The same study twice is one.

        Raises StudyRefused or PackageRefused where it does not hold, names another broker or
        custodian; NotAllowed for a rehearsal on a broker of record; Conflict where another
        signed study has its id.
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
                hint="ask the custodian by telephone and pass custodian_fingerprint",
            )
        if signed.pin(BROKER) != self.home.public():
            raise PackageRefused(
                "the signed study names another broker's keys",
                hint="send the custodian this broker's public.json, compare fingerprints",
            )
        if config.study.id == ADMIN:
            raise StudyRefused(
                file="signed study",
                line=0,
                key="study.id",
                rule="the name 'admin' is taken by the broker's admins",
                hint="choose another study id",
            )
        return self._add(actor, signed, config.study.id)

    def _add(self, actor: str, signed: SignedStudy, study_id: str) -> tuple[StudyState, bool]:
        made = studies.StudyRow(
            id=study_id,
            study_hash=signed.study_hash,
            signed=signed.model_dump_json(),
            registered_at=int(time.time()),
        )
        with self.database.change() as connection:
            found = studies.find_study(connection, study_id)
            if found and found.study_hash != made.study_hash:
                raise Conflict(
                    "another signed study has this id",
                    hint="give the changed study a new id; encodings of the two never compare",
                )
            if not found:
                studies.add_study(connection, made)
                audit.record(
                    connection,
                    actor=actor,
                    action="study registered",
                    study_id=study_id,
                    detail={"study_hash": made.study_hash},
                )
        return self._state(RegisteredStudy.of(made), viewer=None), found is None

    def state(self, grant: Grant) -> StudyState:
        """Return the study and each party's newest complete dataset version."""
        return self._state(grant.study, viewer=None if grant.is_admin else grant.party)

    def _state(self, study: RegisteredStudy, *, viewer: str | None) -> StudyState:
        parties = []
        with self.database.read() as connection:
            for party in study.config.party:
                row = studies.newest_dataset(connection, study.id, party.id, state="complete")
                # How many records another party holds is no party's business.
                shown = row is not None and viewer in (None, party.id)
                parties.append(
                    PartyState(
                        party=party.id,
                        dataset=row.number if row else None,
                        records=json.loads(row.manifest)["records"] if row and shown else None,
                    )
                )
        return StudyState(
            study_id=study.id,
            title=study.config.study.title,
            study_hash=study.study_hash,
            rehearsal=study.signed.rehearsal,
            parties=tuple(parties),
        )
