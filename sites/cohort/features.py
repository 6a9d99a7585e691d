"""
image_feature of MI-CDM, the measurements and observations that hold its values, and episodes.

    made = feature_tables(rows, features, book, first)
    made.image_feature, made.measurement, made.observation, made.episode, made.episode_event

What becomes a feature: each acquisition parameter of a series (slice thickness, kVp ...), and each
measurement or finding that the commons holds (DICOM SR, tables, Gen3 nodes). Rules:

- A number goes to `measurement`, anything else to `observation`, so that OHDSI tools see it;
  image_feature points there (image_feature_event_field_concept_id, image_feature_event_id).
- image_feature needs one series. A feature that names a series of the delivery is that series';
  else it is its study's first series', in the order of image_occurrence_id, and
  image_feature_provenance says "study".
- Its date is its own, else its study's, placed by the rule of sites.cohort.calendar.
- Features with one tracking id are one finding over time: one episode, from the first to the last
  of its dates, with an episode_event for each. image_finding_id is the number of that episode; the
  tracking id itself does not leave, because it may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sites.cohort import cdm
from sites.cohort.calendar import Calendar, place
from sites.cohort.codes import Codebook, type_concept, ucum
from sites.cohort.mi_cdm_tables import (
    EPISODE,
    EPISODE_EVENT,
    FEATURE_PROVENANCE,
    IMAGE_FEATURE,
    filled,
)
from sites.cohort.received import OWNER

ACQUIRED: Mapping[str, tuple[str, str, str]] = {
    "slice_thickness": ("DCM:00180050", "Slice Thickness", "mm"),
    "kvp": ("DCM:00180060", "KVP", "kV"),
    "tube_current": ("DCM:00181151", "X-Ray Tube Current", "mA"),
    "exposure_time": ("DCM:00181150", "Exposure Time", "ms"),
    "pixel_spacing": ("DCM:00280030", "Pixel Spacing", "mm"),
    "repetition_time": ("DCM:00180080", "Repetition Time", "ms"),
    "echo_time": ("DCM:00180081", "Echo Time", "ms"),
    "magnetic_field_strength": ("DCM:00180087", "Magnetic Field Strength", "T"),
}
"""By column of the series: DICOM tag as a code (PS3.6), its name, UCUM unit."""

ACQUISITION = "acquisition"
"""source of a feature that is an acquisition parameter; other sources: bundle.FEATURE_SOURCES."""

MEASUREMENT_TABLE, OBSERVATION_TABLE = 1147330, 1147304
"""
image_feature_event_field_concept_id, as OHDSI's imaging group uses it: the table's concept, in the
OMOP vocabulary CDM. Checked: public OMOP code names 1147330 measurement and 1147304 observation.
"""

MEASUREMENT_ID, OBSERVATION_ID = 1147138, 1147165
"""
episode_event_field_concept_id: concepts of the columns measurement_id and observation_id, in the
same vocabulary. Checked: public OMOP code maps both to these columns.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The first new id of each table."""

    image_feature: int
    measurement: int
    observation: int
    episode: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureTables:
    """image_feature and provenance are parallel; without_concept: features whose concept is 0."""

    image_feature: pa.Table
    provenance: pa.Table
    measurement: pa.Table
    observation: pa.Table
    episode: pa.Table
    episode_event: pa.Table
    without_concept: int


_ITEM = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("order", pa.int64()),
        *(
            pa.field(name, pa.string())
            for name in (
                *("source", "feature", "feature_code", "finding", "finding_code", "tracking_id"),
                *("value_text", "unit", "anatomic_site", "algorithm", "algorithm_version"),
                *("attached_to", "date_confidence"),
            )
        ),
        pa.field("value", pa.float64()),
        pa.field("date", pa.date32()),
    ]
)
"""One row a feature. row: which of the series, from 0; order: among the features of that series."""


def feature_tables(
    rows: pa.Table, features: pa.Table, book: Codebook, first: First, calendar: Calendar
) -> FeatureTables:
    """
    Make the tables of all features.

    rows: ImageTables.rows. features: FEATURES_SCHEMA and cohort_id, of studies in `rows`.
    """
    items = pa.concat_tables([_acquired(rows), _observed(rows, features, calendar)])
    items = items.sort_by([("row", "ascending"), ("order", "ascending")]).combine_chunks()
    at = items["row"].combine_chunks()
    numeric = pc.is_valid(items["value"]).combine_chunks()
    event_ids = _event_ids(numeric, first)
    persons = rows["person_id"].combine_chunks().take(at)
    feature, _ = book.look_up("feature", items["feature_code"], items["feature"])
    finding, _ = book.look_up("finding", items["finding_code"], items["finding"])
    episodes, numbers = _episodes(items, persons, finding, numeric, event_ids, book, first)
    types = _types(items["source"].combine_chunks(), book)
    site, _ = book.look_up("anatomic_site", items["anatomic_site"])
    site = pc.if_else(pc.equal(site, 0), None, site)
    count = items.num_rows
    ids = pa.array(np.arange(first.image_feature, first.image_feature + count), pa.int32())
    named = pc.or_(pc.is_valid(items["finding"]), pc.is_valid(items["finding_code"]))
    image_feature = {
        "image_feature_id": ids,
        "person_id": persons,
        "image_occurrence_id": rows["image_occurrence_id"].combine_chunks().take(at),
        "image_feature_event_field_concept_id": pc.if_else(
            numeric, MEASUREMENT_TABLE, OBSERVATION_TABLE
        ),
        "image_feature_event_id": event_ids,
        # What is only found and not measured is a feature of that finding.
        "image_feature_concept_id": pc.if_else(pc.equal(feature, 0), finding, feature),
        "image_feature_type_concept_id": types,
        "image_finding_concept_id": pc.if_else(named.combine_chunks(), finding, None),
        "image_finding_id": numbers,
        "anatomic_site_concept_id": pc.coalesce(
            site, rows["anatomic_site_concept_id"].combine_chunks().take(at)
        ),
        "alg_system": _algorithm(items),
    }
    made = filled(IMAGE_FEATURE, image_feature, count)
    provenance = {
        "image_feature_id": ids,
        **{name: items[name] for name in FEATURE_PROVENANCE.names if name in items.column_names},
    }
    without = pc.sum(pc.equal(made["image_feature_concept_id"], 0)).as_py() or 0
    return FeatureTables(
        image_feature=made,
        provenance=filled(FEATURE_PROVENANCE, provenance, count),
        measurement=_values(
            "measurement", items, persons, feature, finding, numeric, types, book, first.measurement
        ),
        observation=_values(
            "observation",
            items,
            persons,
            feature,
            finding,
            pc.invert(numeric),
            types,
            book,
            first.observation,
        ),
        episode=episodes[0],
        episode_event=episodes[1],
        without_concept=without,
    )


def _acquired(rows: pa.Table) -> pa.Table:
    """Return an item for each acquisition parameter that a series has."""
    parts = [_ITEM.empty_table()]
    for order, (column, (code, name, unit)) in enumerate(ACQUIRED.items()):
        values = rows[column].combine_chunks()
        at = pa.array(np.flatnonzero(pc.is_valid(values).to_numpy(zero_copy_only=False)))
        count = len(at)
        texts = {
            "source": ACQUISITION,
            "feature": name,
            "feature_code": code,
            "unit": unit,
            "attached_to": "series",
        }
        columns = {
            "row": at,
            "order": pa.array(np.full(count, order)),
            "value": values.take(at),
            "date": rows["image_date"].combine_chunks().take(at),
            "date_confidence": rows["date_confidence"].combine_chunks().take(at),
            **{name: pa.repeat(pa.scalar(text), count) for name, text in texts.items()},
        }
        parts.append(filled(_ITEM, columns, count))
    return pa.concat_tables(parts)


def _observed(rows: pa.Table, features: pa.Table, calendar: Calendar) -> pa.Table:
    """Return an item for each feature that came, beside its series or its study's first."""
    own = _row_of(rows, features, [OWNER, "study_uid", "series_uid"])
    study = _row_of(rows, features, [OWNER, "study_uid"])
    at = pc.coalesce(own, study)
    beside = rows.select(["date_frame", "index_event", "image_date", "date_confidence"]).take(at)
    dated = features.select([OWNER, "observed_date", "observed_day"])
    for name in ("date_frame", "index_event"):
        dated = dated.append_column(name, beside[name])
    placed = place(dated, calendar, date="observed_date", day="observed_day")
    has = pc.is_valid(placed.date)
    count = features.num_rows
    columns = {
        **{name: features[name] for name in _ITEM.names if name in features.column_names},
        "row": at,
        "order": pa.array(np.arange(count) + len(ACQUIRED)),
        "attached_to": pc.if_else(pc.is_valid(own), "series", "study"),
        "date": pc.coalesce(placed.date, beside["image_date"].combine_chunks()),
        "date_confidence": pc.if_else(
            has, placed.confidence, beside["date_confidence"].combine_chunks()
        ),
    }
    return filled(_ITEM, columns, count)


