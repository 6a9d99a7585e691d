"""
What a worker process does for a tokenization: encode a batch, find a rule's repeats, seal a part.

    with Workers(count, prepare, order) as workers:
        workers.each(encode_batch, ...)

Identifiers come in over a pipe and go nowhere else: what a worker writes is encodings, and the
map of record ids encrypted under the contributor's secret. It reads keys from the vault itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.delta import removals, sorting
from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import (
    GroupingRule,
    digests,
    equal_ones,
    grouping_rules,
    repeats,
)
from linkage.encoding.encoder import BatchEncoder
from linkage.encoding.fields import Normaliser
from linkage.encoding.fillers import Fillers, fields_of, pool
from linkage.encoding.keys import StudyKey
from linkage.encoding.spelt import Spelt
from linkage.encoding.tags import Tagger
from linkage.messages import BROKER, DATASET_PART, Part
from linkage.pseudonyms import length_prefixed
from linkage.records import MATCH_KEY_BYTES, EncodedRecords, FixedColumn, to_arrow
from linkage.sealing import Context, Identity, seal_in_two
from linkage.study import Party, StudyConfig
from sites import left_out, strata_kept
from sites.assembly import PASS_ROWS, Assembled, Repeated, Runs, passes
from sites.exchanged import NAMES, Given
from sites.jobs import NUMBER, RECORD_ID, Order, PartOrder, RawPart, Stretch, serialised
from sites.packages import part_file
from sites.spool import Spool, Unused
from sites.strata import Marker

Contents = npt.NDArray[np.uint64]


class Prepared:
    """One worker's keys, normalisers and encoder; it lives as long as its process."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.study: StudyConfig = order.study
        self.party: Party = order.study.party_of_uploader(order.uploader)
        self.spool = Spool(order.vault.spool(order.dataset))
        self.key: StudyKey = order.vault.study_key()
        self.identity: Identity = order.vault.identity()
        self.secret = order.vault.secret()
        self.grouping: tuple[GroupingRule, ...] = grouping_rules(self.party.fields)
        self.grouping_secret = self.key.derive(order.study, "duplicates")
        self._namer = self.secret.keyed(Tagger)
        seeds = hashlib.shake_128(self.secret.derive("marks")).digest(
            8 * len(order.study.match_key)
        )
        self.key_marks = np.frombuffer(seeds, np.uint64)
        self.normalisers = {field: Normaliser(field, order.reading) for field in self.party.fields}
        self.encoder = BatchEncoder(order.study, self.party, self.key)
        self.marker = Marker(order.strata) if order.strata else None

    def pseudonyms(self, record_ids: pa.StringArray) -> npt.NDArray[np.uint8]:
        """Return `ContributorSecret.pseudonyms`, uint8[n, 16], by the faster HMAC."""
        prefix = np.frombuffer(length_prefixed(self.study.study.id), np.uint8)
        rows = np.arange(len(record_ids))
        return self._namer.tags_of(prefix, [Spelt.of_arrow(record_ids)], rows)

    @cached_property
    def fillers(self) -> Fillers:
        """What stands for nulls, in a study that fills them."""
        people = {
            field: np.asarray(self.spool.load(f"made-up-{field}")).astype(object)
            for field in fields_of(self.encoder.clks)
        }
        return Fillers(self.study, self.key, self.secret, self.encoder.clks, people)

    @cached_property
    def lost(self) -> list[npt.NDArray[np.uint8]]:
        """By rule, which rows lose their key; asked for when all repeats are found."""
        places = range(len(self.study.rules_of(self.party)))
        return [np.asarray(self.spool.load(f"lost-{place}")) for place in places]

    @cached_property
    def whole(self) -> Assembled:
        """All batches; asked for when the last one is written."""
        return Assembled(self.spool)


