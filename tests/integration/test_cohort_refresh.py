"""
A saved cohort against a newer delivery, over a real broker: who is new is told, few are not.

The enclave's records change between three deliveries of one question: 13 persons get the condition,
then 3 lose it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from linkage.errors import Conflict, NotFound
from sites.answers import answer_imaging, send_rows
from sites.cohort.saved import open_saved
from sites.commands.reuse import refresh as command
from sites.enclave import join
from sites.questions import decide
from sites.refreshing import check
from tests.broker_world import make_world, running
from tests.cohort_world import CONDITION, Sites
from tests.programs import program

pytestmark = pytest.mark.long

CLINICAL = {"concepts": [{"domain": "condition", "concept_id": [CONDITION]}]}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("refresh")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "study", imaging=range(60), enclave=range(20, 80))
        yield made
        made.close()


def delivered(sites: Sites) -> str:
    """Ask, answer, approve and deliver; return the question's ID. The enclave has yet to join."""
    question = sites.ask(imaging={"modality": ["CT"]}, clinical=CLINICAL)
    with sites.session("imaging") as imaging:
        decide(imaging, question, "approve")
        answer_imaging(imaging, question)
    with sites.session("enclave") as enclave:
        decide(enclave, question, "approve")
    delivery = sites.deliver(question)
    with sites.session("imaging") as imaging:
        send_rows(imaging, question, delivery)
    return question


def has_condition(sites: Sites, people: set[int]) -> None:
    """Give the condition to these persons, and to nobody else."""
    table = sites.folder / "omop" / "condition_occurrence.csv"
    kept = [line for line in table.read_text().splitlines() if str(CONDITION) not in line]
    kept += [f"{900_000 + p},{p},{CONDITION},2018-05-01,32817,,0,CODE{p}." for p in sorted(people)]
    table.write_text("\n".join(kept) + "\n")


def test_a_cohort_is_refreshed_twice(
    sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, one, two, three = sites.site_file("enclave"), *(tmp_path / n for n in "123")
    both = {p for p in range(20, 60) if p % 3}
    even = {p for p in both if p % 2 == 0}
    asked = delivered(sites)
    with sites.session("enclave") as enclave:
        join(enclave, asked, one)
        assert len(open_saved(one).persons) == len(even) == 14
        refuses_what_is_no_refresh(sites, asked, one)

    has_condition(sites, both)
    question = delivered(sites)
    command(question, one, two, site, dry_run=True)
    assert not two.exists()
    capsys.readouterr()
    command(question, one, two, site, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["new"], told["gone"], told["in_both"]) == (len(both - even), 0, 14)
    assert told["after"]["persons"] == len(both) == 27
    assert told == json.loads((two / "refresh.json").read_text())
    assert "What changed" in (two / "refresh.html").read_text()
    report = open_saved(two).report
    assert report["links"]["why_not"].startswith("How good the linkage is was not told")

    has_condition(sites, both - set(sorted(both)[:3]))
    command(delivered(sites), two, three, site, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["new"], told["gone"], told["after"]["persons"]) == ("hidden",) * 3
    assert len(open_saved(three).persons) == 24
    report = open_saved(three).report
    assert report["persons"] == "hidden"
    assert not any(isinstance(n, int) and n for n in (report["sex"] or {}).values())
    assert len(report["earlier"]) == 2
    page = (three / "report.html").read_text()
    assert ">24<" not in page
    assert ">27<" not in page


def test_one_delivery_joined_again_has_the_same_bytes(sites: Sites, tmp_path: Path) -> None:
    has_condition(sites, {p for p in range(20, 60) if p % 3})
    question = delivered(sites)
    found = []
    for name, seed in (("one", "1"), ("two", "2")):
        # A process of its own, with another order of sets: what join keeps is on the disk only.
        words = ["--out", str(tmp_path / name), "--site", str(sites.site_file("enclave"))]
        env = os.environ | {"PYTHONHASHSEED": seed}
        join_again = [program("linkage-site"), "join", question, *words]
        subprocess.run(join_again, env=env, check=True, capture_output=True)
        found.append(bytes_of(tmp_path / name))
    one, two = found
    assert set(one) == set(two)
    assert len(one) > 30
    assert json.loads(one["report.json"])["persons"] > 20
    unlike = {name for name in one if one[name] != two[name]}
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        assert unlike == set()
    assert unlike <= {"cohort.duckdb", "cohort.duckdb.sha256"}
    later = delivered(sites)
    with sites.session("enclave") as enclave:
        join(enclave, later, tmp_path / "other")
    other = bytes_of(tmp_path / "other")
    assert other["side/cohort_person.parquet"] != one["side/cohort_person.parquet"]
    assert other["cohort.duckdb.tables.sha256"] != one["cohort.duckdb.tables.sha256"]


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refuses_what_is_no_refresh(sites: Sites, asked: str, cohort: Path) -> None:
    other = sites.ask(imaging={"modality": ["CT"]}, clinical={"sex": ["female"]})
    with sites.session("enclave") as enclave:
        with pytest.raises(Conflict, match="this very question's"):
            check(enclave, open_saved(cohort), asked)
        with pytest.raises(Conflict, match="other clinical criteria"):
            check(enclave, open_saved(cohort), other)
        with pytest.raises(NotFound, match="holds no report"):
            open_saved(cohort.parent)
    with pytest.raises(typer.Exit) as ended:
        command(asked, cohort, cohort.parent / "no", sites.site_file("enclave"))
    assert ended.value.exit_code == 6
    assert not (cohort.parent / "no").exists()
