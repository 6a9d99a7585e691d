"""A tokenization in a stream gives what the whole dataset in memory would, whatever happens."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from linkage.encoding.encoder import encode_records
from linkage.encoding.fields import Normaliser
from linkage.errors import Conflict, RowRejected, SourceRefused
from linkage.records import EncodedRecords
from sites import assembly, tokenizer
from sites.packages import load_manifest
from sites.sources import base
from sites.sources.config import SourceConfig
from sites.tokenizer import tokenize
from sites.vault import Vault
from tests.studies import cast, vault_of
from tests.unit.sites.test_tokenizer import opened

EVERYONE = cast()
FIRST = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "John", "", "unknown"]
LAST = ["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Allen", "O'Neill", ""]


def people(count: int, seed: int = 1) -> list[tuple[str, ...]]:
    """Few names and days, so that there are duplicates, collisions and missing values."""
    draw = random.Random(seed)
    return [
        (
            f"r{i}",
            draw.choice(FIRST),
            draw.choice(LAST),
            draw.choice(["", f"{draw.randint(1, 12):02}/{draw.randint(1, 28):02}/1960"]),
            draw.choice("MF"),
        )
        for i in range(count)
    ]


def source(folder: Path, rows: list[tuple[str, ...]], **more: object) -> SourceConfig:
    path = folder / "people.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "first", "last", "dob", "sex"), *rows])
    columns = {"first_name": "first", "last_name": "last", "date_of_birth": "dob", "sex": "sex"}
    table = {"file": path, "record_id": "id", "date_format": "MM/DD/YYYY", "columns": columns}
    return SourceConfig.model_validate({**table, **more})


def in_memory(rows: list[tuple[str, ...]], config: SourceConfig, vault: Vault) -> EncodedRecords:
    """The reference: everything at once, then put in pseudonym order."""
    study = EVERYONE.signed.study
    texts = dict(zip(["id", "first_name", "last_name", "date_of_birth", "sex"], zip(*rows)))  # noqa: B905
    columns = {
        field: Normaliser(field, config.reading(None)).column(list(values)).column  # type: ignore[arg-type]
        for field, values in texts.items()
        if field != "id"
    }
    return encode_records(
        columns,
        vault.secret().pseudonyms(study.study.id, texts["id"]),
        study=study,
        party=study.party_named("alpha"),
        key=EVERYONE.key,
        secret=vault.secret(),
    ).records


def same(streamed: EncodedRecords, whole: EncodedRecords) -> None:
    order = np.lexsort(whole.pseudonyms.T[::-1])
    assert (streamed.pseudonyms == whole.pseudonyms[order]).all()
    leader: dict[int, int] = {}
    expected = [leader.setdefault(int(g), i) for i, g in enumerate(whole.groups[order])]
    assert streamed.groups.tolist() == expected
    for ours, theirs in ((streamed.clks, whole.clks), (streamed.match_keys, whole.match_keys)):
        assert list(ours) == list(theirs)
        for name, column in ours.items():
            assert (column.present == theirs[name].present[order]).all()
            assert (column.values == theirs[name].values[order]).all()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, parts and passes, so that a small file has many of each."""
    monkeypatch.setattr("sites.sources.delimited.BATCH_RECORDS", 512)
    monkeypatch.setattr("sites.sources.delimited._BLOCK_ROWS", 256)
    monkeypatch.setattr(assembly, "PASS_ROWS", 300)
    monkeypatch.setattr(tokenizer, "PART_BYTES", 200_000)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_what_memory_gives(tmp_path: Path, workers: int) -> None:
    rows = people(2_000)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(config, "alpha", EVERYONE.signed, vault, workers=workers)
    manifest = load_manifest(done.package)
    assert done.parts > 2
    assert manifest.collisions["first-last-dob"] >= 5
    same(opened(EVERYONE, done.package, manifest), in_memory(rows, config, vault))
    assert sorted(vault.load_map(1).values()) == sorted(row[0] for row in rows)
    assert not vault.spool(1).exists()


