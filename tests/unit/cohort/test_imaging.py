"""The imaging party's side, on hand-made series tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.cohort.spec_values import PositiveRange as NumberRange
from linkage.errors import NotFound, SourceRefused
from sites.cohort.attrition import attrition_from_bytes
from sites.cohort.bundle import SERIES_SCHEMA
from sites.cohort.config import ImagingConfig
from sites.cohort.imaging import evaluate

MakeSeries = Callable[..., ImagingConfig]
ANY = ImagingCriteria(any=True)


def test_each_criterion_counts_what_is_left(series_file: MakeSeries) -> None:
    config = series_file(
        {"PatientID": "A-1", "StudyInstanceUID": "1.1"},
        {"PatientID": "A-1", "StudyInstanceUID": "1.1", "BodyPartExamined": "Chest "},
        {"PatientID": "A-2", "Modality": "DX"},
        {"PatientID": "A-3", "Modality": "MR"},
        {"PatientID": "A-4", "BodyPartExamined": None},
    )
    answer = evaluate(config, ImagingCriteria(modality=["CT", "DX"], body_part=["chest"]))
    steps = [(s.subjects, s.studies, s.series) for s in answer.attrition.steps]
    assert steps == [(4, 4, 5), (4, 4, 5), (3, 3, 4), (2, 2, 3)]
    assert answer.record_ids == ("A-1", "A-2")
    assert answer.rows_of("A-1").num_rows == 2
    assert answer.rows_of("A-2").schema.equals(SERIES_SCHEMA)
    assert attrition_from_bytes(answer.attrition.to_bytes()).steps == answer.attrition.steps
    with pytest.raises(NotFound):
        answer.rows_of("A-4")


def test_one_series_must_meet_all_criteria_by_itself(series_file: MakeSeries) -> None:
    config = series_file({"Modality": "CT", "BodyPartExamined": "ABDOMEN"}, {"Modality": "MR"})
    answer = evaluate(config, ImagingCriteria(modality=["CT"], body_part=["CHEST"]))
    assert answer.record_ids == ()


def test_manufacturer_is_a_part_of_the_name_and_case_does_not_count(
    series_file: MakeSeries,
) -> None:
    names = ["CARESTREAM HEALTH", "Carestream", "GE MEDICAL SYSTEMS", None]
    config = series_file(*({"PatientID": f"A-{n}", "Manufacturer": m} for n, m in enumerate(names)))
    answer = evaluate(config, ImagingCriteria(manufacturer=["carestream"]))
    assert answer.record_ids == ("A-0", "A-1")


def test_slice_thickness_and_kvp_include_their_bounds(series_file: MakeSeries) -> None:
    config = series_file(
        {"PatientID": "A-1", "SliceThickness": 1.0, "KVP": 150.0},
        {"PatientID": "A-2", "SliceThickness": 1.01, "KVP": 150.0},
        {"PatientID": "A-3", "SliceThickness": None, "KVP": 150.0},
    )
    exactly = ImagingCriteria(
        slice_thickness=NumberRange(min=1, max=1), kvp=NumberRange(min=150, max=150)
    )
    assert evaluate(config, exactly).record_ids == ("A-1",)


def test_a_criterion_on_a_column_the_site_has_not_is_refused_not_ignored(
    series_file: MakeSeries,
) -> None:
    with pytest.raises(SourceRefused, match="no column for 'kvp'"):
        evaluate(series_file({}), ImagingCriteria(kvp=NumberRange(min=1)))
    with pytest.raises(SourceRefused, match="'MODALITAET' for 'modality'"):
        evaluate(series_file({}, columns={"modality": "MODALITAET"}), ANY)
    with pytest.raises(SourceRefused, match="record_id names"):
        evaluate(series_file({}, record_id=["case_id"]), ANY)


def test_a_patient_id_in_two_collections_needs_both_as_record_id(series_file: MakeSeries) -> None:
    rows = [{"collection_id": "c1"}, {"collection_id": "c2"}]
    with pytest.raises(SourceRefused, match="more than one collection") as refused:
        evaluate(series_file(*rows), ANY)
    assert "PAT-0001" not in str(refused.value)
    both = series_file(*rows, record_id=["collection_id", "PatientID"])
    assert evaluate(both, ANY).record_ids == ("c1/PAT-0001", "c2/PAT-0001")


def test_a_study_or_series_of_two_subjects_is_nobody_s(series_file: MakeSeries) -> None:
    config = series_file(
        {"PatientID": "A-1", "StudyInstanceUID": "1.1"},
        {"PatientID": "A-2", "StudyInstanceUID": "1.1"},
        {"PatientID": "A-2", "SeriesInstanceUID": "9.9"},
        {"PatientID": "A-3", "SeriesInstanceUID": "9.9"},
        {"PatientID": "A-4"},
    )
    answer = evaluate(config, ANY)
    assert answer.record_ids == ("A-4",)
    assert [s.subjects for s in answer.attrition.steps] == [4, 1]


def test_rows_without_ids_are_left_out_and_doubles_count_once(series_file: MakeSeries) -> None:
    twice = {"PatientID": "A-1", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}
    config = series_file(
        twice, twice, {"PatientID": None}, {"PatientID": " "}, {"StudyInstanceUID": "x/../y"}
    )
    answer = evaluate(config, ANY)
    assert answer.record_ids == ("A-1",)
    assert answer.rows_of("A-1").num_rows == 1


def test_no_text_that_leaves_holds_the_record_id(series_file: MakeSeries) -> None:
    config = series_file(
        {"StudyDescription": "chest of pat-0001", "series_aws_url": "s3://b/PAT-0001/x"},
        {"StudyDescription": "CHEST AP"},
    )
    answer = evaluate(config, ANY)
    rows = answer.rows_of("PAT-0001").to_pylist()
    assert [row["study_description"] for row in rows] == [None, "CHEST AP"]
    assert [row["reference"] for row in rows] == [None, "s3://bucket/1/*"]
    assert "2 texts were left out" in answer.attrition.notes[0]
    assert "PAT-0001" not in str(rows).upper()


def test_a_short_record_id_is_not_found_in_every_text(series_file: MakeSeries) -> None:
    config = series_file({"PatientID": "7", "StudyDescription": "CHEST 7 VIEWS"})
    assert evaluate(config, ANY).rows_of("7")["study_description"].to_pylist() == ["CHEST 7 VIEWS"]


def test_dates_sizes_and_addresses(series_file: MakeSeries) -> None:
    config = series_file(
        {"StudyDate": "19010110"},
        {"StudyDate": None, "series_size_MB": None},
        {"StudyDate": "garbage"},
        date_frame="shifted",
        wadors_root="https://dicom.example.org/dicomweb",
    )
    rows = evaluate(config, ANY).rows_of("PAT-0001").to_pylist()
    assert [row["study_date"] for row in rows] == [dt.date(1901, 1, 10), None, None]
    assert [row["date_frame"] for row in rows] == ["shifted", "absent", "absent"]
    assert [row["size_bytes"] for row in rows] == [1_500_000, None, 1_500_000]
    assert rows[0]["wadors_uri"] == "https://dicom.example.org/dicomweb/studies/1.2.0"


def test_a_delimited_table_with_other_names(tmp_path: Path) -> None:
    path = tmp_path / "gen3.tsv"
    path.write_text(
        "case_ids\tstudy_uid\tseries_uid\tmodality\tobject_id\tfile_size\n"
        "CASE-17\t1.2\t1.2.3\tct\tdg.MD1R/abc\t12\n",
        encoding="utf-8",
    )
    names = {name: name for name in ("study_uid", "series_uid", "modality")}
    config = ImagingConfig(file=path, record_id=("case_ids",), columns=names)
    row = evaluate(config, ImagingCriteria(modality=["CT"])).rows_of("CASE-17").to_pylist()[0]
    assert (row["object_id"], row["size_bytes"], row["modality"]) == ("dg.MD1R/abc", 12, "CT")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.parquet", None, "no such file"),
        ("empty.csv", b"", "empty"),
        ("latin.csv", "PatientID,Müller\n".encode("latin-1"), "UTF-8"),
        ("broken.parquet", b"PAR1 secret-value", "cannot be read"),
        ("series.xlsx", b"PK", "unknown kind"),
    ],
)
def test_an_unreadable_file_is_named_and_nothing_of_it_is_shown(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceRefused, match=said) as refused:
        evaluate(ImagingConfig(file=tmp_path / name), ANY)
    assert name in str(refused.value)
    assert "secret-value" not in str(refused.value)
