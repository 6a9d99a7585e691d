"""
The cohort specification, `cohort.toml`: what a researcher asks for.

    spec = load_spec(Path("cohort.toml"))
    print(explain(spec))

The two halves travel apart: `spec.imaging` goes to the imaging party only, `spec.clinical` to the
enclave only; stewards approve the hash of the whole. Reference for researchers: docs/cohorts.md.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import rfc8785
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from linkage import strict_toml
from linkage.errors import CohortRefused
from linkage.strict_toml import Fault, Strict
from linkage.study import Identifier

MODALITIES = frozenset(
    "AR AU BDUS BI BMD CR CT CTPROTOCOL DG DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT "
    "IVUS KER KO LEN LP LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR "
    "PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG "
    "SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC".split()
)
"""Defined terms of Modality (0008,0060), DICOM PS3.3 C.7.3.1.1.1."""

Domain = Literal["condition", "procedure", "drug", "measurement", "observation"]
Sex = Literal["female", "male", "unknown"]
LARGEST_CONCEPT = 2**31 - 1
LARGEST_AGE = 130


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


def _texts(value: tuple[str, ...]) -> tuple[str, ...]:
    cleaned = {" ".join(text.split()) for text in value}
    if "" in cleaned:
        raise Fault("holds an empty text", "leave the whole key out to ask for any")
    return tuple(sorted(cleaned))


def _upper(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({text.upper() for text in _texts(value)}))


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list), AfterValidator(_texts)]
UpperTexts = Annotated[tuple[str, ...], BeforeValidator(_as_list), AfterValidator(_upper)]


class CohortHeader(Strict):
    """The table [cohort]. purpose: what the stewards read before they approve."""

    id: Identifier
    title: str = Field(min_length=1, max_length=200)
    purpose: str = Field(min_length=1, max_length=2000)


class NumberRange(Strict):
    """Inclusive bounds; at least one is given."""

    min: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise Fault("has neither min nor max", "give at least one bound")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise Fault("min is above max", "both bounds are inclusive; exchange them")
        return self


class ImagingCriteria(Strict):
    """
    The table [imaging]: one series must meet all of these; a subject qualifies with one series.

    modality: any of these DICOM codes. body_part: BodyPartExamined equal to any of these, case
    and outer spaces apart. manufacturer: contains any of these, case apart. collection: equal.
    slice_thickness: mm, kvp: kV, both inclusive. A series without the value does not qualify.
    any = true: every series, in words, because nothing asked must not mean everything given.
    """

    any: bool = False
    collection: Texts = ()
    modality: UpperTexts = ()
    body_part: UpperTexts = ()
    manufacturer: UpperTexts = ()
    slice_thickness: NumberRange | None = None
    kvp: NumberRange | None = None

    @field_validator("modality")
    @classmethod
    def _dicom_codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for code in value:
            if code not in MODALITIES:
                near = difflib.get_close_matches(code, sorted(MODALITIES), n=3, cutoff=0.4)
                hint = f"did you mean {' or '.join(near)}? " if near else ""
                raise Fault(
                    f"{code!r} is not a DICOM modality",
                    f"{hint}plain X-ray is CR or DX, computed tomography CT, magnetic resonance MR",
                )
        return value

    @field_validator("manufacturer")
    @classmethod
    def _long_enough(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(text) < 2 for text in value):
            raise Fault("a part of a name needs 2 letters or more", "write more of the name")
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        asked = any(getattr(self, name) for name in type(self).model_fields if name != "any")
        _something(self.any, asked, "imaging", "modality, body_part, manufacturer ...")
        return self


def _concepts(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or not all(0 < concept <= LARGEST_CONCEPT for concept in value):
        raise Fault(
            "a concept id is a whole number from 1",
            "0 means 'no matching concept' in OMOP and can't be asked for",
        )
    return tuple(sorted(set(value)))


class ConceptCriterion(Strict):
    """
    One [[clinical.concepts]]: the person has a record in `domain` with any of these concepts.

    descendants: concepts below them in concept_ancestor count too. exclude: the person has none.
    """

    domain: Domain
    concept_id: Annotated[
        tuple[int, ...], BeforeValidator(_as_list), AfterValidator(_concepts), Field(max_length=500)
    ]
    descendants: bool = True
    exclude: bool = False


def _index_or_date(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass  # no such day: falls to the refusal below
    if value == "index" or (isinstance(value, dt.date) and not isinstance(value, dt.datetime)):
        return value
    raise Fault("is neither 'index' nor a date", 'write "index" or 2019-07-01')


class AgeCriterion(Strict):
    """
    The table [clinical.age]: age in completed years, both bounds inclusive, at `at`.

    at = "index": on the index date, the day of the person's earliest record that meets the first
    [[clinical.concepts]] without exclude; or a calendar date, the same for all. A birth date of
    which OMOP holds the year only counts as 1 July, year and month only as the 15th.
    """

    min: int | None = Field(default=None, ge=0, le=LARGEST_AGE)
    max: int | None = Field(default=None, ge=0, le=LARGEST_AGE)
    at: Annotated[Literal["index"] | dt.date, BeforeValidator(_index_or_date)] = "index"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise Fault("min is above max", "both bounds are inclusive; exchange them")
        return self


class ClinicalCriteria(Strict):
    """
    The table [clinical]: a person must meet all of these.

    sex: any of these, from gender_concept_id (8532 female, 8507 male, all else unknown).
    """

    any: bool = False
    concepts: tuple[ConceptCriterion, ...] = Field(default=(), max_length=50)
    age: AgeCriterion | None = None
    sex: Annotated[tuple[Sex, ...], BeforeValidator(_as_list)] = ()

    @field_validator("sex")
    @classmethod
    def _in_order(cls, value: tuple[Sex, ...]) -> tuple[Sex, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        asked = bool(self.concepts or self.sex or self.age)
        _something(self.any, asked, "clinical", "concepts, age or sex")
        if self.age and self.age.at == "index" and self.index_concept is None:
            raise Fault(
                "age at the index date needs a concept that gives that date",
                'add a [[clinical.concepts]] without exclude, or write a date: at = "2019-07-01"',
                *("clinical", "age"),
            )
        return self

    @property
    def index_concept(self) -> ConceptCriterion | None:
        """The concept whose earliest record dates the index; None where nothing does."""
        return next((one for one in self.concepts if not one.exclude), None)

    @property
    def age_at(self) -> Literal["index"] | dt.date | None:
        """When ages are taken: as asked, else at the index date if there is one, else never."""
        if self.age:
            return self.age.at
        return "index" if self.index_concept else None


def _something(any_at_all: bool, asked: bool, table: str, keys: str) -> None:
    if any_at_all and asked:
        raise Fault("any = true contradicts the other criteria", "drop one of them", table, "any")
    if not any_at_all and not asked:
        raise Fault("asks for nothing", f"add {keys}, or say any = true for all of them", table)


class CohortSpec(Strict):
    """A whole cohort specification."""

    cohort: CohortHeader
    imaging: ImagingCriteria
    clinical: ClinicalCriteria

    def canonical(self) -> bytes:
        """Return the canonical JSON, RFC 8785; the order of lists in the file is not in it."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, hex: what the stewards approve."""
        return hashlib.sha256(self.canonical()).hexdigest()


