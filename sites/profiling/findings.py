"""
What is odd in a source, in words: each finding with what to do about it.

    findings = in_order([*of_fields(context), *of_dates(context), ...])

A finding says how many records it concerns, and never shows a value that fewer than ten different
records hold. Limits are plain shares, wide enough that ordinary data stays silent; where a value
of the literature exists, it is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sites.exchanged import NAMES, Given, exchanged
from sites.profiling.cells import SMALL, small
from sites.profiling.counting import CountSummary
from sites.profiling.tally import NEVER_SHOWN, CommonValue, FieldTally, SourceTally
from sites.profiling.words import percent, records, shown_value

Weight = Literal["stops", "fix", "look"]
"""stops: `tokenize` will refuse. fix: links are lost. look: may be right; somebody should know."""

_RANK: Mapping[Weight, int] = {"stops": 0, "fix": 1, "look": 2}
FEW = 0.01
MISSING = 0.05
PLACEHOLDERS = 0.01
INVALID = 0.001
REPAIRED = 0.05
EXCHANGED = 0.02
MOSTLY = 0.5
ONE_LETTER = 0.05
SAME_NAME = 0.01
FEW_VALUES = 3
"""Fewer values than this are errors of single records, whatever share they are."""

RULES = 3
"""Rules told of records that were left out."""

COMMONEST: Mapping[str, float] = {
    "first_name": 0.06,
    "middle_name": 0.25,
    "last_name": 0.06,
    "date_of_birth": 0.005,
    "ssn": 0.001,
    "zip": 0.5,
    "phone": 0.005,
    "email": 0.005,
    "street": 0.01,
}
"""
Share of a field's records that its commonest value may have. Ordinary: about 3 % for a first
name, 1 % for a surname (US census 2010: Smith .8 %), 1 in 30,000 for a birthday, 40 % for a
hospital's own ZIP. Ten records are needed before a value is called common.
"""

SURE = ("first_name", "last_name", "date_of_birth", "ssn")
"""Fields whose common values lose links whatever their share; others from 5 % on."""

_REMEDIES = {
    "date_of_birth": "A date typed for 'not known' looks like this. Leave it empty in the export:"
    " people are linked by it.",
    "street": "The address of a home, a shelter or the hospital itself looks like this. If it is"
    " nobody's own, leave it empty in the export.",
    "zip": "Right for a small town; otherwise the ZIP of the hospital may stand for the patient's.",
}
_LEAVE_EMPTY = (
    "If it stands for 'not known', leave it empty in the export: a value that many share links"
    " people wrongly or is thrown away."
)

CROWDED = 0.005
"""Share of records that may have an SSN, phone or e-mail which ten records or more hold."""

SEX_SHARE = (0.30, 0.70)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing to know. code: stable, for programs. field: the study's field, "" for records as a
    whole. records: how many it concerns.
    """

    code: str
    weight: Weight
    field: str
    records: int
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """A field's tally with its summary, worked out once."""

    tally: FieldTally
    summary: CountSummary
    common: tuple[CommonValue, ...]

    @property
    def field(self) -> str:
        """The study's field."""
        return self.tally.field

    @property
    def hides_few(self) -> bool:
        """
        Whether the few values of the field are known to all, as sexes are, and one of them has
        fewer than ten records: then the others' counts would give its count away.
        """
        told = sum(one.records for one in self.common)
        return self.field == "sex" and small(self.tally.present - told)


def in_order(findings: Iterable[Finding], total: int) -> list[Finding]:
    """
    Return findings in the order to work on: what stops tokenizing, what loses links, the rest;
    each by records.

    What concerns less than 1 % of `total` records need not be fixed first; it is to look at.
    """
    weighed = [
        replace(one, weight="look") if one.weight == "fix" and one.records < FEW * total else one
        for one in findings
    ]
    return sorted(weighed, key=lambda one: (_RANK[one.weight], -one.records, one.code))


