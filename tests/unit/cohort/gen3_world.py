"""A small MIDRC as Gen3 exports it: a folder of node TSVs, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Node = list[dict[str, Any]]

CASES: Node = [
    {"submitter_id": "419639-000082", "index_event": "COVID-19 Test", "sex": "Female"},
    {"submitter_id": "10000364-1", "index_event": "COVID-19 Test", "sex": "Male"},
    {"submitter_id": "10000364-10", "index_event": "Imaging Study", "age_at_index": "61"},
]

STUDIES: Node = [
    {
        "submitter_id": "S1",
        "cases.submitter_id": "419639-000082",
        "study_uid": "1.2.1",
        "days_to_study": "4",
        "body_part_examined": "CHEST",
        "study_description": "CT CHEST of 419639-000082",
        "loinc_contrast": "WO",
        "age_at_imaging": "57",
    },
    {
        "submitter_id": "S2",
        "cases.submitter_id": "10000364-1",
        "study_uid": "1.2.2",
        "days_to_study": "-3.0",
        "body_part_examined": '["CHEST", "ABDOMEN"]',
        "loinc_contrast": "WO & W",
    },
    {"submitter_id": "S3", "cases.id": "uuid-10000364-10", "study_uid": "1.2.3"},
    {"submitter_id": "S4", "case_ids": "MIDRC-RICORD-1A-419639-000082", "study_uid": "1.2.4"},
]

CT_FILES: Node = [
    {
        "submitter_id": "F1",
        "imaging_studies.submitter_id": "S1",
        "series_uid": "1.2.1.1",
        "modality": "CT",
        "manufacturer": "GE MEDICAL SYSTEMS",
        "manufacturer_model_name": "Optima CT660",
        "slice_thickness": "[0.625, 0.625]",
        "pixel_spacing": "[0.7, 0.7]",
        "object_id": "dg.MD1R/0001",
        "file_name": "419639-000082/1.zip",
        "file_size": "1000",
        "md5sum": "d41d8cd98f00b204e9800998ecf8427e",
        "data_format": "DCM",
        "case_ids": "419639-000082",
    },
    {
        "submitter_id": "F2",
        "imaging_studies.submitter_id": "S2",
        "series_uid": "1.2.2.1",
        "modality": "CT",
        "slice_thickness": "[1, 5]",
        "contrast_bolus_agent": "OMNIPAQUE",
        "data_format": "DCM",
    },
    {
        "submitter_id": "F3",
        "imaging_studies.submitter_id": "S2",
        "series_uid": "1.2.2.1",
        "modality": "CT",
        "file_name": "nifti.zip",
        "data_format": "nii.gz",
    },
    {
        "submitter_id": "F4",
        "imaging_studies.submitter_id": "S4",
        "series_uid": "1.2.4.1",
        "modality": "CT",
        "data_format": "DCM",
    },
]

DX_FILES: Node = [
    {
        "submitter_id": "F5",
        "imaging_studies.submitter_id": "S3",
        "series_uid": "1.2.3.1",
        "modality": "DX",
        "data_format": "DCM",
    }
]

OTHERS: dict[str, Node] = {
    "condition": [
        {
            "cases.submitter_id": "419639-000082",
            "condition_name": "Pneumonia",
            "condition_code": "J18.9",
            "condition_code_system": "ICD-10-CM",
            "days_to_condition_start": "1",
            "days_to_condition_end": "9",
        }
    ],
    "medication": [
        {
            "cases.submitter_id": "419639-000082",
            "medication_name": "dexamethasone",
            "days_to_medication_start": "2",
        }
    ],
    "measurement": [
        {
            "cases.submitter_id": "419639-000082",
            "test_name": "COVID-19",
            "test_result_text": "Positive",
            "test_days_from_index": "0",
        }
    ],
    "procedure": [{"cases.submitter_id": "419639-000082", "test_method": "RT-PCR"}],
    "observation": [
        {
            "cases.submitter_id": "10000364-1",
            "observation_name": "Ever smoker",
            "observation_answer": "Yes",
        }
    ],
    "visit": [
        {
            "cases.submitter_id": "419639-000082",
            "days_to_hospital_admission": "-1",
            "days_to_hospital_discharge": "12",
            "days_to_icu_admission": "3",
            "discharge_type": "Home",
        }
    ],
    "annotation": [
        {
            "ct_series_files.submitter_id": "F1",
            "midrc_mRALE_score": "12",
            "annotation_method": "Post_clinical_expert",
        },
        {"imaging_studies.submitter_id": "S2", "airspace_disease_grading": "severe"},
        {"cases.submitter_id": "10000364-1", "airspace_disease_grading": "mild"},
    ],
    "dicom_annotation_file": [
        {
            "imaging_studies.submitter_id": "S1",
            "modality": "SEG",
            "annotation_name": "midrc_lung_segs",
            "series_uid": "1.2.1.9",
            "object_id": "dg.MD1R/0009",
            "file_size": "77",
        }
    ],
    "radiology_report": [
        {
            "cases.submitter_id": "419639-000082",
            "imaging_studies.submitter_id": "S1",
            "file_name": "report.txt",
            "cavities": "Yes",
            "cavities_count": "2",
        }
    ],
}


def write_gen3(folder: Path, **changes: Node) -> Path:
    """Write all nodes, as named by `changes` where given; returns the folder."""
    nodes = {"case": CASES, "imaging_study": STUDIES, **OTHERS}
    nodes |= {"ct_series_file": CT_FILES, "dx_series_file": DX_FILES} | changes
    folder.mkdir()
    for node, rows in nodes.items():
        full = [
            {"type": node, "id": f"uuid-{row.get('submitter_id', n)}", "project_id": "Open-R1"}
            | {"submitter_id": f"{node}-{n}"}
            | row
            for n, row in enumerate(rows)
        ]
        columns = list(dict.fromkeys(name for row in full for name in row))
        lines = ["\t".join(columns)]
        lines += ["\t".join(_quoted(str(row.get(name, ""))) for name in columns) for row in full]
        (folder / f"{node}_Open-R1.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if '"' in value else value
