"""
Intermediate results of runs: sealed by the broker to itself, named by run and step.

Their names are fixed, so a step that is repeated after a crash replaces its own result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from broker.container import Broker
from broker.store import runs
from broker.store.engine import Connection
from linkage.errors import MatchingFailed
from linkage.messages import BROKER
from linkage.sealing import Context, KeyHolder, seal, unseal

PURPOSE = "run-intermediate"


def _takes(connection: Connection, run_id: str) -> bool:
    """May a run still get results? Nothing may lie about that no run's end would delete."""
    row = runs.find(connection, run_id)
    return row is not None and row.state not in ("failed", "cancelled")


def stream_of(table: pa.Table | pa.RecordBatch) -> bytes:
    """Return an Arrow table or batch as an IPC stream, schema metadata included."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


class Scratch:
    """The intermediate results of one run of `study_id`."""

    def __init__(self, broker: Broker, identity: KeyHolder, study_id: str, run_id: str) -> None:
        self._broker, self._identity = broker, identity
        self._study_id, self._run_id = study_id, run_id

    def put(self, name: str, data: bytes) -> None:
        """Seal and store `data` under `name`, in place of an earlier one."""
        self.put_all({name: data}, lambda _: True)

    def put_all(self, found: Mapping[str, bytes], within: Callable[[Connection], bool]) -> bool:
        """
        Seal and store several results in the transaction of `within`, all of them or, where that
        returns False, none; return what it returned.
        """
        new = {name: self._blob(name, data) for name, data in found.items()}
        with self._broker.database.change() as connection:
            kept = _takes(connection, self._run_id) and within(connection)
            changes = new.items() if kept else ()
            old = [runs.set_intermediate(connection, self._run_id, *one) for one in changes]
        # Where the transaction failed, it may have been done all the same: the sweep decides.
        for blob_id in old if kept else new.values():
            if blob_id:
                self._broker.blobs.delete(blob_id)
        return kept

    def _blob(self, name: str, data: bytes) -> str:
        public = self._identity.public()
        sealed = seal(data, sender=self._identity, recipient=public, context=self._context(name))
        return self._broker.blobs.put(sealed).blob_id

    def get(self, name: str) -> bytes:
        """Return what was stored under `name`. Raises MatchingFailed if it is gone."""
        with self._broker.database.read() as connection:
            blob_id = runs.find_intermediate(connection, self._run_id, name)
        if blob_id is None:
            raise MatchingFailed(
                "an intermediate result of the run is gone", hint="start the run again"
            )
        return unseal(
            self._broker.blobs.read(blob_id),
            sender=self._identity.public(),
            recipient=self._identity,
            context=self._context(name),
        )

    def count(self, prefix: str) -> int:
        """Return how many results have a name that starts with `prefix`."""
        with self._broker.database.read() as connection:
            return runs.count_intermediates(connection, self._run_id, prefix)

    def put_table(self, name: str, table: pa.Table | pa.RecordBatch) -> None:
        """Store an Arrow table or batch, schema metadata included."""
        self.put(name, stream_of(table))

    def get_table(self, name: str) -> pa.Table:
        """Return a stored table in one chunk a column."""
        with pa.ipc.open_stream(self.get(name)) as reader:
            return reader.read_all().combine_chunks()

    def get_batch(self, name: str) -> pa.RecordBatch:
        """Return a stored record batch, which may have no rows."""
        with pa.ipc.open_stream(self.get(name)) as reader:
            return reader.read_next_batch()

    def _context(self, name: str) -> Context:
        return Context(self._study_id, BROKER, BROKER, PURPOSE, (self._run_id, name))
