"""Rows of proposals."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from broker.store.tables import proposal

WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProposalRow:
    """
    A proposal. about: question or release, "" for an ask. body: canonical JSON. begun_at: when
    the party's agent took it up.
    """

    id: str
    study_id: str
    party: str
    person: str
    kind: str
    about: str
    body: str
    made_at: int
    state: str = WAITING
    begun_at: int | None = None
    done_at: int | None = None
    note: str = ""
    result: str = ""


def add(connection: Connection, row: ProposalRow) -> None:
    """Keep a proposal."""
    values = {name: getattr(row, name) for name in row.__dataclass_fields__}
    connection.execute(proposal.insert().values(**values))


def find(connection: Connection, study_id: str, proposal_id: str) -> ProposalRow | None:
    """Return a proposal of a study."""
    p = proposal.c
    wanted = select(proposal).where(p.study_id == study_id, p.id == proposal_id)
    found = connection.execute(wanted).mappings().first()
    return ProposalRow(**found) if found else None


def of_study(connection: Connection, study_id: str, *, waiting: bool = False) -> list[ProposalRow]:
    """Return a study's proposals, oldest first."""
    p = proposal.c
    wanted = select(proposal).where(p.study_id == study_id)
    if waiting:
        wanted = wanted.where(p.state == WAITING)
    ordered = connection.execute(wanted.order_by(p.made_at, p.id)).mappings()
    return [ProposalRow(**row) for row in ordered]


def about(connection: Connection, study_id: str, question_id: str) -> list[ProposalRow]:
    """Return what was proposed about a question or release, and the ask it came of; by time."""
    p = proposal.c
    mine = (p.study_id == study_id) & ((p.about == question_id) | (p.result == question_id))
    ordered = connection.execute(select(proposal).where(mine).order_by(p.made_at, p.id)).mappings()
    return [ProposalRow(**row) for row in ordered]


def asks(
    connection: Connection,
    study_id: str,
    *,
    person: str,
    parties: Collection[str] | None,
    most: int,
) -> list[ProposalRow]:
    """
    Return the newest asks of which no question came, newest first: this person's, and all to these
    parties. parties: None for any.
    """
    p = proposal.c
    wanted = select(proposal).where(p.study_id == study_id, p.kind == "ask", p.result == "")
    if parties is not None:
        wanted = wanted.where((p.person == person) | p.party.in_(parties))
    ordered = wanted.order_by(p.made_at.desc(), p.id).limit(most)
    return [ProposalRow(**row) for row in connection.execute(ordered).mappings()]


def count_since(connection: Connection, study_id: str, person: str, since: int) -> int:
    """Return how many proposals a person has made since then, Unix seconds."""
    p = proposal.c
    mine = (p.study_id == study_id) & (p.person == person) & (p.made_at >= since)
    wanted = select(func.count()).select_from(proposal).where(mine)
    return int(connection.execute(wanted).scalar_one())


def newest(connection: Connection, study_id: str, party: str) -> int:
    """Return when a party's newest proposal was made, 0 where there is none."""
    p = proposal.c
    wanted = select(func.max(p.made_at)).where(p.study_id == study_id, p.party == party)
    return connection.execute(wanted).scalar_one() or 0


def change(connection: Connection, proposal_id: str, **columns: Any) -> None:
    """Set columns of a proposal."""
    connection.execute(update(proposal).where(proposal.c.id == proposal_id).values(**columns))
