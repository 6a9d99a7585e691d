"""
The JSON Schema of a cohort specification, for editors and for programs that write one.

Made from the models, so that it can't say other than what is read; `configs/cohort.schema.json` is
its stored copy. What a schema can't say (min above max, an empty half) only `validate` finds.
Source: JSON Schema draft 2020-12.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from linkage.cohort.spec import CohortSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MEANINGS: dict[str, dict[str, str]] = {
    "CohortSpec": {
        "cohort": "What the cohort is called and what it is for.",
        "imaging": "Only the imaging commons sees this half. One series must meet all of it.",
        "clinical": "Only the enclave sees this half. A person must meet all of it.",
    },
    "CohortHeader": {
        "id": "2 to 64 small letters, digits and hyphens.",
        "title": "One line that all parties see.",
        "purpose": "What the stewards read before they decide.",
        "use": "For profit or not: another purpose, which each commons allows or not.",
    },
    "ImagingCriteria": {
        "any": "true: every series. Instead of the other keys.",
        "collection": "The collection or project is any of these.",
        "modality": "Any of these DICOM codes: CT, MR; plain X-ray is CR or DX.",
        "body_part": "BodyPartExamined is any of these; case does not count.",
        "anatomic_site": "The anatomic site is any of these; case does not count.",
        "manufacturer": "The maker's name contains any of these; case does not count.",
        "manufacturer_model": "The model's name contains any of these; case does not count.",
        "contrast": "With (true) or without (false) a contrast agent.",
        "slice_thickness": "In mm.",
        "kvp": "Tube voltage in kV.",
        "features": "The study has an image feature that meets each of these.",
        "series_per_study": "How many fitting series a study has.",
        "studies_per_subject": "How many fitting studies a subject has.",
        "study": "Which of a subject's fitting studies are meant.",
        "dates": "Set by itself where the clinical half counts days from the image.",
    },
    "FeatureCriterion": {
        "finding": "Name or code of what was found, for example nodule.",
        "measurement": "Name or code of what was measured, for example diameter.",
        "value": "The measured number, in `unit`.",
        "unit": "UCUM code, for example mm.",
        "algorithm": "Name of the software or reader contains any of these.",
    },
    "ClinicalCriteria": {
        "any": "true: every person. Instead of the other keys.",
        "concepts": "Records that a person must have, or with exclude must not have.",
        "age": "Age in completed years.",
        "sex": "Any of these, from gender_concept_id.",
        "race": "race_concept_id: 8515 Asian, 8516 Black or African American, 8527 White ...",
        "ethnicity": "ethnicity_concept_id: 38003563 Hispanic or Latino, 38003564 not.",
        "index": "What dates the index event: the first concept's earliest record, or the image.",
    },
    "ConceptCriterion": {
        "domain": "Which OMOP table is searched.",
        "name": "What readers are told that the concepts are; no criterion.",
        "concept_id": "OMOP concepts of which any counts.",
        "concept_set": "Instead: an ATLAS file, 'set.json' or 'definition.json#id', or its items.",
        "descendants": "Concepts below those of concept_id count too. Default: true.",
        "exclude": "true: persons without such a record.",
        "value": "value_as_number; measurement and observation only.",
        "unit": "unit_concept_id is any of these; measurement and observation only.",
        "at_least": "Records on so many different days.",
        "days_from_imaging": "Days from a fitting study to the record; below zero: before it.",
    },
    "ConceptItem": {
        "concept_id": "An OMOP concept.",
        "descendants": "Concepts below it count too. Default: false.",
        "exclude": "true: taken out of the set again.",
    },
    "AgeCriterion": {
        "min": "Years, inclusive.",
        "max": "Years, inclusive.",
        "at": "On the day of the index event, of the first fitting study, or on a date.",
    },
    "NumberRange": {"min": "Inclusive.", "max": "Inclusive."},
    "PositiveRange": {"min": "Inclusive, from 0.", "max": "Inclusive."},
    "CountRange": {"min": "Inclusive, from 1.", "max": "Inclusive."},
    "DayRange": {
        "min": "Earliest day, inclusive: -30 is 30 days before the image.",
        "max": "Latest day, inclusive: 30 is 30 days after the image.",
    },
}
"""What each key means, by model: an editor shows it beside the key."""

_LONE = "collection modality body_part anatomic_site manufacturer manufacturer_model finding"
_LONE += " measurement unit algorithm sex race ethnicity concept_id"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a specification, TOML or JSON alike."""
    made = CohortSpec.model_json_schema()
    models = {"CohortSpec": made, **made["$defs"]}
    for name, model in models.items():
        model.pop("title", None)
        model["description"] = model["description"].strip().splitlines()[0]
        for key, field in model["properties"].items():
            model["properties"][key] = _field(key, field, MEANINGS[name][key])
        if name.endswith("Range"):
            model["minProperties"] = 1
    made["properties"]["$schema"] = {"type": "string"}
    return {"$schema": DIALECT, "title": "Cohort specification", **made}


def schema_text() -> str:
    """Return the schema as it is stored and printed; ends in newline."""
    return json.dumps(schema(), indent=1) + "\n"


def _field(key: str, field: dict[str, Any], meaning: str) -> dict[str, Any]:
    """Return a key's schema as people write it: no null, one value without its brackets."""
    said = {name: value for name, value in field.items() if name != "title"}
    if said.get("default", 0) in (None, []):
        del said["default"]
    kinds = [one for one in said.pop("anyOf", []) if one != {"type": "null"}]
    if len(kinds) == 1:
        said |= kinds[0]
    elif kinds:
        said["anyOf"] = kinds
    if key in _LONE.split() and "items" in said:
        listed = {name: said.pop(name) for name in ("type", "items", "maxItems") if name in said}
        said["anyOf"] = [listed["items"], listed]
    if key == "concept_set":
        listed = {name: said.pop(name) for name in ("type", "items", "maxItems") if name in said}
        said["anyOf"] = [{"type": "string"}, listed]
    return {"description": meaning, **said}


def undescribed(*models: type[BaseModel]) -> list[str]:
    """Return the keys of `models` that MEANINGS lacks, as "Model.key"."""
    return [
        f"{model.__name__}.{key}"
        for model in models
        for key in model.model_fields
        if key not in MEANINGS.get(model.__name__, {})
    ]
