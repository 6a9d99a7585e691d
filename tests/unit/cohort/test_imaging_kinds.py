"""Imaging commons kept as MI-CDM tables and as Biomedical Imaging Hub exports."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pytest

from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.errors import SourceRefused
from sites.cohort.config import ImagingConfig
from sites.cohort.imaging import evaluate

MI_CDM = {
    "image_occurrence": """\
Image_Occurrence_ID,person_id,procedure_occurrence_id,wadors_uri,image_occurrence_date,image_study_UID,image_series_UID,modality_concept_id,anatomic_site_concept_id
1,11,5,https://dicom.example.org/studies/1.2,2016-03-01,1.2,1.2.1,2128009190,4141022
2,11,6,,2017-03-01,1.3,1.3.1,2128009190,0
3,12,7,,2016-05-01,1.4,1.4.1,77,
""",
    "image_feature": """\
image_feature_id,person_id,image_occurrence_id,image_feature_event_field_concept_id,image_feature_event_id,image_feature_concept_id,image_feature_type_concept_id,image_finding_concept_id,image_finding_id,alg_system
1,11,1,1147330,100,36303808,0,4208241,9,NodNet
2,11,2,1147138,101,36303808,0,4208241,9,NodNet
3,11,1,1147330,102,2128000300,0,,,
4,11,1,1147304,200,2128000301,0,,,
5,12,3,999,100,36303808,0,,,
""",
    "measurement": """\
measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number,unit_concept_id,measurement_source_value
100,11,36303808,2016-03-01,6.5,8588,Diameter
101,11,36303808,2017-03-01,8.0,8588,Diameter
102,11,2128000300,2016-03-01,0.9,8588,Slice Thickness
""",
    "observation": """\
observation_id,person_id,observation_concept_id,observation_date,value_as_string,value_as_concept_id
200,11,2128000301,2016-03-01,spiculated,0
""",
    "concept": """\
