"""
Encoding speed against clkhash 0.17.0, both in this one process on the same records.

    python tests/benchmarks/bench_encoding.py [--records 100000] [--clkhash-records 5000]

Prints records a second, their ratio, and the cost of diffusion and of a match-key rule. The
CLKs of both are compared first: a ratio of different bits would mean nothing.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from clkhash.clk import generate_clks
from clkhash.schema import from_json_dict

from linkage.encoding.clk import diffused, plain_clks
from linkage.encoding.fields import apply, normalise
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import encode_match_keys, null_repeats
from linkage.schema import clk_schema
from linkage.study import StudyConfig, parse_field, parse_study

STUDY = """
[study]
id = "bench"
title = "Benchmark"
purpose = "speed"
[[party]]
id = "one"
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex", "street"]
[[party]]
id = "two"
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex"]
[[clk]]
id = "name-dob-sex"
fields = [
    { field = "first_name" }, { field = "middle_name:initial" }, { field = "last_name" },
    { field = "date_of_birth", bits = 140 }, { field = "sex", bits = 40 },
]
[[match_key]]
id = "first-last-dob"
fields = ["first_name", "last_name", "date_of_birth"]
"""
T = TypeVar("T")


def people(n: int) -> dict[str, list[str]]:
    """Return n raw records with roughly as many different names as a census has."""
    pick = random.Random(1)
    letters, weights = "etaoinshrdlucmfwypvbgkjqxz", range(26, 0, -1)

    def words(count: int) -> list[str]:
        return [
            "".join(pick.choices(letters, weights, k=pick.randint(3, 10))) for _ in range(count)
        ]

    first, last = words(5_000), words(40_000)
    return {
        "first_name": pick.choices(first, k=n),
        "middle_name": pick.choices(first, k=n),
        "last_name": pick.choices(last, k=n),
        "date_of_birth": [
            f"{pick.randint(1, 12):02}/{pick.randint(1, 28):02}/{pick.randint(1925, 2015)}"
            for _ in range(n)
        ],
        "sex": pick.choices(["Male", "Female"], k=n),
        "street": [
            f"{pick.randint(1, 9999)} North {street} Avenue" for street in pick.choices(last, k=n)
        ],
    }


def timed(work: Callable[[], T], name: str, n: int) -> tuple[T, float]:
    """Return what `work` returns and its records a second; print the latter."""
    start = time.perf_counter()
    result = work()
    rate = n / (time.perf_counter() - start)
    print(f"{name:<44}{rate / 1000:>10.1f} k records/s")
    return result, rate


def by_clkhash(
    columns: dict[str, list[str]], study: StudyConfig, key: StudyKey, n: int
) -> tuple[list[bytes], float]:
    """Return clkhash's CLKs of the first n records, without its validation, and its rate."""
    clk = study.clk[0]
    values: list[Sequence[str]] = [
        apply(f.field, columns[parse_field(f.field)[0]][:n]) for f in clk.fields
    ]
    records = list(zip(*values, strict=True))
    schema = from_json_dict(clk_schema(study, clk))
    secret = key.derive(study, f"clk:{clk.id}")
    clks, rate = timed(
        lambda: generate_clks(records, schema, secret, validate=False, max_workers=1),
        "plain CLK, clkhash 0.17.0",
        n,
    )
    return [one.tobytes() for one in clks], rate


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else "")
    arguments.add_argument("--records", type=int, default=100_000)
    arguments.add_argument("--clkhash-records", type=int, default=5_000)
    options = arguments.parse_args()
    n, few = options.records, min(options.records, options.clkhash_records)
    study, key = parse_study(STUDY), StudyKey.generate()
    columns: dict[str, list[str]] = {}
    for field, raw in people(n).items():
        (values, _), _ = timed(
            lambda field=field, raw=raw: normalise(field, raw, date_format="%m/%d/%Y"),  # type: ignore[misc]
            f"normalise {field}",
            n,
        )
        columns[field] = values
    clk, rule = study.clk[0], study.match_key[0]
    small = {field: values[:few] for field, values in columns.items()}
    warm = plain_clks(small, study, clk, key)  # compiles the kernels, which are then cached
    diffused(warm, study, clk, key)
    theirs, their_rate = by_clkhash(columns, study, key, few)
    if [row.tobytes() for row in warm.values] != theirs:
        raise SystemExit("the CLKs differ from clkhash's: no ratio")
    plain, rate = timed(lambda: plain_clks(columns, study, clk, key), "plain CLK, ours", n)
    timed(lambda: diffused(plain, study, clk, key), "diffusion, t = 10, 2,048 bits", n)
    (keys, _), _ = timed(lambda: encode_match_keys(columns, rule, study, key), "one match key", n)
    groups = np.arange(n, dtype=np.uint32)
    timed(lambda: null_repeats(keys, groups), "nulling of repeats, one rule", n)
    print(f"ratio to clkhash, one core, equal bits: {rate / their_rate:.1f}")


if __name__ == "__main__":
    main()
