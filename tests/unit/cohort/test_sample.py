"""The sample is deterministic, and odd in the ways the reader must bear."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from linkage.errors import Conflict
from sites.cohort.config import OmopConfig
from sites.cohort.omop import OmopSource
from sites.cohort.sample import SamplePerson, write_sample

from .conftest import Sample

PEOPLE = [SamplePerson(str(n), "fm"[n % 2], 1950 + n) for n in range(1, 31)]


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_people_and_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, imaging=PEOPLE, enclave=PEOPLE, seed=seed)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    changed = content(tmp_path / "c")
    assert changed["imaging_series.parquet"] != content(tmp_path / "a")["imaging_series.parquet"]


def test_the_oddities_are_there(sample: Sample) -> None:
    header = gzip.decompress((sample.files.omop / "person.csv.gz").read_bytes()).decode()
    assert "\"date(birth_datetime,'unixepoch')\"" in header
    with OmopSource.open(OmopConfig(path=sample.files.omop)) as source:
        assert source.unknown_persons() == {"observation_period": 40}
        assert source.table("person").count().to_pyarrow().as_py() == 200
    series = pq.read_table(sample.files.imaging_series).to_pylist()
    assert {row["StudyDate"][:3] for row in series} == {"190"}
    owners: dict[str, set[str]] = {}
    for row in series:
        owners.setdefault(row["StudyInstanceUID"], set()).add(row["PatientID"])
    assert sum(len(people) == 2 for people in owners.values()) == 1
    assert any(row["PatientID"] in row["SeriesDescription"] for row in series)


def test_record_ids_that_are_no_numbers_go_to_person_source_value(tmp_path: Path) -> None:
    people = [SamplePerson(f"MRN-{n}", None, None) for n in range(3)]
    files = write_sample(tmp_path, imaging=[], enclave=people)
    config = OmopConfig(path=files.omop, record_id="person_source_value")
    with OmopSource.open(config) as source:
        assert source.persons_of(["MRN-2"]) == {"MRN-2": files.person_ids["MRN-2"]}


def test_an_existing_sample_and_doubled_ids_are_refused(tmp_path: Path) -> None:
    write_sample(tmp_path, imaging=PEOPLE, enclave=PEOPLE)
    with pytest.raises(Conflict, match="already there"):
        write_sample(tmp_path, imaging=PEOPLE, enclave=PEOPLE)
    with pytest.raises(Conflict, match="twice"):
        write_sample(tmp_path / "x", imaging=[PEOPLE[0], PEOPLE[0]], enclave=[])
