"""A cohort specification in words, for the researcher, the stewards and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from linkage.cohort.spec import CohortSpec
from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion, ConceptItem
from linkage.cohort.spec_imaging import FeatureCriterion, ImagingCriteria

LONGEST_SET = 8
"""Concepts of a set that are named one by one."""
KNOWN = {
    8515: "Asian",
    8516: "Black or African American",
    8527: "White",
    8557: "Native Hawaiian or Other Pacific Islander",
    8657: "American Indian or Alaska Native",
    38003563: "Hispanic or Latino",
    38003564: "not Hispanic or Latino",
}
"""Concepts of race and ethnicity, OMOP vocabularies Race and Ethnicity."""


def explain(spec: CohortSpec) -> str:
    """Return the specification in words, for the researcher and for stewards; ends in newline."""
    lines = [spec.cohort.title, "", f"Purpose: {spec.cohort.purpose}", f"Use: {spec.cohort.use}"]
    for party in parties_in_words(spec):
        lines += ["", party.name]
        lines += [f"  {line}" for line in party.says]
        lines += [f"    - {line}" for line in party.asked]
        lines += [f"  {line}" for line in party.gives]
    lines += [
        "",
        f"Fingerprint of this specification: {spec.hash}",
        "The hash that stewards approve is another one: it is salted, and `request` prints it.",
    ]
    return "\n".join(lines) + "\n"


def in_words(spec: CohortSpec) -> dict[str, Any]:
    """Return what `explain` says, for programs."""
    return {
        "id": spec.cohort.id,
        "title": spec.cohort.title,
        "purpose": spec.cohort.purpose,
        "use": spec.cohort.use,
        "specification_fingerprint": spec.hash,
        "imaging": imaging_in_words(spec.imaging),
        "clinical": clinical_in_words(spec.clinical),
        "dates_of_images_needed": spec.imaging.dates,
    }


@dataclass(frozen=True, slots=True)
class PartyWords:
    """What one party of a question is asked, what it gives, and what it never learns."""

    name: str
    says: tuple[str, ...]
    asked: tuple[str, ...]
    gives: tuple[str, ...]


def parties_in_words(spec: CohortSpec) -> list[PartyWords]:
    """Return what is asked of whom, in the order in which the question travels."""
    gives = ["Gives to the enclave, sealed: which subjects fit, how many are left at each step."]
    if spec.imaging.dates:
        gives.append(
            "Also the days of fitting studies, readable for the enclave's own matches only."
        )
    days = ("Days are counted there, from each fitting study.",) if spec.imaging.dates else ()
    return [
        PartyWords(
            "The imaging commons is asked for subjects with one series that meets all of:",
            (),
            tuple(imaging_in_words(spec.imaging)),
            (
                *gives,
                "Never learns: the clinical criteria, or who of its subjects matched or qualified.",
            ),
        ),
        PartyWords(
            "The enclave is asked which of these are its own persons who meet all of:",
            (),
            tuple(clinical_in_words(spec.clinical)),
            (
                *days,
                "Gives to you: counts, small ones hidden, the rest blurred and rounded.",
                "Never learns: who the subjects are that are not its own persons.",
            ),
        ),
        PartyWords(
            "The broker passes the question on and keeps it.",
            ("It sees title, purpose and criteria; it can read no answer and no count.",),
            (),
            (),
        ),
        PartyWords(
            "You get counts, once the imaging commons' steward has agreed.",
            (
                "Rows: only after every steward's approval, inside the enclave, under new IDs.",
                "All parties see title and purpose: write nothing there that they must not know.",
            ),
            (),
            (),
        ),
    ]


def imaging_in_words(criteria: ImagingCriteria) -> list[str]:
    """Return one phrase a criterion, in the order in which they are applied."""
    named = [
        ("collection is", criteria.collection),
        ("modality is", criteria.modality),
        ("body part is", criteria.body_part),
        ("anatomic site is", criteria.anatomic_site),
        ("manufacturer contains", criteria.manufacturer),
        ("model contains", criteria.manufacturer_model),
    ]
    words = [f"{verb} {' or '.join(values)}" for verb, values in named if values]
    ranges = [("slice thickness", criteria.slice_thickness, "mm"), ("kVp", criteria.kvp, "kV")]
    words += [f"{name} {_between(r.min, r.max)} {unit}" for name, r, unit in ranges if r]
    if criteria.contrast is not None:
        words.append(f"{'with' if criteria.contrast else 'without'} contrast agent")
    words += [feature_in_words(one) for one in criteria.features]
    counts = [
        ("series a study", criteria.series_per_study),
        ("studies a subject", criteria.studies_per_subject),
    ]
    words += [f"{name}: {_between(r.min, r.max)}" for name, r in counts if r]
    if criteria.study != "any":
        words.append(f"only the {criteria.study} such study of each subject")
    return words or ["any series at all"]


def feature_in_words(one: FeatureCriterion) -> str:
    """Return, for example, "study has a feature: finding NODULE, DIAMETER at least 6 mm"."""
    said = [f"finding {' or '.join(one.finding)}"] if one.finding else []
    if one.measurement:
        value = f" {_between(one.value.min, one.value.max)}" if one.value else ""
        unit = f" {' or '.join(one.unit)}" if one.unit else ""
        said.append(f"{' or '.join(one.measurement)}{value}{unit}")
    if one.algorithm:
        said.append(f"by {' or '.join(one.algorithm)}")
    return f"study has a feature: {', '.join(said)}"


def clinical_in_words(criteria: ClinicalCriteria) -> list[str]:
    """Return one phrase a criterion, in the order in which they are applied."""
    if criteria.any:
        return ["any person at all"]
    words = [concept_in_words(one) for one in criteria.concepts]
    if criteria.age:
        at = criteria.age.at
        when = {"index": "the index date", "imaging": "the first image"}.get(str(at), str(at))
        words.append(f"age {_between(criteria.age.min, criteria.age.max)} years at {when}")
    if criteria.sex:
        words.append(f"sex is {' or '.join(criteria.sex)}")
    for noun, concepts in (("race", criteria.race), ("ethnicity", criteria.ethnicity)):
        if concepts:
            named = [f"{KNOWN[one]} ({one})" if one in KNOWN else str(one) for one in concepts]
            words.append(f"{noun} concept is {' or '.join(named)}")
    return words


def set_in_words(items: Sequence[ConceptItem]) -> str:
    """Return, for example, "of the set: 5 or a descendant, 7; but not 9"."""
    said = []
    for excluded in (False, True):
        codes = [
            f"{one.concept_id}{' or a descendant' if one.descendants else ''}"
            for one in items
            if one.exclude == excluded
        ]
        if len(codes) > LONGEST_SET:
            more = len(codes) - LONGEST_SET
            codes = [*codes[:LONGEST_SET], f"{more} more"]
        said.append(", ".join(codes))
    included, left_out = said
    return f"of the set: {included}" + (f"; but not {left_out}" if left_out else "")


def concept_in_words(one: ConceptCriterion) -> str:
    """Return, for example, "has a procedure 4163872 or a descendant"."""
    if one.concept_set:
        codes = set_in_words(one.concept_set)
    else:
        codes = " or ".join(str(concept) for concept in one.concept_id) or "of any kind"
        codes += " or a descendant" if one.descendants and one.concept_id else ""
    if one.name:
        codes = f"named {one.name!r} ({codes})"
    article = "an" if one.domain == "observation" else "a"
    said = f"{'has no' if one.exclude else f'has {article}'} {one.domain} {codes}"
    if one.value:
        said += f", value {_between(one.value.min, one.value.max)}"
    if one.unit:
        said += f", unit concept {' or '.join(map(str, one.unit))}"
    if one.at_least > 1:
        said += f", on at least {one.at_least} days"
    if one.days_from_imaging:
        said += f", {days_in_words(one.days_from_imaging.min, one.days_from_imaging.max)}"
    return said


def days_in_words(low: int | None, high: int | None) -> str:
    """Return, for example, "within 30 days of an image that fits"; both bounds inclusive."""
    if low is not None and high is not None:
        if low == -high != 0:
            return f"within {_days(high)} of an image that fits"
        both = _day(low) if low == high else f"from {_day(low)} to {_day(high)}"
        return f"{both} an image that fits"
    if low is not None:
        plain = {0: "on the day of an image that fits, or later", 1: "after an image that fits"}
        return plain.get(low, f"{_day(low)} an image that fits, or later")
    days = 0 if high is None else high
    plain = {0: "on the day of an image that fits, or earlier", -1: "before an image that fits"}
    return plain.get(days, f"{_day(days)} an image that fits, or earlier")


def _day(number: int) -> str:
    if number == 0:
        return "the day of"
    return f"{_days(abs(number))} {'before' if number < 0 else 'after'}"


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


def _between(low: float | None, high: float | None) -> str:
    if low is not None and low == high:
        return f"{low:g}"
    if low is None:
        return f"at most {high:g}" if high is not None else "of any value"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
