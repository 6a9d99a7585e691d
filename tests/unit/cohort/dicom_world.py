"""DICOM files made by hand: CT headers and TID 1500 measurement reports of one nodule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    one = Dataset()
    one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning = value, scheme, meaning
    return [one]


def item(kind: str, name: list[Dataset], *content: Dataset, **values: Any) -> Dataset:
    """Return one content item; values: DICOM keywords."""
    one = Dataset()
    one.RelationshipType = values.pop("RelationshipType", "CONTAINS")
    one.ValueType, one.ConceptNameCodeSequence = kind, name
    for keyword, value in values.items():
        setattr(one, keyword, value)
    if content:
        one.ContentSequence = list(content)
    return one


def number(name: list[Dataset], value: float, unit: list[Dataset], *content: Dataset) -> Dataset:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, unit
    return item("NUM", name, *content, MeasuredValueSequence=[measured])


DIAMETER = ("103339001", "SCT", "Long Axis")
VOLUME = ("118565006", "SCT", "Volume")
MM, MM3 = ("mm", "UCUM", "millimeter"), ("mm3", "UCUM", "cubic millimeter")


def report(study: str, series: str, image: str, tracking: str, diameter: float) -> Dataset:
    """Return a measurement report: one group with two measurements and one evaluation."""
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = CT_IMAGE, image
    where = item("IMAGE", code("121233", "DCM", "Source image"), ReferencedSOPSequence=[source])
    group = item(
        "CONTAINER",
        code("125007", "DCM", "Measurement Group"),
        item("TEXT", code("112039", "DCM", "Tracking Identifier"), TextValue="Nodule 1"),
        item("UIDREF", code("112040", "DCM", "Tracking Unique Identifier"), UID=tracking),
        item(
            "CODE",
            code("121071", "DCM", "Finding"),
            ConceptCodeSequence=code("27925004", "SCT", "Nodule"),
        ),
        item(
            "CODE",
            code("363698007", "SCT", "Finding Site"),
            RelationshipType="HAS CONCEPT MOD",
            ConceptCodeSequence=code("39607008", "SCT", "Lung"),
        ),
        item("TEXT", code("111001", "DCM", "Algorithm Name"), TextValue="NodNet"),
        item("TEXT", code("111003", "DCM", "Algorithm Version"), TextValue="2.1"),
        number(code(*DIAMETER), diameter, code(*MM), where),
        number(
            code(*VOLUME),
            diameter**3,
            code(*MM3),
            item(
                "CODE",
                code("121401", "DCM", "Derivation"),
                ConceptCodeSequence=code("373098007", "SCT", "Mean"),
            ),
        ),
        item(
            "CODE",
            code("129737002", "SCT", "Margin"),
            ConceptCodeSequence=code("129742005", "SCT", "Spiculated"),
        ),
        item("TEXT", code("121106", "DCM", "Comment"), TextValue="seen by Dr Secret"),
    )
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = COMPREHENSIVE_SR, f"{series}.99"
    found.PatientID, found.PatientName = "NOBODY-READS-THIS", "Secret^Name"
    found.Modality, found.StudyInstanceUID, found.SeriesInstanceUID = "SR", study, f"{series}.9"
    found.ContentDate = "20991231"
    instance, of_series, of_study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = CT_IMAGE, image
    of_series.SeriesInstanceUID, of_series.ReferencedSOPSequence = series, [instance]
    of_study.StudyInstanceUID, of_study.ReferencedSeriesSequence = study, [of_series]
    found.CurrentRequestedProcedureEvidenceSequence = [of_study]
    found.ValueType = "CONTAINER"
    found.ConceptNameCodeSequence = code("126000", "DCM", "Imaging Measurement Report")
    observer = item("PNAME", code("121008", "DCM", "Person Observer Name"), PersonName="Secret^Dr")
    measurements = item("CONTAINER", code("126010", "DCM", "Imaging Measurements"), group)
    found.ContentSequence = [observer, measurements]
    return found


def ct(study: str, series: str, image: str, **values: Any) -> Dataset:
    """Return the header of one CT image."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = CT_IMAGE, image
    found.PatientID, found.Modality = "NOBODY-READS-THIS", "CT"
    found.StudyInstanceUID, found.SeriesInstanceUID = study, series
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def write(path: Path, found: Dataset) -> None:
    found.file_meta = FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.save_as(path, enforce_file_format=True)


def write_seven_visits(folder: Path) -> None:
    """Write CT headers and a report for each of seven visits: the nodule grows by a quarter."""
    folder.mkdir()
    for visit in range(7):
        study, series, image = f"1.2.{visit}", f"1.2.{visit}.1", f"1.2.{visit}.1.1"
        write(
            folder / f"ct{visit}.dcm",
            ct(study, series, image, KVP=150, SliceThickness=1, PixelSpacing=[0.7, 0.7]),
        )
        grown = round(4 * 1.25**visit, 3)
        write(folder / f"sr{visit}.dcm", report(study, series, image, "1.2.840.99.7", grown))
