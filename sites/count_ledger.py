"""The enclave's ledger of counts: where it lies, and what it lists for the data manager."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sites.cohort.ledger import Ledger
from sites.cohort.shown_sets import SMALL
from sites.session import Session

PURPOSE = "counts"


def ledger_of(session: Session) -> Ledger:
    """
    Return the study's ledger in this site's private folder.

    Its key comes of the contributor's secret, so the same persons read the same in every epoch.
    """
    study = session.signed.study
    return Ledger(
        session.vault,
        session.vault.secret().derive(PURPOSE),
        study.counts,
        minimum=study.study.minimum_cell,
        epoch=study.study.epoch,
    )


def small_answers(ledger: Ledger, *, but: str = "") -> int:
    """
    Return how many questions of this epoch were answered with a small number: a step, or the
    persons, of fewer than ten minimum cells. but: a question that does not count.

    Counted by what was shown, never by who is in a set: a limit that only the target's presence
    reaches would tell of the target.
    """
    small = SMALL * ledger.minimum
    found = 0
    for one in ledger.entries():
        told = [one.answer["persons"], *(shown for _, shown in one.answer["attrition"])]
        shown = any(isinstance(value, int) and 0 < value < small for value in told)
        found += shown and one.epoch == ledger.epoch and one.question != but and not one.same_as
    return found


def listed(ledger: Ledger) -> list[dict[str, Any]]:
    """Return every counted question, oldest first, as it was answered; no exact number."""
    return [
        {
            "question": one.question,
            "counted at": dt.datetime.fromtimestamp(one.at, dt.UTC).isoformat(timespec="seconds"),
            "run": one.run,
            "epoch": one.epoch,
            "persons": one.answer["persons"],
            "answer of": one.same_as or one.question,
        }
        for one in ledger.entries()
    ]
