"""
From a source of identifiers to a sealed package: the only place where PII meets a key.

    read -> normalise -> encode -> order by pseudonym -> cut -> seal -> sign -> one rename

A package folder is complete or absent. Its parts are sealed once and kept, so that an
interrupted upload goes on with the very same bytes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from linkage.encoding.encoder import Encoded, encode_records
from linkage.encoding.fields import NORMALISATION_VERSION, normalise
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import COLLISION_ROUNDING
from linkage.errors import Conflict, EncodingRefused, KeyRefused, PackageRefused, SourceRefused
from linkage.messages import BROKER, DATASET_PART, PART_BYTES, Manifest, Part
from linkage.records import EncodedRecords, FixedColumn, to_arrow
from linkage.sealing import Context, Identity, seal
from linkage.signed_study import SignedStudy
from linkage.study import Party, StudyConfig
from sites.config import SourceConfig
from sites.sources.delimited import BadRow, SourceRecords, read_delimited
from sites.vault import Vault

Progress = Callable[[str, int, int], None]
"""Called with a step's name, what is done and the total (0 while unknown)."""

_ARROW_OVERHEAD = 64 * 1024
_FEW = 3
"""Fewer invalid values than this are errors of the data, whatever share they are."""


@dataclass(frozen=True, slots=True)
class TokenizeSummary:
    """
    What an operator needs to see; counts only.

    nulls: by field and reason. no_key: by rule, records without that match key.
    """

    dataset: int
    records: int
    groups: int
    parts: int
    nulls: dict[str, dict[str, int]]
    no_key: dict[str, int]
    quarantined: tuple[BadRow, ...]
    package: Path


