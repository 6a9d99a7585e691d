"""bench-cohort measures what it says: the same stages, small, against counts made otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from linkage.cohort.spec import parse_spec
from sites.cli import app
from sites.cohort import bench, bench_data

SIZES = bench_data.Sizes(persons=3000, clinical_rows=90_000)
KEYS = {
    *("series", "persons", "clinical_rows", "imaging_seconds", "clinical_seconds"),
    *("delivery_seconds", "peak_memory_mb"),
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> bench.Plan:
    folder = tmp_path_factory.mktemp("bench")
    bench_data.write_omop(folder / "omop", SIZES)
    bench_data.write_series(folder / "series.parquet", 12_000)
    (folder / "work").mkdir()
    return bench.Plan(
        index=folder / "series.parquet",
        omop=folder / "omop",
        work=folder / "work",
        linked=900,
        spec=parse_spec(bench.QUESTION),
    )


def test_the_stages_deliver_whom_the_question_asks_for(plan: bench.Plan) -> None:
    measured = {}
    for stage in (bench.imaging_stage, bench.clinical_stage, bench.delivery_stage):
        measured |= stage(plan)
    assert set(measured) >= KEYS
    assert measured["series"] == 12_000
    assert measured["persons"] == SIZES.persons
    assert measured["clinical_rows"] == pytest.approx(90_000, abs=3)
    assert measured["persons_linked"] == 900
    assert measured["persons_delivered"] == _expected(plan) > 5


def _expected(plan: bench.Plan) -> int:
    """Count in one SQL statement, with none of the program's readers, whom the question wants."""
    linked = json.loads((plan.work / "linked").read_text())
    person_of = {subject: 1 + n * (SIZES.persons // 900) for n, subject in enumerate(linked)}
    with duckdb.connect() as con:
        ct = con.execute(
            f"SELECT DISTINCT 'made/' || PatientID FROM '{plan.index}' WHERE Modality = 'CT'"
        ).fetchall()
        having = con.execute(
            f"""SELECT DISTINCT person_id FROM '{plan.omop}/condition_occurrence.parquet'
            WHERE condition_concept_id BETWEEN 1001900 AND 1001959 INTERSECT
            SELECT person_id FROM '{plan.omop}/measurement.parquet'
            WHERE measurement_concept_id = {bench_data.CREATININE}"""
        ).fetchall()
    wanted = {person for (person,) in having}
    return sum(person_of.get(subject) in wanted for (subject,) in ct)


def test_a_missing_index_is_told_with_what_to_do(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["bench-cohort", "--series", "500", "--dry-run", "--json"])
    assert json.loads(made.output)["index"] == "500 made series"
    page = (Path(__file__).parents[3] / "docs" / "specification.md").read_text(encoding="utf-8")
    (tmp_path / "days.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    dated = CliRunner().invoke(app, ["bench-cohort", "--spec", str(tmp_path / "days.toml")])
    assert dated.exit_code == 2
    assert "counts days" in dated.output
    refused = CliRunner().invoke(app, ["bench-cohort"])
    assert refused.exit_code == 2
    assert "--series 1000000" in refused.output


@pytest.mark.long
def test_the_command_prints_the_figures_for_programs(tmp_path: Path) -> None:
    sizes = ["--series", "600", "--persons", "500", "--rows", "5000", "--linked", "50"]
    command = ["bench-cohort", *sizes, "--data", str(tmp_path), "--json"]
    printed = CliRunner().invoke(app, command)
    assert set(json.loads(printed.output)) >= KEYS
    assert (tmp_path / "omop-500-5000" / "person.parquet").exists()
