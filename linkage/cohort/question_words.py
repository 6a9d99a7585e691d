"""What a question would let leave whom, in words, for whoever has to decide about it."""

from __future__ import annotations

from linkage.cohort.row_tables import ROW_TABLES
from linkage.messages import QuestionState
from linkage.study import StudyConfig


def leaving(one: QuestionState, study: StudyConfig) -> dict[str, str]:
    """Return what would leave whom, for counts and for a delivery: the variables by name."""
    imaging, enclave = study.party_of_kind("imaging"), study.party_of_kind("enclave")
    if imaging is None or enclave is None:
        return {}
    days = "; with the days of their studies" if one.imaging and one.imaging.get("dates") else ""
    rows = {
        "for counts": (
            f"{imaging.id} tells {enclave.id}, sealed, which random question IDs have fitting"
            f" images{days}: {enclave.id} knows its own persons among them, and nobody else"
        ),
        "counts": (
            f"persons, step by step; {study.counts.in_words(study.study.minimum_cell)}; made in"
            f" {enclave.id}, sealed to the researcher and to {imaging.id}"
        ),
    }
    if apart := [p.id for p in (imaging, enclave) if p.sequestered]:
        rows["for a delivery"] = f"nothing: {', '.join(apart)} is sequestered, counts only"
        return rows
    rows["for a delivery"] = (
        f"{imaging.id} sends the rows of all its fitting subjects, each encrypted under its own"
        f" key; {enclave.id} can open those of its own persons alone"
    )
    for table, columns in ROW_TABLES.items():
        rows[f"  {table}"] = ", ".join(columns)
    rows["images"] = {
        "cover": "fetched for all fitting subjects, so that fetching tells nobody who matched",
        "mirror": "read from a copy inside the enclave",
        "disclosed": f"fetched for the matched ones only: {imaging.id} LEARNS WHO MATCHED",
    }[study.study.image_retrieval]
    rows["its report"] = (
        f"a person of {enclave.id} may share numbers about the cohort with the researcher, each"
        " blurred and rounded as the counts are, sealed to the researcher alone"
    )
    rows["afterwards"] = (
        f"a cohort inside {enclave.id}, under new IDs; a revocation or the last day ends its use,"
        " but what somebody has read cannot be recalled"
    )
    return rows
