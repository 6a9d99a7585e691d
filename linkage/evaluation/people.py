"""
Simulated people with known truth, as three commons would hold them: any number, by seed.

    people = simulate(4430, seed=1)
    write_parties(people, Path("out"))      # imaging.psv, enclave.csv, claims.csv, truth.csv
    people.holdings("imaging").record_ids   # to make imaging rows or OMOP tables that fit

Who is held where, and under which record id, follows from (n, seed) alone, so tables made
later fit files made before. People are drawn, changed and written block by block (50,000), so
memory does not grow with n; rows of a file are in random order within a block. Names, rates
and what is safe about the numbers: linkage.evaluation.names, .mistakes, .population.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.mistakes import RATES, Fields, as_registered
from linkage.evaluation.names import Names
from linkage.evaluation.population import (
    BLOCK,
    MOST_PERSONS,
    Ints,
    Mask,
    Persons,
    Vitals,
    draw_persons,
    draw_vitals,
    scatter,
    stream,
)

PARTIES = ("imaging", "enclave", "claims")

# Persons held by (imaging, enclave, claims), as in the simulated commons measured in
# docs/performance.md: 1,948, 2,576 and 3,250 records of 4,430 persons.
_HOLDERS = np.array(
    [[1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], bool
)
_HELD = np.array([489, 209, 840, 1317, 410, 561, 604])

# Purposes of the random streams of a block; those of the parties follow from _VIEW and _ORDER.
_VITALS, _HELD_BY, _TRUE, _VIEW, _ORDER = 1, 2, 3, 10, 20
_RECORD_IDS = 30


@dataclass(frozen=True, slots=True)
class _File:
    """One party's file: its name, delimiter, record ids, and header by column."""

    name: str
    delimiter: str
    id_format: str
    truth_column: str
    columns: dict[str, str]  # header: field of Fields, or a form of it


_CONTACT = {"zip": "zip", "phone": "phone", "email": "email"}
_FILES = {
    "imaging": _File(
        "imaging.psv",
        "|",
        "A{:0{}d}",
        "imaging_id",
        {
            "first_name": "first_name",
            "middle_initial": "initial",
            "last_name": "last_name",
            "dob": "american_date",
            "sex": "sex",
            "address": "street",
        },
    ),
    "enclave": _File(
        "enclave.csv",
        ",",
        "{:d}",
        "person_id",
        {
            "ssn": "ssn",
            "first_name": "first_name",
            "middle_name": "middle_name",
            "last_name": "last_name",
            "date_of_birth": "date_of_birth",
            "sex": "sex",
        },
    ),
    "claims": _File(
        "claims.csv",
        ",",
        "B{:0{}d}",
        "subject_key",
        {
            "ssn": "ssn",
            "given": "first_name",
            "mi": "initial",
            "family": "last_name",
            "street": "street",
        },
    ),
}
TRUTH_FACTS = ("sex", "birth_decade", "household", "twins", "renamed")
"""What the truth tells of a person besides her records; `linkage evaluate` makes groups of it."""
_ID_HEADERS = {"imaging": "RECORD_ID", "enclave": "person_id", "claims": "subject_key"}


@dataclass(frozen=True, slots=True, eq=False)
class Holdings:
    """
    The records of one party, in the order of its file: R parallel rows.

    record_ids: object[R] of str, all different. person: int64[R], the person's index from 0.
    male: bool[R], birth_year: int16[R]: the truth, whatever the file says.
    """

    record_ids: Names
    person: Ints
    male: Mask
    birth_year: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class People:
    """`n` simulated persons, each held by one party or more. Made by `simulate`."""

    n: int
    seed: int

    def holdings(self, party: str) -> Holdings:
        """Return the records of "imaging", "enclave" or "claims": .44, .58 and .73 of n."""
        if party not in PARTIES:
            raise LinkageError(f"there is no party {party!r}", hint=f"one of {', '.join(PARTIES)}")
        parts = list(self._holdings(party))
        return Holdings(
            record_ids=np.concatenate([part.record_ids for part in parts]),
            person=np.concatenate([part.person for part in parts]),
            male=np.concatenate([part.male for part in parts]),
            birth_year=np.concatenate([part.birth_year for part in parts]),
        )

    def _holdings(self, party: str) -> Iterator[Holdings]:
        for block in range(self.blocks):
            rows = self._rows(block, party)
            vitals = draw_vitals(self._size(block), stream(self.seed, block, _VITALS))
            born = vitals.born[rows].astype("datetime64[Y]").astype(np.int64) + 1970
            person = rows + block * BLOCK
            yield Holdings(
                self._record_ids(party, person), person, vitals.male[rows], born.astype(np.int16)
            )

    @property
    def blocks(self) -> int:
        return math.ceil(self.n / BLOCK)

    def _size(self, block: int) -> int:
        return min(BLOCK, self.n - block * BLOCK)

    def _held(self, block: int) -> Mask:
        """Return who holds whom, bool[M, 3]; shares as in _HELD, to the nearest person."""
        m = self._size(block)
        ends = np.rint(np.cumsum(_HELD) * m / _HELD.sum()).astype(np.int64)
        kind = np.searchsorted(ends, np.arange(m), side="right")
        held: Mask = _HOLDERS[stream(self.seed, block, _HELD_BY).permutation(kind)]
        return held

    def _rows(self, block: int, party: str) -> Ints:
        """Return the persons of the block that the party holds, in the order of its file."""
        k = PARTIES.index(party)
        rows = np.flatnonzero(self._held(block)[:, k])
        return stream(self.seed, block, _ORDER + k).permutation(rows)

    def _record_ids(self, party: str, person: Ints) -> Names:
        digits = max(6, len(str(self.n)) + 1)
        purpose = _RECORD_IDS + PARTIES.index(party)
        # From 1 on: OMOP ids are positive.
        places = scatter(person, 10**digits - 1, stream(self.seed, 0, purpose)) + 1
        form = _FILES[party].id_format
        return np.array([form.format(place, digits) for place in places.tolist()], dtype=object)


