"""
From a source of identifiers to a sealed package: the only place where PII meets a key.

    read -> normalise -> encode -> group, null repeats -> order by pseudonym -> cut, seal, sign

The source is read forward once, batch by batch; worker processes normalise and encode, and what
they write (sites.spool) is encodings and the encrypted map of record ids. So memory does not
grow with the source, and a tokenization that was interrupted goes on where it stopped. A
package folder is complete or absent. Its parts are sealed once and kept, so that an interrupted
upload goes on with the very same bytes.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import importlib.metadata
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from linkage.encoding.duplicates import grouping_rules
from linkage.encoding.fields import NORMALISATION_VERSION
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import COLLISION_ROUNDING
from linkage.errors import Conflict, KeyRefused, PackageRefused, SourceRefused
from linkage.messages import BROKER, PART_BYTES, Manifest, Part
from linkage.records import row_bytes
from linkage.schema import DENSITY
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy
from linkage.study import StudyConfig
from sites import encoding_worker
from sites.assembly import Assembled
from sites.encoding_worker import NUMBER, RECORD_ID, Order, PartOrder, RawPart
from sites.intake import Intake
from sites.sources.base import RawBatch
from sites.sources.config import SourceConfig
from sites.sources.opening import open_source
from sites.spool import Spool
from sites.vault import Vault
from sites.workers import Workers, processors

Progress = Callable[[str, int, int], None]
"""Called with a step's name, what is done and the total (0 while unknown)."""

_ARROW_OVERHEAD = 64 * 1024
_WORTH_PROCESSES = 2
"""Batches from which on starting worker processes is worth their second."""


