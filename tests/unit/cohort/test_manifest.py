"""Which images to fetch follows the study's image_retrieval."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest

from linkage.errors import PackageRefused
from sites.cohort import mi_cdm
from sites.cohort.manifest import (
    cover_manifest,
    cover_manifest_from_bytes,
    manifest_of,
    write_manifests,
)

from .test_bundle import series_rows

ROWS = series_rows(3, reference="s3://bucket/folder/*", size_bytes=5)


@pytest.fixture
def occurrences() -> pa.Table:
    certain, _ = mi_cdm.certain_series({"C": [ROWS.slice(0, 2)]})
    made = mi_cdm.image_tables(
        certain, {"C": 10_001}, mi_cdm.load_concepts(), base=10_000, procedures=0
    )
    return made.image_occurrence


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
    certain, _ = mi_cdm.certain_series({"C": [ROWS]})
    made = mi_cdm.image_tables(
        certain,
        {"C": 10_001},
        mi_cdm.load_concepts(),
        base=10_000,
        procedures=7,
        mirror_root="/mirror/",
    )
    assert made.image_occurrence["local_path"].to_pylist()[0] == "/mirror/1.2/1.2.0"
    assert made.image_occurrence["procedure_occurrence_id"].to_pylist() == [10_008] * 3
