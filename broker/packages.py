"""
Opening dataset versions, in the worker's memory only, and checking what no server could see.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import pyarrow as pa

from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.services.uploads import part_context
from broker.store import studies
from linkage.delta import apply_delta
from linkage.errors import NotFound, PackageRefused
from linkage.matching.dataset import Dataset
from linkage.messages import Manifest, Part
from linkage.plain_arrow import read_stream
from linkage.records import (
    EncodedRecords,
    FixedColumn,
    arrow_schema,
    from_arrow,
    row_bytes,
)
from linkage.sealing import KeyHolder, unseal
from linkage.strata import NO_MARK

DENSITY_SLACK = 0.15
"""
How far CLKs may be from the density that their manifest promises. Wide, for positions differ and
made-up fillers have a density of their own; columns of zeros, ones, or of plain CLKs where diffused
ones belong are further away.
"""
_ROWS_AT_ONCE = 100_000
_SLACK_BYTES = 1 << 20
_REMEDY = "it submits again, with the next version number"


class OpenedDatasets:
    """The datasets of a run in memory, by uploader, each opened when it is first asked for."""

    def __init__(self, open_one: Callable[[str], Dataset]) -> None:
        self._open_one = open_one
        self._opened: dict[str, Dataset] = {}
        self._lock = threading.Lock()

    def of(self, uploader: str) -> Dataset:
        """Return the uploader's dataset. Raises as `open_dataset`."""
        with self._lock:
            if uploader not in self._opened:
                self._opened[uploader] = self._open_one(uploader)
            return self._opened[uploader]


def open_dataset(
    broker: Broker,
    identity: KeyHolder,
    study: RegisteredStudy,
    uploader: str,
    number: int,
    *,
    states: Collection[str] = ("complete",),
) -> Dataset:
    """
    Return a complete dataset version, opened. Each uploader is a dataset of its own: two
    contributors of one party may hold the same person, and are linked like two parties. states: in
    which of them the version may be; of a delta, its base is complete.

    Raises PackageRefused or EncodingRefused, naming uploader and part, where a part does not open,
    holds another number of records, or the whole is not what its manifest says; NotFound where
    there is no such version, or a blob of it is gone.
    """
    manifest, records = _records(broker, identity, study, uploader, number, states)
    return Dataset(party=uploader, records=records, collisions=_collisions(manifest, study))


def _records(
    broker: Broker,
    identity: KeyHolder,
    study: RegisteredStudy,
    uploader: str,
    number: int,
    states: Collection[str],
) -> tuple[Manifest, EncodedRecords]:
    """
    Return the whole of a dataset version; of a delta, its base with the delta applied.

    A base comes first and deltas follow it one by one, so no more than one of them is held.
    """
    manifests = [_manifest(broker, study, uploader, number, states)]
    while base := manifests[-1].base:
        manifests.append(_manifest(broker, study, uploader, base, ("complete",)))
    records = _rows(broker, identity, study, manifests[-1])
    _require_attested(records, manifests[-1], study)
    for manifest in reversed(manifests[:-1]):
        records = apply_delta(records, _rows(broker, identity, study, manifest))
        _require_attested(records, manifest, study)
    return manifests[0], records


def _manifest(
    broker: Broker, study: RegisteredStudy, uploader: str, number: int, states: Collection[str]
) -> Manifest:
    with broker.database.read() as connection:
        row = studies.find_dataset(connection, study.id, uploader, number)
    if row is not None and row.state == "quarantined" and row.state not in states:
        raise PackageRefused(
            f"{uploader!r}: dataset version {number} is in quarantine: {row.quarantine}",
            hint=_REMEDY,
        )
    if row is None or row.state not in states:
        raise NotFound(f"{uploader!r} has no complete dataset version {number}", hint=_REMEDY)
    manifest = Manifest.model_validate_json(row.manifest)
    manifest.verify(study.pin(uploader))
    return manifest


def _rows(
    broker: Broker, identity: KeyHolder, study: RegisteredStudy, manifest: Manifest
) -> EncodedRecords:
    """Return what the parts of one dataset version hold."""
    uploader, number = manifest.uploader, manifest.dataset
    with broker.database.read() as connection:
        row = studies.find_dataset(connection, study.id, uploader, number)
        blobs = studies.part_blobs(connection, row) if row else {}
    for part in manifest.parts:
        # Nothing is compressed; memory is taken for hardly more records than a part can hold.
        least = part.records * row_bytes(study.config, marked=bool(manifest.strata))
        if least > 2 * part.size + _SLACK_BYTES:
            raise _another_number(part, uploader)
    rows = sum(part.records for part in manifest.parts)
    return from_arrow(
        _opened(broker, identity, study, manifest, blobs),
        study.config,
        manifest.party,
        rows=rows,
        marked=bool(manifest.strata),
    )


