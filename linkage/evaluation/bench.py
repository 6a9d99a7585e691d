"""
How fast this machine links, beside the field's reference packages.

    for result in compare(): print(result.what, result.ratio)

Each comparison gives both the same input, checks that both give the same answer, and times the
better of `REPEATS` runs of one process on one core. anonlink and clkhash are development
dependencies: where one is not installed, its comparison has no reference and no ratio.
The clock is read here and nowhere else in `linkage`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.mistakes import RATES, as_registered
from linkage.evaluation.population import draw_persons, draw_vitals, stream

REPEATS = 3
T = TypeVar("T")

_STUDY = """
[study]
id = "benchmark"
title = "Benchmark"
purpose = "measuring speed"
[[party]]
id = "one"
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex"]
[[party]]
id = "two"
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex"]
[[clk]]
id = "name-dob-sex"
length = 1024
fields = [
    { field = "first_name", bits = 60 }, { field = "middle_name", bits = 40 },
    { field = "last_name", bits = 60 }, { field = "date_of_birth", bits = 80 },
    { field = "sex", bits = 20 },
]
[[match_key]]
id = "name-dob"
fields = ["first_name", "last_name", "date_of_birth"]
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One job timed. rate, reference_rate: `unit` a second, the latter None if not installed.

    what: the job; reference: the package compared with; size: of the input, in words.
    """

    what: str
    unit: str
    size: str
    rate: float
    reference: str
    reference_rate: float | None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the reference we are."""
        return self.rate / self.reference_rate if self.reference_rate else None


def compare(scale: float = 1.0, seed: int = 1) -> Iterator[Comparison]:
    """
    Run every comparison; `scale` multiplies the input sizes (1: some seconds on one core).

    Raises LinkageError if `scale` is not positive, or if an answer differs from the reference's.
    """
    if not 0 < scale <= 100:
        raise LinkageError("a benchmark needs a scale above 0 and at most 100")
    yield _dice_all_pairs(int(4000 * scale**0.5) + 2, seed)
    yield _encode(int(4000 * scale) + 2, seed)


def _dice_all_pairs(n: int, seed: int) -> Comparison:
    """Compare n filters with n, 1,024 bits, about 30 % ones, threshold .7: few pairs reach it."""
    # Imported here, for they need numba: `linkage evaluate` and `people` do not.
    from linkage.matching.dataset import popcounts
    from linkage.matching.dice import dice_bound, pairs_reaching

    rng = np.random.default_rng(seed)
    bits = rng.random((2, n, 1024)) < 0.3
    bits[1, : n // 10] = bits[0, : n // 10] ^ (rng.random((n // 10, 1024)) < 0.05)
    packed = np.packbits(bits, axis=2)
    left, right = packed.view(np.uint64)
    bound = dice_bound(popcounts(left), popcounts(right), 0.7)
    warm = slice(0, 2)  # compile before the clock runs
    pairs_reaching(
        left[warm], right[warm], dice_bound(popcounts(left[warm]), popcounts(right[warm]), 0.7)
    )
    ours, found = _best(lambda: pairs_reaching(left, right, bound))
    theirs = None
    if anonlink := _installed("anonlink.similarities"):
        filters = [[_bitarray(row) for row in side] for side in packed]
        theirs, reference = _best(lambda: anonlink.dice_coefficient_accelerated(filters, 0.7, k=n))
        if len(reference[0]) != len(found.left):
            raise LinkageError("our kernel and anonlink find different pairs")
    return Comparison(
        what="Dice coefficient, all pairs, threshold 0.7",
        unit="million comparisons",
        size=f"{n:,} x {n:,} of 1,024 bits",
        rate=n * n / ours / 1e6,
        reference="anonlink",
        reference_rate=n * n / theirs / 1e6 if theirs else None,
    )


def _encode(n: int, seed: int) -> Comparison:
    """Make n CLKs of five fields of simulated people, clear text to filter, without diffusion."""
    from linkage.encoding.clk import PlainClks
    from linkage.encoding.columns import Coded
    from linkage.schema import clk_schema, parse_schema
    from linkage.study import parse_study

    study = parse_study(_STUDY, file="benchmark")
    made = clk_schema(study, study.clk[0])
    schema = parse_schema(made)
    secret = np.random.default_rng(seed).bytes(32)
    columns = _people(n, seed)
    PlainClks(schema, secret).encode([Coded.of(column[:2]) for column in columns])
    ours, (filters, _) = _best(
        lambda: PlainClks(schema, secret).encode([Coded.of(column) for column in columns])
    )
    theirs = None
    if clkhash := _installed("clkhash.clk"):
        from_json = _installed("clkhash.schema").from_json_dict
        records = list(zip(*columns, strict=True))
        theirs, reference = _best(
            lambda: clkhash.generate_clks(records, from_json(made), secret, max_workers=1),
            repeats=1,
        )
        if [row.tobytes() for row in filters] != [clk.tobytes() for clk in reference]:
            raise LinkageError("our encoder and clkhash give different bits")
    return Comparison(
        what="CLKs of five fields",
        unit="thousand records",
        size=f"{n:,} records",
        rate=n / ours / 1e3,
        reference="clkhash",
        reference_rate=n / theirs / 1e3 if theirs else None,
    )


def _people(n: int, seed: int) -> list[list[str]]:
    """Return five columns of `n` simulated people in small letters and digits."""
    vitals = draw_vitals(n, stream(seed, 0, 1))
    persons = draw_persons(vitals, 0, seed, stream(seed, 0, 2))
    fields = as_registered(persons, RATES["imaging"], stream(seed, 0, 3))
    names = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
    return [
        ["".join(c for c in text.lower() if c.isascii() and c.isalnum()) for text in fields[name]]
        for name in names
    ]


def _best(job: Callable[[], T], repeats: int = REPEATS) -> tuple[float, T]:
    """Return the shortest time of `repeats` runs in seconds, and the last answer."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = job()
        times.append(time.perf_counter() - start)
    return min(times), answer


def _installed(module: str) -> Any:
    """Return the module of an optional package, None where it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError:
        return None


def _bitarray(row: npt.NDArray[np.uint8]) -> Any:
    from bitarray import bitarray

    bits = bitarray(endian="big")
    bits.frombytes(row.tobytes())
    return bits
