"""
Records on their way in: what is left out and said, and when a source as a whole is refused.

    intake = Intake(config, opened, reading, quarantine=False)
    for batch in intake.batches(): ...
    intake.check(why, first_invalid)

A bad record stops the job at once, or is left out and listed (quarantine). A value that cannot
be used becomes null and is counted; where too many are invalid it is not they that are wrong
but the way they are read, and the source is refused.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from linkage.encoding.fields import Reading, require_fit
from linkage.errors import EncodingRefused, RowRejected, SourceRefused
from sites.private_file import private_file
from sites.sources.base import BadRow, RawBatch
from sites.sources.config import SourceConfig
from sites.sources.opening import NotedSource
from sites.spool import Unused
from sites.withdrawal import Withdrawn

_FEW = 3
"""Fewer invalid values than this are errors of the data, whatever share they are."""
_HOPELESS = 0.5
"""Share of invalid values at which reading on is no use: no later rows can bring it down much."""
_MOST_BAD = 0.5
"""Share of records that may be quarantined; above it, the source itself is wrong."""

_REPEATED = "repeats the record id of an earlier record"
_OR_ELSE = 'or leave it out: --reject-file, or on_bad_row = "quarantine"'


class Intake:
    """
    The records of one source. withdrawn: record ids to leave out. left_out: how many bad ones, by
    field and rule.
    """

    def __init__(
        self,
        config: SourceConfig,
        source: NotedSource,
        reading: Reading,
        *,
        quarantine: bool,
        withdrawn: Collection[str] = (),
    ) -> None:
        self.source, self._config, self._reading = source, config, reading
        self._quarantine = quarantine or config.on_bad_row == "quarantine"
        self.left_out: Counter[tuple[str, str]] = Counter()
        self._bad: list[BadRow] = []
        self._records = self._done = self._total = 0
        self._withdrawn, self._left_withdrawn = Withdrawn(withdrawn), 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source found out by itself; complete once it is read."""
        said = f"{self._left_withdrawn:,} records are withdrawn and were left out"
        return (*self.source.notes, *([said] if self._left_withdrawn else []))

    def about(self, records: int) -> int:
        """Estimate the number of all records from the share of the source read; 0 if unknown."""
        if not self._total or not self._done:
            return 0
        return max(records, round(self._records * self._total / self._done))

    def batches(self) -> Iterator[RawBatch]:
        """
        Yield the source's batches.

        Raises RowRejected for the first bad record, unless they are quarantined, SourceRefused
        where the source is unreadable, empty, or mostly bad records.
        """
        for batch in self.source.batches():
            for bad in batch.bad:
                self._leave_out(bad)
            whole = len(batch)
            batch = self._withdrawn.left_out_of(batch)
            self._left_withdrawn += whole - len(batch)
            self._records += len(batch)
            self._done, self._total = batch.done, batch.total
            self.require_mostly_good()
            yield batch
        if not self._records:
            why = f", {len(self._bad):,} were quarantined" if self._bad else ""
            raise SourceRefused(
                file=self.source.name, rule=f"has no record{why}", hint="check the export"
            )

    def repeated_id(self, earlier: int, later: int) -> None:
        """Say that a record has the record id of an earlier one. Raises RowRejected."""
        hint = f"{self.source.unit} {earlier} has it too: give each record an id of its own"
        self._leave_out(BadRow(later, "record_id", _REPEATED, hint))
        self._records -= 1

    def repeated_ids(self, count: int) -> None:
        """Leave out `count` records that have the record id of an earlier one. Raises as below."""
        self.left_out["record_id", _REPEATED] += count
        self._records -= count
        self.require_mostly_good()

    def check(
        self,
        why: Mapping[str, Mapping[str, int]],
        first_invalid: Mapping[str, int],
        *,
        so_far: bool = False,
    ) -> None:
        """
        Raise SourceRefused where a field's format is plainly not that of the site file.

        why: by field, number of values by why-text. so_far: the source is not read to its end,
        so only what no further record can mend is refused.
        """
        for field, counts in why.items():
            invalid = sum(n for text, n in counts.items() if text.startswith("invalid"))
            said = sum(n for text, n in counts.items() if text != "missing")
            limit = max(_HOPELESS, self._config.max_invalid) if so_far else self._config.max_invalid
            if invalid >= _FEW and invalid > limit * said:
                reasons = [(n, text) for text, n in counts.items() if text.startswith("invalid")]
                rule = max(reasons)[1].removeprefix("invalid: ")
                raise self._wrong_format(
                    field,
                    f"{invalid:,} of {said:,} values of {field} are invalid, first in"
                    f" {self.source.unit} {first_invalid[field]}; mostly: {rule}",
                )
            if not so_far:
                try:
                    require_fit(field, counts, self._reading)
                except EncodingRefused as fault:
                    raise self._wrong_format(field, fault.message, fault.hint) from None

    def write_rejects(self, path: Path, unused: Iterable[Iterable[Unused]]) -> None:
        """
        List what was left out, in one rename: record number, field, rule, remedy; no value.

        unused: invalid values, batch by batch.
        """
        with private_file(path) as file:
            writer = csv.writer(file)
            writer.writerow((self.source.unit, "field", "left_out", "rule", "what_to_do"))
            for bad in sorted(self._bad, key=lambda one: one.number):
                writer.writerow((bad.number, bad.field, "record", bad.rule, bad.hint))
            for batch in unused:
                for number, field, why in batch:
                    rule = why.removeprefix("invalid: ")
                    writer.writerow((number, field, "value", rule, "correct it at the source"))

    def _leave_out(self, bad: BadRow) -> None:
        if not self._quarantine:
            hint = f"{bad.hint or 'correct it at the source'}, {_OR_ELSE}"
            raise RowRejected(
                file=self.source.name,
                row=bad.number,
                unit=self.source.unit,
                field=bad.field,
                rule=bad.rule,
                hint=hint,
            )
        self.left_out[bad.field, bad.rule] += 1
        self._bad.append(bad)

    def require_mostly_good(self) -> None:
        """Raise SourceRefused where most records so far are bad: they are not, the reading is."""
        bad = self.left_out.total()
        if bad >= 100 and bad > _MOST_BAD * (bad + self._records):
            (_, rule), count = self.left_out.most_common(1)[0]
            raise SourceRefused(
                file=self.source.name,
                rule=f"{bad:,} of its first {bad + self._records:,} records are bad;"
                f" {count:,} of them: {rule}",
                hint="this is more than bad records: check how the site file says to read it",
            )

    def _wrong_format(self, field: str, rule: str, hint: str = "") -> SourceRefused:
        usual = "check which column the site file names for it"
        if field == "date_of_birth":
            usual = "check [source] date_format against the source"
        return SourceRefused(file=self.source.name, rule=rule, hint=hint or usual)
