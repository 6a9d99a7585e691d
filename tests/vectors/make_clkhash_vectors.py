"""
Make clkhash_v3.json: CLKs by clkhash 0.17.0 itself, over all that a v3 schema can say.

    python tests/vectors/make_clkhash_vectors.py

Nothing of this project takes part: schemas, secrets and records are written here, the bits are
clkhash's. linkage.encoding.interchange must equal them.
"""

from __future__ import annotations

import base64
import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict

TEXT = {"type": "string", "encoding": "utf-8"}
RECORDS = [
    ["ann", "LEE", "1970-01-02", "f", "42", "3.25"],
    ["maximilianalexander", "WOLFESCHLEGELSTEINHAUSEN", "2000-12-31", "m", "007", "-12.5"],
    ["jo", "", "", "?", "+3", "0"],
    ["", "NG", "1899-02-28", "x", " 15 ", "1e3"],
    ["zoë", "O", "2024-02-29", "f", "-8", "99999999999999999999"],
]


def feature(name: str, form: dict[str, Any], comparison: dict[str, Any], **more: Any) -> dict:
    """Return a feature; more: bits, token, hash, missing."""
    strategy = "bitsPerToken" if "token" in more else "bitsPerFeature"
    bits = more.get("token", more.get("bits", 100))
    hashing: dict[str, Any] = {"comparison": comparison, "strategy": {strategy: bits}}
    if "hash" in more:
        hashing["hash"] = more["hash"]
    hashing["missingValue"] = more.get("missing", {"sentinel": ""})
    return {"identifier": name, "format": form, "hashing": hashing}


def ngram(n: int, positional: bool = False) -> dict[str, Any]:
    return {"type": "ngram", "n": n, "positional": positional}


EXACT = {"type": "exact"}
DATE = {"type": "date", "format": "%Y-%m-%d", "description": "as in RFC 3339"}
SEX = {"type": "enum", "values": ["f", "m", "x"]}
WHOLE = {"type": "integer", "minimum": -10, "maximum": 50}
NUMBER = {"type": "numeric", "thresholdDistance": 5, "resolution": 3}
FINE = {"type": "numeric", "thresholdDistance": 0.5, "resolution": 4, "fractional_precision": 2}
LOWER = {"type": "string", "case": "lower", "minLength": 0, "maxLength": 30}
UPPER = {"type": "string", "case": "upper"}
PATTERN = {"type": "string", "pattern": "[-+0-9.e]*"}
DOUBLE = {"type": "doubleHash"}
SINGULAR = {"type": "doubleHash", "prevent_singularity": True}
UNKNOWN = {"sentinel": "?", "replaceWith": "x"}

CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "everything, blake": (
        {"l": 1024},
        [
            feature("first", LOWER, ngram(2), hash={"type": "blakeHash"}),
            feature("last", UPPER, ngram(2, positional=True), bits=90),
            feature("born", DATE, ngram(1, positional=True), token=7),
            feature("sex", SEX, EXACT, bits=40, missing=UNKNOWN),
            feature("age", WHOLE, NUMBER, bits=77),
            feature("weight", PATTERN, FINE, token=6),
        ],
    ),
    "folded once, an ignored feature": (
        {"l": 512, "xor_folds": 1},
        [
            feature("first", TEXT, ngram(3)),
            feature("last", UPPER, ngram(2)),
            {"identifier": "born", "ignored": True},
            feature("sex", SEX, EXACT, token=20, missing=UNKNOWN),
            feature("age", WHOLE, ngram(2)),
            feature("weight", PATTERN, EXACT),
        ],
    ),
    "double hashing, folded to 125 bits": (
        {"l": 125, "xor_folds": 3},
        [
            feature("first", TEXT, ngram(2), token=5, hash=DOUBLE),
            feature("last", UPPER, EXACT, bits=30, hash=SINGULAR),
            feature("born", DATE, ngram(2), bits=60, hash=DOUBLE),
            feature("sex", SEX, EXACT, bits=9, hash=DOUBLE, missing=UNKNOWN),
            feature("age", WHOLE, NUMBER, bits=60, hash=DOUBLE),
            feature("weight", PATTERN, FINE, token=3, hash=SINGULAR),
        ],
    ),
    "few positions: singular steps drawn again": (
        {"l": 16},
        [
            feature("first", TEXT, ngram(1), token=3, hash=SINGULAR),
            feature("last", UPPER, ngram(1), token=3, hash=DOUBLE),
            {"identifier": "born", "ignored": True},
            {"identifier": "sex", "ignored": True, "description": "not asked"},
            {"identifier": "age", "ignored": True},
            {"identifier": "weight", "ignored": True},
        ],
    ),
    "encodings, SHA-512, small keys": (
        {"l": 2048, "kdf": {"hash": "SHA512", "keySize": 16}},
        [
            feature("first", {"type": "string", "encoding": "utf-16"}, ngram(2)),
            feature("last", {"type": "string", "encoding": "ascii"}, ngram(4)),
            feature("born", {"type": "string", "encoding": "utf-32"}, ngram(2)),
            feature("sex", TEXT, ngram(2), missing={"sentinel": "?"}),
            feature("age", TEXT, ngram(5)),
            feature("weight", TEXT, ngram(1)),
        ],
    ),
    "no salt, no info, keys by default": (
        {"l": 65536, "kdf": {"salt": None, "info": None}},
        [feature(name, TEXT, ngram(2), bits=300) for name in "abcdef"],
    ),
}


def schema(config: dict[str, Any], features: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a v3 schema; a key of kdf that is None is left out."""
    kdf = {
        "type": "HKDF",
        "salt": base64.b64encode(b"a salt").decode(),
        "info": base64.b64encode(b"vectors of every kind").decode(),
        **config.get("kdf", {}),
    }
    kdf = {key: value for key, value in kdf.items() if value is not None}
    return {"version": 3, "clkConfig": {**config, "kdf": kdf}, "features": features}


def main() -> None:
    cases = []
    for i, (name, (config, features)) in enumerate(CASES.items()):
        made = schema(config, features)
        secret = bytes((29 * i + j) % 256 for j in range(32))
        parsed = from_json_dict(copy.deepcopy(made))  # it writes its defaults into what it reads
        clks = generate_clks(RECORDS, parsed, secret, max_workers=1)
        encoded = [base64.b64encode(clk.tobytes()).decode() for clk in clks]
        cases.append(
            {"name": name, "schema": made, "secret": secret.hex(), "records": RECORDS,
             "clks": encoded}
        )  # fmt: skip
    content = {"source": f"clkhash {version('clkhash')}", "cases": cases}
    path = Path(__file__).with_name("clkhash_v3.json")
    path.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
