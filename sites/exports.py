"""
IDs in the layouts of other systems: the case node of a Gen3 commons such as MIDRC, and Gen3's
crosswalk.

    token-record-id        TSV of the node `case`: type, submitter_id, token_record_id
    linked-external-data   likewise with linked_external_data, for cases that others hold too
    gen3-crosswalk         CSV with headers commons_url|identifier_type|identifier_name

Each gives away something that the linkage otherwise keeps, so each wants to be told that its user
knows what; it is noted in the private folder. The second and a crosswalk of two commons compare
this site's IDs with a list that another party handed over: the broker tells nobody who matched.

Sources: uc-cdis/midrc_dictionary, gdcdictionary/schemas/case.yaml (token_record_id: a string,
linked_external_data: an array of strings; required: submitter_id, type, datasets);
uc-cdis/gen3sdk-python, docs/howto/crosswalk.md and gen3/tools/metadata/crosswalk.py. In Gen3's TSV
a link is written `datasets.submitter_id`, an array as values with commas between.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from linkage.errors import LinkageError, SiteRefused, SourceRefused
from linkage.pseudonyms import format_id, parse_id
from sites.listed_file import read_listed
from sites.private_file import private_file
from sites.vault import Vault

LEDGER = "exports"
"""Of what was exported, among what a vault keeps."""

DISCLOSES = {
    "token-record-id": (
        "ids",
        "whoever reads the file, or the cases it is loaded into, can compare its IDs with those of"
        " another party of this release, and so learns whom both hold",
    ),
    "linked-external-data": (
        "matches",
        "whoever reads the file, or the cases it is loaded into, learns which of your cases the"
        " other party holds too",
    ),
    "gen3-crosswalk": (
        "public",
        "what is published as a Gen3 crosswalk is open to everybody: that a person is in each"
        " commons it names, and under which identifier",
    ),
}
"""By format, the word that its user has to say, and what it means."""

_COLUMN = re.compile(r"https?://[^|\s,\"]+\|[A-Za-z0-9_]+\|[^|,\"\\\r\n\t]+")
_OWN_ID = "cross_commons_id|Cross-Commons ID"
Rows = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Exported:
    """A line of the ledger. at: Unix seconds. rows: of the file. others: whose lists it used."""

    at: int
    format: str
    release: str
    file: str
    rows: int
    discloses: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Other:
    """Another party's list. name: of the resource, or a Gen3 column. records: ids by ID."""

    name: str
    records: Mapping[str, list[str]]


def require_told(kind: str, word: str) -> None:
    """Raises SiteRefused unless `word` says what an export of this format discloses."""
    if kind not in DISCLOSES:
        rule = f"{kind!r} is no format" if kind else "is missing"
        raise _refused("--format", rule, f"formats: {', '.join(DISCLOSES)}")
    wanted, meaning = DISCLOSES[kind]
    if word != wanted:
        raise _refused(
            "--discloses",
            f"{kind} gives something away: {meaning}",
            f"where your agreements allow that, add: --discloses {wanted}",
        )


def read_other(said: str, *, records: bool) -> Other:
    """
    Read NAME=FILE: a CSV of another party with cross_commons_id, and record_id where `records`.

    Raises SiteRefused for something else, SourceRefused for a file without these columns or with an
    ID that does not hold.
    """
    name, _, file = said.rpartition("=")
    if not name or not file:
        raise _refused("--with", "is not NAME=FILE", 'as in --with "N3C=their-ids.csv"')
    wanted = ("cross_commons_id", *(("record_id",) if records else ()))

    def checked(file_name: str, reader: Iterable[list[str]]) -> dict[str, list[str]]:
        rows = iter(reader)
        header = next(rows, [])
        if any(header.count(column) != 1 for column in wanted):
            raise SourceRefused(
                file=file_name,
                rule=f"has not the columns {', '.join(wanted)}",
                hint="ask for a file as `linkage-site ids` writes it",
            )
        places = [header.index(column) for column in wanted]
        found: dict[str, list[str]] = {}
        for number, cells in enumerate(rows, start=2):
            values = [cells[at] if at < len(cells) else "" for at in places]
            try:
                one = format_id(parse_id(values[0]))
            except LinkageError as fault:
                raise SourceRefused(
                    file=f"{file_name}, row {number}",
                    rule=fault.message,
                    hint="have the list sent again; linkage-site id check names all such rows",
                ) from None
            found.setdefault(one, []).append(values[-1])
        return found

    return Other(name, read_listed(Path(file), checked))


