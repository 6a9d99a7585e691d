"""
A few records found again in the source they were uploaded from: for second looks.

    names = record_ids(vault, dataset, pseudonyms)
    found = find_again(source, reading_fields, names)
    as_uploaded = found.unchanged(known, secret)

The source is read as `tokenize` read it, batch by batch; of it only the records asked about are
normalised and held, and nothing of them is written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import digests
from linkage.encoding.fields import Normaliser
from sites.sources.config import SourceConfig
from sites.sources.opening import open_source
from sites.vault import Vault

Progress = Callable[[str, int, int], None]
_STEP = "read the source"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FoundAgain:
    """
    Records as the source has them now. columns: by field, normalised, one row a record. rows: by
    record pseudonym, its row. Holds identifiers: it refuses pickling, and has no repr.
    """

    columns: dict[str, Coded]
    rows: dict[bytes, int]

    def __reduce__(self) -> NoReturn:
        raise TypeError("records found again refuse pickling: they hold identifiers")

    def unchanged(self, known: Mapping[bytes, int], secret: bytes) -> dict[bytes, int]:
        """
        Return those of `rows` whose values are as they were uploaded.

        known: by pseudonym, the digest of the values then (sites.changes.kept_contents). secret:
        that of the digests (`grouping_secret`).
        """
        _, contents = digests(self.columns, (), secret)
        return {
            name: row for name, row in self.rows.items() if known.get(name) == int(contents[row])
        }


def record_ids(vault: Vault, dataset: int, pseudonyms: Collection[bytes]) -> dict[bytes, str]:
    """
    Return the record id of each of these pseudonyms that dataset version `dataset` has.

    Reads the map chunk by chunk. Raises KeyRefused where it is missing or does not open.
    """
    wanted = set(pseudonyms)
    leading = np.array([int.from_bytes(one[:8], "little") for one in wanted], np.uint64)
    found: dict[bytes, str] = {}
    for names, ids in vault.map_chunks(dataset):
        halves = np.ascontiguousarray(names).view("<u8")[:, 0]
        for row in np.flatnonzero(np.isin(halves, leading)).tolist():
            if (name := names[row].tobytes()) in wanted:
                found.setdefault(name, ids[row])
    return found


def find_again(
    source: SourceConfig,
    fields: tuple[str, ...],
    names: Mapping[bytes, str],
    progress: Progress = lambda step, done, total: None,
) -> FoundAgain:
    """
    Read the source until every record is found, or to its end. names: record id by pseudonym.

    Of two records with one id the first counts, as in `tokenize`; what the source itself now
    leaves out as bad is not found. Raises SourceRefused where it cannot be read.
    """
    wanted = {record_id: name for name, record_id in names.items()}
    ids = pa.array(list(wanted), pa.string())
    reading = source.reading(dt.date.today())
    normalisers = {field: Normaliser(field, reading) for field in fields}
    texts: dict[str, list[str]] = {field: [] for field in fields}
    rows: dict[bytes, int] = {}
    read = 0
    for batch in open_source(source, fields).batches() if wanted else ():
        read += len(batch)
        places = []
        for place in np.flatnonzero(np.asarray(pc.is_in(batch.record_ids, value_set=ids))).tolist():
            name = wanted[batch.record_ids[place].as_py()]
            if name not in rows:
                rows[name] = len(rows)
                places.append(place)
        for field, normaliser in normalisers.items() if places else ():
            some = batch.columns[field].take(pa.array(places))
            texts[field] += normaliser.column(some).column.texts()
        about = round(read * batch.total / batch.done) if batch.total and batch.done else 0
        progress(_STEP, read, max(read, about) if about else 0)
        if len(rows) == len(wanted):
            break
    return FoundAgain({field: Coded.of(column) for field, column in texts.items()}, rows)
