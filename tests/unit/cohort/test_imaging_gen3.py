"""An imaging commons in Gen3: MIDRC's node exports as series, features, events and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.errors import SourceRefused
from sites.cohort.bundle import bundle_from_bytes, bundle_to_bytes
from sites.cohort.config import ImagingConfig
from sites.cohort.imaging import ImagingAnswer, evaluate

from .gen3_world import CASES, CT_FILES, STUDIES, write_gen3

ANY = ImagingCriteria(any=True)


def ask(folder: Path, config: dict[str, Any] | None = None, **asked: Any) -> ImagingAnswer:
    site = ImagingConfig(kind="gen3", path=folder, **(config or {}))
    return evaluate(site, ImagingCriteria.model_validate(asked or {"any": True}))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> ImagingAnswer:
    return ask(write_gen3(tmp_path_factory.mktemp("gen3") / "nodes"))


def test_series_hang_on_their_case_by_links_only(everything: ImagingAnswer) -> None:
    assert everything.record_ids == ("10000364-1", "10000364-10", "419639-000082")
    uids = [row["series_uid"] for row in everything.rows.to_pylist()]
    assert uids == ["1.2.2.1", "1.2.3.1", "1.2.1.1"]
    assert (everything.frame, everything.index_event) == ("index", None)


def test_a_ricord_patient_id_is_not_the_case_that_it_looks_like(everything: ImagingAnswer) -> None:
    assert "1.2.4" not in everything.rows["study_uid"].to_pylist()
    assert everything.rows_of("419639-000082").num_rows == 1
    assert not any("RICORD" in record_id for record_id in everything.record_ids)


def test_what_the_nodes_say_of_a_series(everything: ImagingAnswer) -> None:
    row = everything.rows_of("419639-000082").to_pylist()[0]
    said = {name: row[name] for name in ("modality", "collection", "body_part", "study_day")}
    assert said == {
        "modality": "CT",
        "collection": "Open-R1",
        "body_part": "CHEST",
        "study_day": 4,
    }
    assert (row["date_frame"], row["index_event"], row["study_date"]) == (
        "index",
        "COVID-19 Test",
        None,
    )
    assert (row["slice_thickness"], row["pixel_spacing"]) == (0.625, 0.7)
    assert (row["contrast"], row["subject_sex"], row["subject_age"]) == (False, "female", 57)
    assert (row["object_id"], row["size_bytes"]) == ("dg.MD1R/0001", 1000)
    assert (row["study_description"], row["file_name"]) == (None, None), "they hold the case id"
    other = everything.rows_of("10000364-1").to_pylist()[0]
    assert (other["slice_thickness"], other["body_part"]) == (None, None), "several values"
    assert (other["contrast"], other["study_day"]) == (True, -3)
    undated = everything.rows_of("10000364-10").to_pylist()[0]
    assert (undated["date_frame"], undated["subject_age"]) == ("absent", 61)


def test_events_features_and_files_go_with_their_subject(everything: ImagingAnswer) -> None:
    bundle = everything.bundle_of("419639-000082")
    events = {(e["node"], e["name"], e["start_day"], e["end_day"]) for e in _rows(bundle, "events")}
    assert events == {
        ("condition", "Pneumonia", 1, 9),
        ("medication", "dexamethasone", 2, None),
        ("measurement", "COVID-19", 0, None),
        ("procedure", "RT-PCR", None, None),
        ("visit", None, -1, 12),
        ("visit", "ICU stay", 3, None),
    }
    frames = {e["node"]: e["date_frame"] for e in _rows(bundle, "events")}
    assert (frames["condition"], frames["procedure"]) == ("index", "absent")
    features = {
        (f["feature"], f["value"], f["value_text"], f["series_uid"], f["source"])
        for f in _rows(bundle, "features")
    }
    assert features == {
        ("midrc_mrale_score", 12.0, None, "1.2.1.1", "node"),
        ("cavities", None, "Yes", None, "node"),
        ("cavities_count", 2.0, None, None, "node"),
    }
    files = {
        (f["kind"], f["name"], f["series_uid"], f["object_id"]) for f in _rows(bundle, "files")
    }
    assert files == {
        ("SEG", "midrc_lung_segs", "1.2.1.9", "dg.MD1R/0009"),
        ("radiology_report", None, None, None),
    }
    assert bundle_from_bytes(bundle_to_bytes(bundle)) == bundle
    other = everything.bundle_of("10000364-1")
    assert [f["kind"] for f in _rows(other, "files")] == ["NII.GZ"]
    assert [f["value_text"] for f in _rows(other, "features")] == ["severe"]
    assert [e["name"] for e in _rows(other, "events")] == ["Ever smoker"]
    assert [t.num_rows for t in everything.bundle_of("10000364-10").values()] == [1, 0, 0, 0]


def _rows(bundle: Any, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = bundle[name].to_pylist()
    return rows


def test_criteria_on_nodes(tmp_path: Path) -> None:
    folder = write_gen3(tmp_path / "nodes")
    assert ask(folder, modality="CT", slice_thickness={"max": 1}).record_ids == ("419639-000082",)
    severe = {"measurement": "midrc_mRALE_score", "value": {"min": 10}}
    assert ask(folder, features=[severe]).record_ids == ("419639-000082",)
    assert ask(folder, contrast=True).record_ids == ("10000364-1",)


def test_days_count_from_one_index_event_only(tmp_path: Path) -> None:
    folder = write_gen3(tmp_path / "nodes")
    answer = ask(folder, any=True, dates=True)
    assert (answer.frame, answer.index_event) == ("index", "COVID-19 Test")
    assert answer.study_days("419639-000082") == (4,)
    assert answer.study_days("10000364-1") == (-3,)
    assert answer.study_days("10000364-10") == ()
    third = {**STUDIES[2], "days_to_study": "0"}
    folder = write_gen3(tmp_path / "two", imaging_study=[*STUDIES[:2], third])
    with pytest.raises(SourceRefused, match="count from 2 index events"):
        ask(folder, any=True, dates=True)
    answer = ask(folder, {"index_event": "covid-19 test"}, any=True, dates=True)
    assert answer.index_event == "COVID-19 Test", "as the rows spell it"
    assert answer.study_days("419639-000082") == (4,)
    assert answer.study_days("10000364-10") == ()
    assert "1 fitting series count their days from another event" in answer.attrition.notes[0]


def test_one_submitter_id_in_two_projects_is_two_cases(tmp_path: Path) -> None:
    again = {**CASES[0], "project_id": "TCIA-X", "id": "uuid-x"}
    study = {**STUDIES[0], "project_id": "TCIA-X", "submitter_id": "S9", "study_uid": "1.2.9"}
    folder = write_gen3(
        tmp_path / "nodes",
        case=[*CASES, again],
        imaging_study=[*STUDIES, study],
        mr_series_file=[
            {
                "submitter_id": "F9",
                "project_id": "TCIA-X",
                "imaging_studies.submitter_id": "S9",
                "series_uid": "1.2.9.1",
                "modality": "MR",
            }
        ],
    )
    with pytest.raises(SourceRefused, match="more than one collection") as refused:
        ask(folder)
    assert "project_id" in str(refused.value)
    answer = ask(folder, {"record_id": ["project_id", "submitter_id"]})
    assert "TCIA-X/419639-000082" in answer.record_ids
    assert answer.rows_of("TCIA-X/419639-000082")["series_uid"].to_pylist() == ["1.2.9.1"]
    assert answer.rows_of("Open-R1/419639-000082")["series_uid"].to_pylist() == ["1.2.1.1"]


@pytest.mark.parametrize("missing", ["case", "imaging_study"])
def test_a_missing_node_is_named(tmp_path: Path, missing: str) -> None:
    folder = write_gen3(tmp_path / "nodes")
    (folder / f"{missing}_Open-R1.tsv").unlink()
    with pytest.raises(SourceRefused, match=f"no table of node '{missing}'"):
        ask(folder)


def test_two_studies_with_one_submitter_id_are_named_and_neither_is_guessed(tmp_path: Path) -> None:
    first = next(one for one in STUDIES if one["submitter_id"] == "S1")
    twin = first | {"id": "uuid-other", "study_uid": "1.2.99", "cases.submitter_id": "10000364-1"}
    # Whichever stands first in the file: neither subject gets the series.
    for n, studies in enumerate(([*STUDIES, twin], [twin, *STUDIES])):
        answer = ask(write_gen3(tmp_path / str(n), imaging_study=studies))
        assert "1.2.1.1" not in answer.rows["series_uid"].to_pylist()
        assert "419639-000082" not in answer.record_ids
        notes = answer.attrition.notes
        assert "1 submitter_ids in imaging_studies have rows that differ" in " ".join(notes)
    # The same row twice, as two overlapping exports have it, is one.
    answer = ask(write_gen3(tmp_path / "same", imaging_study=[*STUDIES, first]))
    assert "419639-000082" in answer.record_ids
    assert not answer.attrition.notes
    # A link by id says which one is meant.
    files = [one | {"imaging_studies.id": "uuid-other"} for one in CT_FILES if "S1" in str(one)]
    files = [{k: v for k, v in one.items() if k != "imaging_studies.submitter_id"} for one in files]
    folder = write_gen3(tmp_path / "id", imaging_study=[*STUDIES, twin], ct_series_file=files)
    answer = ask(folder)
    assert answer.rows_of("10000364-1")["study_uid"].to_pylist() == ["1.2.99"]


def test_twins_that_only_files_and_features_link_to_are_noted_with_the_rows(tmp_path: Path) -> None:
    """Whether a series' submitter id is clear matters to its annotation only, read late."""
    twin = next(one for one in CT_FILES if one["submitter_id"] == "F1")
    files = [*CT_FILES, twin | {"id": "uuid-other", "series_uid": "1.2.1.2"}]
    answer = ask(write_gen3(tmp_path / "nodes", ct_series_file=files))
    assert not answer.attrition.notes, "nothing was asked of them yet"
    features = answer.bundle_of("419639-000082")["features"].to_pylist()
    assert "midrc_mrale_score" not in {one["feature"] for one in features}, "of which series?"
    told = " ".join(answer.attrition.notes)
    assert "1 submitter_ids in series_files have rows that differ" in told


