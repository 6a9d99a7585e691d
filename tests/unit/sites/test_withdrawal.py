"""Withdrawn records stay out of every later dataset version, though the source still has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from linkage.delta import REMOVED, apply_delta
from linkage.errors import RowRejected, SourceRefused
from linkage.messages import CUSTODIAN
from sites.cli import app
from sites.packages import load_manifest
from sites.sources.base import RawBatch
from sites.tokenizer import tokenize
from sites.withdrawal import Withdrawn, change, not_found, read_record_ids, withdrawn_records
from tests.studies import vault_of
from tests.unit.sites.test_streaming import EVERYONE, in_memory, people, same, source
from tests.unit.sites.test_tokenizer import opened


def test_a_delta_withdraws_and_the_source_does_not_matter(tmp_path: Path) -> None:
    rows = people(200)
    rows.append(("twin", *rows[7][1:]))  # of one group with a record that is withdrawn
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    first = tokenize(config, "alpha", EVERYONE.signed, vault)
    gone = [rows[7][0], rows[20][0]]
    assert change(vault, [*gone, "never-seen"], take_back=False, keep=True).all == 3
    done = tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)
    assert (done.added, done.removed, done.records) == (0, 2, len(rows) - 2)
    assert "2 records are withdrawn and were left out" in done.notes
    manifest = load_manifest(done.package)
    delta = opened(EVERYONE, done.package, manifest)
    names = vault.secret().pseudonyms(EVERYONE.signed.study.study.id, sorted(gone))
    removed = {row.tobytes() for row in delta.pseudonyms[delta.groups == REMOVED]}
    assert removed == {row.tobytes() for row in names}
    whole = apply_delta(opened(EVERYONE, first.package, load_manifest(first.package)), delta)
    stays = [row for row in rows if row[0] not in gone]
    same(whole, in_memory(stays, config, vault))
    assert not {*gone} & {*vault.load_map(2).values()}
    # Whoever consents again comes back under the same pseudonym.
    change(vault, [gone[0]], take_back=True, keep=True)
    again = tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)
    assert (again.added, again.removed) == (1, 0)


def test_the_list_is_kept_encrypted_and_only_counted_in_a_dry_run(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    assert withdrawn_records(vault) == set()
    assert change(vault, ["canary-1"], take_back=False, keep=False).changed == 1
    assert withdrawn_records(vault) == set()
    for _ in range(2):
        change(vault, ["canary-1"], take_back=False, keep=True)
        assert withdrawn_records(vault) == {"canary-1"}
    files = [path.read_bytes() for path in vault.folder.rglob("*") if path.is_file()]
    assert not any(b"canary-1" in one for one in files)


@pytest.mark.parametrize("kind", ["some", "none", "all"])
def test_a_batch_without_its_withdrawn_records(kind: str) -> None:
    ids = ["a", "b", "c"]
    batch = RawBatch(
        pa.array(ids, pa.string()),
        {"first_name": pa.array(["x", None, "z"], pa.string())},
        np.array([2, 3, 4]),
        done=5,
        total=9,
    )
    gone = {"some": {"b", "q"}, "none": {"q"}, "all": set(ids)}[kind]
    left = Withdrawn(gone).left_out_of(batch)
    rows = [i for i, one in enumerate(ids) if one not in gone]
    assert left.record_ids.to_pylist() == [ids[i] for i in rows]
    assert left.columns["first_name"].to_pylist() == [["x", None, "z"][i] for i in rows]
    assert left.numbers.tolist() == [2 + i for i in rows]
    assert (left.done, left.total) == (5, 9)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("id\n1\n", "its header is not that of a list of record ids"),
        ("", "its header is not that of a list of record ids"),
        ("record_id\n1\n1\n", "row 3, field 'record_id': is that of an earlier row too"),
        ("record_id\n1\n\n2\n", "row 3, field 'record_id': names no record"),
        ("record_id\n1,2\n", "row 2, field 'record_id': names no record"),
    ],
)
def test_a_bad_list_is_refused_by_its_place(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises((SourceRefused, RowRejected)) as caught:
        read_record_ids(tmp_path / "w.csv")
    assert rule in str(caught.value)


def test_blank_rows_at_the_end_name_nobody(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("\ufeffrecord_id\r\n1\r\n2\r\n\r\n  \r\n", newline="")
    assert read_record_ids(tmp_path / "w.csv") == ["1", "2"]


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    vault_of(EVERYONE, "alpha", tmp_path / "private")
    told = EVERYONE.signed.pin(CUSTODIAN).fingerprint
    site = tmp_path / "site.toml"
    site.write_text(
        f'party = "alpha"\n[broker]\nurl = "https://broker.example"\ncustodian = "{told}"\n'
    )
    (tmp_path / "w.csv").write_text("record_id\nr-1\nr-2\n")

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["withdraw", *words, "--site", str(site)])
        return done.exit_code, done.stdout + " ".join(done.stderr.split())

    listed = str(tmp_path / "w.csv")
    code, said = call(listed, "--json")
    assert (code, json.loads(said)) == (0, _counts(changed=2))
    code, said = call(listed, "--take-back", "--dry-run", "--json")
    assert code == 0, said
    code, said = call(listed, "--json")
    assert json.loads(said) == _counts(changed=0)
    for wrong in ((), (listed, "--everything"), ("--everything", "--take-back")):
        code, said = call(*wrong)
        assert (code, "--everything alone" in said) == (4, True)


def _counts(**changed: int) -> dict[str, int]:
    return {"named": 2, "changed": 0, "withdrawn": 2, "not_found": 0} | changed


def test_a_mistyped_record_id_is_told_by_its_row(tmp_path: Path) -> None:
    rows = people(30)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    listed = ["canary-1", rows[3][0], "canary-2"]
    assert not_found(vault, listed) == [], "nothing was tokenized that could be looked into"
    tokenize(config, "alpha", EVERYONE.signed, vault)
    assert not_found(vault, listed) == [2, 4]
    change(vault, listed[1:], take_back=False, keep=True)
    tokenize(config, "alpha", EVERYONE.signed, vault)
    assert not_found(vault, listed) == [2], "who was withdrawn before is known"
    told = EVERYONE.signed.pin(CUSTODIAN).fingerprint
    site = tmp_path / "site.toml"
    site.write_text(
        f'party = "alpha"\n[broker]\nurl = "https://broker.example"\ncustodian = "{told}"\n'
    )
    (tmp_path / "w.csv").write_text("\n".join(["record_id", *listed]))
    words = ["withdraw", str(tmp_path / "w.csv"), "--site", str(site)]
    said = " ".join(CliRunner().invoke(app, words).stdout.split())
    assert "OF NO RECORD HERE 1, first in row 2: mistyped?" in said
    assert "canary" not in said
    assert "OF NO RECORD HERE" not in CliRunner().invoke(app, [*words, "--take-back"]).stdout
