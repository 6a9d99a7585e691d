"""
Where in the form of a question a mistake is: its field as the page names it, in place of the key of
a file that nobody wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from broker.web.question_form import QuestionForm

_KEY = re.compile(r"(?P<table>[a-z_.]+?)(?:\[(?P<row>\d+)\])?(?:\.(?P<field>[a-z_.]+))?")
FIELDS: Mapping[str, str] = {
    "cohort.id": "Title",
    "cohort.title": "Title",
    "cohort.purpose": "Purpose",
    "cohort.use": "Use",
    "cohort.expires": "Last day",
    "imaging": "Which images",
    "imaging.any": "Any image at all",
    "imaging.modality": "Modality",
    "imaging.body_part": "Body part",
    "imaging.manufacturer": "Maker",
    "imaging.manufacturer_model": "Model",
    "imaging.collection": "Collection or project",
    "imaging.contrast": "Contrast agent",
    "imaging.slice_thickness": "Slice thickness",
    "imaging.kvp": "Tube voltage",
    "imaging.series_per_study": "Fitting series a study",
    "imaging.studies_per_subject": "Fitting studies a subject",
    "clinical": "Which persons",
    "clinical.any": "Any person at all",
    "clinical.sex": "Sex",
    "clinical.age": "Age",
}
"""By key of the file, or of the table that it is in, the field's label."""

_ROWS = {"imaging.features": ("feature", "Feature"), "clinical.concepts": ("concept", "Criterion")}
_IN_ROWS: Mapping[str, str] = {
    "finding": "finding",
    "measurement": "measurement",
    "algorithm": "software or reader",
    "domain": "kind of record",
    "name": "name",
    "concept_id": "concept numbers",
    "concept_set": "concept numbers",
    "value.min": "value from",
    "value.max": "value to",
    "value": "value",
    "unit": "unit",
    "at_least": "on at least so many days",
    "days_from_imaging": "days from the image",
}


def place(form: QuestionForm, key: str) -> str:
    """Return the label of the field that a key is made of, "" where the form has none."""
    found = _KEY.fullmatch(key)
    if form.text or found is None:
        return ""
    if found["table"] in _ROWS and found["row"]:
        kind, name = _ROWS[found["table"]]
        filled = form.filled(kind)
        number = int(found["row"])
        if not 0 < number <= len(filled):
            return ""
        field = _nearest(_IN_ROWS, found["field"] or "")
        return f"{name} {filled[number - 1] + 1}{', ' if field else ''}{field}"
    return _nearest(FIELDS, key)


def _nearest(labels: Mapping[str, str], key: str) -> str:
    while key and key not in labels:
        key = key.rpartition(".")[0]
    return labels.get(key, "")