def _row_of(rows: pa.Table, features: pa.Table, keys: list[str]) -> pa.Array:
    """Return, by feature, the first row of `rows` with the same keys; null where none has."""
    numbered = rows.select(keys).append_column("row", pa.array(np.arange(rows.num_rows)))
    firsts = numbered.group_by(keys).aggregate([("row", "min")])
    asked = features.select(keys).append_column("at", pa.array(np.arange(features.num_rows)))
    found = asked.join(firsts, keys=keys, join_type="left outer").sort_by("at")
    return found["row_min"].combine_chunks()


def _event_ids(numeric: pa.Array, first: First) -> pa.Array:
    """Return measurement ids where numeric, observation ids elsewhere, each in order."""
    flags = numeric.to_numpy(zero_copy_only=False)
    measured = first.measurement + np.cumsum(flags) - 1
    observed = first.observation + np.cumsum(~flags) - 1
    return pa.array(np.where(flags, measured, observed), pa.int32())


def _types(sources: pa.Array, book: Codebook) -> pa.Array:
    encoded = sources.dictionary_encode()
    concepts = [type_concept(book.concepts, one) for one in encoded.dictionary.to_pylist()]
    return pa.array(concepts, pa.int32()).take(encoded.indices)


def _algorithm(items: pa.Table) -> pa.ChunkedArray:
    both = pc.binary_join_element_wise(items["algorithm"], items["algorithm_version"], " ")
    return pc.coalesce(both, items["algorithm"])


