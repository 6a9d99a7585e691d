"""
Identifiers from FHIR R4 Patients: NDJSON of a bulk export (FHIR Bulk Data Access, any number of
files), or Bundles. https://hl7.org/fhir/R4/patient.html

Of several names, addresses and numbers the one in force is taken (sites.sources.fhir_patient).
Lines, or entries of a Bundle, are counted through all files in the order of their names.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from linkage.errors import SourceRefused
from sites.sources.base import BATCH_RECORDS, BadRow, RawBatch
from sites.sources.config import FhirConfig
from sites.sources.fhir_patient import FIELDS, SUBGROUPS, PatientReader
from sites.sources.files import ByteFile, files_in

_ENDINGS = (".ndjson", ".json", ".jsonl", ".gz", ".zst")
_LONGEST_LINE = 32 << 20
"""Bytes of one resource; a Patient with a photograph has some hundred thousand."""
_LARGEST_BUNDLE = 256 << 20
"""A Bundle is one JSON text, so it is read whole; a larger export is NDJSON."""

_BUNDLE = re.compile(rb'"resourceType"\s*:\s*"Bundle"')
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

Resource = tuple[int, dict[str, Any] | BadRow]


class FhirSource:
    """Patients of FHIR files: a `Source`. notes: what was passed over, and how often."""

    def __init__(
        self, config: FhirConfig, fields: tuple[str, ...], extra: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._config, self.unit = config, "line"
        self.name = config.file.name
        self.notes: list[str] = []
        self._wanted = {**{one: one for one in fields}, **_subgroups(self.name, extra)}
        if strange := [one for one in fields if one not in FIELDS]:
            raise SourceRefused(
                file=self.name,
                rule=f"a FHIR Patient has no {', '.join(strange)}",
                hint="ask for a study file that does not want it of this party",
            )

    def batches(self) -> Iterator[RawBatch]:
        """Read all files once. Raises SourceRefused for what is no FHIR JSON."""
        self.notes, counts, met = [], Counter[str](), False
        paths = self._paths()
        reader = PatientReader(self._config.record_id, self._wanted, counts)
        total = sum(path.stat().st_size for path in paths)
        self._read = self._number = 0
        resources = (one for path in paths for one in self._resources(path))
        more = True
        while more:
            # One resource at a time: parsed, they take several times the room of their text.
            batch, more = _batch(islice(resources, BATCH_RECORDS), reader, self._wanted, counts)
            met = met or bool(len(batch) or batch.bad)
            if more:
                yield replace(batch, done=self._read, total=total)
        self.notes += [f"{what}: {count:,}" for what, count in sorted(counts.items())]
        if not met:
            raise SourceRefused(
                file=self.name,
                rule=f"holds no Patient: {', '.join(self.notes) or 'it is empty'}",
                hint="name the file of Patients, often Patient.ndjson",
            )

    def _paths(self) -> list[Path]:
        paths = files_in(self._config.file, _ENDINGS)
        patients = [path for path in paths if path.name.lower().startswith("patient")]
        if patients and len(patients) < len(paths):
            self.notes.append(f"files not named Patient, passed over: {len(paths) - len(patients)}")
        return patients or paths

    def _resources(self, path: Path) -> Iterator[Resource]:
        """Yield the resources of a file, each with its number."""
        name = self.name if path == self._config.file else f"{self.name}/{path.name}"
        read, before = self._read, self._number
        with ByteFile(path, name) as file:
            for line, text in _texts(file, name):
                found = _parsed(text)
                self._read = read + file.done
                if isinstance(found, dict) and found.get("resourceType") == "Bundle":
                    yield from self._entries(name, found)
                    before = self._number - line  # lines after it are counted on from here
                    continue
                self._number = before + max(line, 1)
                if isinstance(found, dict):
                    yield self._number, found
                elif line:
                    hint = f"line {line} of {name}: export it again, or drop the line"
                    yield self._number, BadRow(self._number, "", found, hint)
                else:
                    hint = "an export broken off? copy or export it again"
                    raise SourceRefused(file=name, rule=f"is no FHIR JSON: it {found}", hint=hint)

    def _entries(self, name: str, bundle: dict[str, Any]) -> Iterator[Resource]:
        self.unit = "entry"
        entries = bundle.get("entry", [])
        links = bundle.get("link", [])
        if isinstance(links, list) and any(
            isinstance(link, dict) and link.get("relation") == "next" for link in links
        ):
            raise SourceRefused(
                file=name,
                rule="is one page of a search with more pages to follow",
                hint="fetch all pages, or use a bulk export",
            )
        if not isinstance(entries, list):
            raise SourceRefused(file=name, rule="its entries are no list", hint="export it again")
        for entry in entries:
            self._number += 1
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if isinstance(resource, dict):
                yield self._number, resource
            else:
                rule, hint = "has no resource", "a Bundle of references is no export"
                yield self._number, BadRow(self._number, "", rule, hint)


def _batch(
    resources: Iterator[Resource],
    reader: PatientReader,
    wanted: Mapping[str, str],
    counts: Counter[str],
) -> tuple[RawBatch, bool]:
    """Return the records of `resources`, and whether there was any resource at all."""
    ids: list[str] = []
    numbers: list[int] = []
    columns: dict[str, list[str | None]] = {name: [] for name in wanted}
    bad: list[BadRow] = []
    any_at_all = False
    for number, resource in resources:
        any_at_all = True
        if isinstance(resource, BadRow):
            bad.append(resource)
            continue
        kind = resource.get("resourceType")
        if kind != "Patient":
            counts["resources other than Patient, passed over"] += 1
            continue
        record_id, values = reader.read(resource)
        if not record_id:
            bad.append(BadRow(number, "record_id", *reader.no_id))
            continue
        ids.append(record_id)
        numbers.append(number)
        for name, value in zip(wanted, values, strict=True):
            columns[name].append(value)
    batch = RawBatch(
        record_ids=pa.array(ids, pa.string()),
        columns={name: pa.array(values, pa.string()) for name, values in columns.items()},
        numbers=np.asarray(numbers, dtype=np.int64),
        bad=bad,
    )
    return batch, any_at_all


def _subgroups(source: str, extra: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    found = {}
    for name, given in extra.items():
        known = [one for one in given if one in SUBGROUPS]
        if not known:
            raise SourceRefused(
                file=source,
                rule=f"a FHIR Patient has none of the names given for {name}",
                hint=f"under [source.subgroups] use one of {', '.join(SUBGROUPS)}",
            )
        found[name] = known[0]
    return found


def _texts(file: ByteFile, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the JSON texts of a file: its lines, from 1, or the whole of it as 0."""
    start = file.start().removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start[:4]:
        raise SourceRefused(file=name, rule="is UTF-16", hint="FHIR JSON is UTF-8: save it so")
    if not start.startswith(b"{"):
        xml = "an XML file" if start.startswith(b"<") else "no FHIR JSON"
        hint = "export it as NDJSON, or as a Bundle in JSON"
        raise SourceRefused(file=name, rule=f"is {xml}", hint=hint)
    if _is_one_text(start):
        yield 0, _whole(file, name)
        return
    number, rest = 0, b""
    while piece := file.next():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > _LONGEST_LINE:
            raise SourceRefused(
                file=name,
                rule=f"line {number + 1} is longer than 32 MiB",
                hint="NDJSON has one resource a line",
            )
    if rest.strip():
        yield number + 1, rest


