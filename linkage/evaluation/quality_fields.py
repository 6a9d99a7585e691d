"""
Which fields differ in wrong pairs, from clear-text files that the evaluator holds.

    clear = read_clear({"imaging": Path("imaging_pii.psv"), ...}, links.records)
    [fields_of(one, clear) for one in scored.wrong]

Fields are found by the names of columns (`NAMES`), normalised as a site normalises them, and
compared: so "O'Brien" and "OBRIEN" are the same here as in an encoding. Only counts are handed on.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linkage.errors import SourceRefused
from linkage.evaluation.quality_errors import WrongPairs
from linkage.evaluation.quality_files import Sheet, read_sheet

NAMES = {
    "first_name": ("given", "given_name", "forename", "firstname", "fname"),
    "middle_name": ("mi", "middle_initial", "middle", "middlename"),
    "last_name": ("family", "family_name", "surname", "lastname", "lname"),
    "date_of_birth": ("dob", "birth_date", "birthdate", "birthday"),
    "sex": ("gender",),
    "ssn": ("social_security_number",),
    "street": ("address", "street_address", "address_line_1"),
    "zip": ("zip_code", "postal_code", "zipcode"),
    "phone": ("telephone", "phone_number"),
    "email": ("e_mail", "email_address"),
}
"""Fields, and other names that columns have for them; small letters, "_" for blanks and hyphens."""
DATE_FORMATS = ("%Y-%m-%d", "%Y%m%d", "%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y", "%Y/%m/%d")
"""Tried in this order; the first that reads most dates of a file is the file's."""
SAME, DIFFERS, MISSING = "same", "differs", "missing"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Clear:
    """A party's file in clear text. row: by record id; fields: normalised, "" where missing."""

    row: Mapping[str, int]
    fields: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class FieldErrors:
    """
    How the fields that both parties hold are in their wrong pairs, as counts.

    missed, false: by field, pairs in which it is the "same", "differs", or is "missing" on a side.
    without: by what is not the same in a missed pair ("last_name + street"; "" where nothing), most
    first. unread: wrong pairs with a record that the files lack.
    """

    left: str
    right: str
    missed: Mapping[str, Mapping[str, int]]
    false: Mapping[str, Mapping[str, int]]
    without: Mapping[str, int]
    unread: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_clear(files: Mapping[str, Path], records: Mapping[str, Sequence[str]]) -> dict[str, Clear]:
    """
    Read clear-text files by party. records: by party its record ids, as the links have them.

    Raises SourceRefused where no column holds the party's record ids, or none is a known field;
    RowRejected where an id comes twice.
    """
    return {party: _read(party, path, set(records[party])) for party, path in files.items()}


def fields_of(wrong: WrongPairs, clear: Mapping[str, Clear]) -> FieldErrors | None:
    """Return how fields differ in the wrong pairs; None without files of both parties."""
    if wrong.left not in clear or wrong.right not in clear:
        return None
    left, right = clear[wrong.left], clear[wrong.right]
    common = [field for field in NAMES if field in left.fields and field in right.fields]
    counts = {
        kind: {f: dict.fromkeys((SAME, DIFFERS, MISSING), 0) for f in common} for kind in (0, 1)
    }
    without: Counter[str] = Counter()
    unread = 0
    for one, other, missed in zip(
        wrong.left_ids, wrong.right_ids, wrong.missed.tolist(), strict=True
    ):
        if one not in left.row or other not in right.row:
            unread += 1
            continue
        i, j = left.row[one], right.row[other]
        states = {f: _state(f, left.fields[f][i], right.fields[f][j]) for f in common}
        for field, state in states.items():
            counts[int(missed)][field][state] += 1
        if missed:
            without[" + ".join(f for f, state in states.items() if state != SAME)] += 1
    return FieldErrors(
        wrong.left, wrong.right, counts[1], counts[0], dict(without.most_common()), unread
    )


def lacking(found: FieldErrors) -> str:
    """Return in words what is not the same in missed pairs, the most frequent five."""
    told = [f"{what or 'nothing'} {count:,}" for what, count in found.without.items()]
    more = f"; {len(told) - 5} more" if len(told) > 5 else ""
    lost = f"; {found.unread:,} of these pairs are not in the files" if found.unread else ""
    return ("; ".join(told[:5]).replace("_", " ") or "none missed") + more + lost


def _state(field: str, one: str, other: str) -> str:
    if not one or not other:
        return MISSING
    if field == "middle_name" and 1 in (len(one), len(other)):
        one, other = one[0], other[0]  # one side holds the initial only
    return SAME if one == other else DIFFERS


def _read(party: str, path: Path, records: set[str]) -> Clear:
    sheet = read_sheet(path)
    named = max(sheet.columns, key=lambda name: sum(one in records for one in sheet.columns[name]))
    if 2 * sum(one in records for one in sheet.columns[named]) <= len(records):
        raise SourceRefused(
            file=str(path),
            rule=f"no column holds most record ids of party {party!r}",
            hint="give the file that the party tokenized",
        )
    row: dict[str, int] = {}
    for place, record in enumerate(sheet.columns[named]):
        if row.setdefault(record, place) != place:
            hint = "a record id is of one row"
            sheet.reject(place, named, "repeats a record id of an earlier row", hint)
    fields = {
        field: _normalised(field, sheet, column)
        for field, others in NAMES.items()
        for column in sheet.columns
        if column != named and _plain(column) in (field, *others)
    }
    if not fields:
        raise SourceRefused(
            file=str(path),
            rule="no column has the name of a field",
            hint=f"name its columns by what they hold: {', '.join(NAMES)}",
        )
    return Clear(row, fields)


def _normalised(field: str, sheet: Sheet, column: str) -> Sequence[str]:
    # Imported here, for it needs what normalises names; other evaluations do not.
    from linkage.encoding.fields import Normaliser, Reading

    values = sheet.columns[column]
    reading = Reading()
    if field == "date_of_birth":
        reading = Reading(date_format=max(DATE_FORMATS, key=lambda form: _readable(values, form)))
    return Normaliser(field, reading).column(values).column.texts()


def _readable(values: Sequence[str], form: str) -> int:
    """Return how many of the first thousand dates a format reads."""
    count = 0
    for value in values[:1000]:
        try:
            dt.datetime.strptime(value, form)
        except ValueError:
            continue
        count += 1
    return count


def _plain(column: str) -> str:
    return column.strip().lower().replace(" ", "_").replace("-", "_")
