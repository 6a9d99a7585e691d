"""
What reviewers decided about pairs in doubt, as evidence of a later run.

    known = Reviewed.of(decisions, pseudonyms, groups)
    weights = weigh(shapes, chunks, looks=over(looked, known.weights))
    known.contradictions(entities)                    once solved

The log odds of a decision take the place of the pair's own: reviewers saw what a second look saw
of it, so both together would count that twice. They are bounded (linkage.review.MOST_RATIO), and
all else goes before them: a record is still linked to one record of a party at most, and what two
sites assert stands (docs/adr/0019). Of several decisions about one pair the newest counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linkage.matching.asserted import first_rows
from linkage.matching.looked_at import LookedAt, LookWeights
from linkage.matching.solve import Entities, Groups
from linkage.records import Bytes2D

MOST_TOLD = 100
"""Contradictions that a report names; it counts them all."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decided pair in doubt. parties: in sorted order. name: "review/case", for reports."""

    name: str
    parties: tuple[str, str]
    pseudonyms: tuple[bytes, bytes]
    log_odds: float


@dataclass(frozen=True, slots=True)
class _Known:
    """A decision about the rows of a run's datasets."""

    name: str
    parties: tuple[str, str]
    left: int
    right: int
    log_odds: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reviewed:
    """The decisions that are about records of a run. unknown: those of other records."""

    known: tuple[_Known, ...]
    unknown: int

    @classmethod
    def of(
        cls,
        decisions: Sequence[Decision],
        pseudonyms: Mapping[str, Bytes2D],
        groups: Mapping[str, Groups],
    ) -> Reviewed:
        """
        Find the records of the decisions, oldest first, in the datasets of a run.

        A record that its site has since grouped with others stands for its group.
        """
        newest: dict[tuple[tuple[str, str], int, int], _Known] = {}
        unknown = 0
        rows = _rows(decisions, pseudonyms, groups)
        for one in decisions:
            left, right = (
                rows.get((party, name), -1)
                for party, name in zip(one.parties, one.pseudonyms, strict=True)
            )
            if min(left, right) < 0:
                unknown += 1
            else:
                newest[one.parties, left, right] = _Known(
                    one.name, one.parties, left, right, one.log_odds
                )
        return cls(tuple(newest.values()), unknown)

    @property
    def weights(self) -> LookWeights:
        """What takes the place of the pairs' own weights."""
        found: dict[tuple[str, str], LookedAt] = {}
        for parties in sorted({one.parties for one in self.known}):
            mine = [one for one in self.known if one.parties == parties]
            found[parties] = LookedAt(
                np.array([one.left for one in mine], np.uint32),
                np.array([one.right for one in mine], np.uint32),
                np.array([one.log_odds for one in mine], np.float64),
            )
        return LookWeights(found)

    def report(self, entities: Entities) -> dict[str, Any]:
        """Return what an admin may know: counts, and the cases that the result contradicts."""
        against = self.contradictions(entities)
        return {
            "pairs": len(self.known),
            "same": sum(one.log_odds > 0 for one in self.known),
            "different": sum(one.log_odds < 0 for one in self.known),
            "unknown_records": self.unknown,
            "contradictions": len(against),
            "contradicting": against[:MOST_TOLD],
        }

    def contradictions(self, entities: Entities) -> list[dict[str, Any]]:
        """
        Return what cannot stand together: two decisions about one record, or decision and result.
        """
        found = []
        by_record: dict[tuple[str, int, str], list[str]] = {}
        for one in self.known:
            first, second = one.parties
            if one.log_odds > 0:
                by_record.setdefault((first, one.left, second), []).append(one.name)
                by_record.setdefault((second, one.right, first), []).append(one.name)
        for names in by_record.values():
            if len(names) > 1:
                why = "one record is taken for two people of one dataset"
                found.append({"why": why, "cases": sorted(names)})
        for one in self.known:
            same = entities.of[one.parties[0]][one.left] == entities.of[one.parties[1]][one.right]
            if same != (one.log_odds > 0):
                held = "one person" if same else "two people"
                found.append({"why": f"other evidence makes them {held}", "cases": [one.name]})
        return found


def over(looked: LookWeights | None, reviewed: LookWeights) -> LookWeights | None:
    """Return both weights; reviewers stand over a look that compared the same pair."""
    if not reviewed.comparisons:
        return looked
    made = dict(looked.comparisons) if looked else {}
    for parties, new in reviewed.comparisons.items():
        old = made.get(parties)
        if old is None:
            made[parties] = new
            continue
        taken = set(zip(new.left.tolist(), new.right.tolist(), strict=True))
        kept = np.array(
            [pair not in taken for pair in zip(old.left.tolist(), old.right.tolist(), strict=True)],
            np.bool_,
        )
        made[parties] = LookedAt(
            np.concatenate([old.left[kept], new.left]),
            np.concatenate([old.right[kept], new.right]),
            np.concatenate([old.log_weight[kept], new.log_weight]),
            no_more=np.concatenate([old.no_more[kept], new.no_more]),
        )
    return LookWeights(made)


def _rows(
    decisions: Sequence[Decision],
    pseudonyms: Mapping[str, Bytes2D],
    groups: Mapping[str, Groups],
) -> dict[tuple[str, bytes], int]:
    """Return the row of every record that is decided about, by party and pseudonym."""
    wanted: dict[str, list[bytes]] = {}
    for one in decisions:
        for party, name in zip(one.parties, one.pseudonyms, strict=True):
            if party in pseudonyms:
                wanted.setdefault(party, []).append(name)
    found: dict[tuple[str, bytes], int] = {}
    for party, names in wanted.items():
        matrix = np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)
        rows = first_rows(matrix, pseudonyms[party], groups[party]).tolist()
        found.update(zip(((party, name) for name in names), rows, strict=True))
    return found


def decisions_to_json(decisions: Sequence[Decision]) -> bytes:
    """Return the decisions, to be sealed."""
    plain = [
        {
            "name": one.name,
            "parties": one.parties,
            "pseudonyms": [name.hex() for name in one.pseudonyms],
            "log_odds": one.log_odds,
        }
        for one in decisions
    ]
    return json.dumps(plain).encode()


def decisions_from_json(data: bytes) -> list[Decision]:
    """Read what `decisions_to_json` wrote."""
    return [
        Decision(
            one["name"],
            (one["parties"][0], one["parties"][1]),
            (bytes.fromhex(one["pseudonyms"][0]), bytes.fromhex(one["pseudonyms"][1])),
            one["log_odds"],
        )
        for one in json.loads(data)
    ]
