"""What a study file with several purposes says to who checks, verifies or confirms it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from linkage.study import load_study
from sites.cli import app
from sites.confirming import agreed_to
from tests.studies import STUDY

PURPOSES = """
[[purpose]]
id = "nodules"
title = "Outcomes of lung nodules"

[[purpose]]
id = "products"
title = "Products for lung screening"
use = "commercial"

[[participation]]
party = "alpha"
purpose = "nodules"
features = ["linkage", "questions", "deliveries"]

[[participation]]
party = "beta"
purpose = "nodules"
features = ["linkage", "questions", "deliveries"]

[[participation]]
party = "alpha"
purpose = "products"
features = ["linkage", "questions"]

[[participation]]
party = "beta"
purpose = "products"
features = ["linkage"]
"""


def test_each_purpose_is_told_with_its_use_and_who_takes_part(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY + PURPOSES)
    done = CliRunner().invoke(app, ["study", "check", str(path)], env={"COLUMNS": "200"})
    said = " ".join(done.stdout.split())
    for told in (
        "purpose nodules Outcomes of lung nodules (non-commercial use)",
        "alpha for nodules linkage, questions, deliveries",
        "beta for nodules linkage, questions, deliveries",
        "purpose products Products for lung screening (commercial use)",
        "alpha for products linkage, questions beta for products linkage CLK",
    ):
        assert told in said, told


def test_a_steward_reads_for_which_use_before_agreeing(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY + PURPOSES)
    rows = agreed_to(load_study(path), "beta")
    products = "Products for lung screening (commercial use): 'beta' takes part in linkage"
    assert rows["for products"] == products
    path.write_text(STUDY)
    assert agreed_to(load_study(path), "beta")["use"] == "non-commercial"
    path.write_text(STUDY.replace("[study]\n", '[study]\nuse = "commercial"\n'))
    assert agreed_to(load_study(path), "beta")["use"] == "commercial"
