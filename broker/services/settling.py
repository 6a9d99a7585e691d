"""
What a party must have signed before the broker believes it of a proposal: for who has the party's
access token and not its key could otherwise hold back what a steward decided, or tell her that it
was sent, and it never was.
"""

from __future__ import annotations

from collections.abc import Collection

from broker.registered import RegisteredStudy
from broker.store import jobs
from broker.store.engine import Connection
from broker.store.proposals import ProposalRow
from linkage.errors import Conflict, PackageRefused
from linkage.proposal_messages import Body, ProposalSaid


def require_said(
    study: RegisteredStudy,
    party: str,
    proposal_id: str,
    said: ProposalSaid,
    states: Collection[str],
) -> None:
    """Raises PackageRefused unless the party signed just this, of this proposal."""
    said.verify(study.pin(party))
    named = (said.study_id, said.party, said.proposal_id)
    if named != (study.id, party, proposal_id) or said.state not in states:
        raise PackageRefused(
            "what was signed is of another proposal, or another step of it",
            hint="sign what is sent here: linkage-site agent of this software does",
        )


def require_signed(connection: Connection, row: ProposalRow, body: Body) -> None:
    """
    Raises Conflict where a decision or consent was proposed and the party's signed one is not here:
    the same, or another that came since it was proposed.
    """
    decision = getattr(body, "decision", "")
    if not decision:
        return
    found = jobs.decision_of(connection, row.about, row.party)
    if found is None or (found[0] != decision and found[1] < row.made_at):
        raise Conflict(
            "the party's signed decision is not here",
            hint="sign and send it at the site, with `linkage-cohort` or `linkage-site release`",
        )
