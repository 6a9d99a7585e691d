"""One evaluation of imaging criteria: which series fit, step by step, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.cohort.spec_words import imaging_in_words
from linkage.errors import SourceRefused
from sites.cohort import imaging_criteria as fast
from sites.cohort.attrition import Attrition
from sites.cohort.bundle import SERIES_SCHEMA
from sites.cohort.imaging_answer import ImagingAnswer
from sites.cohort.imaging_criteria import NO_DAY, Coded, Ints, Keys, Mask, coded
from sites.cohort.imaging_series import Source, delivered_rows
from sites.cohort.imaging_source import beside
from sites.cohort.tables import no_values_in_errors


class Evaluation:
    """One evaluation: the keys and asked columns of all series, and what is left of them."""

    def __init__(self, source: Source, criteria: ImagingCriteria) -> None:
        self.source, self.criteria = source, criteria
        self.notes: list[str] = []
        self.index_event = source.config.index_event
        self.dated = criteria.dates or criteria.study != "any"
        columns = source.columns
        asked = {name: source.column(name) for name in fast.asked_columns(criteria)}
        if self.dated:
            index = source.config.date_frame == "index"
            asked["day"] = source.column("study_day" if index else "study_date")
            asked |= {"index_event": source.column("index_event")} if index else {}
        raw = source.raw
        keys = {f"id_{n}": raw[name].cast("string") for n, name in enumerate(source.record_id)}
        keys |= {name: raw[columns[name]].cast("string") for name in ("study_uid", "series_uid")}
        keys["known"] = raw[columns["modality"]].cast("string")
        if "collection" in columns:
            keys["in_collection"] = raw[columns["collection"]].cast("string")
        self.table = raw.select(**keys, **asked).to_pyarrow()
        ids = [self.text(f"id_{n}") for n in range(len(source.record_id))]
        self.keys = Keys(fast.joined(ids), self.text("study_uid"), self.text("series_uid"))
        if (more := source.acquisition) is not None:
            at = pc.index_in(self.keys.series.values, value_set=more["series_uid"])
            rows = at.take(pa.array(self.keys.series.codes, mask=self.keys.series.codes < 0))
            for name in set(asked) & set(more.schema.names):
                filled = pc.coalesce(self.table[name], more[name].combine_chunks().take(rows))
                place = self.table.schema.get_field_index(name)
                self.table = self.table.set_column(place, name, filled)

    def text(self, name: str) -> Coded:
        return coded(self.table[name])

    def number(self, name: str) -> Any:
        return self.table[name].to_numpy().astype(np.float64)

    def answer(self) -> ImagingAnswer:
        """Apply every criterion in turn. Raises SourceRefused."""
        keys, steps = self.keys, []
        if "in_collection" in self.table.schema.names:
            self._refuse_ambiguous_ids()
        steps.append(keys.step("series of the commons", keys.record.codes >= 0))
        mask = keys.attributable(self.text("known").codes >= 0)
        steps.append(keys.step("whose subject, study and series are certain", mask))
        conditions = self._conditions()
        labels = imaging_in_words(self.criteria) if conditions else []
        for label, condition in zip(labels, conditions, strict=True):
            mask = mask & condition(mask)
            steps.append(keys.step(label, mask))
        days = self._days_of(mask) if self.criteria.dates else {}
        # After the criteria: features that one of them asks for may have had notes of their own.
        read = tuple(self.source.notes)
        attrition = Attrition(side="imaging", steps=tuple(steps), notes=(*read, *self.notes))
        fits = self._fits(mask)
        return ImagingAnswer(
            record_ids=tuple(pc.unique(fits["record_id"]).to_pylist()),
            attrition=attrition,
            frame=self.source.config.date_frame,
            index_event=self.index_event if self.source.config.date_frame == "index" else None,
            days=days,
            load=partial(_load, self.source, fits, len(read)),
        )

    def _refuse_ambiguous_ids(self) -> None:
        count = fast.records_in_several(self.keys.record, self.text("in_collection"))
        if count:
            raise SourceRefused(
                file=self.source.name,
                rule=f"{count} record ids occur in more than one collection",
                hint=_BOTH.get(self.source.config.kind, _BOTH["series"])
                + " in [imaging], and the same ids in the identifier file",
            )

    def _conditions(self) -> list[Callable[[Mask], Mask]]:
        """Return one condition a criterion, in the order of `imaging_in_words`; none never fits."""
        asked = self.criteria
        made: list[Callable[[Mask], Mask]] = []
        for name in ("collection", "modality", "body_part", "anatomic_site"):
            if wanted := getattr(asked, name):
                change = str if name == "collection" else fast.plain
                made += [self._fixed(self.text(name).where(partial(_equal, change, wanted)))]
        for name in ("manufacturer", "manufacturer_model"):
            if wanted := getattr(asked, name):
                made += [self._fixed(self.text(name).where(partial(_contains, wanted)))]
        for name in ("slice_thickness", "kvp"):
            if between := getattr(asked, name):
                made += [self._fixed(fast.within(self.number(name), between))]
        if asked.contrast is not None:
            same = pc.equal(self.table["contrast"], asked.contrast).fill_null(False)
            made.append(self._fixed(same.to_numpy().astype(bool)))
        if asked.features and self.source.features is not None:
            features = self.source.features()
            made += [
                self._fixed(fast.studies_with(one, features, self.keys)) for one in asked.features
            ]
        if bounds := asked.series_per_study:
            made += [partial(fast.enough_series, self.keys, bounds=bounds)]
        if bounds := asked.studies_per_subject:
            made += [partial(fast.enough_studies, self.keys, bounds=bounds)]
        if asked.study != "any":
            made.append(self._end_study)
        return made

    @staticmethod
    def _fixed(holds: Mask) -> Callable[[Mask], Mask]:
        return lambda _: holds

    def _end_study(self, mask: Mask) -> Mask:
        days = self._days()
        undated = fast.study_day(self.keys, mask, days)[np.unique(self.keys.study.codes[mask])]
        if missing := int((undated == NO_DAY).sum()):
            self.notes.append(f"{missing} fitting studies have no date, so none can be the first")
        return fast.end_study(self.keys, mask, days, self.criteria.study)

    def _days(self) -> Ints:
        """Return the day of every series as int32, NO_DAY without one."""
        days = self.table["day"].cast(pa.int32()).fill_null(NO_DAY)
        made: Ints = days.to_numpy().astype(np.int64)
        return made

    def _days_of(self, mask: Mask) -> dict[str, tuple[int, ...]]:
        days = self._days()
        if self.source.config.date_frame == "index":
            days = np.where(self._of_the_index_event(mask & (days != NO_DAY)), days, NO_DAY)
        return fast.days_of(self.keys, mask, days)

    def _of_the_index_event(self, mask: Mask) -> Mask:
        """Return the rows whose days count from the answer's one event. Raises SourceRefused."""
        events = self.text("index_event")
        spelled = {fast.plain(one): one for one in sorted(events.values.to_pylist(), reverse=True)}
        codes = np.unique(events.codes[mask])
        used = {fast.plain(one) for one in events.values.take(codes[codes >= 0]).to_pylist()}
        wanted = fast.plain(self.index_event or "")
        if not wanted:
            if len(used) > 1 or (not used and mask.any()):
                what = f"count from {len(used)} index events" if used else "name no index event"
                raise SourceRefused(
                    file=self.source.name,
                    rule=f"has study days that {what}",
                    hint='name the one that counts as index_event = "..." in [imaging]',
                )
            wanted = min(used, default="")
        # As the data spells it: the rows say it so too, and the enclave knows it by this name.
        self.index_event = spelled.get(wanted, self.index_event)
        holds = events.where(lambda said: fast.plain(said) == wanted)
        if others := int((mask & ~holds).sum()):
            self.notes.append(f"{others} fitting series count their days from another event")
        return holds

    def _fits(self, mask: Mask) -> pa.Table:
        """Return the rows in `mask` as sites.cohort.imaging_series.delivered_rows wants them."""
        rows = np.flatnonzero(mask)
        keys = self.keys
        table = pa.table(
            {
                "nth": rows,
                "record_id": keys.record.values.take(pa.array(keys.record.codes[rows])),
                "study_uid": keys.study.values.take(pa.array(keys.study.codes[rows])),
                "series_uid": keys.series.values.take(pa.array(keys.series.codes[rows])),
            }
        )
        order = [(name, "ascending") for name in ("record_id", "study_uid", "series_uid")]
        table = table.sort_by(order)
        return table.append_column("position", pa.array(np.arange(len(rows))))


