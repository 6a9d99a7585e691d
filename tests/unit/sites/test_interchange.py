"""`linkage-site clkhash`: the file that clkhash itself would write, or a refusal in words."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import pytest
from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict
from typer.testing import CliRunner, Result

from linkage.schema import clk_schema
from linkage.study import parse_study
from sites.cli import app
from tests.studies import STUDY

SECRET = "a secret of enough bytes, thirty-two"
ROWS = [
    ("Ada", "Lovelace", "18151210", "f"),
    ("Grace", "Hopper", "", "f"),
    ("Alan", "Canaryname", "19120623", "m"),
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    study = parse_study(STUDY)
    schema = clk_schema(study, study.clk[0])
    names = [feature.field for feature in study.clk[0].fields]
    found = {n: tmp_path / n for n in ("data.csv", "schema.json", "secret", "clks.json")}
    found["schema.json"].write_text(json.dumps(schema))
    found["secret"].write_text(SECRET + "\n")
    found["secret"].chmod(0o600)
    with found["data.csv"].open("w", newline="") as file:
        csv.writer(file).writerows([names, *ROWS])
    return found


def run(files: dict[str, Path], *more: str) -> Result:
    order = [str(files[name]) for name in ("data.csv", "schema.json")]
    secret = ["--secret-file", str(files["secret"]), "--out", str(files["clks.json"])]
    return CliRunner().invoke(app, ["clkhash", *order, *secret, *more])


RISK = "--accept-graph-matching-risk"


def test_the_clk_file_is_what_clkhash_makes(files: dict[str, Path]) -> None:
    done = run(files, RISK, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["records"] == "3"
    assert files["clks.json"].stat().st_mode & 0o077 == 0, "plain CLKs say who is in them"
    schema = from_json_dict(json.loads(files["schema.json"].read_text()))
    theirs = generate_clks(ROWS, schema, SECRET, max_workers=1)
    found = json.loads(files["clks.json"].read_text())
    assert found == {"clks": [base64.b64encode(clk.tobytes()).decode() for clk in theirs]}


def test_a_dry_run_writes_nothing(files: dict[str, Path]) -> None:
    done = run(files, RISK, "--dry-run")
    assert done.exit_code == 0, done.output
    assert not files["clks.json"].exists()


def test_the_risk_has_to_be_accepted_in_words(files: dict[str, Path]) -> None:
    done = run(files)
    assert done.exit_code == 3
    assert "graph matching" in done.stderr
    assert not files["clks.json"].exists()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda f: f["secret"].write_text("short"), 3, "secret: has 5 bytes"),
        (lambda f: f["secret"].write_text(""), 5, "is empty"),
        (lambda f: f["secret"].chmod(0o644), 5, "chmod 600"),
        (lambda f: f["schema.json"].write_text("{"), 3, "schema"),
        (lambda f: f["data.csv"].write_text("a,b\n1,2\n"), 4, "the first row must be"),
        (lambda f: f["data.csv"].open("a").write("one,more\n"), 4, "row 5"),
        (lambda f: f["data.csv"].write_bytes(b"\xff\xfe"), 4, "UTF-8"),
        (lambda f: f["data.csv"].unlink(), 4, "no such file"),
    ],
)
def test_refusals(files: dict[str, Path], change: object, code: int, said: str) -> None:
    change(files)  # type: ignore[operator]
    done = run(files, RISK)
    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    assert "anary" not in done.output
    assert not list(files["clks.json"].parent.glob("*clks.json*")), "nor half of it"


def test_a_weak_schema_needs_a_second_word(files: dict[str, Path]) -> None:
    schema = json.loads(files["schema.json"].read_text())
    schema["clkConfig"]["kdf"]["keySize"] = 1
    files["schema.json"].write_text(json.dumps(schema))
    assert "keySize" in run(files, RISK).stderr
    done = run(files, RISK, "--accept-weaknesses")
    assert done.exit_code == 0, done.output
    assert "warning: clkConfig.kdf.keySize" in done.stderr
