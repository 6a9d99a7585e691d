"""
How the persons of a delivery were linked, as far as the broker told this enclave.

The evidence of each link comes with a release of the delivery's run that has methods and every
steward's consent; the class of the run's estimated precision with any release of it. Without one
the report says what is missing and whom to ask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.release_messages import ReleaseState
from sites.cohort.report_links import LinkQuality
from sites.crosswalk import fetch
from sites.releases import own
from sites.session import Session

_NONE = (
    "How good the linkage is was not told: the broker's admin makes a release of run {run} to this"
    " enclave (`linkage-broker release start`)"
)
_NO_METHODS = (
    "On which evidence each person was linked was not told: no release of this run has methods,"
    " which the signed study and every steward must allow"
)


def link_quality_of(session: Session, run_id: str, cohort_of: Mapping[str, str]) -> LinkQuality:
    """
    Return what this enclave knows of how a delivery's persons were linked.

    cohort_of: cohort ID by record id. Never raises for what was not told: it is then said.
    """
    made = [
        one
        for one in own(session)
        if one.terms.run_id == run_id
        and one.state == "done"
        and not one.affected
        and session.party in one.terms.audience
    ]
    if not made:
        return LinkQuality(why_not=_NONE.format(run=run_id))
    newest = max(made, key=lambda one: (one.terms.methods, one.made_at or 0, one.release_id))
    known = LinkQuality(release=newest.release_id, precision=newest.precision, recall=newest.recall)
    if not newest.terms.methods:
        return _with(known, {}, _NO_METHODS)
    try:
        return _with(known, _evidence(session, newest, cohort_of), "")
    except (NotFound, Conflict, PackageRefused) as fault:
        why = f"On which evidence each was linked cannot be said: {fault.message}"
        return _with(known, {}, why)


def _with(known: LinkQuality, evidence: Mapping[str, tuple[str, ...]], why_not: str) -> LinkQuality:
    return LinkQuality(
        release=known.release,
        precision=known.precision,
        recall=known.recall,
        evidence=evidence,
        why_not=why_not,
    )


def _evidence(
    session: Session, state: ReleaseState, cohort_of: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return "method: tier" of the links of each cohort ID, through the records both name."""
    fetched = fetch(session, state.release_id, pinned=True, methods=True)
    kinds: dict[str, set[str]] = defaultdict(set)
    for one, method, tier, _ in fetched.methods:
        kinds[one].add(f"{method}: {tier}")
    found: dict[str, set[str]] = defaultdict(set)
    for record_id, cohort_id in cohort_of.items():
        found[cohort_id] |= kinds.get(fetched.ids.get(record_id, ""), set())
    return {cohort_id: tuple(sorted(some)) for cohort_id, some in found.items()}