def token_record_id(ids: Mapping[str, str], *, dataset: str = "") -> Rows:
    """Return header and rows: every record's ID, by record id. dataset: of all these cases."""
    return _cases({record: (one,) for record, one in ids.items()}, "token_record_id", dataset)


def linked_external_data(
    ids: Mapping[str, str], others: Iterable[Other], *, dataset: str = ""
) -> Rows:
    """Return header and rows: the resources that hold each record too; others have no row."""
    others = sorted(others, key=lambda other: other.name)
    if not others:
        raise _refused(
            "--with",
            "is missing: only a comparison with another party's list tells who is linked",
            'as in --with "N3C=their-ids.csv"',
        )
    for other in others:
        if not re.fullmatch(r"[^,\t\r\n\"]+", other.name):
            raise _refused("--with", "names a resource with a comma, tab or quote", "rename it")
    found = {
        record: tuple(other.name for other in others if one in other.records)
        for record, one in ids.items()
    }
    return _cases(
        {r: names for r, names in found.items() if names}, "linked_external_data", dataset
    )


def gen3_crosswalk(ids: Mapping[str, str], column: str, others: Iterable[Other]) -> Rows:
    """
    Return header and rows of a Gen3 crosswalk, by record id. column: of this site's own ids.

    Without others, every record with its ID; with them, the records that all of them hold, with
    their record ids.
    """
    others = list(others)
    for one in (column, *(other.name for other in others)):
        if not _COLUMN.fullmatch(one):
            raise _refused(
                "--column" if one == column else "--with",
                "is no Gen3 crosswalk column",
                '"https://data.midrc.org|gen3_node_property|Case.submitter_id", for example',
            )
    if not others:
        url = column.partition("|")[0]
        header = (column, f"{url}|{_OWN_ID}")
        return [header, *_plain(sorted(ids.items()), forbidden=',"\\')]
    rows: Rows = []
    for record, one in sorted(ids.items()):
        pairs: Rows = [(record,)]
        for other in others:
            pairs = [(*p, theirs) for p in pairs for theirs in sorted(other.records.get(one, []))]
        rows += pairs
    return [(column, *(other.name for other in others)), *_plain(rows, forbidden=',"\\')]


def write(rows: Rows, path: Path, *, tabs: bool) -> None:
    """Write rows as TSV or CSV, UTF-8, line feeds; only its owner can read it."""
    with private_file(path) as file:
        if tabs:
            file.writelines("\t".join(row) + "\n" for row in rows)
        else:
            csv.writer(file, lineterminator="\n").writerows(rows)


def note(vault: Vault, done: Exported) -> None:
    """Add a line to this site's ledger of exports, before the file is there."""
    with vault.alone(LEDGER):
        lines = [*ledger(vault), done]
        vault.keep(LEDGER, json.dumps([asdict(one) for one in lines]).encode())


def ledger(vault: Vault) -> list[Exported]:
    """Return what was exported at this site, oldest first."""
    kept = vault.kept(LEDGER)
    found = json.loads(kept) if kept else []
    return [Exported(**{**one, "others": tuple(one["others"])}) for one in found]


def exported(kind: str, release: str, path: Path, rows: Rows, others: Iterable[Other]) -> Exported:
    """Return the ledger's line for an export that is made now."""
    names = tuple(other.name for other in others)
    word = DISCLOSES[kind][0]
    return Exported(int(time.time()), kind, release, path.name, len(rows) - 1, word, names)


def _cases(values: Mapping[str, tuple[str, ...]], column: str, dataset: str) -> Rows:
    link = (("datasets.submitter_id",), (dataset,)) if dataset else ((), ())
    header = ("type", "submitter_id", *link[0], column)
    rows = [("case", record, *link[1], ",".join(each)) for record, each in sorted(values.items())]
    return [header, *_plain(rows, forbidden="")]


def _plain(rows: Iterable[tuple[str, ...]], *, forbidden: str) -> Rows:
    """Gen3 reads cells bare and trimmed, so what would need quoting is refused."""
    found = list(rows)
    for number, row in enumerate(found, start=2):
        for cell in row:
            if cell != cell.strip() or not cell.isprintable() or any(c in cell for c in forbidden):
                raise SourceRefused(
                    file=f"the export, row {number}",
                    rule="holds a record id that Gen3 would read otherwise (a tab, quote, comma,"
                    " backslash or outer space)",
                    hint="record ids must be the commons' own case ids",
                )
    return found


def _refused(key: str, rule: str, hint: str) -> SiteRefused:
    return SiteRefused(file="export", line=0, key=key, rule=rule, hint=hint)
