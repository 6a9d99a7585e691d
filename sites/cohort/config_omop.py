"""
Where the enclave's OMOP tables are: the table [omop] of the site file.

Light on purpose: a site that only tokenizes reads this without DuckDB or Ibis.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from linkage.cohort.spec_clinical import ConceptCriterion
from linkage.strict_toml import Fault, Place, Strict
from sites.cohort.notices import UseNotice
from sites.database_url import without_password

IndexEvents = dict[str, ConceptCriterion]


LICENSED = (
    *("CPT4", "CDT", "MedDRA", "SMQ", "GPI", "GCN_SEQNO", "ETC", "Indication", "Multum"),
    *("CAP", "COSMIC", "CO-CONNECT", "CO-CONNECT MIABIS", "CO-CONNECT TWINS"),
    *("Multilex", "EphMRA ATC", "NFC", "AMIS", "GRR", "DA_France", "LPD_Australia", "LPD_Belgium"),
)
"""
Vocabularies that Athena gives out only to who shows a licence of their owner, or agrees to one
("License required", "EULA required"): whoever has one may use the names, and seldom pass them on.
"""


class OmopConfig(Strict):
    """
    The table [omop]: OMOP CDM tables, 5.3 or 5.4, in one of three kinds of place.

    path: a folder (a .parquet, .csv or .csv.gz, or a folder of Parquet parts, a table) or one
    DuckDB file. url, url_file, url_env: a PostgreSQL database instead, by a URL in the site file
    (without a password), alone in a file of yours, or in an environment variable. spark: master or
    "sc://" address of a Spark that reads `path`, or without path the tables of its catalog.
    db_schema: the schema of the tables; without it "main" in DuckDB, "public" in PostgreSQL,
    "default" in Spark. vocabulary_schema: where concept and concept_ancestor lie elsewhere.

    record_id: which column of `person` holds the record ids of the site's identifier file.
    date_frame: what the dates are; only "true" ones can be compared with an imaging commons' true
    dates. index_events: by the name that a commons gives an index event, the criterion whose first
    record dates it. birth: how much of the birth date a delivery holds. mirror_root: folder or
    bucket of the enclave's own copy of the images, for studies with image_retrieval = "mirror".
    not_offered: vocabularies (vocabulary_id) whose names this site may not pass on, left out of the
    list of concepts that it offers to researchers, besides LICENSED. licensed: of those, the ones
    for which every reader of the study has a licence, so that they are offered.
    concepts: file of DICOM codes and OMOP concepts, in place of
    sites/cohort/modality_concepts.toml. use: how to thank this commons and for what its data may
    be used. reference: file of the population that cohort reports compare with, in place of
    configs/reference/us-census-2020.toml.
    """

    path: Place | None = None
    url: str | None = Field(default=None, min_length=1)
    url_file: Place | None = None
    url_env: str | None = Field(default=None, min_length=1)
    spark: str | None = Field(default=None, min_length=1)
    db_schema: str | None = Field(default=None, min_length=1)
    vocabulary_schema: str | None = Field(default=None, min_length=1)
    record_id: Literal["person_id", "person_source_value"] = "person_id"
    date_frame: Literal["true", "shifted", "unknown"] = "true"
    index_events: IndexEvents = Field(default={}, max_length=100)
    birth: Literal["year", "date"] = "year"
    not_offered: tuple[str, ...] = Field(default=(), max_length=200)
    licensed: tuple[str, ...] = Field(default=(), max_length=200)
    mirror_root: str | None = None
    concepts: Place | None = None
    use: UseNotice | None = None
    reference: Place | None = None

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        return without_password(value)

    @field_validator("index_events")
    @classmethod
    def _date_something(cls, value: IndexEvents) -> IndexEvents:
        for name, one in value.items():
            if one.exclude or one.days_from_imaging or one.at_least > 1:
                raise Fault(
                    f"{name!r} must be a record that dates an event",
                    "leave out exclude, at_least and days_from_imaging",
                )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        urls = [one for one in (self.url, self.url_file, self.url_env) if one is not None]
        if len(urls) > 1 or (urls and (self.path or self.spark)):
            raise Fault("names several places", "keep one of path, url, url_file, url_env", "omop")
        if not urls and not self.path and not self.spark:
            raise Fault(
                "names no place",
                'write path = "omop", url_env = "OMOP_URL" for PostgreSQL, or spark = "local[*]"',
                "omop",
            )
        return self

    @property
    def barred(self) -> frozenset[str]:
        """Vocabularies that are not offered, in small letters."""
        out = frozenset(name.lower() for name in LICENSED)
        out -= {name.lower() for name in self.licensed}
        return out | {name.lower() for name in self.not_offered}

    @property
    def place(self) -> str:
        """What errors call the source: no URL, no path above it."""
        return self.path.name if self.path else "the catalog of Spark" if self.spark else "database"
