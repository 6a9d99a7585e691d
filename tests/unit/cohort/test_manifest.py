"""Which images to fetch follows the study's image_retrieval."""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest

from linkage.errors import PackageRefused
from sites.cohort import cdm
from sites.cohort.bundle import FILES_SCHEMA
from sites.cohort.codes import Codebook, load_concepts
from sites.cohort.manifest import (
    cover_manifest,
    cover_manifest_from_bytes,
    manifest_of,
    write_manifests,
)
from sites.cohort.mi_cdm import ImageTables, image_tables
from sites.cohort.received import gather

from .test_bundle import series_rows

ROWS = series_rows(3, reference="s3://bucket/folder/*", size_bytes=5)


@pytest.fixture
def occurrences() -> pa.Table:
    return images_of(ROWS.slice(0, 2)).image_occurrence


def images_of(rows: pa.Table, *, procedures: int = 0, mirror: str | None = None) -> ImageTables:
    schema = cdm.BY_NAME["procedure_occurrence"].schema()
    row = {name: 1 for name in schema.names if schema.field(name).type == pa.int32()}
    made = [row | {"procedure_date": dt.date(2020, 1, 1)}] * procedures
    return image_tables(
        gather({"C": [rows]}).series,
        {"C": 10_001},
        Codebook(load_concepts()),
        base=10_000,
        procedures=pa.Table.from_pylist(made, schema=schema),
        mirror_root=mirror,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.threat("T12")
def test_cover_lists_everything_and_gives_no_address_of_the_cohort(
    tmp_path: Path, occurrences: pa.Table
) -> None:
    folder = tmp_path / "images"
    cover = cover_manifest_from_bytes(cover_manifest(ROWS))
    write_manifests(
        folder, "cover", image_occurrence=occurrences, rows=ROWS.slice(0, 2), cover=cover
    )
    assert len(rows_of(folder / "image_manifest.csv")) == 3
    cohort = rows_of(folder / "cohort_series.csv")
    assert len(cohort) == 2
    assert "s3://" not in (folder / "cohort_series.csv").read_text()
    assert (folder / "README.txt").read_text().startswith("STOP")


def test_cover_without_a_list_gives_no_manifest_at_all(
    tmp_path: Path, occurrences: pa.Table
) -> None:
    folder = tmp_path / "images"
    warnings = write_manifests(folder, "cover", image_occurrence=occurrences, rows=ROWS, cover=None)
    assert not (folder / "image_manifest.csv").exists()
    assert "no image manifest" in warnings[0]


@pytest.mark.threat("T12")
@pytest.mark.parametrize("retrieval", ["mirror", "disclosed"])
def test_other_studies_list_the_cohort_only(
    tmp_path: Path, occurrences: pa.Table, retrieval: str
) -> None:
    folder = tmp_path / "images"
    cover = cover_manifest_from_bytes(cover_manifest(ROWS))
    write_manifests(
        folder,
        retrieval,  # type: ignore[arg-type]
        image_occurrence=occurrences,
        rows=ROWS.slice(0, 2),
        cover=cover,
    )
    manifest = rows_of(folder / "image_manifest.csv")
    assert [row["series_uid"] for row in manifest] == ["1.2.0", "1.2.1"]
    assert manifest[0]["reference"] == "s3://bucket/folder/*"
    assert manifest[0]["size_bytes"] == "5"
    assert retrieval in (folder / "README.txt").read_text()
    assert not (folder / "cohort_series.csv").exists()


def test_gen3_objects_get_a_drs_address_and_a_json_manifest(
    tmp_path: Path, occurrences: pa.Table
) -> None:
    rows = series_rows(
        2, object_id="dg.MD1R/abc-def", size_bytes=9, md5sum="0" * 32, file_name="a.zip"
    )
    assert manifest_of(rows)["reference"].to_pylist() == ["drs://dg.MD1R:abc-def"] * 2
    write_manifests(
        tmp_path / "images",
        "disclosed",
        image_occurrence=occurrences,
        rows=rows,
        cover=None,
        commons_url="data.midrc.org",
    )
    entries = json.loads((tmp_path / "images" / "gen3_manifest.json").read_text())
    assert entries[0] == {
        "object_id": "dg.MD1R/abc-def",
        "file_name": "a.zip",
        "file_size": 9,
        "md5sum": "0" * 32,
        "commons_url": "data.midrc.org",
    }


@pytest.mark.threat("T12")
def test_the_cover_list_names_no_subject_and_no_order() -> None:
    forward = cover_manifest(ROWS)
    backward = cover_manifest(ROWS.take([2, 1, 0]))
    assert forward == backward
    assert "date" not in " ".join(cover_manifest_from_bytes(forward).column_names)


def test_a_damaged_cover_list_is_refused() -> None:
    for content in (b"", b"garbage", cover_manifest(ROWS)[:40]):
        with pytest.raises(PackageRefused):
            cover_manifest_from_bytes(content)


def test_the_mirror_s_local_path_is_in_image_occurrence() -> None:
    made = images_of(ROWS, procedures=7, mirror="/mirror/")
    assert made.image_occurrence["local_path"].to_pylist()[0] == "/mirror/1.2/1.2.0"
    assert made.image_occurrence["procedure_occurrence_id"].to_pylist() == [10_008] * 3


def test_every_client_gets_its_list_and_odd_addresses_get_into_none(
    tmp_path: Path, occurrences: pa.Table
) -> None:
    rows = series_rows(2, reference="s3://b/f/*", wadors_uri="https://d.example/studies/1.2")
    odd = series_rows(1, series_uid="9", reference="s3://b/f/*\ncp s3://b/other/* .")
    drs = series_rows(1, series_uid="8", object_id="dg.X/1")
    files = pa.Table.from_pylist(
        [{"kind": "SEG", "study_uid": "1.2", "object_id": "dg.X/2"}], schema=FILES_SCHEMA
    )
    folder = tmp_path / "images"
    warnings = write_manifests(
        folder,
        "disclosed",
        image_occurrence=occurrences,
        rows=pa.concat_tables([rows, odd, drs]),
        cover=None,
        files=files,
    )
    assert (folder / "s3_manifest.s5cmd").read_text().splitlines() == [
        "cp s3://b/f/* 1.2/1.2.0/",
        "cp s3://b/f/* 1.2/1.2.1/",
    ]
    assert (folder / "drs_manifest.txt").read_text().split() == ["drs://dg.X:2", "drs://dg.X:1"]
    assert (folder / "dicomweb_manifest.txt").read_text().split() == [
        "https://d.example/studies/1.2/series/1.2.0",
        "https://d.example/studies/1.2/series/1.2.1",
    ]
    assert [row["kind"] for row in rows_of(folder / "image_manifest.csv")].count("SEG") == 1
    assert any(warning.startswith("1 addresses") for warning in warnings)
    assert "s5cmd --no-sign-request run" in (folder / "README.txt").read_text()


@pytest.mark.parametrize("retrieval", ["cover", "mirror"])
def test_a_mirror_has_no_list_for_clients_and_a_cover_s_lists_hold_everything(
    tmp_path: Path, occurrences: pa.Table, retrieval: str
) -> None:
    rows = series_rows(3, reference="s3://b/f/*")
    file = {"kind": "SEG", "object_id": "dg.X/2"}
    files = pa.Table.from_pylist([file], schema=FILES_SCHEMA)
    folder = tmp_path / "images"
    write_manifests(
        folder,
        retrieval,  # type: ignore[arg-type]
        image_occurrence=occurrences,
        rows=rows.slice(0, 1),
        cover=cover_manifest_from_bytes(cover_manifest(rows, files)),
    )
    listed = folder / "s3_manifest.s5cmd"
    assert listed.exists() == (retrieval == "cover")
    if retrieval == "cover":
        assert len(listed.read_text().splitlines()) == 3
        assert (folder / "drs_manifest.txt").read_text() == "drs://dg.X:2\n"
