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
import hashlib
import importlib.metadata
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.fields import NORMALISATION_VERSION
from linkage.encoding.whys import COLLISION_ROUNDING
from linkage.errors import Conflict
from linkage.messages import BROKER, PART_BYTES, Manifest, Part
from linkage.records import row_bytes
from linkage.signed_study import SignedStudy
from linkage.strata import Stratum, attested
from sites import jobs, strata_kept
from sites.changes import Changes, RowMarks, base_of, has_marks, keep_contents
from sites.intake import Intake
from sites.jobs import Order, PartOrder, RawPart, Stretch
from sites.required import require_declared, require_keys
from sites.sources.base import RawBatch
from sites.sources.config import SourceConfig
from sites.sources.opening import open_source
from sites.spool import SPOOL_LAYOUT, Spool, sweep
from sites.strata import chosen_strata, columns_of, readings
from sites.strata_config import StrataConfig
from sites.tokenized import Tally, TokenizeSummary
from sites.vault import Vault
from sites.withdrawal import withdrawn_records
from sites.workers import Workers, processors

Progress = Callable[[str, int, int], None]
"""Called with a step's name, what is done and the total (0 while unknown)."""

_ARROW_OVERHEAD = 64 * 1024
_NO_STRATA = StrataConfig()
_WORTH_PROCESSES = 2
"""Batches from which on starting worker processes is worth their second."""


def tokenize(
    source: SourceConfig,
    uploader: str,
    signed: SignedStudy,
    vault: Vault,
    *,
    dataset: int | None = None,
    delta: bool = False,
    reject_file: Path | None = None,
    workers: int | None = None,
    strata: StrataConfig = _NO_STRATA,
    progress: Progress = lambda step, done, total: None,
) -> TokenizeSummary:
    """
    Make the sealed package of dataset version `dataset` (default: the next one).

    uploader: the party, or the contributor that tokenizes for one. delta: package only what differs
    from the newest version made before. reject_file: where to list
    records left out and values not used, by number, field, rule and remedy; it also means that a
    bad record does not stop the others. workers: processes, 0 for none; default: as many as there
    are processors, if the source is large. strata: whether records bear marks, and which.

    Raises SourceRefused, RowRejected, KeyRefused, Conflict; nothing half-written is seen.
    """
    study = signed.study
    require_keys(signed, uploader, vault)
    number = dataset or vault.newest_dataset() + 1
    spool = Spool(vault.spool(number))
    sweep(spool.folder.parent, lambda done: vault.package(done).exists())
    with spool.held():
        if vault.package(number).exists():
            raise Conflict(
                f"dataset version {number} is tokenized already",
                hint="submit it, or leave the version out to make the next one",
            )
        spool.make()
        party = study.party_of_uploader(uploader)
        marked = chosen_strata(strata, source, study, party)
        order = Order(
            study=study,
            uploader=uploader,
            broker=signed.pin(BROKER),
            vault=vault,
            dataset=number,
            reading=source.reading(dt.date.today()),
            strata=marked,
            most_epsilon=strata.most_epsilon,
        )
        opened = open_source(source, party.fields, columns_of(marked, source))
        intake = Intake(
            source,
            opened,
            order.reading,
            quarantine=reject_file is not None,
            withdrawn=withdrawn_records(vault),
        )
        base = base_of(vault, signed, number, marked=bool(marked)) if delta else 0
        making = _Making(signed, order, spool, intake, progress, base, readings(marked, source))
        return making.run(workers, reject_file)


