"""
The table [source] of a site file: one model a kind of source. Light: no engine is loaded here.

    SourceConfig.model_validate({"kind": "parquet", "file": "patients.parquet"})
"""

from __future__ import annotations

import codecs
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from linkage.encoding.date_formats import readable_format, strptime_format
from linkage.strict_toml import Fault, Place, Strict
from linkage.study import FIELDS
from sites.database_url import without_password

if TYPE_CHECKING:
    from linkage.encoding.fields import Reading


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


DateFormat = Annotated[str, AfterValidator(readable_format)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]


class SourceConfig(Strict):
    """
    What every kind of source may say; a table becomes the model of its `kind`.

    date_format: how dates stand there as text ("MM/DD/YYYY", "MM/DD/YY").
    two_digit_years_until: the last year that two digits can mean; none: they are refused.
    phone_region: where a telephone number without a country code is (ISO 3166).
    on_bad_row: "refuse" the source, or "quarantine" the record and go on. max_invalid: share of
    a field's values that may be invalid (nulled, counted) before the source is refused, because
    then it is the format that is wrong. lacks: fields of the party that this source has not, as
    where one of several contributors has no street; they count as missing. subgroups: what the
    profile counts by ("race"), and the column that holds it.
    """

    dates: ClassVar[str] = ""
    """The date format of a kind that has just one, else ""."""

    kind: str = "delimited"
    date_format: DateFormat | None = None
    two_digit_years_until: int | None = Field(default=None, ge=1900, le=2100)
    phone_region: str = Field(default="US", pattern=r"^[A-Z]{2}$")
    on_bad_row: Literal["refuse", "quarantine"] = "refuse"
    max_invalid: float = Field(default=0.10, ge=0, le=1)
    lacks: tuple[str, ...] = ()
    subgroups: dict[str, Names] = Field(default_factory=dict)

    @field_validator("lacks")
    @classmethod
    def _known_lacks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for field in value:
            if field not in FIELDS:
                hint = f"known fields: {', '.join(FIELDS)}"
                raise Fault(f"unknown field {field!r}", hint, "source", "lacks")
        return value

    @classmethod
    def model_for(cls, raw: Any) -> type[SourceConfig]:
        """Return the model of the kind that a table names. Raises Fault for an unknown kind."""
        if cls is not SourceConfig or not isinstance(raw, Mapping):
            return cls
        kind = raw.get("kind", "delimited")
        if kind not in KINDS:
            raise Fault(
                f"there is no kind of source {kind!r}" if isinstance(kind, str) else "is no text",
                f"known kinds: {', '.join(KINDS)}",
                *("source", "kind"),
            )
        return KINDS[kind]

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> SourceConfig:
        model = cls.model_for(value)
        if model is not cls:
            return model.model_validate(value, context=info.context)
        made: SourceConfig = handler(value)
        return made

    @model_validator(mode="after")
    def _readable_dates(self) -> SourceConfig:
        if self.dates and self.date_format and not self._own_dates():
            raise Fault(
                f"has no place here: dates are always {self.dates} in this kind of source",
                "drop the line",
                *("source", "date_format"),
            )
        two_digits = bool(self.date_format) and "YYYY" not in str(self.date_format)
        if two_digits and self.two_digit_years_until is None:
            raise Fault(
                "has a year of two digits, and nothing says the century",
                "export four digits, or add two_digit_years_until = 2026: the last year meant",
                *("source", "date_format"),
            )
        return self

    def _own_dates(self) -> bool:
        """Whether dates come from a column that the site file names, in its own format."""
        return False

    def reading(self, today: dt.date) -> Reading:
        """Return how this source writes its values. A birth date after `today` is invalid."""
        from linkage.encoding.fields import Reading

        tokens = self.date_format or self.dates
        return Reading(
            date_format=strptime_format(tokens) if tokens else None,
            two_digit_years_until=self.two_digit_years_until,
            phone_region=self.phone_region,
            today=today,
        )


