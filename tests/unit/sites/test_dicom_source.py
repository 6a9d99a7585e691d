"""One record a patient from any number of DICOM files; what disagrees or is damaged is said."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from linkage.errors import SourceRefused
from sites.config import SourceConfig
from sites.sources.base import RawBatch
from sites.sources.opening import NotedSource, open_source

FIELDS = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")


def image(path: Path, *, syntax: Any = ExplicitVRLittleEndian, **patient: object) -> Path:
    """Write a small but whole CT image of a patient."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = syntax
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    made.StudyDate, made.Modality = "20200101", "CT"
    for keyword, value in patient.items():
        setattr(made, keyword, value)
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.StudyID, made.StudyTime, made.SeriesNumber, made.InstanceNumber = "1", "120000", 1, 1
    made.AccessionNumber = ""
    made.Rows = made.Columns = 4
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.SamplesPerPixel, made.PixelRepresentation = 15, 1, 0
    made.PhotometricInterpretation, made.PixelData = "MONOCHROME2", b"\0" * 32
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, made, enforce_file_format=True)
    return path


ADA = {
    "PatientName": "Lovelace^Ada^King^Dr^III",
    "PatientID": "p1",
    "PatientBirthDate": "18151210",
    "PatientSex": "F",
}


def opened(folder: Path, fields: tuple[str, ...] = FIELDS) -> NotedSource:
    return open_source(SourceConfig.model_validate({"kind": "dicom", "folder": folder}), fields)


def only(folder: Path) -> RawBatch:
    [batch] = opened(folder).batches()
    return batch


def people(batch: RawBatch) -> list[tuple[str | None, ...]]:
    columns = [batch.columns[name].to_pylist() for name in FIELDS]
    return list(zip(batch.record_ids.to_pylist(), *columns, strict=True))


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_a_patient_is_read_in_every_encoding(tmp_path: Path, syntax: Any) -> None:
    image(tmp_path / "deep" / "er" / "1.dcm", syntax=syntax, **ADA)
    assert people(only(tmp_path)) == [("p1", "Ada", "King", "Lovelace", "18151210", "F")]


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        ("ISO_IR 192", "Müller^Zoë", ("Zoë", "Müller")),
        ("ISO_IR 100", "Müller^Zoë", ("Zoë", "Müller")),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ("Tarou", "Yamada"),
        ),
        ("ISO_IR 192", "=山田^太郎", (None, None)),
        ("ISO_IR 192", "Cher", (None, "Cher")),
        ("ISO_IR 192", "", (None, None)),
    ],
)
def test_names_are_read_in_their_character_set(
    tmp_path: Path, charset: Any, name: str, expected: tuple[str | None, ...]
) -> None:
    image(tmp_path / "1", **{**ADA, "SpecificCharacterSet": charset, "PatientName": name})
    batch = only(tmp_path)
    found = (batch.columns["first_name"][0].as_py(), batch.columns["last_name"][0].as_py())
    assert found == expected


def test_utf8_that_is_not_marked_is_read_and_other_bytes_are_not_guessed(tmp_path: Path) -> None:
    path = image(tmp_path / "1", **{**ADA, "PatientName": "Mxyller^Zoe"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"xy", "ü".encode()))
    assert only(tmp_path).columns["last_name"].to_pylist() == ["Müller"]
    path.write_bytes(data.replace(b"xy", b"\xfc\xfc"))
    source = opened(tmp_path)
    [batch] = source.batches()
    assert batch.columns["last_name"].to_pylist() == [None]
    assert "files with text that is not in their character set: 1" in source.notes


def test_one_record_a_patient_and_the_most_frequent_value_counts(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / f"b{number}", **ADA)
    image(tmp_path / "a", **{**ADA, "PatientName": "LOVELACE^A", "PatientSex": ""})
    image(tmp_path / "c", **{**ADA, "PatientID": " p2 ", "PatientName": "Turing^Alan"})
    (tmp_path / "readme.txt").write_text("not DICOM")
    source = opened(tmp_path)
    [batch] = source.batches()
    assert people(batch) == [
        ("p1", "Ada", "King", "Lovelace", "18151210", "F"),
        ("p2", "Alan", None, "Turing", "18151210", "F"),
    ]
    assert batch.numbers.tolist() == [1, 2]
    assert source.notes == [
        "files that are no DICOM, passed over: 1",
        "patients whose files differ in first_name, so that the most frequent counts: 1",
    ]


def test_what_is_no_record_is_said_by_number(tmp_path: Path) -> None:
    image(tmp_path / "a", **{**ADA, "PatientID": ""})
    whole = image(tmp_path / "b", **ADA).read_bytes()
    at = whole.index(b"Lovelace")
    (tmp_path / "c").write_bytes(whole[: at + 4])
    image(tmp_path / "d", **{**ADA, "PatientID": "two"})
    image(
        tmp_path / "e",
        **{**ADA, "PatientID": "two", "PatientName": "Hopper", "PatientBirthDate": "19061209"},
    )
    batch = only(tmp_path)
    assert batch.record_ids.to_pylist() == ["p1"]
    assert batch.numbers.tolist() == [2]
    assert [(bad.number, bad.field, bad.rule) for bad in batch.bad] == [
        (1, "record_id", "has no PatientID"),
        (3, "", "is a DICOM file cut short or damaged"),
        (4, "", "differs in last name and birth date between its files"),
    ]