class _Making:
    """One tokenization under way."""

    def __init__(
        self,
        signed: SignedStudy,
        order: Order,
        spool: Spool,
        intake: Intake,
        progress: Progress,
        base: int,
        readings: dict[str, str],
    ) -> None:
        self.signed, self.order, self.spool, self.base = signed, order, spool, base
        self.intake, self.progress = intake, progress
        self.vault, self.study = order.vault, order.study
        self.tally = Tally()
        self._new_marks: RowMarks
        self._contents: npt.NDArray[np.uint64]
        self.batches = self.resumed = 0
        self.readings, self.read_otherwise = readings, False
        self.fingerprint = hashlib.blake2b(digest_size=16)
        self._digest_key = self.vault.secret().derive("spool")

    def run(self, workers: int | None, reject_file: Path | None) -> TokenizeSummary:
        batches = self.intake.batches()
        ahead = [batch for _, batch in zip(range(_WORTH_PROCESSES), batches, strict=False)]
        count = workers
        if count is None:
            count = processors() if len(ahead) == _WORTH_PROCESSES else 0
        if self.order.strata:
            strata_kept.lay_out(*self._marks_told)
        with Workers(count, jobs.prepared, self.order) as pool:
            self._encode(pool, _chained(ahead, batches))
            self.intake.check(self.tally.why, self.tally.first_invalid)
            self.spool.cut(self.batches)
            groups, kept = self._assemble(pool)
            if self.order.strata:
                strata_kept.settle(*self._marks_told)
                how, name = self.readings, self.study.study.id
                self.read_otherwise = strata_kept.read_otherwise(self.vault, name, how)
            require_declared(self.study, self.order.uploader, kept)
            collisions = self._null_repeats(pool)
            making = self.vault.package(self.order.dataset).with_name(
                f".{self.order.dataset}.making"
            )
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True, mode=0o700)
            changes = self._delta(pool, kept) if self.base else None
            parts = self._seal(pool, making, kept, changes)
            pool.dismiss()
            marks = self._marks(len(parts), kept) if changes is None else self._new_marks
            if reject_file is not None:
                unused = (self.spool.unused(i) for i in range(1, self.batches + 1))
                self.intake.write_rejects(reject_file, unused)
            manifest = self._manifest(kept, groups, collisions, parts)
            if changes is None:
                changes = self._compared(marks)
            keep_contents(self.vault, self.order.dataset, self._contents)
            marks.save(self.vault, self.order.dataset)
            return self._publish(making, manifest, changes)

    def _encode(self, pool: Workers, batches: Iterator[RawBatch]) -> None:
        for facts in pool.each(jobs.encode_batch, self._to_encode(batches)):
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
            data = jobs.packed(raw)
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
            f"{SPOOL_LAYOUT} {self.order.uploader} {reading.date_format}"
            f" {reading.two_digit_years_until} {reading.phone_region}",
            *([repr(self.order.strata)] if self.order.strata else []),
        ):
            keyed.update(len(part).to_bytes(4, "big") + part.encode())
        keyed.update(data)
        return keyed.hexdigest()

    def _assemble(self, pool: Workers) -> tuple[int, int]:
        """Leave out repeated record ids, order and group the rest: groups and records kept."""
        self.progress("order", 0, 0)
        work = [jobs.ASSEMBLE, *([jobs.MAKE_UP] if self.study.study.fills_nulls else [])]
        ((repeated, off, groups, kept),) = filter(None, pool.each(jobs.of_the_whole, work))
        self.tally.count(off)
        for one in repeated:
            self.intake.repeated_id(one.earlier, one.later)
        self.intake.require_mostly_good()
        return groups, kept

    @property
    def _marks_told(self) -> tuple[Vault, Spool, str, list[Stratum], float]:
        """What sites.strata_kept is told of the marks that records bear."""
        strata = [one.stratum for one in self.order.strata]
        return self.vault, self.spool, self.study.study.id, strata, self.order.most_epsilon

    def _null_repeats(self, pool: Workers) -> dict[str, int]:
        """Null the match keys that two groups share; return the attested collisions by rule."""
        rules = self.study.rules_of(self.study.party_of_uploader(self.order.uploader))
        collisions = {}
        found = pool.each(jobs.find_repeats, range(len(rules)))
        for done, (place, lost, pairs) in enumerate(found, start=1):
            rule = rules[place].id
            collisions[rule] = _rounded(pairs)
            if lost:
                self.tally.no_key.setdefault(rule, {})["repeated"] = lost
            self.progress("repeated keys", done, len(rules))
        return collisions

    def _delta(self, pool: Workers, kept: int) -> Changes:
        """Find what differs from the base, and leave only that in the order of records."""
        stretches = list(self._stretches(kept))
        for done, _ in enumerate(pool.each(jobs.mark_rows, stretches), start=1):
            self.progress("compare", done, len(stretches))
        self._new_marks = self._marks(len(stretches), kept)
        positions = np.asarray(self.spool.load("group_positions"))
        changes = self._new_marks.since(RowMarks.load(self.vault, self.base), positions)
        if not changes.told.any() and not len(changes.removed):
            raise Conflict(
                f"nothing differs from dataset version {self.base}",
                hint="there is nothing to submit",
            )
        place = np.cumsum(changes.told, dtype=np.int64) - 1
        for name in ("order", "names", *(["strata"] if self.order.strata else [])):
            self.spool.save(name, np.asarray(self.spool.load(name))[changes.told])
        told = place[positions[changes.told]].astype(np.uint32)
        self.spool.save("group_positions", told)
        return changes

    def _compared(self, marks: RowMarks) -> Changes | None:
        """Compare with the version before, where its marks are kept."""
        before = self.order.dataset - 1
        if not has_marks(self.vault, before):
            return None
        positions = np.asarray(self.spool.load("group_positions"))
        return marks.since(RowMarks.load(self.vault, before), positions)

    def _marks(self, stretches: int, kept: int) -> RowMarks:
        made, contents = (
            [self.spool.load(f"{kind}-{i}") for i in range(1, stretches + 1)]
            for kind in ("marks", "contents")
        )
        self._contents = np.concatenate(contents)[:kept]
        names = np.asarray(self.spool.load("names"))
        positions = np.asarray(self.spool.load("group_positions"))
        return RowMarks.of(names, np.concatenate(made)[:kept], positions)

    def _stretches(self, rows: int) -> Iterator[Stretch]:
        row = row_bytes(self.study, marked=bool(self.order.strata))
        size = max(1, (PART_BYTES - _ARROW_OVERHEAD) // row)
        for number, start in enumerate(range(0, rows, size), start=1):
            yield Stretch(number, start, min(rows, start + size))

    def _seal(self, pool: Workers, folder: Path, kept: int, changes: Changes | None) -> list[Part]:
        told = list(self._stretches(kept if changes is None else int(changes.told.sum())))
        gone = changes.removed if changes is not None else np.zeros((0, 16), np.uint8)
        removed = list(self._stretches(len(gone)))
        total = len(told) + len(removed)
        orders = [PartOrder(rows, total, folder, mark=changes is None) for rows in told]
        orders += [
            PartOrder(
                Stretch(len(told) + rows.number, 0, 0),
                total,
                folder,
                removed=gone[rows.start : rows.stop],
            )
            for rows in removed
        ]
        parts: list[Part] = []
        for part in pool.each(jobs.seal_part, orders):
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
            base=self.base,
            changed=sum(part.records for part in parts) if self.base else 0,
            strata=attested([one.stratum for one in self.order.strata]),
        ).sign(self.vault.identity())

    def _densities(self) -> dict[str, float]:
        lengths = {clk.id: clk.length for clk in self.study.clk}
        return {
            clk: self.tally.bits_set[clk] / (count * lengths[clk]) if count else 0.0
            for clk, count in self.tally.with_clk.items()
        }

    def _publish(
        self, making: Path, manifest: Manifest, changes: Changes | None
    ) -> TokenizeSummary:
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
        # The map first: a package without its map could be sent, but its IDs never be read. The
        # spool keeps its chunks, for whoever is killed before the package is there begins anew.
        folders = [self.spool.path(i) for i in range(1, self.batches + 1)]
        self.vault.gather_map(number, folders)
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
            base=self.base,
            added=changes.added if changes else None,
            changed=changes.changed if changes else None,
            removed=len(changes.removed) if changes else None,
            notes=self.intake.notes,
            names=self.tally.names,
            rest=dict(self.tally.rest),
            read_otherwise=self.read_otherwise,
        )


def _chained(ahead: list[RawBatch], rest: Iterator[RawBatch]) -> Iterator[RawBatch]:
    while ahead:
        yield ahead.pop(0)  # and no longer held here
    yield from rest


def _rounded(count: int) -> int:
    """Round up: an exact "repeated" would give the exact number of collisions away."""
    return -(-count // COLLISION_ROUNDING) * COLLISION_ROUNDING