concept_id,concept_name,vocabulary_id,concept_code
36303808,Diameter,LOINC,33728-7
4208241,Nodule,SNOMED,27925004
8588,millimeter,UCUM,mm
2128000300,Slice Thickness,DICOM,00180050
2128000301,Margin,DICOM,x
4141022,Structure of lung,SNOMED,39607008
77,Magnetic Resonance,DICOM,MR
""",
    "person": "person_id,person_source_value\n11,CASE-11\n12,CASE-12\n",
}


def mi_cdm_folder(folder: Path) -> Path:
    folder.mkdir()
    for name, content in MI_CDM.items():
        (folder / f"{name}.csv").write_text(content, encoding="utf-8")
    return folder


def test_mi_cdm_tables_in_a_folder(tmp_path: Path) -> None:
    folder = mi_cdm_folder(tmp_path / "cdm")
    config = ImagingConfig(kind="mi_cdm", path=folder, date_frame="true")
    answer = evaluate(config, ImagingCriteria(any=True, dates=True))
    assert answer.record_ids == ("11", "12")
    days = [
        (dt.date.fromisoformat(d) - dt.date(1970, 1, 1)).days for d in ("2016-03-01", "2017-03-01")
    ]
    assert answer.study_days("11") == tuple(days)
    first, second = answer.rows_of("11").to_pylist()
    assert (first["modality"], first["anatomic_site"]) == ("CT", "Structure of lung")
    assert (first["slice_thickness"], second["slice_thickness"]) == (0.9, None)
    assert first["wadors_uri"] == "https://dicom.example.org/studies/1.2"
    assert answer.rows_of("12")["modality"].to_pylist() == ["MR"], "by the code of its concept"
    features = answer.bundle_of("11")["features"].to_pylist()
    seen = {
        (f["feature"], f["value"], f["unit"], f["finding_code"], f["tracking_id"]) for f in features
    }
    assert seen == {
        ("Diameter", 6.5, "mm", "SNOMED:27925004", "9"),
        ("Diameter", 8.0, "mm", "SNOMED:27925004", "9"),
        ("Slice Thickness", 0.9, "mm", None, None),
        ("Margin", None, None, None, None),
    }
    assert {f["value_text"] for f in features} == {None, "spiculated"}
    (other,) = answer.bundle_of("12")["features"].to_pylist()
    assert other["value"] is None, "an event field that is not known leads to no value"
    nodule = {"finding": "nodule", "measurement": "diameter", "value": {"min": 7}, "unit": "mm"}
    larger = evaluate(config, ImagingCriteria.model_validate({"features": [nodule]}))
    assert larger.rows["study_uid"].to_pylist() == ["1.3"]


def test_mi_cdm_tables_in_a_duckdb_file_by_another_record_id(tmp_path: Path) -> None:
    folder = mi_cdm_folder(tmp_path / "cdm")
    with duckdb.connect(str(tmp_path / "cdm.duckdb")) as con:
        for name in MI_CDM:
            con.execute(f"CREATE TABLE {name.upper()} AS FROM '{folder}/{name}.csv'")
    config = ImagingConfig(
        kind="mi_cdm", path=tmp_path / "cdm.duckdb", record_id=("person_source_value",)
    )
    thin = ImagingCriteria.model_validate({"modality": "CT", "slice_thickness": {"max": 1}})
    answer = evaluate(config, thin)
    assert answer.record_ids == ("CASE-11",)
    assert answer.rows["series_uid"].to_pylist() == ["1.2.1"]
    with pytest.raises(SourceRefused, match="person_source_valu'"):
        evaluate(config.model_copy(update={"record_id": ("person_source_valu",)}), thin)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceRefused, match="no table image_occurrence"):
        evaluate(config.model_copy(update={"path": tmp_path / "empty"}), thin)


HUB = {
    "subject": "type\tsubmitter_id\tproject_id\tPatientID\tdatasets.submitter_id\n"
    "subject\tsub-1\tHub\tLUNG-1\tds-lung\nsubject\tsub-2\tHub\tLUNG-2\tds-lung\n",
    "imaging_study": "type\tsubmitter_id\tproject_id\tsubjects.submitter_id\tStudyInstanceUID\t"
    "StudyDescription\tPatientAge\n"
    "imaging_study\tst-1\tHub\tsub-1\t1.2\tCT CHEST\t061Y\n"
    "imaging_study\tst-2\tHub\tsub-2\t1.3\tMR of LUNG-2\t\n",
    "imaging_series": "type\tsubmitter_id\tproject_id\timaging_studies.submitter_id\t"
    "SeriesInstanceUID\tModality\tManufacturer\tBodyPartExamined\tobject_ids\tfile_urls\n"
    "imaging_series\tse-1\tHub\tst-1\t1.2.1\tCT\tPhilips\tCHEST\tdg.HUB/1\ts3://b/1\n"
    "imaging_series\tse-2\tHub\tst-2\t1.3.1\tMR\tGE\tCHEST\tdg.HUB/2,dg.HUB/3\t\n",
}


def test_the_hub_s_own_names_and_templates(tmp_path: Path) -> None:
    nodes = {
        "subject": "*type\t*submitter_id\tPatientID\nsubject\tsub-1\tLUNG-1\n",
        "imaging_study": "*type\t*submitter_id\t*subjects.submitter_id\tStudyInstanceUID\t"
        "loinc_system\nimaging_study\tst-1\tsub-1\t1.2\tChest\n",
        "imaging_series": "*type\t*submitter_id\timaging_studies.submitter_id\tSeriesInstanceUID\t"
        "Modality\tContrast\tContrastBolusAgent\n"
        "imaging_series\tse-1\tst-1\t1.2.1\tCT\tyes\t\n",
    }
    for name, content in nodes.items():
        (tmp_path / f"{name}-template.tsv").write_text(content, encoding="utf-8")
    asked = ImagingCriteria.model_validate({"contrast": True, "anatomic_site": "chest"})
    answer = evaluate(ImagingConfig(kind="hub", path=tmp_path), asked)
    assert answer.record_ids == ("LUNG-1",)


def test_hub_exports(tmp_path: Path) -> None:
    for name, content in HUB.items():
        (tmp_path / f"{name}.tsv").write_text(content, encoding="utf-8")
    config = ImagingConfig(kind="hub", path=tmp_path)
    answer = evaluate(config, ImagingCriteria(body_part=["chest"]))
    assert answer.record_ids == ("LUNG-1", "LUNG-2")
    row = answer.rows_of("LUNG-1").to_pylist()[0]
    assert (row["collection"], row["subject_age"]) == ("ds-lung", 61)
    assert (row["object_id"], row["reference"]) == ("dg.HUB/1", "s3://b/1")
    other = answer.bundle_of("LUNG-2")
    assert other["series"]["object_id"].to_pylist() == [None]
    assert other["series"]["study_description"].to_pylist() == [None], "it held the PatientID"
    assert other["files"]["object_id"].to_pylist() == ["dg.HUB/2", "dg.HUB/3"]
    with pytest.raises(SourceRefused, match="no column for 'kvp'"):
        evaluate(config, ImagingCriteria.model_validate({"kvp": {"min": 100}}))
    two = ImagingConfig(kind="hub", path=tmp_path, record_id=("datasets.submitter_id", "PatientID"))
    assert evaluate(two, ImagingCriteria(modality=["MR"])).record_ids == ("ds-lung/LUNG-2",)