def encode_batch(worker: Prepared, raw: RawPart) -> dict[str, Any]:
    """Encode one batch, write it to the spool and its record ids to the map; return its facts."""
    table = pa.ipc.open_stream(raw.data).read_all().combine_chunks()
    columns, why, unused = _normalised(worker, table)
    record_ids = pa.concat_arrays(table.column(RECORD_ID).chunks)
    pseudonyms = worker.pseudonyms(record_ids)
    order = sorting(pseudonyms)
    made = worker.encoder.encode(columns, normalised=True)
    found, contents = digests(columns, worker.grouping, worker.grouping_secret)
    clks = {clk.id: made.clks[clk.id] for clk in worker.study.clks_of(worker.party)}
    keys = {rule.id: made.match_keys[rule.id] for rule in worker.study.rules_of(worker.party)}
    n = len(record_ids)
    unordered: dict[str, npt.NDArray[Any]] = {
        "pseudonyms": pseudonyms,
        "numbers": np.asarray(table.column(NUMBER), np.int64),
        "digests": found,
        "contents": contents,
        "has_clk": _stacked([c.present for c in clks.values()], n),
        "keys": _beside_each_other([k.values for k in keys.values()], n),
        "has_key": _stacked([k.present for k in keys.values()], n),
        "bits_set": _stacked([made.bits_set[clk] for clk in clks], n),
        "parts": left_out.packed_parts(made.present, worker.study.rules_of(worker.party), n),
        **{f"bits_{clk}": column.values for clk, column in clks.items()},
    }
    rest: dict[str, int] = {}
    if worker.marker is not None:
        kept = strata_kept.marked(worker.spool, pseudonyms)
        unordered["strata"], rest = worker.marker.draw(table, columns, kept)
    # `take` copies a row at once, where an index copies its items one by one.
    arrays = {name: np.take(column, order, axis=0) for name, column in unordered.items()}
    vault, dataset = worker.order.vault, worker.order.dataset
    ids = record_ids.take(pa.array(order))
    facts = {
        "digest": raw.digest,
        "rows": n,
        "why": why,
        "first_invalid": {field: number for number, field, _ in reversed(unused)},
        "bits_set": {clk: int(made.bits_set[clk].sum(dtype=np.int64)) for clk in clks},
        "with_clk": {clk: int(column.present.sum()) for clk, column in clks.items()},
        "no_key": made.missing,
        "rest": rest,
        "names": {f: asdict(Given.of(columns[f])) for f in NAMES if f in columns},
    }

    def write_map(folder: Path) -> None:
        vault.write_map_chunk(folder, dataset, raw.number, arrays["pseudonyms"], ids)

    # The chunk of the map comes and goes with its batch: a batch that is kept has the right one.
    worker.spool.write(raw.number, arrays, facts, unused, write_map)
    return facts


def make_up(worker: Prepared) -> None:
    """Write the people whose values fill nulls: the same for all workers, and for all datasets."""
    for field, texts in pool(fields_of(worker.encoder.clks)).items():
        worker.spool.save(f"made-up-{field}", texts.astype(str))


def assemble(worker: Prepared) -> tuple[list[Repeated], dict[str, Any], int, int]:
    """
    Order and group the whole dataset; return repeated record ids, what the records left out for
    them count for, groups and records kept.
    """
    repeated = worker.whole.order_records()
    off = left_out.counted(worker.whole, worker.study, worker.party) if repeated else {}
    groups = worker.whole.group_records(len(worker.grouping))
    return repeated, off, groups, len(worker.spool.load("order"))


def find_repeats(worker: Prepared, place: int) -> tuple[int, int, int]:
    """
    Find the keys of rule `place` that two groups hold; write which rows lose theirs.

    Returns (place, records that lose a key, values held by exactly two groups).
    """
    whole = worker.whole
    groups, kept = worker.spool.load("groups"), worker.spool.load("kept")
    lost = np.zeros(whole.rows, dtype=bool)
    pairs = 0
    ranges = list(passes(whole.rows, PASS_ROWS))
    for low, high in ranges:
        halves, found = [], []
        for batch, first in whole.batches:
            half = batch.column("keys").view(np.uint64)[:, place, 0]
            chosen = batch.column("has_key")[:, place] & kept[first : first + batch.rows]
            if len(ranges) > 1:
                leading = np.ascontiguousarray(half).view(">u2")[::4]
                chosen &= (low <= leading) & (leading < high)
            here = np.flatnonzero(chosen)
            halves.append(half[here])
            found.append(here + first)
        rows = np.concatenate(found)
        # Half a key tells nearly all apart; the whole is read of the few rows that are left.
        rows = rows[equal_ones(np.concatenate(halves))]
        repeated, two = repeats(_keys_of(whole, place, rows), groups[rows])
        lost[rows[repeated]] = True
        pairs += two
    worker.spool.save(f"lost-{place}", np.packbits(lost))
    return place, int(lost.sum()), pairs


