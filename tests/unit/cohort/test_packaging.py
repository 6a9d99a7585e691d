"""A delivered folder as a data set: the same bytes again, described, and whole."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.errors import DeliveryFaulty, PackageRefused
from linkage.study_parts import CountRules
from sites.cohort.bundle import BUNDLE_SCHEMAS
from sites.cohort.config import OmopConfig
from sites.cohort.dictionary import MEANINGS
from sites.cohort.duckdb_file import ZEROED, _statements, write_duckdb
from sites.cohort.duckdb_process import content
from sites.cohort.join import Asked, Delivery, Terms, deliver, matches_table
from sites.cohort.layout import TABLES, expected_tables
from sites.cohort.notices import UseNotice, notice_from_bytes, notice_to_bytes, write_terms
from sites.cohort.omop import OmopSource

from .conftest import PERSON, RACE

NOTICE = UseNotice(
    commons="The Example Imaging Commons",
    acknowledgement="We thank the Example Imaging Commons.",
    non_commercial="Free for research and teaching.",
    url="https://example.org/terms",
)
FOLLOWED = {
    "features": pa.Table.from_pylist(
        [{"study_uid": "1.40", "source": "SR", "value": 5.0, "tracking_id": "L1"}],
        schema=BUNDLE_SCHEMAS["features"],
    )
}
"""Of one person."""
ZEROES = (sys.platform, platform.machine()) == ("linux", "x86_64")
"""Where the allocators know ZEROED; elsewhere cohort.duckdb is compared by its content."""
UNLIKE = set() if ZEROES else {"cohort.duckdb", "cohort.duckdb.sha256"}
USED = """
import random, sys
draw = random.Random(int(sys.argv[1]))
held = [bytes([draw.randrange(1, 256)]) * draw.randrange(10, 600_000) for _ in range(60)]
del held[::2]
import duckdb
with duckdb.connect(config={"threads": 2}) as con:
    made = f"SELECT md5(i::VARCHAR) FROM range({draw.randrange(50_000)}) x(i)"
    con.execute(f"CREATE TABLE t AS {made}")
