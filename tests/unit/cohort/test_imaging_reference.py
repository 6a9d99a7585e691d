"""The imaging criteria, evaluated as fast as they are, against a plain reading of them."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linkage.cohort.spec_imaging import FeatureCriterion, ImagingCriteria
from sites.cohort.bundle import FEATURES_SCHEMA
from sites.cohort.config import ImagingConfig
from sites.cohort.imaging import evaluate

Row = dict[str, Any]


def reference(rows: list[Row], features: list[Row], asked: ImagingCriteria) -> list[Row]:
    """Return the series that fit, one criterion after the other, as the specification says it."""
    known = [r for r in rows if r["PatientID"] and r["StudyInstanceUID"] and r["Modality"]]
    for uid in ("StudyInstanceUID", "SeriesInstanceUID"):
        owners = {r[uid]: {o["PatientID"] for o in known if o[uid] == r[uid]} for r in known}
        known = [r for r in known if len(owners[r[uid]]) == 1]
    left: dict[str, Row] = {}
    for row in known:
        left.setdefault(row["SeriesInstanceUID"], row)
    fits = [row for row in left.values() if _series_fits(row, asked)]
    for one in asked.features:
        having = {f["study_uid"] for f in features if _feature_fits(f, one)}
        fits = [row for row in fits if row["StudyInstanceUID"] in having]
    if bounds := asked.series_per_study:
        times = Counter(row["StudyInstanceUID"] for row in fits)
        fits = [r for r in fits if _in(times[r["StudyInstanceUID"]], bounds)]
    if bounds := asked.studies_per_subject:
        studies = Counter(p for p, _ in {(r["PatientID"], r["StudyInstanceUID"]) for r in fits})
        fits = [r for r in fits if _in(studies[r["PatientID"]], bounds)]
    if asked.study != "any":
        fits = _end_study(fits, asked.study)
    return fits


def _series_fits(row: Row, asked: ImagingCriteria) -> bool:
    def plain(name: str) -> str:
        return " ".join((row[name] or "").split()).upper()

    tests = [
        not asked.modality or plain("Modality") in asked.modality,
        not asked.body_part or plain("BodyPartExamined") in asked.body_part,
        not asked.anatomic_site or plain("anatomic_site") in asked.anatomic_site,
        not asked.manufacturer or any(m in plain("Manufacturer") for m in asked.manufacturer),
        not asked.manufacturer_model
        or any(m in plain("ManufacturerModelName") for m in asked.manufacturer_model),
        not asked.slice_thickness or _in(row["SliceThickness"], asked.slice_thickness),
        not asked.kvp or _in(row["KVP"], asked.kvp),
        asked.contrast is None
        or {"yes": True, "no": False}.get(row["ContrastBolusAgent"]) is asked.contrast,
    ]
    return all(tests)


def _in(value: float | None, bounds: Any) -> bool:
    if value is None or (bounds.min is not None and value < bounds.min):
        return False
    return bounds.max is None or value <= bounds.max


def _feature_fits(feature: Row, one: FeatureCriterion) -> bool:
    def named(wanted: tuple[str, ...], what: str) -> bool:
        code = (feature[f"{what}_code"] or "").upper()
        names = {(feature[what] or "").upper(), code, code.split(":")[-1]}
        return not wanted or bool(names & set(wanted))

    return (
        named(one.finding, "finding")
        and named(one.measurement, "feature")
        and (not one.value or _in(feature["value"], one.value))
        and (not one.unit or feature["unit"] in one.unit)
        and (not one.algorithm or any(a in feature["algorithm"].upper() for a in one.algorithm))
    )


def _end_study(fits: list[Row], which: str) -> list[Row]:
    kept: dict[str, str] = {}
    for subject in {r["PatientID"] for r in fits}:
        own = {
            (r["StudyDate"], r["StudyInstanceUID"])
            for r in fits
            if r["PatientID"] == subject and r["StudyDate"]
        }
        if own:
            day = min(own)[0] if which == "first" else max(own)[0]
            kept[subject] = min(uid for when, uid in own if when == day)
    return [r for r in fits if kept.get(r["PatientID"]) == r["StudyInstanceUID"]]


def world(seed: int) -> tuple[list[Row], list[Row]]:
    """Return series and features of some subjects, with gaps, doubles and shared studies."""
    draw = random.Random(seed)
    rows: list[Row] = []
    for n in range(60):
        for s in range(draw.randint(1, 4)):
            day = dt.date(2015, 1, 1) + dt.timedelta(draw.randint(0, 5))
            study: Row = {
                "PatientID": f"P-{n}" if draw.random() < 0.97 else None,
                "StudyInstanceUID": f"1.{n}.{s}" if draw.random() < 0.97 else "1.0.0",
                "StudyDate": day.isoformat() if draw.random() < 0.9 else None,
            }
            rows += [study | _series(draw, f"1.{n}.{s}.{i}") for i in range(draw.randint(1, 3))]
    rows += [dict(draw.choice(rows)) for _ in range(5)]
    studies = sorted({row["StudyInstanceUID"] for row in rows})
    return rows, [_feature(draw, draw.choice(studies)) for _ in range(150)]


def _series(draw: random.Random, uid: str) -> Row:
    return {
        "SeriesInstanceUID": uid,
        "Modality": draw.choice(["CT", "ct ", "MR", "DX", None]),
        "BodyPartExamined": draw.choice(["CHEST", "Chest ", "LOW  BACK", None]),
        "anatomic_site": draw.choice(["Left lung", "RIGHT LUNG", None]),
        "Manufacturer": draw.choice(["GE MEDICAL", "Siemens  Healthineers", None]),
        "ManufacturerModelName": draw.choice(["Force", "Drive", "Optima", None]),
        "ContrastBolusAgent": draw.choice(["yes", "no", None]),
        "SliceThickness": draw.choice([0.5, 1.0, 1.25, None]),
        "KVP": draw.choice([120.0, 150.0, None]),
    }


def _feature(draw: random.Random, study: str) -> Row:
    name, code = draw.choice([("Diameter", "DCM:103339001"), ("Volume", "SCT:118565006")])
    return {
        "study_uid": study,
        "source": "table",
        "feature": name,
        "feature_code": code,
        "finding": draw.choice(["Nodule", "Mass", None]),
        "finding_code": draw.choice(["SCT:27925004", None]),
        "value": draw.choice([4.0, 6.0, 8.0, None]),
        "unit": draw.choice(["mm", "cm", None]),
        "algorithm": draw.choice(["NodNet 2", "reader"]),
    }


QUESTIONS: list[dict[str, Any]] = [
    {"any": True},
    {"modality": ["CT"]},
    {"modality": ["CT"], "body_part": ["chest"], "slice_thickness": {"max": 1}},
    {"kvp": {"min": 150, "max": 150}, "contrast": False},
    {"contrast": True, "manufacturer": "siemens health"},
    {"manufacturer_model": ["forc", "optima"], "anatomic_site": "left lung"},
    {"any": True, "study": "first"},
    {"modality": ["CT", "MR"], "study": "last"},
    {"modality": ["CT"], "series_per_study": {"min": 2}},
    {"series_per_study": {"max": 1}, "studies_per_subject": {"min": 2, "max": 3}},
    {"studies_per_subject": {"min": 4}},
    {"features": [{"finding": "nodule"}]},
    {"features": [{"finding": "27925004", "measurement": "diameter", "value": {"min": 6}}]},
    {"features": [{"measurement": "118565006", "unit": "mm"}, {"algorithm": "nodnet"}]},
    {
        "modality": ["CT", "MR"],
        "features": [{"measurement": "dcm:103339001", "value": {"max": 6}}],
        "studies_per_subject": {"min": 1},
        "study": "first",
    },
]


def test_every_criterion_keeps_what_a_plain_reading_keeps(tmp_path: Path) -> None:
    rows, features = world(1)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "series.parquet")
    table = pa.Table.from_pylist(features, FEATURES_SCHEMA)
    pq.write_table(table, tmp_path / "features.parquet")
    config = ImagingConfig(
        file=tmp_path / "series.parquet",
        features=tmp_path / "features.parquet",
        date_frame="shifted",
    )
    kept = []
    for question in QUESTIONS:
        asked = ImagingCriteria.model_validate(question)
        wanted = reference(rows, features, asked)
        answer = evaluate(config, asked)
        found = {(r["study_uid"], r["series_uid"]) for r in answer.rows.to_pylist()}
        assert found == {(r["StudyInstanceUID"], r["SeriesInstanceUID"]) for r in wanted}, question
        assert list(answer.record_ids) == sorted({r["PatientID"] for r in wanted})
        last = answer.attrition.steps[-1]
        studies = {r["StudyInstanceUID"] for r in wanted}
        assert (last.series, last.studies) == (len(wanted), len(studies))
        delivered = {
            row["study_uid"]
            for record_id in answer.record_ids
            for row in answer.bundle_of(record_id)["features"].to_pylist()
        }
        assert delivered == studies & {feature["study_uid"] for feature in features}
        kept.append(len(wanted))
    assert min(kept) > 0, "a question that keeps nothing tests nothing"
