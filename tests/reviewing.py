"""Reviews put in place as rows, of as many pairs as a test wants to look at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from broker.store import reviews
from broker.store.engine import Connection
from broker.store.reviews import CaseRow, DecisionRow, ReviewRow

AGREEMENTS = ("equal", "similar", "different", "missing")
ANSWERS = ("same", "different", "unsure")


def put_review(
    connection: Connection,
    row: ReviewRow,
    *,
    parties: tuple[str, str],
    fields: Sequence[str],
    pairs: int,
    readings: Iterable[tuple[int, int, str]],
) -> None:
    """
    Add a review of `pairs` pairs whose agreements and answers are drawn, the same each time.

    readings: of the answers, the number of the pair, 1 for the first reading or 2, and who read.
    """
    drawn = np.random.default_rng(8)
    cases = [
        CaseRow(
            run_id=row.run_id,
            case_id=f"{number:032x}",
            one=parties[0],
            other=parties[1],
            fields=json.dumps({name: str(drawn.choice(AGREEMENTS)) for name in fields}),
        )
        for number in range(pairs)
    ]
    reviews.add(connection, row)
    reviews.add_cases(connection, cases)
    for number, reading, who in readings:
        decision = DecisionRow(
            run_id=row.run_id,
            case_id=cases[number].case_id,
            reading=reading,
            reviewer=f"person/{who}",
            answer=str(drawn.choice(ANSWERS)),
            decided_at=row.opened_at,
        )
        reviews.add_decision(connection, decision)