def _is_one_text(start: bytes) -> bool:
    """Whether a file is one JSON text over several lines, or a Bundle, rather than NDJSON."""
    first, line_end, rest = start.partition(b"\n")
    if line_end and isinstance(_parsed(first), dict):
        return False
    if _BUNDLE.search(start[:4096]):
        return True
    return bool(line_end) and not rest.lstrip().startswith(b"{")


def _whole(file: ByteFile, name: str) -> bytes:
    text = bytearray()
    while piece := file.next():
        text += piece
        if len(text) > _LARGEST_BUNDLE:
            rule = "is larger than a Bundle may be, 256 MiB"
            raise SourceRefused(file=name, rule=rule, hint="export it as NDJSON")
    return bytes(text)


def _parsed(text: bytes) -> dict[str, Any] | str:
    """Return the JSON object, or what is wrong with it."""
    try:
        found = json.loads(
            text.removeprefix(codecs.BOM_UTF8), object_pairs_hook=_once, parse_constant=_no_number
        )
    except _Twice:
        return "has a key twice in one object"
    except RecursionError:
        return "is nested too deeply"
    except UnicodeDecodeError:
        return "is not UTF-8"
    except ValueError:
        return "is not complete and valid JSON"
    if _HALF.search(text) and not _encodable(found):
        return "has half a character (a lone surrogate)"
    return found if isinstance(found, dict) else "is no JSON object"


def _encodable(found: Any) -> bool:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Twice(ValueError):
    """An object names a key twice; which one counts would be chance."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Twice
    return made


def _no_number(text: str) -> None:
    raise ValueError
