"""FHIR Patients as records: which name counts, what is passed over, how lines are counted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from linkage.errors import SiteRefused, SourceRefused
from linkage.strict_toml import parse
from sites.config import SiteConfig, SourceConfig
from sites.sources import fhir
from sites.sources.base import RawBatch
from sites.sources.opening import open_source

FIELDS = (
    "first_name", "middle_name", "last_name", "date_of_birth", "sex", "ssn", "zip", "phone",
    "email", "street",
)  # fmt: skip
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
ADA: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [
        {"system": "urn:mrn", "value": " M-1 "},
        {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "123-45-6780", "use": "old"},
        {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "123-45-6789"},
    ],
    "name": [
        {"use": "nickname", "given": ["Addie"]},
        {"use": "maiden", "family": "Byron", "given": ["Augusta", "Ada"]},
        {"use": "official", "family": "Byron", "given": ["A"], "period": {"end": "1835-07-08"}},
        {"use": "official", "family": "Lovelace", "given": [" Ada ", "King", "Noel"]},
    ],
    "gender": "female",
    "birthDate": "1815-12-10",
    "telecom": [
        {"system": "phone", "value": "1", "use": "work"},
        {"system": "phone", "value": "2", "use": "home", "rank": 2},
        {"system": "phone", "value": "3", "use": "mobile", "rank": 1},
        {"system": "email", "value": "ada@site.edu"},
        {"system": "fax", "value": "4"},
    ],
    "address": [
        {"use": "old", "line": ["1 Old St"], "postalCode": "00001"},
        {"use": "work", "line": ["2 Work St"], "postalCode": "00002"},
        {"use": "home", "line": ["", "3 Home St", "Apt 4"], "postalCode": "02139", "state": "MA"},
    ],
    "extension": [
        {"url": US_CORE + "birthsex", "valueCode": "M"},
        {
            "url": US_CORE + "race",
            "extension": [
                {"url": "ombCategory", "valueCoding": {"code": "2106-3"}},
                {"url": "text", "valueString": "White"},
            ],
        },
    ],
}
EXPECTED = {
    "first_name": "Ada",
    "middle_name": "King Noel",
    "last_name": "Lovelace",
    "date_of_birth": "1815-12-10",
    "sex": "female",
    "ssn": "123-45-6789",
    "zip": "02139",
    "phone": "3",
    "email": "ada@site.edu",
    "street": "3 Home St",
    "race": "2106-3",
}


def patient(number: int, **changes: object) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": f"p{number}", **changes}


def ndjson(*resources: Mapping[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in resources)


def bundle(*resources: Mapping[str, Any], kind: str = "collection") -> dict[str, Any]:
    entries = [{"resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def opened(path: Path, **changes: object) -> Any:
    config = SourceConfig.model_validate({"kind": "fhir", "file": path, **changes})
    return open_source(config, FIELDS, {"race": ("RACE", "race")})


def read(path: Path, **changes: object) -> list[RawBatch]:
    return list(opened(path, **changes).batches())


def ids(batches: list[RawBatch]) -> list[str]:
    return [one for batch in batches for one in batch.record_ids.to_pylist()]


def test_the_values_in_force_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text(ndjson(ADA), encoding="utf-8")
    [batch] = read(path)
    assert {name: column[0].as_py() for name, column in batch.columns.items()} == EXPECTED
    assert batch.record_ids.to_pylist() == ["p1"]
    assert (batch.done, batch.total) == (path.stat().st_size,) * 2
    assert ids(read(path, record_id="identifier:urn:mrn")) == ["M-1"]


@pytest.mark.parametrize(
    ("change", "column", "expected"),
    [
        ({"name": [{"family": "B", "use": "anonymous"}]}, "last_name", None),
        ({"name": [{"family": "B"}, {"family": "C", "use": "usual"}]}, "last_name", "C"),
        ({"name": [{"family": ["B", "C"]}]}, "last_name", "B C"),
        ({"name": [{"family": "B", "period": {"end": "9999"}}]}, "last_name", "B"),
        ({"name": "B"}, "last_name", None),
        ({"name": [{"text": "A B"}]}, "last_name", None),
        ({"gender": "other"}, "sex", "M"),
        ({"gender": None, "extension": []}, "sex", None),
        ({"gender": "unknown", "extension": []}, "sex", "unknown"),
        ({"birthDate": "1815-12"}, "date_of_birth", None),
        ({"birthDate": "1815"}, "date_of_birth", None),
        ({"birthDate": "1815-13-45"}, "date_of_birth", "1815-13-45"),
        ({"birthDate": 1815}, "date_of_birth", None),
        ({"telecom": [{"system": "sms", "value": "5"}]}, "phone", "5"),
        ({"telecom": [{"system": "phone", "value": "5", "rank": "x"}]}, "phone", "5"),
        ({"identifier": [{"type": {"coding": [{"code": "SS"}]}, "value": "9"}]}, "ssn", "9"),
        ({"address": [{"use": "old", "postalCode": "00001"}]}, "zip", "00001"),
        ({"extension": "x"}, "race", None),
    ],
)
def test_choices(
    tmp_path: Path, change: dict[str, object], column: str, expected: str | None
) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text(ndjson({**ADA, **change}), encoding="utf-8")
    [batch] = read(path)
    assert batch.columns[column].to_pylist() == [expected]


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    path = tmp_path / "everything.ndjson"
    path.write_text(
        ndjson(
            ADA,
            {"resourceType": "Observation", "id": "o1"},
            patient(2, active=False, link=[{"type": "replaced-by", "other": {}}]),
            patient(3, deceasedDateTime="2020-01-01", birthDate="1950"),
        ),
        encoding="utf-8",
    )
    source = opened(path)
    assert ids(list(source.batches())) == ["p1", "p2", "p3"]
    assert source.notes == [
        "Patients marked deceased: 1",
        "Patients marked inactive: 1",
        "Patients replaced by another (link): 1",
        "birth dates without a day, left out: 1",
        "resources other than Patient, passed over: 1",
    ]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "Patient_2.ndjson").write_text(ndjson(patient(3), patient(4)))
    (tmp_path / "Patient_1.ndjson.gz").write_bytes(
        gzip.compress(ndjson(patient(1), patient(2)).encode())
    )
    (tmp_path / "Observation.ndjson").write_text("no JSON at all")
    source = opened(tmp_path)
    [batch] = source.batches()
    assert batch.record_ids.to_pylist() == ["p1", "p2", "p3", "p4"]
    assert batch.numbers.tolist() == [1, 2, 3, 4]
    assert batch.done == batch.total
    assert "files not named Patient, passed over: 1" in source.notes


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("kind", ["searchset", "collection"])
def test_a_bundle_is_read_entry_by_entry(tmp_path: Path, indent: int | None, kind: str) -> None:
    path = tmp_path / "export.json"
    made = bundle(ADA, {"resourceType": "Organization"}, patient(2), kind=kind)
    path.write_text("\ufeff" + json.dumps(made, indent=indent), encoding="utf-8")
    source = opened(path)
    [batch] = source.batches()
    assert source.unit == "entry"
    assert batch.record_ids.to_pylist() == ["p1", "p2"]
    assert batch.numbers.tolist() == [1, 3]
    # Keys in another order, which hides what it is until the end.
    path.write_text(json.dumps(dict(reversed(made.items())), indent=indent))
    assert ids(read(path)) == ["p1", "p2"]


def test_one_patient_over_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "patient.json"
    path.write_text(json.dumps(ADA, indent=2))
    [batch] = read(path)
    assert batch.record_ids.to_pylist() == ["p1"]
    assert batch.numbers.tolist() == [1]


def test_bad_lines_are_left_out_by_number(tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    lines = [
        json.dumps(patient(1)),
        '{"resourceType": "Patient", "id": ',
        "",
        '{"resourceType": "Patient", "id": "p4", "id": "p5"}',
        '["Patient"]',
        '{"resourceType": "Patient", "name": [{"family": "Lovelace"}]}',
        "{" * 100_000,
        '{"resourceType": "Patient", "id": "\\ud800"}',
        '{"resourceType": "Patient", "id": NaN}',
        json.dumps(patient(10)),
    ]
    path.write_text("\n".join(lines))
    [batch] = read(path)
    assert ids([batch]) == ["p1", "p10"]
    assert batch.numbers.tolist() == [1, 10]
    assert [(bad.number, bad.rule) for bad in batch.bad] == [
        (2, "is not complete and valid JSON"),
        (4, "has a key twice in one object"),
        (5, "is no JSON object"),
        (6, "has no id"),
        (7, "is not complete and valid JSON"),
        (8, "has half a character (a lone surrogate)"),
        (9, "is not complete and valid JSON"),
    ]
    assert batch.bad[0].hint.startswith("line 2 of Patient.ndjson")


def test_batches_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "BATCH_RECORDS", 3)
    monkeypatch.setattr("sites.sources.files.CHUNK_BYTES", 50)
    path = tmp_path / "Patient.ndjson"
    path.write_text(ndjson(*(patient(n) for n in range(1, 9))))
    batches = read(path)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert [n for batch in batches for n in batch.numbers.tolist()] == list(range(1, 9))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (ndjson({"resourceType": "Group", "id": "g"}), "holds no Patient: resources other"),
        (
            json.dumps({**bundle(ADA), "link": [{"relation": "next", "url": "x"}]}),
            "more pages to follow",
        ),
        ('{\n"resourceType": "Bundle",\n"entry": [\n', "it is not complete"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: str, rule: str) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text(content)
    with pytest.raises(SourceRefused, match=rule):
        read(path)


def test_a_patient_has_no_such_field(tmp_path: Path) -> None:
    config = SourceConfig.model_validate({"kind": "fhir", "file": tmp_path})
    with pytest.raises(SourceRefused, match="none of the names given for height"):
        open_source(config, FIELDS, {"height": ("cm",)})


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('record_id = "mrn"', "match pattern"),
        ('date_format = "YYYY-MM-DD"', "has no place here"),
        ('delimiter = ","', "not a known key"),
    ],
)
def test_a_bad_table_of_fhir_is_refused_by_line(line: str, rule: str) -> None:
    text = f'party = "alpha"\n[source]\nkind = "fhir"\nfile = "x"\n{line}\n'
    with pytest.raises(SiteRefused, match=rule) as caught:
        parse(text, SiteConfig, SiteRefused, file="site.toml")
    assert caught.value.line == 5
