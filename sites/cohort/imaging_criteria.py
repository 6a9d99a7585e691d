"""
Which series fit, in memory: keys and asked columns of all series as integers and bits.

A million series take a second or two this way; the attrition needs three distinct counts after
every criterion, which a database would sort out of strings each time. tests/unit/cohort/
test_imaging_reference.py holds it equal to a plain reading of the criteria.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.cohort.spec_imaging import FeatureCriterion, ImagingCriteria
from linkage.cohort.spec_values import CountRange, NumberRange
from sites.cohort.attrition import Step
from sites.cohort.bundle import UID

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.integer[Any]]]

NO_DAY = np.iinfo(np.int32).min


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A text column: values[codes[row]] is a row's text; code -1 where it has none."""

    codes: Ints
    values: pa.Array

    def where(self, holds: Callable[[str], bool]) -> Mask:
        """Return the rows whose text holds; a row without a text never does."""
        told = [holds(value) for value in self.values.to_pylist()]
        return np.append(np.array(told, dtype=bool), False)[self.codes]

    def valid(self, pattern: str) -> Mask:
        """Return the rows whose text matches the regular expression."""
        told = pc.match_substring_regex(self.values, pattern).to_numpy(zero_copy_only=False)
        return np.append(told.astype(bool), False)[self.codes]


def coded(column: pa.ChunkedArray) -> Coded:
    """Return a text column as codes, outer spaces apart, empty texts as none."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    made = array.cast(pa.string()).dictionary_encode()
    codes = made.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    values = pc.ascii_trim_whitespace(made.dictionary)
    as_it_was = pc.and_(pc.equal(values, made.dictionary), pc.not_equal(values, ""))
    if pc.all(as_it_was, min_count=0).as_py():
        return Coded(codes, values)
    again = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    again = again.dictionary_encode()
    onto = np.append(again.indices.fill_null(-1).to_numpy(zero_copy_only=False), -1)
    return Coded(onto[codes], again.dictionary)


def joined(parts: Sequence[Coded]) -> Coded:
    """Return the texts of several columns joined by "/"; none where one of them is none."""
    first, *others = parts
    for other in others:
        size = len(other.values)
        both = np.where(
            (first.codes < 0) | (other.codes < 0),
            -1,
            first.codes.astype(np.int64) * size + other.codes,
        )
        pairs, codes = np.unique(both, return_inverse=True)
        pairs, codes = (pairs[1:], codes - 1) if len(pairs) and pairs[0] < 0 else (pairs, codes)
        texts = pc.binary_join_element_wise(
            first.values.take(pa.array(pairs // size)),
            other.values.take(pa.array(pairs % size)),
            "/",
        ).dictionary_encode()  # a/b + c and a + b/c are one text
        onto = np.append(texts.indices.to_numpy(zero_copy_only=False), -1)
        first = Coded(onto[codes], texts.dictionary)
    return first


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Whose every series is: record id, study and series, all of the same N rows."""

    record: Coded
    study: Coded
    series: Coded

    def step(self, label: str, mask: Mask) -> Step:
        """Count the series, studies and subjects of the rows in `mask`."""
        return Step(
            label=label,
            subjects=_distinct(self.record, mask),
            studies=_distinct(self.study, mask),
            series=_distinct(self.series, mask),
        )

    def attributable(self, known: Mask) -> Mask:
        """
        Return the known rows with record id and UIDs whose study and series are one subject's only.

        Of two rows with one series UID the first counts.
        """
        mask = known & (self.record.codes >= 0) & self.study.valid(UID) & self.series.valid(UID)
        for uid in (self.study, self.series):
            mask &= ~_of_several(uid, self.record, mask)[uid.codes]
        first = np.zeros_like(mask)
        rows = np.flatnonzero(mask)
        first[rows[np.unique(self.series.codes[rows], return_index=True)[1]]] = True
        return first

    def owners(self, mask: Mask) -> Ints:
        """Return the record code of every study code; -1 for a study without a row in `mask`."""
        owner = np.full(len(self.study.values), -1, np.int64)
        owner[self.study.codes[mask]] = self.record.codes[mask]
        return owner


def records_in_several(record: Coded, collection: Coded) -> int:
    """Return how many record ids occur in more than one collection."""
    mask = (record.codes >= 0) & (collection.codes >= 0)
    return int(_of_several(record, collection, mask).sum())


def _of_several(things: Coded, owners: Coded, mask: Mask) -> Mask:
    """Return for each thing, and False at last, whether its rows in `mask` have two owners."""
    owner = np.full(len(things.values) + 1, -1, np.int64)
    of, by = things.codes[mask], owners.codes[mask]
    owner[of] = by
    several = np.zeros(len(things.values) + 1, bool)
    several[of[owner[of] != by]] = True
    return several


def _distinct(column: Coded, mask: Mask) -> int:
    seen = np.zeros(len(column.values) + 1, bool)
    seen[column.codes[mask]] = True
    return int(seen[:-1].sum())


def within(values: np.ndarray[Any, np.dtype[np.float64]], bounds: NumberRange) -> Mask:
    """Return where low <= value <= high; NaN, which is no value, never."""
    low = -np.inf if bounds.min is None else bounds.min
    high = np.inf if bounds.max is None else bounds.max
    with np.errstate(invalid="ignore"):
        return np.asarray((values >= low) & (values <= high), dtype=bool)


