"""
Marks of strata, kept: one a record and variable, drawn once and sent ever after.

    lay_out(vault, spool, ...)       before records are encoded: says who needs no new mark
    marked(spool, names)             a worker: bool[n]
    settle(vault, spool, ...)        afterwards: writes "strata", uint8[K, V]

Whoever saw a record's mark drawn anew with every dataset version would average chance away. So a
mark stays what it was, for all versions and epochs, also where the record's value is corrected. A
record that the site groups with others as one person bears their mark, not one more. Kept under
the contributor's secret; never sent are the names it is kept by.

What adds up all the same is a variable whose groups or epsilon the study changes: its marks are
drawn anew. `most_epsilon` of the site file bounds what all of them come to.

Both what is kept and what is sent are in the order of their names, so they are read side by side, a
range of names at a time: memory is bounded but for a byte a record and variable, three times, and
16 bytes a record on disk while a tokenization lasts.
"""

from __future__ import annotations

import json
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.delta import sorting
from linkage.errors import Conflict
from linkage.strata import NO_MARK, Stratum
from sites.assembly import Assembled, Runs
from sites.spool import Spool
from sites.strata import Marks
from sites.vault import Vault

Names = npt.NDArray[np.uint8]
"""Pseudonyms, uint8[n, 16], in order."""

_CHUNK_ROWS = 500_000
_ROWS_AT_ONCE = 2_000_000
_MADE_FOR = "marked-by"


def lay_out(
    vault: Vault, spool: Spool, study_id: str, strata: Sequence[Stratum], most_epsilon: float
) -> None:
    """
    Write to the spool whose marks are kept, of all these variables: workers draw for nobody else.

    What an interrupted tokenization left stays only if the marks that it counted on are kept still.
    Raises Conflict where the variables would come to more than `most_epsilon`.
    """
    kept, places = _Kept.of(vault, study_id, strata, most_epsilon)
    told = spool.folder / _MADE_FOR
    if told.exists() and told.read_text(encoding="ascii") not in ("", kept.id):
        spool.cut(0)
    told.write_text(kept.id, encoding="ascii")
    with _half(spool, 0).open("wb") as high, _half(spool, 1).open("wb") as low:
        for rows in kept.chunks():
            whole = (rows[:, 16:][:, places] != NO_MARK).all(axis=1)
            halves = _halves(rows[whole, :16])
            halves[:, 0].tofile(high)
            halves[:, 1].tofile(low)


