"""
Which of the enclave's records a delivered cohort holds: kept, encrypted, to refresh it later.

IDs are new in each delivery, so nothing in two folders says who is the same. Only the enclave that
joined them can tell, by its own record ids; they stay in its private folder.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from linkage.errors import NotFound
from sites.session import Session


def remember(
    session: Session, delivery_id: str, cohort_of: Mapping[str, str], delivered: Collection[str]
) -> None:
    """Keep who is in a delivery. cohort_of: cohort ID by record id; delivered: the cohort IDs."""
    kept = {record: one for record, one in sorted(cohort_of.items()) if one in set(delivered)}
    session.vault.keep(_name(delivery_id), json.dumps(kept).encode())


def remembered(session: Session, delivery_id: str) -> dict[str, str]:
    """Return cohort ID by record id of a delivery joined here. Raises NotFound for another."""
    content = session.vault.kept(_name(delivery_id)) if delivery_id else None
    if content is None:
        raise NotFound(
            "this site did not join the earlier cohort, or its private folder is another one",
            hint="refresh where the cohort was joined, with the same private folder",
        )
    return dict(json.loads(content))


def _name(delivery_id: str) -> str:
    return f"cohort-{delivery_id}"