def _both(left: Mask, right: Mask) -> Mask:
    return np.asarray(left & right, dtype=bool)


def counted(of: Ints, size: int, bounds: CountRange) -> Mask:
    """Return for each code below `size` whether it occurs within the bounds, and at all."""
    times = np.bincount(of, minlength=size)
    low, high = bounds.min or 1, bounds.max or np.iinfo(np.int64).max
    return np.asarray((times >= max(low, 1)) & (times <= high), dtype=bool)


def enough_series(keys: Keys, mask: Mask, bounds: CountRange) -> Mask:
    """Return the rows of `mask` whose study has so many rows there."""
    fits = counted(keys.study.codes[mask], len(keys.study.values), bounds)
    return _both(mask, np.append(fits, False)[keys.study.codes])


def enough_studies(keys: Keys, mask: Mask, bounds: CountRange) -> Mask:
    """Return the rows of `mask` whose subject has so many studies there."""
    owner = keys.owners(mask)
    fits = counted(owner[owner >= 0], len(keys.record.values), bounds)
    return _both(mask, np.append(fits, False)[keys.record.codes])


def end_study(keys: Keys, mask: Mask, days: Ints, which: str) -> Mask:
    """
    Return the rows of the first or last study of each subject; of one day, the smaller UID.

    days: int32 a row, NO_DAY without one. A study without a day is none of them: nobody can tell.
    """
    day = study_day(keys, mask, days)
    owner = keys.owners(mask)
    dated = np.flatnonzero((owner >= 0) & (day != NO_DAY))
    uids = keys.study.values.take(pa.array(dated))
    rank = np.empty(len(dated), np.int64)
    rank[pc.sort_indices(uids).to_numpy()] = np.arange(len(dated))
    when = day[dated].astype(np.int64) * (1 if which == "first" else -1)
    order = dated[np.lexsort((rank, when, owner[dated]))]
    chosen = order[np.unique(owner[order], return_index=True)[1]]
    fits = np.zeros(len(day) + 1, bool)
    fits[chosen] = True
    return mask & fits[keys.study.codes]


def study_day(keys: Keys, mask: Mask, days: Ints) -> Ints:
    """Return the earliest day of each study's rows in `mask`, by study code; NO_DAY without one."""
    least = np.full(len(keys.study.values), np.iinfo(np.int32).max, np.int64)
    rows = mask & (days != NO_DAY)
    np.minimum.at(least, keys.study.codes[rows], days[rows])
    return np.where(least == np.iinfo(np.int32).max, NO_DAY, least)


def days_of(keys: Keys, mask: Mask, days: Ints) -> dict[str, tuple[int, ...]]:
    """Return the days of each subject's studies in `mask`, ascending, each once, by record id."""
    day, owner = study_day(keys, mask, days), keys.owners(mask)
    dated = (owner >= 0) & (day != NO_DAY)
    pairs = np.unique(np.stack([owner[dated], day[dated]], axis=1), axis=0)
    codes, starts = np.unique(pairs[:, 0], return_index=True)
    names = keys.record.values.take(pa.array(codes)).to_pylist()
    parts = np.split(pairs[:, 1], starts[1:]) if len(names) else []
    return {name: tuple(part.tolist()) for name, part in zip(names, parts, strict=True)}


def studies_with(one: FeatureCriterion, features: pa.Table, keys: Keys) -> Mask:
    """Return the rows of `keys` whose study has one feature (FEATURES_SCHEMA) that meets `one`."""
    fits = np.ones(features.num_rows, bool)
    for wanted, name in ((one.finding, "finding"), (one.measurement, "feature")):
        if wanted:
            named, by_code = coded(features[name]), coded(features[f"{name}_code"])
            fits &= named.where(partial(_named, wanted)) | by_code.where(partial(_named, wanted))
    if one.value:
        fits &= within(features["value"].to_numpy().astype(np.float64), one.value)
    if one.unit:
        fits &= coded(features["unit"]).where(lambda said: said in one.unit)
    if one.algorithm:
        algorithm = coded(features["algorithm"])
        fits &= algorithm.where(lambda said: any(part in plain(said) for part in one.algorithm))
    has = pc.is_in(keys.study.values, value_set=features["study_uid"].filter(pa.array(fits)))
    return np.append(has.to_numpy(zero_copy_only=False), False)[keys.study.codes]


def _named(wanted: tuple[str, ...], said: str) -> bool:
    """Tell whether a name, a code, or SCHEME:VALUE, by its value too, is one of those wanted."""
    return plain(said) in wanted or plain(said.rpartition(":")[2]) in wanted


def plain(said: str) -> str:
    """Return a text as criteria are written: capitals, single spaces."""
    return " ".join(said.split()).upper()


def asked_columns(criteria: ImagingCriteria) -> list[str]:
    """Return the columns of SERIES_SCHEMA that the criteria read."""
    names = ["collection", "modality", "body_part", "anatomic_site", "manufacturer"]
    names += ["manufacturer_model", "slice_thickness", "kvp", "contrast"]
    return [name for name in names if getattr(criteria, name) not in (None, ())]