def _keys_of(whole: Assembled, place: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the keys of a rule in rising rows of the dataset, uint8[n, 16]."""
    keys = [np.zeros((0, MATCH_KEY_BYTES), np.uint8)]
    for batch, first in whole.batches:
        start, stop = np.searchsorted(rows, [first, first + batch.rows])
        keys.append(batch.column("keys")[rows[start:stop] - first, place])
    return np.concatenate(keys)


def mark_rows(worker: Prepared, rows: Stretch) -> int:
    """Write the marks of a stretch of records (sites.changes); return its number."""
    _mark(worker, rows, *_gathered(worker, rows))
    return rows.number


def seal_part(worker: Prepared, part: PartOrder) -> Part:
    """Seal one part of the package and write it."""
    records = _removed(worker, part.removed) if part.removed is not None else None
    if records is None:
        contents, records = _gathered(worker, part.rows)
        if part.mark:
            _mark(worker, part.rows, contents, records)
        if worker.study.study.fills_nulls:
            # Last of all: the marks say what there is.
            names = np.asarray(worker.spool.load("names"))
            worker.fillers.fill_in(records, np.take(names, records.groups, axis=0))
    data = serialised(to_arrow(records, worker.study))
    order, number = worker.order, part.rows.number
    context = Context(
        study=worker.study.study.id,
        sender=order.uploader,
        recipient=BROKER,
        purpose=DATASET_PART,
        details=(str(order.dataset), str(number), str(part.total)),
    )
    head, body = seal_in_two(
        memoryview(data).cast("B"),
        sender=worker.identity,
        recipient=order.broker,
        context=context,
    )
    with part_file(part.folder, number).open("wb") as file:
        file.write(head)
        file.write(body)
    digest = hashlib.sha256(head)
    digest.update(body)
    size = len(head) + len(body)
    return Part(number=number, size=size, records=len(records), digest=digest.hexdigest())


def _normalised(
    worker: Prepared, table: pa.Table
) -> tuple[dict[str, Coded], dict[str, dict[str, int]], list[Unused]]:
    """Return the columns, by field how often each why-text holds, and the invalid values."""
    numbers = np.asarray(table.column(NUMBER), np.int64)
    columns, why = {}, {}
    unused: list[Unused] = []
    for field, normaliser in worker.normalisers.items():
        column = table.column(field)
        chunk = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        found = normaliser.column(chunk)
        columns[field] = found.column
        counts = np.bincount(found.why.codes, minlength=len(found.why.values))
        told: Counter[str] = Counter()
        for text, count in zip(found.why.values, counts.tolist(), strict=True):
            told[text] += count
        why[field] = dict(+told)
        texts, codes = found.why.values, found.why.codes
        invalid = [i for i, text in enumerate(texts) if text.startswith("invalid")]
        rows = np.flatnonzero(np.isin(codes, invalid)).tolist()
        unused += [(int(numbers[row]), field, texts[codes[row]]) for row in rows]
    return columns, why, sorted(unused)


def _mark(worker: Prepared, rows: Stretch, contents: Contents, records: EncodedRecords) -> None:
    """
    Write the marks of a stretch: of what its records' values are, and of the keys they lost.

    Encodings are a function of these two, under the keys of one study.
    """
    present = [column.present for column in records.match_keys.values()]
    marks = contents.copy()
    for place, has_key in enumerate(present):
        marks[has_key] ^= worker.key_marks[place]
    worker.spool.save(f"marks-{rows.number}", marks)
    worker.spool.save(f"contents-{rows.number}", contents)


def _removed(worker: Prepared, pseudonyms: npt.NDArray[np.uint8]) -> EncodedRecords:
    study, party = worker.study, worker.party
    clk_bytes = {clk.id: clk.length // 8 for clk in study.clks_of(party)}
    rules = [rule.id for rule in study.rules_of(party)]
    marks = len(worker.order.strata)
    return removals(pseudonyms, clk_bytes, rules, MATCH_KEY_BYTES, strata=marks)


def _gathered(worker: Prepared, part: Stretch) -> tuple[Contents, EncodedRecords]:
    """Return a stretch of records from all batches, and the digests of their values."""
    spool, study = worker.spool, worker.study
    rows = np.asarray(spool.load("order")[part.start : part.stop])
    clks, rules = study.clks_of(worker.party), study.rules_of(worker.party)
    runs = Runs(worker.whole, rows)
    contents = runs.column("contents", np.uint64)
    bits = [runs.column(f"bits_{clk.id}", np.uint8, clk.length // 8) for clk in clks]
    has_clk = runs.column("has_clk", np.bool_, len(clks))
    keys = runs.column("keys", np.uint8, len(rules), MATCH_KEY_BYTES)
    has_key = runs.column("has_key", np.bool_, len(rules))
    byte, bit = rows >> 3, np.uint8(128) >> (rows & 7).astype(np.uint8)
    for place in range(len(rules)):
        lost = np.flatnonzero(np.take(worker.lost[place], byte) & bit)
        has_key[lost, place] = False
        keys[lost, place] = 0
    records = EncodedRecords(
        pseudonyms=np.array(spool.load("names")[part.start : part.stop]),
        groups=np.array(spool.load("group_positions")[part.start : part.stop]),
        clks={
            clk.id: FixedColumn(made, np.ascontiguousarray(has_clk[:, i]))
            for i, (clk, made) in enumerate(zip(clks, bits, strict=True))
        },
        match_keys={
            rule.id: FixedColumn(keys[:, i], np.ascontiguousarray(has_key[:, i]))
            for i, rule in enumerate(rules)
        },
        strata=np.array(spool.load("strata")[part.start : part.stop])
        if worker.order.strata
        else None,
    )
    return contents, records


def _beside_each_other(keys: list[npt.NDArray[np.uint8]], n: int) -> npt.NDArray[np.uint8]:
    """Return uint8[n, R, 16] of R times uint8[n, 16]."""
    # A type of 16 bytes, so that a key is copied as one item; nothing is computed with it.
    made = np.empty((n, len(keys)), np.complex128)
    for place, one in enumerate(keys):
        made[:, place] = np.ascontiguousarray(one).view(np.complex128)[:, 0]
    return made.view(np.uint8).reshape(n, len(keys), MATCH_KEY_BYTES)


def _stacked(columns: list[npt.NDArray[Any]], n: int) -> npt.NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((n, 0), dtype=bool)
