"""
What changed since an earlier dataset version, told by marks that never leave the site.

    marks = RowMarks.of(names, row_marks, group_positions)
    changes = marks.since(earlier)
    keep_contents(vault, dataset, contents)       and later:
    known = kept_contents(vault, dataset, names)

A mark is a keyed digest of a record's values, of which of its keys are sent, and of who else is in
its group; under the keys of one study its encodings are a function of these. So the broker need not
hear again of a record whose mark is the same. Of each record's values alone a digest is kept too:
whoever reads the source again (sites.second_looks) sees whether a record is as it was uploaded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.delta import is_among, sorting
from linkage.encoding.fields import NORMALISATION_VERSION
from linkage.errors import Conflict
from linkage.signed_study import SignedStudy
from sites import assembly
from sites.packages import load_manifest
from sites.vault import Vault

_CHUNK_ROWS = 500_000
_ROW = np.dtype([("name", np.uint8, 16), ("mark", np.uint64)])


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """
    told: bool[N], the records that a delta holds: new, changed, or of a group with such a member.
    removed: uint8[r, 16], pseudonyms of records that are gone. added, changed: how many.
    """

    told: npt.NDArray[np.bool_]
    removed: npt.NDArray[np.uint8]
    added: int
    changed: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RowMarks:
    """The marks of a dataset version: names uint8[N, 16] in order, marks uint64[N]."""

    names: npt.NDArray[np.uint8]
    marks: npt.NDArray[np.uint64]

    @classmethod
    def of(
        cls,
        names: npt.NDArray[np.uint8],
        marks: npt.NDArray[np.uint64],
        group_positions: npt.NDArray[np.uint32],
    ) -> RowMarks:
        """Return marks that also change with the members of a record's group."""
        sizes = np.bincount(group_positions, minlength=len(names))
        shared = np.zeros(len(names), np.uint64)
        # Pseudonyms are random, so the XOR of the members' names their set.
        np.bitwise_xor.at(shared, group_positions, names.view(np.uint64)[:, 1])
        alone = sizes[group_positions] == 1
        return cls(names, marks ^ np.where(alone, np.uint64(0), shared[group_positions]))

    def since(self, earlier: RowMarks, group_positions: npt.NDArray[np.uint32]) -> Changes:
        """
        Return what is to be told to whoever holds the earlier version.

        Both are in order, so they are compared a range of names at a time: memory stays bounded.
        """
        known, same = np.zeros(len(self.names), dtype=bool), np.zeros(len(self.names), dtype=bool)
        removed = [np.zeros((0, 16), np.uint8)]
        mine, theirs = _leading(self.names), _leading(earlier.names)
        for ends in assembly.passes(len(mine) + len(theirs), assembly.PASS_ROWS):
            new, old = (slice(*np.searchsorted(one, ends)) for one in (mine, theirs))
            known[new] = is_among(self.names[new], earlier.names[old])
            same[new] = _equal(self, new, earlier, old)
            gone = ~is_among(earlier.names[old], self.names[new])
            removed.append(earlier.names[old][gone])
        different = ~same
        in_group = np.zeros(len(self.names), dtype=bool)
        in_group[group_positions[different]] = True
        return Changes(
            told=in_group[group_positions],
            removed=np.concatenate(removed),
            added=int((~known).sum()),
            changed=int((different & known).sum()),
        )

    def save(self, vault: Vault, dataset: int) -> None:
        """Keep the marks of a dataset version, encrypted, in chunks."""
        starts = range(0, len(self.names), _CHUNK_ROWS)
        for chunk, start in enumerate(starts):
            some = slice(start, start + _CHUNK_ROWS)
            rows = np.empty(len(self.names[some]), _ROW)
            rows["name"], rows["mark"] = self.names[some], self.marks[some]
            vault.keep(_name(dataset, chunk), rows.tobytes())
        vault.keep(f"{marks_name(dataset)}/chunks", str(len(starts)).encode())

    @classmethod
    def load(cls, vault: Vault, dataset: int) -> RowMarks:
        """Read the marks of an earlier dataset version. Raises Conflict where there are none."""
        chunks = vault.kept(f"{marks_name(dataset)}/chunks") if dataset else None
        if chunks is None:
            raise Conflict(
                "there is no earlier dataset version to make a delta to",
                hint="tokenize without --delta; the next one can be a delta to it",
            )
        names, marks = [np.zeros((0, 16), np.uint8)], [np.zeros(0, np.uint64)]
        for chunk in range(int(chunks)):
            data = vault.kept(_name(dataset, chunk))
            if data is None:
                raise Conflict(
                    f"a part of what is kept of dataset version {dataset} is missing",
                    hint="tokenize without --delta",
                )
            rows = np.frombuffer(data, _ROW)
            names.append(np.ascontiguousarray(rows["name"]))
            marks.append(np.ascontiguousarray(rows["mark"]))
        return cls(np.concatenate(names), np.concatenate(marks))


