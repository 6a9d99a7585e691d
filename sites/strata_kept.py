"""
Marks of strata, kept: one a record and variable, drawn once and sent ever after.

    settle(vault, spool, order)      writes "strata", uint8[K, V]

Whoever saw a record's mark drawn anew with every dataset version would average chance away. So a
mark stays what it was, for all versions and epochs, also where the record's value is corrected. A
record that the site groups with others as one person bears their mark, not one more. Kept under
the contributor's secret; never sent are the names it is kept by.

What adds up all the same is a variable whose groups or epsilon the study changes: its marks are
drawn anew. `most_epsilon` of the site file bounds what all of them come to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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

_CHUNK_ROWS = 500_000
_ROWS_AT_ONCE = 2_000_000


def settle(
    vault: Vault, spool: Spool, study_id: str, strata: Sequence[Stratum], most_epsilon: float
) -> None:
    """
    Write the marks that the records kept are sent with, in their order: those that are kept of
    earlier versions, else as they were drawn. What is new is kept before anything is sent.

    Raises Conflict where the variables would come to more than `most_epsilon`.
    """
    kept = _Kept.load(vault, study_id)
    places = [kept.place(one) for one in strata]
    kept.require_within(most_epsilon)
    names = np.asarray(spool.load("names"))
    groups = np.asarray(spool.load("group_positions"))
    drawn = _drawn(spool, len(strata))
    earlier = kept.of(names)[:, places]
    sent = np.stack(
        [_settled(earlier[:, i], drawn[:, i], groups) for i in range(len(strata))], axis=1
    )
    kept.add(names, places, sent)
    kept.save(vault, study_id)
    spool.save("strata", sent)


class _Kept:
    """
    All marks ever drawn for a study. variables: whose, in the order of the columns; names:
    uint8[N, 16] in order; marks: uint8[N, variables].
    """

    def __init__(
        self, variables: list[dict[str, Any]], names: npt.NDArray[np.uint8], marks: Marks
    ) -> None:
        self.variables, self.names, self.marks = variables, names, marks

    @classmethod
    def load(cls, vault: Vault, study_id: str) -> _Kept:
        """Read what is kept; nothing where there is none yet."""
        told = vault.kept(f"{_folder(study_id)}/variables")
        if told is None:
            return cls([], np.zeros((0, 16), np.uint8), np.zeros((0, 0), np.uint8))
        said = json.loads(told)
        width = len(said["variables"])
        chunks = [np.zeros((0, 16 + width), np.uint8)]
        for chunk in range(said["chunks"]):
            data = vault.kept(_chunk(study_id, said["version"], chunk))
            if data is None:
                raise Conflict(
                    "a part of the kept marks of strata is missing",
                    hint="restore the private folder from your backup; drawn anew, marks would"
                    " tell more than agreed",
                )
            chunks.append(np.frombuffer(data, np.uint8).reshape(-1, 16 + width))
        rows = np.concatenate(chunks)
        made = cls(said["variables"], np.ascontiguousarray(rows[:, :16]), rows[:, 16:])
        made._version = said["version"]
        return made

    _version = 0

    def place(self, stratum: Stratum) -> int:
        """Return the column of a variable; a new one where no mark was drawn by its rule."""
        said = stratum.model_dump(mode="json")
        if said not in self.variables:
            self.variables.append(said)
            column = np.full((len(self.names), 1), NO_MARK, np.uint8)
            self.marks = np.concatenate([self.marks, column], axis=1)
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

    def of(self, names: npt.NDArray[np.uint8]) -> Marks:
        """Return the marks of these pseudonyms, uint8[n, 16]; NO_MARK where there is none."""
        found = np.full((len(names), len(self.variables)), NO_MARK, np.uint8)
        at = _places(self.names, names)
        found[at >= 0] = self.marks[at[at >= 0]]
        return found

    def add(self, names: npt.NDArray[np.uint8], places: Sequence[int], sent: Marks) -> None:
        """Take up what is sent of these pseudonyms; they are in order."""
        at = _places(self.names, names)
        old, new = at >= 0, at < 0
        self.marks = self.marks.copy()
        self.marks[np.ix_(at[old], np.asarray(places))] = sent[old]
        fresh = np.full((int(new.sum()), len(self.variables)), NO_MARK, np.uint8)
        fresh[:, places] = sent[new]
        whole = np.concatenate([self.names, names[new]])
        order = sorting(whole)
        self.names = whole[order]
        self.marks = np.concatenate([self.marks, fresh])[order]

    def save(self, vault: Vault, study_id: str) -> None:
        """Keep all of it, encrypted; the version before counts until the last line is written."""
        version = self._version % 2 + 1
        starts = range(0, len(self.names), _CHUNK_ROWS)
        for chunk, start in enumerate(starts):
            some = slice(start, start + _CHUNK_ROWS)
            rows = np.concatenate([self.names[some], self.marks[some]], axis=1)
            vault.keep(_chunk(study_id, version, chunk), rows.tobytes())
        said = {"variables": self.variables, "chunks": len(starts), "version": version}
        vault.keep(f"{_folder(study_id)}/variables", json.dumps(said).encode())


def _settled(earlier: Marks, drawn: Marks, groups: npt.NDArray[np.uint32]) -> Marks:
    """
    Return the marks that are sent: a record's own earlier one; else the earlier one of the first of
    its group that has any; else the one drawn for the group's first record. groups: that one's row.
    """
    count = len(groups)
    known = np.flatnonzero(earlier != NO_MARK)
    first = np.full(count, count, np.int64)
    np.minimum.at(first, groups[known], known)
    of_group = first[groups]
    shared = np.where(of_group < count, earlier[np.minimum(of_group, count - 1)], drawn[groups])
    return np.where(earlier != NO_MARK, earlier, shared)


def _drawn(spool: Spool, variables: int) -> Marks:
    """Return the marks drawn for the records kept, in their order, some at a time."""
    whole, order = Assembled(spool), np.asarray(spool.load("order"))
    made = np.empty((len(order), variables), np.uint8)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        made[some] = Runs(whole, order[some]).column("strata", np.uint8, variables)
    return made


def _places(known: npt.NDArray[np.uint8], names: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the row of each of `names` in `known`, which is in order; -1 where it is not there."""
    one, other = (np.ascontiguousarray(n).view(">u8").astype(np.uint64) for n in (known, names))
    at = np.searchsorted(one[:, 0], other[:, 0]).astype(np.int64)
    found = np.full(len(names), -1, np.int64)
    open_rows = np.arange(len(names))
    while len(open_rows):  # pseudonyms are random, so hardly ever twice
        open_rows = open_rows[at[open_rows] < len(one)]
        here = one[at[open_rows]]
        open_rows, here = (x[here[:, 0] == other[open_rows, 0]] for x in (open_rows, here))
        same = here[:, 1] == other[open_rows, 1]
        found[open_rows[same]] = at[open_rows[same]]
        open_rows = open_rows[~same]
        at[open_rows] += 1
    return found


def _folder(study_id: str) -> str:
    return f"strata/{study_id}"


def _chunk(study_id: str, version: int, chunk: int) -> str:
    return f"{_folder(study_id)}/{version}-{chunk:05d}"
