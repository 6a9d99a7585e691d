"""
A delivered folder, taken up again: what was asked, who is in it, and that nobody changed it.

    cohort = open_saved(Path("delivery"))
    cohort.persons                person_id by cohort ID
    cohort.groups()               by variable, the group of each person
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linkage.errors import DeliveryFaulty, NotFound
from sites.cohort import cdm
from sites.cohort.report_groups import UNKNOWN, coarse_age, ethnicity_group, race_group
from sites.cohort.report_images import NOT_SAID, SEVERAL

REPORT = "report.json"


@dataclass(frozen=True, slots=True, eq=False)
class SavedCohort:
    """A delivered folder. report: what its report.json holds. persons: person_id by cohort ID."""

    folder: Path
    report: Mapping[str, Any]
    persons: Mapping[str, int]

    @property
    def minimum_cell(self) -> int:
        """The smallest count of people that may be read, as the study says."""
        return int(self.report["minimum_cell"])

    def table(self, path: str, columns: list[str] | None = None) -> pa.Table:
        """Return a table of the folder, such as "omop/person"; refused where it was changed."""
        file = self.folder / f"{path}.parquet"
        told = self.report["files"].get(f"{path}.parquet")
        try:
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError:
            raise DeliveryFaulty(table=path, rule="is missing") from None
        if told is None or found != told:
            raise DeliveryFaulty(table=path, rule="is not what was delivered: its digest differs")
        return pq.read_table(file, columns=columns)

    def groups(self) -> dict[str, dict[int, str]]:
        """Return, by variable, the group of each person_id; every person has one of each."""
        person = self.table("omop/person").to_pylist()
        starts = self.table("omop/cohort", ["subject_id", "cohort_start_date"]).to_pylist()
        index = {row["subject_id"]: row["cohort_start_date"] for row in starts}
        images = self.table("omop/image_occurrence", ["image_occurrence_id", "person_id"]).join(
            self.table("side/image_series", ["image_occurrence_id", "modality", "manufacturer"]),
            "image_occurrence_id",
        )
        sexes = {cdm.FEMALE: "female", cdm.MALE: "male"}
        found = {
            "sex": {r["person_id"]: sexes.get(r["gender_concept_id"], UNKNOWN) for r in person},
            "age": {r["person_id"]: _age(r, index.get(r["person_id"])) for r in person},
            "race": {r["person_id"]: race_group(r["race_concept_id"]) for r in person},
            "ethnicity": {
                r["person_id"]: ethnicity_group(r["ethnicity_concept_id"]) for r in person
            },
        }
        for name in ("modality", "manufacturer"):
            said: dict[int, set[str]] = {row["person_id"]: set() for row in person}
            for row in images.select(["person_id", name]).to_pylist():
                if row[name]:
                    said[row["person_id"]].add(" ".join(row[name].upper().split()))
            found[name] = {
                one: next(iter(some)) if len(some) == 1 else SEVERAL if some else NOT_SAID
                for one, some in said.items()
            }
        return found


def open_saved(folder: Path) -> SavedCohort:
    """Open a delivered folder. Raises NotFound, or DeliveryFaulty where it is none or changed."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"{folder} holds no {REPORT}",
            hint="name the folder that `linkage-site join` made",
        ) from None
    except (OSError, ValueError):
        raise DeliveryFaulty(table=REPORT, rule="cannot be read") from None
    needed = ("files", "minimum_cell", "specification", "persons", "version")
    if not isinstance(report, dict) or any(name not in report for name in needed):
        raise DeliveryFaulty(table=REPORT, rule="is not the report of a delivery")
    cohort = SavedCohort(folder, report, {})
    rows = cohort.table("side/cohort_person", ["cohort_id", "person_id"]).to_pylist()
    return SavedCohort(folder, report, {row["cohort_id"]: row["person_id"] for row in rows})


def _age(person: Mapping[str, Any], index: dt.date | None) -> str:
    """Return the age group at the index date by the year of birth; coarse, as in the report."""
    year = person["year_of_birth"]
    return coarse_age(None if index is None or year is None else index.year - year)