@dataclass(frozen=True, slots=True)
class TokenizeSummary:
    """
    What an operator needs to see; counts only.

    why: by field, how many values are missing, placeholders, invalid or repaired, by reason.
    no_key: by rule, records without that match key. density: by CLK, of set bits, before diffusion.
    left_out: records left out, by field and rule. same_as: an earlier dataset version that was
    made of exactly the same input, 0 if none. resumed: batches an interrupted run had made.
    """

    dataset: int
    records: int
    groups: int
    parts: int
    why: dict[str, dict[str, int]]
    no_key: dict[str, int]
    density: dict[str, float]
    left_out: dict[tuple[str, str], int]
    package: Path
    same_as: int = 0
    resumed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def nulled(self) -> dict[str, int]:
        """By field, how many records have no usable value; fields that all have are left out."""
        counts = {
            field: sum(n for text, n in why.items() if not text.startswith("repaired"))
            for field, why in self.why.items()
        }
        return {field: n for field, n in counts.items() if n}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be looked at before the package is sent."""
        low, high = DENSITY
        return tuple(
            f"CLK {clk!r} sets {share:.1%} of its bits, where {low:.0%} to {high:.0%} are safe and"
            " the broker takes nothing else: too many of its fields are missing"
            for clk, share in self.density.items()
            if not low <= share <= high
        )


@dataclass(slots=True)
class _Tally:
    """What the batches add up to."""

    records: int = 0
    why: dict[str, dict[str, int]] = field(default_factory=dict)
    no_key: dict[str, dict[str, int]] = field(default_factory=dict)
    bits_set: dict[str, int] = field(default_factory=dict)
    with_clk: dict[str, int] = field(default_factory=dict)
    first_invalid: dict[str, int] = field(default_factory=dict)

    def add(self, facts: Mapping[str, Any]) -> None:
        self.records += facts["rows"]
        for total, part in ((self.why, facts["why"]), (self.no_key, facts["no_key"])):
            for name, counts in part.items():
                kept = total.setdefault(name, {})
                for reason, count in counts.items():
                    kept[reason] = kept.get(reason, 0) + count
        for sums, add in ((self.bits_set, facts["bits_set"]), (self.with_clk, facts["with_clk"])):
            for name, count in add.items():
                sums[name] = sums.get(name, 0) + count
        for name, number in facts["first_invalid"].items():
            self.first_invalid[name] = min(number, self.first_invalid.get(name, number))


def tokenize(
    source: SourceConfig,
    uploader: str,
    signed: SignedStudy,
    vault: Vault,
    *,
    dataset: int | None = None,
    reject_file: Path | None = None,
    workers: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> TokenizeSummary:
    """
    Make the sealed package of dataset version `dataset` (default: the next one).

    uploader: the party, or the contributor that tokenizes for one. reject_file: where to list
    records left out and values not used, by number, field, rule and remedy; it also means that a
    bad record does not stop the others. workers: processes, 0 for none; default: as many as there
    are processors, if the source is large.

    Raises SourceRefused, RowRejected, KeyRefused, Conflict; nothing half-written is seen.
    """
    study = signed.study
    _check_keys(signed, study, uploader, vault.study_key(), vault.identity())
    number = dataset or vault.newest_dataset() + 1
    if vault.package(number).exists():
        raise Conflict(
            f"dataset version {number} is tokenized already",
            hint="submit it, or leave the version out to make the next one",
        )
    spool = Spool(vault.spool(number))
    spool.make()
    with _only_one(spool):
        order = Order(
            study=study,
            uploader=uploader,
            broker=signed.pin(BROKER),
            vault=vault,
            dataset=number,
            reading=source.reading(dt.date.today()),
        )
        opened = open_source(source, study.party_of_uploader(uploader).fields)
        intake = Intake(source, opened, order.reading, quarantine=reject_file is not None)
        making = _Making(signed, order, spool, intake, progress)
        return making.run(workers, reject_file)


class _Making:
    """One tokenization under way."""

    def __init__(
        self, signed: SignedStudy, order: Order, spool: Spool, intake: Intake, progress: Progress
    ) -> None:
        self.signed, self.order, self.spool = signed, order, spool
        self.intake, self.progress = intake, progress
        self.vault, self.study = order.vault, order.study
        self.tally = _Tally()
        self.batches = self.resumed = 0
        self.fingerprint = hashlib.blake2b(digest_size=16)
        self._digest_key = self.vault.secret().derive("spool")

    def run(self, workers: int | None, reject_file: Path | None) -> TokenizeSummary:
        batches = self.intake.batches()
        ahead = [batch for _, batch in zip(range(_WORTH_PROCESSES), batches, strict=False)]
        count = workers
        if count is None:
            count = processors() if len(ahead) == _WORTH_PROCESSES else 0
        with Workers(count, encoding_worker.Prepared, self.order) as pool:
            self._encode(pool, _chained(ahead, batches))
            self.intake.check(self.tally.why, self.tally.first_invalid)
            self.spool.cut(self.batches)
            groups, kept = self._assemble()
            collisions = self._null_repeats(pool)
            making = self.vault.package(self.order.dataset).with_name(
                f".{self.order.dataset}.making"
            )
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True, mode=0o700)
            parts = self._seal(pool, making, kept)
        if reject_file is not None:
            unused = (self.spool.unused(i) for i in range(1, self.batches + 1))
            self.intake.write_rejects(reject_file, unused)
        manifest = self._manifest(kept, groups, collisions, parts)
        return self._publish(making, manifest)

    def _encode(self, pool: Workers, batches: Iterator[RawBatch]) -> None:
        for facts in pool.each(encoding_worker.encode_batch, self._to_encode(batches)):
            self.tally.add(facts)
            self.intake.check(self.tally.why, self.tally.first_invalid, so_far=True)
            records = self.tally.records
            self.progress("encode", records, self.intake.about(records))

    def _to_encode(self, batches: Iterator[RawBatch]) -> Iterator[RawPart]:
        """Yield the batches that no interrupted run has encoded of the very same input."""
        for raw in batches:
            if not len(raw):
                continue
            self.batches += 1
            data = _stream(raw)
            digest = self._digest(data)
            self.fingerprint.update(bytes.fromhex(digest))
            if self.spool.made_of(self.batches, digest):
                self.resumed += 1
                self.tally.add(self.spool.batch(self.batches).facts)
                records = self.tally.records
                self.progress("resume", records, self.intake.about(records))
                continue
            yield RawPart(self.batches, digest, data)

    def _digest(self, data: pa.Buffer) -> str:
        """Return a keyed digest of a batch and of all that its encoding depends on."""
        keyed = hashlib.blake2b(key=self._digest_key, digest_size=16)
        reading = self.order.reading
        for part in (
            self.signed.study_hash,
            self.signed.key_check,
            NORMALISATION_VERSION,
            importlib.metadata.version("commons-linkage"),
            f"{self.order.uploader} {reading.date_format} {reading.two_digit_years_until}"
            f" {reading.phone_region}",
        ):
            keyed.update(len(part).to_bytes(4, "big") + part.encode())
        keyed.update(data)
        return keyed.hexdigest()

    def _assemble(self) -> tuple[int, int]:
        """Leave out repeated record ids, order and group the rest: groups and records kept."""
        self.progress("order", 0, 0)
        whole = Assembled(self.spool)
        for repeated in whole.order_records():
            self.intake.repeated_id(repeated.earlier, repeated.later)
        party = self.study.party_of_uploader(self.order.uploader)
        groups = whole.group_records(len(grouping_rules(party.fields)))
        return groups, len(self.spool.load("order"))

    def _null_repeats(self, pool: Workers) -> dict[str, int]:
        """Null the match keys that two groups share; return the attested collisions by rule."""
        rules = self.study.rules_of(self.study.party_of_uploader(self.order.uploader))
        collisions = {}
        found = pool.each(encoding_worker.find_repeats, range(len(rules)))
        for done, (place, lost, pairs) in enumerate(found, start=1):
            rule = rules[place].id
            collisions[rule] = _rounded(pairs)
            if lost:
                self.tally.no_key.setdefault(rule, {})["repeated"] = lost
            self.progress("repeated keys", done, len(rules))
        return collisions

    def _seal(self, pool: Workers, folder: Path, kept: int) -> list[Part]:
        rows = max(1, (PART_BYTES - _ARROW_OVERHEAD) // row_bytes(self.study))
        total = -(-kept // rows)
        orders = (
            PartOrder(i + 1, total, i * rows, min(kept, (i + 1) * rows), folder)
            for i in range(total)
        )
        parts: list[Part] = []
        for part in pool.each(encoding_worker.seal_part, orders):
            parts.append(part)
            self.progress("seal", len(parts), total)
        return sorted(parts, key=lambda part: part.number)

    def _manifest(
        self, kept: int, groups: int, collisions: dict[str, int], parts: list[Part]
    ) -> Manifest:
        study, uploader = self.study, self.order.uploader
        party = study.party_of_uploader(uploader)
        return Manifest(
            study_id=study.study.id,
            study_hash=self.signed.study_hash,
            schema_hash=self.signed.schema_hash,
            party=party.id,
            contributor="" if uploader == party.id else uploader,
            dataset=self.order.dataset,
            epoch=study.study.epoch,
            normalisation=NORMALISATION_VERSION,
            key_check=self.vault.study_key().key_check(study),
            software=importlib.metadata.version("commons-linkage"),
            records=kept,
            groups=groups,
            densities=self._densities(),
            null_reasons={
                rule: {why: _rounded(n) for why, n in self.tally.no_key.get(rule, {}).items()}
                for rule in collisions
            },
            collisions=collisions,
            parts=tuple(parts),
        ).sign(self.vault.identity())

    def _densities(self) -> dict[str, float]:
        lengths = {clk.id: clk.length for clk in self.study.clk}
        return {
            clk: self.tally.bits_set[clk] / (count * lengths[clk]) if count else 0.0
            for clk, count in self.tally.with_clk.items()
        }

    def _publish(self, making: Path, manifest: Manifest) -> TokenizeSummary:
        number, fingerprint = self.order.dataset, self.fingerprint.digest()
        (making / "manifest.json").write_bytes(manifest.canonical())
        same_as = next(
            (
                i
                for i in range(number - 1, 0, -1)
                if self.vault.kept(f"input-of-{i}") == fingerprint
            ),
            0,
        )
        # The map first: a package without its map could be sent, but its IDs never be read.
        self.vault.finish_map(self.spool.map_folder, number, self.batches)
        self.vault.keep(f"input-of-{number}", fingerprint)
        making.rename(self.vault.package(number))
        self.spool.remove()
        why = {
            name: {text: n for text, n in sorted(counts.items()) if text}
            for name, counts in self.tally.why.items()
        }
        return TokenizeSummary(
            dataset=number,
            records=manifest.records,
            groups=manifest.groups,
            parts=len(manifest.parts),
            why=why,
            no_key={rule: sum(n.values()) for rule, n in self.tally.no_key.items()},
            density=manifest.densities,
            left_out=dict(self.intake.left_out),
            package=self.vault.package(number),
            same_as=same_as,
            resumed=self.resumed,
            notes=self.intake.notes,
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
    return encoding_worker.part_file(package, number)


def _check_keys(
    signed: SignedStudy, study: StudyConfig, uploader: str, key: StudyKey, identity: Identity
) -> None:
    if identity.public() != signed.pin(uploader):
        raise KeyRefused(
            f"the signed study pins other keys for {uploader!r} than those of this machine",
            hint="the custodian must sign the study with your current public identity file",
        )
    if key.key_check(study) != signed.key_check:
        raise KeyRefused(
            "the study key is not the one of this signed study",
            hint="open the sealed key that the custodian sent with it: linkage-site keys open",
        )
    party = study.party_of_uploader(uploader)
    if not study.clks_of(party) and not study.rules_of(party):
        raise SourceRefused(
            file="the study",
            rule=f"party {party.id!r} holds no CLK's and no match key's fields",
            hint="ask the custodian for a study that uses what you hold",
        )


@contextmanager
def _only_one(spool: Spool) -> Iterator[None]:
    """Hold the spool: two tokenizations of one dataset version would write over each other."""
    with (spool.folder.parent / f".{spool.folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "this dataset version is being tokenized already",
                hint="wait for the other process, or stop it; what it has made is kept",
            ) from None
        yield


def _stream(raw: RawBatch) -> pa.Buffer:
    columns = {**raw.columns, RECORD_ID: raw.record_ids, NUMBER: pa.array(raw.numbers)}
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _chained(ahead: list[RawBatch], rest: Iterator[RawBatch]) -> Iterator[RawBatch]:
    while ahead:
        yield ahead.pop(0)  # and no longer held here
    yield from rest


def _rounded(count: int) -> int:
    """Round up: an exact "repeated" would give the exact number of collisions away."""
    return -(-count // COLLISION_ROUNDING) * COLLISION_ROUNDING
