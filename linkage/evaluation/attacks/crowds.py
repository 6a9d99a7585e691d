"""
Whom an attack is tried on: people in clear text, as a site or as the attacker's list holds them.

    held = simulated(4_000, seed=1, fields=("first_name", "last_name", "date_of_birth"))
    listed = simulated(4_000, seed=1, fields=held.columns, registered="claims")   # with typos
    held = read_people(Path("people.csv"), fields=(...))

The same seed makes the same persons, whatever they are registered as; whole households are in it,
for relatives share names, streets and telephones, and so leak the most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from linkage.encoding.columns import Coded
from linkage.encoding.fields import Normaliser, Reading, apply
from linkage.errors import SourceRefused
from linkage.evaluation import mistakes
from linkage.evaluation.mistakes import RATES, Rates, as_registered
from linkage.evaluation.population import draw_persons, draw_vitals, stream
from linkage.study import parse_field

_VITALS, _TRUE, _VIEW, _AGAIN = 1, 2, 10, 30
_TRUTH = Rates(**dict.fromkeys(Rates.__dataclass_fields__, 0.0))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Crowd:
    """
    N people in clear text. columns: by field, normalised. person: int64[N], who each row is;
    equal numbers in two crowds mean the same person.
    """

    columns: Mapping[str, Coded]
    person: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.person)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a crowd refuses pickling: it holds identifiers")

    def taken(self, ref: str) -> Coded:
        """Return the column that a CLK's or a rule's field names, its transform applied."""
        return apply(ref, self.columns[parse_field(ref)[0]])

    def rows(self, rows: npt.NDArray[np.int64]) -> Crowd:
        """Return the crowd of these rows, in this order."""
        columns = {
            field: Coded(column.codes[rows], column.values)
            for field, column in self.columns.items()
        }
        return Crowd(columns, self.person[rows])


def simulated(
    n: int, *, seed: int, fields: Iterable[str], registered: str | None = "imaging"
) -> Crowd:
    """
    Return the first `n` of the simulated people of `seed`, whole households side by side.

    registered: with the mistakes and gaps of that party's desk (linkage.evaluation.mistakes),
    None for the plain truth.
    """
    persons = draw_persons(
        draw_vitals(n, stream(seed, 0, _VITALS)), 0, seed, stream(seed, 0, _TRUE)
    )
    rates = _TRUTH if registered is None else RATES[registered]
    desk = _VIEW + (len(RATES) if registered is None else list(RATES).index(registered))
    texts = as_registered(persons, rates, stream(seed, 0, desk))
    reading = Reading(date_format="%Y%m%d")
    columns = {
        field: Normaliser(field, reading).column([str(text) for text in texts[field]]).column
        for field in fields
    }
    return Crowd(columns, np.arange(n))


def written_again(crowd: Crowd, *, desk: int, seed: int) -> Crowd:
    """
    Return the same people as another registration desk would write them: no two datasets of a
    study, and no list, have all their texts in common. desk: 0 and on; each has its own mistakes.
    """
    rates = list(RATES.values())[desk % len(RATES)]
    fields = {
        field: np.array(column.texts(), dtype=object) for field, column in crowd.columns.items()
    }
    texts = mistakes.written_again(fields, rates, stream(seed, desk, _AGAIN))
    reading = Reading(date_format="%Y%m%d")
    columns = {
        field: Normaliser(field, reading).column(list(found)).column
        for field, found in texts.items()
    }
    return Crowd(columns, crowd.person)


def read_people(path: Path, *, fields: Iterable[str], date_format: str | None = None) -> Crowd:
    """
    Read people from a CSV file whose header names fields of the study; each row is a person.

    Raises SourceRefused where the file cannot be read or lacks a field; values are never named.
    """
    try:
        table = pa.csv.read_csv(
            path,
            convert_options=pa.csv.ConvertOptions(
                column_types={field: pa.string() for field in fields}, strings_can_be_null=False
            ),
        )
    except FileNotFoundError:
        raise SourceRefused(file=path.name, rule="is not there", hint="check the path") from None
    except (OSError, pa.ArrowInvalid):
        raise SourceRefused(
            file=path.name,
            rule="cannot be read as a CSV file",
            hint="a header with the study's field names, commas between, saved as UTF-8",
        ) from None
    if lacking := [field for field in fields if field not in table.column_names]:
        raise SourceRefused(
            file=path.name,
            rule=f"has no column {', '.join(lacking)}",
            hint="name the columns as the study file does, with commas between:"
            f" {', '.join(fields)}",
        )
    reading = Reading(date_format=date_format)
    columns = {
        field: Normaliser(field, reading).column(table.column(field).to_pylist()).column
        for field in fields
    }
    return Crowd(columns, np.arange(table.num_rows))
