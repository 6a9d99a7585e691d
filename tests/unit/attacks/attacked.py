"""What the tests of attacks share: a study, its CLKs at any depth, simulated people."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from linkage.encoding.keys import StudyKey
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.attacks.similarity import Floats2D, encoded, expected, observed
from linkage.study import ClkField, ClkSpec, StudyConfig, parse_study

FIELDS = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
_FIELDS = ", ".join(f'"{field}"' for field in FIELDS)
STUDY: StudyConfig = parse_study(
    f"""
[study]
id = "attacked"
title = "t"
purpose = "p"

[[party]]
id = "imaging"
fields = [{_FIELDS}]

[[party]]
id = "enclave"
fields = [{_FIELDS}]

[[clk]]
id = "name-dob-sex"
fields = [
    {{ field = "first_name" }},
    {{ field = "middle_name:initial", bits = 40 }},
    {{ field = "last_name" }},
    {{ field = "date_of_birth", bits = 140 }},
    {{ field = "sex", bits = 40 }},
]

[[match_key]]
id = "last-dob"
fields = ["last_name", "date_of_birth"]
"""
)


def fixed_key(number: int = 1) -> StudyKey:
    """Return a fixed key: what an attack finds depends on it, and chance shall not fail a test."""
    return StudyKey(hashlib.sha256(f"attacked {number}".encode()).digest())


def clk(depth: int, *refs: str) -> ClkSpec:
    """Return the study's CLK at a depth that a study file may not have; over `refs` if given."""
    more = {"fields": tuple(ClkField(field=ref) for ref in refs)} if refs else {}
    return STUDY.clk[0].model_copy(update={"diffusion": depth, **more})


def people(n: int, *, registered: str = "imaging") -> Crowd:
    """Return n simulated people as a desk wrote them down."""
    return simulated(n, seed=1, fields=FIELDS, registered=registered)


def halves(
    n: int, common: int, *, registered: str = "imaging", more: int = 0
) -> tuple[Crowd, Crowd, npt.NDArray[np.int64]]:
    """
    Return n people held, n + more listed in an order of their own, `common` of them the same, and
    each held person's place in the list, -1 where she is not in it.
    """
    total = 2 * n - common + more
    held = people(total).rows(np.arange(n))
    order = np.random.default_rng(7).permutation(np.arange(n - common, total))
    listed = people(total, registered=registered).rows(order)
    place = np.full(total, -1, np.int64)
    place[order] = np.arange(len(order))
    return held, listed, place[:n]


def graphs(depth: int, held: Crowd, listed: Crowd) -> tuple[Floats2D, Floats2D]:
    """Return what the holder of the encodings sees and what the holder of the list expects."""
    spec = clk(depth)
    seen = observed(encoded(STUDY, spec, held, fixed_key()))
    return seen, expected(STUDY, spec, listed)
