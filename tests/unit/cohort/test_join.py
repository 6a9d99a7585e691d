"""A delivery on the sample: every row right, no local id, nothing half-written."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec import CohortSpec, load_spec
from linkage.errors import (
    Conflict,
    DeliveryFaulty,
    KeyRefused,
    PackageRefused,
    SiteRefused,
    SourceRefused,
)
from sites.cohort import imaging, mi_cdm, mi_cdm_tables
from sites.cohort.bundle import bundle_from_bytes, bundle_to_bytes
from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.integrity import check_delivery
from sites.cohort.join import Delivery, Terms, asked_of, deliver, matches_table
from sites.cohort.manifest import cover_manifest, cover_manifest_from_bytes
from sites.cohort.omop import OmopSource
from sites.cohort.sample import CHEST_XRAY, CHEST_XRAY_CHILD

from .conftest import PERSON, RACE, OpenOmop, Sample, events
from .test_bundle import series_rows

SPEC = Path(__file__).parents[3] / "configs" / "three-commons" / "cohort.toml"
SEED = b"seed" * 8


@pytest.fixture(scope="module")
def spec() -> CohortSpec:
    return load_spec(SPEC)


@pytest.fixture(scope="module")
def answer(sample: Sample, spec: CohortSpec) -> imaging.ImagingAnswer:
    config = ImagingConfig(file=sample.files.imaging_series, date_frame="shifted")
    return imaging.evaluate(config, spec.imaging)


@pytest.fixture(scope="module")
def source(sample: Sample) -> Iterator[OmopSource]:
    with OmopSource.open(OmopConfig(path=sample.files.omop)) as opened:
        yield opened


def cohort_id(record_id: str) -> str:
    return f"COHORT-{hash_of(record_id)}"


def hash_of(text: str) -> int:
    return sum(ord(letter) * 31**n for n, letter in enumerate(text)) % 10**9


Make = Callable[..., Delivery]


@pytest.fixture(scope="module")
def given(
    sample: Sample, spec: CohortSpec, answer: imaging.ImagingAnswer, source: OmopSource
) -> dict[str, Any]:
    """What `deliver` is given for all true pairs."""
    matched = [(cohort_id(record), person) for record, person in sample.pairs.items()]
    return {
        "asked": asked_of(spec),
        "terms": Terms(study_id="sample", minimum_cell=11, image_retrieval="cover"),
        "matches": matches_table(matched),
        "images": {
            cohort_id(record): [
                bundle_from_bytes(bundle_to_bytes({"series": answer.rows_of(record)}))["series"]
            ]
            for record in sample.pairs
            if record in answer.spans
        },
        "source": source,
        "imaging_attrition": answer.attrition,
        "cover": cover_manifest_from_bytes(cover_manifest(answer.rows)),
        "seed": SEED,
        "made_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    }


@pytest.fixture
def make(given: dict[str, Any], tmp_path: Path) -> Make:
    """Deliver all true pairs into a new folder, or as the keywords say."""
    return lambda out="out", **more: deliver(**(given | {"out": tmp_path / out} | more))


@pytest.fixture(scope="module")
def delivery(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """The delivery of all true pairs, for tests that only look."""
    return deliver(**given, out=tmp_path_factory.mktemp("delivery") / "out")


def table(delivery: Delivery, path: str) -> list[dict[str, Any]]:
    return pq.read_table(delivery.folder / f"{path}.parquet").to_pylist()


def source_rows(sample: Sample, name: str) -> list[dict[str, str]]:
    """Read a sample table with nothing of ours: the reference."""
    path = next(sample.files.omop.glob(f"{name}.csv*"))
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    with io.StringIO(text) as file:
        return [
            {
                key.lower().removeprefix("date(").removesuffix(",'unixepoch')"): value
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


@pytest.fixture
def expected(sample: Sample, answer: imaging.ImagingAnswer) -> dict[str, int]:
    """Who must be delivered, worked out without the joiner: cohort ID -> person_id."""
    wanted = {str(CHEST_XRAY), str(CHEST_XRAY_CHILD)}
    having = {
        int(row["person_id"])
        for row in source_rows(sample, "procedure_occurrence")
        if row["procedure_concept_id"] in wanted
    }
    return {
        cohort_id(record): person
        for record, person in sample.pairs.items()
        if person in having and record in answer.spans
    }


def test_exactly_the_right_persons_are_delivered(
    delivery: Delivery, expected: dict[str, int]
) -> None:
    assert 40 < len(expected) < 120
    assert {row["cohort_id"] for row in table(delivery, "side/cohort_person")} == set(expected)
    assert delivery.persons == len(expected)
    assert sum(delivery.lost.values()) == 120 - len(expected)


def test_every_clinical_row_is_that_person_s(
    delivery: Delivery, expected: dict[str, int], sample: Sample
) -> None:
    new = {row["person_id"]: row["cohort_id"] for row in table(delivery, "side/cohort_person")}
    for name, concept, date in (
        ("condition_occurrence", "condition_concept_id", "condition_start_date"),
        ("drug_exposure", "drug_concept_id", "drug_exposure_start_date"),
        ("measurement", "measurement_concept_id", "measurement_date"),
        ("procedure_occurrence", "procedure_concept_id", "procedure_date"),
        ("observation", "observation_concept_id", "observation_date"),
    ):
        delivered = sorted(
            (expected[new[row["person_id"]]], row[concept], str(row[date]))
            for row in table(delivery, f"omop/{name}")
            if row.get("procedure_source_value") != mi_cdm.SYNTHETIC
        )
        reference = sorted(
            (int(row["person_id"]), int(row[concept]), row[date])
            for row in source_rows(sample, name)
            if int(row["person_id"]) in expected.values()
        )
        assert delivered == reference, name


def test_every_imaging_row_is_that_person_s(
    delivery: Delivery, expected: dict[str, int], sample: Sample, answer: imaging.ImagingAnswer
) -> None:
    new = {row["person_id"]: row["cohort_id"] for row in table(delivery, "side/cohort_person")}
    delivered = {
        (new[row["person_id"]], row["image_series_uid"])
        for row in table(delivery, "omop/image_occurrence")
    }
    reference = {
        (cohort_id(record), uid)
        for record in sample.pairs
        if cohort_id(record) in expected
        for uid in answer.rows_of(record)["series_uid"].to_pylist()
    }
    assert delivered == reference
    assert delivery.series == len(reference)


def test_no_local_id_leaves(delivery: Delivery, sample: Sample) -> None:
    uuids = [row["person_source_value"] for row in source_rows(sample, "person")]
    check_delivery(
        delivery.folder,
        local_person_ids=list(sample.files.person_ids.values()),
        local_texts=[*sample.pairs, *uuids],
    )
    text = "".join(str(pq.read_table(path).to_pylist()) for path in delivery.folder.rglob("*.par*"))
    text += "".join(
        path.read_text() for path in delivery.folder.rglob("*") if path.suffix in (".csv", ".json")
    )
    assert not [name for name in (*sample.pairs, *uuids) if name in text]


@pytest.mark.threat("T13")
def test_new_ids_follow_the_seed_only_and_two_deliveries_share_none(make: Make) -> None:
    def ids(delivery: Delivery) -> dict[str, int]:
        rows = table(delivery, "side/cohort_person")
        return {row["cohort_id"]: row["person_id"] for row in rows}

    one, again, other = ids(make("a")), ids(make("b")), ids(make("c", seed=b"x" * 32))
    assert one == again
    assert one != other
    assert sorted(one.values()) == list(range(10_001, 10_001 + len(one)))
    # The order of cohort IDs says nothing of the order of persons.
    assert [one[name] for name in sorted(one)] != sorted(one.values())


def test_visits_resolve_or_are_null(delivery: Delivery, sample: Sample) -> None:
    visits = {row["visit_occurrence_id"]: row for row in table(delivery, "omop/visit_occurrence")}
    linked = [
        row
        for name in ("condition_occurrence", "measurement", "drug_exposure")
        for row in table(delivery, f"omop/{name}")
        if row["visit_occurrence_id"] is not None
    ]
    assert linked
    for row in linked:
        assert visits[row["visit_occurrence_id"]]["person_id"] == row["person_id"]
    assert any("resolve to none" in warning for warning in delivery.report["warnings"])


def test_texts_few_persons_share_and_birth_dates_stay_behind(delivery: Delivery) -> None:
    codes = {row["condition_source_value"] for row in table(delivery, "omop/condition_occurrence")}
    assert None in codes
    assert all(code is None or code.startswith("code-") for code in codes)
    for person in table(delivery, "omop/person"):
        assert person["person_source_value"] is None
        assert person["day_of_birth"] is None
        assert person["birth_datetime"] is None
        assert person["gender_source_value"] in ("F", "M")


def test_birth_dates_are_delivered_where_the_enclave_says_so(make: Make, sample: Sample) -> None:
    config = OmopConfig(path=sample.files.omop, birth="date")
    with OmopSource.open(config) as source:
        people = table(make(source=source), "omop/person")
    assert any(person["day_of_birth"] for person in people)


def test_image_occurrence_is_mi_cdm_s(delivery: Delivery) -> None:
    path = delivery.folder / "omop" / "image_occurrence.parquet"
    assert pq.read_schema(path).equals(mi_cdm_tables.IMAGE_OCCURRENCE)
    rows = table(delivery, "omop/image_occurrence")
    assert {row["modality_concept_id"] for row in rows} == {2128009189, 2128009190, 2128009197}
    procedures = {
        row["procedure_occurrence_id"]: row for row in table(delivery, "omop/procedure_occurrence")
    }
    studies = {row["image_study_uid"] for row in rows}
    assert len({row["procedure_occurrence_id"] for row in rows}) == len(studies)
    for row in rows:
        procedure = procedures[row["procedure_occurrence_id"]]
        assert procedure["procedure_concept_id"] == 0
        assert procedure["person_id"] == row["person_id"]
        assert procedure["procedure_date"] == row["image_occurrence_date"]
    frames = {row["date_confidence"] for row in table(delivery, "side/image_occurrence_provenance")}
    assert frames == {"intervals within the person only"}


def test_the_cohort_table_spans_index_to_end_of_observation(
    delivery: Delivery, sample: Sample
) -> None:
    first: dict[int, str] = {}
    for row in table(delivery, "omop/procedure_occurrence"):
        if row["procedure_concept_id"] in (CHEST_XRAY, CHEST_XRAY_CHILD):
            day = first.get(row["person_id"], row["procedure_date"])
            first[row["person_id"]] = min(day, row["procedure_date"])
    rows = table(delivery, "omop/cohort")
    assert {row["subject_id"]: row["cohort_start_date"] for row in rows} == first
    assert {row["cohort_end_date"] for row in rows} == {dt.date(2019, 7, 1)}


def test_lost_links_are_counted_by_reason(
    make: Make, delivery: Delivery, expected: dict[str, int]
) -> None:
    kept = sorted(expected)[3:]
    rows = [(name, expected[name]) for name in sorted(expected)]
    matches = matches_table([*rows, ("COHORT-GHOST", 999_999), ("COHORT-NOWHERE", None)])
    tables = {one: [series_rows(1, study_uid=f"9.{n}")] for n, one in enumerate(kept)}
    for n, one in enumerate(kept):
        tables[one] = [series_rows(1, study_uid=f"9.{n}", series_uid=f"9.{n}.1")]
    # The last two claim one study.
    tables[kept[-1]] = [series_rows(1, study_uid="8.8", series_uid="8.8.1")]
    tables[kept[-2]] = [series_rows(1, study_uid="8.8", series_uid="8.8.2")]
    made = make("b", matches=matches, images=tables, not_opened={min(expected)}, seed=None)
    assert made.lost == {
        "not in the OMOP table person": 2,
        "no imaging rows came: the images do not fit, or the record is gone": 2,
        "the imaging rows did not open with their row key": 1,
        "another person claims the same study or series": 2,
    }
    assert made.persons == delivery.persons - 5


def test_two_omop_persons_of_one_cohort_id_become_one(open_omop: OpenOmop, make: Make) -> None:
    people = "5,8532,1950,1,1 6,8507,1951,1,1 7,8507,1960,1,1"
    source = open_omop(
        people,
        procedure_occurrence=events(
            "procedure", (6, CHEST_XRAY, "2000-01-01"), (7, CHEST_XRAY, "2000-01-01")
        ),
        concept_ancestor="ancestor_concept_id,descendant_concept_id\n1,1",
        death="person_id,death_date\n5,2010-01-01\n6,2010-01-02",
    )
    delivery = make(
        source=source,
        matches=matches_table([("C1", 5), ("C1", 6), ("C1", 4), ("C2", 7)]),
        images={
            "C1": [series_rows(1, series_uid="1.1"), series_rows(1, series_uid="1.1")],
            "C2": [series_rows(1, study_uid="1.9", series_uid="1.9.1")],
        },
    )
    assert delivery.persons == 2
    assert delivery.series == 2
    people_rows = table(delivery, "omop/person")
    assert sorted(row["year_of_birth"] for row in people_rows) == [1950, 1960]
    assert [row["death_date"] for row in table(delivery, "omop/death")] == [dt.date(2010, 1, 1)]


def test_few_persons_appear_in_no_report(make: Make, expected: dict[str, int]) -> None:
    few = sorted(expected)[:4]
    images = {
        one: [series_rows(1, study_uid=f"9.{n}", series_uid=f"9.{n}.1")]
        for n, one in enumerate(few)
    }
    matches = matches_table([(one, expected[one]) for one in few])
    report = make(matches=matches, images=images, imaging_attrition=None).report
    assert report["persons"] == "<11"
    assert report["series"] == report["studies"] == "hidden"
    assert report["sex"] is None
    for entry in report["tables"]:
        assert entry["rows"] in ("hidden", 0), entry
    assert {step["persons"] for step in report["attrition"]["enclave"]} == {"<11"}


def test_an_empty_cohort_is_delivered_as_empty_tables(make: Make) -> None:
    delivery = make(images={})
    assert delivery.persons == 0
    assert table(delivery, "omop/person") == table(delivery, "omop/image_occurrence") == []


def test_an_existing_folder_is_refused_and_left_alone(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match="name a new folder"):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_may_be_used_and_only_its_owner_reads_it(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    folder = make().folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "report.html").is_file()


def test_nothing_half_written_stays(make: Make, sample: Sample, tmp_path: Path) -> None:
    broken = tmp_path / "concepts.toml"
    broken.write_text("[modalities]\nCT = 1\n")
    config = OmopConfig(path=sample.files.omop, concepts=broken)
    with OmopSource.open(config) as source, pytest.raises(SiteRefused, match="modality"):
        make(source=source)
    assert [path.name for path in tmp_path.iterdir()] == ["concepts.toml"]


def test_concepts_too_large_for_the_cdm_are_named(open_omop: OpenOmop, make: Make) -> None:
    person = f"{PERSON},{RACE}\n1,0,1950,1,1,3000000000,0"
    source = open_omop(
        person=person,
        procedure_occurrence=events("procedure", (1, CHEST_XRAY, "2000-01-01")),
        concept_ancestor="ancestor_concept_id,descendant_concept_id\n1,1",
    )
    with pytest.raises(SourceRefused, match="beyond the CDM's integer") as refused:
        make(source=source, matches=matches_table([("C", 1)]), images={"C": [series_rows(1)]})
    assert "3000000000" not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"matches": pa.table({"cohort_id": ["a"]})}, "need the columns"),
        ({"matches": pa.table({"cohort_id": ["a"], "person_id": ["x"]})}, "need the columns"),
        ({"matches": matches_table([("a", 7), ("b", 7)])}, "two cohort IDs"),
        ({"matches": matches_table([("", 7)])}, "lacks"),
        ({"images": {"stranger": [series_rows(1)]}}, "nobody in the crosswalk"),
    ],
)
def test_malformed_input_is_refused(make: Make, more: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageRefused, match=said):
        make(**({"images": {}} | more))


@pytest.mark.parametrize("seed", [b"short", b""])
def test_a_weak_seed_is_refused(make: Make, seed: bytes) -> None:
    with pytest.raises(KeyRefused, match="seed"):
        make(seed=seed)


def plant(folder: Path, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    file = folder / f"{path}.parquet"
    pq.write_table(change(pq.read_table(file)), file)


def with_value(column: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        values = [value, *rows[column].to_pylist()[1:]]
        at, field = rows.schema.get_field_index(column), rows.schema.field(column)
        return rows.set_column(at, field, pa.array(values, field.type))

    return change


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("omop/death", lambda rows: rows.drop_columns(["death_date"]), "other columns"),
        ("omop/image_occurrence", with_value("person_id", 77), "refers to no row"),
        ("omop/image_occurrence", with_value("procedure_occurrence_id", 77), "refers to no row"),
        ("omop/condition_occurrence", with_value("visit_occurrence_id", 77), "refers to no row"),
        ("omop/condition_occurrence", with_value("person_id", 77), "refers to no row"),
        ("omop/cohort", with_value("subject_id", 77), "refers to no row"),
        ("omop/measurement", lambda rows: rows.slice(0, 1).take([0, 0]), "occurs twice"),
        ("omop/measurement", with_value("measurement_id", 217), "local person id"),
        ("omop/measurement", with_value("provider_id", 217), "refers to nothing known"),
        ("side/image_series", with_value("study_description", "SUBJ-0031"), "local record id"),
        ("omop/image_occurrence", lambda rows: rows.slice(0, 0), "refers to no row|every person"),
    ],
)
def test_the_check_finds_every_planted_fault(
    delivery: Delivery,
    sample: Sample,
    tmp_path: Path,
    path: str,
    change: Callable[[pa.Table], pa.Table],
    said: str,
) -> None:
    folder = shutil.copytree(delivery.folder, tmp_path / "copy")
    ids, texts = list(sample.files.person_ids.values()), list(sample.pairs)
    check_delivery(folder, local_person_ids=ids, local_texts=texts)
    assert 217 in ids
    plant(folder, path, change)
    with pytest.raises(DeliveryFaulty, match=said) as faulty:
        check_delivery(folder, local_person_ids=ids, local_texts=texts)
    assert "SUBJ" not in str(faulty.value)


def test_a_missing_table_is_found(delivery: Delivery, tmp_path: Path) -> None:
    folder = shutil.copytree(delivery.folder, tmp_path / "copy")
    (folder / "omop" / "death.parquet").unlink()
    with pytest.raises(DeliveryFaulty, match="missing"):
        check_delivery(folder)


def test_report_and_files_agree(delivery: Delivery) -> None:
    report = json.loads((delivery.folder / "report.json").read_text())
    assert report == delivery.report
    on_disk = {
        path.relative_to(delivery.folder).as_posix()
        for path in delivery.folder.rglob("*")
        if path.is_file()
    }
    later = {"report.json", "report.html", "SHA256SUMS", "ro-crate-metadata.json"}
    later |= {name for name in on_disk if name.startswith("cohort.duckdb")}
    assert set(report["files"]) == on_disk - later
    for name, digest in report["files"].items():
        assert hashlib.sha256((delivery.folder / name).read_bytes()).hexdigest() == digest