def _opened(
    broker: Broker,
    identity: KeyHolder,
    study: RegisteredStudy,
    manifest: Manifest,
    blobs: Mapping[int, str],
) -> Iterator[pa.RecordBatch]:
    """Open one part after the other, so that only one is held beside the dataset."""
    uploader, number = manifest.uploader, manifest.dataset
    for part in manifest.parts:
        context = part_context(study.id, uploader, number, part.number, len(manifest.parts))
        sealed = broker.blobs.read(blobs.get(part.number, ""))
        # Checked when it came, and again: an uploader may have sealed other bytes for this place,
        # and only these are what its manifest, signed and in the audit log, says that it sent.
        if len(sealed) != part.size or hashlib.sha256(sealed).hexdigest() != part.digest:
            raise PackageRefused(
                f"{uploader!r}, part {part.number}: what is stored is not what its manifest names",
                hint="the broker's admin restores the blobs from the backup that fits the database,"
                f" or {_REMEDY}",
            )
        sender = study.pin(uploader)
        data = unseal(sealed, sender=sender, recipient=identity, context=context)
        yield from _batches(data, part, study, manifest)


def _require_attested(records: EncodedRecords, manifest: Manifest, study: RegisteredStudy) -> None:
    if (len(records), len(np.unique(records.groups))) != (manifest.records, manifest.groups):
        raise PackageRefused(
            f"{manifest.uploader!r}: the dataset has another number of records or groups than its"
            " manifest says",
            hint=_REMEDY,
        )
    columns = [*records.clks.values(), *records.match_keys.values()]
    if study.config.study.fills_nulls and not all(one.present.all() for one in columns):
        raise PackageRefused(
            f"{manifest.uploader!r}: an encoding is null, and the study has nulls filled",
            hint="tokenize with the signed study file and this software version",
        )
    _require_marks(records, manifest, study)
    _require_densities(records, manifest, study)


def _require_marks(records: EncodedRecords, manifest: Manifest, study: RegisteredStudy) -> None:
    """Every record bears a mark of each variable, and it names one of its groups."""
    if records.strata is None:
        return
    most = np.array([len(one.named) for one in study.config.strata], np.uint8)
    if (records.strata == NO_MARK).any() or (records.strata > most).any():
        raise PackageRefused(
            f"{manifest.uploader!r}: a record's mark names no group of the study's strata",
            hint="tokenize with the signed study file and this software version",
        )


def _require_densities(records: EncodedRecords, manifest: Manifest, study: RegisteredStudy) -> None:
    """The CLKs set about as many bits as the manifest's densities and their diffusion make."""
    specs = {clk.id: clk for clk in study.config.clk}
    for name, column in records.clks.items():
        said = manifest.densities.get(name, 0.0)
        # Where no record has this CLK, a study that fills nulls holds made-up ones only.
        if not column.present.any() or (not said and study.config.study.fills_nulls):
            continue
        after = diffused_density(said, study.config.diffusion_of(specs[name]))
        found = share_of_set_bits(column)
        if not said or abs(found - after) > DENSITY_SLACK:
            raise PackageRefused(
                f"{manifest.uploader!r}: the CLKs {name!r} set {found:.3f} of their bits; by the"
                f" manifest it should be about {after if said else 0:.3f}",
                hint="tokenize with the signed study file and this software version",
            )


def diffused_density(density: float, depth: int) -> float:
    """
    Return the expected share of set bits where each is the XOR of `depth` bits of this density,
    the piling-up lemma (Matsui 1993, doi:10.1007/3-540-48285-7_33). depth 0: no diffusion.
    """
    return (1 - (1 - 2 * density) ** depth) / 2 if depth else density


def share_of_set_bits(column: FixedColumn) -> float:
    """Return the share of bits that are set, over the records that have the CLK."""
    width = column.values.shape[1]
    bits = 0
    for start in range(0, len(column.values), _ROWS_AT_ONCE):
        rows = column.values[start : start + _ROWS_AT_ONCE]
        present = column.present[start : start + _ROWS_AT_ONCE]
        bits += int(np.bitwise_count(rows[present]).sum(dtype=np.int64))
    return bits / float(8 * width * int(column.present.sum()))


def _batches(
    data: bytes, part: Part, study: RegisteredStudy, manifest: Manifest
) -> list[pa.RecordBatch]:
    uploader = manifest.uploader
    try:
        schema, batches = read_stream(data)
    except ValueError:
        raise PackageRefused(
            f"{uploader!r}, part {part.number}: what is inside is no table", hint=_REMEDY
        ) from None
    if not schema.equals(arrow_schema(study.config, marked=bool(manifest.strata))):
        raise PackageRefused(
            f"{uploader!r}, part {part.number}: its columns are not those of the study",
            hint="tokenize with the signed study file and this software version",
        )
    if sum(batch.num_rows for batch in batches) != part.records:
        raise _another_number(part, uploader)
    return batches


def _another_number(part: Part, uploader: str) -> PackageRefused:
    return PackageRefused(
        f"{uploader!r}, part {part.number}: it holds another number of records than its"
        " manifest says",
        hint=_REMEDY,
    )


def _collisions(manifest: Manifest, study: RegisteredStudy) -> dict[str, int]:
    """Return the attested collisions of every rule of the party; what is not named had none."""
    party = study.config.party_named(manifest.party)
    return {rule.id: manifest.collisions.get(rule.id, 0) for rule in study.config.rules_of(party)}
