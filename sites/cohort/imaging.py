"""
The imaging party's side: which of its subjects fit, and what is delivered of each.

    answer = evaluate(config, criteria)
    answer.record_ids                 the local record ids that qualify, sorted
    answer.study_days(record_id)      the days of its fitting studies, where they were asked for
    answer.bundle_of(record_id)       its four tables, sites.cohort.bundle.BUNDLE_SCHEMAS
    answer.attrition                  series, studies and subjects after every criterion

Nothing here is told who matched, and nothing clinical ever comes here.

Rule for the record id: the values of `record_id`'s columns joined by "/". In the Imaging Data
Commons PatientID is not unique over collections, so a file in which one record id has two
collections is refused. A study or a series that belongs to two subjects is left out: nobody can
tell whose it is (one StudyInstanceUID of the Imaging Data Commons belongs to two patients).
"""

from __future__ import annotations

from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.errors import SourceRefused
from sites.cohort.bundle import ACQUISITION_SCHEMA
from sites.cohort.config_imaging import ImagingConfig
from sites.cohort.imaging_answer import ImagingAnswer
from sites.cohort.imaging_criteria import asked_columns
from sites.cohort.imaging_evaluation import Evaluation
from sites.cohort.imaging_series import Source
from sites.cohort.imaging_source import open_source
from sites.cohort.tables import connect, no_values_in_errors

__all__ = ["ImagingAnswer", "evaluate"]


def evaluate(config: ImagingConfig, criteria: ImagingCriteria) -> ImagingAnswer:
    """
    Evaluate the imaging half of a cohort specification.

    Raises SourceRefused where the source lacks what a criterion needs, where record ids are not
    unique over collections, and where dates are asked for that are shifted or of unknown frame.
    """
    con = connect()
    with no_values_in_errors(config.place.name):
        source = open_source(con, config)
        _refuse_what_cannot_be_told(source, criteria)
        return Evaluation(source, criteria).answer()


def _refuse_what_cannot_be_told(source: Source, criteria: ImagingCriteria) -> None:
    """Every criterion of the model is evaluated, or refused here by name."""
    frame = source.config.date_frame
    for meaning in asked_columns(criteria):
        if not source.has(meaning):
            raise SourceRefused(
                file=source.name,
                rule=f"has no column for {meaning!r}",
                hint=f"{_remedy(source, meaning)}, or drop that criterion from the cohort",
            )
    if criteria.features and source.features is None:
        raise SourceRefused(
            file=source.name,
            rule="has no image features, which 'features' asks for",
            hint="name a table of them as features in [imaging] of the site file, "
            "or drop that criterion from the cohort",
        )
    if criteria.dates and frame not in ("true", "index"):
        raise SourceRefused(
            file=source.name,
            rule=f"gives dates of frame {frame!r}, and the cohort counts days from the image",
            hint="drop days_from_imaging from the cohort; only if the dates are the true ones, or "
            "days from an index event, say so as date_frame in [imaging] of the site file",
        )
    if criteria.study != "any" and frame == "unknown":
        raise SourceRefused(
            file=source.name,
            rule=f"gives dates of unknown frame, so nobody knows the {criteria.study} study",
            hint="say date_frame in [imaging] of the site file (dates that are shifted by the same "
            "days for all of a subject are in order), or drop study from the cohort",
        )
    dated = "study_day" if frame == "index" else "study_date"
    if (criteria.dates or criteria.study != "any") and dated not in source.columns:
        raise SourceRefused(
            file=source.name,
            rule=f"has no column for {dated!r}, which date_frame {frame!r} needs",
            hint=_remedy(source, dated),
        )


def _remedy(source: Source, meaning: str) -> str:
    if source.config.kind == "series":
        return f"name it in [imaging.columns] of the site file: {meaning} = '...'"
    if meaning in ACQUISITION_SCHEMA.names:
        return (
            "give it for each series_uid in a table, acquisition in [imaging] of the site file"
            " (linkage-site read-dicom makes one of DICOM files)"
        )
    return "export the nodes or tables with it"
