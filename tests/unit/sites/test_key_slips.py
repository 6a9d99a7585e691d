"""A ceremony's slips: a public file that is gone, a study file saved by Windows, a new folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from linkage import roles
from linkage.messages import CUSTODIAN
from linkage.signed_study import load_signed_study
from sites.cli import app
from tests.studies import STUDY, cast, certified


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def _own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "account"))
    monkeypatch.delenv(roles.BROKER_HOME, raising=False)


@pytest.mark.parametrize("name", ["north", CUSTODIAN])
def test_a_lost_public_file_is_written_again(tmp_path: Path, name: str) -> None:
    folder, public = tmp_path / "keys", tmp_path / "keys" / f"{name}.public.json"
    assert call("keys", "identity", folder, "--name", name).exit_code == 0
    made = {path: path.read_bytes() for path in folder.iterdir()}
    public.unlink()
    assert call("keys", "identity", folder, "--name", name, "--dry-run").exit_code == 0
    assert not public.exists()
    done = call("keys", "identity", folder, "--name", name)
    assert "written again" in done.stdout
    assert {path: path.read_bytes() for path in folder.iterdir()} == made
    again = call("keys", "identity", folder, "--name", name)
    assert (again.exit_code, "never overwritten" in again.stderr) == (5, True)


def test_keys_of_another_name_are_not_published(tmp_path: Path) -> None:
    call("keys", "identity", tmp_path, "--name", "north")
    done = call("keys", "identity", tmp_path, "--name", "south")
    assert (done.exit_code, "never overwritten" in done.stderr) == (5, True)
    assert not (tmp_path / "south.public.json").exists()


def test_a_study_saved_by_windows_is_signed_as_the_same_text(tmp_path: Path) -> None:
    everyone = cast()
    file, out = tmp_path / "study.toml", tmp_path / "new folder" / "signed.json"
    file.write_text("\ufeff" + STUDY, encoding="utf-8")
    everyone.key.save(tmp_path / "study.key")
    everyone.identities[CUSTODIAN].save(tmp_path / "custodian.key")
    certificate = certified(everyone.signed.study)
    assert certificate is not None
    (tmp_path / "gate.json").write_text(certificate.model_dump_json())
    words: list[str | Path] = ["--key", tmp_path / "study.key", "--out", out]
    words += ["--custodian", tmp_path / "custodian.key", "--certificate", tmp_path / "gate.json"]
    for name, identity in everyone.identities.items():
        if name != CUSTODIAN:
            public = tmp_path / f"{name}.public.json"
            public.write_text(identity.public().model_dump_json())
            words += ["--public", public]
    done = call("study", "sign", file, *words)
    assert done.exit_code == 0, done.stderr
    assert load_signed_study(out).study_hash == everyone.signed.study_hash