def of_source(
    tally: SourceTally, left_out: Mapping[tuple[str, str], int], *, refuses: bool
) -> Iterator[Finding]:
    """
    Yield what concerns whole records. left_out: number of records by (field, rule) that the
    source could not give. refuses: whether the site file refuses a source for such a row.
    """
    if not tally.records and not left_out:
        yield Finding(
            "no-records", "stops", "", 0, "The source has no records.", "Check the file or query."
        )
    lost = sum(left_out.values())
    yield from _left_out(left_out, refuses=refuses or lost > MOSTLY * (lost + tally.records))
    repeats = tally.record_ids.summary().extra
    if repeats:
        yield Finding(
            "record-id-repeated",
            "stops" if refuses else "fix",
            "record_id",
            repeats,
            f"{records(repeats)} with the record id of an earlier one.",
            "Each record needs an id of its own: check which column record_id names, and that the"
            " export does not join one person's record several times.",
        )
    if tally.empty:
        yield Finding(
            "empty-record",
            "fix",
            "",
            tally.empty,
            f"{records(tally.empty)} without a value in any field: they can never be linked.",
            "Leave them out of the export, or find their identifiers.",
        )
    copies = tally.copies.summary()
    if copies.extra:
        yield Finding(
            "copies",
            "look",
            "",
            copies.extra,
            f"{records(copies.extra)} equal to an earlier one in every field.",
            "They are grouped as one person where names and a birth date or number are there."
            " Many more than you expect mean that an export was joined or appended twice.",
        )
    if tally.same_name > max(SMALL, SAME_NAME * tally.records):
        yield Finding(
            "same-name-twice",
            "fix",
            "last_name",
            tally.same_name,
            f"{percent(tally.same_name, tally.records)} of the records have the same first and"
            " last name.",
            "Check that [source.columns] does not name one column for both.",
        )


def _left_out(left_out: Mapping[tuple[str, str], int], *, refuses: bool) -> Iterator[Finding]:
    for field in dict.fromkeys(field for field, _ in left_out):
        rules = {rule: number for (one, rule), number in left_out.items() if one == field}
        ranked = sorted(rules, key=lambda rule: (-rules[rule], rule))
        said = "; ".join(f"{rule} ({rules[rule]:,})" for rule in ranked[:RULES])
        more = f"; {len(ranked) - RULES} rules more" if len(ranked) > RULES else ""
        yield Finding(
            "left-out",
            "stops" if refuses else "fix",
            field,
            sum(rules.values()),
            f"{records(sum(rules.values()))} left out: {said}{more}.",
            'Correct them at the source; if they are few, on_bad_row = "quarantine" goes on.'
            if refuses
            else "They are not sent. Correct them at the source if they matter.",
        )


def of_columns(facts: Sequence[FieldFacts]) -> Iterator[Finding]:
    """Yield what several columns together say: they have shifted, or names are exchanged."""
    wrong = []
    for one in facts:
        kinds = one.tally.kinds()
        if kinds["invalid"] > MOSTLY * sum(kinds.values()):
            wrong.append((one.field, kinds["invalid"]))
    if len(wrong) > 1:
        yield Finding(
            "columns-shifted",
            "stops",
            "",
            max(number for _, number in wrong),
            f"Most values of {_listed([field for field, _ in wrong])} are invalid: the columns seem"
            " to have shifted.",
            "Check that the header fits the rows, that the site file names the right columns, and"
            " that a value with the delimiter in it is quoted.",
        )
    by_name = {one.field: one.tally for one in facts}
    first, last = by_name.get("first_name"), by_name.get("last_name")
    if not first or not last:
        return
    given = {f: Given(one.given, one.present) for f, one in by_name.items() if f in NAMES}
    if exchanged(given):
        yield Finding(
            "names-exchanged",
            "fix",
            "last_name",
            last.present,
            f"{percent(last.given, last.present)} of the last names are usual first names; of the"
            f" first names {percent(first.given, first.present)}.",
            "First and last name seem to be exchanged: check [source.columns].",
        )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def of_field(facts: FieldFacts, total: int, max_invalid: float) -> Iterator[Finding]:
    """Yield what concerns one field by itself. total: all records."""
    field, kinds = facts.field, facts.tally.kinds()
    if total and not facts.tally.present and kinds["missing"] == total:
        yield Finding(
            "field-empty", "fix", field, total, f"No record has a {field}.",
            "Check which column the site file names; if you do not hold it, tell the custodian:"
            " the study counts on it.",
        )  # fmt: skip
        return
    said = total - kinds["missing"]
    for kind, code, limit, whole in (
        ("missing", "missing", MISSING, total),
        ("placeholder", "placeholder", PLACEHOLDERS, total),
        ("repaired", "repaired", _repaired_limit(facts), said),
    ):
        if kinds[kind] >= FEW_VALUES and kinds[kind] > limit * whole:
            text, remedy = _of_kind(facts, kind, kinds[kind], whole)
            weight: Weight = "look" if kind == "repaired" else "fix"
            yield Finding(code, weight, field, kinds[kind], text, remedy)
    yield from _invalid(facts, kinds["invalid"], said, max_invalid)
    yield from _commonest(facts)