def keep_contents(vault: Vault, dataset: int, contents: npt.NDArray[np.uint64]) -> None:
    """
    Keep the keyed digests of a dataset version's values, encrypted, parallel to its marks. Comes
    before `RowMarks.save`: a version whose marks are complete has its contents.
    """
    for chunk, start in enumerate(range(0, len(contents), _CHUNK_ROWS)):
        some = np.ascontiguousarray(contents[start : start + _CHUNK_ROWS])
        vault.keep(_contents_name(dataset, chunk), some.tobytes())


def kept_contents(vault: Vault, dataset: int, names: Collection[bytes]) -> dict[bytes, int]:
    """
    Return the digest of the values that each of these records was uploaded with, by pseudonym;
    without those that the dataset version has not.

    Raises Conflict where none are kept: an earlier version of the software kept none.
    """
    chunks = vault.kept(f"{marks_name(dataset)}/chunks") if dataset else None
    wanted = np.frombuffer(b"".join(sorted(names)), np.uint8).reshape(-1, 16)
    found: dict[bytes, int] = {}
    for chunk in range(int(chunks or 1)):
        rows, contents = (vault.kept(one(dataset, chunk)) for one in (_name, _contents_name))
        if chunks is None or rows is None or contents is None:
            raise Conflict(
                f"nothing is kept of the values of dataset version {dataset}",
                hint="tokenize again and submit; this version of the software keeps it",
            )
        known = np.ascontiguousarray(np.frombuffer(rows, _ROW)["name"])
        here = np.flatnonzero(is_among(known, wanted))
        digests = np.frombuffer(contents, np.uint64)[here].tolist()
        found |= {known[row].tobytes(): one for row, one in zip(here, digests, strict=True)}
    return found


def _leading(names: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    return names[:, 0].astype(np.int32) << 8 | names[:, 1]


def _equal(
    left: RowMarks, left_rows: slice, right: RowMarks, right_rows: slice
) -> npt.NDArray[np.bool_]:
    """Return which of the left rows are among the right ones, mark and all."""
    both = np.concatenate([left.names[left_rows], right.names[right_rows]])
    order = sorting(both)
    marks = np.concatenate([left.marks[left_rows], right.marks[right_rows]])[order]
    both = both[order]
    equal = (both[1:] == both[:-1]).all(axis=1) & (marks[1:] == marks[:-1])
    same = np.zeros(len(both), dtype=bool)
    same[order[1:][equal]] = True
    same[order[:-1][equal]] = True
    return same[: left_rows.stop - left_rows.start]


def base_of(vault: Vault, signed: SignedStudy, dataset: int, *, marked: bool = False) -> int:
    """
    Return the newest dataset version, if `dataset` can be a delta to it. marked: its records bear
    marks of strata. Raises Conflict.
    """
    newest = vault.newest_dataset()
    if newest >= dataset:
        raise Conflict(
            f"dataset version {dataset} is older than the newest, {newest}",
            hint="leave the version out to make the next one",
        )
    RowMarks.load(vault, newest)
    manifest = load_manifest(vault.package(newest))
    if (manifest.study_hash, manifest.normalisation) != (signed.study_hash, NORMALISATION_VERSION):
        raise Conflict(
            f"dataset version {newest} was made for another signed study or by other rules",
            hint="tokenize without --delta",
        )
    if bool(manifest.strata) != marked:
        bears = "no marks of strata, and this one would bear some"
        if manifest.strata:
            bears = "marks of strata, and this one would bear none"
        raise Conflict(
            f"the records of dataset version {newest} bear {bears}",
            hint="tokenize without --delta",
        )
    return newest


def has_marks(vault: Vault, dataset: int) -> bool:
    """Return whether the marks of a dataset version are kept."""
    return dataset > 0 and vault.kept(f"{marks_name(dataset)}/chunks") is not None


def marks_name(dataset: int) -> str:
    """Return the folder of a dataset version's marks, among what is kept."""
    return f"marks-of-{dataset}"


def _name(dataset: int, chunk: int) -> str:
    return f"{marks_name(dataset)}/{chunk:05d}"


def _contents_name(dataset: int, chunk: int) -> str:
    return f"{marks_name(dataset)}/contents-{chunk:05d}"
