"""A form becomes the file that a researcher would write; its mistakes are named like a file's."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from broker.web.concept_help import ConceptHelp
from broker.web.forms import read_form
from broker.web.question_form import KINDS, QuestionForm, checked
from broker.web.question_places import place
from linkage.cohort.spec import CohortSpec, parse_spec

FULL = {
    "title": 'Thin-slice "chest" CT',
    "purpose": "See whether\nit shows.",
    "use": "commercial",
    "modality": "CT, mr",
    "body_part": "chest",
    "manufacturer": "siemens",
    "contrast": "false",
    "thickness_max": "1,5",
    "kvp_min": "150",
    "kvp_max": "150",
    "studies_min": "7",
    "study": "first",
    "feature-0-finding": "nodule",
    "feature-0-measurement": "diameter",
    "feature-0-min": "4",
    "feature-0-unit": "mm",
    "age_min": "40",
    "sex": "female",
    "concept-0-domain": "condition",
    "concept-0-name": "lung cancer",
    "concept-0-ids": "443388 4163872",
    "concept-0-not": "5",
    "concept-0-when": "after",
    "concept-1-domain": "measurement",
    "concept-1-ids": "3016723",
    "concept-1-below": "no",
    "concept-1-min": "0.5",
    "concept-1-unit": "8840",
    "concept-1-least": "2",
    "concept-1-when": "within",
    "concept-1-days": "30",
    "concept-2-has": "no",
    "concept-2-domain": "drug",
    "concept-2-ids": "7",
    "concept-2-when": "before",
    "concept-2-days": "90",
}
WRITTEN = """
[cohort]
id = "thin-slice-chest-ct"
title = 'Thin-slice "chest" CT'
purpose = "See whether it shows."
use = "commercial"
[imaging]
modality = ["CT", "MR"]
body_part = "chest"
manufacturer = "siemens"
contrast = false
slice_thickness = { max = 1.5 }
kvp = { min = 150, max = 150 }
studies_per_subject = { min = 7 }
study = "first"
[[imaging.features]]
finding = "nodule"
measurement = "diameter"
value = { min = 4 }
unit = "mm"
[clinical]
sex = "female"
[clinical.age]
min = 40
at = "imaging"
[[clinical.concepts]]
domain = "condition"
name = "lung cancer"
concept_set = [
  { concept_id = 443388, descendants = true },
  { concept_id = 4163872, descendants = true },
  { concept_id = 5, descendants = true, exclude = true },
]
days_from_imaging = { min = 1 }
[[clinical.concepts]]
domain = "measurement"
concept_id = 3016723
descendants = false
value = { min = 0.5 }
unit = 8840
at_least = 2
days_from_imaging = { min = -30, max = 30 }
[[clinical.concepts]]
domain = "drug"
concept_id = 7
exclude = true
days_from_imaging = { min = -90, max = -1 }
"""


def posted(**fields: str) -> QuestionForm:
    return QuestionForm.of({name: (value,) for name, value in fields.items()})


def asked(form: QuestionForm) -> CohortSpec:
    found = checked(form.toml)
    assert found.faults == ()
    assert found.spec is not None
    return found.spec


def test_a_full_form_is_the_file_that_says_the_same() -> None:
    assert asked(posted(**FULL)) == parse_spec(WRITTEN)


def test_words_say_what_each_party_is_asked() -> None:
    imaging, enclave, *_ = checked(posted(**FULL).toml).parties
    assert "modality is CT or MR" in imaging.asked
    assert any("lung cancer" in line for line in enclave.asked)


def test_anything_at_all_must_be_said() -> None:
    blank = posted(title="All of it", purpose="To see")
    assert [getattr(fault, "key", "") for fault in checked(blank.toml).faults] == [
        "imaging",
        "clinical",
    ]
    spec = asked(posted(title="All of it", purpose="To see", any_image="yes", any_person="yes"))
    assert spec.imaging.any
    assert spec.clinical.any


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("modality", "XR", "is not a DICOM modality"),
        ("concept-1-ids", "C34.1", "is no concept id"),
        ("concept-1-days", "a month", "days_from_imaging"),
        ("kvp_min", "low", "kvp"),
        ("concept-1-least", "0", "at_least"),
    ],
)
def test_what_is_typed_wrong_is_named(field: str, value: str, told: str) -> None:
    faults = checked(posted(**FULL | {field: value}).toml).faults
    assert any(told in str(fault) for fault in faults)
    assert all(fault.hint for fault in faults)


@pytest.mark.parametrize(
    ("field", "value", "label"),
    [
        ("modality", "XRAY", "Modality"),
        ("thickness_min", "thin", "Slice thickness"),
        ("title", "", "Title"),
        ("age_min", "old", "Age"),
        ("feature-2-min", "abc", "Feature 3, value from"),
        ("concept-3-days", "-3", "Criterion 4, days from the image"),
        ("concept-3-ids", "C34.1", "Criterion 4, concept numbers"),
    ],
)
def test_a_mistake_is_named_as_the_form_names_its_field(field: str, value: str, label: str) -> None:
    """Rows that nobody filled are not in the file, and count in the form."""
    written = {"title": "x", "purpose": "y", "modality": "CT", "sex": "F"}
    written |= {"feature-0-finding": "", "feature-1-finding": "a", "feature-2-finding": "nodule"}
    written |= {"concept-0-ids": "", "concept-1-ids": "", "concept-2-ids": "1"}
    written |= {"concept-3-ids": "2", "concept-3-when": "before", "concept-3-domain": "drug"}
    written["concept-2-domain"] = "drug"
    form = posted(**written | {field: value})
    faults = checked(form.toml).faults
    assert label in [place(form, getattr(fault, "key", "")) for fault in faults], faults
    pasted = posted(text="[imaging]")
    assert place(pasted, "imaging.modality") == ""


def test_rows_come_and_go() -> None:
    more = posted(**FULL, act="more-concept")
    assert [row.get("ids") for row in more.rows["concept"]] == [
        "443388 4163872",
        "3016723",
        "7",
        None,
    ]
    less = posted(**FULL, act="drop-concept-1")
    assert [row.get("ids") for row in less.rows["concept"]] == ["443388 4163872", "7"]
    assert asked(more) == asked(posted(**FULL))


def test_as_many_rows_as_a_form_may_have_come_through() -> None:
    """Fifty criteria with each of their fields, and as many features: 850 fields."""
    fields = {
        f"{kind}-{n}-{name}": "1" for kind in KINDS for n in range(50) for name in KINDS[kind]
    }

    async def body() -> Message:
        return {"type": "http.request", "body": urlencode(fields).encode()}

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, body)
    assert len(asyncio.run(read_form(request))) == len(fields) > 800


@pytest.mark.parametrize("typed", ["9" * 5_000, "\N{SUPERSCRIPT TWO}", "12a"])
def test_what_is_no_number_has_no_name(typed: str) -> None:
    assert ConceptHelp(names={12: "x"}).chosen({"ids": typed}) == [(typed, "")]


def test_a_file_counts_instead_of_the_form_and_opens_no_file() -> None:
    assert asked(posted(**FULL, text=WRITTEN.replace("lung cancer", "other"))) != asked(
        posted(**FULL)
    )
    named = WRITTEN.replace("concept_id = 7", 'concept_set = "/etc/passwd"')
    (fault, *_) = checked(named).faults
    assert "send the items, not a file" in fault.hint
    (fault,) = checked("[" * 5000).faults
    assert fault.message


@given(st.dictionaries(st.sampled_from(sorted(FULL)), st.text(max_size=40)))
def test_whatever_is_typed_is_a_file_or_refused_in_words(typed: dict[str, str]) -> None:
    """No text breaks out of its place: what is refused is refused by a rule, never as bad TOML."""
    clean = {name: value.strip() for name, value in typed.items() if "\x00" not in value}
    found = checked(posted(**FULL | clean).toml)
    assert found.spec or found.faults
    assert not any("valid TOML" in str(fault) for fault in found.faults)


def test_every_field_of_a_row_is_known() -> None:
    assert {name.split("-")[2] for name in FULL if "-" in name} <= {
        *KINDS["concept"],
        *KINDS["feature"],
    }
