"""
What a record's missing fields cost: which CLKs and match keys it can make, and whom it can reach.

    able = Ability(study, party)
    able.add(columns, groups)          # batch after batch
    able.overall.count(evidence)

A record can make a CLK if `min_fields` of its fields are present, and a match key if all of the
rule's are. What else decides, later: a match key that two people of the dataset share is left out
by the tokenizer, and evidence that both parties can make links only people that both hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from linkage.encoding.columns import Coded
from linkage.encoding.fields import apply
from linkage.study import Party, StudyConfig, parse_field

GROUPS = 200
"""Different values that a subgroup column may have; with more it is no grouping of people."""

_NEVER_EMPTY = frozenset("initial sound year month day year_month month_day last4 last7".split())
"""Transforms that leave something of every value: whether a record has one need not be tried."""

_FIELD_BIT = 48
"""A mask's bits below are for evidence: a study has at most 8 CLKs and 40 match keys."""

Masks = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    One CLK or match key of this party. bit: its place in a record's mask. needs: fields and
    transforms of which a record needs `least`. shared: the other parties that make it as well.
    """

    id: str
    kind: str
    bit: int
    needs: tuple[str, ...]
    least: int
    shared: tuple[str, ...]

    @property
    def mask(self) -> int:
        """This evidence alone, as a mask."""
        return 1 << self.bit


def evidence_of(study: StudyConfig, party: Party) -> tuple[Evidence, ...]:
    """Return the CLKs, then the match keys of `party`, in the order of the study file."""
    others = [one for one in study.party if one.id != party.id]
    made: list[Evidence] = []
    for clk in study.clks_of(party):
        refs = tuple(one.field for one in clk.fields)
        also = tuple(one.id for one in others if clk in study.clks_of(one))
        made.append(Evidence(clk.id, "clk", len(made), refs, clk.min_fields, also))
    for rule in study.rules_of(party):
        also = tuple(one.id for one in others if rule in study.rules_of(one))
        made.append(Evidence(rule.id, "match_key", len(made), rule.fields, len(rule.fields), also))
    return tuple(made)


@dataclass(slots=True)
class Masked:
    """Records by mask: a bit for each evidence that they can make, and each field they have."""

    by_mask: Counter[int] = field(default_factory=Counter)

    @property
    def records(self) -> int:
        """All records."""
        return self.by_mask.total()

    def having(self, wanted: int) -> int:
        """Return how many records can make any of the evidence in the mask `wanted`."""
        return sum(n for mask, n in self.by_mask.items() if mask & wanted)

    def by_number(self, wanted: int) -> tuple[int, int, int]:
        """Return how many records can make none, one or two, three or more of `wanted`."""
        found = [0, 0, 0]
        for mask, n in self.by_mask.items():
            number = (mask & wanted).bit_count()
            found[0 if not number else 1 if number < 3 else 2] += n
        return found[0], found[1], found[2]


class Ability:
    """
    Counts records by the evidence that they can make: overall, and in each group of people.

    dimensions: by name ("sex", "race"), by group, what was counted; a dimension with more than
    GROUPS groups is dropped into `too_many`.
    """

    def __init__(self, study: StudyConfig, party: Party) -> None:
        self.evidence = evidence_of(study, party)
        self.fields = party.fields
        self._refs = sorted({ref for one in self.evidence for ref in one.needs})
        self.overall = Masked()
        self.dimensions: dict[str, dict[str, Masked]] = {}
        self.too_many: set[str] = set()

    def mask(self, kind: str = "", party: str = "") -> int:
        """Return the mask of all evidence of a kind that `party` makes as well; "": of any."""
        return sum(
            one.mask
            for one in self.evidence
            if kind in ("", one.kind) and (not party or party in one.shared)
        )

    def field_mask(self, field: str) -> int:
        """Return the mask of having a value of one of the party's fields."""
        return 1 << (_FIELD_BIT + self.fields.index(field))

    def add(self, columns: Mapping[str, Coded], groups: Mapping[str, Coded]) -> None:
        """Add a batch. columns: by field. groups: by dimension, "" where not known."""
        masks, numbers = np.unique(self._masks(columns), return_inverse=True)
        _count(self.overall, masks, np.bincount(numbers, minlength=len(masks)))
        for name, group in groups.items():
            if name not in self.too_many:
                self._add_group(name, group, masks, numbers)

    def _add_group(
        self, name: str, group: Coded, masks: Masks, numbers: npt.NDArray[np.int64]
    ) -> None:
        held = self.dimensions.setdefault(name, {})
        named = Coded.of(group.values)  # several values of a column may be one group
        codes, places = np.unique(named.codes[group.codes], return_inverse=True)
        table = np.bincount(
            places * len(masks) + numbers, minlength=len(codes) * len(masks)
        ).reshape(len(codes), len(masks))
        for code, row in zip(codes.tolist(), table, strict=True):
            _count(held.setdefault(named.values[code], Masked()), masks, row)
        if len(held) > GROUPS:
            self.too_many.add(name)
            del self.dimensions[name]

    def _masks(self, columns: Mapping[str, Coded]) -> Masks:
        present = {ref: _present(ref, columns) for ref in self._refs}
        size = len(next(iter(columns.values())))
        made = np.zeros(size, np.uint64)
        for one in self.evidence:
            found = _number(present[ref] for ref in one.needs)
            made |= (found >= one.least).astype(np.uint64) << np.uint64(one.bit)
        for i, name in enumerate(self.fields):
            made |= columns[name].present().astype(np.uint64) << np.uint64(_FIELD_BIT + i)
        return made


def _present(ref: str, columns: Mapping[str, Coded]) -> npt.NDArray[np.bool_]:
    field, transform = parse_field(ref)
    column = columns[field]
    whole = not transform or transform.isdigit() or transform in _NEVER_EMPTY
    return (column if whole else apply(ref, column)).present()


def _count(into: Masked, masks: Masks, counts: npt.NDArray[np.int64]) -> None:
    for mask, count in zip(masks.tolist(), counts.tolist(), strict=True):
        if count:
            into.by_mask[mask] += count


def _number(present: Iterable[npt.NDArray[np.bool_]]) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.sum(np.stack(list(present)), axis=0, dtype=np.int64)
    return found
