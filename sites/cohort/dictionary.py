"""
The data dictionary of a delivery, data_dictionary.csv: one row a column of every table.

Columns of the CDM are explained by the CDM itself; this project's own and MI-CDM's are here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from sites.cohort.layout import TABLES, DeliveredTable

DICTIONARY_FILE = "data_dictionary.csv"
_HEADER = ("table", "column", "type", "required", "key", "refers_to", "null_means", "meaning")
_TYPES: Mapping[pa.DataType, str] = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
    pa.string(): "varchar",
    pa.bool_(): "boolean",
}
_CDM = "as in OMOP CDM 5.4"
_MI_CDM = "as in MI-CDM, doi:10.1007/s10278-024-00982-6"

MEANINGS: Mapping[str, str] = {
    "person_id": "number of a person in this delivery only; side/cohort_person has its cohort ID",
    "cohort_id": "issued by the broker for this delivery alone",
    "image_occurrence_id": "number of a DICOM series in this delivery",
    "image_occurrence_date": "see date_frame and date_confidence; 1900-01-01 stands for no date",
    "image_study_uid": "StudyInstanceUID, the original",
    "image_series_uid": "SeriesInstanceUID, the original",
    "wadors_uri": "DICOMweb address of the study; read images/README.txt before using it",
    "local_path": "in the enclave's own copy of the images",
    "procedure_rule": "how the procedure was found; synthetic: made for the study, concept 0",
    "procedure_confidence": "high, medium or low; none for a synthetic procedure",
    "date_frame": "what the commons says its dates are: true, shifted, index, unknown, absent",
    "date_confidence": "what the date is good for",
    "comparable": "whether the date may be compared with clinical dates of the enclave",
    "study_day": "days from the index event, as the commons gives them",
    "index_event": "the event from which study_day counts",
    "image_feature_event_field_concept_id": "1147330: image_feature_event_id is a measurement_id; "
    "1147304: an observation_id",
    "image_finding_id": "number of the finding that is followed over time: its episode_id",
    "episode_event_field_concept_id": "1147138: event_id is a measurement_id; 1147165: an "
    "observation_id",
    "attached_to": "series, or study: the feature stands beside the first series of its study",
    "source": "acquisition (DICOM header), SR (DICOM SR), table, mi_cdm or node (Gen3)",
    "feature": "what was measured, in the words of the commons",
    "feature_code": "its code, SCHEME:VALUE",
    "finding": "what was found, in the words of the commons",
    "finding_code": "its code, SCHEME:VALUE",
    "slice_thickness": "mm",
    "kvp": "kV",
    "tube_current": "mA",
    "exposure_time": "ms",
    "pixel_spacing": "mm",
    "repetition_time": "ms",
    "echo_time": "ms",
    "magnetic_field_strength": "tesla",
    "instances": "images of the series",
    "size_bytes": "bytes",
    "node": "kind of event: condition, medication, procedure, measurement, observation, visit",
    "start_day": "days from the index event",
    "end_day": "days from the index event",
    "omop_table": "the OMOP table that holds the event as a row, too",
    "not_in_omop": "why no OMOP table holds it",
    "kind": "annotation, SR, SEG, RTSTRUCT, radiology_report or another",
    "cohort_definition_syntax": "canonical JSON of the question as the enclave knows it",
}
"""By column name, wherever it occurs."""


def dictionary_rows() -> list[tuple[str, ...]]:
    """Return the dictionary, one row a column, without its header."""
    return [_row(table, field) for table in TABLES for field in table.schema]


def write_dictionary(folder: Path) -> None:
    """Write data_dictionary.csv into `folder`."""
    with (folder / DICTIONARY_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        writer.writerows(dictionary_rows())


def _row(table: DeliveredTable, field: pa.Field) -> tuple[str, ...]:
    links = [f"{link.table}.{link.key}" for link in table.links if link.column == field.name]
    standard = _MI_CDM if table.name in ("image_occurrence", "image_feature") else _CDM
    own = not table.path.startswith("omop/")
    return (
        table.path,
        field.name,
        _TYPES[field.type],
        "" if field.nullable else "yes",
        "yes" if field.name in table.key else "",
        " or ".join(links),
        table.nulls.get(field.name, ""),
        MEANINGS.get(field.name, "as the imaging commons gives it" if own else standard),
    )