def marked(spool: Spool, names: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return of pseudonyms, uint8[n, 16] in any order, whether their marks are kept: bool[n]."""
    if not _half(spool, 0).stat().st_size:
        return np.zeros(len(names), bool)
    high, low = (np.memmap(_half(spool, i), np.uint64, "r") for i in (0, 1))
    return _places(high, low, _halves(names)) >= 0


def settle(
    vault: Vault, spool: Spool, study_id: str, strata: Sequence[Stratum], most_epsilon: float
) -> None:
    """
    Write the marks that the records kept are sent with, in their order: those that are kept of
    earlier versions, else as they were drawn. What is new is kept before anything is sent.

    Raises Conflict where the variables would come to more than `most_epsilon`.
    """
    kept, places = _Kept.of(vault, study_id, strata, most_epsilon)
    names, groups = spool.load("names"), np.asarray(spool.load("group_positions"))
    earlier = _earlier(kept, names, places)
    new = bool((earlier == NO_MARK).any())
    sent = _drawn(spool, len(strata))
    for i in range(len(strata)):
        sent[:, i] = _settled(earlier[:, i], sent[:, i], groups)
    del earlier
    if (sent == NO_MARK).any():
        raise Conflict(
            "kept marks of strata were removed while records were tokenized",
            hint="tokenize again: what is missing is drawn then",
        )
    if new:
        kept.renew(names, places, sent)
    spool.save("strata", sent)


def read_otherwise(vault: Vault, study_id: str, readings: Mapping[str, str]) -> bool:
    """
    Return whether kept marks were drawn of groups that were read in another way; those marks stay.
    readings: of sites.strata; the first of each variable is kept. Ask after `settle`.
    """
    name = f"{_folder(study_id)}/readings"
    first = json.loads(vault.kept(name) or b"{}")
    if readings.keys() - first.keys():
        vault.keep(name, json.dumps({**readings, **first}).encode())
    return any(first.get(one, how) != how for one, how in readings.items())


@dataclass
class _Kept:
    """
    All marks ever drawn for a study, as they lie in the vault: chunks of rows in the order of their
    names, each a name of 16 bytes and a mark of each variable. id: of what is kept, from its first
    day; "" where nothing is. variables: in the order of the marks.
    """

    vault: Vault
    study_id: str
    id: str = ""
    variables: list[dict[str, Any]] = field(default_factory=list)
    width: int = 0
    version: int = 0
    count: int = 0

    @classmethod
    def of(
        cls, vault: Vault, study_id: str, strata: Sequence[Stratum], most_epsilon: float
    ) -> tuple[_Kept, list[int]]:
        """Return it with the places of these variables; raises Conflict as `settle` does."""
        kept = cls.load(vault, study_id)
        places = [kept.place(one) for one in strata]
        kept.require_within(most_epsilon)
        return kept, places

    @classmethod
    def load(cls, vault: Vault, study_id: str) -> _Kept:
        """Read what is kept, but for its rows; nothing where there is none yet."""
        told = vault.kept(f"{_folder(study_id)}/variables")
        if told is None:
            return cls(vault, study_id)
        said = json.loads(told)
        variables, name = said["variables"], said.get("id", "first")
        return cls(
            vault, study_id, name, variables, len(variables), said["version"], said["chunks"]
        )

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the rows, uint8[n, 16 + V]; NO_MARK by variables that came since they were kept."""
        fresh = len(self.variables) - self.width
        for chunk in range(self.count):
            data = self.vault.kept(_chunk(self.study_id, self.version, chunk))
            if data is None:
                raise Conflict(
                    "a part of the kept marks of strata is missing",
                    hint="restore the private folder from your backup; drawn anew, marks would"
                    " tell more than agreed",
                )
            rows = np.frombuffer(data, np.uint8).reshape(-1, 16 + self.width)
            yield np.pad(rows, ((0, 0), (0, fresh)), constant_values=NO_MARK) if fresh else rows

    def place(self, stratum: Stratum) -> int:
        """Return the column of a variable; a new one where no mark was drawn by its rule."""
        said = stratum.model_dump(mode="json")
        if said not in self.variables:
            self.variables.append(said)
        return self.variables.index(said)

    def require_within(self, most: float) -> None:
        """Raises Conflict where all variables together come to more than `most`."""
        spent = sum(float(one["epsilon"]) for one in self.variables)
        if spent > most:
            raise Conflict(
                f"the marks of one record would come to an epsilon of {spent:g}, and this site"
                f" allows {most:g}: the study has changed its variables",
                hint="send none ([strata] send = false), or let your privacy officer raise"
                " most_epsilon there",
            )

    def renew(self, names: Names, places: Sequence[int], sent: Marks) -> None:
        """
        Keep what is sent of these names beside all that is kept, encrypted. The version before
        counts until the last line is written.
        """
        version, count = self.version % 2 + 1, 0
        for count, rows in enumerate(_cut(self._merged(names, places, sent)), start=1):
            self.vault.keep(_chunk(self.study_id, version, count - 1), rows.tobytes())
        said = {"variables": self.variables, "chunks": count, "version": version}
        said["id"] = self.id or secrets.token_hex(8)
        self.vault.keep(f"{_folder(self.study_id)}/variables", json.dumps(said).encode())

    def _merged(
        self, names: Names, places: Sequence[int], sent: Marks
    ) -> Iterator[npt.NDArray[np.uint8]]:
        for rows, some in _side_by_side(self, names):
            at = _rows_of(rows, names[some])
            told, old, new = rows.copy(), at >= 0, at < 0
            told[np.ix_(at[old], 16 + np.asarray(places))] = sent[some][old]
            fresh = np.full((int(new.sum()), rows.shape[1]), NO_MARK, np.uint8)
            fresh[:, :16] = names[some][new]
            fresh[:, 16 + np.asarray(places)] = sent[some][new]
            both = np.concatenate([told, fresh])
            yield both[sorting(both[:, :16])]


def _side_by_side(kept: _Kept, names: Names) -> Iterator[tuple[npt.NDArray[np.uint8], slice]]:
    """Yield ranges of names: the rows that are kept in each, and which of `names` are; not many."""
    done = 0
    for rows in kept.chunks():
        stop = _until(names, rows[-1, :16].tobytes())
        taken = 0
        while stop - done > _CHUNK_ROWS:
            some = slice(done, done + _CHUNK_ROWS)
            upto = _until(rows[:, :16], names[some.stop - 1].tobytes())
            yield rows[taken:upto], some
            done, taken = some.stop, upto
        yield rows[taken:], slice(done, stop)
        done = stop
    none = np.zeros((0, 16 + len(kept.variables)), np.uint8)
    for start in range(done, len(names), _CHUNK_ROWS):
        yield none, slice(start, min(len(names), start + _CHUNK_ROWS))


def _cut(pieces: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the same rows in chunks of one size, the last one smaller; none of no rows."""
    waiting: list[npt.NDArray[np.uint8]] = []
    for piece in pieces:
        waiting.append(piece)
        while sum(map(len, waiting)) >= _CHUNK_ROWS:
            whole = np.concatenate(waiting)
            yield whole[:_CHUNK_ROWS]
            waiting = [whole[_CHUNK_ROWS:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def _earlier(kept: _Kept, names: Names, places: Sequence[int]) -> Marks:
    """Return the marks of these names, uint8[n, V]; NO_MARK where none is kept."""
    found = np.full((len(names), len(places)), NO_MARK, np.uint8)
    for rows, some in _side_by_side(kept, names):
        at = _rows_of(rows, names[some])
        found[some][at >= 0] = rows[:, 16:][:, places][at[at >= 0]]
    return found


def _settled(earlier: Marks, drawn: Marks, groups: npt.NDArray[np.uint32]) -> Marks:
    """
    Return the marks that are sent: a record's own earlier one; else the earlier one of the first of
    its group that has any; else the one drawn for the group's first record. groups: that one's row.
    """
    count = len(groups)
    known = np.flatnonzero(earlier != NO_MARK).astype(np.uint32)
    of_group = np.full(count, NO_MARK, np.uint8)
    # Assigned from the last to the first, so the first one of a group stays.
    of_group[groups[known[::-1]]] = earlier[known[::-1]]
    shared = of_group[groups]
    shared = np.where(shared != NO_MARK, shared, drawn[groups])
    return np.where(earlier != NO_MARK, earlier, shared)


def _drawn(spool: Spool, variables: int) -> Marks:
    """Return the marks drawn for the records kept, in their order, some at a time."""
    whole, order = Assembled(spool), spool.load("order")
    made = np.empty((len(order), variables), np.uint8)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        made[some] = Runs(whole, np.asarray(order[some])).column("strata", np.uint8, variables)
    return made


def _rows_of(rows: npt.NDArray[np.uint8], names: Names) -> npt.NDArray[np.int64]:
    """Return the place of each name in rows that begin with one, in order; -1: not there."""
    known = _halves(rows[:, :16])
    return _places(known[:, 0].copy(), known[:, 1].copy(), _halves(names))


def _places(
    high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], asked: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """
    Return the place of each of `asked`, uint64[n, 2], among names in order whose halves are `high`
    and `low`; -1: not there.
    """
    at = np.searchsorted(high, asked[:, 0]).astype(np.int64)
    found = np.full(len(asked), -1, np.int64)
    open_rows = np.arange(len(asked))
    while len(open_rows):  # pseudonyms are random, so hardly ever twice
        open_rows = open_rows[at[open_rows] < len(high)]
        open_rows = open_rows[high[at[open_rows]] == asked[open_rows, 0]]
        same = low[at[open_rows]] == asked[open_rows, 1]
        found[open_rows[same]] = at[open_rows[same]]
        open_rows = open_rows[~same]
        at[open_rows] += 1
    return found


def _halves(names: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return names as two numbers each, uint64[n, 2], which are in the same order."""
    return np.ascontiguousarray(names).view(">u8").astype(np.uint64)


def _until(names: npt.NDArray[np.uint8], last: bytes) -> int:
    """Return how many names, in order, are not after `last`."""
    return bisect_right(range(len(names)), last, key=lambda i: names[i].tobytes())


def _half(spool: Spool, place: int) -> Path:
    return spool.folder / f"marked-{place}"


def _folder(study_id: str) -> str:
    return f"strata/{study_id}"


def _chunk(study_id: str, version: int, chunk: int) -> str:
    return f"{_folder(study_id)}/{version}-{chunk:05d}"
