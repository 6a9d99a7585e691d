"""Measurements and acquisition parameters out of DICOM files, and asked for afterwards."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from linkage.cohort.spec_imaging import ImagingCriteria
from sites.cli import app
from sites.cohort.config import ImagingConfig
from sites.cohort.imaging import evaluate
from sites.cohort.imaging_dicom import ReadDicom, read_dicom

from .dicom_world import ct, report, write, write_seven_visits


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visits") / "dicom"
    write_seven_visits(folder)
    return folder


def test_a_measurement_report_says_finding_measurement_and_lesion(visits: Path) -> None:
    read = read_dicom([visits / "sr0.dcm"])
    longest, margin, volume = read.features.sort_by("feature").to_pylist()
    assert longest == {
        "study_uid": "1.2.0",
        "source": "SR",
        "series_uid": "1.2.0.1",
        "feature": "Long Axis",
        "feature_code": "SCT:103339001",
        "finding": "Nodule",
        "finding_code": "SCT:27925004",
        "tracking_id": "1.2.840.99.7",
        "value": 4.0,
        "value_text": None,
        "unit": "mm",
        "anatomic_site": "Lung",
        "algorithm": "NodNet",
        "algorithm_version": "2.1",
        "observed_date": None,
        "observed_day": None,
    }
    assert (volume["feature"], volume["unit"]) == ("Volume, Mean", "mm3")
    assert (margin["feature"], margin["value_text"]) == ("Margin", "Spiculated")


def test_no_person_and_no_free_text_is_read(visits: Path) -> None:
    read = read_dicom(sorted(visits.iterdir()))
    told = str(read.features.to_pylist()) + str(read.acquisition.to_pylist())
    assert "Secret" not in told
    assert "NOBODY" not in told
    assert "2099" not in told
    assert (read.files, read.reports, read.skipped) == (14, 7, 0)


def test_dates_of_reports_are_read_where_their_frame_is_that_of_the_studies(tmp_path: Path) -> None:
    found = report("1.2", "1.2.1", "1.2.1.1", "1.9", 5)
    found.StudyDate, found.ContentDate = "20160301", "20160401"
    group = found.ContentSequence[1].ContentSequence[0]
    longest, volume = (one for one in group.ContentSequence if one.ValueType == "NUM")
    longest.ObservationDateTime = "20160305101112.5+0100"
    write(tmp_path / "a.dcm", found)
    by_name = {r["feature"]: r["observed_date"] for r in dated(tmp_path).features.to_pylist()}
    content = dt.date(2016, 4, 1)
    assert by_name == {
        "Long Axis": dt.date(2016, 3, 5),
        "Volume, Mean": content,
        "Margin": content,
    }
    group.ObservationDateTime = "20160310"
    write(tmp_path / "a.dcm", found)
    by_name = {r["feature"]: r["observed_date"] for r in dated(tmp_path).features.to_pylist()}
    assert by_name["Volume, Mean"] == dt.date(2016, 3, 10)
    # Not in the frame of the studies: before the study itself, or beside a study without a date.
    volume.ObservationDateTime = "20160229"
    longest.ObservationDateTime = "yesterday"
    write(tmp_path / "a.dcm", found)
    read = dated(tmp_path)
    by_name = {r["feature"]: r["observed_date"] for r in read.features.to_pylist()}
    assert (by_name["Volume, Mean"], read.too_early) == (None, 1)
    assert by_name["Long Axis"] == dt.date(2016, 3, 10)
    del found.StudyDate
    write(tmp_path / "a.dcm", found)
    assert dated(tmp_path).features["observed_date"].null_count == 3
    # Unless the operator says so, none is read.
    found.StudyDate = "20160301"
    write(tmp_path / "a.dcm", found)
    assert read_dicom([tmp_path / "a.dcm"]).features["observed_date"].null_count == 3


def dated(folder: Path) -> ReadDicom:
    out = folder / "read"
    shutil.rmtree(out, ignore_errors=True)
    words = ["read-dicom", str(folder), "--out", str(out), "--report-dates", "--json"]
    told = CliRunner().invoke(app, words)
    read = read_dicom([folder / "a.dcm"], report_dates=True)
    assert json.loads(told.stdout)["dates left out, before their study"] == read.too_early
    assert pq.read_table(out / "features.parquet").equals(read.features)
    return read


def test_a_parameter_that_differs_from_file_to_file_is_none(tmp_path: Path) -> None:
    for n, current in enumerate((100, 120)):
        found = ct("1.2", "1.2.1", f"1.2.1.{n}", XRayTubeCurrent=current, KVP=120)
        write(tmp_path / f"{n}.dcm", found)
    write(tmp_path / "c.dcm", ct("1.2", "1.2.2", "1.2.2.1", ContrastBolusAgent="OMNIPAQUE"))
    (tmp_path / "note.txt").write_text("no DICOM", encoding="utf-8")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "0.dcm").read_bytes()[:200])
    whole = (tmp_path / "0.dcm").read_bytes()
    assert b"120.0 " in whole, "its kVp"
    (tmp_path / "letters.dcm").write_bytes(whole.replace(b"120.0 ", b"12O.0 "))
    read = read_dicom(sorted(tmp_path.iterdir()))
    first, second = read.acquisition.to_pylist()
    assert (first["tube_current"], first["kvp"], first["contrast"]) == (None, 120, None)
    assert second["contrast"] is True
    assert (read.files, read.skipped) == (6, 3)
    assert read.passed_over == {"no DICOM file": 1, "no series UID": 1, "damaged": 1}
    words = ["read-dicom", str(tmp_path), "--out", str(tmp_path / "read"), "--json"]
    told = json.loads(CliRunner().invoke(app, words).stdout)
    assert told["skipped"] == 3
    assert all(told[f"skipped, {why}"] == 1 for why in read.passed_over)


def test_a_report_of_two_studies_says_nothing_of_either_series(tmp_path: Path) -> None:
    found = report("1.2", "1.2.1", "1.2.1.1", "1.9", 5)
    other = report("1.3", "1.3.1", "1.3.1.1", "1.9", 5).CurrentRequestedProcedureEvidenceSequence
    found.CurrentRequestedProcedureEvidenceSequence += other
    images = found.ContentSequence[1].ContentSequence[0].ContentSequence
    del images[6].ContentSequence
    write(tmp_path / "a.dcm", found)
    (row, *_) = read_dicom([tmp_path / "a.dcm"]).features.to_pylist()
    assert (row["study_uid"], row["series_uid"]) == ("1.2", None), "the report's own study"


def test_the_nodule_of_seven_visits_is_asked_for_and_delivered(
    visits: Path, tmp_path: Path
) -> None:
    told = CliRunner().invoke(
        app, ["read-dicom", str(visits), "--out", str(tmp_path / "read"), "--json"]
    )
    assert json.loads(told.stdout)["features"] == 21, told.output
    again = CliRunner().invoke(app, ["read-dicom", str(visits), "--out", str(tmp_path / "read")])
    assert again.exit_code != 0
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("no DICOM", encoding="utf-8")
    for folder, said in (
        ("nowhere", "there is no such folder"),
        ("empty", "of 0 files\n"),
        ("notes", "of 1 files; no DICOM file: 1\n"),
    ):
        out = ["--out", str(tmp_path / "other")]
        refused = CliRunner().invoke(app, ["read-dicom", str(tmp_path / folder), *out])
        assert refused.exit_code != 0
        assert said in refused.output
        assert not (tmp_path / "other").exists()
    series = [
        {
            "PatientID": "A-1",
            "StudyInstanceUID": f"1.2.{n}",
            "SeriesInstanceUID": f"1.2.{n}.1",
            "Modality": "CT",
            "StudyDate": f"20{10 + n}-05-01",
        }
        for n in range(7)
    ]
    series += [
        row | {"PatientID": "A-2", "StudyInstanceUID": "9.1", "SeriesInstanceUID": "9.1.1"}
        for row in series[:1]
    ]
    pq.write_table(pa.Table.from_pylist(series), tmp_path / "series.parquet")
    config = ImagingConfig(
        file=tmp_path / "series.parquet",
        features=tmp_path / "read/features.parquet",
        acquisition=tmp_path / "read/acquisition.parquet",
        date_frame="true",
    )
    asked = {
        "kvp": {"min": 150, "max": 150},
        "slice_thickness": {"max": 1},
        "features": [{"finding": "nodule", "measurement": "long axis", "unit": "mm"}],
        "studies_per_subject": {"min": 7},
        "dates": True,
    }
    answer = evaluate(config, ImagingCriteria.model_validate(asked))
    assert answer.record_ids == ("A-1",)
    assert len(answer.study_days("A-1")) == 7
    bundle = answer.bundle_of("A-1")
    diameters = [f for f in bundle["features"].to_pylist() if f["feature"] == "Long Axis"]
    assert {f["tracking_id"] for f in diameters} == {"1.2.840.99.7"}
    grown = sorted(f["value"] for f in diameters)
    assert grown[-1] == pytest.approx(4 * 1.25**6, abs=0.001)
    assert bundle["series"]["pixel_spacing"].to_pylist() == [0.7] * 7
