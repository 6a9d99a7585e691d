"""Killed between two writes, started twice, given the wrong column: what is kept fits together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linkage.errors import Conflict, KeyRefused, SourceRefused
from sites import encoding_worker
from sites.changes import marks_name
from sites.checking import check_source
from sites.packages import load_manifest
from sites.spool import Spool
from sites.tokenizer import tokenize
from sites.vault import Vault
from tests.studies import vault_of
from tests.unit.sites.test_streaming import EVERYONE, people, source

FIELDS = ("first_name", "last_name", "date_of_birth", "sex")


class Killed(BaseException):
    """As a signal would, it passes everything by."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.mark.parametrize("at", ["finish_map", "gather_map"])
def test_the_map_outlives_whoever_is_killed_before_the_package_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    rows = people(60)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    whole = getattr(Vault, at)

    def then_killed(*given: Any) -> None:
        whole(*given)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Vault, at, then_killed)
        with pytest.raises(Killed):
            tokenize(config, "alpha", EVERYONE.signed, vault)
    assert tokenize(config, "alpha", EVERYONE.signed, vault).resumed == 1
    assert sorted(vault.load_map(1).values()) == sorted(row[0] for row in rows)


def test_a_kept_batch_has_the_map_of_its_own_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it encodes another source, then the first source again."""
    rows = people(50)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    with monkeypatch.context() as patched:
        patched.setattr(encoding_worker, "find_repeats", killed)
        with pytest.raises(Killed):
            tokenize(config, "alpha", EVERYONE.signed, vault, workers=0)
    source(tmp_path, [(f"other-{row[0]}", *row[1:]) for row in rows])
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "write", killed)
        with pytest.raises(Killed):
            tokenize(config, "alpha", EVERYONE.signed, vault, workers=0)
    source(tmp_path, rows)
    assert tokenize(config, "alpha", EVERYONE.signed, vault).resumed == 1
    assert sorted(vault.load_map(1).values()) == sorted(row[0] for row in rows)


def test_a_map_is_copied_where_a_file_system_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    config, vault = source(tmp_path, people(20)), vault_of(EVERYONE, "alpha", tmp_path / "private")
    tokenize(config, "alpha", EVERYONE.signed, vault)
    assert len(vault.load_map(1)) == 20


def test_what_a_finished_version_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, vault = source(tmp_path, people(20)), vault_of(EVERYONE, "alpha", tmp_path / "private")
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "remove", killed)
        with pytest.raises(Killed):
            tokenize(config, "alpha", EVERYONE.signed, vault)
    assert vault.package(1).exists()
    assert vault.spool(1).exists()
    with Spool(vault.spool(1)).held():
        tokenize(config, "alpha", EVERYONE.signed, vault)
        assert vault.spool(1).exists()
    tokenize(config, "alpha", EVERYONE.signed, vault)
    assert not [path for path in (vault.folder / "spool").iterdir() if path.is_dir()]


def test_who_waited_for_the_other_process_finds_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, vault = source(tmp_path, people(30)), vault_of(EVERYONE, "alpha", tmp_path / "private")
    held = Spool.held

    def late(spool: Spool) -> Any:
        monkeypatch.setattr(Spool, "held", held)
        tokenize(config, "alpha", EVERYONE.signed, vault)  # the other process, from start to end
        source(tmp_path, people(40))
        return held(spool)

    monkeypatch.setattr(Spool, "held", late)
    with pytest.raises(Conflict, match="tokenized already"):
        tokenize(config, "alpha", EVERYONE.signed, vault)
    assert len(vault.load_map(1)) == load_manifest(vault.package(1)).records == 30


def test_a_column_that_is_no_record_id_is_refused_even_in_quarantine(tmp_path: Path) -> None:
    rows = [(row[4], *row[1:]) for row in people(300)]
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    with pytest.raises(SourceRefused, match=r"298 of its first 300 records are bad.*record id"):
        tokenize(config, "alpha", EVERYONE.signed, vault, reject_file=tmp_path / "r.csv")
    with pytest.raises(SourceRefused, match="298 of its first 300 records are bad"):
        check_source(config, FIELDS, quarantine=True)
    assert not vault.package(1).exists()


def test_a_delta_comes_after_its_base(tmp_path: Path) -> None:
    config, vault = source(tmp_path, people(30)), vault_of(EVERYONE, "alpha", tmp_path / "private")
    tokenize(config, "alpha", EVERYONE.signed, vault, dataset=3)
    source(tmp_path, people(40))
    with pytest.raises(Conflict, match="version 2 is older than the newest, 3"):
        tokenize(config, "alpha", EVERYONE.signed, vault, dataset=2, delta=True)
    (vault.folder / "kept" / marks_name(3) / "00000").unlink()
    with pytest.raises(Conflict, match="version 3 is missing"):
        tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)


def test_a_lost_secret_is_missed_and_not_replaced(tmp_path: Path) -> None:
    config, vault = source(tmp_path, people(30)), vault_of(EVERYONE, "alpha", tmp_path / "private")
    tokenize(config, "alpha", EVERYONE.signed, vault)
    secret = vault.folder / "contributor.secret"
    kept = secret.read_bytes()
    secret.unlink()
    for asked in (
        lambda: tokenize(config, "alpha", EVERYONE.signed, vault),
        lambda: vault.load_map(1),
        vault.secret,
    ):
        with pytest.raises(KeyRefused, match=r"contributor\.secret is missing"):
            asked()
    assert not secret.exists()
    secret.write_bytes(kept)
    secret.chmod(0o600)
    assert len(vault.load_map(1)) == 30
