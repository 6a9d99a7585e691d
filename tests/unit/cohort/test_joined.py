"""What a delivery makes of features, findings over time, dates, the commons' events and files."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion
from linkage.cohort.spec_values import DayRange
from linkage.errors import DeliveryFaulty, SourceRefused
from sites.cohort.bundle import (
    BUNDLE_SCHEMAS,
    bundle_from_bytes,
    bundle_to_bytes,
    bundles_from_bytes,
    unpadded,
)
from sites.cohort.config import OmopConfig
from sites.cohort.features import MEASUREMENT_ID, MEASUREMENT_TABLE, OBSERVATION_TABLE
from sites.cohort.integrity import check_delivery
from sites.cohort.join import Asked, Delivery, Terms, deliver, matches_table
from sites.cohort.omop import OmopSource
from sites.cohort.received import gather

from .conftest import PERSON, RACE, OpenOmop, events
from .test_bundle import series_rows

CT_OF_CHEST = 4300757
DAY = dt.date(2020, 3, 1)
Rows = list[dict[str, Any]]
Make = Callable[..., Delivery]


def bundle(**tables: Rows) -> dict[str, pa.Table]:
    return {
        name: pa.Table.from_pylist(rows, schema=BUNDLE_SCHEMAS[name])
        for name, rows in tables.items()
    }


def series(n: int = 0, **values: Any) -> dict[str, Any]:
    row = {"study_uid": f"1.{n}", "series_uid": f"1.{n}.1", "modality": "CT"}
    return row | {"date_frame": "true", "study_date": DAY} | values


@pytest.fixture
def make(open_omop: OpenOmop, tmp_path: Path) -> Make:
    """Deliver one person, 5, whose bundle is `tables`."""

    def made(
        tables: dict[str, pa.Table],
        clinical: ClinicalCriteria | None = None,
        retrieval: Any = "disclosed",
        **omop: Any,
    ) -> Delivery:
        omop.setdefault("procedure_occurrence", events("procedure", (5, 1, "2001-01-01")))
        source = open_omop("5,8532,1950,1,1 6,8507,1951,1,1", **omop)
        return deliver(
            asked=Asked(
                title="t",
                purpose="p",
                spec_hash="0" * 64,
                clinical=clinical or ClinicalCriteria(any=True),
            ),
            terms=Terms(study_id="s", minimum_cell=2, image_retrieval=retrieval),
            matches=matches_table([("C5", 5), ("C6", 6)]),
            images={"C5": [tables, bundle_to_bytes(tables)]},
            source=source,
            out=tmp_path / f"out{len(list(tmp_path.iterdir()))}",
            seed=b"s" * 32,
            made_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        )

    return made


def table(delivery: Delivery, path: str) -> Rows:
    rows: Rows = pq.read_table(delivery.folder / f"{path}.parquet").to_pylist()
    return rows


def test_many_bundles_read_as_each_one() -> None:
    one = bundle(series=[series()], features=[{"study_uid": "1.0", "source": "SR"}])
    two = bundle(series=[series(1), series(2)])
    packed = [("a", bundle_to_bytes(one)), ("b", unpadded(bundle_to_bytes(two)))]
    together = bundles_from_bytes(packed)
    for name, rows in together.items():
        each = [bundle_from_bytes(content)[name] for _, content in packed]
        assert rows.drop_columns("owner").equals(pa.concat_tables(each).combine_chunks())
    assert together["series"]["owner"].to_pylist() == ["a", "b", "b"]


def test_what_came_depends_on_no_order_and_counts_once() -> None:
    rows = series_rows(3)
    forward = gather({"a": [rows, rows.take([1])], "b": [series_rows(1, study_uid="2.2")]})
    backward = gather({"b": [series_rows(1, study_uid="2.2")], "a": [rows.take([2, 0, 1])]})
    # "1.2.0" is claimed by both persons: whose it is nobody can tell.
    assert forward.series.equals(backward.series)
    assert forward.series["series_uid"].to_pylist() == ["1.2.1", "1.2.2"]
    assert forward.ambiguous == 2


def test_acquisition_parameters_are_features_with_a_measurement(make: Make) -> None:
    made = make(bundle(series=[series(slice_thickness=1.0, kvp=150.0)]))
    features, values = table(made, "omop/image_feature"), table(made, "omop/measurement")
    assert [(v["measurement_source_value"], v["value_as_number"]) for v in values] == [
        ("Slice Thickness", 1.0),
        ("KVP", 150.0),
    ]
    assert [v["unit_source_value"] for v in values] == ["mm", "kV"]
    assert values[0]["unit_concept_id"] == 8588
    for feature, value in zip(features, values, strict=True):
        assert feature["image_feature_event_field_concept_id"] == MEASUREMENT_TABLE
        assert feature["image_feature_event_id"] == value["measurement_id"]
        assert value["measurement_date"] == DAY
    assert {row["source"] for row in table(made, "side/image_feature_provenance")} == {
        "acquisition"
    }


def test_a_nodule_over_seven_visits_is_one_episode(make: Make) -> None:
    days = [DAY + dt.timedelta(days=90 * n) for n in range(7)]
    nodule = {"source": "SR", "feature": "Diameter", "finding": "Nodule", "unit": "mm"}
    features = [
        {"study_uid": f"1.{n}", "series_uid": f"1.{n}.1", "value": 4.0 * 2 ** (n / 3)}
        | {"tracking_id": "L1", **nodule}
        for n in range(7)
    ]
    loose = {"study_uid": "1.3", "source": "SR", "finding": "Emphysema", "value_text": "moderate"}
    made = make(
        bundle(
            series=[series(n, study_date=day) for n, day in enumerate(days)],
            features=[*features, loose],
        )
    )
    (episode,) = table(made, "omop/episode")
    assert (episode["episode_start_date"], episode["episode_end_date"]) == (days[0], days[-1])
    assert episode["episode_source_value"] == "Nodule"
    linked = table(made, "omop/episode_event")
    assert {row["episode_event_field_concept_id"] for row in linked} == {MEASUREMENT_ID}
    by_id = {row["measurement_id"]: row for row in table(made, "omop/measurement")}
    followed = sorted(
        (by_id[row["event_id"]]["measurement_date"], by_id[row["event_id"]]["value_as_number"])
        for row in linked
    )
    assert followed == [(day, 4.0 * 2 ** (n / 3)) for n, day in enumerate(days)]
    rows = table(made, "omop/image_feature")
    findings = [row["image_finding_id"] for row in rows if row["image_finding_id"]]
    assert findings == [episode["episode_id"]] * 7
    (observed,) = table(made, "omop/observation")
    assert observed["value_as_string"] == "moderate"
    (other,) = [row for row in rows if row["image_finding_id"] is None]
    assert other["image_feature_event_field_concept_id"] == OBSERVATION_TABLE
    assert "L1" not in str(rows + table(made, "side/image_feature_provenance"))


def test_a_feature_without_series_is_its_study_s_first(make: Make) -> None:
    made = make(
        bundle(
            series=[series(series_uid="1.0.2"), series(series_uid="1.0.1")],
            features=[
                {"study_uid": "1.0", "source": "table", "feature": "Volume", "value": 3.0},
                {"study_uid": "1.0", "series_uid": "1.0.2", "source": "table", "value": 4.0},
                {"study_uid": "9.9", "source": "table", "value": 5.0},
            ],
        )
    )
    images = {row["image_occurrence_id"]: row for row in table(made, "omop/image_occurrence")}
    found = [
        (images[row["image_occurrence_id"]]["image_series_uid"], side["attached_to"])
        for row, side in zip(
            table(made, "omop/image_feature"),
            table(made, "side/image_feature_provenance"),
            strict=True,
        )
    ]
    assert found == [("1.0.1", "study"), ("1.0.2", "series")]
    assert any("no series of their study" in note for note in made.report["warnings"])


@pytest.mark.parametrize(
    ("concept", "day", "rule", "confidence"),
    [
        (CT_OF_CHEST, "2020-03-01", "same day", "high"),
        (CT_OF_CHEST, "2020-03-02", "one day apart", "low"),
        (CT_OF_CHEST, "2020-03-03", "synthetic", "none"),
        (17, "2020-03-01", "synthetic", "none"),
    ],
)
def test_the_enclave_s_own_procedure_is_found_by_day_and_modality(
    make: Make, concept: int, day: str, rule: str, confidence: str
) -> None:
    made = make(
        bundle(series=[series()]),
        procedure_occurrence=events("procedure", (5, concept, day), (6, concept, day)),
    )
    (side,) = table(made, "side/image_occurrence_provenance")
    assert rule in side["procedure_rule"]
    assert side["procedure_confidence"] == confidence
    (image,) = table(made, "omop/image_occurrence")
    procedures = {
        row["procedure_occurrence_id"]: row for row in table(made, "omop/procedure_occurrence")
    }
    found = procedures[image["procedure_occurrence_id"]]
    assert found["person_id"] == image["person_id"]
    assert (found["procedure_source_value"] is None) == (rule != "synthetic")


def test_shifted_dates_find_no_procedure(make: Make) -> None:
    made = make(
        bundle(series=[series(date_frame="shifted")]),
        procedure_occurrence=events("procedure", (5, CT_OF_CHEST, "2020-03-01")),
    )
    (side,) = table(made, "side/image_occurrence_provenance")
    assert side["procedure_rule"] == "synthetic"
    assert side["date_confidence"] == "intervals within the person only"
    assert not side["comparable"]


WITHIN_30 = ClinicalCriteria(
    concepts=(
        ConceptCriterion(
            domain="procedure",
            concept_id=(17,),
            descendants=False,
            days_from_imaging=DayRange(min=-30, max=30),
        ),
    )
)


def test_days_from_the_image_are_counted_in_true_dates_only(make: Make) -> None:
    near = events("procedure", (5, 17, "2020-03-20"))
    made = make(bundle(series=[series()]), WITHIN_30, procedure_occurrence=near)
    assert made.persons == 1
    for frame in ("shifted", "unknown"):
        with pytest.raises(SourceRefused, match="imaging dates"):
            make(bundle(series=[series(date_frame=frame)]), WITHIN_30)


def test_days_from_an_unmapped_index_event_keep_their_intervals(make: Make) -> None:
    index = {"date_frame": "index", "study_date": None, "index_event": "COVID-19 Test"}
    made = make(bundle(series=[series(0, study_day=-3, **index), series(1, study_day=4, **index)]))
    first, second = table(made, "omop/image_occurrence")
    assert (second["image_occurrence_date"] - first["image_occurrence_date"]).days == 7
    side = table(made, "side/image_occurrence_provenance")
    assert [row["study_day"] for row in side] == [-3, 4]
    assert {row["date_confidence"] for row in side} == {"intervals within the person only"}
    with pytest.raises(SourceRefused, match="can't date"):
        make(bundle(series=[series(study_day=4, **index)]), WITHIN_30)


def test_the_commons_own_events_enter_omop_where_their_day_is_true(make: Make) -> None:
    flu = {"node": "condition", "code": "6142004", "code_system": "SNOMED", "name": "Influenza"}
    made = make(
        bundle(
            series=[series()],
            events=[
                {**flu, "date_frame": "true", "start_date": DAY},
                {**flu, "date_frame": "shifted", "start_date": DAY},
                {"node": "measurement", "date_frame": "true", "name": "CRP", "value": 7.5,
                 "unit": "mg/L", "start_date": DAY},
                {"node": "medication", "date_frame": "true", "name": "Remdesivir"},
                {"node": "visit", "date_frame": "true", "name": "ICU", "start_date": DAY},
            ],
        ),
        concept="concept_id,concept_name,domain_id,vocabulary_id,standard_concept,concept_code\n"
        "4266367,Influenza,Condition,SNOMED,S,6142004",
    )  # fmt: skip
    rows = table(made, "side/commons_event")
    said = {(row["node"], row["omop_table"], row["not_in_omop"]) for row in rows}
    assert said == {
        ("condition", "condition_occurrence", None),
        ("condition", None, "its day is not in the enclave's calendar"),
        ("measurement", "measurement", None),
        ("medication", None, "it has no day"),
        ("visit", "visit_occurrence", None),
    }
    (condition,) = table(made, "omop/condition_occurrence")
    assert condition["condition_concept_id"] == 4266367
    (measured,) = [
        row for row in table(made, "omop/measurement") if row["measurement_source_value"] == "CRP"
    ]
    assert measured["value_as_number"] == 7.5


def test_files_are_beside_their_series_and_have_no_address_under_cover(make: Make) -> None:
    file = {"kind": "SEG", "study_uid": "1.0", "series_uid": "1.0.1", "object_id": "dg.X/1"}
    report = {"kind": "radiology_report", "study_uid": "1.0", "file_name": "r.txt"}
    tables = bundle(series=[series()], files=[file, report, {**file, "study_uid": "7.7"}])
    seg, text = sorted(table(make(tables), "side/image_file"), key=lambda row: row["kind"])
    assert seg["image_occurrence_id"] is not None
    assert seg["object_id"] == "dg.X/1"
    assert (text["kind"], text["image_occurrence_id"]) == ("radiology_report", None)


def test_a_covered_file_has_no_address(make: Make) -> None:
    file = {"kind": "SEG", "study_uid": "1.0", "object_id": "dg.X/1", "file_name": "a"}
    (row,) = table(
        make(bundle(series=[series()], files=[file]), retrieval="cover"), "side/image_file"
    )
    assert row["object_id"] is None
    assert row["file_name"] is None


def test_days_from_a_mapped_index_event_become_dates(make: Make) -> None:
    tested = ConceptCriterion(domain="procedure", concept_id=(99,), descendants=False)
    index = {"date_frame": "index", "study_date": None, "index_event": "COVID-19 Test"}
    made = make(
        bundle(series=[series(study_day=4, **index)]),
        WITHIN_30,
        config={"index_events": {"COVID-19 Test": tested}},
        procedure_occurrence=events(
            "procedure", (5, 99, "2020-03-05"), (5, 99, "2020-03-01"), (5, 17, "2020-03-20")
        ),
    )
    (image,) = table(made, "omop/image_occurrence")
    assert image["image_occurrence_date"] == dt.date(2020, 3, 5)
    (side,) = table(made, "side/image_occurrence_provenance")
    assert side["date_confidence"] == "exact to the day of the index event's record"
    assert side["comparable"]


@pytest.mark.parametrize(
    ("path", "column", "value", "said"),
    [
        ("omop/image_feature", "image_feature_event_id", 7, "refers to no row of omop/measurement"),
        ("omop/image_feature", "image_feature_event_id", None, "null without a reason"),
        ("omop/image_feature", "image_feature_event_field_concept_id", 7, "names an unknown table"),
        ("omop/image_feature", "image_finding_id", 7, "refers to no row of omop/episode"),
        ("omop/episode_event", "event_id", 7, "refers to no row of omop/measurement"),
        ("omop/cohort", "cohort_definition_id", 7, "refers to no row of omop/cohort_definition"),
        ("side/image_file", "image_occurrence_id", 7, "refers to no row"),
        ("side/commons_event", "measurement_id", 7, "refers to no row of omop/measurement"),
    ],
)
def test_the_check_finds_what_resolves_to_nothing(
    checked: Delivery, tmp_path: Path, path: str, column: str, value: int | None, said: str
) -> None:
    folder = shutil.copytree(checked.folder, tmp_path / "copy")
    check_delivery(folder)
    rows = pq.read_table(folder / f"{path}.parquet")
    at = rows.schema.get_field_index(column)
    wrong = pa.array([value] * rows.num_rows, rows.schema.field(at).type)
    pq.write_table(rows.set_column(at, rows.schema.field(at), wrong), folder / f"{path}.parquet")
    with pytest.raises(DeliveryFaulty, match=said):
        check_delivery(folder)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """One delivery with a row in every table."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "omop").mkdir()
    person = f"{PERSON},{RACE}\n5,8532,1950,1,1,8527,0\n"
    (folder / "omop" / "person.csv").write_text(person, encoding="utf-8")
    period = "observation_period_id,person_id,observation_period_start_date,"
    period += "observation_period_end_date,period_type_concept_id\n1,5,2000-01-01,2020-01-01,0\n"
    (folder / "omop" / "observation_period.csv").write_text(period, encoding="utf-8")
    followed = {"study_uid": "1.0", "source": "SR", "value": 5.0, "tracking_id": "L1"}
    event = {"node": "measurement", "date_frame": "true", "start_date": DAY, "value": 1.0}
    tables = bundle(
        series=[series()],
        features=[followed],
        events=[event],
        files=[{"kind": "SEG", "study_uid": "1.0", "series_uid": "1.0.1"}],
    )
    with OmopSource.open(OmopConfig(path=folder / "omop")) as source:
        return deliver(
            asked=Asked(
                title="t", purpose="p", spec_hash="0" * 64, clinical=ClinicalCriteria(any=True)
            ),
            terms=Terms(study_id="s", minimum_cell=2, image_retrieval="disclosed"),
            matches=matches_table([("C5", 5)]),
            images={"C5": [tables]},
            source=source,
            out=folder / "out",
        )
