"""
Filters to compare in a benchmark: random ones, or CLKs of simulated people.

    left, right = made_filters("people", 20_000, 20_000, 1024, seed=1)

Random bits have one density and no likeness but that of copies. People's CLKs share n-grams of
common names and dates, so more pairs come near a threshold, and filters of short names have fewer
ones: kinder to no kernel, nearer to a run.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.mistakes import RATES, as_registered
from linkage.evaluation.population import draw_persons, draw_vitals, stream

Bytes: TypeAlias = npt.NDArray[np.uint8]
Kind = Literal["random", "people", "diffused"]
KINDS: tuple[Kind, ...] = ("random", "people", "diffused")
DENSITY, SHARED, NOISE = 0.3, 0.1, 0.05
"""Of random filters the share of ones, and of a copy's bits that differ; of all the share of left
filters with one of the same person on the right. clkhash's own examples have densities near .3."""
DIFFUSION = 18
_FIELDS = {
    "first_name": 100,
    "middle_name": 60,
    "last_name": 100,
    "date_of_birth": 140,
    "sex": 40,
}
"""Bits of each field in a CLK of 1,024 bits."""


def made_filters(kind: str, left: int, right: int, bits: int, *, seed: int) -> tuple[Bytes, Bytes]:
    """
    Return both sides packed: uint8[left, bits / 8] and uint8[right, bits / 8].

    kind: "random"; "people", plain CLKs of five fields of simulated people as two parties would
    hold them; "diffused", the same after keyed diffusion with t = 18, as a study sends them.

    Raises LinkageError for another kind.
    """
    if kind not in KINDS:
        raise LinkageError("there is no such kind of filters", hint=f"one of {', '.join(KINDS)}")
    shared = min(int(left * SHARED) + 1, right)
    if kind == "random":
        return _random(left, right, bits, shared, seed)
    return _people(left, right, bits, shared, seed, diffused=kind == "diffused")


def _random(left: int, right: int, bits: int, shared: int, seed: int) -> tuple[Bytes, Bytes]:
    draw = np.random.default_rng(seed)

    def packed(n: int, density: float) -> Bytes:
        # In blocks: a million filters would take 8 GB as floats.
        blocks = [
            np.packbits(draw.random((min(10_000, n - at), bits)) < density, axis=1)
            for at in range(0, n, 10_000)
        ]
        return np.concatenate(blocks)

    one, other = packed(left, DENSITY), packed(right, DENSITY)
    other[:shared] = one[:shared] ^ packed(shared, NOISE)
    return one, other


def _people(
    left: int, right: int, bits: int, shared: int, seed: int, *, diffused: bool
) -> tuple[Bytes, Bytes]:
    # Imported here, for it needs numba and what normalises names; random filters do not.
    from linkage.encoding.clk import PlainClks
    from linkage.encoding.columns import Coded
    from linkage.encoding.diffusion import diffuse, diffusion_taps
    from linkage.schema import clk_schema, parse_schema
    from linkage.study import parse_study

    study = parse_study(_study(bits), file="benchmark")
    secret = np.random.default_rng(seed).bytes(64)  # of people who do not exist
    encoder = PlainClks(parse_schema(clk_schema(study, study.clk[0])), secret[:32])
    count = left + right - shared
    persons = draw_persons(draw_vitals(count, stream(seed, 0, 1)), 0, seed, stream(seed, 0, 2))
    of_right = np.r_[:shared, left:count]
    sides = []
    for number, (party, rows) in enumerate(
        (("imaging", np.arange(left)), ("enclave", of_right)), start=3
    ):
        fields = as_registered(persons, RATES[party], stream(seed, 0, number))
        columns = [Coded.of(fields[name][rows].tolist()) for name in _FIELDS]
        filters, _ = encoder.encode(columns)
        if diffused:
            filters = diffuse(filters, diffusion_taps(secret[32:], length=bits, depth=DIFFUSION))
        sides.append(filters)
    return sides[0], sides[1]


def _study(bits: int) -> str:
    """Return a study file, for its one CLK."""
    party = "".join(
        f'[[party]]\nid = "{name}"\nfields = {list(_FIELDS)}\n' for name in ("one", "two")
    )
    fields = ", ".join(
        f'{{ field = "{name}", bits = {min(max(20, share * bits // 1024), 400)} }}'
        for name, share in _FIELDS.items()
    )
    return f"""
[study]
id = "benchmark"
title = "Benchmark"
purpose = "measuring speed"
release_gate_exception = "simulated people, whose encodings nobody keeps"
{party}
[[clk]]
id = "people"
length = {bits}
fields = [{fields}]
"""
