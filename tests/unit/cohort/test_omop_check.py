"""What the data manager is told of the OMOP tables before anybody asks."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from linkage.errors import SourceRefused
from linkage.strict_toml import Fault
from sites.cli import app
from sites.cohort.config import OmopConfig
from sites.cohort.omop import OmopSource
from sites.cohort.omop_check import check

from .clinical_world import make_world
from .conftest import PERSON, RACE, OpenOmop, events

ROOT = Path(__file__).parents[3]
EVENTS = {
    "COVID-19 Test": {"domain": "condition", "concept_id": 1},
    "Mistyped": {"domain": "procedure", "concept_id": 99},
    "No table": {"domain": "drug", "concept_id": 1, "descendants": False},
}


def test_every_table_is_found_or_said(open_omop: OpenOmop) -> None:
    found = check(
        open_omop(
            "1,8532,1950,6,15",
            config={"index_events": EVENTS},
            condition_occurrence=events("condition", (1, 1, "2000-01-01"), (1, 1, "secret")),
            procedure_occurrence=events("procedure", (1, 1, "2000-01-01")),
            measurement="measurement_id,person_id",
            concept_ancestor="ancestor_concept_id,descendant_concept_id\n1,1",
        )
    )
    assert found.tables["person"] == "found"
    assert found.tables["condition_occurrence"] == "found"
    assert "has no column 'measurement_concept_id'" in found.tables["measurement"]
    assert found.tables["drug_exposure"].startswith("missing: criteria of domain drug are refused")
    assert found.notes == ("condition_occurrence.condition_start_date: 1 values cannot be read",)
    assert found.index_events["COVID-19 Test"] == "dated by the first record that meets it"
    assert "99; check the concept id" in found.index_events["Mistyped"]
    assert "drug_exposure: is not in the source" in found.index_events["No table"]
    assert not found.usable
    assert "2000-01-01" not in json.dumps(found.to_json())


def test_the_command_says_it_to_people_and_programs(tmp_path: Path) -> None:
    make_world(1, persons=5).write(tmp_path / "omop")
    site = tmp_path / "site.toml"
    site.write_text('party = "enclave"\n[omop]\npath = "omop"\n', encoding="utf-8")
    run = CliRunner().invoke
    said = run(app, ["check-omop", "--site", str(site)])
    assert said.exit_code == 0, said.output
    assert re.search(r"measurement +found", said.output)
    told = run(app, ["check-omop", "--site", str(site), "--json"])
    assert json.loads(told.output)["tables"]["measurement"] == "found"
    (tmp_path / "omop" / "death.parquet").write_bytes(b"not Parquet")
    assert run(app, ["check-omop", "--site", str(site)]).exit_code == 4
    site.write_text('party = "commons"\n', encoding="utf-8")
    said = run(app, ["check-omop", "--site", str(site)])
    assert said.exit_code == 3
    assert "only the enclave has it" in said.output


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "names no place"),
        ({"path": "a", "url_env": "B"}, "names several places"),
        ({"url_env": "A", "spark": "local"}, "names several places"),
        ({"url": "postgresql://me:secret@host/x"}, "holds a password"),
        ({"path": "a", "index_events": {"x": {"domain": "death", "exclude": True}}}, "must be a"),
    ],
)
def test_what_the_table_may_not_say(raw: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        OmopConfig.model_validate(raw)
    fault = refused.value.errors()[0]["ctx"]["error"]
    assert isinstance(fault, Fault)
    assert said in fault.rule
    assert fault.hint


def test_a_record_id_of_two_persons_is_refused(open_omop: OpenOmop) -> None:
    person = f"{PERSON},{RACE},person_source_value\n5,0,1950,1,1,0,0,A\n6,0,1950,1,1,0,0,A"
    source = open_omop(person=person, config={"record_id": "person_source_value"})
    with pytest.raises(SourceRefused, match="twice in 'person_source_value'"):
        source.persons_of(["A"])
    assert source.persons_of(["B"]) == {}


def test_folders_of_parquet_parts_are_tables(tmp_path: Path) -> None:
    world = make_world(1, persons=5)
    folder = world.write(tmp_path / "omop")
    table = world.tables["measurement"]
    (folder / "measurement.parquet").unlink()
    (folder / "measurement").mkdir()
    for n in range(3):
        part = table.slice(n * 5, 5)
        pq.write_table(part, folder / "measurement" / f"part-{n}.parquet")
    with OmopSource.open(OmopConfig(path=folder)) as source:
        assert source.table("measurement").count().to_pyarrow().as_py() == 15


def test_the_page_shows_what_the_table_takes() -> None:
    page = (ROOT / "docs" / "enclave.md").read_text(encoding="utf-8")
    for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        OmopConfig.model_validate(tomllib.loads(text)["omop"])
    for key in OmopConfig.model_fields:
        assert re.search(rf"\b{key}\b", page), key
