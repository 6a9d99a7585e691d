"""
The site file: where a site's records are, how to read them, where its broker and secrets are.

    site = load_site(Path("site.toml"))

Paths in it are relative to the file itself, so a folder can be copied and still works.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from linkage import strict_toml
from linkage.errors import SiteRefused
from linkage.strict_toml import Fault, Place, Strict
from linkage.study import FIELDS, Identifier
from sites.cohort.config import ImagingConfig, OmopConfig

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_DATE_TOKENS = {"YYYY": "%Y", "MM": "%m", "DD": "%d"}


def _date_format(text: str) -> str:
    made = text
    for token, directive in _DATE_TOKENS.items():
        if text.count(token) != 1:
            raise Fault(
                f"date_format needs {token} exactly once",
                'write it like "MM/DD/YYYY", "YYYY-MM-DD" or "YYYYMMDD"',
            )
        made = made.replace(token, directive)
    return made


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


DateFormat = Annotated[str, AfterValidator(_date_format)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]


class SourceConfig(Strict):
    """
    The table [source]: one delimited file with a header.

    record_id, columns: the header's name, or several it may go by; case, spaces, hyphens and
    underscores do not count. on_bad_row: "refuse" the file, or "quarantine" the row and go on.
    max_invalid: share of a field's values that may be invalid (nulled, counted) before the
    file is refused, because then it is the format that is wrong.
    """

    file: Place
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    record_id: Names
    date_format: DateFormat | None = None
    columns: dict[str, Names]
    on_bad_row: Literal["refuse", "quarantine"] = "refuse"
    max_invalid: float = Field(default=0.10, ge=0, le=1)

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError:
            raise Fault(f"unknown encoding {value!r}", 'try "utf-8" or "windows-1252"') from None

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, value: dict[str, Names]) -> dict[str, Names]:
        for field in value:
            if field not in FIELDS:
                hint = f"known fields: {', '.join(FIELDS)}"
                raise Fault(f"unknown field {field!r}", hint, "source", "columns", field)
        return value

    @model_validator(mode="after")
    def _dates_readable(self) -> SourceConfig:
        if "date_of_birth" in self.columns and self.date_format is None:
            raise Fault(
                "is missing though there is a date_of_birth column",
                'write it like date_format = "MM/DD/YYYY"',
                *("source", "date_format"),
            )
        return self


class BrokerConfig(Strict):
    """The table [broker]. custodian: the custodian's fingerprint as read out by telephone."""

    url: str = Field(pattern=r"^https?://[^\s]+$")
    audience: str = "commons-linkage-broker"
    custodian: str | None = None

    @field_validator("url")
    @classmethod
    def _not_in_the_clear(cls, value: str) -> str:
        if value.startswith("http://") and urlsplit(value).hostname not in _LOOPBACK:
            raise Fault("would send access tokens in the clear", "use https://")
        return value


class SiteConfig(Strict):
    """The whole site file. private: folder of keys, map and packages; only the owner can read."""

    party: Identifier
    private: Place = Field(default=Path("private"), validate_default=True)
    source: SourceConfig
    broker: BrokerConfig | None = None
    imaging: ImagingConfig | None = None
    omop: OmopConfig | None = None


def load_site(path: Path) -> SiteConfig:
    """Read a site file; its paths come back absolute. Raises SiteRefused with line and remedy."""
    return strict_toml.load(path, SiteConfig, SiteRefused)
