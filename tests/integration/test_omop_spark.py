"""
OMOP in Spark, on this machine: the questions that DuckDB answers. Needs Java and pyspark, which is
no dependency:

    python -m venv /tmp/spark && /tmp/spark/bin/pip install -e '.[cohort]' \\
        'ibis-framework[pyspark]' pytest hypothesis
    /tmp/spark/bin/python -m pytest --noconftest -o addopts= tests/integration/test_omop_spark.py
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.errors import SourceRefused
from sites.cohort.config import OmopConfig
from sites.cohort.omop import OmopSource
from tests.unit.cohort.clinical_world import CASES, World, assert_agrees, make_world
from tests.unit.cohort.sample_delivery import delivered, sample_tables

pytest.importorskip("pyspark")
pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, OmopSource]]:
    made = make_world(1)
    folder = made.write(tmp_path_factory.mktemp("world"))
    with OmopSource.open(OmopConfig(path=folder, spark="local[1]")) as source:
        yield made, source


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_every_criterion(world: tuple[World, OmopSource], case: str) -> None:
    assert_agrees(ClinicalCriteria.model_validate(CASES[case]), *world, all_=case == "excluded")


@pytest.mark.long
def test_a_delivery_is_the_same_as_from_files(tmp_path: Path) -> None:
    tables, from_files = sample_tables(tmp_path)
    folder = World(tables, {}, {}).write(tmp_path / "parquet")
    with OmopSource.open(OmopConfig(path=folder, spark="local[1]")) as source:
        assert source.persons_of(["5", "61"]) == {"5": 5}
        assert delivered(source) == from_files


def test_spark_reads_no_text_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "person.csv").write_text("person_id\n1\n", encoding="utf-8")
    with pytest.raises(SourceRefused, match="no Parquet"):
        OmopSource.open(OmopConfig(path=folder, spark="local[1]"))