@pytest.mark.usefixtures("small_batches")
def test_a_repeated_record_id_is_named_by_both_rows_or_left_out(tmp_path: Path) -> None:
    rows = people(1_500)
    rows[1_400] = ("r20", *rows[1_400][1:])
    rows[700] = ("r20", *rows[700][1:])
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    with pytest.raises(RowRejected, match=r"row 702.*record_id.*repeats") as caught:
        tokenize(config, "alpha", EVERYONE.signed, vault)
    assert "row 22 has it too" in caught.value.hint
    listed = tmp_path / "rejects.csv"
    done = tokenize(config, "alpha", EVERYONE.signed, vault, reject_file=listed)
    assert (done.records, done.resumed) == (1_498, len(rows) // 512 + 1)
    kept = [row for i, row in enumerate(rows) if i not in (700, 1_400)]
    found = opened(EVERYONE, done.package, load_manifest(done.package))
    same(found, in_memory(kept, config, vault))
    said = list(csv.reader(listed.open()))
    assert said[0] == ["row", "field", "left_out", "rule", "what_to_do"]
    assert [row[0] for row in said[1:]] == ["702", "1402"]
    assert listed.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("small_batches")
def test_bad_rows_stop_the_job_or_are_listed_with_their_rules(tmp_path: Path) -> None:
    rows = people(600)
    rows[9] = ("", *rows[9][1:])
    rows[40] = (*rows[40][:3], "99/45/1960", "F")
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    config = source(tmp_path, rows)
    with pytest.raises(RowRejected, match="row 11"):
        tokenize(config, "alpha", EVERYONE.signed, vault)
    assert not vault.package(1).exists()
    listed = tmp_path / "rejects.csv"
    done = tokenize(config, "alpha", EVERYONE.signed, vault, reject_file=listed)
    assert sum(done.left_out.values()) == 1
    said = {row[0]: row for row in csv.reader(listed.open())}
    assert said["11"][1:3] == ["record_id", "record"]
    assert said["42"][1:3] == ["date_of_birth", "value"]
    assert "99/45" not in listed.read_text()


@pytest.mark.usefixtures("small_batches")
def test_only_what_changed_is_encoded_again(tmp_path: Path) -> None:
    rows = people(1_500)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    broken = [*rows[:-1], ("", *rows[-1][1:])]
    source(tmp_path, broken)
    with pytest.raises(RowRejected):
        tokenize(config, "alpha", EVERYONE.signed, vault)
    source(tmp_path, rows)
    done = tokenize(config, "alpha", EVERYONE.signed, vault)
    assert done.resumed == 2  # of three batches, the last was never made
    same(
        opened(EVERYONE, done.package, load_manifest(done.package)), in_memory(rows, config, vault)
    )


def test_the_same_input_is_noticed(tmp_path: Path) -> None:
    rows = people(50)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    assert tokenize(config, "alpha", EVERYONE.signed, vault).same_as == 0
    assert tokenize(config, "alpha", EVERYONE.signed, vault).same_as == 1
    source(tmp_path, rows[:-1])
    assert tokenize(config, "alpha", EVERYONE.signed, vault).same_as == 0


def test_a_lost_map_is_remade_from_the_secret(tmp_path: Path) -> None:
    rows = people(50)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    tokenize(config, "alpha", EVERYONE.signed, vault)
    before = vault.load_map(1)
    secret = (vault.folder / "contributor.secret").read_bytes()
    elsewhere = vault_of(EVERYONE, "alpha", tmp_path / "elsewhere")
    (elsewhere.folder / "contributor.secret").write_bytes(secret)
    (elsewhere.folder / "contributor.secret").chmod(0o600)
    tokenize(config, "alpha", EVERYONE.signed, elsewhere)
    assert elsewhere.load_map(1) == before


def test_two_at_once_do_not_write_over_each_other(tmp_path: Path) -> None:
    config = source(tmp_path, people(50))
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    spool = tokenizer.Spool(vault.spool(1))
    spool.make()
    with spool.held(), pytest.raises(Conflict, match="being tokenized already"):
        tokenize(config, "alpha", EVERYONE.signed, vault)


def test_mostly_bad_records_are_refused_even_in_quarantine(tmp_path: Path) -> None:
    rows = people(300)
    config = source(tmp_path, [("", *row[1:]) if i % 3 else row for i, row in enumerate(rows)])
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    with pytest.raises(SourceRefused, match="200 of its first 300 records are bad"):
        tokenize(config, "alpha", EVERYONE.signed, vault, reject_file=tmp_path / "r.csv")


KILLED = """
import sys
from pathlib import Path
from sites.config import SourceConfig
from sites.sources import delimited
from sites.tokenizer import tokenize
from sites.vault import Vault
from linkage.signed_study import load_signed_study
if __name__ == "__main__":
    delimited.BATCH_RECORDS, delimited._BLOCK_ROWS = 512, 256
    folder = Path(sys.argv[1])
    columns = {"first_name": "first", "last_name": "last", "date_of_birth": "dob", "sex": "sex"}
    source = SourceConfig.model_validate({"file": folder / "people.csv", "record_id": "id",
        "date_format": "MM/DD/YYYY", "columns": columns})
    signed = load_signed_study(folder / "private" / "signed-study.json")
    done = tokenize(source, "alpha", signed, Vault(folder / "private"), workers=0)
    print("resumed", done.resumed)
"""


POINTS = ["spool/1/batch-00001", "spool/1/batch-00006", "spool/1/order.npy"]
POINTS += ["spool/1/lost-0.npy", "packages/.1.making/part-00001.sealed", "map-1"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_it_goes_on_and_ends_the_same(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = people(4_000)
    config, vault = source(tmp_path, rows), vault_of(EVERYONE, "alpha", tmp_path / "private")
    script = tmp_path / "program.py"
    script.write_text(KILLED)
    program = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path(base.__file__).parents[2])},
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while program.poll() is None and time.monotonic() < deadline:
        if (vault.folder / point).exists():
            os.killpg(program.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    program.wait()
    monkeypatch.setattr("sites.sources.delimited.BATCH_RECORDS", 512)
    monkeypatch.setattr("sites.sources.delimited._BLOCK_ROWS", 256)
    if not vault.package(1).exists():
        done = tokenize(config, "alpha", EVERYONE.signed, vault)
        assert done.resumed >= 1
        assert not vault.spool(1).exists()
    found = opened(EVERYONE, vault.package(1), load_manifest(vault.package(1)))
    same(found, in_memory(rows, config, vault))
    assert sorted(vault.load_map(1).values()) == sorted(row[0] for row in rows)