def test_what_no_node_has_a_column_for_is_refused_by_name(tmp_path: Path) -> None:
    """MIDRC's model has no tube voltage: nobody would fit, and nobody would know why."""
    folder = write_gen3(tmp_path / "nodes")
    with pytest.raises(SourceRefused, match="has no column for 'kvp'") as refused:
        ask(folder, kvp={"min": 100})
    assert "linkage-site read-dicom" in refused.value.hint
    with pytest.raises(SourceRefused, match="'anatomic_site'"):
        ask(folder, anatomic_site="Chest")
    added = [{**one, "kvp": "120"} for one in CT_FILES]
    assert ask(write_gen3(tmp_path / "more", ct_series_file=added), kvp={"min": 100}).record_ids
    table = pa.table({"series_uid": ["1.2.1.1"], "kvp": [150.0]})
    pq.write_table(table, tmp_path / "acquisition.parquet")
    read = {"acquisition": tmp_path / "acquisition.parquet"}
    assert ask(folder, read, kvp={"min": 150}).record_ids == ("419639-000082",)


HEADERS = {
    "case": "*type\tproject_id\t*submitter_id\t*datasets.submitter_id\tage_at_index\tindex_event"
    "\tsex",
    "imaging_study": "*type\tproject_id\t*submitter_id\t*cases.submitter_id\tage_at_imaging"
    "\tbody_part_examined\tdays_to_study\tloinc_contrast\tloinc_system\tstudy_uid",
    "ct_series_file": "*type\tproject_id\t*submitter_id\tcore_metadata_collections.submitter_id"
    "\timaging_studies.submitter_id\t*data_category\t*data_format\t*data_type\t*file_name"
    "\t*file_size\t*md5sum\tcontrast_bolus_agent\tmodality\tpixel_spacing\tseries_uid"
    "\tslice_thickness",
    "annotation": "*type\tproject_id\t*submitter_id\tct_series_files.submitter_id"
    "\tdicom_annotation_files.submitter_id\tannotation_method\tmidrc_mRALE_score"
    "\tsift_image_quality_index\tsoftware_version",
    "dicom_annotation_file": "*type\tproject_id\t*submitter_id\t*imaging_studies.submitter_id"
    "\t*case_ids\t*file_name\t*modality\t*series_uid",
}
"""As MIDRC's data dictionary heads its templates, some columns left out."""
ROWS = {
    "case": "case\tOpen-R1\tc-1\tds\t44\tCOVID-19 Test\tFemale",
    "imaging_study": "imaging_study\tOpen-R1\ts-1\tc-1\t44\tCHEST\t2\tWO\tChest\t1.2.1",
    "ct_series_file": "ct_series_file\tOpen-R1\tf-1\t\ts-1\tCT\tDCM\tDICOM\tf.zip\t10\tabc\t"
    '\tCT\t"0.139,0.139"\t1.2.1.1\t"1,1"',
    "annotation": "annotation\tOpen-R1\ta-1\tf-1\t\tRetrospective_auto\t7\t\t2.1\n"
    "annotation\tOpen-R1\ta-2\t\td-1\tRetrospective_auto\t\tB\t",
    "dicom_annotation_file": "dicom_annotation_file\tOpen-R1\td-1\ts-1\tc-1\td.zip\tSR\t1.2.1.9",
}


def test_the_headers_of_midrcs_own_templates(tmp_path: Path) -> None:
    for node, header in HEADERS.items():
        (tmp_path / f"{node}.tsv").write_text(f"{header}\n{ROWS[node]}\n", encoding="utf-8")
    answer = ask(tmp_path, modality="CT", contrast=False, anatomic_site="Chest")
    row = answer.rows_of("c-1").to_pylist()[0]
    assert (row["pixel_spacing"], row["slice_thickness"], row["study_day"]) == (0.139, 1.0, 2)
    found = {one["feature"]: one for one in _rows(answer.bundle_of("c-1"), "features")}
    assert set(found) == {"midrc_mrale_score", "sift_image_quality_index"}
    score, quality = found["midrc_mrale_score"], found["sift_image_quality_index"]
    assert (score["value"], score["series_uid"], score["study_uid"]) == (7.0, "1.2.1.1", "1.2.1")
    assert (score["algorithm"], score["algorithm_version"]) == ("Retrospective_auto", "2.1")
    assert (quality["value_text"], quality["study_uid"]) == ("B", "1.2.1"), "by its file's study"
