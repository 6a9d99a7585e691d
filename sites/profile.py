"""
The profile of a source before anything is encoded: what is missing, wrong or odd in it, and what
that costs in links.

    report = profile_source(site.source, party="imaging", study=study, today=date.today())
    report.findings[0].text

Reads the source once, without any key, in memory that does not grow with its records (what is
exact and what is not: docs/profile.md). What must not be shown is left out of the report itself
(`sites.profiling.report`), so whoever prints it cannot show too much.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from linkage.encoding.columns import Coded
from linkage.encoding.fields import Normalised, Normaliser, Reading, require_fit, text_of
from linkage.errors import EncodingRefused, SourceRefused
from linkage.study import StudyConfig
from sites.profiling.counting import Hashing
from sites.profiling.findings import Finding
from sites.profiling.linkability import Ability
from sites.profiling.report import ProfileReport, Seen, make_report
from sites.profiling.tally import NEVER_SHOWN, SourceTally
from sites.sources.base import RawBatch
from sites.sources.config import SourceConfig
from sites.sources.opening import NotedSource, open_source

Progress = Callable[[str, int, int], None]

BIRTH_DECADE = "birth decade"
_LONGEST_GROUP = 40


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """
    What a profile would read. fields: of the study, or all that the site file names. subgroups:
    columns to count by. source: opened, not yet read.
    """

    fields: tuple[str, ...]
    subgroups: tuple[str, ...]
    source: NotedSource


def plan_profile(config: SourceConfig, party: str, study: StudyConfig | None) -> ProfilePlan:
    """
    Return what `profile_source` would read. Raises SourceRefused, StudyRefused.

    Only what the study wants of the party is read, and the columns of [source.subgroups].
    """
    fields = study.party_named(party).fields if study else tuple(getattr(config, "columns", ()))
    if not fields:
        raise SourceRefused(
            file="[source]",
            rule="names no columns, so the study must say which fields to profile",
            hint="give the study file: --study study.toml",
        )
    if hidden := NEVER_SHOWN & config.subgroups.keys():
        raise SourceRefused(
            file="[source.subgroups]",
            rule=f"{min(hidden)!r} is no grouping of people",
            hint="name columns such as race, ethnicity or site",
        )
    extra = {name: names for name, names in config.subgroups.items() if name not in fields}
    return ProfilePlan(fields, tuple(extra), open_source(config, fields, extra))


def profile_source(
    config: SourceConfig,
    *,
    party: str,
    study: StudyConfig | None,
    today: dt.date,
    progress: Progress = lambda step, done, total: None,
    hashing: Hashing | None = None,
) -> ProfileReport:
    """
    Read the source and return its profile; without a study, without linkability.

    today: later birth dates are invalid. progress: called with a step's name, records done and
    about how many there are (0: unknown). hashing: by default under a key drawn for this run.

    Raises SourceRefused where the source cannot be read as its site file says, StudyRefused where
    the study has no such party. What `tokenize` would refuse for its content is a finding here.
    """
    plan = plan_profile(config, party, study)
    reader = _Reader(plan, config.reading(today), study, party, hashing or Hashing())
    try:
        for batch in plan.source.batches():
            reader.add(batch)
            progress("profile", reader.tally.records, _about(reader.tally.records, batch))
        progress("count different values", reader.tally.records, reader.tally.records)
        return make_report(
            reader.seen(),
            party=party,
            source=plan.source.name,
            study=study,
            refuses=config.on_bad_row == "refuse",
            max_invalid=config.max_invalid,
            today=today,
        )
    finally:
        reader.tally.close()


class _Reader:
    """Batches in, what is seen of them out."""

    def __init__(
        self,
        plan: ProfilePlan,
        reading: Reading,
        study: StudyConfig | None,
        party: str,
        hashing: Hashing,
    ) -> None:
        self._plan, self._reading = plan, reading
        self._normalisers = {field: Normaliser(field, reading) for field in plan.fields}
        self.tally = SourceTally(plan.fields, hashing)
        self._ability = Ability(study, study.party_named(party)) if study else None
        self._left_out: Counter[tuple[str, str]] = Counter()

    def add(self, batch: RawBatch) -> None:
        """Count one batch."""
        self._left_out.update((bad.field, bad.rule) for bad in batch.bad)
        if not len(batch):
            return
        found = {name: one.column(batch.columns[name]) for name, one in self._normalisers.items()}
        self.tally.add(batch.record_ids, found)
        if self._ability:
            columns = {name: one.column for name, one in found.items()}
            self._ability.add(columns, self._groups(found, batch))

    def seen(self) -> Seen:
        """Return what was seen so far."""
        notes = tuple(self._plan.source.notes)
        return Seen(self.tally, self._ability, self._left_out, tuple(self._misfits()), notes)

    def _groups(self, found: Mapping[str, Normalised], batch: RawBatch) -> dict[str, Coded]:
        groups: dict[str, Coded] = {}
        if "sex" in found:
            groups["sex"] = found["sex"].column
        if "date_of_birth" in found:
            decade = found["date_of_birth"].column.changed(lambda value: f"{value[:3]}0s")
            groups[BIRTH_DECADE] = decade
        for name in self._plan.subgroups:
            groups[name] = _grouping(batch.columns[name])
        return groups

    def _misfits(self) -> list[Finding]:
        found = []
        for field, one in self.tally.fields.items():
            try:
                require_fit(field, one.why, self._reading)
            except EncodingRefused as fault:
                kinds = one.kinds()
                wrong = kinds["invalid"] + kinds["repaired"]
                text = f"{fault.message[:1].upper()}{fault.message[1:]}."
                hint = f"{fault.hint[:1].upper()}{fault.hint[1:]}."
                found.append(Finding("date-format", "stops", field, wrong, text, hint))
        return found


def _grouping(values: pa.Array) -> Coded:
    """Return a subgroup column as names of groups: small letters, single blanks, "" if missing."""
    coded = values.dictionary_encode()
    named = Coded.of([_group(value) for value in [*coded.dictionary.to_pylist(), None]])
    codes = coded.indices.fill_null(len(named) - 1).to_numpy(zero_copy_only=False)
    return Coded(named.codes[codes], named.values)


def _group(value: object) -> str:
    return " ".join(text_of(value).casefold().split())[:_LONGEST_GROUP]


def _about(records: int, batch: RawBatch) -> int:
    """Estimate all records from the share of the source that is read; 0 while unknown."""
    if not batch.total or not batch.done:
        return 0
    return max(records, round(records * batch.total / batch.done))
