"""Broken Parquet, FHIR and DICOM: name -> input, the error's message, its hint."""

from __future__ import annotations

from tests.malformed.broken import (
    CANARY,
    GOOD,
    LINE,
    Broken,
    bundle,
    cut_index,
    dicom,
    dicom_file,
    dicom_two,
    dicomdir_of,
    fhir,
    named_parquet,
    one_image,
    packed,
    parquet,
    parquet_folder,
    uneven_parquet,
    without_files,
)

CASES: dict[str, tuple[Broken, str, str]] = {
    "Parquet cut short": (
        parquet(cut=20),
        "people.parquet: is no Parquet file, or is cut short or damaged",
        "copy or export it again; for delimited text drop [source] kind",
    ),
    "CSV called Parquet": (
        named_parquet(GOOD.encode()),
        "people.parquet: is no Parquet file, or is cut short or damaged",
        "copy or export it again; for delimited text drop [source] kind",
    ),
    "Parquet with lists for names": (
        parquet({"last": [["Lovelace"], [CANARY]]}),
        "people.parquet: its column for last_name holds list<element: string>, which is "
        "no identifier",
        "make it text, a number or a date, or name another column",
    ),
    "Parquet with bytes for record ids": (
        parquet({"id": [b"r1", CANARY.encode()]}),
        "people.parquet: its column for record_id holds binary, which is no identifier",
        "make it text, a number or a date, or name another column",
    ),
    "Parquet with fractions for record ids": (
        parquet({"id": [1.5, 2.0]}),
        "people.parquet: holds numbers that are not whole as record ids",
        "write record ids as text",
    ),
    "Parquet without a record id in a row": (
        parquet({"id": ["r1", None]}),
        "people.parquet, row 2, field 'record_id': has no record id",
        "give it one at the source",
    ),
    "Parquet without a column": (
        parquet({"first": None}),
        "people.parquet: has no column for first_name (none has a usual name for it)",
        'write first_name = "..." under [source.columns]; the columns are: id, last, dob',
    ),
    "Parquet whose parts differ": (
        uneven_parquet,
        "people/2.parquet: has no column for last_name (none has a usual name for it)",
        'write last_name = "..." under [source.columns]; the columns are: id, first, dob',
    ),
    "a folder without Parquet": (
        parquet_folder,
        "people: is a folder without a file named *.parquet or *.pq",
        "name the folder that holds them, or one file",
    ),
    "a line of FHIR that is no JSON": (
        fhir(LINE + "\n" + LINE[:-9] + "\n"),
        "Patient.ndjson, line 2: is not complete and valid JSON",
        "line 2 of Patient.ndjson: export it again, or drop the line",
    ),
    "a line of FHIR with a key twice": (
        fhir(LINE[:-1] + ', "id": "r3"}\n'),
        "Patient.ndjson: is no FHIR JSON: it has a key twice in one object",
        "an export broken off? copy or export it again",
    ),
    "a line of FHIR that is a list": (
        fhir(LINE + f'\n["{CANARY}"]\n'),
        "Patient.ndjson, line 2: is no JSON object",
        "line 2 of Patient.ndjson: export it again, or drop the line",
    ),
    "a line of FHIR that nests without end": (
        fhir(LINE + "\n" + '{"name":' * 100_000 + "\n"),
        "Patient.ndjson, line 2: is nested too deeply",
        "line 2 of Patient.ndjson: export it again, or drop the line",
    ),
    "a line of FHIR with half a character": (
        fhir(LINE.replace("Cara", "\\ud800")),
        "Patient.ndjson, line 1: has half a character (a lone surrogate)",
        "line 1 of Patient.ndjson: export it again, or drop the line",
    ),
    "a line of FHIR without end": (
        fhir(LINE + "\n" + '{"id": "' + CANARY * 4_000_000),
        "Patient.ndjson: line 2 is longer than 32 MiB",
        "NDJSON has one resource a line",
    ),
    "a Patient without an id": (
        fhir(LINE.replace('"id"', '"ID"')),
        "Patient.ndjson, line 1, field 'record_id': has no id",
        "give it one at the source",
    ),
    "a Patient without an identifier of that system": (
        fhir(LINE, record_id="identifier:urn:mrn"),
        "Patient.ndjson, line 1, field 'record_id': has no identifier of the system that "
        "the site file names",
        "correct [source] record_id, or use id",
    ),
    "FHIR in XML": (
        fhir(f'<Bundle xmlns="http://hl7.org/fhir"><!-- {CANARY} --></Bundle>'),
        "Patient.ndjson: is an XML file",
        "export it as NDJSON, or as a Bundle in JSON",
    ),
    "wide FHIR": (
        fhir(LINE.encode("utf-16")),
        "Patient.ndjson: is UTF-16",
        "FHIR JSON is UTF-8: save it so",
    ),
    "packed FHIR cut short": (
        fhir(packed(LINE * 1000, cut=12)),
        "Patient.ndjson: is cut short or damaged: it cannot be unpacked to its end",
        "copy or export it again, and compare sizes",
    ),
    "empty FHIR": (
        fhir(""),
        "Patient.ndjson: is empty",
        "export it again, with a header",
    ),
    "CSV called FHIR": (
        fhir(GOOD),
        "Patient.ndjson: is no FHIR JSON",
        "export it as NDJSON, or as a Bundle in JSON",
    ),
    "a Bundle of other resources": (
        fhir(bundle(entry=[{"resource": {"resourceType": "Group", "name": CANARY}}])),
        "Patient.ndjson: holds no Patient: resources other than Patient, passed over: 1",
        "name the file of Patients, often Patient.ndjson",
    ),
    "a Bundle cut short": (
        fhir(bundle().replace("{", "{\n", 1)[:-5]),
        "Patient.ndjson: is no FHIR JSON: it is not complete and valid JSON",
        "an export broken off? copy or export it again",
    ),
    "a Bundle whose entries are no list": (
        fhir(bundle(entry=CANARY)),
        "Patient.ndjson: its entries are no list",
        "export it again",
    ),
    "a Bundle with an entry that only refers": (
        fhir(bundle(entry=[{"fullUrl": CANARY}])),
        "Patient.ndjson, entry 1: has no resource",
        "a Bundle of references is no export",
    ),
    "one page of a search": (
        fhir(bundle(link=[{"relation": "next", "url": CANARY}])),
        "Patient.ndjson: is one page of a search with more pages to follow",
        "fetch all pages, or use a bulk export",
    ),
    "DICOM without PatientID": (
        dicom(PatientID=""),
        "scans, patient 1, field 'record_id': has no PatientID",
        "one file; have them sent again with one",
    ),
    "DICOM cut short": (
        dicom_file(lambda data: data[: data.index(CANARY.encode()) + 20]),
        "scans, patient 1: is a DICOM file cut short or damaged",
        "one file; copy them again",
    ),
    "DICOM of zeros": (
        dicom_file(lambda data: data[:132] + CANARY.encode() + bytes(100_000)),
        "scans, patient 1, field 'record_id': has no PatientID",
        "one file; have them sent again with one",
    ),
    "no DICOM": (
        dicom_file(lambda data: CANARY.encode()),
        "scans: holds no DICOM file: files that are no DICOM, passed over: 1",
        "name the folder above the files, or a DICOMDIR beside them",
    ),
    "two persons under one PatientID": (
        dicom_two(PatientName="Hopper^Grace", PatientBirthDate="19061209"),
        "scans, patient 1: differs in last name and birth date between its files",
        "2 files; two persons under one PatientID?",
    ),
    "one image in place of a folder": (
        one_image,
        "1: is one DICOM file, no DICOMDIR",
        "name the folder above the files, or the DICOMDIR itself",
    ),
    "a DICOMDIR without its files": (
        dicomdir_of(without_files),
        "DICOMDIR: holds no DICOM file: files of the DICOMDIR that are not there: 2",
        "name the folder above the files, or a DICOMDIR beside them",
    ),
    "a DICOMDIR cut short": (
        dicomdir_of(cut_index),
        "DICOMDIR: is a DICOMDIR that names no file; it may be cut short",
        "copy it again, or name the folder",
    ),
}