def test_an_element_of_no_known_kind_damages_its_file_alone(tmp_path: Path) -> None:
    """Tokenizing thousands of files ended there, as a bug of ours."""
    whole = image(tmp_path / "a", **{**ADA, "PatientID": "broken"}).read_bytes()
    at = whole.index(b"\x10\x00\x10\x00PN")
    (tmp_path / "a").write_bytes(whole[: at + 4] + b"XN" + whole[at + 6 :])
    image(tmp_path / "b", **ADA)
    batch = only(tmp_path)
    assert batch.record_ids.to_pylist() == ["p1"]
    assert [bad.rule for bad in batch.bad] == ["is a DICOM file cut short or damaged"]


def test_several_issuers_are_part_of_the_record_id(tmp_path: Path) -> None:
    image(tmp_path / "a", **ADA)
    image(tmp_path / "b", **ADA, IssuerOfPatientID="NORTH")
    assert only(tmp_path).record_ids.to_pylist() == ["p1"]
    image(tmp_path / "c", **ADA, IssuerOfPatientID="SOUTH")
    source = opened(tmp_path)
    [batch] = source.batches()
    assert batch.record_ids.to_pylist() == ["p1", "p1^^^NORTH", "p1^^^SOUTH"]
    assert "several issuers: a record id is PatientID^^^IssuerOfPatientID" in source.notes


def test_a_large_private_element_does_not_hide_the_patient(tmp_path: Path) -> None:
    path = image(tmp_path / "a", **ADA)
    private = Dataset()
    private.add_new(0x00090010, "LO", "OURS")
    private.add_new(0x00091001, "OB", b"\0" * 200_000)
    made = dcmread(path)
    made.update(private)
    made.save_as(path)
    assert only(tmp_path).record_ids.to_pylist() == ["p1"]


def test_a_deflated_bomb_stays_small(tmp_path: Path) -> None:
    whole = image(tmp_path / "a", syntax=DeflatedExplicitVRLittleEndian, **ADA).read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"\x08\x00\x05\x00CS\x00\x00" + b"\0" * 300_000_000
    (tmp_path / "a").write_bytes(whole[:start] + packer.compress(bomb) + packer.flush())
    del bomb
    tracemalloc.start()
    try:
        [bad] = only(tmp_path).bad
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bad.rule == "is a DICOM file cut short or damaged"
    assert peak < 20_000_000


def dicomdir(tmp_path: Path, **changes: object) -> Path:
    image(tmp_path / "in" / "1", **{**ADA, **changes})
    image(tmp_path / "in" / "2", **{**ADA, **changes, "PatientID": "p2"})
    files = FileSet()
    for path in sorted((tmp_path / "in").iterdir()):
        files.add(path)
    files.write(tmp_path / "out")
    return tmp_path / "out" / "DICOMDIR"


def test_a_dicomdir_names_its_files(tmp_path: Path) -> None:
    index = dicomdir(tmp_path)
    (index.parent / "unlisted").write_bytes((tmp_path / "in" / "1").read_bytes())
    assert sorted(only(index).record_ids.to_pylist()) == ["p1", "p2"]
    next(one for one in index.parent.glob("*/**/*") if one.is_file()).unlink()
    source = opened(index)
    [batch] = source.batches()
    assert len(batch) == 1
    assert "files of the DICOMDIR that are not there: 1" in source.notes


def test_a_dicomdir_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    index = dicomdir(tmp_path)
    inside = next(p for p in sorted(index.parent.rglob("*")) if p.is_file() and p != index)
    first = inside.relative_to(index.parent).parts[0].encode()
    index.write_bytes(index.read_bytes().replace(first + b"\\", b"..".ljust(len(first)) + b"\\"))
    source = opened(index)
    with pytest.raises(SourceRefused, match="points outside its own folder"):
        list(source.batches())


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda folder: (folder / "x").write_text("x"), "holds no DICOM file: files that are no"),
        (lambda folder: None, "holds no DICOM file: it is empty"),
    ],
)
def test_a_folder_without_dicom_is_refused(tmp_path: Path, make: Any, rule: str) -> None:
    make(tmp_path)
    with pytest.raises(SourceRefused, match=rule):
        only(tmp_path)


def test_one_image_is_no_source(tmp_path: Path) -> None:
    path = image(tmp_path / "1.dcm", **ADA)
    with pytest.raises(SourceRefused, match="is one DICOM file, no DICOMDIR"):
        only(path)
    with pytest.raises(SourceRefused, match="no such folder"):
        only(tmp_path / "gone")
    with pytest.raises(SourceRefused, match="has no ssn"):
        opened(tmp_path, ("ssn",))
