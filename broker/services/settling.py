"""
What must be here before a proposal counts as done: for who has a party's access token and not its
key could otherwise tell a steward that her decision was sent, and it never was.
"""

from __future__ import annotations

from broker.store import jobs
from broker.store.engine import Connection
from broker.store.proposals import ProposalRow
from linkage.errors import Conflict
from linkage.proposal_messages import Body


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