def tokenize(
    source: SourceConfig,
    party_id: str,
    signed: SignedStudy,
    vault: Vault,
    *,
    dataset: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> TokenizeSummary:
    """
    Make the sealed package of dataset version `dataset` (default: the next one).

    Raises SourceRefused, RowRejected, KeyRefused, Conflict; nothing half-written stays.
    """
    study = signed.study
    party = study.party_named(party_id)
    key, identity = vault.study_key(), vault.identity()
    _check_keys(signed, study, party_id, key, identity)
    number = dataset or vault.newest_dataset() + 1
    if vault.package(number).exists():
        raise Conflict(
            f"dataset version {number} is tokenized already",
            hint="submit it, or leave the version out to make the next one",
        )
    records = read_delimited(source, party.fields, lambda rows: progress("read", rows, 0))
    columns, nulls = normalise_columns(records, source)
    pseudonyms = vault.secret().pseudonyms(study.study.id, records.record_ids)
    encoded = encode_records(
        columns,
        pseudonyms,
        study=study,
        party=party,
        key=key,
        progress=lambda done, total: progress("encode", done, total),
    )
    ordered = in_pseudonym_order(encoded.records)
    # The map first: a package without its map could be sent, but its IDs never be read.
    vault.save_map(number, pseudonyms, records.record_ids)
    manifest = _write_package(ordered, encoded, signed, party, number, key, identity, vault)
    return TokenizeSummary(
        dataset=number,
        records=len(records),
        groups=manifest.groups,
        parts=len(manifest.parts),
        nulls=nulls,
        no_key={rule: sum(why.values()) for rule, why in encoded.null_reasons.items()},
        quarantined=tuple(records.quarantined),
        package=vault.package(number),
    )


def normalise_columns(
    records: SourceRecords, source: SourceConfig
) -> tuple[dict[str, list[str]], dict[str, dict[str, int]]]:
    """
    Return the normalised columns, and by field the number of nulls by reason.

    Raises SourceRefused where so many values are invalid that the format must be wrong.
    """
    columns: dict[str, list[str]] = {}
    nulls: dict[str, dict[str, int]] = {}
    for field, values in records.columns.items():
        try:
            columns[field], reasons = normalise(
                field, values, date_format=source.date_format, today=dt.date.today()
            )
        except EncodingRefused as fault:
            raise _wrong_format(source, field, fault.message) from None
        nulls[field] = dict(Counter(why for why in reasons if why))
        invalid, said = nulls[field].get("invalid", 0), len(values) - reasons.count("missing")
        if invalid >= _FEW and invalid > source.max_invalid * said:
            row = records.rows[reasons.index("invalid")]
            rule = f"{invalid} of {said} values of {field} are invalid, first in row {row}"
            raise _wrong_format(source, field, rule)
    return columns, nulls


def _wrong_format(source: SourceConfig, field: str, rule: str) -> SourceRefused:
    hint = "check which column the site file names"
    if field == "date_of_birth":
        hint = "check [source] date_format against the file"
    return SourceRefused(file=source.file.name, rule=rule, hint=hint)


def in_pseudonym_order(records: EncodedRecords) -> EncodedRecords:
    """Return the records sorted by pseudonym, so that their order says nothing of the source."""
    order = np.lexsort(records.pseudonyms.T[::-1])
    position = np.empty(len(order), dtype=np.uint32)
    position[order] = np.arange(len(order), dtype=np.uint32)
    first = np.full(len(order), len(order), dtype=np.uint32)
    np.minimum.at(first, records.groups, position)

    def sort(columns: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
        return {n: FixedColumn(c.values[order], c.present[order]) for n, c in columns.items()}

    return EncodedRecords(
        pseudonyms=records.pseudonyms[order],
        groups=first[records.groups][order],
        clks=sort(records.clks),
        match_keys=sort(records.match_keys),
    )


def load_manifest(package: Path) -> Manifest:
    """Read a package's manifest. Raises PackageRefused."""
    try:
        return Manifest.model_validate_json((package / "manifest.json").read_bytes())
    except (OSError, ValidationError):
        raise PackageRefused(
            f"{package} is no package", hint="run first: linkage-site tokenize"
        ) from None


def part_file(package: Path, number: int) -> Path:
    """Return the file of sealed part `number`, from 1."""
    return package / f"part-{number:05d}.sealed"


def _check_keys(
    signed: SignedStudy, study: StudyConfig, party_id: str, key: StudyKey, identity: Identity
) -> None:
    if identity.public() != signed.pin(party_id):
        raise KeyRefused(
            f"the signed study pins other keys for {party_id!r} than this machine has",
            hint="use the identity that the custodian pinned, or have the study signed again",
        )
    if key.key_check(study) != signed.key_check:
        raise KeyRefused(
            "the study key is not the one of this signed study",
            hint="open the newest sealed key from the custodian: linkage-site keys open",
        )


def _write_package(
    records: EncodedRecords,
    encoded: Encoded,
    signed: SignedStudy,
    party: Party,
    dataset: int,
    key: StudyKey,
    identity: Identity,
    vault: Vault,
) -> Manifest:
    study = signed.study
    final = vault.package(dataset)
    making = final.with_name(f".{dataset}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    slices = list(_cut(to_arrow(records, study)))
    parts = []
    for number, batch in enumerate(slices, start=1):
        context = Context(
            study=study.study.id,
            sender=party.id,
            recipient=BROKER,
            purpose=DATASET_PART,
            details=(str(dataset), str(number), str(len(slices))),
        )
        sealed = seal(_ipc(batch), sender=identity, recipient=signed.pin(BROKER), context=context)
        part_file(making, number).write_bytes(sealed)
        digest = hashlib.sha256(sealed).hexdigest()
        parts.append(Part(number=number, size=len(sealed), records=batch.num_rows, digest=digest))
    manifest = Manifest(
        study_id=study.study.id,
        study_hash=signed.study_hash,
        schema_hash=signed.schema_hash,
        party=party.id,
        dataset=dataset,
        epoch=study.study.epoch,
        normalisation=NORMALISATION_VERSION,
        key_check=key.key_check(study),
        software=importlib.metadata.version("commons-linkage"),
        records=len(records),
        groups=len(np.unique(records.groups)),
        densities=encoded.densities,
        null_reasons=_rounded(encoded.null_reasons),
        collisions=encoded.collisions,
        parts=tuple(parts),
    ).sign(identity)
    (making / "manifest.json").write_bytes(manifest.canonical())
    making.rename(final)
    return manifest


def _rounded(reasons: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Round up as collisions are: an exact "repeated" would give the exact number of those away."""
    return {
        rule: {why: -(-n // COLLISION_ROUNDING) * COLLISION_ROUNDING for why, n in counts.items()}
        for rule, counts in reasons.items()
    }


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    row_bytes = max(1, batch.nbytes // batch.num_rows) + 1
    rows = max(1, (PART_BYTES - _ARROW_OVERHEAD) // row_bytes)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
