"""
Simulated people at many parties, hardened and encoded as sites would: what bench_scale.py links.

Every party holds `records` people, drawn at random from a population of `population`, with the
mistakes of one of the three simulated commons. The study is imaging with enclave of
configs/three-commons (one CLK of 2,048 bits with t = 18, five match keys, nulls filled), with as
many parties of that kind as asked. Encodings are kept in a folder, so that they are made once.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from linkage.encoding.encoder import encode_records
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.evaluation.mistakes import RATES, as_registered
from linkage.evaluation.population import BLOCK, draw_persons, draw_vitals, stream
from linkage.matching.dataset import Dataset
from linkage.pseudonyms import ContributorSecret
from linkage.records import EncodedRecords, FixedColumn
from linkage.study import parse_study

FIELDS = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
STUDY = """\
[study]
id = "{id}"
title = "Scale"
purpose = "Benchmark"
profile = "hardened"
"""
PARTY = """
[[party]]
id = "{party}"
records = {records}
fields = ["first_name", "middle_name", "last_name", "date_of_birth", "sex"]
"""
ENCODINGS = """
[[clk]]
id = "name-dob-sex"
length = 2048
diffusion = 18
fields = [
    {{ field = "first_name" }},
    {{ field = "middle_name:initial", bits = 40 }},
    {{ field = "last_name" }},
    {{ field = "date_of_birth", bits = 140 }},
    {{ field = "sex", bits = 40 }},
]

[[match_key]]
id = "first-mi-last"
fields = ["first_name", "middle_name:initial", "last_name"]

[[match_key]]
id = "last-dob"
fields = ["last_name", "date_of_birth"]

[[match_key]]
id = "first-dob"
fields = ["first_name", "date_of_birth"]

[[match_key]]
id = "first3-mi-dob"
fields = ["first_name:3", "middle_name:initial", "date_of_birth"]

[[match_key]]
id = "first-last-monthday"
fields = ["first_name", "last_name", "date_of_birth:month_day"]
"""


@dataclass(frozen=True)
class Scale:
    """Datasets, and by party the number of the person behind each record: int64[records]."""

    datasets: tuple[Dataset, ...]
    person: dict[str, npt.NDArray[np.int64]]


def study_text(parties: Sequence[str], records: int) -> str:
    """Return the study file; `{id}` is left for its id."""
    held = "".join(PARTY.format(party=party, records=records) for party in parties)
    return STUDY + held + ENCODINGS


def scale_world(parties: int, records: int, population: int, folder: Path, seed: int = 1) -> Scale:
    """Return `parties` datasets of `records` people; read from `folder` if made before."""
    folder = folder / f"{parties}-{records}-{population}-{seed}"
    names = [f"party-{chr(ord('a') + number)}" for number in range(parties)]
    folder.mkdir(parents=True, exist_ok=True)
    made = [_party(number, names, records, population, folder, seed) for number in range(parties)]
    return Scale(tuple(d for d, _ in made), {d.party: person for d, person in made})


def _party(
    number: int, names: Sequence[str], records: int, population: int, folder: Path, seed: int
) -> tuple[Dataset, npt.NDArray[np.int64]]:
    path = folder / f"{names[number]}.npz"
    if not path.exists():
        began = time.perf_counter()
        _encode(number, names, records, population, path, seed)
        print(f"encoded {names[number]} in {time.perf_counter() - began:.0f} s", flush=True)
    with np.load(path) as saved:
        columns = {
            name: FixedColumn(saved[name], saved[f"{name}?"])
            for name in saved.files
            if name.startswith(("clk:", "key:")) and not name.endswith("?")
        }
        encoded = EncodedRecords(
            saved["pseudonyms"],
            saved["groups"],
            {n.removeprefix("clk:"): c for n, c in columns.items() if n.startswith("clk:")},
            {n.removeprefix("key:"): c for n, c in columns.items() if n.startswith("key:")},
        )
        counts = saved["collisions"].tolist()
        collisions = dict(zip(encoded.match_keys, counts, strict=True))
        return Dataset(names[number], encoded, collisions), saved["person"]


def _encode(
    number: int, names: Sequence[str], records: int, population: int, path: Path, seed: int
) -> None:
    study = parse_study(study_text(names, records).format(id="scale"))
    rates = RATES[("imaging", "enclave", "claims")[number % 3]]
    values: dict[str, list[str]] = {field: [] for field in FIELDS}
    persons = []
    for block in range(math.ceil(population / BLOCK)):
        first = block * BLOCK
        size = min(BLOCK, population - first)
        people = draw_persons(
            draw_vitals(size, stream(seed, block, 1)), first, seed, stream(seed, block, 3)
        )
        fields = as_registered(people, rates, stream(seed, block, 10 + number))
        wanted = round((first + size) * records / population) - round(first * records / population)
        rows = stream(seed, block, 100 + number).permutation(size)[:wanted]
        for field in FIELDS:
            values[field] += fields[field][rows].tolist()
        persons.append(rows + first)
    reading = Reading(date_format="%Y%m%d")
    columns = {f: Normaliser(f, reading).column(v).column for f, v in values.items()}
    draw = np.random.default_rng([seed, number])
    secret = hashlib.sha256(f"secret {number}".encode()).digest()
    encoded = encode_records(
        columns,
        draw.integers(0, 256, (records, 16), dtype=np.uint8),
        study=study,
        party=study.party_named(names[number]),
        key=StudyKey(hashlib.sha256(b"scale").digest()),
        secret=ContributorSecret(secret),
    )
    kept = encoded.records
    arrays = {"pseudonyms": kept.pseudonyms, "groups": kept.groups}
    for kind, held in (("clk", kept.clks), ("key", kept.match_keys)):
        for name, column in held.items():
            arrays |= {f"{kind}:{name}": column.values, f"{kind}:{name}?": column.present}
    arrays["collisions"] = np.array([encoded.collisions[rule] for rule in kept.match_keys])
    np.savez(path, person=np.concatenate(persons), **arrays)
