"""
The one door to every kind of source.

    source = open_source(site.source, party.fields)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol

import pyarrow as pa

from linkage.errors import SourceRefused
from sites.sources.base import RawBatch, Source
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

    @property
    def notes(self) -> list[str]: ...


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
    if lacking := [field for field in fields if field in config.lacks]:
        held = tuple(field for field in fields if field not in lacking)
        return _Lacking(open_source(config, held, extra), lacking)
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


class _Lacking:
    """A source without some fields, which are missing in every record of it."""

    def __init__(self, source: NotedSource, lacking: list[str]) -> None:
        self._source, self._lacking = source, lacking
        self.name, self.unit = source.name, source.unit

    @property
    def notes(self) -> list[str]:
        return [*self._source.notes, f"without {', '.join(self._lacking)}, as [source] lacks says"]

    def batches(self) -> Iterator[RawBatch]:
        for batch in self._source.batches():
            nothing = {field: pa.nulls(len(batch), pa.string()) for field in self._lacking}
            yield dataclasses.replace(batch, columns={**batch.columns, **nothing})