def simulate(n: int, seed: int = 1) -> People:
    """
    Return `n` simulated persons, the same for the same seed.

    Raises LinkageError unless 1 <= n <= 48,995,100 (the SSNs that nobody can have).
    """
    if not 1 <= n <= MOST_PERSONS:
        raise LinkageError(
            f"{n:,} people cannot be simulated", hint=f"ask for 1 to {MOST_PERSONS:,}"
        )
    if seed < 0:
        raise LinkageError("a seed cannot be negative", hint="use 0 or more")
    return People(n, seed)


def write_parties(
    people: People,
    out: Path,
    *,
    contact: bool = False,
    progress: Callable[[int], None] = lambda persons: None,
) -> dict[str, Path]:
    """
    Write each party's file and truth.csv into `out`; return their paths by party and "truth". The
    truth also tells each person's sex, decade of birth, household (one label for those who live
    together), twins (one label for each set, "" for others) and whether the surname ever changed.

    contact: each party also holds zip, phone and email, as last columns. progress: called with
    the number of persons done. A file appears under its name only when all are complete.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = {party: out / _FILES[party].name for party in PARTIES} | {"truth": out / "truth.csv"}
    parts = {name: path.with_name(f".{path.name}.part") for name, path in paths.items()}
    with ExitStack() as stack:
        for part in parts.values():
            stack.callback(part.unlink, missing_ok=True)
        with ExitStack() as open_files:
            files = {
                name: open_files.enter_context(part.open("w", encoding="utf-8", newline="\n"))
                for name, part in parts.items()
            }
            files["truth"].write(
                ",".join(
                    ["truth_id", *(_FILES[party].truth_column for party in PARTIES), *TRUTH_FACTS]
                )
                + "\n"
            )
            for party in PARTIES:
                header = [_ID_HEADERS[party], *_columns(party, contact)]
                files[party].write(_FILES[party].delimiter.join(header) + "\n")
            for block in range(people.blocks):
                for name, text in _block_texts(people, block, contact).items():
                    files[name].write(text)
                progress(min(people.n, (block + 1) * BLOCK))
        for name, part in parts.items():
            part.replace(paths[name])
    return paths


def _columns(party: str, contact: bool) -> dict[str, str]:
    return _FILES[party].columns | (_CONTACT if contact else {})


def _block_texts(people: People, block: int, contact: bool) -> dict[str, str]:
    """Return one block's lines for each file."""
    m, first = people._size(block), block * BLOCK
    vitals = draw_vitals(m, stream(people.seed, block, _VITALS))
    persons = draw_persons(vitals, first, people.seed, stream(people.seed, block, _TRUE))
    texts = {}
    truth: list[Names] = []
    for k, party in enumerate(PARTIES):
        rows = people._rows(block, party)
        ids = people._record_ids(party, rows + first)
        fields = as_registered(persons, RATES[party], stream(people.seed, block, _VIEW + k))
        columns = [_form(fields, form)[rows] for form in _columns(party, contact).values()]
        texts[party] = _lines([ids, *columns], _FILES[party].delimiter)
        known: Names = np.full(m, "", dtype=object)
        known[rows] = ids
        truth.append(known)
    numbers = range(first + 1, first + m + 1)
    names = np.array([f"T{i:06d}" for i in numbers], object)
    texts["truth"] = _lines([names, *truth, *_facts(persons, vitals, first)], ",")
    return texts


def _facts(persons: Persons, vitals: Vitals, first: int) -> list[Names]:
    """Return the columns TRUTH_FACTS of a block whose first person is `first`, from 0."""
    decade = (vitals.born.astype("datetime64[Y]").astype(np.int64) + 1970) // 10 * 10
    place = np.arange(len(decade))
    eldest = np.maximum.accumulate(np.where(vitals.twin, 0, place))
    of_several = np.bincount(eldest, minlength=len(place))[eldest] > 1
    return [
        np.where(vitals.male, "male", "female").astype(object),
        np.array([f"{year}s" for year in decade.tolist()], object),
        np.array([f"H{first + home + 1:06d}" for home in vitals.household.tolist()], object),
        np.array(
            [
                f"W{first + one + 1:06d}" if twin else ""
                for one, twin in zip(eldest, of_several, strict=True)
            ],
            object,
        ),
        np.where(persons.former_last != persons.last, "yes", "no").astype(object),
    ]


def _form(fields: Fields, form: str) -> Names:
    """Return a field as a file writes it: a middle initial, a date as MM/DD/YYYY, or as it is."""
    if form == "initial":
        return np.array([text[:1] for text in fields["middle_name"]], dtype=object)
    if form == "american_date":
        dates = fields["date_of_birth"]
        return np.array([f"{d[4:6]}/{d[6:]}/{d[:4]}" if d else "" for d in dates], dtype=object)
    return fields[form]


def _lines(columns: list[Names], delimiter: str) -> str:
    # No text holds a delimiter, a quote or a line end: names, streets and digits are made here.
    return "".join(f"{delimiter.join(row)}\n" for row in zip(*columns, strict=True))
