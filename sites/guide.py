"""
A first look at a source, and the site file that follows from it: what `linkage-site init` does.

    draft = Draft(party="north", source={"kind": "delimited", "file": "patients.csv"})
    seen = look(draft, folder)
    text = site_file(draft, seen)

What it shows are names of columns and shares of values, never a value.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linkage import strict_toml
from linkage.encoding.date_formats import strptime_format
from linkage.errors import SiteRefused, SourceRefused
from linkage.study import FIELDS
from sites.config import SiteConfig
from sites.sources.base import RawBatch
from sites.sources.config import SourceConfig, SqlConfig
from sites.sources.database import open_database
from sites.sources.names import like_a_value, usual, usual_field
from sites.sources.opening import NotedSource, open_source

_FORMATS = (
    "YYYY-MM-DD", "MM/DD/YYYY", "YYYYMMDD", "DD/MM/YYYY", "MM-DD-YYYY", "DD.MM.YYYY", "DD-MM-YYYY",
    "MMDDYYYY", "YYYY/MM/DD", "DD-MON-YYYY", "DDMONYYYY", "MM/DD/YY", "DD-MON-YY", "DD/MM/YY",
)  # fmt: skip
"""Tried in this order; of two that fit equally well the first is proposed, and the doubt said."""
_FITS = 0.9
"""Share of dates that a format must fit to be proposed; the rest are errors and placeholders."""
_LISTED = 10_000
"""Files of a folder whose names are looked at."""
_LOOKED_AT = 500
"""DICOM files read for a first look."""
_TABLES = ("delimited", "parquet", "sql")


@dataclass(frozen=True)
class Draft:
    """What is known of a site file. source: the table [source] as far as it is given."""

    party: str
    source: Mapping[str, Any]
    broker: str = ""
    contributor: str = ""


@dataclass
class Look:
    """
    What was found. record_id: its column, "" where unknown. columns: by field, the name of its
    column. doubtful: fields that several columns could hold, with their numbers. filled: by field,
    the share of `records` looked at that have a value. text_dates: whether birth dates are text;
    date_formats: those that fit, more than one where the days cannot tell. others: columns that
    are no usual field.
    """

    record_id: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    doubtful: dict[str, list[int]] = field(default_factory=dict)
    filled: dict[str, float] = field(default_factory=dict)
    records: int = 0
    text_dates: bool = False
    date_formats: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def others(self) -> list[str]:
        return [name for name in self.header if not usual_field(name)]


def kind_of(text: str) -> str:
    """Return the kind of source at a path or URL, by what is there. Raises SourceRefused."""
    if "://" in text:
        return "sql"
    path = Path(text)
    if path.is_dir():
        return _kind_of_folder(path)
    start = _start(path)
    if start.startswith(b"SQLite format 3") or start[8:12] == b"DUCK":
        return _kind_of_database(path)
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"PAR1"):
        return "parquet"
    json_text = start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    named = any(one in (".ndjson", ".jsonl", ".json") for one in path.suffixes)
    return "fhir" if json_text or named else "delimited"


def like_a_record(draft: Draft, folder: Path) -> str:
    """
    Return why row 1 of a delimited file may be a record and no header ("column 4 looks like a
    date"), "" where it does not. Somebody has to say so before its cells are shown as names.
    """
    if draft.source.get("kind", "delimited") != "delimited":
        return ""
    source: Any = open_source(_config(draft.source, folder), ())
    found = [(at, like_a_value(one)) for at, one in enumerate(source.header(), start=1)]
    return ", ".join(f"column {at} looks like {kind}" for at, kind in found if kind)


def look(draft: Draft, folder: Path) -> Look:
    """
    Look at the first records of a source. folder: where the site file will be.

    Raises SiteRefused, SourceRefused.
    """
    raw = dict(draft.source)
    seen = Look()
    if raw.get("kind", "delimited") in _TABLES:
        _find_columns(raw, seen, folder)
    else:
        seen.fields = _fields_there(_config({**raw}, folder))
    if not seen.fields:
        rule = "holds no column with a usual name, or none at all"
        hint = "name them under [source.columns]; see docs/sources.md"
        raise SourceRefused(file=_name(raw), rule=rule, hint=hint)
    if seen.record_id or raw.get("kind", "delimited") not in _TABLES:
        _look_at_records(raw, seen, folder)
    return seen


def chosen(draft: Draft, seen: Look) -> dict[str, Any]:
    """Return the table [source] that follows from a look, what was given before what was found."""
    made: dict[str, Any] = dict(draft.source)
    if seen.record_id:
        made["record_id"] = seen.record_id
    if seen.date_formats and "date_format" not in made:
        made["date_format"] = seen.date_formats[0]
    if "YYYY" not in made.get("date_format", "YYYY"):
        made.setdefault("two_digit_years_until", dt.date.today().year)
    if seen.columns:
        made["columns"] = {**seen.columns, **made.get("columns", {})}
    return made


def site_file(draft: Draft, seen: Look) -> str:
    """Return the commented text of a site file. Raises SiteRefused if it would not be read."""
    source = chosen(draft, seen)
    columns = source.pop("columns", {})
    lines = [
        "# Site file of Commons Linkage. Paths are relative to this file.",
        "# Every key of every kind of source: docs/sources.md",
        "",
        "# Your party id in the study file.",
        f"party = {_toml(draft.party)}",
        "# Where you tokenize for a commons: the party is the commons, and this is your own id.",
        f"contributor = {_toml(draft.contributor)}" if draft.contributor else _NO_CONTRIBUTOR,
        "",
        "# Folder of keys and sealed packages; nobody but you may read it."
        " Back up contributor.secret.",
        'private = "private"',
        "",
        "[source]",
        *(_line(key, value) for key, value in source.items()),
        _line("on_bad_row", "refuse"),
    ]
    if columns or seen.doubtful:
        lines += ["", "# Field of the study = column. Case, spaces, hyphens and underscores in"]
        lines += ["# names do not matter. Leave out what the study does not ask of you."]
        lines += ["[source.columns]"]
        lines += [f"{name} = {_toml(column)}" for name, column in columns.items()]
        lines += [
            f'# {name} = "..."    # columns {" and ".join(map(str, at))} could be it'
            for name, at in seen.doubtful.items()
            if name not in columns
        ]
    lines += ["", *_broker(draft.broker)]
    if not draft.contributor:
        lines += ["", *_AGENT]
    text = "\n".join(lines) + "\n"
    strict_toml.parse(text, SiteConfig, SiteRefused, file="site.toml")
    return text


def _kind_of_folder(path: Path) -> str:
    files = list(islice((one for one in path.rglob("*") if one.is_file()), _LISTED))
    names = [one.name.lower() for one in files]
    for kind, endings in (
        ("parquet", (".parquet", ".pq")),
        ("fhir", (".ndjson", ".ndjson.gz", ".json", ".json.gz", ".jsonl")),
    ):
        if any(name.endswith(endings) for name in names):
            return kind
    if any(_start(one)[128:132] == b"DICM" for one in files[:_LOOKED_AT]):
        return "dicom"
    rule = "is a folder without Parquet, FHIR or DICOM files" if names else "is an empty folder"
    raise SourceRefused(file=str(path), rule=rule, hint="name one file, or check the path")


def _kind_of_database(path: Path) -> str:
    with closing(open_database(SqlConfig(file=path, query="-"))) as database:
        return "omop" if "person" in map(str.casefold, database.tables(None)) else "sql"


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(200)
    except OSError:
        rule, hint = "there is no such file, or it cannot be read", "check the path"
        raise SourceRefused(file=str(path), rule=rule, hint=hint) from None


def _config(raw: Mapping[str, Any], folder: Path) -> SourceConfig:
    """Read a table [source] as a site file's, so that faults are told in its words."""
    columns = raw.get("columns", {})
    lines = ['party = "draft"', "[source]"]
    lines += [f"{key} = {_toml(value)}" for key, value in raw.items() if key != "columns"]
    lines += ["[source.columns]", *(f"{k} = {_toml(v)}" for k, v in columns.items())] * bool(
        columns
    )
    text = "\n".join(lines)
    return strict_toml.parse(text, SiteConfig, SiteRefused, file="site.toml", base=folder).source


def _find_columns(raw: dict[str, Any], seen: Look, folder: Path) -> None:
    source: Any = open_source(_config(raw, folder), ())
    seen.header, seen.notes = source.header(), list(source.notes)
    if sum(map(bool, map(usual_field, seen.header))) < 2 and not raw.get("columns"):
        raise SourceRefused(
            file=source.name,
            rule=f"row 1 ({len(seen.header)} columns) holds fewer than two usual column names",
            hint="row 1 must be the header; where it is, write the site file from docs/sources.md",
        )
    for name in ("record_id", *FIELDS):
        given = raw.get("record_id") if name == "record_id" else raw.get("columns", {}).get(name)
        at = usual(name, seen.header)
        if given or len(at) == 1:
            column = given or seen.header[at[0]].strip()
            if name == "record_id":
                seen.record_id = column
            else:
                seen.columns[name] = column
        elif at:
            seen.doubtful[name] = [one + 1 for one in at]
    seen.fields = list(seen.columns)


def _fields_there(config: SourceConfig) -> list[str]:
    source: Any = None
    if config.kind == "omop":
        source = open_source(config, ())
        return list(source.available())
    found = []
    for name in FIELDS:
        with suppress(SourceRefused):
            open_source(config, (name,))
            found.append(name)
    return found


def _look_at_records(raw: dict[str, Any], seen: Look, folder: Path) -> None:
    kind = raw.get("kind", "delimited")
    table = {**raw, "columns": seen.columns, "record_id": seen.record_id} if seen.columns else raw
    if kind in _TABLES and "date_format" not in table:
        table = {**table, "date_format": _FORMATS[0]}  # not used: values are looked at as text
    source: Any = open_source(_config(table, folder), tuple(seen.fields))
    if kind == "dicom":
        source.most_files = _LOOKED_AT
    batch = _first(source)
    seen.notes = [note for note in source.notes if "by its usual name" not in note] or seen.notes
    seen.records = len(batch)
    for name, column in batch.columns.items():
        seen.filled[name] = _share(column)
    dates = batch.columns.get("date_of_birth")
    if kind in _TABLES and dates is not None and pa.types.is_string(dates.type):
        seen.text_dates = True
        seen.date_formats = date_formats(one for one in dates.to_pylist() if one)


def date_formats(texts: Iterable[str]) -> list[str]:
    """Return the formats that fit dates equally well, in tokens; none where none does."""
    counts = Counter(texts)
    fits = {
        form: sum(count for text, count in counts.items() if _reads(text, form))
        for form in _FORMATS
    }
    best = max(fits.values(), default=0)
    if not best or best < _FITS * sum(counts.values()):
        return []
    return [form for form, count in fits.items() if count == best]


def _reads(text: str, form: str) -> bool:
    if form.isalpha() and len(text) != len(form):
        return False
    try:
        dt.datetime.strptime(text, strptime_format(form))
    except ValueError:
        return False
    return True


def _first(source: NotedSource) -> RawBatch:
    batch = next(source.batches(), None)
    if batch is None or not len(batch):
        rule, hint = "has no record that can be read", "check the export"
        raise SourceRefused(file=source.name, rule=rule, hint=hint)
    return batch


def _share(column: pa.Array) -> float:
    text = column.cast(pa.string()) if not pa.types.is_string(column.type) else column
    filled = pc.sum(pc.not_equal(pc.fill_null(text, ""), "")).as_py() or 0
    return float(filled) / max(1, len(column))


def _name(raw: Mapping[str, Any]) -> str:
    return Path(str(raw.get("file") or raw.get("folder") or "query")).name


_AGENT = (
    "# What `linkage-site agent` does by itself: docs/agent.md. portal: people who decide in the",
    "# broker's portal; for them, and for nobody else, its sign-in is trusted.",
    "# [agent]",
    '# portal = ["ada"]',
)
_NO_CONTRIBUTOR = '# contributor = "hospital-a"'

_COMMENTS = {
    "kind": "delimited, parquet, fhir, omop, sql or dicom",
    "record_id": "one id a record, never empty, never twice",
    "date_format": "as the dates stand there",
    "two_digit_years_until": "the last year that two digits can mean",
    "on_bad_row": '"quarantine" leaves bad records out, lists them, and goes on',
    "url_file": "the database's URL with its password, in a file of mode 600",
}


def _line(key: str, value: object) -> str:
    line = f"{key} = {_toml(value)}"
    return f"{line:<28} # {_COMMENTS[key]}" if key in _COMMENTS else line


def _toml(value: object) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _broker(url: str) -> list[str]:
    lines = [
        "[broker]",
        f"url = {_toml(url or 'https://broker.example.org')}",
        "# The custodian's fingerprint, as read out to you by telephone. Without it nobody could",
        "# tell a study of the custodian from one that somebody else signed, so nothing is sent.",
        '# custodian = "0000 0000 0000 0000 0000 0000 0000 0000"',
    ]
    return lines