class ColumnsConfig(SourceConfig):
    """
    A source with named columns. record_id, columns: the column's name, or several it may go by;
    case, spaces, hyphens and underscores do not count. What is not named is looked for under the
    usual names (sites.sources.names).
    """

    record_id: Names | None = None
    columns: dict[str, Names] = Field(default_factory=dict)

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, value: dict[str, Names]) -> dict[str, Names]:
        for field in value:
            if field not in FIELDS:
                hint = f"known fields: {', '.join(FIELDS)}"
                raise Fault(f"unknown field {field!r}", hint, "source", "columns", field)
        return value


class DelimitedConfig(ColumnsConfig):
    """
    One delimited file with a header, plain or compressed with gzip or zstd.

    delimiter, encoding: found out where not given.
    """

    kind: Literal["delimited"] = "delimited"
    file: Place
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = None

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            "a".encode(value or "utf-8")
            return value and codecs.lookup(value).name
        except LookupError:
            raise Fault(f"unknown encoding {value!r}", 'try "utf-8" or "windows-1252"') from None

    @model_validator(mode="after")
    def _text_has_a_format(self) -> DelimitedConfig:
        if "date_of_birth" in self.columns and self.date_format is None:
            raise Fault(
                "is missing though there is a date_of_birth column",
                'write it like date_format = "MM/DD/YYYY"',
                *("source", "date_format"),
            )
        return self


class ParquetConfig(ColumnsConfig):
    """One Parquet file, or a folder of them. Dates that are dates there need no date_format."""

    kind: Literal["parquet"] = "parquet"
    file: Place


class DatabaseConfig(ColumnsConfig):
    """
    A database, by exactly one of: file (DuckDB or SQLite), url (SQLAlchemy's form, without a
    password), url_file (a file of yours alone that holds the URL), url_env (the name of an
    environment variable that does).
    """

    file: Place | None = None
    url: str | None = Field(default=None, min_length=1)
    url_file: Place | None = None
    url_env: str | None = Field(default=None, min_length=1)

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        return without_password(value)

    @model_validator(mode="after")
    def _one_place(self) -> DatabaseConfig:
        given = [self.file, self.url, self.url_file, self.url_env]
        if sum(one is not None for one in given) != 1:
            raise Fault(
                "needs exactly one of file, url, url_file and url_env",
                'for example url = "postgresql+psycopg://reader@host/database"',
                "source",
            )
        return self


class SqlConfig(DatabaseConfig):
    """The rows of one query. query_file: a file that holds it, for a long one."""

    kind: Literal["sql"] = "sql"
    query: str | None = Field(default=None, min_length=1)
    query_file: Place | None = None

    @model_validator(mode="after")
    def _one_query(self) -> SqlConfig:
        if (self.query is None) == (self.query_file is None):
            raise Fault("needs either query or query_file", 'query = "SELECT ..."', "source")
        return self


class FhirConfig(SourceConfig):
    """
    FHIR R4 Patients: an NDJSON bulk export (file or folder) or Bundles.

    record_id: "id", or "identifier:SYSTEM" for the identifier of that system.
    """

    dates: ClassVar[str] = "YYYY-MM-DD"

    kind: Literal["fhir"] = "fhir"
    file: Place
    record_id: str = Field(default="id", pattern=r"^(id|identifier:\S+)$")


class OmopSourceConfig(DatabaseConfig):
    """
    Persons of an OMOP CDM: `person`, `location`, and pii_table, which has the names that the CDM
    leaves out, by person_id. columns: where a field is, in any of the three.
    """

    dates: ClassVar[str] = "YYYY-MM-DD"

    kind: Literal["omop"] = "omop"
    db_schema: str | None = Field(default=None, alias="schema", min_length=1)
    pii_table: str | None = Field(default=None, min_length=1)

    def _own_dates(self) -> bool:
        return "date_of_birth" in self.columns


class DicomConfig(SourceConfig):
    """Patients of DICOM files: the folder above them, or a DICOMDIR."""

    dates: ClassVar[str] = "YYYYMMDD"

    kind: Literal["dicom"] = "dicom"
    folder: Place


KINDS: dict[str, type[SourceConfig]] = {
    "delimited": DelimitedConfig,
    "parquet": ParquetConfig,
    "sql": SqlConfig,
    "fhir": FhirConfig,
    "omop": OmopSourceConfig,
    "dicom": DicomConfig,
}
