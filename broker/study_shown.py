"""What `linkage-broker study show` tells of a study: its life, its agreements, its clocks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.store import governance, studies
from linkage.errors import NotFound


def shown(broker: Broker, study_id: str) -> dict[str, Any]:
    """Return the study for a program. Raises NotFound."""
    with broker.database.read() as connection:
        row = studies.find_study(connection, study_id)
        opt_outs = governance.newest_opt_outs(connection, study_id)
    if row is None:
        raise NotFound("there is no such study here", hint="linkage-broker study list")
    study = RegisteredStudy.of(row)
    config, agreed = study.config, study.config.agreed
    confirmed = broker.lifecycle.confirmations(study_id)
    return {
        "study_id": study_id,
        "title": config.study.title,
        "state": row.state,
        "since": _moment(row.state_since),
        "epoch": config.study.epoch,
        "study_hash": row.study_hash,
        "release_gate": study.release_gate,
        "rehearsal": study.signed.rehearsal,
        "confirmed": {one.party: _moment(one.confirmed_at) for one in confirmed.parties},
        "last_days": {p.id: _text(config.last_day(p.id)) for p in config.party},
        "participation": {
            purpose: {party: list(agreed.features(party, purpose)) for party in agreed.parties}
            for purpose in agreed.purposes
        },
        "opt_out_lists": opt_outs,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return the study for people."""
    since = f" since {found['since']}" if found["since"] else ""
    waiting = [party for party, at in found["confirmed"].items() if at is None]
    made = [
        f"{found['study_id']}: {found['title']}",
        f"  state         {found['state']}{since}",
        f"  epoch         {found['epoch']}",
        f"  study hash    {found['study_hash']}",
        f"  release gate  {found['release_gate']}",
    ]
    if found["rehearsal"]:
        made.append("  REHEARSAL     nobody has to confirm it")
    for party, at in found["confirmed"].items():
        last = found["last_days"][party]
        until = f"; last day {last}" if last else ""
        made.append(f"  {party}: {'confirmed ' + at if at else 'has not confirmed'}{until}")
    for purpose, parties in found["participation"].items():
        for party, features in parties.items():
            made.append(f"  {purpose}: {party} takes part in {', '.join(features) or 'nothing'}")
    for uploader, number in found["opt_out_lists"].items():
        made.append(f"  {uploader} has opted records out: list {number}")
    if waiting and found["state"] == "draft":
        made.append(f"  It opens when these have run `linkage-site confirm`: {', '.join(waiting)}")
    return made


def _moment(at: int | None) -> str | None:
    return None if at is None else f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M} UTC"


def _text(day: dt.date | None) -> str | None:
    return None if day is None else day.isoformat()
