"""What an imaging commons' dates are worth, what stands beside its series, and whose a row is."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.errors import SiteRefused, SourceRefused
from linkage.strict_toml import Strict, load
from sites.cohort.bundle import FEATURES_SCHEMA
from sites.cohort.config import ImagingConfig
from sites.cohort.config_imaging import SERIES_COLUMNS
from sites.cohort.imaging import evaluate

MakeSeries = Callable[..., ImagingConfig]
DATED = ImagingCriteria(any=True, dates=True)
LAST = ImagingCriteria(any=True, study="last", dates=True)


def day(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


def test_true_dates_are_days_since_1970_of_the_studies_as_asked(series_file: MakeSeries) -> None:
    config = series_file(
        {"StudyInstanceUID": "1.1", "StudyDate": "2016-03-01"},
        {"StudyInstanceUID": "1.1", "StudyDate": "2016-03-01"},
        {"StudyInstanceUID": "1.2", "StudyDate": "20150101"},
        {"StudyInstanceUID": "1.3", "StudyDate": None},
        {"PatientID": "A-2", "StudyDate": None},
        date_frame="true",
    )
    every, last = evaluate(config, DATED), evaluate(config, LAST)
    assert (every.frame, every.index_event) == ("true", None)
    assert every.study_days("PAT-0001") == (day("2015-01-01"), day("2016-03-01"))
    assert every.study_days("A-2") == ()
    assert last.record_ids == ("PAT-0001",)
    assert last.study_days("PAT-0001") == (day("2016-03-01"),)
    assert "2 fitting studies have no date" in last.attrition.notes[0]
    assert evaluate(config, ImagingCriteria(any=True)).study_days("PAT-0001") == ()


@pytest.mark.parametrize("frame", ["shifted", "unknown"])
def test_days_from_an_image_are_refused_where_dates_are_not_true(
    series_file: MakeSeries, frame: str
) -> None:
    config = series_file({}, date_frame=frame)
    with pytest.raises(SourceRefused, match=f"frame '{frame}'"):
        evaluate(config, DATED)


def test_the_first_study_needs_dates_that_keep_their_order(series_file: MakeSeries) -> None:
    asked = ImagingCriteria(any=True, study="first")
    with pytest.raises(SourceRefused, match="nobody knows the first study"):
        evaluate(series_file({}), asked)
    shifted = series_file({"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": "1.1"})
    shifted = shifted.model_copy(update={"date_frame": "shifted"})
    assert evaluate(shifted, asked).rows["study_uid"].to_pylist() == ["1.1"], "one day: smaller UID"


def test_days_from_an_index_event_in_a_series_table(series_file: MakeSeries) -> None:
    rows = [
        {"StudyInstanceUID": "1.1", "days_to_study": 12.0},
        {"StudyInstanceUID": "1.2", "days_to_study": -400.0},
        {"StudyInstanceUID": "1.3", "days_to_study": None},
    ]
    with pytest.raises(SourceRefused, match="name no index event"):
        evaluate(series_file(*rows, date_frame="index"), DATED)
    config = series_file(*rows, date_frame="index", index_event="Diagnosis")
    answer = evaluate(config, DATED)
    assert (answer.frame, answer.index_event) == ("index", "Diagnosis")
    assert answer.study_days("PAT-0001") == (-400, 12)
    said = [(r["study_day"], r["date_frame"], r["study_date"]) for r in answer.rows.to_pylist()]
    assert said == [(12, "index", None), (-400, "index", None), (None, "absent", None)]
    with pytest.raises(SourceRefused, match="no column for 'study_day'"):
        evaluate(series_file({}, date_frame="index"), DATED)


def test_reports_and_segmentations_of_a_fitting_study_come_as_files(
    series_file: MakeSeries,
) -> None:
    config = series_file(
        {"StudyInstanceUID": "1.1"},
        {"StudyInstanceUID": "1.1", "Modality": "SEG", "SeriesDescription": "of pat-0001"},
        {"StudyInstanceUID": "1.2", "Modality": "SR"},
    )
    bundle = evaluate(config, ImagingCriteria(modality=["CT"])).bundle_of("PAT-0001")
    (file,) = bundle["files"].to_pylist()
    assert (file["kind"], file["study_uid"], file["series_uid"]) == ("SEG", "1.1", "1.2.3.1")
    assert (file["name"], file["reference"]) == (None, "s3://bucket/1/*"), "held the record id"
    both = evaluate(config, ImagingCriteria(modality=["CT", "SEG"])).bundle_of("PAT-0001")
    assert (both["series"].num_rows, both["files"].num_rows) == (2, 0)


def test_features_that_hold_the_record_id_lose_that_text(
    series_file: MakeSeries, tmp_path: Path
) -> None:
    rows = [
        {"study_uid": "1.1", "feature": "Diameter", "tracking_id": "PAT-0001 nodule", "value": 4},
        {"study_uid": "9.9", "feature": "Diameter", "tracking_id": "of nobody's study", "value": 5},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "features.parquet")
    config = series_file({"StudyInstanceUID": "1.1"}, features=tmp_path / "features.parquet")
    answer = evaluate(config, ImagingCriteria(any=True))
    (row,) = answer.bundle_of("PAT-0001")["features"].to_pylist()
    assert (row["feature"], row["value"], row["tracking_id"]) == ("Diameter", 4, None)
    assert "1 texts were left out" in answer.attrition.notes[0]


def test_ids_that_look_alike_are_different_subjects(series_file: MakeSeries) -> None:
    ids = ["419639-000082", "MIDRC-RICORD-1A-419639-000082", "419639-82", "CASE-1", "case-1"]
    config = series_file(*({"PatientID": record_id} for record_id in ids))
    answer = evaluate(config, ImagingCriteria(any=True))
    assert answer.record_ids == tuple(sorted(ids))
    assert all(answer.rows_of(record_id).num_rows == 1 for record_id in ids)


def test_a_table_without_rows_fits_nobody(tmp_path: Path) -> None:
    header = "PatientID,StudyInstanceUID,SeriesInstanceUID,Modality,StudyDate,KVP\n"
    (tmp_path / "series.csv").write_text(header, encoding="utf-8")
    config = ImagingConfig(file=tmp_path / "series.csv", date_frame="true")
    asked = {"kvp": {"min": 1}, "studies_per_subject": {"min": 2}, "study": "last", "dates": True}
    answer = evaluate(config, ImagingCriteria.model_validate(asked))
    assert (answer.record_ids, list(answer.packed())) == ((), [])
    assert [step.series for step in answer.attrition.steps] == [0] * 5


def test_a_list_of_several_values_is_none(series_file: MakeSeries) -> None:
    config = series_file(
        {"PatientID": "A-1", "SliceThickness": [1.0, 1.0]},
        {"PatientID": "A-2", "SliceThickness": [1.0, 0.5]},
        {"PatientID": "A-3", "SliceThickness": None},
    )
    thin = ImagingCriteria.model_validate({"slice_thickness": {"max": 1}})
    assert evaluate(config, thin).record_ids == ("A-1",)


class _Site(Strict):
    imaging: ImagingConfig


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "gen3"\nfile = "nodes"', "needs 'path'"),
        ('path = "nodes"', "needs 'file'"),
        ('kind = "gen3"\npath = "n"\nfile = "f"', "has no 'file'"),
        ('kind = "hub"\npath = "n"\ncolumns = { kvp = "KVP" }', "has no columns to name"),
        ('kind = "midrc"\npath = "n"', "gen3"),
        ('file = "f"\ncolumns = { kvpp = "KVP" }', "unknown meaning 'kvpp'"),
    ],
)
def test_a_site_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "site.toml").write_text(f"[imaging]\n{text}\n", encoding="utf-8")
    with pytest.raises(SiteRefused, match=said):
        load(tmp_path / "site.toml", _Site, SiteRefused)


def test_the_page_for_the_operator_shows_what_is_read() -> None:
    page = (Path(__file__).parents[3] / "docs" / "imaging.md").read_text(encoding="utf-8")
    examples = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    kinds = [ImagingConfig.model_validate(one["imaging"]).kind for one in examples]
    assert sorted(set(kinds)) == ["gen3", "hub", "mi_cdm", "series"]
    for meaning, column in SERIES_COLUMNS.items():
        assert f"`{meaning}`" in page, meaning
        assert f"`{column}`" in page, column
    for name in FEATURES_SCHEMA.names:
        assert f"`{name}`" in page or name == "source", name
    for key in ImagingConfig.model_fields:
        assert re.search(rf"\b{key}\b", page), key