_BOTH = {
    "series": "PatientID is not unique over collections: record_id = "
    '["collection_id", "PatientID"]',
    "gen3": 'submitter_id is unique in one project: record_id = ["project_id", "submitter_id"]',
}


def _equal(change: Callable[[str], str], wanted: tuple[str, ...], said: str) -> bool:
    return change(said) in wanted


def _contains(wanted: tuple[str, ...], said: str) -> bool:
    name = fast.plain(said)
    return any(part in name for part in wanted)


def _load(
    source: Source, fits: pa.Table, noted: int
) -> tuple[dict[str, pa.Table], tuple[str, ...]]:
    """
    Return the four tables of all subjects that fit, record_id first, and notes on them. noted: how
    many of the source's notes were told before.
    """
    with no_values_in_errors(source.name):
        series = delivered_rows(source, fits)
        others, dropped = beside(source, fits)
    notes = list(source.notes[noted:])
    undated = pc.sum(pc.equal(series["date_frame"], "absent")).as_py() or 0
    texts = (pc.sum(series["blanked"]).as_py() or 0) + dropped
    if texts:
        notes.append(f"{texts} texts were left out: they hold the record id itself")
    if undated:
        notes.append(f"{undated} series have no study date")
    rows = series.select(SERIES_SCHEMA.names).add_column(0, "record_id", fits["record_id"])
    return {"series": rows, **others}, tuple(notes)
