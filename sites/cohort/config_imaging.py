"""
Where a site keeps its series, features, events and files: the table [imaging] of the site file.

Light on purpose: a site that only tokenizes reads these models without DuckDB or Ibis.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from linkage.strict_toml import Fault, Place, Strict
from sites.cohort.notices import UseNotice

SERIES_COLUMNS: dict[str, str] = {
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "collection": "collection_id",
    "body_part": "BodyPartExamined",
    "anatomic_site": "anatomic_site",
    "manufacturer": "Manufacturer",
    "manufacturer_model": "ManufacturerModelName",
    "contrast": "ContrastBolusAgent",
    "study_date": "StudyDate",
    "study_day": "days_to_study",
    "index_event": "index_event",
    "subject_sex": "PatientSex",
    "subject_age": "PatientAge",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "slice_thickness": "SliceThickness",
    "kvp": "KVP",
    "tube_current": "XRayTubeCurrent",
    "exposure_time": "ExposureTime",
    "pixel_spacing": "PixelSpacing",
    "repetition_time": "RepetitionTime",
    "echo_time": "EchoTime",
    "magnetic_field_strength": "MagneticFieldStrength",
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

The names are DICOM's keywords, those of the Imaging Data Commons index and, below, of Gen3 file
nodes. size_mb: decimal megabytes (1 MB = 1,000,000 bytes), as in idc-index-data; size_bytes wins
where both are there. slice_thickness, pixel_spacing: mm. kvp: kV. tube_current: mA. exposure_time,
repetition_time, echo_time: ms. magnetic_field_strength: tesla. contrast: the agent's name, or a
word for yes or no. study_day: days from the event that index_event names.
"""

REQUIRED_SERIES_COLUMNS = ("study_uid", "series_uid", "modality")

DateFrame = Literal["true", "shifted", "index", "unknown"]
_RECORD_IDS = {
    "series": ("PatientID",),
    "gen3": ("submitter_id",),
    "mi_cdm": ("person_id",),
    "hub": ("PatientID",),
}


class ImagingConfig(Strict):
    """
    The table [imaging]: what this commons holds of its subjects' images.

    kind "series": `file`, a row a DICOM series, Parquet or delimited text with header. "gen3":
    `path`, a folder of Gen3 node exports, one TSV a node, MIDRC's model. "mi_cdm": `path`, a folder
    or DuckDB file with image_occurrence and image_feature, there in schema `db_schema`. "hub":
    `path`, a folder of Biomedical Imaging Hub node exports.
    record_id: the columns whose values, joined by "/", are the record ids of the site's
    identifier file: of the series table, of the Gen3 case, of person or image_occurrence, of the
    Hub's subject. PatientID alone is right only where it is unique over collections; a file in
    which it is not is refused, and `["collection_id", "PatientID"]` is the remedy. Nothing else
    is ever joined to a subject: an id that only looks like a record id is not one.
    columns: meaning to column name, where it differs from SERIES_COLUMNS.
    date_frame: what the study dates are: "true", "shifted" (per subject, unknown to others),
    "index" (days from an index event; the default of gen3) or "unknown". index_event: the event
    that the days count from, where the data names none or several.
    features: a table of image features, a row a measurement, columns as FEATURES_SCHEMA.
    acquisition: a table of series_uid and acquisition parameters. `linkage-site read-dicom` makes
    both from DICOM files. wadors_root: root of the DICOMweb service, to which `/studies/<uid>` is
    added. use: how to thank this commons and for what its data may be used.
    """

    kind: Literal["series", "gen3", "mi_cdm", "hub"] = "series"
    file: Place | None = None
    path: Place | None = None
    db_schema: str = "main"
    record_id: tuple[str, ...] = Field(default=(), max_length=4)
    columns: dict[str, str] = Field(default={})
    date_frame: DateFrame = "unknown"
    index_event: str | None = Field(default=None, min_length=1, max_length=200)
    features: Place | None = None
    acquisition: Place | None = None
    wadors_root: str | None = Field(default=None, pattern=r"^https?://[^\s]+[^/\s]$")
    use: UseNotice | None = None

    @field_validator("columns")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        for meaning in value:
            if meaning not in SERIES_COLUMNS:
                known = ", ".join(SERIES_COLUMNS)
                raise Fault(f"unknown meaning {meaning!r}", f"known: {known}")
        return value

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        key, other = ("file", "path") if self.kind == "series" else ("path", "file")
        if getattr(self, key) is None:
            what = "the series table" if key == "file" else "the folder or database"
            raise Fault(f"kind {self.kind!r} needs {key!r}", f'add {key} = "...", {what}')
        if getattr(self, other) is not None:
            raise Fault(f"kind {self.kind!r} has no {other!r}", f"drop it: {key} is enough")
        if self.columns and self.kind != "series":
            raise Fault(f"kind {self.kind!r} has no columns to name", "drop [imaging.columns]")
        # Frozen models are for their users; this one is still being made.
        if not self.record_id:
            object.__setattr__(self, "record_id", _RECORD_IDS[self.kind])
        if self.kind == "gen3" and "date_frame" not in self.model_fields_set:
            object.__setattr__(self, "date_frame", "index")
        return self

    @property
    def place(self) -> Path:
        """The file or folder that is read."""
        return self.file or self.path or Path()
