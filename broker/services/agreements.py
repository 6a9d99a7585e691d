"""
What the parties agreed to, at the moment it is used: is the study in use, has nobody's last day
passed, and does every party take part in this feature for this purpose?

Asked when something is requested, and again by the worker before each step of a run and before a
release is made: agreements end by themselves, also for what is under way. `today` is UTC; a day is
over at its midnight.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping

from broker.registered import RegisteredStudy
from broker.services import lifecycle
from broker.store import runs, studies
from broker.store.engine import Connection
from linkage.errors import Conflict, NotAllowed
from linkage.participation import Feature
from linkage.study import StudyConfig

Today = Callable[[], dt.date]


def utc_today() -> dt.date:
    """Return the day it is, UTC."""
    return dt.datetime.now(dt.UTC).date()


def require(
    config: StudyConfig,
    feature: Feature,
    purpose: str,
    parties: Iterable[str],
    *,
    today: dt.date,
) -> None:
    """
    Raises NotAllowed, naming them, where parties take no part in the feature for the purpose, or
    their agreement or the study's is over.
    """
    wanted = sorted(set(parties))
    config.agreed.require(wanted, feature, purpose)
    require_in_force(config, wanted, today=today)


def require_in_force(config: StudyConfig, parties: Iterable[str], *, today: dt.date) -> None:
    """Raises NotAllowed, naming them, where the agreement of parties, or the study's, is over."""
    wanted = sorted(set(parties))
    over = {party: last for party in wanted if (last := _ended(config, party, today))}
    if over:
        said = ", ".join(f"{party} ({last})" for party, last in over.items())
        raise NotAllowed(
            f"the agreement has ended; its last day was: {said}",
            hint="agree anew, and have the custodian sign a study file with a later day",
        )


def linkable(
    config: StudyConfig, purpose: str, *, today: dt.date
) -> tuple[tuple[str, ...], dict[str, str]]:
    """
    Return who may upload into a run for this purpose, in file order, and by uploader why the others
    are left out, which nobody has to allow: they agreed to nothing else.
    """
    found: list[str] = []
    left: dict[str, str] = {}
    for uploader in config.uploaders:
        party = config.party_of_uploader(uploader).id
        if not config.agreed.takes_part(party, "linkage", purpose):
            left[uploader] = f"takes no part in linkage for {purpose!r}"
        elif last := _ended(config, party, today):
            left[uploader] = f"its last day was {last}"
        else:
            found.append(uploader)
    return tuple(found), left


def require_run(connection: Connection, row: runs.RunRow, *, today: dt.date) -> None:
    """
    Raises Conflict where a run may not go on: its study was closed or destroyed, or the agreement
    of a party in it has ended. It is judged by the newest signed study, which every party of the
    run's epoch had confirmed or has replaced.
    """
    found = lifecycle.require(connection, row.study_id, *lifecycle.IN_USE, lifecycle.DRAFT)
    config = RegisteredStudy.of(found).config
    try:
        require(config, "linkage", row.purpose, parties_of(config, row), today=today)
    except NotAllowed as error:
        raise Conflict(
            f"while the run was under way {error.message}"
            if error.message.startswith("the agreement")
            else error.message,
            hint=f"start another run, which leaves them out by itself; or {error.hint}",
        ) from None


def parties_of(config: StudyConfig, row: runs.RunRow) -> set[str]:
    """Return whose records are in a run; who has left the study since is none of its parties."""
    inputs: Mapping[str, int] = json.loads(row.inputs)
    return {
        party.id
        for party in config.party
        if any(uploader in inputs for uploader in config.uploaders_of(party))
    }


def _ended(config: StudyConfig, party: str, today: dt.date) -> dt.date | None:
    """Return the last day of a party's agreement where it is over."""
    last = config.last_day(party)
    return last if last is not None and today > last else None


def ended_runs(connection: Connection, *, today: dt.date) -> dict[str, str]:
    """Return by run under way why it may not go on: cause and remedy."""
    found: dict[str, str] = {}
    for run_id in runs.unfinished(connection):
        row = runs.find(connection, run_id)
        if row is None or studies.find_study(connection, row.study_id) is None:
            continue
        try:
            require_run(connection, row, today=today)
        except Conflict as error:
            found[run_id] = str(error)
    return found
