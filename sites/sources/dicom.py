"""
Patients of DICOM files: a folder of them, or a DICOMDIR. One record a patient.

PatientName, PatientBirthDate, PatientSex; PatientID with IssuerOfPatientID is the record id.
Patients are counted in the order in which they are first met, files being read by folder and name.
All headers are read before the first record is given, and only patients are kept in memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from linkage.errors import SourceRefused
from sites.quiet_dicom import quiet
from sites.sources.base import BATCH_RECORDS, BadRow, RawBatch
from sites.sources.config import DicomConfig
from sites.sources.dicom_files import Damaged, Header, NotDicom, files_of, read_header

FIELDS = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
_ETHNICITY = ("EthnicGroup", "ethnicity")
_NO_ID, _DAMAGED = "has no PatientID", "is a DICOM file cut short or damaged"


class DicomSource:
    """
    Patients of DICOM files: a `Source`. notes: what was found out and passed over. most_files: how
    many are read, for a first look; None: all.
    """

    unit = "patient"

    def __init__(
        self, config: DicomConfig, fields: tuple[str, ...], extra: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._config = config
        self.most_files: int | None = None
        self.name = config.folder.name
        self.notes: list[str] = []
        self._wanted = {one: one for one in fields}
        if strange := [one for one in fields if one not in FIELDS]:
            raise SourceRefused(
                file=self.name,
                rule=f"a DICOM file has no {', '.join(strange)}",
                hint=f"say so in the site file: [source] lacks = {json.dumps(strange)}; links that"
                " need it are lost",
            )
        for name, given in extra.items():
            if not set(given) & set(_ETHNICITY):
                rule = f"a DICOM file has none of the names given for {name}"
                raise SourceRefused(file=self.name, rule=rule, hint="EthnicGroup is the one it has")
            self._wanted[name] = "ethnicity"

    def batches(self) -> Iterator[RawBatch]:
        """Read all headers once. Raises SourceRefused where there is no DICOM file."""
        patients = _Patients()
        with quiet():
            for path in islice(files_of(self._config.folder, self.name), self.most_files):
                patients.read(path)
        merged = patients.merged()
        self.notes = patients.notes(merged)
        if not patients.known:
            raise SourceRefused(
                file=self.name,
                rule=f"holds no DICOM file: {', '.join(self.notes) or 'it is empty'}",
                hint="name the folder above the files, or a DICOMDIR beside them",
            )
        rest = iter(merged)
        while some := list(islice(rest, BATCH_RECORDS)):
            yield self._batch(some, len(patients.known))

    def _batch(self, some: list[tuple[str, _Patient]], total: int) -> RawBatch:
        good, bad = [], []
        for record_id, patient in some:
            if wrong := patient.fault(record_id):
                bad.append(BadRow(patient.number, *wrong))
            else:
                good.append((record_id, patient))
        return RawBatch(
            record_ids=pa.array([record_id for record_id, _ in good], pa.string()),
            columns={
                name: pa.array([one.value(what) for _, one in good], pa.string())
                for name, what in self._wanted.items()
            },
            numbers=np.array([one.number for _, one in good], dtype=np.int64),
            bad=bad,
            done=some[-1][1].number,
            total=total,
        )


@dataclass(slots=True, eq=False, repr=False)
class _Patient:
    """number: from 1. said: by field, how many files say what."""

    number: int
    files: int = 0
    damaged: bool = False
    said: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, header: Header) -> None:
        self.files += 1
        for name, value in header.values.items():
            if value:
                self.said.setdefault(name, Counter())[value] += 1

    def merge(self, other: _Patient) -> None:
        self.files += other.files
        for name, said in other.said.items():
            self.said.setdefault(name, Counter()).update(said)

    def value(self, name: str) -> str | None:
        """Return what most files say; of equals the first."""
        said = self.said.get(name)
        return said.most_common(1)[0][0] if said else None

    def conflicts(self) -> list[str]:
        return [
            name
            for name, said in self.said.items()
            if name in FIELDS and len({one.casefold() for one in said}) > 1
        ]

    def fault(self, record_id: str) -> tuple[str, str, str] | None:
        """Return field, rule and hint of what makes this no record, None if it is one."""
        files = f"{self.files:,} files" if self.files > 1 else "one file"
        if self.damaged:
            return "", _DAMAGED, f"{files}; copy them again"
        if not record_id:
            return "record_id", _NO_ID, f"{files}; have them sent again with one"
        if {"last_name", "date_of_birth"} <= set(self.conflicts()):
            rule = "differs in last name and birth date between its files"
            return "", rule, f"{files}; two persons under one PatientID?"
        return None


class _Patients:
    """All patients met. known: by issuer and PatientID."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], _Patient] = {}
        self._counts: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        """Add what one file says."""
        try:
            header = read_header(path)
        except NotDicom:
            self._counts["files that are no DICOM, passed over"] += 1
        except FileNotFoundError:
            self._counts["files of the DICOMDIR that are not there"] += 1
        except (Damaged, OSError):
            patient = self._at(("", _DAMAGED))
            patient.files, patient.damaged = patient.files + 1, True
        else:
            self._counts["files with text that is not in their character set"] += header.unclear
            issuer = header.issuer if header.patient_id else ""
            self._at((issuer, header.patient_id)).add(header)

    def _at(self, key: tuple[str, str]) -> _Patient:
        return self.known.setdefault(key, _Patient(len(self.known) + 1))

    def merged(self) -> list[tuple[str, _Patient]]:
        """
        Return each patient with its record id: PatientID, where there are several issuers with the
        issuer, as HL7 writes it: 123^^^ISSUER. A file without one then is an issuer of its own.
        """
        if len({issuer for issuer, _ in self.known if issuer}) > 1:
            return [
                (f"{patient_id}^^^{issuer}" if issuer else patient_id, patient)
                for (issuer, patient_id), patient in self.known.items()
            ]
        made: dict[str, _Patient] = {}
        for (_, patient_id), patient in self.known.items():
            if patient_id in made:
                made[patient_id].merge(patient)
            else:
                made[patient_id] = patient
        return list(made.items())

    def notes(self, merged: list[tuple[str, _Patient]]) -> list[str]:
        notes = [f"{what}: {count:,}" for what, count in sorted(self._counts.items()) if count]
        if len({issuer for issuer, _ in self.known if issuer}) > 1:
            notes.append("several issuers: a record id is PatientID^^^IssuerOfPatientID")
        unlike: Counter[str] = Counter()
        for _, patient in merged:
            unlike.update(patient.conflicts())
        return notes + [
            f"patients whose files differ in {name}, so that the most frequent counts: {count:,}"
            for name, count in sorted(unlike.items())
        ]