from sites.cohort.duckdb_process import main
main()
"""
"""The process that writes cohort.duckdb, after it used memory for something else."""


def build(folder: Path, out: str, *, turned: bool) -> Delivery:
    """Deliver 30 persons; `turned`: everything came in another order."""
    omop = folder / "omop"
    if not omop.exists():
        omop.mkdir()
        lines = [f"{n},8532,19{n},1,1,8527,0" for n in range(40, 70)]
        text = "\n".join([f"{PERSON},{RACE}", *lines])
        (omop / "person.csv").write_text(text, encoding="utf-8")
    images = {}
    for n in range(40, 70):
        rows = [
            {"study_uid": f"1.{n}", "series_uid": f"1.{n}.{i}", "modality": "CT", "kvp": 120.0}
            | {"date_frame": "true", "study_date": dt.date(2020, 1, 1), "object_id": f"dg.X/{n}"}
            | {"reference": f"s3://b/{n}/*", "wadors_uri": f"https://dicom.example/studies/1.{n}"}
            for i in (1, 2)
        ]
        table = pa.Table.from_pylist(rows[:: -1 if turned else 1], BUNDLE_SCHEMAS["series"])
        images[f"C{n}"] = [{"series": table} | (FOLLOWED if n == 40 else {})]
    pairs: list[tuple[str, int | None]] = [(f"C{n}", n) for n in range(40, 70)]
    if turned:
        images, pairs = dict(reversed(images.items())), pairs[::-1]
    with OmopSource.open(OmopConfig(path=omop)) as source:
        return deliver(
            asked=Asked(
                title="Thin CT",
                purpose="Non-commercial research",
                spec_hash="ab" * 32,
                clinical=ClinicalCriteria(any=True),
            ),
            terms=Terms(
                study_id="s",
                minimum_cell=11,
                image_retrieval="disclosed",
                counts=CountRules(rounding=10),
                trace={"run": "r1"},
                notices={"imaging": NOTICE, "enclave": None},
            ),
            matches=matches_table(pairs),
            images=images,
            source=source,
            out=folder / out,
            seed=b"s" * 32,
            made_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaged")


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    return build(folder, "one", turned=False).folder


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_the_same_delivery_gives_the_same_bytes(folder: Path, made: Path) -> None:
    one, two = files(made), files(build(folder, "two", turned=True).folder)
    assert set(one) == set(two)
    assert {name for name in one if one[name] != two[name]} <= UNLIKE


@pytest.mark.skipif(not ZEROES, reason="the allocators here do not give zeroed memory")
def test_the_duckdb_file_has_the_same_bytes_whatever_was_in_memory(
    made: Path, tmp_path: Path
) -> None:
    tables = [{"name": one.name, "statements": _statements(made, one)} for one in TABLES]
    for number in range(5):
        path = tmp_path / str(number) / "cohort.duckdb"
        path.parent.mkdir()
        subprocess.run(
            [sys.executable, "-P", "-c", USED, str(number)],
            input=json.dumps({"path": str(path), "tables": tables}).encode(),
            stdout=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path), **ZEROED},
            check=True,
        )
        assert path.read_bytes() == (made / "cohort.duckdb").read_bytes(), number


def test_the_duckdb_file_holds_every_table(made: Path) -> None:
    with duckdb.connect(str(made / "cohort.duckdb"), read_only=True) as con:
        for path in expected_tables():
            rows = con.execute(f'FROM "{path.rpartition("/")[2]}"').fetchall()
            parquet = pq.read_table(made / f"{path}.parquet")
            assert rows == [tuple(row.values()) for row in parquet.to_pylist()], path
        asked = "SELECT comment FROM duckdb_columns() WHERE column_name = 'kvp'"
        assert con.execute(asked).fetchall() == [("kV",)]


def test_the_duckdb_file_is_compared_by_its_content(made: Path, tmp_path: Path) -> None:
    lines = (made / "cohort.duckdb.tables.sha256").read_text().splitlines()
    told = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(told) == {table.name for table in TABLES}
    copy = shutil.copy(made / "cohort.duckdb", tmp_path)
    with duckdb.connect(str(copy)) as con:
        # As docs/delivery.md has it, without a line of ours.
        for name, digest in told.items():
            rows = con.sql(f"SELECT t::VARCHAR FROM {name} t ORDER BY rowid").fetchall()
            text = "".join(f"{row[0]}\n" for row in rows)
            assert hashlib.sha256(text.encode()).hexdigest() == digest, name
        con.execute("UPDATE image_occurrence SET image_study_uid = '1.2' WHERE rowid = 0")
        assert content(con, "person")[1] == told["person"]
        assert content(con, "image_occurrence")[1] != told["image_occurrence"]


def test_the_writer_of_the_duckdb_file_reads_the_delivered_tables_only() -> None:
    # Memory that DuckDB does not set goes into the file: so nothing else may be in that process.
    code = (
        "import sys, sites.cohort.duckdb_process;"
        "sys.exit(bool({'ibis', 'pyarrow', 'linkage', 'sites.cohort.join'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_duckdb_file_that_cannot_be_written_fails_the_delivery(tmp_path: Path) -> None:
    with pytest.raises(DeliveryFaulty, match="could not be written"):
        write_duckdb(tmp_path, {})


def test_the_checksums_are_right_and_name_every_file(made: Path) -> None:
    content = files(made)
    named = {}
    for name in ("SHA256SUMS", "cohort.duckdb.sha256"):
        lines = content[name].decode().splitlines()
        named |= {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    assert named == {
        name: hashlib.sha256(content[name]).hexdigest()
        for name in content
        if name not in ("SHA256SUMS", "cohort.duckdb.sha256")
    }


def test_the_crate_is_ro_crate_and_describes_every_file(made: Path) -> None:
    crate = json.loads((made / "ro-crate-metadata.json").read_text())
    by_id = {entity["@id"]: entity for entity in crate["@graph"]}
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    metadata = by_id["ro-crate-metadata.json"]
    assert metadata["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert metadata["about"] == {"@id": "./"}
    root = by_id["./"]
    assert {"name", "description", "datePublished", "license"} <= set(root)
    assert by_id[root["license"]["@id"]]["@type"] == "File"
    parts = {part["@id"] for part in root["hasPart"]}
    aside = {"ro-crate-metadata.json", "SHA256SUMS", "cohort.duckdb.sha256"}
    assert parts == set(files(made)) - aside
    assert parts <= set(by_id)


def test_the_dictionary_has_every_column(made: Path) -> None:
    with (made / "data_dictionary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    listed = [(row["table"], row["column"]) for row in rows]
    assert listed == [(path, name) for path, s in expected_tables().items() for name in s.names]
    assert set(MEANINGS) <= {column for _, column in listed}
    assert all(row["meaning"] for row in rows)
    (visit,) = [r for r in rows if (r["table"], r["column"]) == ("omop/death", "death_date")]
    assert visit["required"] == "yes"


def test_every_id_column_is_a_key_a_link_or_null_with_a_reason() -> None:
    for table in TABLES:
        linked = {link.column for link in table.links}
        for name in table.ids():
            assert name in table.key or name in linked or name in table.nulls, (table.path, name)
            nullable = table.schema.field(name).nullable
            # A feature without a value is delivered by nobody: there the check finds any null.
            always = name == "image_feature_event_id"
            assert not nullable or always or name in table.nulls, (table.path, name)


def test_terms_tell_commercial_from_non_commercial_use(made: Path) -> None:
    text = (made / "USE_TERMS.txt").read_text()
    assert "approved this cohort for non-commercial use" in text
    assert "We thank the Example Imaging Commons." in text
    assert "Non-commercial use, as approved:\n\n    Free for research" in text
    assert "Commercial use:\n\n    Not allowed" in text
    assert "enclave has given no terms of use" in text
    assert notice_from_bytes(notice_to_bytes(NOTICE)) == NOTICE
    assert notice_from_bytes(b"") is None
    with pytest.raises(PackageRefused, match="terms of use"):
        notice_from_bytes(b"{}")


def test_the_terms_of_one_use_are_no_yes_to_the_other(tmp_path: Path) -> None:
    sold = NOTICE.model_copy(update={"commercial": "With a licence, 5 % of what it earns."})
    write_terms(tmp_path, {"imaging": sold}, purpose="A product", use="commercial")
    text = (tmp_path / "USE_TERMS.txt").read_text()
    assert "Commercial use, as approved:\n\n    With a licence" in text
    assert "Non-commercial use:\n\n    Not approved" in text
    assert "Free for research" not in text
    write_terms(tmp_path, {"imaging": sold}, purpose="A thesis", use="non-commercial")
    text = (tmp_path / "USE_TERMS.txt").read_text()
    assert "Commercial use:\n\n    Not approved" in text
    assert "With a licence" not in text


def test_provenance_says_how_it_came_about_and_counts_nobody(made: Path) -> None:
    told = json.loads((made / "provenance.json").read_text())
    assert told["specification"]["hash"] == "ab" * 32
    assert told["delivery"] == {"run": "r1"}
    assert told["use"] == "non-commercial"
    assert told["suppression"]["minimum_cell"] == 11
    # Answers to questions are blurred as the study says, the report inside the enclave is not.
    assert told["suppression"]["answers"]["rules"]["rounding"] == 10
    assert "rounded to 10" in told["suppression"]["answers"]["in_words"]
    assert told["suppression"]["report"] == {"rounding": 1}
    assert {"python", "duckdb", "commons-linkage"} <= set(told["software"])
    assert "persons" not in told


def test_the_report_does_not_tell_that_one_person_has_a_finding(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    rows = {entry["table"]: entry["rows"] for entry in report["tables"]}
    assert pq.read_table(made / "omop" / "episode.parquet").num_rows == 1
    assert rows["omop/episode"] == rows["omop/episode_event"] == "hidden"
    assert rows["omop/image_occurrence"] == 60
