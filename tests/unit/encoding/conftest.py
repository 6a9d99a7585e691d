"""A small study, a fixed key and simulated people, for the tests of encodings."""

from __future__ import annotations

import random

import pytest

from linkage.encoding.columns import Coded
from linkage.encoding.keys import StudyKey
from linkage.study import StudyConfig, parse_study
from tests.coded import coded

STUDY = """
[study]
id = "lung-outcomes"
title = "Lung outcomes"
purpose = "tests"
epoch = 3
fill_nulls = false

[[party]]
id = "imaging"
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex", "street"]
[[party]]
id = "claims"
fields = ["first_name", "middle_name", "last_name", "ssn"]

[[clk]]
id = "name-dob-sex"
diffusion = 10
fields = [
    { field = "first_name" }, { field = "middle_name:initial" }, { field = "last_name" },
    { field = "date_of_birth", bits = 140 }, { field = "sex", bits = 40 },
]
[[clk]]
id = "name-ssn"
length = 1024
diffusion = 10
min_fields = 2
fields = [
    { field = "first_name", ngram = 3 }, { field = "last_name" },
    { field = "middle_name", bits = 40 }, { field = "ssn", ngram = 1, bits = 50 },
]

[[match_key]]
id = "first-last-dob"
fields = ["first_name", "last_name", "date_of_birth"]
[[match_key]]
id = "sounds-year"
fields = ["first_name:sound", "last_name:sound", "date_of_birth:year"]
[[match_key]]
id = "ssn-initial"
fields = ["ssn:last4", "last_name:1"]
"""


@pytest.fixture(scope="session")
def study_text() -> str:
    return STUDY


@pytest.fixture(scope="session")
def study() -> StudyConfig:
    return parse_study(STUDY)


@pytest.fixture(scope="session")
def key() -> StudyKey:
    return StudyKey(bytes(range(100, 132)))


@pytest.fixture(scope="session")
def people() -> dict[str, Coded]:
    """300 normalised records, about one value in ten missing."""
    pick = random.Random(7)

    def name() -> str:
        return "".join(pick.choices("abcdefghij", k=pick.randint(2, 9)))

    def some(value: str) -> str:
        return "" if pick.random() < 0.1 else value

    n = 300
    texts = {
        "first_name": [some(name()) for _ in range(n)],
        "middle_name": [some(name()) for _ in range(n)],
        "last_name": [some(name()) for _ in range(n)],
        "date_of_birth": [
            some(f"19{pick.randint(10, 99)}0{pick.randint(1, 9)}11") for _ in range(n)
        ],
        "sex": [some(pick.choice("fm")) for _ in range(n)],
        "street": [some(f"{pick.randint(1, 99)} {name()} st") for _ in range(n)],
        "ssn": [some(f"{pick.randint(100_000_000, 665_000_000)}") for _ in range(n)],
    }
    return coded(texts)
