"""
Make clk_v1.json: CLKs by clkhash 0.17.0 itself, which linkage.encoding.clk must equal.

    python tests/vectors/make_clk_vectors.py

Nothing of this project takes part: schemas, secrets and records are written here, the bits
are clkhash's. Run again only for a new format version.
"""

from __future__ import annotations

import base64
import json
from importlib.metadata import version
from pathlib import Path

from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict

FIELDS = ["first_name", "middle_name:initial", "last_name", "date_of_birth", "sex"]
RECORDS = [
    ["ann", "b", "lee", "19700102", "f"],
    ["maximilianalexander", "q", "wolfeschlegelsteinhausen", "20001231", "m"],
    ["jo", "", "ng", "", ""],
    ["", "", "", "", ""],
    ["anna", "a", "aaaaaaaaaaaa", "11111111", "m"],
    ["zoë", "é", "łukasiewicz", "1999", "x"],
    ["o'brien", " ", "mary ann", "12-34", "unknown"],
]
CASES: dict[str, tuple[int, list[tuple[int, int]], str, int]] = {
    "default, bigrams": (2048, [(2, 100), (2, 100), (2, 100), (2, 140), (2, 40)], "SHA256", 64),
    "unigrams, short": (1024, [(1, 100), (1, 50), (1, 100), (1, 100), (1, 20)], "SHA256", 32),
    "trigrams": (2048, [(3, 100), (3, 33), (3, 97), (3, 131), (3, 41)], "SHA256", 64),
    "4-grams, long": (4096, [(4, 400), (4, 400), (4, 400), (4, 400), (4, 400)], "SHA256", 64),
    "SHA-512, few bits": (512, [(2, 20), (2, 21), (2, 22), (2, 23), (2, 20)], "SHA512", 48),
    "mixed": (1024, [(1, 37), (2, 64), (3, 65), (4, 96), (2, 97)], "SHA256", 64),
}


def schema(length: int, fields: list[tuple[int, int]], kdf_hash: str, key_size: int) -> dict:
    """Return a clkhash v3 linkage schema over FIELDS; fields: (n, bitsPerFeature)."""
    return {
        "version": 3,
        "clkConfig": {
            "l": length,
            "kdf": {
                "type": "HKDF",
                "hash": kdf_hash,
                "salt": base64.b64encode(b"a salt").decode(),
                "info": base64.b64encode(f"vectors {length}".encode()).decode(),
                "keySize": key_size,
            },
        },
        "features": [
            {
                "identifier": name,
                "format": {"type": "string", "encoding": "utf-8"},
                "hashing": {
                    "comparison": {"type": "ngram", "n": n, "positional": False},
                    "strategy": {"bitsPerFeature": bits},
                    "hash": {"type": "blakeHash"},
                    "missingValue": {"sentinel": ""},
                },
            }
            for name, (n, bits) in zip(FIELDS, fields, strict=True)
        ],
    }


def main() -> None:
    cases = []
    for i, (name, (length, fields, kdf_hash, size)) in enumerate(CASES.items()):
        made = schema(length, fields, kdf_hash, size)
        secret = bytes((17 * i + j) % 256 for j in range(32))
        clks = generate_clks(RECORDS, from_json_dict(made), secret, max_workers=1)
        encoded = [base64.b64encode(clk.tobytes()).decode() for clk in clks]
        cases.append({"name": name, "schema": made, "secret": secret.hex(), "clks": encoded})
    content = {"source": f"clkhash {version('clkhash')}", "records": RECORDS, "cases": cases}
    path = Path(__file__).with_name("clk_v1.json")
    path.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
