"""
The files of a linkage that is scored: its IDs or its list of pairs, and the truth.

    links = read_links(Path("out/ids"))            # or Path("pairs.csv")
    truth = read_truth_file(Path("truth.csv"), links.records)

Delimited text in UTF-8 with a header; commas, semicolons, bars and tabs are told apart by the
header. Whatever is wrong is named by file, row and column, never by what is in it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from linkage.errors import RowRejected, SourceRefused

Ints = npt.NDArray[np.int64]
Ids = Mapping[str, Mapping[str, str]]
"""Party -> record id -> cross-commons ID, every record of the party."""
Truth = Mapping[str, Mapping[str, str]]
"""Party -> record id -> person, of the records whose person is known."""

ID_HEADER = ("record_id", "cross_commons_id")
PAIR_HEADERS = (
    ("left_party", "left_id", "right_party", "right_id"),
    ("source_dataset_l", "unique_id_l", "source_dataset_r", "unique_id_r"),
)
"""Of a list of pairs of any parties; the second is Splink's."""
_PROBABILITY = ("probability", "match_probability")
_OTHER_SCORES = frozenset({"match_weight", "match_key", "score", "method"})
_PAIRS_HINT = (
    f"a list of pairs has the columns {','.join(PAIR_HEADERS[0])} and may have probability; or one"
    " column a party, two in all, and may have probability; links come first, then the truth"
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sheet:
    """A file of rows. columns: by header, R texts each. rows: R numbers; the header is row 1."""

    file: str
    columns: Mapping[str, Sequence[str]]
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def reject(self, place: int, field: str, rule: str, hint: str) -> NoReturn:
        """Raise RowRejected for the row at `place`, from 0."""
        raise RowRejected(file=self.file, row=self.rows[place], field=field, rule=rule, hint=hint)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ListedPairs:
    """Pairs of two parties, P parallel rows. probability: in [0, 1], None: all are links."""

    left: Ints
    right: Ints
    probability: npt.NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Links:
    """
    What a linkage says. records: by party its record ids, all different.

    ids: the cross-commons IDs, None for a list. pairs: by two parties the pairs listed, as places
    in `records`; with IDs these are what the linkage weighed, and the IDs say what it linked.
    inside: listed pairs of one party, which are not scored.
    """

    records: Mapping[str, Sequence[str]]
    ids: Ids | None
    pairs: Mapping[tuple[str, str], ListedPairs]
    inside: int = 0

    @property
    def scored(self) -> bool:
        """Whether pairs come with probabilities."""
        return any(one.probability is not None for one in self.pairs.values())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TruthFile:
    """Who is who. facts: by further column of the file, person -> value, "" where not told."""

    file: str
    persons: Truth
    facts: Mapping[str, Mapping[str, str]]


def read_links(path: Path, weighed: Path | None = None) -> Links:
    """
    Read a folder of IDs, or a file of pairs.

    weighed: for IDs, a list of pairs with their probabilities; by default that of a rehearsal's
    folder, `pairs.csv` beside its folder `ids`. Raises SourceRefused, RowRejected.
    """
    if not path.is_dir():
        if weighed is not None:
            raise SourceRefused(
                file=str(path),
                rule="is a list of pairs already",
                hint="pairs with probabilities go beside a folder of IDs; give one of the two",
            )
        return _read_pairs(path)
    ids = read_ids(path)
    records = {party: list(given) for party, given in ids.items()}
    beside = path / "pairs.csv"
    if weighed is None and (path / "ids").is_dir() and beside.is_file():
        weighed = beside
    if weighed is None:
        return Links(records, ids, {})
    listed = _read_pairs(weighed)
    return Links(records, ids, _placed(listed, records, weighed), listed.inside)


def _placed(
    listed: Links, records: Mapping[str, Sequence[str]], path: Path
) -> dict[tuple[str, str], ListedPairs]:
    """Return the listed pairs, at places in `records`."""

    def refuse(rule: str, hint: str) -> NoReturn:
        raise SourceRefused(file=str(path), rule=rule, hint=hint)

    if not listed.scored:
        refuse("has no column `probability`", "leave it out: the IDs say who is linked")
    if strangers := listed.records.keys() - records.keys():
        hint = f"parties of the IDs: {', '.join(records)}; both must be of one linkage"
        refuse(f"names {len(strangers)} parties that have no IDs", hint)
    places: dict[str, Ints] = {}
    for party, named in listed.records.items():
        number = {record: place for place, record in enumerate(records[party])}
        places[party] = np.array([number.get(record, -1) for record in named], np.int64)
        if unknown := int((places[party] < 0).sum()):
            hint = "IDs and pairs must be of one run"
            refuse(f"names {unknown:,} records of {party!r} that have no ID", hint)
    return {
        (left, right): ListedPairs(
            places[left][pairs.left], places[right][pairs.right], pairs.probability
        )
        for (left, right), pairs in listed.pairs.items()
    }


def read_ids(folder: Path) -> dict[str, dict[str, str]]:
    """
    Read `<party>.csv` files with columns record_id, cross_commons_id; parties by file name.

    Of a rehearsal's folder, those in its folder `ids`. Raises SourceRefused if there are not two
    such files, RowRejected for a row that is not as it should be.
    """
    folder = folder / "ids" if (folder / "ids").is_dir() else folder
    ids = {}
    for path in sorted(folder.glob("*.csv")):
        sheet = read_sheet(path)
        if lacking := [name for name in ID_HEADER if name not in sheet.columns]:
            raise SourceRefused(
                file=str(path),
                rule=f"the header lacks {', '.join(lacking)}",
                hint=f"each <party>.csv of a folder of IDs has the columns {','.join(ID_HEADER)}",
            )
        rows: dict[str, str] = {}
        for place, (record, person) in enumerate(
            zip(*(sheet.columns[name] for name in ID_HEADER), strict=True)
        ):
            if not record or not person:
                empty = ID_HEADER[bool(record)]
                hint = "every record has an ID, matched or not; run the linkage again"
                sheet.reject(place, empty, "is empty", hint)
            if record in rows:
                hint = "a record has one ID; leave out the second row"
                sheet.reject(place, "record_id", "repeats a record id of an earlier row", hint)
            rows[record] = person
        ids[path.stem] = rows
    if len(ids) < 2:
        raise SourceRefused(
            file=str(folder),
            rule="holds fewer than two <party>.csv files" if folder.is_dir() else "is no folder",
            hint="give the folder `ids` of a linkage, or a file of pairs",
        )
    return ids


def read_truth(path: Path, ids: Ids, columns: Mapping[str, str] | None = None) -> Truth:
    """Read who is who, as `read_truth_file`, without what else the file says."""
    return read_truth_file(path, ids, columns).persons


def read_truth_file(
    path: Path,
    records: Mapping[str, Collection[str]],
    columns: Mapping[str, str] | None = None,
) -> TruthFile:
    """
    Read who is who: one row a person, one column a party, empty where it holds no record.

    A party's column is that of `columns`, else the one named `<party>` or `<party>_id`, else the
    only one that holds most of the party's record ids. Where a party holds a person several
    times, she has several rows, with one truth_id. records: by party its record ids. Raises
    SourceRefused if a party has no column, RowRejected where rows contradict each other.
    """
    sheet = read_sheet(path)
    if any(set(names) <= set(sheet.columns) for names in PAIR_HEADERS):
        rule = "lists pairs; the truth has one row a person, one column a party"
        raise SourceRefused(file=sheet.file, rule=rule, hint="links come first, then the truth")
    chosen = {
        party: _column_of(sheet, party, set(held), columns or {}) for party, held in records.items()
    }
    if doubled := [one for one, count in Counter(chosen.values()).items() if count > 1]:
        raise SourceRefused(
            file=sheet.file,
            rule=f"column {doubled[0]!r} cannot be that of two parties",
            hint=f"say PARTY=COLUMN for each, of: {', '.join(sheet.columns)}",
        )
    named = sheet.columns.get("truth_id")
    person = list(named) if named else [str(number) for number in sheet.rows]
    if "" in person:
        hint = "give each person a truth_id, or leave the column out"
        sheet.reject(person.index(""), "truth_id", "is empty", hint)
    persons: dict[str, dict[str, str]] = {}
    for party, column in chosen.items():
        known = persons[party] = {}
        for place, record in enumerate(sheet.columns[column]):
            if record and known.setdefault(record, person[place]) != person[place]:
                hint = "a record is one person's: leave it out of one of the rows"
                sheet.reject(place, column, "names a record that an earlier person has", hint)
    facts = {}
    for column, values in sheet.columns.items():
        if column not in chosen.values() and column != "truth_id":
            facts[column] = _fact(sheet, column, values, person)
    return TruthFile(sheet.file, persons, facts)


def _fact(
    sheet: Sheet, column: str, values: Sequence[str], person: Sequence[str]
) -> dict[str, str]:
    told: dict[str, str] = {}
    for place, (who, value) in enumerate(zip(person, values, strict=True)):
        if value and told.get(who):
            if told[who] != value:
                hint = "a person has one value in a column; make her rows agree"
                sheet.reject(place, column, "differs from an earlier row of the person", hint)
        else:
            told[who] = value or told.get(who, "")
    return told


def _column_of(
    sheet: Sheet, party: str, records: Collection[str], columns: Mapping[str, str]
) -> str:
    """Return the party's column of a truth file."""
    hint = f"say --column {party}=COLUMN, one of: {', '.join(sheet.columns)}"
    said = columns.get(party)
    if said is not None and said not in sheet.columns:
        raise SourceRefused(
            file=sheet.file, rule=f"there is no column as said for party {party!r}", hint=hint
        )
    for name in [said] if said else [party, f"{party}_id"]:
        found = sheet.columns.get(name, ())
        if name in sheet.columns and (not records or any(one in records for one in found)):
            return name
    if said:
        raise SourceRefused(
            file=sheet.file,
            rule=f"no record of party {party!r} is in the column said to be its own",
            hint=hint,
        )
    full = [
        name
        for name, values in sheet.columns.items()
        if name != "truth_id" and 2 * sum(one in records for one in values) > len(records)
    ]
    if len(full) != 1:
        raise SourceRefused(
            file=sheet.file, rule=f"no one column is that of party {party!r}", hint=hint
        )
    return full[0]


def _read_pairs(path: Path) -> Links:
    sheet = read_sheet(path)
    score = next((name for name in _PROBABILITY if name in sheet.columns), None)
    probability = _probabilities(sheet, score) if score else None
    names = next((names for names in PAIR_HEADERS if set(names) <= set(sheet.columns)), None)
    if names:
        cells = [sheet.columns[name] for name in names]
    else:
        if set(ID_HEADER) <= set(sheet.columns):
            hint = "give the folder that has such a file for each party"
            raise SourceRefused(file=sheet.file, rule="has the IDs of one party", hint=hint)
        parties = [n for n in sheet.columns if n not in {*_PROBABILITY, *_OTHER_SCORES}]
        if len(parties) != 2:
            raise SourceRefused(
                file=sheet.file, rule="is no list of pairs by its header", hint=_PAIRS_HINT
            )
        one, other = ([party] * len(sheet) for party in parties)
        cells = [one, sheet.columns[parties[0]], other, sheet.columns[parties[1]]]
        names = ("", parties[0], "", parties[1])
    if not len(sheet):
        raise SourceRefused(
            file=sheet.file,
            rule="lists no pair",
            hint="a linkage that found nothing has nothing to score; give its candidate pairs",
        )
    places: dict[str, dict[str, int]] = {}
    seen: set[tuple[str, str, int, int]] = set()
    made: dict[tuple[str, str], tuple[list[int], list[int], list[int]]] = {}
    inside = 0
    for place, row in enumerate(zip(*cells, strict=True)):
        if "" in row:
            hint = "a pair names two records and their parties"
            sheet.reject(place, names[row.index("")], "is empty", hint)
        left, one, right, other = row
        ours, theirs = places.setdefault(left, {}), places.setdefault(right, {})
        i, j = ours.setdefault(one, len(ours)), theirs.setdefault(other, len(theirs))
        if left == right:
            inside += 1
            continue
        if right < left:
            left, right, i, j = right, left, j, i
        if (left, right, i, j) in seen:
            hint = "list a pair once, with one probability"
            sheet.reject(place, "", "repeats the pair of an earlier row", hint)
        seen.add((left, right, i, j))
        lefts, rights, at = made.setdefault((left, right), ([], [], []))
        lefts.append(i)
        rights.append(j)
        at.append(place)
    if not made:
        raise SourceRefused(
            file=sheet.file,
            rule="lists pairs within a party only",
            hint="what is scored are pairs of two parties",
        )
    pairs = {
        key: ListedPairs(
            np.array(lefts, np.int64),
            np.array(rights, np.int64),
            None if probability is None else probability[at],
        )
        for key, (lefts, rights, at) in sorted(made.items())
    }
    return Links({party: list(held) for party, held in sorted(places.items())}, None, pairs, inside)


def _probabilities(sheet: Sheet, column: str) -> npt.NDArray[np.float64]:
    made = np.empty(len(sheet))
    hint = "a probability is a number from 0 to 1; leave the column out if there is none"
    for place, text in enumerate(sheet.columns[column]):
        try:
            value = float(text)
        except ValueError:
            sheet.reject(place, column, "is no number" if text else "is empty", hint)
        if not isfinite(value) or not 0 <= value <= 1:
            sheet.reject(place, column, "is outside 0 to 1", hint)
        made[place] = value
    return made


def read_sheet(path: Path) -> Sheet:
    """Read a delimited file with a header. Raises SourceRefused, RowRejected."""
    file = str(path)
    if not path.exists():
        raise SourceRefused(file=file, rule="is not there", hint="check the path")
    if path.is_dir():
        raise SourceRefused(
            file=file,
            rule="is a folder",
            hint="give one CSV file; links come first, then the truth",
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            first = text.readline()
            text.seek(0)
            delimiter = max(",|;\t", key=first.count)
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not any(header):
                raise SourceRefused(file=file, rule="is empty", hint="a CSV file with a header")
            if len(set(header)) < len(header) or "" in header:
                raise SourceRefused(
                    file=file,
                    rule="has a column without a name, or two of one name",
                    hint="give each column a name of its own in the first row",
                )
            columns: list[list[str]] = [[] for _ in header]
            rows: list[int] = []
            for number, row in enumerate(reader, start=2):
                if not row:
                    continue
                if len(row) != len(header):
                    raise RowRejected(
                        file=file,
                        row=number,
                        field="",
                        rule="has another number of cells than the header",
                        hint="check quotation marks and delimiters of that row",
                    )
                rows.append(number)
                for column, cell in zip(columns, row, strict=True):
                    column.append(cell)
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise SourceRefused(
            file=file,
            rule=f"cannot be read ({type(fault).__name__})",
            hint="check the path; the file is CSV in UTF-8",
        ) from None
    return Sheet(file, dict(zip(header, columns, strict=True)), rows)
