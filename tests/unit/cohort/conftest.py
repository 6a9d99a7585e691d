"""Hand-made OMOP folders and series tables, and one sample for all tests of the joiner."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.omop import OmopSource
from sites.cohort.sample import SampleFiles, SamplePerson, write_sample

PERSON = "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth"
RACE = "race_concept_id,ethnicity_concept_id"

OpenOmop = Callable[..., OmopSource]


@pytest.fixture
def open_omop(tmp_path: Path) -> Iterator[OpenOmop]:
    """Write tables given as CSV text and open them; `persons` are PERSON rows."""
    opened: list[OmopSource] = []

    def make(persons: str = "", *, config: dict[str, Any] | None = None, **tables: str) -> Any:
        folder = tmp_path / f"omop{len(opened)}"
        folder.mkdir()
        lines = [f"{line},8527,0" for line in persons.split()]
        tables.setdefault("person", "\n".join([f"{PERSON},{RACE}", *lines]))
        for name, text in tables.items():
            (folder / f"{name}.csv").write_text(text + "\n", encoding="utf-8")
        opened.append(OmopSource.open(OmopConfig(path=folder, **(config or {}))))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def events(concept_table: str, *rows: tuple[int, int, str]) -> str:
    """Return CSV text of procedure_occurrence or condition_occurrence: person, concept, date."""
    if concept_table == "procedure":
        header = "procedure_occurrence_id,person_id,procedure_concept_id,procedure_date"
        header += ",procedure_type_concept_id"
    else:
        header = "condition_occurrence_id,person_id,condition_concept_id,condition_start_date"
        header += ",condition_type_concept_id"
    lines = [f"{n},{person},{concept},{date},0" for n, (person, concept, date) in enumerate(rows)]
    return "\n".join([header, *lines])


@pytest.fixture
def series_file(tmp_path: Path) -> Callable[..., ImagingConfig]:
    """Write series rows, each a dict over defaults, as Parquet; return the site's config."""

    def make(*rows: dict[str, Any], **config: Any) -> ImagingConfig:
        full = []
        for n, row in enumerate(rows):
            default = {
                "collection_id": "c1",
                "PatientID": "PAT-0001",
                "StudyInstanceUID": f"1.2.{n}",
                "SeriesInstanceUID": f"1.2.3.{n}",
                "Modality": "CT",
                "BodyPartExamined": "CHEST",
                "Manufacturer": "GE MEDICAL SYSTEMS",
                "StudyDate": "1901-01-10",
                "StudyDescription": "CHEST AP",
                "series_aws_url": f"s3://bucket/{n}/*",
                "series_size_MB": 1.5,
            }
            full.append(default | row)
        path = tmp_path / "series.parquet"
        pq.write_table(pa.Table.from_pylist(full), path)
        return ImagingConfig(file=path, **config)

    return make


@dataclass(frozen=True)
class Sample:
    """Simulated people at both commons. pairs: imaging record id and person_id of one person."""

    files: SampleFiles
    pairs: dict[str, int]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """150 subjects and 200 persons, 120 of them the same people."""
    draw = random.Random(7)
    people = [(n, draw.choice("fm"), draw.randint(1930, 2005)) for n in range(1, 231)]
    imaging = [SamplePerson(f"SUBJ-{n:04d}", sex, year) for n, sex, year in people[:150]]
    enclave = [SamplePerson(str(n * 7), sex, year) for n, sex, year in people[30:]]
    files = write_sample(tmp_path_factory.mktemp("sample"), imaging=imaging, enclave=enclave)
    return Sample(files, {f"SUBJ-{n:04d}": n * 7 for n, _, _ in people[30:150]})
