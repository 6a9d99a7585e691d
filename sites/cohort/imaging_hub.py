"""
An imaging commons as the Biomedical Imaging Hub exports it: subject, imaging_study, imaging_series.

Gen3 nodes whose properties are DICOM keywords (StudyInstanceUID, PatientID, SeriesInstanceUID).
A series' object_ids and file_urls are lists: one value goes with the series, several become files.
"""

from __future__ import annotations

from typing import Any

import ibis
import pyarrow as pa

from sites.cohort.bundle import FILES_SCHEMA
from sites.cohort.config_imaging import REQUIRED_SERIES_COLUMNS, SERIES_COLUMNS, ImagingConfig
from sites.cohort.imaging_nodes import Nodes, first, only, together
from sites.cohort.imaging_series import Source, as_schema, record_id_columns

_OTHERWISE = {
    "contrast": ("contrastbolusagent", "contrast"),
    "anatomic_site": ("anatomic_site", "loinc_system"),
}
"""Properties of the Hub's nodes that stand beside or in place of DICOM's."""

_DATASET = ("collection_id", "dataset_submitter_id", "datasets.submitter_id")


def open_hub(con: Any, config: ImagingConfig) -> Source:
    """Open kind "hub". Raises SourceRefused where imaging_study or imaging_series are absent."""
    nodes = Nodes(con, config.place)
    series, study = nodes.needed("imaging_series"), nodes.needed("imaging_study")
    subject = nodes.read("subject")
    properties = {name: (column.lower(),) for name, column in SERIES_COLUMNS.items()} | _OTHERWISE
    lists = {"object_ids": ("object_ids", "object_id"), "file_urls": ("file_urls", "file_url")}
    ids = record_id_columns(subject if subject is not None else study, config, "subject")
    tables = [table for table in (series, study, subject) if table is not None]
    there = {column for table in tables for column in table.columns}
    study = _prefixed(study, "study", {**properties, **_record(ids)}, "subjects")
    if subject is not None:
        owner = _prefixed(subject, "subject", {**properties, **_record(ids)})
        study = nodes.linked(study, "subjects", owner, otherwise=("patientid", "case_ids"))
    study = con.create_table("hub_study", study.drop(*_links(study)), temp=True)
    rows = _prefixed(series, "series", {**properties, **lists, **_record(ids)}, "imaging_studies")
    rows = nodes.linked(rows, "imaging_studies", study)
    nearest = ("series", "study", "subject")
    made = {
        name: first(rows, *(f"{level}_{name}" for level in nearest))
        for name in (*properties, *_record(ids))
    }
    made["collection"] = made["collection"].coalesce(first(rows, "project_id"))
    made["object_id"] = only(rows.series_object_ids)
    made["reference"] = only(rows.series_file_urls)
    # What no node has a column for is refused by name, not answered with nobody.
    said = {name for name, names in properties.items() if there & set(names)} - {"size_mb"}
    said |= {*REQUIRED_SERIES_COLUMNS, "collection", "object_id", "reference"}
    rows = rows.select(
        submitter_id=rows.submitter_id,
        object_ids=rows.series_object_ids,
        file_urls=rows.series_file_urls,
        **made,
    )
    raw = con.create_table("hub_raw", rows.order_by("series_uid", "submitter_id"), temp=True)
    return Source(
        con=con,
        name=config.place.name,
        raw=raw,
        columns={name: name for name in properties if name in said},
        record_id=tuple(_record(ids)),
        config=config,
        files=lambda _: _files(raw),
        notes=nodes.notes,
    )


def _record(ids: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {f"record_{n}": (column,) for n, column in enumerate(ids)}


def _prefixed(table: Any, level: str, wanted: dict[str, tuple[str, ...]], *links: str) -> Any:
    """Return a node's keys, its links and its properties, these named for the node."""
    linking = [c for c in table.columns if c.split(".")[0] in links]
    linking += [c for c in ("patientid", "case_ids") if c in table.columns and links]
    made = {f"{level}_{name}": first(table, *names) for name, names in wanted.items()}
    made[f"{level}_collection"] = first(table, *_DATASET)
    keys = {name: first(table, name) for name in ("id", "submitter_id", "project_id")}
    return table.select(**keys, **{c: table[c] for c in linking}, **made)


def _links(table: Any) -> list[str]:
    return [c for c in table.columns if "." in c or c in ("patientid", "case_ids")]


def _files(raw: Any) -> pa.Table:
    """Load FILES_SCHEMA, record_id first: the objects and addresses of series with several."""
    tables = []
    for name, column in (("object_id", "object_ids"), ("reference", "file_urls")):
        bare = raw[column].re_replace(r"[\[\]{}\"'\s]", "")
        parts = raw.filter(bare.contains(",")).mutate(part=bare.re_split(",")).unnest("part")
        tables.append(
            parts.select(
                record_id=ibis.null("string"),
                study_uid=parts.study_uid,
                series_uid=parts.series_uid,
                kind=ibis.literal("DICOM"),
                **{name: parts.part},
            )
        )
    schema = pa.schema([pa.field("record_id", pa.string()), *FILES_SCHEMA])
    return as_schema(together(tables), schema)
