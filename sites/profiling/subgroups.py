"""
Linkability by group of people, told so that no group of one to nine can be read.

    tables = subgroup_tables(ability, others)

Groups of one to nine people are put together without their names, for a name is a value as well;
`cells.protect` then decides what of each table can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sites.profiling.cells import SMALL, Cell, protect, protect_sizes
from sites.profiling.findings import Finding
from sites.profiling.linkability import Ability, Masked
from sites.profiling.words import NO_VALUE, SMALL_GROUPS, cell, count, group_name, percent

BEHIND = 0.05
"""A group whose linkable share is more than this below that of all is warned about."""

NARROW = 0.15
"""A span of shares up to this is read as its middle."""

KEYS = ("none", "one_or_two", "three_or_more")


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a group as it may be told: `low` to `high`, both included, and in words."""

    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Size:
    """A number of people as it may be told: `low` to `high`, both included, and in words."""

    low: int
    high: int
    text: str


@dataclass(frozen=True, slots=True)
class GroupLine:
    """
    One group. records: its size. linkable: by other party, who have
    any evidence that it makes too; keyed: who have a match key of these. clk: who have any CLK.
    match_keys: how many keys they have. each: by CLK and rule, who can make it.
    """

    group: str
    records: Size
    linkable: dict[str, Share]
    keyed: dict[str, Share]
    clk: Share
    match_keys: dict[str, Share]
    each: dict[str, Share]


@dataclass(frozen=True, slots=True)
class SubgroupTable:
    """One dimension ("sex"). note: why it is not told, "" if it is."""

    dimension: str
    groups: tuple[GroupLine, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    size: Cell
    masked: Masked

    @property
    def records(self) -> int:
        return self.masked.records


def subgroup_tables(ability: Ability, others: Sequence[str]) -> tuple[SubgroupTable, ...]:
    """Return one table a dimension, in alphabetical order."""
    names = sorted(ability.dimensions.keys() | ability.too_many)
    return tuple(_table(name, ability, others) for name in names)


def behind(
    tables: Sequence[SubgroupTable], ability: Ability, others: Sequence[str]
) -> Iterator[Finding]:
    """
    Yield a finding for each group and party where the group's share that can be linked, or else
    its share with a match key in common, is more than 5 points below that of all.

    Only what the tables tell decides, so that a warning gives away nothing more.
    """
    for table in tables:
        for line in table.groups:
            if line.group in (NO_VALUE, SMALL_GROUPS):
                continue
            for other in others:
                text = _lag(line, other, ability)
                if text:
                    yield Finding(
                        "subgroup-behind",
                        "fix",
                        "",
                        line.records.low,
                        f"{table.dimension} {line.group}: {text}",
                        _lacking(table.dimension, line.group, ability),
                    )


def _lag(line: GroupLine, other: str, ability: Ability) -> str:
    total = ability.overall.records
    for told, mask, words in (
        (line.linkable[other], ability.mask(party=other), f"can be linked to {other}"),
        (
            line.keyed[other],
            ability.mask("match_key", other),
            f"have a match key in common with {other}",
        ),
    ):
        having = ability.overall.having(mask)
        if having / max(1, total) - _likely(told) > BEHIND:
            return f"{_linkable(told)} {words}, of all records {percent(having, total)}."
    return ""


def _lacking(dimension: str, group: str, ability: Ability) -> str:
    """Return which fields this group lacks more than all do, where many of it lack them."""
    held = ability.dimensions[dimension]
    one = next(one for value, one in held.items() if group_name(dimension, value) == group)
    found = []
    for field in ability.fields:
        mask = ability.field_mask(field)
        lost, of_all = one.records - one.having(mask), ability.overall
        usual = 1 - of_all.having(mask) / max(1, of_all.records)
        if lost >= SMALL and lost / one.records > usual + BEHIND:
            found.append((lost, field))
    if not found:
        return "Results would under-count this group."
    names = ", ".join(field for _, field in sorted(found, reverse=True))
    return f"Missing here more than elsewhere: {names}. Results would under-count this group."


def _likely(told: Share) -> float:
    """Return the middle of a narrow span, the best case of a wide one and of small counts."""
    if "<" in told.text or told.high - told.low > NARROW:
        return told.high
    return (told.low + told.high) / 2


def _linkable(told: Share) -> str:
    return told.text if told.text[0].isdigit() else f"{told.text} records"


def _table(name: str, ability: Ability, others: Sequence[str]) -> SubgroupTable:
    if name in ability.too_many:
        note = "more different values than a grouping of people has; not counted"
        return SubgroupTable(name, (), note)
    groups = _groups(name, ability.dimensions[name])
    if sum(one.records for one in groups) < 2 * SMALL:
        return SubgroupTable(name, (), "fewer than twenty records; not told by group")
    linkable = {other: _either(groups, ability.mask(party=other)) for other in others}
    keyed = {other: _either(groups, ability.mask("match_key", other)) for other in others}
    clk = _either(groups, ability.mask("clk"))
    each = {one.id: _either(groups, one.mask) for one in ability.evidence}
    keys = _shares(groups, lambda one: one.by_number(ability.mask("match_key")))
    lines = tuple(
        GroupLine(
            group=one.name,
            records=Size(one.size.low, one.size.high, count(one.size)),
            linkable={other: found[i][0] for other, found in linkable.items()},
            keyed={other: found[i][0] for other, found in keyed.items()},
            clk=clk[i][0],
            match_keys=dict(zip(KEYS, keys[i], strict=True)),
            each={which: found[i][0] for which, found in each.items()},
        )
        for i, one in enumerate(groups)
    )
    return SubgroupTable(name, lines)


def _groups(dimension: str, held: dict[str, Masked]) -> list[_Group]:
    """Return the groups by name, small ones as one, then who has no value."""
    named = {value: one for value, one in held.items() if value}
    shown = {value: one for value, one in named.items() if one.records >= SMALL}
    rest = Masked()
    for value, one in named.items():
        if value not in shown:
            rest.by_mask.update(one.by_mask)
    made = [(group_name(dimension, value), shown[value]) for value in sorted(shown)]
    if rest.records:
        made.append((SMALL_GROUPS, rest))
    sizes = protect_sizes([one.records for _, one in made])
    groups = [_Group(name, size, one) for (name, one), size in zip(made, sizes, strict=True)]
    if nobody := held.get(""):
        # How many have no value is no secret: the table of fields says it.
        size = Cell(nobody.records, nobody.records)
        groups.append(_Group(NO_VALUE, size, nobody))
    return groups


def _either(groups: Sequence[_Group], mask: int) -> list[list[Share]]:
    def split(one: Masked) -> tuple[int, ...]:
        can = one.having(mask)
        return can, one.records - can

    return _shares(groups, split)


def _shares(
    groups: Sequence[_Group], split: Callable[[Masked], tuple[int, ...]]
) -> list[list[Share]]:
    told = protect([list(split(one.masked)) for one in groups])
    return [
        [_share(cell_told, one.records) for cell_told in row]
        for one, row in zip(groups, told, strict=True)
    ]


def _share(told: Cell, whole: int) -> Share:
    if whole < SMALL:  # its bounds as shares would give the size of the group away
        return Share(0.0, 1.0, cell(told, whole))
    return Share(round(told.low / whole, 3), round(told.high / whole, 3), cell(told, whole))
