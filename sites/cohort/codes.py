"""
OMOP concepts of what an imaging commons names by DICOM codes and in words.

    book = Codebook(load_concepts(path), source)
    standard, original = book.look_up("feature", codes, names)     int32, 0 where there is none

Rule, in this order: 1. the enclave's own file of concepts, by code, then by name; 2. the enclave's
`concept` table, by code, where the code says its scheme (SCT:39607008, DCM:112039, UCUM:mm); 3. no
concept: 0, as the CDM asks, with the words in the row's *_source_value. Names are never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from linkage import strict_toml
from linkage.errors import SiteRefused
from linkage.strict_toml import Strict
from sites.cohort.omop import OmopSource
from sites.cohort.tables import no_values_in_errors

Kind = Literal["modality", "anatomic_site", "unit", "feature", "finding", "type", "event"]

SCHEMES = {
    "SCT": "SNOMED",
    "SNOMEDCT": "SNOMED",
    "LN": "LOINC",
    "DCM": "DICOM",
    "ICD10": "ICD10",
    "ICD10CM": "ICD10CM",
    "ICD9CM": "ICD9CM",
    "CPT": "CPT4",
    "RADLEX": "RadLex",
}
"""Coding schemes, without space and hyphen, whose vocabulary OMOP calls otherwise. DICOM PS3.16."""


class Concepts(Strict):
    """Codes and names, and their OMOP concepts; see modality_concepts.toml."""

    modality: dict[str, int] = Field(min_length=1)
    anatomic_site: dict[str, int] = Field(default={})
    procedure: dict[str, tuple[int, ...]] = Field(default={})
    unit: dict[str, int] = Field(default={})
    feature: dict[str, int] = Field(default={})
    finding: dict[str, int] = Field(default={})
    event: dict[str, int] = Field(default={})
    type: dict[str, int] = Field(default={})
    episode: int = 0


def load_concepts(path: Path | None = None) -> Concepts:
    """Read the map of concepts, by default the one shipped. Raises SiteRefused."""
    if path is not None:
        return strict_toml.load(path, Concepts, SiteRefused)
    shipped = resources.files("sites.cohort") / "modality_concepts.toml"
    text = shipped.read_text(encoding="utf-8")
    return strict_toml.parse(text, Concepts, SiteRefused, file="modality_concepts.toml")


class Codebook:
    """Looks concepts up; asks the vocabulary once for all codes of a column."""

    def __init__(self, concepts: Concepts, source: OmopSource | None = None) -> None:
        self.concepts = concepts
        self._source = source

    def look_up(
        self, kind: Kind, codes: pa.ChunkedArray, names: pa.ChunkedArray | None = None
    ) -> tuple[pa.Array, pa.Array]:
        """
        Return, by row, the standard concept and the concept of the code itself; 0: none.

        codes: SCHEME:VALUE or a bare code. names: what is looked up in the file where no code is.
        """
        if names is None:
            names = pa.chunked_array([pa.nulls(len(codes), pa.string())])
        first, second = _encoded(codes), _encoded(names)
        span = len(second.dictionary) + 1
        pairs = (_indices(first) + 1) * span + _indices(second) + 1
        distinct, at = np.unique(pairs, return_inverse=True)
        known: dict[str, int] = {
            code.upper(): one for code, one in getattr(self.concepts, kind).items()
        }
        by_code, by_name = ([None, *one.dictionary.to_pylist()] for one in (first, second))
        vocabulary = self._vocabulary(code for code in by_code if code)
        standards, originals = [], []
        for pair in distinct.tolist():
            code, name = by_code[pair // span], by_name[pair % span]
            own = known.get((code or "").upper()) or known.get((name or "").upper())
            standard, original = vocabulary.get(code or "", (0, 0))
            standards.append(own or standard)
            originals.append(original)
        where = pa.array(at.reshape(-1), pa.int64())
        columns = (pa.array(ids, pa.int32()).take(where) for ids in (standards, originals))
        return next(columns), next(columns)

    def _vocabulary(self, codes: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return by SCHEME:VALUE: standard concept, own concept; from the enclave's `concept`."""
        asked = {code: _split(code) for code in codes if ":" in code}
        if not asked or self._source is None or not self._source.has("concept"):
            return {}
        with no_values_in_errors("concept"):
            concept = self._source.table("concept")
            wanted = sorted({value for _, value in asked.values()})
            rows = concept.filter(concept.concept_code.isin(wanted)).to_pyarrow().to_pylist()
        by_code = {
            (_plain(row["vocabulary_id"] or ""), row["concept_code"]): (
                row["concept_id"] if row["standard_concept"] == "S" else 0,
                row["concept_id"],
            )
            for row in sorted(rows, key=lambda row: row["concept_id"], reverse=True)
        }
        return {code: by_code[pair] for code, pair in asked.items() if pair in by_code}


def type_concept(concepts: Concepts, source: str) -> int:
    """Return the *_type_concept_id of rows from `source`; 0 unless the concept file says."""
    return concepts.type.get(source, 0)


def coded(systems: pa.ChunkedArray, codes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return SYSTEM:CODE; the bare code where no system is named; null where no code is."""
    joined = pc.binary_join_element_wise(systems, codes, ":")
    return pc.coalesce(joined, codes)


def ucum(units: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return units as codes: UCUM:mm."""
    return pc.binary_join_element_wise(pa.scalar("UCUM"), units, ":")


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.combine_chunks().dictionary_encode()


def _indices(encoded: pa.DictionaryArray) -> np.ndarray:
    """Return int64 places in the dictionary; -1 for null."""
    places: np.ndarray = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return places.astype(np.int64)


def _split(code: str) -> tuple[str, str]:
    scheme, _, value = code.partition(":")
    plain = _plain(scheme)
    return _plain(SCHEMES.get(plain, plain)), value


def _plain(scheme: str) -> str:
    return scheme.upper().replace("-", "").replace(" ", "")
