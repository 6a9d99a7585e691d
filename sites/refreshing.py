"""
Refresh a saved cohort: join the same question's newer delivery, and tell what changed.

    refreshed = refresh(session, Path("delivery-1"), question_id, Path("delivery-2"))

The newer question is asked, approved and delivered as any other is; nothing here goes around that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkage.cohort.spec import clinical_criteria
from linkage.cohort.spec_words import clinical_in_words
from linkage.errors import Conflict
from sites.cohort.refreshed import changes, shown_figures
from sites.cohort.report_page import page
from sites.cohort.saved import SavedCohort, open_saved
from sites.enclave import Joined, join
from sites.kept_cohorts import remembered
from sites.session import Session

PAGE, FIGURES = "refresh.html", "refresh.json"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The newer cohort, and what changed, as refresh.json holds it."""

    joined: Joined
    told: dict[str, Any]


def check(session: Session, before: SavedCohort, question_id: str) -> None:
    """
    Raises Conflict unless the question is another one that asks the same clinical criteria of the
    same study. Of the imaging criteria the enclave knows nothing; the researcher keeps them alike.
    """
    question = session.broker.question(session.study_id, question_id)
    if before.report["study"] != session.study_id:
        raise Conflict(
            "the earlier cohort is of another study", hint="name a folder joined for this study"
        )
    if before.report["trace"].get("question") == question_id:
        raise Conflict(
            "the earlier cohort is this very question's",
            hint="ask it again, of the newest run: linkage-cohort request; then refresh with that",
        )
    asked = question.clinical and clinical_in_words(clinical_criteria(question.clinical))
    if asked != list(before.report["specification"]["clinical"]):
        raise Conflict(
            "the newer question asks other clinical criteria than the earlier cohort's",
            hint="join it by itself; what differs between two questions is not told",
        )


def refresh(session: Session, folder: Path, question_id: str, out: Path) -> Refreshed:
    """
    Join a newer delivery of a saved cohort into `out`, and write what changed beside it.

    Raises as `check` and `sites.enclave.join`; NotFound where the earlier one was joined elsewhere,
    DeliveryFaulty where its folder was changed.
    """
    before = open_saved(folder)
    check(session, before, question_id)
    then = remembered(session, before.report["trace"].get("delivery", ""))
    earlier = [*before.report.get("earlier", ()), shown_figures(before.report)]
    joined = join(session, question_id, out, earlier=earlier)
    after = open_saved(out)
    same = same_persons(then, joined.cohort_of, before, after)
    gone = {one for one in then.values() if one in before.persons and one not in same}
    sent = {then[record] for record in joined.cohort_of if record in then}
    told = {
        "version": 1,
        "title": after.report["title"],
        "study": after.report["study"],
        "before": _told(before),
        "after": _told(after),
        **changes(before, after, same, still_sent=len(gone & sent)),
        "rows": _rows(before, after),
    }
    (out / FIGURES).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (out / PAGE).write_text(page("refresh.html.j2", found=told), encoding="utf-8")
    return Refreshed(joined, told)


def same_persons(
    then: Mapping[str, str],
    now: Mapping[str, str],
    before: SavedCohort,
    after: SavedCohort,
) -> dict[str, str]:
    """
    Return cohort ID after by cohort ID before, of persons who have a record of the enclave in
    common. A person who was split or merged since is followed by the smallest record id.
    """
    same: dict[str, str] = {}
    for record in sorted(set(then) & set(now)):
        old, new = then[record], now[record]
        known = old in before.persons and new in after.persons
        if known and old not in same and new not in same.values():
            same[old] = new
    return same


def _told(cohort: SavedCohort) -> dict[str, Any]:
    report = cohort.report
    names = ("made_at", "persons", "studies", "series", "trace")
    return {name: report[name] for name in names}


def _rows(before: SavedCohort, after: SavedCohort) -> list[dict[str, Any]]:
    """Return rows by table, as both reports show them."""
    then = {one["table"]: one["rows"] for one in before.report["tables"]}
    return [
        {"table": one["table"], "before": then.get(one["table"]), "after": one["rows"]}
        for one in after.report["tables"]
    ]
