"""Umlauts on a terminal, or in a pipe, that takes ASCII alone: shown as escapes, and no bug."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.programs import program

SPEC = (
    '[cohort]\nid = "lung"\ntitle = "Lungenübung"\npurpose = "für alle"\n'
    '[imaging]\nmodality = ["CT"]\n[clinical]\nany = true\n'
)
SITE = (
    'party = "alpha"\nprivate = "privé"\n[source]\nkind = "delimited"\nfile = "Köln.csv"\n'
    'record_id = "id"\n[source.columns]\nfirst_name = "first"\nlast_name = "last"\n'
)
OUTPUT = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"}
LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0"}
HOW = pytest.mark.parametrize("how", [OUTPUT, LOCALE], ids=["output", "locale"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "Übung"
    made.mkdir()
    (made / "größe.toml").write_text(SPEC, encoding="utf-8")
    (made / "site.toml").write_text(SITE, encoding="utf-8")
    (made / "Köln.csv").write_text("id,first,last\n1,Ada,Groß\n2,Bob,Weiß\n", encoding="utf-8")
    return made


def run(how: dict[str, str], folder: Path, name: str, *words: str) -> tuple[int, str]:
    """Return exit code and output of an installed program, in the folder."""
    besides = {k: v for k, v in os.environ.items() if k not in OUTPUT | LOCALE}
    done = subprocess.run(
        [program(name), *words],
        cwd=folder,
        env={**besides, "HOME": str(folder), "COLUMNS": "200", **how},
        capture_output=True,
        timeout=300,
    )
    output = (done.stdout + done.stderr).decode()
    assert "a bug" not in output, output
    assert "unforeseen" not in output, output
    assert "Traceback" not in output, output
    return done.returncode, output


@HOW
def test_every_program_says_what_it_has_to_say(how: dict[str, str], folder: Path) -> None:
    code, said = run(how, folder, "linkage-cohort", "validate", "größe.toml")
    assert (code, r"gr\xf6\xdfe.toml is acceptable" in said) == (0, True), said
    assert r"Lungen\xfcbung" in said
    kept = folder / "schlüssel"
    code, said = run(how, folder, "linkage-site", "keys", "identity", str(kept), "--name", "alpha")
    assert (code, r"\xdcbung/schl\xfcssel/alpha.public.json" in said) == (0, True), said
    assert (kept / "alpha.public.json").exists()
    code, said = run(how, folder, "linkage", "evaluate", "weiß.csv", "weiß.csv")
    assert (code, r"wei\xdf.csv: is not there" in said) == (4, True), said
    code, _ = run(how, folder, "linkage-broker", "serve", "--home", "brücke")
    assert code == 1


def test_paths_do_not_depend_on_what_the_output_takes(folder: Path) -> None:
    code, said = run(OUTPUT, folder, "linkage-site", "profile", "--out", "größe")
    assert (code, r"gr\xf6\xdfe/profile.html" in said) == (0, True), said
    assert (folder / "größe" / "profile.html").exists()
    assert run(OUTPUT, folder, "linkage-broker", "init", "brücke")[0] == 0


def test_a_locale_that_cannot_name_the_file_is_no_bug(folder: Path) -> None:
    told = "a path has letters that this locale, ascii, cannot write"
    code, said = run(LOCALE, folder, "linkage-site", "profile", "--out", "new")
    assert (code, told in said, "LC_ALL=C.UTF-8" in said) == (7, True, True), said
    code, said = run(LOCALE, folder, "linkage-broker", "init", str(folder / "brücke"))
    assert (code, told in said) == (1, True), said
