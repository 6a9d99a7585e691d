"""
Where a site keeps its series table and its OMOP tables: parts of the site file.

Light on purpose: a site that only tokenizes reads these models without DuckDB or Ibis.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from linkage.strict_toml import Fault, Place, Strict

SERIES_COLUMNS: dict[str, str] = {
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "collection": "collection_id",
    "body_part": "BodyPartExamined",
    "manufacturer": "Manufacturer",
    "manufacturer_model": "ManufacturerModelName",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "slice_thickness": "SliceThickness",
    "kvp": "KVP",
    "instances": "instanceCount",
    "size_mb": "series_size_MB",
    "size_bytes": "file_size",
    "reference": "series_aws_url",
    "object_id": "object_id",
    "file_name": "file_name",
    "md5sum": "md5sum",
}
"""
What a column of the series table means, and its name unless the site file says another.

The names are those of the Imaging Data Commons index and, below, of Gen3 file nodes.
size_mb: decimal megabytes (1 MB = 1,000,000 bytes), as in idc-index-data; size_bytes wins where
both are there. slice_thickness: mm. kvp: kV.
"""

REQUIRED_SERIES_COLUMNS = ("study_uid", "series_uid", "modality")


class ImagingConfig(Strict):
    """
    The table [imaging]: one file with a row a DICOM series, Parquet or delimited text with header.

    record_id: the columns whose values, joined by "/", are the record ids of the site's
    identifier file. PatientID alone is right only where it is unique over collections; a file
    in which it is not is refused, and `["collection_id", "PatientID"]` is the remedy.
    columns: meaning to column name, where it differs from SERIES_COLUMNS.
    date_frame: what the study dates are: "true", "shifted" (per subject, unknown to others) or
    "unknown". wadors_root: root of the DICOMweb service, to which `/studies/<uid>` is added.
    """

    file: Place
    record_id: tuple[str, ...] = Field(default=("PatientID",), min_length=1)
    columns: dict[str, str] = Field(default={})
    date_frame: Literal["true", "shifted", "unknown"] = "unknown"
    wadors_root: str | None = Field(default=None, pattern=r"^https?://[^\s]+[^/\s]$")

    @field_validator("columns")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        for meaning in value:
            if meaning not in SERIES_COLUMNS:
                known = ", ".join(SERIES_COLUMNS)
                raise Fault(f"unknown meaning {meaning!r}", f"known: {known}")
        return value


class OmopConfig(Strict):
    """
    The table [omop]: OMOP CDM tables in a folder (one .parquet, .csv or .csv.gz a table) or in
    one DuckDB file, there in schema `db_schema`.

    record_id: which column of `person` holds the record ids of the site's identifier file.
    birth: how much of the birth date a delivery holds. mirror_root: folder or bucket of the
    enclave's own copy of the images, for studies with image_retrieval = "mirror". concepts: file
    of DICOM codes and OMOP concepts, in place of sites/cohort/modality_concepts.toml.
    """

    path: Place
    db_schema: str = "main"
    record_id: Literal["person_id", "person_source_value"] = "person_id"
    birth: Literal["year", "date"] = "year"
    mirror_root: str | None = None
    concepts: Place | None = None
