"""
What came of the imaging commons, of all matched persons together, and what of it is certain.

    came = gather({cohort_id: [bundle, ...]})
    came.series        series whose person is certain, with `cohort_id`, each once
    came.features      features of those series' studies; came.files likewise; came.events: all

Two imaging records of one person may bring the same rows twice: they count once. A series or a
study that two persons claim is left out with all that belongs to it: nobody can tell whose it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from sites.cohort.bundle import bundles_from_bytes, checked_table

OWNER = "cohort_id"
Bundle: TypeAlias = Any
"""One subject's bundle: bytes as it was sealed, tables by name, or a table, its series alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Received:
    """
    series, features, events, files: BUNDLE_SCHEMAS, with a last column `cohort_id`.

    persons: cohort IDs of whom any series came. ambiguous: series left out because two persons
    claim them or their study. without_study: features and files whose study has no series here.
    """

    series: pa.Table
    features: pa.Table
    events: pa.Table
    files: pa.Table
    persons: frozenset[str]
    ambiguous: int
    without_study: int

    def of_persons(self, cohort_ids: Collection[str]) -> Received:
        """Return the rows of these persons only."""
        wanted = pa.array(sorted(cohort_ids), pa.string())
        series, features, events, files = (
            table.filter(pc.is_in(table[OWNER], value_set=wanted))
            for table in (self.series, self.features, self.events, self.files)
        )
        return Received(
            series=series,
            features=features,
            events=events,
            files=files,
            persons=self.persons & frozenset(cohort_ids),
            ambiguous=self.ambiguous,
            without_study=self.without_study,
        )


def gather(images: Mapping[str, Sequence[Bundle]]) -> Received:
    """
    Return all rows that came, by the rules of this module; rows in an order that only they decide.

    images: by cohort ID, one entry a bundle. Raises PackageRefused for malformed bundles.
    """
    came = _together(images)
    series, ambiguous = _certain(_once(came["series"]))
    features = _once(came["features"])
    files = _once(came["files"])
    of_study, of_series = _of_studies(features, series), _of_studies(files, series)
    lost = features.num_rows - of_study.num_rows + files.num_rows - of_series.num_rows
    return Received(
        series=series,
        features=of_study,
        events=_once(came["events"]),
        files=of_series,
        persons=frozenset(pc.unique(came["series"][OWNER]).to_pylist()),
        ambiguous=ambiguous,
        without_study=lost,
    )


def _together(images: Mapping[str, Sequence[Bundle]]) -> dict[str, pa.Table]:
    sealed = [(one, b) for one, several in images.items() for b in several if isinstance(b, bytes)]
    together = bundles_from_bytes(sealed)
    parts = {
        name: [table.rename_columns([*table.column_names[:-1], OWNER])]
        for name, table in together.items()
    }
    for one, several in images.items():
        for bundle in several:
            if isinstance(bundle, bytes):
                continue
            tables = {"series": bundle} if isinstance(bundle, pa.Table) else bundle
            for name, table in tables.items():
                owner = pa.array([one] * table.num_rows, pa.string())
                parts[name].append(checked_table(name, table).append_column(OWNER, owner))
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def _once(table: pa.Table) -> pa.Table:
    """Return each row once, ordered by its values: not by the order in which it came."""
    if not table.num_rows:
        return table
    names = [OWNER, *(name for name in table.column_names if name != OWNER)]
    found = table.combine_chunks().group_by(names).aggregate([])
    ordered = found.sort_by([(name, "ascending") for name in names])
    return ordered.select(table.column_names).cast(table.schema)


def _certain(series: pa.Table) -> tuple[pa.Table, int]:
    """Return series that one person claims, in studies that nobody else claims; count the rest."""
    # Of one series with two descriptions the first counts; rows are in the order of their values.
    at = pa.array(range(series.num_rows), pa.int64())
    keys = [OWNER, "study_uid", "series_uid"]
    first = series.append_column("at", at).group_by(keys).aggregate([("at", "min")])
    once = series.take(_ascending(first["at_min"]))
    certain = once
    for uid in ("study_uid", "series_uid"):
        owners = certain.group_by(uid).aggregate([(OWNER, "count_distinct")])
        alone = owners.filter(pc.equal(owners[f"{OWNER}_count_distinct"], 1))[uid]
        certain = certain.filter(pc.is_in(certain[uid], value_set=alone.combine_chunks()))
    return certain, once.num_rows - certain.num_rows


def _ascending(numbers: pa.ChunkedArray) -> pa.Array:
    together = numbers.combine_chunks()
    return together.take(pc.sort_indices(together))


def _of_studies(table: pa.Table, series: pa.Table) -> pa.Table:
    """Return rows whose person has a certain series of their study; all, if they name no study."""
    keys = [OWNER, "study_uid"]
    studies = series.select(keys).group_by(keys).aggregate([])
    known = table.join(studies, keys=keys, join_type="left semi")
    known = known.select(table.column_names).cast(table.schema)
    loose = table.filter(pc.is_null(table["study_uid"]))
    return _once(pa.concat_tables([known, loose]))
