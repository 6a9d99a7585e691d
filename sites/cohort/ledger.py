"""
The study's ledger of counts: every answer, and every set of persons of which a number was shown.

    with Ledger(vault, key, study.counts, minimum=11).held() as book:
        numbers = book.numbers(names)
        sets = book.shown_sets()
        sets.show(numbers)               what may be read of these persons
        book.keep(entry, sets.added, depths)

One ledger a study, in the enclave's private folder, encrypted like its neighbours; whoever asks, by
whatever account, is answered by it. An entry is there before its answer is shown, in one rename
with all sets that it made known. Persons are known by their record ids, so that a reloaded OMOP
database meets its earlier answers. Remaining weakness: a private folder that is restored from a
backup forgets what was answered since; the same persons still read the same, for that the blur
needs no memory, but what differs from a forgotten set by few is answered apart from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import Conflict, KeyRefused, NotAllowed
from linkage.study_parts import CountRules
from sites.cohort.blur import Blur, Tags
from sites.cohort.shown_sets import Anchor, Ints, ShownSets, ShowRule, Told

_FOLDER = "counts"
_PEOPLE = f"{_FOLDER}/people"

Depths = np.ndarray[Any, np.dtype[np.uint8]]
"""By number of the person, the last step of the attrition that it is in, from 1; 0: none."""


class Store(Protocol):
    """Where private objects are kept, encrypted: a sites.vault.Vault."""

    @property
    def folder(self) -> Path: ...

    def keep(self, name: str, data: bytes) -> None: ...

    def kept(self, name: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class UnsafeFolder:
    """A Store that encrypts nothing: for measurements on made people."""

    folder: Path

    def keep(self, name: str, data: bytes) -> None:
        path = self.folder / "kept" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def kept(self, name: str) -> bytes | None:
        path = self.folder / "kept" / name
        return path.read_bytes() if path.exists() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One answered question. asked: SHA-256, hex, of what makes it the same question again, the
    imaging half apart, which shows in who is left. at: Unix seconds. answer: what may be read.
    exact: persons, for the enclave only. same_as: the question whose answer this one got.
    """

    question: str
    run: str
    epoch: int
    at: float
    asked: str
    answer: Mapping[str, Any]
    exact: int
    same_as: str = ""


class Ledger:
    """
    The counts of one study, as one enclave made them.

    key: 32 bytes that nobody else has; another one gives every set another blur. minimum: the
    study's minimum cell.
    """

    def __init__(
        self, store: Store, key: bytes, rules: CountRules, *, minimum: int, epoch: int = 1
    ) -> None:
        self._store, self.rules, self.minimum, self.epoch = store, rules, minimum, epoch
        self.blur = Blur(key, rules.noise)

    @contextmanager
    def held(self) -> Iterator[Book]:
        """Read the ledger and let no other process answer meanwhile. Raises Conflict."""
        folder = self._store.folder / "kept" / _FOLDER
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Book(self, self._store)
        except BlockingIOError:
            raise Conflict(
                "a question is being counted already, by another process",
                hint="try again when it has ended",
            ) from None
        finally:
            os.close(handle)

    def looked_at(self) -> Book:
        """Read the ledger for what it would answer: writes nothing, and waits for nobody."""
        return Book(self, self._store)

    def entries(self) -> list[Entry]:
        """Return every answered question, oldest first."""
        return [one for one, _, _ in _read(self._store)]