def _values(
    name: str,
    items: pa.Table,
    persons: pa.Array,
    feature: pa.Array,
    finding: pa.Array,
    here: pa.Array,
    types: pa.Array,
    book: Codebook,
    first: int,
) -> pa.Table:
    """Return the rows of `measurement` or `observation` that hold the values of items `here`."""
    chosen = items.filter(here)
    count = chosen.num_rows
    concept = pc.if_else(pc.equal(feature, 0), finding, feature)
    unit, _ = book.look_up("unit", ucum(chosen["unit"]), chosen["unit"])
    columns = {
        f"{name}_id": pa.array(np.arange(first, first + count), pa.int32()),
        "person_id": persons.filter(here),
        f"{name}_concept_id": concept.filter(here),
        f"{name}_date": chosen["date"],
        f"{name}_type_concept_id": types.filter(here),
        "value_as_number": chosen["value"],
        "value_as_string": chosen["value_text"],
        "unit_concept_id": pc.if_else(pc.is_valid(chosen["unit"]).combine_chunks(), unit, None),
        f"{name}_source_value": pc.coalesce(
            *(chosen[one] for one in ("feature", "feature_code", "finding", "finding_code"))
        ),
        "unit_source_value": chosen["unit"],
        "value_source_value": chosen["value_text"],
    }
    schema = cdm.BY_NAME[name].schema()
    return filled(schema, {k: v for k, v in columns.items() if k in schema.names}, count)


def _episodes(
    items: pa.Table,
    persons: pa.Array,
    finding: pa.Array,
    numeric: pa.Array,
    event_ids: pa.Array,
    book: Codebook,
    first: First,
) -> tuple[tuple[pa.Table, pa.Table], pa.Array]:
    """Return episode and episode_event, and by item the number of its episode or null."""
    tracked = pc.is_valid(items["tracking_id"]).combine_chunks()
    keys = pc.binary_join_element_wise(persons.cast(pa.string()), items["tracking_id"], "\0")
    encoded = keys.combine_chunks().dictionary_encode()
    numbers = pc.add(encoded.indices, pa.scalar(first.episode, pa.int32()))
    events = pa.table(
        {
            "number": numbers,
            "person": persons,
            "date": items["date"],
            "object": finding,
            "words": pc.coalesce(items["finding"], items["finding_code"]),
            "event": event_ids,
            "field": pc.if_else(numeric, MEASUREMENT_ID, OBSERVATION_ID),
        }
    ).filter(tracked)
    grouped = events.group_by("number").aggregate(
        [("person", "min"), ("date", "min"), ("date", "max"), ("object", "max"), ("words", "min")]
    ).sort_by("number")  # fmt: skip
    count = grouped.num_rows
    zeros = pa.repeat(pa.scalar(0, pa.int32()), count)
    columns = {
        "episode_id": grouped["number"],
        "person_id": grouped["person_min"],
        "episode_concept_id": pa.repeat(pa.scalar(book.concepts.episode, pa.int32()), count),
        "episode_start_date": grouped["date_min"],
        "episode_end_date": grouped["date_max"],
        "episode_object_concept_id": grouped["object_max"],
        "episode_type_concept_id": zeros,
        "episode_source_value": grouped["words_min"],
    }
    linked = {
        "episode_id": events["number"],
        "event_id": events["event"],
        "episode_event_field_concept_id": events["field"],
    }
    made = (
        filled(EPISODE, columns, count),
        filled(EPISODE_EVENT, linked, events.num_rows).sort_by(
            [(name, "ascending") for name in EPISODE_EVENT.names]
        ),
    )
    return made, numbers
