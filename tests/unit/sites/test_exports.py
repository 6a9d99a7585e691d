"""Exports, letter for letter, and only for who says what they give away."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from linkage.errors import SiteRefused, SourceRefused
from linkage.pseudonyms import format_id
from sites import exports
from sites.exports import Other
from tests.studies import cast, vault_of

A, B, C = (format_id(bytes([n]) * 16) for n in (1, 2, 3))
IDS = {"A01-2": B, "A01-1": A, "A01-3": C}
MIDRC = "https://data.midrc.org|gen3_node_property|Case.submitter_id"
BDC = "https://gen3.biodatacatalyst.nhlbi.nih.gov|gen3_node_property|Subject.submitter_id"


def written(rows: exports.Rows, path: Path, *, tabs: bool) -> str:
    exports.write(rows, path, tabs=tabs)
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_bytes().decode()


def test_token_record_id_of_the_case_node(tmp_path: Path) -> None:
    plain = written(exports.token_record_id(IDS), tmp_path / "a.tsv", tabs=True)
    assert plain == (
        "type\tsubmitter_id\ttoken_record_id\n"
        f"case\tA01-1\t{A}\n"
        f"case\tA01-2\t{B}\n"
        f"case\tA01-3\t{C}\n"
    )
    linked = exports.token_record_id(IDS, dataset="COVID-1")
    assert written(linked, tmp_path / "b.tsv", tabs=True).splitlines()[:2] == [
        "type\tsubmitter_id\tdatasets.submitter_id\ttoken_record_id",
        f"case\tA01-1\tCOVID-1\t{A}",
    ]


def test_linked_external_data_of_the_case_node(tmp_path: Path) -> None:
    others = [Other("N3C", {A: ["x"], B: ["y"]}), Other("BDC", {B: ["z"]})]
    rows = exports.linked_external_data(IDS, others)
    assert written(rows, tmp_path / "a.tsv", tabs=True) == (
        "type\tsubmitter_id\tlinked_external_data\ncase\tA01-1\tN3C\ncase\tA01-2\tBDC,N3C\n"
    )
    with pytest.raises(SiteRefused, match="another party's list"):
        exports.linked_external_data(IDS, [])
    with pytest.raises(SiteRefused, match="comma"):
        exports.linked_external_data(IDS, [Other("a,b", {})])


def test_gen3_crosswalk(tmp_path: Path) -> None:
    """The first header and line are those of gen3sdk-python's tests/test_data/crosswalk."""
    other = Other(BDC, {A: ["phs002363.v1_RC-1358", "phs002363.v1_RC-1359"], "x": ["y"]})
    rows = exports.gen3_crosswalk({"A01-00888": A, "A01-00889": B}, MIDRC, [other])
    text = written(rows, tmp_path / "c.csv", tabs=False)
    assert text == (
        f"{MIDRC},{BDC}\nA01-00888,phs002363.v1_RC-1358\nA01-00888,phs002363.v1_RC-1359\n"
    )
    own = exports.gen3_crosswalk(IDS, MIDRC, [])
    assert written(own, tmp_path / "d.csv", tabs=False).splitlines()[:2] == [
        f"{MIDRC},https://data.midrc.org|cross_commons_id|Cross-Commons ID",
        f"A01-1,{A}",
    ]
    for line in csv.DictReader(text.splitlines()):  # as gen3.tools.metadata.crosswalk reads it
        assert all(len(name.split("|")) == 3 for name in line)
    for wrong in ("Case.submitter_id", "data.midrc.org|x|y", f"{MIDRC},x", "https://a|b"):
        with pytest.raises(SiteRefused, match="no Gen3 crosswalk column"):
            exports.gen3_crosswalk(IDS, wrong, [])


@pytest.mark.parametrize("record", ["a7\tb7", " a7", 'a7"b7', "a7,b7", "a7\\b7", "a7\nb7"])
def test_what_gen3_would_read_otherwise_is_refused(record: str) -> None:
    with pytest.raises(SourceRefused, match="read otherwise") as caught:
        exports.gen3_crosswalk({record: A}, MIDRC, [])
    assert record not in str(caught.value)


@pytest.mark.parametrize("kind", exports.DISCLOSES)
def test_each_wants_its_own_word(kind: str) -> None:
    word, meaning = exports.DISCLOSES[kind]
    exports.require_told(kind, word)
    for wrong in ("", "yes", *{w for w, _ in exports.DISCLOSES.values()} - {word}):
        with pytest.raises(SiteRefused) as caught:
            exports.require_told(kind, wrong)
        assert meaning in caught.value.message
        assert f"--discloses {word}" in caught.value.hint
    with pytest.raises(SiteRefused, match="no format"):
        exports.require_told("csv", word)


def test_anothers_list_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text(f"record_id,cross_commons_id\np1,{A}\np2,{A}\np3,{B.lower()}\n")
    other = exports.read_other(f"N3C={path}", records=True)
    assert (other.name, other.records) == ("N3C", {A: ["p1", "p2"], B: ["p3"]})
    assert "p1" not in repr(other)
    path.write_text(f"cross_commons_id\n{A}\n{A[:-1]}\n")
    with pytest.raises(SourceRefused, match="row 3"):
        exports.read_other(f"N3C={path}", records=False)
    with pytest.raises(SourceRefused, match="record_id"):
        exports.read_other(f"N3C={path}", records=True)
    for wrong in ("N3C", "=x", "N3C="):
        with pytest.raises(SiteRefused, match="NAME=FILE"):
            exports.read_other(wrong, records=False)


def test_the_ledger_keeps_every_export(tmp_path: Path) -> None:
    vault = vault_of(cast(), "alpha", tmp_path / "private")
    vault.secret()
    assert exports.ledger(vault) == []
    rows = exports.token_record_id(IDS)
    lines = [
        exports.exported("token-record-id", f"release-{n}", Path(f"/x/{n}.tsv"), rows, [])
        for n in range(2)
    ]
    for one in lines:
        exports.note(vault, one)
    assert exports.ledger(vault) == lines
    assert lines[0].rows == 3
    assert b"release-1" not in b"".join(
        p.read_bytes() for p in (tmp_path / "private").rglob("*") if p.is_file()
    )
