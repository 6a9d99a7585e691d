"""A made sample with whole CDM tables, and all that is delivered of it, for any database."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from sites.cohort import cdm
from sites.cohort.config import OmopConfig
from sites.cohort.delivered import Deliverer, number_persons
from sites.cohort.omop import OmopSource
from sites.cohort.sample import SamplePerson, write_sample

UNITS = {n: f"unit-{n % 40:02d}" for n in range(1, 61)}
"""60 persons, 20 of whom are somebody else too."""

Delivered = tuple[dict[str, list[dict[str, Any]]], object]


def sample_tables(folder: Path) -> tuple[dict[str, pa.Table], Delivered]:
    """Return the sample's tables, typed, and what is delivered of them from files."""
    draw = random.Random(7)
    people = [SamplePerson(str(n), draw.choice("fm"), 1930 + n) for n in UNITS]
    files = write_sample(folder, imaging=people[:5], enclave=people)
    with OmopSource.open(OmopConfig(path=files.omop)) as source:
        tables = {name: source.table(name).to_pyarrow() for name in cdm.BY_NAME if source.has(name)}
        return tables, delivered(source)


def delivered(source: OmopSource) -> Delivered:
    """Return all delivered tables as rows, and what happened to each."""
    numbering = number_persons(UNITS.values(), source, b"a secret of this test")
    tables, facts = Deliverer(source, UNITS, numbering, minimum_cell=5).all_tables()
    return {name: table.to_pylist() for name, table in tables.items()}, facts
