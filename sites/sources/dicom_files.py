"""
What a DICOM file says of its patient, read from its first bytes only.
https://dicom.nema.org/medical/dicom/current/output/html/part10.html

Elements stand in the order of their tags, and those of the patient come early, so pixels are never
touched; nor is a deflated file (PS3.5, A.5) inflated beyond the same length.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_partial

from linkage.errors import SourceRefused

_TAGS: dict[str, int] = {
    "SpecificCharacterSet": 0x00080005,
    "PatientName": 0x00100010,
    "PatientID": 0x00100020,
    "IssuerOfPatientID": 0x00100021,
    "PatientBirthDate": 0x00100030,
    "PatientSex": 0x00100040,
    "EthnicGroup": 0x00102160,
}
_LAST = max(_TAGS.values())
_HEADS = (1 << 16, 1 << 20)
"""Bytes tried: the first is enough for nearly all, the second for large private elements."""
_BACKWARDS = 16
"""Elements out of order that are borne; in a file of zeros every one is."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_DICOMDIR = "1.2.840.10008.1.3.10"
_LARGEST_DICOMDIR = 256 << 20


class NotDicom(Exception):
    """No DICOM file (PS3.10: the letters DICM after 128 bytes)."""


class Damaged(Exception):
    """A DICOM file that ends, or makes no sense, before what follows the patient."""


@dataclass(frozen=True, slots=True, repr=False)
class Header:
    """What one file says, "" where missing. unclear: some text was not in its character set."""

    patient_id: str
    issuer: str
    values: dict[str, str]
    unclear: bool


def files_of(place: Path, name: str) -> Iterator[Path]:
    """
    Yield the files below a folder, sorted, or those that a DICOMDIR names, whether there or not.

    Raises SourceRefused where `place` is neither.
    """
    if place.is_dir():
        for folder, folders, files in os.walk(place):
            folders.sort()
            for one in sorted(files):
                if one.upper() != "DICOMDIR":
                    yield Path(folder, one)
        return
    if not place.exists():
        rule, hint = "there is no such folder or DICOMDIR", "check [source] folder"
        raise SourceRefused(file=str(place), rule=rule, hint=hint)
    yield from _named_by(place, name)


def read_header(path: Path) -> Header:
    """Read what a file says of its patient. Raises NotDicom, Damaged, OSError."""
    with path.open("rb") as file:
        for size in _HEADS:
            head = file.read(size)
            if head[128:132] != b"DICM":
                raise NotDicom
            found = _parsed(head)
            if found is not None:
                try:
                    return _header(found)
                except Exception:  # pydicom makes sense of a value when it is asked for it
                    raise Damaged from None
            if len(head) < size:
                break
            file.seek(0)
    raise Damaged


def _parsed(head: bytes) -> Dataset | None:
    """Return the elements up to the last of a patient; None if `head` ends before."""
    passed, before, backwards = False, 0, 0

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal passed, before, backwards
        backwards += tag <= before
        if backwards > _BACKWARDS:
            raise Damaged
        passed, before = tag > _LAST, tag
        return passed

    tags: list[Any] = list(_TAGS.values())
    try:
        if _DEFLATED in head[:1024]:
            # Group length is the first element of the meta information: explicit VR, UL.
            start = 144 + int(struct.unpack("<L", head[140:144])[0])
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head[start:], _HEADS[-1])
            found = read_dataset(io.BytesIO(data), False, True, stop_when=stop, specific_tags=tags)
        else:
            found = read_partial(io.BytesIO(head), stop_when=stop, specific_tags=tags)
    except Exception:
        # Whatever a broken file makes the parser raise; its text can quote the file.
        return None
    return found if passed else None


def _header(found: Dataset) -> Header:
    texts, unclear = {}, False
    marked = "SpecificCharacterSet" in found
    for keyword in _TAGS:
        if keyword not in ("SpecificCharacterSet", "PatientName"):
            given = found.get(keyword) or ""
            whole = given if isinstance(given, str) else "\\".join(map(str, given))
            texts[keyword], lost = _text(whole, marked)
            unclear = unclear or lost
    name = found.get("PatientName")
    parts = {"last_name": "family_name", "first_name": "given_name", "middle_name": "middle_name"}
    values = {}
    for field, part in parts.items():
        # The first, alphabetic group of components (PS3.5, 6.2.1.1).
        values[field], lost = _text(str(getattr(name, part, "") or ""), marked)
        unclear = unclear or lost
    values["date_of_birth"] = texts["PatientBirthDate"]
    values["sex"], values["ethnicity"] = texts["PatientSex"], texts["EthnicGroup"]
    return Header(texts["PatientID"], texts["IssuerOfPatientID"], values, unclear)


def _text(text: str, marked: bool) -> tuple[str, bool]:
    """
    Return a text, "" if it was not in its character set, and whether it was not.

    A file that names none is ASCII by the standard; many hold UTF-8 all the same.
    """
    text = text.strip().strip("\0").strip()
    if not marked and not text.isascii():
        try:
            text = text.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return "", True
    return ("", True) if "\N{REPLACEMENT CHARACTER}" in text else (text, False)


def _named_by(place: Path, name: str) -> Iterator[Path]:
    hint = "name the folder above the files, or the DICOMDIR itself"
    try:
        if place.stat().st_size > _LARGEST_DICOMDIR:
            raise SourceRefused(file=name, rule="is larger than 256 MiB", hint=hint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory = dcmread(place, specific_tags=["DirectoryRecordSequence"])
            records = list(directory.get("DirectoryRecordSequence") or [])
            named = [record.get("ReferencedFileID") for record in records]
    except SourceRefused:
        raise
    except InvalidDicomError:
        raise SourceRefused(file=name, rule="is no folder and no DICOMDIR", hint=hint) from None
    except Exception:
        rule = "is a DICOMDIR that is cut short or damaged"
        raise SourceRefused(file=name, rule=rule, hint="name the folder above the files") from None
    if directory.file_meta.get("MediaStorageSOPClassUID") != _DICOMDIR:
        raise SourceRefused(file=name, rule="is one DICOM file, no DICOMDIR", hint=hint)
    if not any(named):
        rule = "is a DICOMDIR that names no file; it may be cut short"
        raise SourceRefused(file=name, rule=rule, hint="copy it again, or name the folder")
    for one in named:
        given = [one] if isinstance(one, str) else list(one or [])
        parts = [str(part).strip() for part in given]
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            raise SourceRefused(
                file=name,
                rule="is a DICOMDIR that points outside its own folder",
                hint="name the folder above the files",
            )
        if parts:
            yield place.parent.joinpath(*parts)
