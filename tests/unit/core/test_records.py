"""What a part may hold, beyond what Arrow itself checks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from linkage import records
from linkage.errors import EncodingRefused
from linkage.plain_arrow import read_stream
from linkage.records import EncodedRecords, FixedColumn, from_arrow, to_arrow
from linkage.study import parse_study
from tests.studies import STUDY

SMALL = parse_study(STUDY)
N = 4


def batch() -> pa.RecordBatch:
    names = np.zeros((N, 16), np.uint8)
    names[:, 0] = np.arange(N)
    clks = {
        clk.id: FixedColumn(np.ones((N, clk.length // 8), np.uint8), np.ones(N, dtype=bool))
        for clk in SMALL.clk
    }
    keys = {
        rule.id: FixedColumn(np.zeros((N, 16), np.uint8), np.zeros(N, dtype=bool))
        for rule in SMALL.match_key
    }
    records = EncodedRecords(names, np.arange(N, dtype=np.uint32), clks, keys)
    return to_arrow(records, SMALL)


def with_a_null(column: pa.Array) -> pa.Array:
    nulls = pa.array([False, True, False, False])
    if pa.types.is_fixed_size_list(column.type):
        return pa.FixedSizeListArray.from_arrays(column.flatten(), type=column.type, mask=nulls)
    values = column.to_pylist()
    return pa.array([values[0], None, *values[2:]], column.type)


@pytest.mark.parametrize("name", ["record_pseudonym", "group", "match_keys"])
def test_a_null_where_every_record_has_a_value_is_refused(name: str) -> None:
    good = batch()
    assert len(from_arrow([good], SMALL, "alpha")) == N
    at = good.schema.get_field_index(name)
    columns = [with_a_null(c) if i == at else c for i, c in enumerate(good.columns)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, good.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=good.schema))
    _, batches = read_stream(sink.getvalue().to_pybytes())
    with pytest.raises(EncodingRefused, match="nulls where every record has a value"):
        from_arrow(batches, SMALL, "alpha")


def test_parts_read_one_by_one_are_what_they_are_together() -> None:
    whole = batch()
    cut = [whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, N - 1)]
    together, streamed = (
        from_arrow(cut, SMALL, "alpha"),
        from_arrow(iter(cut), SMALL, "alpha", rows=N),
    )
    assert to_arrow(streamed, SMALL).equals(whole)
    assert to_arrow(together, SMALL).equals(whole)
    for wrong in (N - 1, N + 1):
        with pytest.raises(EncodingRefused, match="another number of records"):
            from_arrow(iter(cut), SMALL, "alpha", rows=wrong)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 1), (0, 0, 0)])
def test_keys_that_lie_beside_each_other_are_not_copied_and_give_the_same(
    order: tuple[int, ...],
) -> None:
    keys = np.random.default_rng(1).integers(0, 256, (50, 3, 16), dtype=np.uint8)
    columns = [keys[:, place] for place in order]
    found = records._beside_each_other(columns)
    assert (found == np.stack(columns, axis=1)).all()
    assert np.shares_memory(found, keys) == (order == (0, 1, 2))
    assert (records._beside_each_other([one.copy() for one in columns]) == found).all()
