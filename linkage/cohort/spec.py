"""
The cohort specification, `cohort.toml` or `cohort.json`: what a researcher asks for.

    spec = load_spec(Path("cohort.toml"))
    print(explain(spec))                     linkage.cohort.spec_words

The two halves travel apart: `spec.imaging` goes to the imaging party only, `spec.clinical` to the
enclave only. Reference for researchers: docs/cohorts.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import rfc8785
from pydantic import Field, ValidationError, model_validator

from linkage import strict_toml
from linkage.cohort import spec_json
from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.errors import CohortRefused
from linkage.strict_toml import Strict
from linkage.study import Identifier
from linkage.uses import NON_COMMERCIAL, Use


class CohortHeader(Strict):
    """
    The table [cohort]. purpose: what the stewards read before they approve. use: for profit or not;
    two different purposes.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        "id": 'write a short name of your own: id = "lung-ct"',
        "title": "write one line that tells the stewards what this is about",
        "purpose": "write what you want to find out: stewards read it before they approve",
        "name": "write id, a short name in small letters, and title, a line for readers",
    }

    id: Identifier
    title: str = Field(min_length=1, max_length=200)
    purpose: str = Field(min_length=1, max_length=2000)
    use: Use = NON_COMMERCIAL


class CohortSpec(Strict):
    """A whole cohort specification."""

    remedies: ClassVar[Mapping[str, str]] = {
        "cohort": "write [cohort] with id, title and purpose; docs/specification.md has examples",
        "imaging": "write [imaging] and its criteria; any = true below it asks for any images",
        "clinical": "write [clinical] and its criteria; any = true below it asks for everybody",
    }

    cohort: CohortHeader
    imaging: ImagingCriteria
    clinical: ClinicalCriteria

    @model_validator(mode="after")
    def _dates_where_needed(self) -> Self:
        """Ask the imaging commons for dates exactly where the clinical half counts from them."""
        dates = self.clinical.needs_imaging_dates
        if self.imaging.dates == dates:
            return self
        # Frozen models are for their users; this one is still being made.
        object.__setattr__(self, "imaging", self.imaging.model_copy(update={"dates": dates}))
        return self

    def canonical(self) -> bytes:
        """Return the canonical JSON, RFC 8785; the order of lists in the file is not in it."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @property
    def hash(self) -> str:
        """
        SHA-256 of the canonical JSON, hex: tells two files with one content. Stewards approve
        another one, salted and with run, last day and reading key in it: linkage.commitments.
        """
        return hashlib.sha256(self.canonical()).hexdigest()


def load_spec(path: Path) -> CohortSpec:
    """
    Read a cohort specification: JSON where the name ends so, else TOML.

    Concept-set files that it names are read too, from its own folder on. Raises CohortRefused with
    file, line, key and remedy; its `others` are the further faults.
    """
    text = strict_toml.text_of(path, CohortRefused)
    return parse_spec(text, file=str(path), base=path.parent.resolve())


def parse_spec(text: str, *, file: str = "cohort.toml", base: Path | None = Path()) -> CohortSpec:
    """Read the text of a specification; base: where the paths in it start, None: it has none."""
    read = spec_json.parse if file.lower().endswith(".json") else strict_toml.parse
    return read(text, CohortSpec, CohortRefused, file=file, base=base)


C = TypeVar("C", bound=Strict)


def imaging_criteria(content: Mapping[str, Any]) -> ImagingCriteria:
    """Read `spec.imaging` as it came over the wire. Raises CohortRefused."""
    return _from_wire(content, ImagingCriteria, "imaging")


def clinical_criteria(content: Mapping[str, Any]) -> ClinicalCriteria:
    """Read `spec.clinical` as it came over the wire. Raises CohortRefused."""
    return _from_wire(content, ClinicalCriteria, "clinical")


def _from_wire(content: Mapping[str, Any], model: type[C], table: str) -> C:
    try:
        return model.model_validate(dict(content))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        raise CohortRefused(
            file=f"the question's {table} part",
            line=0,
            key=".".join(str(part) for part in first["loc"]),
            # A broken rule of our own has its words; pydantic puts "Value error" before them.
            rule=str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"],
            hint="both ends must run the same version; ask the researcher to send it again",
        ) from None
