"""
The one door to every kind of source.

    source = open_source(site.source, party.fields)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from linkage.errors import SourceRefused
from sites.sources.base import Source
from sites.sources.config import (
    DelimitedConfig,
    DicomConfig,
    FhirConfig,
    OmopSourceConfig,
    ParquetConfig,
    SourceConfig,
    SqlConfig,
)


class NotedSource(Source, Protocol):
    """A source that says what it found out by itself: `notes`, complete once it is read."""

    notes: list[str]


def open_source(
    config: SourceConfig,
    fields: tuple[str, ...],
    extra: Mapping[str, tuple[str, ...]] | None = None,
) -> NotedSource:
    """
    Return the source that a site file's [source] describes; nothing is read yet.

    fields: the study's fields that its batches shall hold. extra: more columns, by the name that
    they get in the batches, and the names that they may go by in the source.

    Raises SourceRefused for a field that this kind of source can never have.
    """
    wanted = dict(extra or {})
    if isinstance(config, DelimitedConfig):
        from sites.sources.delimited import DelimitedSource

        return DelimitedSource(config, fields, wanted)
    if isinstance(config, ParquetConfig):
        from sites.sources.parquet import ParquetSource

        return ParquetSource(config, fields, wanted)
    if isinstance(config, SqlConfig):
        from sites.sources.sql import SqlSource

        return SqlSource(config, fields, wanted)
    if isinstance(config, FhirConfig):
        from sites.sources.fhir import FhirSource

        return FhirSource(config, fields, wanted)
    if isinstance(config, OmopSourceConfig):
        from sites.sources.omop import OmopSource

        return OmopSource(config, fields, wanted)
    if isinstance(config, DicomConfig):
        from sites.sources.dicom import DicomSource

        return DicomSource(config, fields, wanted)
    if config.kind == "none":
        raise SourceRefused(
            file="the site file",
            rule="it has no [source]",
            hint="describe the file or database with the records; only a commons whose"
            " contributors tokenize has none",
        )
    raise SourceRefused(file="[source]", rule=f"kind {config.kind!r} cannot be read")
