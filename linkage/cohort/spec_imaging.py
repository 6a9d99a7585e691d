"""The imaging half of a cohort specification, which only the imaging commons sees."""

from __future__ import annotations

import difflib
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from linkage.cohort.spec_values import (
    CountRange,
    NameParts,
    NumberRange,
    PositiveRange,
    Texts,
    UpperTexts,
    something,
)
from linkage.strict_toml import Fault, Strict

MODALITIES = frozenset(
    "AR AU BDUS BI BMD CR CT CTPROTOCOL DG DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT "
    "IVUS KER KO LEN LP LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR "
    "PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG "
    "SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC".split()
)
"""Defined terms of Modality (0008,0060), DICOM PS3.3 C.7.3.1.1.1."""


class FeatureCriterion(Strict):
    """
    One [[imaging.features]]: the study has an image feature that meets all of these.

    finding: name or code of what was found ("nodule"), equal, case apart. measurement: name or code
    of what was measured ("diameter"), equal, case apart; value: its number, unit: UCUM, equal.
    algorithm: name of the software or reader that made it contains any of these.
    """

    finding: UpperTexts = ()
    measurement: UpperTexts = ()
    value: NumberRange | None = None
    unit: Texts = ()
    algorithm: NameParts = ()

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise Fault("asks for nothing", "add finding, measurement or algorithm")
        if (self.value or self.unit) and not self.measurement:
            raise Fault("a value or unit needs a measurement", 'add measurement = "Diameter"')
        return self


class ImagingCriteria(Strict):
    """
    The table [imaging]: one series must meet all of these; a subject qualifies with one series.

    modality: any of these DICOM codes. body_part: BodyPartExamined equal to any of these, case
    and outer spaces apart; anatomic_site: the same for the anatomic site. manufacturer,
    manufacturer_model: contains any of these, case apart. collection: equal. contrast: whether a
    contrast agent was given. slice_thickness: mm, kvp: kV. A series without the value does not
    qualify. features: the series' study has them all.
    series_per_study, studies_per_subject: how many such series a study, such studies a subject has.
    study: which of a subject's such studies are meant: any, or the first or last by date.
    any = true: every series, in words, because nothing asked must not mean everything given.
    dates: the dates of the studies are needed too; set by CohortSpec where a criterion of the
    clinical half is in days from the image.
    """

    any: bool = False
    collection: Texts = ()
    modality: UpperTexts = ()
    body_part: UpperTexts = ()
    anatomic_site: UpperTexts = ()
    manufacturer: NameParts = ()
    manufacturer_model: NameParts = ()
    contrast: bool | None = None
    slice_thickness: PositiveRange | None = None
    kvp: PositiveRange | None = None
    features: tuple[FeatureCriterion, ...] = Field(default=(), max_length=20)
    series_per_study: CountRange | None = None
    studies_per_subject: CountRange | None = None
    study: Literal["any", "first", "last"] = "any"
    dates: bool = False

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

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        also = {"any", "study", "dates"}
        asked = self.contrast is not None or any(
            getattr(self, name) for name in type(self).model_fields if name not in also
        )
        keys = "modality, body_part, manufacturer ..."
        something(self.any, asked, "imaging", keys)
        return self
