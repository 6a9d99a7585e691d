"""
Make encoding_v2.json: the bytes that encodings have, pinned.

    python -m tests.vectors.make_encoding_vectors

These come from this project itself, so they prove nothing but that the bytes stay. What they
should be is shown by clk_v1.json (clkhash) and by the tests that rebuild derivation, diffusion
and match keys from docs/formats-encoding.md. New bytes need a new version, not a new file.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np

from linkage.encoding.encoder import encode_records
from linkage.encoding.keys import StudyKey
from linkage.records import FixedColumn
from linkage.schema import schema_hash
from linkage.study import parse_study
from tests.coded import coded

HERE = Path(__file__).parent
COLUMNS = {
    "first_name": ["ann", "maximilian", "", "jose"],
    "middle_name": ["b", "quentin", "", ""],
    "last_name": ["lee", "wolfeschlegelsteinhausen", "", "garcialopez"],
    "date_of_birth": ["19700102", "20001231", "19450508", ""],
    "sex": ["f", "m", "", "m"],
    "street": ["12 n main st", "", "", "1 oak ave"],
    "ssn": ["078051121", "", "123004567", "666123456"],
}


def _study_text() -> str:
    """Return the study of the unit tests, so that a test can hold both equal."""
    path = HERE.parent / "unit" / "encoding" / "conftest.py"
    spec = importlib.util.spec_from_file_location("encoding_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.STUDY)


def _rows(column: FixedColumn) -> list[str | None]:
    pairs = zip(column.values, column.present, strict=True)
    return [row.tobytes().hex() if there else None for row, there in pairs]


def main() -> None:
    text = _study_text()
    study, key = parse_study(text), StudyKey(bytes(range(100, 132)))
    pseudonyms = np.arange(64, dtype=np.uint8).reshape(4, 16)
    parties = {}
    for party in study.party:
        records = encode_records(
            coded(COLUMNS), pseudonyms, study=study, party=party, key=key
        ).records
        columns = {**records.clks, **records.match_keys}
        parties[party.id] = {name: _rows(column) for name, column in columns.items()}
    content = {
        "study": text,
        "key": key.secret_bytes().hex(),
        "schema_hash": schema_hash(study),
        "key_check": key.key_check(study),
        "columns": COLUMNS,
        "parties": parties,
    }
    written = json.dumps(content, indent=1, ensure_ascii=True) + "\n"
    (HERE / "encoding_v2.json").write_text(written, encoding="ascii")


if __name__ == "__main__":
    main()
