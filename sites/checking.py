"""
A dry run of a tokenization: read, normalise, count; no key is used and nothing is written.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from linkage.encoding.fields import Normaliser
from linkage.errors import SourceRefused
from sites.exchanged import NAMES, Given, exchanged_warning
from sites.intake import Intake
from sites.sources.base import RawBatch
from sites.sources.config import SourceConfig
from sites.sources.opening import open_source


@dataclass(slots=True)
class SourceCheck:
    """
    What a tokenization would find. why: by field, values by reason; left_out: as there; names: of
    first and last names, how many are usual first names.
    """

    records: int = 0
    why: dict[str, Counter[str]] = field(default_factory=dict)
    left_out: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    names: dict[str, Given] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be looked at before anything is tokenized."""
        return exchanged_warning(self.names)


def check_source(
    source: SourceConfig,
    fields: tuple[str, ...],
    extra: Mapping[str, tuple[str, ...]] | None = None,
    *,
    quarantine: bool,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> SourceCheck:
    """
    Read the whole source as `tokenize` would. extra: columns that it reads besides.

    Raises what it would raise: SourceRefused, RowRejected. Memory: 8 bytes a record, to find
    repeated record ids.
    """
    reading = source.reading(dt.date.today())
    intake = Intake(source, open_source(source, fields, extra), reading, quarantine=quarantine)
    normalisers = {name: Normaliser(name, reading) for name in fields}
    found = SourceCheck(why={name: Counter() for name in fields})
    first_invalid: dict[str, int] = {}
    seen: list[npt.NDArray[np.uint64]] = []
    for batch in intake.batches():
        _count(batch, normalisers, found, first_invalid)
        ids = np.asarray(batch.record_ids.to_pylist(), dtype=object)
        seen.append(pd.util.hash_array(ids, categorize=False))
        intake.check(found.why, first_invalid, so_far=True)
        progress("check", found.records, intake.about(found.records))
    intake.check(found.why, first_invalid)
    _, counts = np.unique(np.concatenate(seen), return_counts=True)
    if repeated := int((counts - 1).sum()):
        if not (quarantine or source.on_bad_row == "quarantine"):
            raise SourceRefused(
                file=intake.source.name,
                rule=f"{repeated:,} records repeat the record id of an earlier one",
                hint="make ids unique, or quarantine them; `linkage-site tokenize` names the first",
            )
        intake.repeated_ids(repeated)
        found.records -= repeated
    found.left_out, found.notes = dict(intake.left_out), intake.notes
    return found


def _count(
    batch: RawBatch,
    normalisers: dict[str, Normaliser],
    found: SourceCheck,
    first_invalid: dict[str, int],
) -> None:
    found.records += len(batch)
    for name, normaliser in normalisers.items():
        made = normaliser.column(batch.columns[name])
        if name in NAMES:
            found.names[name] = found.names.get(name, Given()) + Given.of(made.column)
        why = made.why
        counts = np.bincount(why.codes, minlength=len(why.values)).tolist()
        for code, (text, count) in enumerate(zip(why.values, counts, strict=True)):
            found.why[name][text] += count
            if count and text.startswith("invalid"):
                number = int(batch.numbers[int(np.argmax(why.codes == code))])
                first_invalid[name] = min(number, first_invalid.get(name, number))