class Book:
    """The ledger, opened: what it holds, and what an answer adds to it."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger, self._store = ledger, store
        self._kept = _read(store)
        self._names, self._tags = self._people()
        self._kept_names = len(self._names)

    def answered(self, question: str) -> Entry | None:
        """Return the entry of a question, None where it was not answered."""
        return next((one for one, _, _ in self._kept if one.question == question), None)

    def numbers(self, names: Sequence[str]) -> Ints:
        """Return the number of each person; whoever is new gets the next one, `keep` keeps it."""
        asked = pa.array(names, pa.string())
        found = pc.index_in(asked, value_set=self._names)
        if found.null_count:
            new = asked.filter(found.is_null()).unique()
            self._names = pa.concat_arrays([self._names, new])
            tags = self._ledger.blur.tags(new.to_pylist())
            self._tags = np.concatenate([self._tags, tags])
            found = pc.index_in(asked, value_set=self._names)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)

    def shown_sets(self) -> ShownSets:
        """Return what decides about further sets, with all that were shown."""
        rules = self._ledger.rules
        rule = ShowRule(
            minimum=self._ledger.minimum,
            rounding=rules.rounding,
            zero=rules.zero,
            small_answers=rules.small_answers,
        )
        told = [one for _, one, _ in self._kept]
        # What is told of a person is counted anew in each epoch; the rest holds for all of them.
        now = [one for entry, one, _ in self._kept if entry.epoch == self._ledger.epoch]
        before = Told(
            [anchor for one in told for anchor in one.anchors],
            {name: value for one in told for name, value in one.answers.items()},
            np.concatenate([np.zeros(0, np.int64), *(one.who for one in now)]),
            np.concatenate([np.zeros(0, np.float64), *(one.units for one in now)]),
        )
        return ShownSets(rule, self._ledger.blur, self._tags, before)

    def unchanged(self, asked: str, depths: Depths) -> Entry | None:
        """Return the newest entry of the same question that too few records have left since."""
        for entry, _, before in reversed(self._kept):
            if entry.asked == asked and not entry.same_as:
                size = max(len(before), len(depths))
                then, now = (np.pad(one, (0, size - len(one))) for one in (before, depths))
                if np.count_nonzero(then != now) < self._ledger.rules.changed:
                    return entry
        return None

    def require_room(self) -> None:
        """Raises NotAllowed where the epoch's questions are used up."""
        epoch, most = self._ledger.epoch, self._ledger.rules.questions
        used = sum(one.epoch == epoch and not one.same_as for one, _, _ in self._kept)
        if used >= most:
            raise NotAllowed(
                f"the study's {most:,} questions of this epoch are counted ([counts] questions)",
                hint="nothing was shown. Questions that were counted keep their answers; a new one"
                " waits for the custodian to sign the next epoch",
            )

    def keep(self, entry: Entry, told: Told | None = None, depths: Depths | None = None) -> None:
        """Keep an answer and all that it makes known: all of it, or nothing."""
        self._keep_people()  # first: an answer names persons by their numbers
        told = told or Told()
        packed = b"" if depths is None else zlib.compress(depths.tobytes(), 1)
        who = zlib.compress(
            told.who.astype("<u4").tobytes() + told.units.astype("<f8").tobytes(), 1
        )
        head = {
            "entry": asdict(entry),
            "anchors": [[one.size, one.moved, one.value, len(one.packed)] for one in told.anchors],
            "depths": len(packed),
            "answers": {name.hex(): value for name, value in told.answers.items()},
        }
        parts = [json.dumps(head).encode(), b"\n", *(one.packed for one in told.anchors)]
        name = f"{_FOLDER}/answer-{len(self._kept) + 1:06d}"
        self._store.keep(name, b"".join([*parts, packed, who]))
        found = np.zeros(0, np.uint8) if depths is None else depths
        self._kept.append((entry, told, found))

    def _keep_people(self) -> None:
        if len(self._names) == self._kept_names:
            return
        table = pa.table({"name": self._names, "tag": self._tags})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        self._store.keep(_PEOPLE, sink.getvalue().to_pybytes())
        self._kept_names = len(self._names)

    def _people(self) -> tuple[pa.Array, Tags]:
        kept = self._store.kept(_PEOPLE)
        if kept is None:
            return pa.array([], pa.string()), np.zeros(0, np.uint64)
        table = pa.ipc.open_stream(kept).read_all().combine_chunks()
        return table["name"].combine_chunks(), table["tag"].to_numpy()


def _read(store: Store) -> list[tuple[Entry, Told, Depths]]:
    folder = store.folder / "kept" / _FOLDER
    found = []
    for number, path in enumerate(sorted(folder.glob("answer-*")), start=1):
        if path.name != f"answer-{number:06d}":
            raise KeyRefused(
                f"an entry of the ledger of counts is missing before {path.name}",
                hint="restore the private folder from your backup: without it earlier answers"
                " could be told apart",
            )
        kept = store.kept(f"{_FOLDER}/{path.name}")
        found.append(_entry(kept or b""))
    return found


def _entry(kept: bytes) -> tuple[Entry, Told, Depths]:
    line, _, rest = kept.partition(b"\n")
    head = json.loads(line)
    anchors, at = [], 0
    for size, moved, value, length in head["anchors"]:
        anchors.append(Anchor(size, moved, value, rest[at : at + length]))
        at += length
    packed, charged = rest[at : at + head["depths"]], rest[at + head["depths"] :]
    depths = np.frombuffer(zlib.decompress(packed), np.uint8) if packed else np.zeros(0, np.uint8)
    answers = {bytes.fromhex(name): value for name, value in head.get("answers", {}).items()}
    # Written before persons were charged: what was told then costs nothing now.
    raw = zlib.decompress(charged) if charged else b""
    half = len(raw) // 12 * 4
    who = np.frombuffer(raw[:half], "<u4").astype(np.int64)
    told = Told(anchors, answers, who, np.frombuffer(raw[half:], "<f8").astype(np.float64))
    return Entry(**head["entry"]), told, depths
