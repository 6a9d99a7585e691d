"""
Do the terms of this commons allow the use that a question declares?

    require_terms(session, question.use)

The site file says it, as [imaging.use] and [omop.use]: without the text `commercial` there, use for
profit is not allowed. Asked whenever this party says yes, answers, counts, sends rows or joins.
"""

from __future__ import annotations

from linkage.errors import NotAllowed
from linkage.uses import NON_COMMERCIAL, Use
from sites.cohort.notices import UseNotice
from sites.session import Session


def terms_allow(session: Session, use: Use) -> bool:
    """Do this party's own terms allow this use? One without data to answer from has none."""
    tables = [one for one in (session.site.imaging, session.site.omop) if one is not None]
    return use == NON_COMMERCIAL or all(allows(one.use, use) for one in tables)


def allows(notice: UseNotice | None, use: Use) -> bool:
    """Does a commons with these terms allow this use? Without terms: not for profit only."""
    return use == NON_COMMERCIAL or (notice is not None and notice.commercial is not None)


def require_terms(session: Session, use: Use) -> None:
    """Raises NotAllowed where the terms of this party do not allow the use."""
    if not terms_allow(session, use):
        raise refused(session.party, use)


def refused(party: str, use: Use) -> NotAllowed:
    """Return the refusal of a use that the terms of a commons do not allow."""
    return NotAllowed(
        f"the terms of {party!r} do not allow {use} use, for which the question asks",
        hint='ask for use = "non-commercial" in [cohort], or agree with this commons first; it'
        " then writes what such use is bound to into its site file: commercial, in [imaging.use]"
        " or [omop.use]",
    )
