"""What came of a tokenization: figures for the operator, no value and no record id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linkage.schema import DENSITY
from sites.exchanged import Given, exchanged_warning

_MOSTLY = 0.5
"""Share of records in no named group, above which the groups are rather read wrongly."""


@dataclass(frozen=True, slots=True)
class TokenizeSummary:
    """
    What an operator needs to see; counts only.

    why: by field, how many values are missing, placeholders, invalid or repaired, by reason.
    no_key: by rule, records without that match key. density: by CLK, of set bits, before diffusion.
    left_out: records left out, by field and rule. same_as: an earlier dataset version that was
    made of exactly the same input, 0 if none. resumed: batches an interrupted run had made.
    base: the version that this one is a delta to, 0 where it is complete; added, changed, removed:
    records that differ from the version before, None where there is none to compare with. names: of
    first and last names, how many are usual first names. rest: by variable that records are marked
    by, how many are in no group that the study names. read_otherwise: marks of before were
    drawn of groups that the site file read in another way, and stay.
    """

    dataset: int
    records: int
    groups: int
    parts: int
    why: dict[str, dict[str, int]]
    no_key: dict[str, int]
    density: dict[str, float]
    left_out: dict[tuple[str, str], int]
    package: Path
    same_as: int = 0
    resumed: int = 0
    base: int = 0
    added: int | None = None
    changed: int | None = None
    removed: int | None = None
    notes: tuple[str, ...] = ()
    names: dict[str, Given] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)
    read_otherwise: bool = False

    @property
    def nulled(self) -> dict[str, int]:
        """By field, how many records have no usable value; fields that all have are left out."""
        counts = {
            field: sum(n for text, n in why.items() if not text.startswith("repaired"))
            for field, why in self.why.items()
        }
        return {field: n for field, n in counts.items() if n}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be looked at before the package is sent."""
        low, high = DENSITY
        said = [*exchanged_warning(self.names)]
        for variable, count in self.rest.items():
            if count > _MOSTLY * self.records:
                said.append(
                    f"{count:,} of the records are in no group of {variable!r} that the study"
                    f" names: check [source.subgroups] and [strata.names.{variable}]; marks are"
                    " kept, so before the first submit remove kept/strata and tokenize again"
                )
        if self.read_otherwise:
            said.append(
                "marks drawn before [source.subgroups] or [strata] was changed stay as they were"
                " and are sent: before the first submit remove kept/strata and tokenize again"
            )
        return *said, *(
            f"CLK {clk!r} sets {share:.1%} of its bits, where {low:.0%} to {high:.0%} are safe and"
            " the broker takes nothing else: too many of its fields are missing"
            for clk, share in self.density.items()
            if share and not low <= share <= high
        )


@dataclass(slots=True)
class Tally:
    """What the batches add up to."""

    records: int = 0
    why: dict[str, dict[str, int]] = field(default_factory=dict)
    no_key: dict[str, dict[str, int]] = field(default_factory=dict)
    bits_set: dict[str, int] = field(default_factory=dict)
    with_clk: dict[str, int] = field(default_factory=dict)
    first_invalid: dict[str, int] = field(default_factory=dict)
    names: dict[str, Given] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)

    def add(self, facts: Mapping[str, Any]) -> None:
        self.records += facts["rows"]
        self.count(facts)
        for variable, number in facts.get("rest", {}).items():
            self.rest[variable] = self.rest.get(variable, 0) + number
        for name, found in facts["names"].items():
            self.names[name] = self.names.get(name, Given()) + Given(**found)
        for name, number in facts["first_invalid"].items():
            self.first_invalid[name] = min(number, self.first_invalid.get(name, number))

    def count(self, facts: Mapping[str, Any]) -> None:
        """Add counts of CLKs, keys and values, where facts have them; they may be negative."""
        for total, name in ((self.why, "why"), (self.no_key, "no_key")):
            for one, counts in facts.get(name, {}).items():
                kept = total.setdefault(one, {})
                for reason, count in counts.items():
                    kept[reason] = kept.get(reason, 0) + count
                    if not kept[reason]:
                        del kept[reason]
        for sums, name in ((self.bits_set, "bits_set"), (self.with_clk, "with_clk")):
            for one, count in facts.get(name, {}).items():
                sums[one] = sums.get(one, 0) + count
