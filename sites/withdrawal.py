"""
Withdrawn records: a list that only grows, kept encrypted, and minded by every tokenization.

Whoever withdraws may still be in the source, which others need. So the site keeps the record ids of
the withdrawn and leaves these records out before anything of them is encoded; the next dataset
version, whole or a delta, lacks them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import RowRejected, SourceRefused
from linkage.governance import Withdrawal
from sites.listed_file import read_listed
from sites.sources.base import RawBatch
from sites.vault import Vault

if TYPE_CHECKING:
    from sites.session import Session

NAME = "withdrawn"
"""Of the list among what a vault keeps."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Counts of a change. named: rows of the file. changed: of these, not so before. all: now."""

    named: int
    changed: int
    all: int


def everything(session: Session) -> Withdrawal:
    """
    Return the signed withdrawal of all dataset versions there are: of what this site made, and of
    what the broker has where the private folder was lost.
    """
    states = session.broker.study(session.study_id).parties
    there = [one.dataset or one.outdated or 0 for one in states if one.uploader == session.uploader]
    return Withdrawal(
        study_id=session.study_id,
        uploader=session.uploader,
        newest=max([session.vault.newest_dataset(), *there]),
    ).sign(session.identity)


class Withdrawn:
    """The record ids to leave out."""

    def __init__(self, record_ids: Collection[str]) -> None:
        # Of a list `pa.array` asks pandas what it is, and pandas takes half a second to load.
        self._ids = pa.array(sorted(record_ids), pa.string()) if record_ids else None

    def left_out_of(self, batch: RawBatch) -> RawBatch:
        """Return the batch without withdrawn records."""
        if self._ids is None:
            return batch
        stays = pc.invert(pc.is_in(batch.record_ids, value_set=self._ids))
        if pc.all(stays).as_py() is not False:
            return batch
        return replace(
            batch,
            record_ids=batch.record_ids.filter(stays),
            columns={name: column.filter(stays) for name, column in batch.columns.items()},
            numbers=batch.numbers[stays.to_numpy(zero_copy_only=False)],
        )


def withdrawn_records(vault: Vault) -> set[str]:
    """Return the record ids that are withdrawn at this site."""
    kept = vault.kept(NAME)
    return set(json.loads(kept)) if kept else set()


def change(vault: Vault, record_ids: Collection[str], *, take_back: bool, keep: bool) -> Listed:
    """
    Add record ids to the withdrawn, or take them off the list. keep: False only counts.

    They need not be in any dataset version yet: a record that comes later stays out as well.
    """
    with vault.alone(NAME) if keep else nullcontext():
        before = withdrawn_records(vault)
        after = before - set(record_ids) if take_back else before | set(record_ids)
        if keep and after != before:
            vault.keep(NAME, json.dumps(sorted(after)).encode())
    return Listed(len(record_ids), len(before ^ after), len(after))


def not_found(vault: Vault, record_ids: Sequence[str]) -> list[int]:
    """
    Return the rows, the header is row 1, of listed record ids that the newest dataset version
    has not and that were not withdrawn before: nobody, or a slip. Empty where none was tokenized.
    """
    newest = vault.newest_dataset()
    if not newest:
        return []
    strange = set(record_ids) - withdrawn_records(vault)
    for _, here in vault.map_chunks(newest):
        strange.difference_update(here)
    return [row for row, one in enumerate(record_ids, start=2) if one in strange]


def read_record_ids(path: Path) -> list[str]:
    """
    Read a CSV with the one column `record_id`. Raises SourceRefused, or RowRejected, without the
    value, for an empty or repeated one.
    """
    return read_listed(path, _checked)


def _checked(name: str, reader: Iterable[list[str]]) -> list[str]:
    rows = iter(reader)
    if next(rows, None) != ["record_id"]:
        raise SourceRefused(
            file=name,
            rule="its header is not that of a list of record ids",
            hint="the first row must be: record_id",
        )
    found: dict[str, int] = {}
    for row, cells in enumerate(rows, start=2):
        text = cells[0].strip() if len(cells) == 1 else ""
        rule = "is that of an earlier row too" if text in found else "names no record"
        if not text or text in found:
            hint = "one record id a row, each once"
            raise RowRejected(file=name, row=row, field="record_id", rule=rule, hint=hint)
        found[text] = row
    return list(found)