def load_spec(path: Path) -> CohortSpec:
    """Read a cohort specification. Raises CohortRefused with file, line, key and remedy."""
    return strict_toml.load(path, CohortSpec, CohortRefused)


def parse_spec(text: str, *, file: str = "cohort.toml") -> CohortSpec:
    """Read the text of a cohort specification; `file` is only named in errors."""
    return strict_toml.parse(text, CohortSpec, CohortRefused, file=file)


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
            rule=first["msg"],
            hint="both ends must run the same version; ask the researcher to send it again",
        ) from None


def explain(spec: CohortSpec) -> str:
    """Return the specification in words, for the researcher and for stewards; ends in newline."""
    lines = [spec.cohort.title, "", "Images: series that meet all of these"]
    lines += [f"  - {line}" for line in imaging_in_words(spec.imaging)]
    lines += ["Persons: who meet all of these"]
    lines += [f"  - {line}" for line in clinical_in_words(spec.clinical)]
    lines += ["", f"Purpose: {spec.cohort.purpose}", f"Hash: {spec.hash}"]
    return "\n".join(lines) + "\n"


def imaging_in_words(criteria: ImagingCriteria) -> list[str]:
    """Return one phrase a criterion, in the order in which they are applied."""
    if criteria.any:
        return ["any series at all"]
    named = [
        ("collection is", criteria.collection),
        ("modality is", criteria.modality),
        ("body part is", criteria.body_part),
        ("manufacturer contains", criteria.manufacturer),
    ]
    words = [f"{verb} {' or '.join(values)}" for verb, values in named if values]
    ranges = [("slice thickness", criteria.slice_thickness, "mm"), ("kVp", criteria.kvp, "kV")]
    return words + [f"{name} {_between(r.min, r.max)} {unit}" for name, r, unit in ranges if r]


def clinical_in_words(criteria: ClinicalCriteria) -> list[str]:
    """Return one phrase a criterion, in the order in which they are applied."""
    if criteria.any:
        return ["any person at all"]
    words = [concept_in_words(one) for one in criteria.concepts]
    if criteria.age:
        when = "the index date" if criteria.age.at == "index" else str(criteria.age.at)
        words.append(f"age {_between(criteria.age.min, criteria.age.max)} years at {when}")
    return words + ([f"sex is {' or '.join(criteria.sex)}"] if criteria.sex else [])


def concept_in_words(one: ConceptCriterion) -> str:
    """Return, for example, "has a procedure 4163872 or a descendant"."""
    codes = " or ".join(str(concept) for concept in one.concept_id)
    article = "an" if one.domain == "observation" else "a"
    below = " or a descendant" if one.descendants else ""
    return f"{'has no' if one.exclude else f'has {article}'} {one.domain} {codes}{below}"


def _between(low: float | None, high: float | None) -> str:
    if low is not None and low == high:
        return f"{low:g}"
    if low is None:
        return f"at most {high:g}" if high is not None else "of any value"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
