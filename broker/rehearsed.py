"""
What a broker tells of pairs in a rehearsal, and never otherwise: their probabilities.

One machine plays all parts of a rehearsal, so that a study can be tried before agreements are
signed; there the probabilities can be held against a truth. They would let parties rebuild the
graph of a real linkage (docs/threat-model.md, T17), so the mark of the signed study decides, not a
setting: a study that was signed for real leaves nothing here, on whatever broker. No address of the
API gives the file. It lies in the broker's folder, which a rehearsal removes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from broker.config import Home
from broker.registered import RegisteredStudy
from broker.scratch import stream_of
from linkage.matching.weights import Weights
from linkage.records import Bytes2D
from linkage.whole_file import write_private


def keep_probabilities(
    home: Home,
    study: RegisteredStudy,
    run_id: str,
    made: Weights,
    pseudonyms: Mapping[str, Bytes2D],
) -> None:
    """
    In a rehearsal, write the run's pairs into the broker's folder; otherwise do nothing.

    pseudonyms: by uploader, of its records. Repeated, it gives the same file.
    """
    if not study.signed.rehearsal:
        return
    content = stream_of(_table(made, pseudonyms))
    write_private(probabilities_file(home.path, run_id), content)


def probabilities_file(folder: Path, run_id: str) -> Path:
    """Return where the pairs of a rehearsed run are, in the broker's folder."""
    return folder / "rehearsed" / f"{run_id}.arrow"


def _table(made: Weights, pseudonyms: Mapping[str, Bytes2D]) -> pa.Table:
    """
    Return left, left_record, right, right_record, probability: an uploader and a record pseudonym
    of 16 bytes a side.
    """
    parts = [
        pa.table(
            {
                "left": pa.array([one.parties[0]] * len(one.left), pa.string()),
                "left_record": _names(pseudonyms[one.parties[0]][one.left]),
                "right": pa.array([one.parties[1]] * len(one.left), pa.string()),
                "right_record": _names(pseudonyms[one.parties[1]][one.right]),
                "probability": pa.array(one.probability, pa.float64()),
            }
        )
        for one in made.comparisons
    ]
    return pa.concat_tables(parts).combine_chunks()


def _names(rows: Bytes2D) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(rows).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, data])
