"""One installation is never custodian and broker of record, whichever of them came first."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import create_home
from linkage import roles
from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.sealing import Identity


@pytest.fixture(autouse=True)
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account of one's own, with settings that nothing has written yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "account"))
    monkeypatch.delenv(roles.BROKER_HOME, raising=False)


def custodian_in(folder: Path) -> Path:
    Identity.generate("custodian", kem="X25519").save(folder / roles.CUSTODIAN_KEY)
    return folder


def test_nobody_is_in_the_way_of_either(tmp_path: Path) -> None:
    roles.require_no_broker(tmp_path / "custodian")
    roles.require_no_custodian(tmp_path / "broker")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "public.json").write_text('{"name": "alpha"}')
    roles.require_no_broker(tmp_path / "site")


@pytest.mark.threat("T06")
@pytest.mark.parametrize("place", [".", "keys", "keys/old", ".."])
def test_a_broker_beside_a_custodian_is_refused(tmp_path: Path, place: str) -> None:
    home = tmp_path / "all" / "broker"
    home.mkdir(parents=True)
    custodian_in(home / place)
    with pytest.raises(KeyRefused, match="different organisations") as caught:
        create_home(home)
    assert "another machine" in caught.value.hint
    assert not (home / "config.toml").exists()


def test_a_study_key_is_as_bad(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    StudyKey.generate().save(tmp_path / "keys" / "lung.key")
    with pytest.raises(KeyRefused, match="holds a custodian's keys"):
        roles.require_no_custodian(tmp_path)
    (tmp_path / "keys" / "signed-study.json").write_text("{}")
    roles.require_no_custodian(tmp_path)  # a site's own folder, beside a rehearsal's broker


@pytest.mark.threat("T06")
@pytest.mark.parametrize("place", [".", "keys", "keys/old", "../.."])
def test_a_custodian_beside_a_broker_is_refused(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "deep" / "er" / "custodian"
    create_home(folder / place)
    with pytest.raises(KeyRefused, match="a broker is set up in"):
        roles.require_no_broker(folder)


def test_a_rehearsals_broker_is_nobodys_broker(tmp_path: Path) -> None:
    custodian_in(tmp_path)
    create_home(tmp_path / "broker", allow_rehearsal=True)
    roles.require_no_broker(tmp_path)


@pytest.mark.threat("T06")
def test_one_account_cannot_be_both_in_two_places(tmp_path: Path) -> None:
    there, home = custodian_in(tmp_path / "a" / "b" / "custodian"), tmp_path / "c" / "d" / "home"
    roles.require_no_custodian(home)
    for _ in range(2):
        roles.remember("custodian", there)
    with pytest.raises(KeyRefused, match=str(there)):
        create_home(home)
    (there / roles.CUSTODIAN_KEY).unlink()  # no custodian any more
    create_home(home)
    with_no_note = tmp_path / "e" / "f"
    roles.require_no_broker(with_no_note)
    roles.remember("broker", home)
    with pytest.raises(KeyRefused, match=str(home)):
        roles.require_no_broker(with_no_note)


def test_the_brokers_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = create_home(tmp_path / "c" / "d" / "home")
    monkeypatch.setenv(roles.BROKER_HOME, str(home.path))
    with pytest.raises(KeyRefused, match="a broker is set up in"):
        roles.require_no_broker(tmp_path / "a" / "b")


def test_an_account_without_settings_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    roles.remember("broker", tmp_path)
    roles.require_no_custodian(tmp_path)
