"""
An imaging commons kept as OMOP with the Medical Imaging extension: image_occurrence, image_feature.

Park et al. 2024, doi:10.1007/s10278-024-00982-6. A folder with a file a table, or a DuckDB file.
Names are read case apart. Modality: by the shipped map of concepts, else by the DICOM code of the
concept table. A feature's value lies in the measurement or observation that it points to. Features
named for DICOM's acquisition parameters ("Slice Thickness", "KVP") are read as those of the series.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from linkage.cohort.spec_imaging import MODALITIES
from linkage.errors import SourceRefused
from sites.cohort.bundle import ACQUISITION, FEATURES_SCHEMA
from sites.cohort.codes import load_concepts
from sites.cohort.config_imaging import SERIES_COLUMNS, ImagingConfig
from sites.cohort.imaging_nodes import first
from sites.cohort.imaging_series import Source, as_schema, record_id_columns, text
from sites.cohort.tables import TEXT_SUFFIXES, meaning, read_file

_MEASUREMENT = ("1147330", "1147138")
_OBSERVATION = ("1147304", "1147165")
"""Concepts of the tables and of their ids; both are in use as image_feature_event_field."""


class _Tables:
    """The tables of the folder or DuckDB file: all texts, names in lower case."""

    def __init__(self, con: Any, config: ImagingConfig) -> None:
        self.con, self.place, self.schema = con, config.place, config.db_schema
        self.by_name: dict[str, Any] = {}
        if self.place.is_dir():
            for path in sorted(self.place.iterdir()):
                if path.name.lower().endswith((*TEXT_SUFFIXES, ".parquet")):
                    self.by_name[path.name.lower().split(".")[0]] = path
        elif self.place.is_file():
            quoted = str(self.place).replace("'", "''")
            con.con.execute(f"ATTACH '{quoted}' AS mi_cdm (READ_ONLY)")
            asked = (
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_catalog = 'mi_cdm' AND table_schema = ?"
            )
            for (name,) in con.con.execute(asked, [self.schema]).fetchall():
                self.by_name[name.lower()] = name

    def read(self, name: str) -> Any:
        """Return a table, or None."""
        if (found := self.by_name.get(name)) is None:
            return None
        if isinstance(found, Path):
            raw = read_file(self.con, found, f"mi_{name}")
        else:
            raw = self.con.table(found, database=("mi_cdm", self.schema))
        return raw.select(**{meaning(column): text(raw, column) for column in raw.columns})


def open_mi_cdm(con: Any, config: ImagingConfig) -> Source:
    """Open kind "mi_cdm". Raises SourceRefused where there is no image_occurrence."""
    tables = _Tables(con, config)
    occurrence = tables.read("image_occurrence")
    if occurrence is None:
        raise SourceRefused(
            file=config.place.name,
            rule="has no table image_occurrence",
            hint="path is a folder with image_occurrence.parquet or .csv, or a DuckDB file",
        )
    if not {column.lower() for column in config.record_id} <= set(occurrence.columns):
        person = tables.read("person")
        if person is None:
            person = occurrence.select("person_id")
        names = record_id_columns(person, config, "person")
        named = person.select(key=person.person_id, **{f"own_{c}": person[c] for c in names})
        named = named.distinct(on="key", keep="first")
        both = occurrence.left_join(named, occurrence.person_id == named.key)
        occurrence = con.create_table("mi_cdm_occurrence", both, temp=True)
        ids = tuple(f"own_{column}" for column in names)
    else:
        ids = record_id_columns(occurrence, config, "image_occurrence")
    concept = tables.read("concept")
    made = {
        "occurrence_id": occurrence.image_occurrence_id,
        "study_uid": occurrence.image_study_uid,
        "series_uid": occurrence.image_series_uid,
        "study_date": first(occurrence, "image_occurrence_date"),
        "wadors_uri": first(occurrence, "wadors_uri"),
        "modality_id": first(occurrence, "modality_concept_id"),
        "site_id": first(occurrence, "anatomic_site_concept_id"),
        **{f"record_{n}": occurrence[column] for n, column in enumerate(ids)},
    }
    rows = occurrence.select(**made)
    rows = _with_concept(rows, concept, "modality_id", "modality_")
    rows = _with_concept(rows, concept, "site_id", "site_")
    shipped = {str(number): code for code, number in load_concepts().modality.items()}
    by_map = rows.modality_id.cases(*shipped.items(), else_=ibis.null("string"))
    by_code = ibis.ifelse(
        rows.modality_code.upper().isin(MODALITIES), rows.modality_code, ibis.null("string")
    )
    rows = rows.mutate(modality=by_map.coalesce(by_code), anatomic_site=rows.site_name)
    features = _feature_table(tables, concept)
    columns = {"study_uid", "series_uid", "modality", "study_date", "wadors_uri", "anatomic_site"}
    if features is not None:
        rows = _with_parameters(rows, features)
        columns |= set(_PARAMETERS.values())
    raw = con.create_table("mi_cdm_raw", rows.order_by("occurrence_id"), temp=True)
    return Source(
        con=con,
        name=config.place.name,
        raw=raw,
        columns={name: name for name in columns},
        record_id=tuple(f"record_{n}" for n in range(len(ids))),
        config=config,
        features=None if features is None else partial(_features, raw, features),
    )


def _with_concept(rows: Any, concept: Any, key: str, prefix: str) -> Any:
    """Return rows with name, code and vocabulary of the concept in `key`; 0 is no concept."""
    if concept is None:
        nulls = ("name", "code", "vocabulary")
        return rows.mutate(**{f"{prefix}{name}": ibis.null("string") for name in nulls})
    known = concept.filter(concept.concept_id != "0").distinct(on="concept_id", keep="first")
    known = known.select(
        **{
            f"{prefix}key": known.concept_id,
            f"{prefix}name": first(known, "concept_name"),
            f"{prefix}code": first(known, "concept_code"),
            f"{prefix}vocabulary": first(known, "vocabulary_id"),
        }
    )
    joined = rows.left_join(known, rows[key] == known[f"{prefix}key"])
    return joined.drop(f"{prefix}key")


def _feature_table(tables: _Tables, concept: Any) -> Any:
    """Return image_feature with its value, unit and names; None where there is none."""
    feature = tables.read("image_feature")
    if feature is None:
        return None
    rows = feature.select(
        occurrence=feature.image_occurrence_id,
        event_id=first(feature, "image_feature_event_id"),
        event_field=first(feature, "image_feature_event_field_concept_id"),
        feature_id=first(feature, "image_feature_concept_id"),
        finding_id=first(feature, "image_finding_concept_id"),
        tracking_id=first(feature, "image_finding_id").nullif("0"),
        site_id=first(feature, "anatomic_site_concept_id"),
        algorithm=first(feature, "alg_system"),
    )
    for table, fields in (("measurement", _MEASUREMENT), ("observation", _OBSERVATION)):
        rows = _with_value(rows, tables.read(table), table, fields)
    rows = rows.mutate(
        value=rows.measurement_value.coalesce(rows.observation_value),
        said=rows.measurement_text.coalesce(rows.observation_text),
        said_id=rows.measurement_concept.coalesce(rows.observation_concept),
        unit_id=rows.measurement_unit_id.coalesce(rows.observation_unit_id),
        unit_said=rows.measurement_unit.coalesce(rows.observation_unit),
        source_name=rows.measurement_source.coalesce(rows.observation_source),
        observed_date=rows.measurement_day.coalesce(rows.observation_day),
    )
    for key in ("feature", "finding", "site", "said", "unit"):
        rows = _with_concept(rows, concept, f"{key}_id", f"{key}_")
    named = rows.feature_name.coalesce(rows.source_name).coalesce(_omop(rows.feature_id))
    return rows.mutate(feature=named)


def _with_value(rows: Any, table: Any, name: str, fields: tuple[str, ...]) -> Any:
    wanted = {
        "value": ("value_as_number",),
        "text": ("value_as_string", "value_source_value"),
        "concept": ("value_as_concept_id",),
        "unit_id": ("unit_concept_id",),
        "unit": ("unit_source_value",),
        "source": (f"{name}_source_value",),
        "day": (f"{name}_date",),
    }
    if table is None:
        return rows.mutate(**{f"{name}_{key}": ibis.null("string") for key in wanted})
    side = table.select(
        **{f"{name}_key": table[f"{name}_id"]},
        **{f"{name}_{key}": first(table, *columns) for key, columns in wanted.items()},
    )
    mine = rows.event_field.isin(fields)
    joined = rows.left_join(side, [rows.event_id == side[f"{name}_key"], mine])
    return joined.drop(f"{name}_key")


def _omop(number: Any) -> Any:
    return ibis.ifelse(number == "0", ibis.null("string"), ibis.literal("OMOP:") + number)


def _plain(name: Any) -> Any:
    return name.re_replace(r"[^A-Za-z]", "").lower()


_PARAMETERS = {
    SERIES_COLUMNS[name].lower(): name for name in ("slice_thickness", "kvp", *ACQUISITION)
}


def _with_parameters(rows: Any, features: Any) -> Any:
    """Return rows with the acquisition parameters that features of the series hold."""
    held = features.mutate(parameter=_plain(features.feature))
    held = held.filter(held.parameter.isin(list(_PARAMETERS)) & held.value.notnull())
    whole = held.group_by("occurrence").agg(
        **{
            name: ibis.ifelse(
                held.value.nunique(where=held.parameter == keyword) == 1,
                held.value.max(where=held.parameter == keyword),
                ibis.null("string"),
            )
            for keyword, name in _PARAMETERS.items()
        }
    )
    return rows.left_join(whole, rows.occurrence_id == whole.occurrence).drop("occurrence")


def _features(raw: Any, features: Any) -> pa.Table:
    """Load FEATURES_SCHEMA of all series."""
    series = raw.select("occurrence_id", "study_uid", "series_uid")
    rows = features.inner_join(series, features.occurrence == series.occurrence_id)
    rows = rows.select(
        *("study_uid", "series_uid", "feature", "tracking_id", "value", "algorithm"),
        "observed_date",
        feature_code=_code(rows, "feature"),
        finding=rows.finding_name.coalesce(_omop(rows.finding_id)),
        finding_code=_code(rows, "finding"),
        value_text=rows.said_name.coalesce(rows.said),
        unit=rows.unit_code.coalesce(rows.unit_said),
        anatomic_site=rows.site_name,
        source=ibis.literal("mi_cdm"),
    )
    return as_schema(rows, FEATURES_SCHEMA)


def _code(rows: Any, key: str) -> Any:
    """Return VOCABULARY:CODE of a concept, or OMOP:concept id where there is no concept table."""
    named = rows[f"{key}_vocabulary"] + ":" + rows[f"{key}_code"]
    return named.coalesce(_omop(rows[f"{key}_id"]))
