"""
The profile of a source, ready to be shown: the one place where counts become what is told.

Terminal, page and JSON are made from `ProfileReport` alone, and hold nothing else, so a value that
must not be shown has to be kept out in one place only. `as_json` is the documented form
(docs/profile.md).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from linkage.study import Party, StudyConfig
from sites.profiling.cells import POSSIBLE, SMALL
from sites.profiling.date_findings import of_dates
from sites.profiling.dates import DAYS, MONTHS, DateShape
from sites.profiling.findings import (
    FieldFacts,
    Finding,
    in_order,
    of_columns,
    of_field,
    of_names,
    of_sex,
    of_source,
)
from sites.profiling.linkability import Ability, Evidence
from sites.profiling.subgroups import SubgroupTable, behind, subgroup_tables
from sites.profiling.tally import SourceTally
from sites.profiling.words import percent, records, shown_value

VERSION = 1
"""Of the JSON form; a key that changes its meaning raises it."""
NO_STUDY = "No study was given, so nothing is said about links: add --study STUDY.toml."


@dataclass(frozen=True, slots=True)
class FieldReport:
    """
    A field in numbers of records. present = plain + repaired. reasons: by why-text. distinct,
    highest: different values, and records of the commonest. common: values that may be shown. Of
    a sex that fewer than ten have, neither says the number: highest is present, common is empty.
    """

    field: str
    present: int
    repaired: int
    missing: int
    placeholder: int
    invalid: int
    reasons: dict[str, int]
    distinct: int
    highest: int
    common: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """A CLK or match key: how many records can make it, and which other parties make it too."""

    id: str
    kind: str
    records: int
    shared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartyReport:
    """
    What the missing fields mean towards one other party. with_clk, with_key, linkable: records
    that have a CLK, a match key, either of those that both make. text: in plain words.
    """

    party: str
    clks: tuple[str, ...]
    match_keys: tuple[str, ...]
    with_clk: int
    with_key: int
    linkable: int
    text: str


@dataclass(frozen=True, slots=True)
class Effect:
    """Linkability of all records. keys: records with none, one or two, three or more match keys."""

    study: str
    no_clk: int
    keys: tuple[int, int, int]
    evidence: tuple[EvidenceReport, ...]
    parties: tuple[PartyReport, ...]
    subgroups: tuple[SubgroupTable, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram. records: ten or more, rounded down to tens."""

    label: str
    records: int


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """
    Everything that is told of a source. Bars are None where they would give small counts away.

    birth_years: by year ("1942") or by ten ("1940s"). days: by day of the month ("1").
    days_of_year: by month and day ("01-31").
    """

    party: str
    source: str
    records: int
    left_out: int
    repeated_ids: int
    copies: int
    empty: int
    notes: tuple[str, ...]
    verdict: str
    findings: tuple[Finding, ...]
    fields: tuple[FieldReport, ...]
    effect: Effect | None
    birth_years: tuple[Bar, ...] | None
    days: tuple[Bar, ...] | None
    days_of_year: tuple[Bar, ...] | None

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        return {"version": VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What the reading found. left_out: records that were not given, by (field, rule). misfits: what
    the fields' rules say of a source as a whole. notes: what the source says of itself.
    """

    tally: SourceTally
    ability: Ability | None
    left_out: Mapping[tuple[str, str], int]
    misfits: Sequence[Finding] = ()
    notes: Sequence[str] = ()


def make_report(
    seen: Seen,
    *,
    party: str,
    source: str,
    study: StudyConfig | None,
    refuses: bool,
    max_invalid: float,
    today: dt.date,
) -> ProfileReport:
    """Return what may be told. refuses, max_invalid: as the site file says of bad rows."""
    tally = seen.tally
    facts = [FieldFacts(one, *one.summary()) for one in tally.fields.values()]
    effect = None
    if study and seen.ability:
        effect = _effect(study, study.party_named(party), seen.ability)
    found = _findings(seen, facts, effect, refuses, max_invalid, today)
    findings = in_order(found, tally.records)
    shape = next((one.dates for one in tally.fields.values() if one.dates), None)
    return ProfileReport(
        party=party,
        source=source,
        records=tally.records,
        left_out=sum(seen.left_out.values()),
        repeated_ids=tally.record_ids.summary().extra,
        copies=tally.copies.summary().extra,
        empty=tally.empty,
        notes=tuple(seen.notes),
        verdict=_verdict(findings, tally.records),
        findings=tuple(findings),
        fields=tuple(_field(one) for one in facts),
        effect=effect,
        birth_years=_years(shape) if shape else None,
        days=in_tens(_days(shape)) if shape else None,
        days_of_year=in_tens(_days_of_year(shape)) if shape else None,
    )


def _findings(
    seen: Seen,
    facts: Sequence[FieldFacts],
    effect: Effect | None,
    refuses: bool,
    max_invalid: float,
    today: dt.date,
) -> Iterable[Finding]:
    total = seen.tally.records
    yield from of_source(seen.tally, seen.left_out, refuses=refuses)
    yield from seen.misfits
    yield from of_columns(facts)
    unfit = {one.field for one in seen.misfits}
    for one in facts:
        for found in of_field(one, total, max_invalid):
            if found.field not in unfit or found.code not in ("invalid", "repaired"):
                yield found
        if one.field == "sex":
            yield from of_sex(one)
        if one.field in ("first_name", "middle_name", "last_name"):
            yield from of_names(one)
        if one.tally.dates:
            yield from of_dates(one.tally.dates, today.year)
    if effect and seen.ability:
        yield from _unlinkable(effect, total)
        others = [one.party for one in effect.parties]
        yield from behind(effect.subgroups, seen.ability, others)


def _unlinkable(effect: Effect, total: int) -> Iterable[Finding]:
    for one in effect.parties:
        if not one.clks and not one.match_keys:
            continue
        lost = total - one.linkable
        if lost > 0.02 * total:
            yield Finding(
                "unlinkable", "fix", "", lost,
                f"{percent(lost, total)} of the records cannot be linked to {one.party}: they"
                " lack the fields of every CLK and match key in common.",
                "Correct the fields of this list; each value filled makes more records linkable.",
            )  # fmt: skip


def _verdict(findings: Sequence[Finding], total: int) -> str:
    stops = sum(one.weight == "stops" for one in findings)
    fix = sum(one.weight == "fix" for one in findings)
    look = len(findings) - stops - fix
    if stops:
        return f"Not ready: tokenizing would be refused ({_things(stops)} to correct first)."
    if fix:
        return f"Tokenizing would work, but links are lost: {_things(fix)} to fix."
    if look:
        return f"Ready, as far as can be seen from here; {_things(look)} to look at."
    return f"Ready: nothing odd in {records(total)}."


def _things(number: int) -> str:
    return f"{number} thing{'' if number == 1 else 's'}"


def _field(facts: FieldFacts) -> FieldReport:
    kinds = facts.tally.kinds()
    return FieldReport(
        field=facts.field,
        present=facts.tally.present,
        repaired=kinds["repaired"],
        missing=kinds["missing"],
        placeholder=kinds["placeholder"],
        invalid=kinds["invalid"],
        reasons={why: n for why, n in sorted(facts.tally.told_why().items()) if ":" in why},
        distinct=facts.summary.distinct,
        highest=facts.tally.present if facts.hides_few else facts.summary.highest,
        common=() if facts.hides_few else _common(facts),
    )


def _common(facts: FieldFacts) -> tuple[tuple[str, int], ...]:
    return tuple((shown_value(facts.field, one.value), one.records) for one in facts.common)


def _effect(study: StudyConfig, party: Party, ability: Ability) -> Effect:
    overall = ability.overall
    others = [one.id for one in study.party if one.id != party.id]
    return Effect(
        study=study.study.id,
        no_clk=overall.records - overall.having(ability.mask("clk")),
        keys=overall.by_number(ability.mask("match_key")),
        evidence=tuple(
            EvidenceReport(one.id, one.kind, overall.having(one.mask), one.shared)
            for one in ability.evidence
        ),
        parties=tuple(_towards(other, ability) for other in others),
        subgroups=subgroup_tables(ability, others),
    )


def _towards(other: str, ability: Ability) -> PartyReport:
    both = [one for one in ability.evidence if other in one.shared]
    clks, keys = _ids(both, "clk"), _ids(both, "match_key")
    overall = ability.overall
    linkable = overall.having(ability.mask(party=other))
    return PartyReport(
        party=other,
        clks=clks,
        match_keys=keys,
        with_clk=overall.having(ability.mask("clk", other)),
        with_key=overall.having(ability.mask("match_key", other)),
        linkable=linkable,
        text=_in_words(
            other,
            clks,
            keys,
            overall.having(ability.mask("match_key", other)),
            linkable,
            overall.records,
        ),
    )


def _ids(evidence: Iterable[Evidence], kind: str) -> tuple[str, ...]:
    return tuple(one.id for one in evidence if one.kind == kind)


def _in_words(
    other: str,
    clks: Sequence[str],
    keys: Sequence[str],
    with_key: int,
    linkable: int,
    total: int,
) -> str:
    if not clks and not keys:
        return f"This study compares nothing of yours with {other}: no CLK or match key in common."
    common = f"{_number(len(clks), 'CLK')} and {_number(len(keys), 'match key')} in common"
    lost, weak = total - linkable, linkable - with_key
    if lost:
        common += (
            f"; {records(lost)} ({percent(lost, total)}) can make none of them and cannot be linked"
            f" to {other}"
        )
    else:
        common += f"; every record can be compared with {other}"
    if weak:
        common += f"; {percent(weak, total)} have only a CLK, which links less surely"
    return f"{common}."


def _number(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _years(shape: DateShape) -> tuple[Bar, ...] | None:
    """Return bars by year where most years have ten births or more, else by decade."""
    full = sum(count for count in shape.by_year.values() if count >= SMALL)
    if full >= 0.95 * shape.records:
        return in_tens({str(year): n for year, n in sorted(shape.by_year.items())})
    return in_tens({f"{decade}s": n for decade, n in shape.by_decade().items()})


def _days(shape: DateShape) -> dict[str, int]:
    return {str(day): count for day, count in enumerate(shape.by_day_of_month(), start=1)}


def _days_of_year(shape: DateShape) -> dict[str, int]:
    return {
        f"{month:02}-{day:02}": int(shape.by_day[month, day])
        for month in range(1, MONTHS)
        for day in range(1, DAYS)
    }


def in_tens(counts: Mapping[str, int]) -> tuple[Bar, ...] | None:
    """
    Return the bars of ten and more, rounded down to tens. What is not among them has 0 to 9.

    None for all where the total, which is known, would leave fewer than five possible counts for
    a bar below ten.
    """
    told = {label: n // SMALL * SMALL for label, n in counts.items() if n >= SMALL}
    hidden = len(counts) - len(told)
    left = sum(counts.values()) - sum(told.values())
    # What is left is spread over the hidden bars (0 to 9) and the roundings of the others (0 to 9).
    spare = (len(counts) - 1) * (SMALL - 1)
    possible = min(SMALL - 1, left) - max(0, left - spare) + 1
    if hidden and possible < min(POSSIBLE, left + 1):
        return None
    return tuple(Bar(label, n) for label, n in told.items())
