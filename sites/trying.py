"""
Try a specification on a site's own data, without a question: for the eyes of this site alone.

    for half in try_spec(spec, site, minimum=11):
        half.steps        [("modality is CT", 412), ...], suppressed below the minimum

All of the site's own subjects or persons, linked or not; the other half is not looked at. Nothing
is sent and nobody is asked. What is shown is neither blurred nor counted in any ledger, unlike the
answers to questions: two such tables can be subtracted, so they are not for others.
"""

from __future__ import annotations

from dataclasses import dataclass

from linkage.cohort.spec import CohortSpec
from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.errors import SiteRefused
from linkage.study_parts import MINIMUM_CELL
from sites.cohort.attrition import Attrition
from sites.cohort.clinical import evaluate as evaluate_clinical
from sites.cohort.disclosure import CellRule, Shown
from sites.cohort.imaging import evaluate as evaluate_imaging
from sites.cohort.omop import OmopSource
from sites.config import SiteConfig
from sites.session import trusted_study
from sites.vault import Vault

NOBODY = "nobody meets all of it: are the ids and words those of your own data?"


@dataclass(frozen=True, slots=True)
class TriedHalf:
    """
    One half on the site's own data. side: "imaging" or "clinical". steps: label and how many are
    left, as may be read. notes: what was odd, and what could not be tried here.
    """

    side: str
    steps: tuple[tuple[str, Shown], ...]
    notes: tuple[str, ...]


def minimum_of(site: SiteConfig) -> int:
    """Return the minimum cell of the signed study here, the smallest there is where none is."""
    if not Vault(site.private, site.keys).signed_study_file.exists():
        return MINIMUM_CELL
    return trusted_study(site, expired_too=True)[1].study.study.minimum_cell


def try_spec(spec: CohortSpec, site: SiteConfig, *, minimum: int) -> list[TriedHalf]:
    """
    Evaluate what the site file has data for, each half by itself.

    minimum: fewer subjects than that are not shown. Raises SiteRefused at a site with neither
    [imaging] nor [omop], SourceRefused where a criterion cannot be evaluated on the site's data.
    """
    found = []
    if site.imaging is not None:
        answer = evaluate_imaging(site.imaging, spec.imaging)
        found.append(_shown("imaging", answer.attrition, (), minimum))
    if site.omop is not None:
        criteria, notes = without_images(spec.clinical)
        with OmopSource.open(site.omop) as source:
            result = evaluate_clinical(criteria, source)
            notes += tuple(source.notes)
        found.append(_shown("clinical", result.attrition, notes, minimum))
    if not found:
        raise SiteRefused(
            file="site file",
            line=0,
            key="imaging",
            rule="has neither [imaging] nor [omop], so there is nothing to try on",
            hint="an imaging commons writes [imaging], the enclave [omop]",
        )
    return found


def without_images(asked: ClinicalCriteria) -> tuple[ClinicalCriteria, tuple[str, ...]]:
    """Return the criteria without what counts from an image, which is elsewhere, and notes."""
    if not asked.needs_imaging_dates:
        return asked, ()
    changed = asked.model_dump()
    notes = []
    if any(one.days_from_imaging for one in asked.concepts):
        changed["concepts"] = [one | {"days_from_imaging": None} for one in changed["concepts"]]
        notes.append("days from the image were not counted: the images are not here")
    if asked.age is not None and (asked.age.at == "imaging" or asked.index == "imaging"):
        changed["age"] = None
        notes.append("age was not asked: it is taken on the day of an image")
    changed["index"] = "concept"
    left = ("concepts", "age", "sex", "race", "ethnicity")
    changed["any"] = not any(changed[name] for name in left)
    return ClinicalCriteria.model_validate(changed), tuple(notes)


def _shown(side: str, attrition: Attrition, notes: tuple[str, ...], minimum: int) -> TriedHalf:
    counts = [step.subjects for step in attrition.steps]
    shown = CellRule(minimum).show_steps(counts)
    # Notes of the imaging side count series and studies, of few subjects perhaps: words only.
    said = attrition.notes if side == "clinical" else _without_counts(attrition.notes)
    more = (NOBODY,) if counts and not counts[-1] else ()
    labels = (step.label for step in attrition.steps)
    steps = tuple(zip(labels, shown, strict=True))
    return TriedHalf(side, steps, (*notes, *said, *more))


def _without_counts(notes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"some {note.partition(' ')[2]}" if note[:1].isdigit() else note for note in notes)
