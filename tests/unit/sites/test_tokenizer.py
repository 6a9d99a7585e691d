"""From a file to a sealed package: complete or absent, and nothing in it reads as a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from linkage.encoding.keys import StudyKey
from linkage.errors import Conflict, KeyRefused, PackageRefused, SourceRefused
from linkage.messages import BROKER, DATASET_PART, Manifest
from linkage.records import EncodedRecords, from_arrow
from linkage.sealing import Context, Identity, unseal
from sites import tokenizer
from sites.checking import check_source
from sites.commands.summaries import tell, tell_check
from sites.config import SourceConfig
from sites.packages import load_manifest, part_file
from sites.tokenizer import tokenize
from sites.upload import whole_part
from sites.vault import Vault
from tests.studies import Cast, cast, vault_of

EVERYONE = cast()
FIELDS = ("first_name", "last_name", "date_of_birth", "sex")
HEADER = "id,first,last,dob,sex\n"
PEOPLE = [
    ("r1", "Ada", "Lovelace", "12/10/1915", "F"),
    ("r2", "Grace", "Hopper", "12/09/1906", "F"),
    ("r3", "Grace", "Hopper", "12/09/1906", "F"),  # the same person twice
    ("r4", "Alan", "Turing", "", "M"),
    ("r5", "Canaryfirst", "Canarylast", "06/23/1912", "M"),
]


def source(folder: Path, people: list[tuple[str, ...]] = PEOPLE) -> SourceConfig:
    path = folder / "people.csv"
    path.write_text(HEADER + "".join(",".join(p) + "\n" for p in people), encoding="utf-8")
    columns = {"first_name": "first", "last_name": "last", "date_of_birth": "dob", "sex": "sex"}
    return SourceConfig.model_validate(
        {"file": path, "record_id": "id", "date_format": "MM/DD/YYYY", "columns": columns}
    )


def opened(everyone: Cast, package: Path, manifest: Manifest) -> EncodedRecords:
    study = everyone.signed.study
    batches: list[pa.RecordBatch] = []
    for part in manifest.parts:
        details = (str(manifest.dataset), str(part.number), str(len(manifest.parts)))
        data = unseal(
            part_file(package, part.number).read_bytes(),
            sender=everyone.signed.pin("alpha"),
            recipient=everyone.identities[BROKER],
            context=Context(study.study.id, "alpha", BROKER, DATASET_PART, details),
        )
        batches += pa.ipc.open_stream(data).read_all().to_batches()
    return from_arrow(batches, study, "alpha", marked=bool(manifest.strata))


def test_a_package_holds_every_record_once_in_pseudonym_order(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    manifest = load_manifest(done.package)
    manifest.verify(EVERYONE.signed.pin("alpha"))
    records = opened(EVERYONE, done.package, manifest)
    assert (len(records), done.records, done.groups) == (5, 5, 4)
    names = [p.tobytes() for p in records.pseudonyms]
    assert names == sorted(names)
    by_id = {record_id: names.index(name) for name, record_id in vault.load_map(1).items()}
    assert sorted(by_id) == ["r1", "r2", "r3", "r4", "r5"]
    assert records.groups[by_id["r2"]] == records.groups[by_id["r3"]]
    assert len(np.unique(records.groups)) == 4
    assert all(records.groups[g] == g for g in records.groups)
    assert manifest.null_reasons["first-last-dob"] == {"missing:date_of_birth": 5}
    for column in records.match_keys.values():
        assert column.present.all()  # r4 has a filler
        assert len(np.unique(column.values, axis=0)) == 4
    assert done.why["date_of_birth"] == {"missing": 1}


def test_no_identifier_is_in_anything_that_leaves(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    for path in done.package.iterdir():
        data = path.read_bytes().lower()
        assert b"canary" not in data
        assert b"r5" not in data or path.name.startswith("part")  # chance in sealed bytes


def test_tokenizing_again_names_the_same_records_the_same(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    first = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    second = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    assert (first.dataset, second.dataset) == (1, 2)
    assert vault.load_map(1) == vault.load_map(2)
    with pytest.raises(Conflict, match="version 2"):
        tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, dataset=2)


def test_large_datasets_are_cut_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "PART_BYTES", 200_000)
    people = [(f"r{i}", "Ada", f"Name{chr(97 + i % 26)}", "12/10/1915", "F") for i in range(900)]
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(source(tmp_path, people), "alpha", EVERYONE.signed, vault)
    assert done.parts > 1
    assert len(opened(EVERYONE, done.package, load_manifest(done.package))) == 900


def test_a_wrong_date_format_is_noticed(tmp_path: Path) -> None:
    config = source(tmp_path, [(f"r{i}", "Ada", "L", "Dec 1915", "F") for i in range(9)])
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    with pytest.raises(SourceRefused, match="9 of 9 values of date_of_birth are invalid") as caught:
        tokenize(config, "alpha", EVERYONE.signed, vault)
    assert "row 2" in caught.value.message
    assert "date_format" in caught.value.hint
    assert not (vault.folder / "packages").exists()


def test_a_few_bad_dates_are_nulled_and_counted(tmp_path: Path) -> None:
    good = [(f"r{i}", "Ada", "Lovelace", f"12/{i + 1:02}/1915", "F") for i in range(20)]
    config = source(tmp_path, [*good, ("bad", "Ada", "Lovelace", "13/45/1915", "F")])
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(config, "alpha", EVERYONE.signed, vault)
    ((why, count),) = done.why["date_of_birth"].items()
    assert why.startswith("invalid: ")
    assert count == 1
    assert done.records == 21


def test_the_wrong_key_or_identity_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    vault.study_key_file.unlink()
    with pytest.raises(KeyRefused, match=r"study\.key is missing"):
        tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    StudyKey.generate().save(vault.study_key_file)
    with pytest.raises(KeyRefused, match="not the one of this signed study"):
        tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    vault.identity_file.unlink()
    Identity.generate("alpha").save(vault.identity_file)
    with pytest.raises(KeyRefused, match="pins other keys"):
        tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    assert not (vault.folder / "packages").exists()


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match="no package"):
        load_manifest(Vault(tmp_path).package(1))
    with pytest.raises(PackageRefused, match="nothing is tokenized here yet"):
        load_manifest(Vault(tmp_path).package(Vault(tmp_path).newest_dataset()))


def test_a_part_altered_here_is_not_sent(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    package = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault).package
    part = load_manifest(package).parts[0]
    assert whole_part(package, part) == part_file(package, 1).read_bytes()
    altered = bytearray(part_file(package, 1).read_bytes())
    altered[100] ^= 1
    for change in (lambda path: path.write_bytes(altered), lambda path: path.unlink()):
        change(part_file(package, 1))
        with pytest.raises(PackageRefused, match="part 1 of the package is missing or altered"):
            whole_part(package, part)


def test_what_is_attested_is_of_the_records_that_are_sent(tmp_path: Path) -> None:
    """A record left out for its repeated id counts nowhere: not in densities, not in reasons."""
    people = [(f"r{i}", "Ada", f"Name{chr(97 + i)}", "12/10/1915", "F") for i in range(12)]
    people += [(f"r{i}", "", f"Name{chr(97 + i)}", "12/10/1915", "") for i in range(12, 16)]
    again = [("r1", "", "Longfellow", "", ""), ("r13", "Theodore", "Montgomery", "", "M")]
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    made = [
        tokenize(
            source(tmp_path, some), "alpha", EVERYONE.signed, vault, reject_file=tmp_path / "r.csv"
        )
        for some in (people, [*people, *again])
    ]
    assert [sum(done.left_out.values()) for done in made] == [0, 2]
    alone, both = (load_manifest(done.package) for done in made)
    assert alone.records == both.records == 16
    assert any(why.startswith("missing:") for one in alone.null_reasons.values() for why in one)
    assert alone.null_reasons == both.null_reasons
    assert alone.densities == both.densities
    assert made[0].no_key == made[1].no_key


def test_exchanged_names_are_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["James", "Mary", "Linda", "Robert", "Patricia"]
    right = [(f"r{i}", usual[i % 5], f"Zz{chr(97 + i)}son", "12/10/1915", "F") for i in range(20)]
    wrong = [(one[0], one[2], one[1], *one[3:]) for one in right]
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = [
        tokenize(source(tmp_path, people), "alpha", EVERYONE.signed, vault)
        for people in (right, wrong)
    ]
    said = [one.warnings for one in done]
    assert not any("exchanged" in text for text in said[0])
    assert any("100% of the last names are usual first names" in text for text in said[1])
    beforehand = [
        check_source(source(tmp_path, people), FIELDS, quarantine=False)
        for people in (right, wrong)
    ]
    assert [one.warnings for one in beforehand] == [(), said[1][:1]]
    for check in beforehand:
        tell_check(check, release_gate="", marks={}, as_json=False)
        shown = capsys.readouterr().out
        assert ("MIND THE WARNING" in shown) == bool(check.warnings)
    for one in (replace(done[0], density={}), done[1]):
        tell(one, None, secret="", release_gate="", marks={}, as_json=False)
        shown = capsys.readouterr().out
        assert ("MIND THE WARNING" in shown) == bool(one.warnings)