def of_sex(facts: FieldFacts) -> Iterator[Finding]:
    """Yield a finding where one sex is under 30 % of the known."""
    held = {one.value: one.records for one in facts.common}
    known = held.get("f", 0) + held.get("m", 0)
    if known < 10 * SMALL or facts.summary.distinct < 2:
        return
    share = held.get("f", 0) / known
    if not SEX_SHARE[0] <= share <= SEX_SHARE[1]:
        most, present = max(held.values()), facts.tally.present
        number, said = (
            (present, "Nearly all") if facts.hides_few else (most, percent(most, present))
        )
        yield Finding(
            "sex-share",
            "look",
            "sex",
            number,
            f"{said} of the known sexes are {'female' if share > 0.5 else 'male'}.",
            "Right for a maternity or prostate register; otherwise the codes may be read wrongly.",
        )


def of_names(facts: FieldFacts) -> Iterator[Finding]:
    """Yield a finding where a name is often one letter."""
    short, present = facts.tally.one_letter, facts.tally.present
    if facts.field == "middle_name" or short < SMALL or short <= ONE_LETTER * present:
        return
    yield Finding(
        "one-letter",
        "fix",
        facts.field,
        short,
        f"{percent(short, present)} of the values of {facts.field} are one letter.",
        "Initials match nobody's full name. Check that the column is the name and not its initial.",
    )


def _repaired_limit(facts: FieldFacts) -> float:
    """Return the share of repairs that is told: less where the repair hides a wrong format."""
    reason = _main_reason(facts.tally, "repaired")
    if "initial" in reason:
        return 1.0  # `of_names` says it, with what it costs
    return EXCHANGED if "exchanged" in reason else REPAIRED


def _of_kind(facts: FieldFacts, kind: str, number: int, whole: int) -> tuple[str, str]:
    field, share = facts.field, percent(number, whole)
    main = _main_reason(facts.tally, kind)
    if kind == "missing":
        return (
            f"{field} is missing in {share} of the records.",
            "Check the column and the query behind it; a join that finds nothing looks like this.",
        )
    if kind == "placeholder":
        return (
            f"{share} of the records have a placeholder for {field}{main}.",
            "They count as missing. Ask where they come from: a form's default can be changed.",
        )
    remedy = "The value is used as repaired."
    if "exchanged" in main:
        remedy += " A mix of two date formats in one column looks like this."
    return f"{share} of the values of {field} had to be repaired{main}.", remedy


def _invalid(facts: FieldFacts, number: int, said: int, max_invalid: float) -> Iterator[Finding]:
    if number < FEW_VALUES or number <= INVALID * said:
        return
    field, stops = facts.field, number > max_invalid * said
    remedy = "They count as missing. Correct them at the source if you can."
    if stops:
        remedy = "Check which column the site file names for it: many values do not fit at all."
        if field == "date_of_birth":
            remedy = "Check [source] date_format against the file, and which column it names."
    yield Finding(
        "invalid",
        "stops" if stops else "fix",
        field,
        number,
        f"{percent(number, said)} of the values of {field} are"
        f" invalid{_main_reason(facts.tally, 'invalid')}.",
        remedy,
    )


def _main_reason(tally: FieldTally, kind: str) -> str:
    """Return the commonest reason of a kind: " (mostly: more than nine digits)"."""
    found = {w: n for w, n in tally.told_why().items() if w.partition(":")[0] == kind and ":" in w}
    if not found:
        return ""
    reason = max(found, key=lambda why: (found[why], why)).partition(": ")[2]
    return f" ({'mostly: ' if len(found) > 1 else ''}{reason})"


def _commonest(facts: FieldFacts) -> Iterator[Finding]:
    field, summary, present = facts.field, facts.summary, facts.tally.present
    if present >= SMALL and summary.distinct == 1:
        value = f": {shown_value(field, facts.common[0].value)}" if facts.common else ""
        yield Finding(
            "constant", "fix", field, present, f"Every {field} is the same{value}.",
            "A constant says nothing about a person. Check the column and the query.",
        )  # fmt: skip
        return
    shared = field in NEVER_SHOWN and summary.crowded > 1
    if shared and summary.crowded_records > CROWDED * present:
        yield Finding(
            "shared-value",
            "look",
            field,
            summary.crowded_records,
            f"{summary.crowded:,} different values of {field} are held by ten records or more"
            f" each, the commonest by {summary.highest:,}: {records(summary.crowded_records)} in"
            " all.",
            "Numbers of wards, homes or front desks look like this; better leave them empty.",
        )
    elif field in COMMONEST and summary.highest > max(SMALL - 1, COMMONEST[field] * present):
        value = "One value"
        if facts.common and facts.common[0].records == summary.highest:
            value = shown_value(field, facts.common[0].value)
        heavy = field in SURE or summary.highest > 0.05 * present
        yield Finding(
            "common-value",
            "fix" if heavy else "look",
            field,
            summary.highest,
            f"{value} is the {field} of {records(summary.highest)}"
            f" ({percent(summary.highest, present)}).",
            _REMEDIES.get(field, _LEAVE_EMPTY),
        )
