"""
Open an imaging commons of any kind, and read what stands beside its series.

    source = open_source(con, config)
    tables, dropped = beside(source, fits)      features, events and files of the subjects that fit
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import SourceRefused
from sites.cohort.bundle import ACQUISITION_SCHEMA, BUNDLE_SCHEMAS, FEATURES_SCHEMA
from sites.cohort.config_imaging import ImagingConfig
from sites.cohort.imaging_gen3 import open_gen3
from sites.cohort.imaging_hub import open_hub
from sites.cohort.imaging_mi_cdm import open_mi_cdm
from sites.cohort.imaging_series import Source, as_schema, blanked, open_series
from sites.cohort.tables import read_file

_BESIDE = ("features", "events", "files")
_TEXTS = {
    "features": ("feature", "finding", "tracking_id", "value_text", "algorithm", "anatomic_site"),
    "events": ("name", "value_text"),
    "files": ("name", "object_id", "file_name", "reference"),
}
"""The free texts of each table, which may hold a record id; the rest are codes and words."""


_OPENERS = {
    "series": open_series,
    "gen3": open_gen3,
    "mi_cdm": open_mi_cdm,
    "hub": open_hub,
}


def open_source(con: Any, config: ImagingConfig) -> Source:
    """Open what [imaging] of the site file names. Raises SourceRefused."""
    source = _OPENERS[config.kind](con, config)
    if config.acquisition:
        source = replace(source, acquisition=_acquisition(con, config.acquisition))
    if config.features:
        source = replace(source, features=partial(_features, con, config.features, source.features))
    # Features are read twice where a criterion asks for them: to evaluate, and to deliver.
    return replace(source, features=cache(source.features) if source.features else None)


def _acquisition(con: Any, place: Path) -> pa.Table:
    """Read how series were made, a row a series: what the series table itself may not say."""
    raw = read_file(con, place, "acquisition_file")
    if "series_uid" not in {column.lower() for column in raw.columns}:
        raise SourceRefused(
            file=place.name,
            rule="has no column 'series_uid'",
            hint="make it with linkage-site read-dicom",
        )
    there = {column.lower() for column in raw.columns}
    schema = pa.schema([field for field in ACQUISITION_SCHEMA if field.name in there])
    table = as_schema(raw, schema)
    first = pc.index_in(pc.unique(table["series_uid"]), value_set=table["series_uid"])
    return table.take(first)


def _features(con: Any, place: Path, before: Any) -> pa.Table:
    """Load the table of features that the site file names, after those of the commons itself."""
    raw = read_file(con, place, "features_file")
    by_lower = {column.lower(): column for column in raw.columns}
    for needed in ("study_uid", "feature"):
        if needed not in by_lower:
            raise SourceRefused(
                file=place.name,
                rule=f"has no column {needed!r}",
                hint="its columns are those of FEATURES_SCHEMA; docs/imaging.md lists them",
            )
    found = as_schema(raw, FEATURES_SCHEMA, source="table")
    return pa.concat_tables([before(), found]) if before else found


def beside(source: Source, fits: pa.Table) -> tuple[dict[str, pa.Table], int]:
    """
    Return features, events and files of the subjects that fit, record_id first and in order of it,
    and how many texts were left out because they hold the record id. fits: as delivered_rows.

    A feature, or a file of a study, goes with the study and only if that study fits; an event, or
    a file of no study, goes with its subject.
    """
    owner = fits.group_by("study_uid", use_threads=False).aggregate([("record_id", "first")])
    made, dropped = {}, 0
    for name in _BESIDE:
        load = getattr(source, name)
        schema = pa.schema([pa.field("record_id", pa.string()), *BUNDLE_SCHEMAS[name]])
        if load is None:
            made[name] = schema.empty_table()
            continue
        table = load(fits) if name == "files" else load()
        if name == "files" and source.config.kind == "series":
            # A report or segmentation that fits by itself is delivered as a series.
            twice = pc.is_in(table["series_uid"], value_set=fits["series_uid"])
            table = table.filter(pc.invert(twice))
        table, texts = _without_ids(_owned(table, owner, fits), name, source)
        made[name] = table.select(schema.names).cast(schema)
        dropped += texts
    return made, dropped


def _owned(table: pa.Table, owner: pa.Table, fits: pa.Table) -> pa.Table:
    """Return the rows of subjects that fit, with their record_id, in order of it."""
    record_id = pa.nulls(table.num_rows, pa.string())
    if "study_uid" in table.schema.names:
        at = pc.index_in(table["study_uid"], value_set=owner["study_uid"])
        record_id = pc.take(owner["record_id_first"].combine_chunks(), at)
        studied = pc.is_valid(table["study_uid"])
    else:
        studied = pa.scalar(False)
    if "record_id" in table.schema.names:
        own = table["record_id"]
        inside = pc.is_in(own, value_set=pc.unique(fits["record_id"]))
        own = pc.if_else(inside, own, pa.scalar(None, pa.string()))
        record_id = pc.if_else(studied, record_id, own)
        table = table.drop_columns("record_id")
    table = table.add_column(0, "record_id", record_id)
    return table.filter(pc.is_valid(table["record_id"])).sort_by("record_id")


def _without_ids(table: pa.Table, name: str, source: Source) -> tuple[pa.Table, int]:
    """Return the rows without any free text that holds the subject's record id, and how many."""
    if not table.num_rows:
        return table, 0
    rows = ibis.memtable(table.append_column("nth", pa.array(range(table.num_rows))))
    at = source.columns.get("collection", "").lower()
    own = [n for n, column in enumerate(source.record_id) if column.lower() != at]
    parts = [rows.record_id]
    if len(source.record_id) > 1:
        parts += [rows.record_id.split("/")[n] for n in own]
    texts = {text_name: rows[text_name] for text_name in _TEXTS[name]}
    clean = rows.mutate(**blanked(texts, parts)).order_by("nth")
    made = source.con.to_pyarrow(clean.drop("nth"))
    return made.drop_columns("blanked"), pc.sum(made["blanked"]).as_py() or 0
