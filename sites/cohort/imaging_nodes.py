"""
A folder of Gen3 node exports: one table a node, by name, whatever the file is called.

    nodes = Nodes(con, folder)
    study = nodes.read("imaging_study")            Ibis table, or None
    linked = nodes.linked(study, "cases", case)    with the columns of the case it links to

Gen3 writes a link as `cases.submitter_id` or `cases.id`. A submitter id is unique within one
project only, so a link holds within the project. Rows are joined by these columns and no other.
Where an export has two rows of one submitter id all the same, and they differ, nobody can tell
which one a link means: it leads nowhere then, and `nodes.notes` says how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import ibis

from linkage.errors import SourceRefused
from sites.cohort.imaging_series import text
from sites.cohort.tables import TEXT_SUFFIXES, count_of, read_file

SERIES_NODES = tuple(
    f"{name}_series_file"
    for name in ("cr", "ct", "dr", "dx", "mg", "mr", "nm", "pt", "rf", "us", "xa", "pr")
)
_KNOWN = (
    *("case", "imaging_study", *SERIES_NODES, "imaging_series", "subject", "dataset", "project"),
    *("condition", "medication", "procedure", "measurement", "observation", "visit"),
    *("annotation", "case_annotation", "imaging_study_annotation", "series_annotation"),
    *("annotation_file", "case_annotation_file", "imaging_study_annotation_file"),
    *("series_annotation_file", "dicom_annotation_file", "radiology_report", "structured_report"),
    *("segmentation_file", "supplementary_file", "core_metadata_collection", "imaging_file"),
)
"""Nodes of MIDRC's and the Biomedical Imaging Hub's data dictionaries that files are named for."""


class Nodes:
    """The files of one folder by node. Two files of one node are one table."""

    def __init__(self, con: Any, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceRefused(
                file=folder.name, rule="is not a folder of node exports", hint="check path"
            )
        self.con, self.folder = con, folder
        self.files: dict[str, list[Path]] = {}
        self._read: dict[str, Any] = {}
        self.notes: list[str] = []
        self._sides: dict[Any, Any] = {}
        for path in sorted(folder.iterdir()):
            if path.name.lower().endswith((*TEXT_SUFFIXES, ".parquet")):
                self.files.setdefault(_node_of(path.name), []).append(path)

    def read(self, node: str) -> Any:
        """
        Return a node's table, column names in lower case, all texts; None if it has no file.

        Gen3's templates for submission mark a needed column with a star, as in *submitter_id.
        """
        if node in self._read:
            return self._read[node]
        tables = []
        for n, path in enumerate(self.files.get(node, ())):
            raw = read_file(self.con, path, f"node_{node}_{n}")
            named = {column.lower().removeprefix("*"): column for column in raw.columns}
            tables.append(raw.select(**{name: text(raw, column) for name, column in named.items()}))
        self._read[node] = together(tables)
        return self._read[node]

    def needed(self, node: str) -> Any:
        """The same. Raises SourceRefused if it has no file."""
        if (table := self.read(node)) is None:
            raise SourceRefused(
                file=self.folder.name,
                rule=f"has no table of node {node!r}",
                hint=f"export it too, as {node}.tsv",
            )
        return table

    def linked(self, rows: Any, link: str, target: Any, *, otherwise: Sequence[str] = ()) -> Any:
        """
        Return `rows` with the columns of the `target` row each links to, null where none.

        target: id, submitter_id and project_id, and columns whose names `rows` has not. otherwise:
        columns of `rows` that hold the submitter id too, used where the link itself is empty.
        """
        payload = [n for n in target.columns if n not in ("id", "submitter_id", "project_id")]
        names = [f"{link}.submitter_id", f"{link}.submitter_id#1", *otherwise]
        rows = rows.mutate(
            link_name=first(rows, *names),
            link_id=first(rows, f"{link}.id", f"{link}.id#1", f"{link}._{link[:-1]}_id"),
            link_project=first(rows, "project_id"),
        )
        found = rows
        for nth, (key, own) in enumerate((("submitter_id", "link_name"), ("id", "link_id"))):
            side = self._certain(target, key, payload, link)
            side = side.select(
                **{f"key_{nth}": side[key], f"project_{nth}": side.project_id},
                **{f"{n}_{nth}": side[n] for n in payload},
            )
            same = [found[own] == side[f"key_{nth}"]]
            if key == "submitter_id":
                theirs, mine = side[f"project_{nth}"], found.link_project
                same.append((theirs == mine) | theirs.isnull() | mine.isnull())
            found = found.left_join(side, same)
        either = {n: found[f"{n}_0"].coalesce(found[f"{n}_1"]) for n in payload}
        return found.select(*rows.drop("link_name", "link_id", "link_project").columns, **either)

    def _certain(self, target: Any, key: str, payload: Sequence[str], link: str) -> Any:
        """Return one row a key of `target`, without the keys whose rows differ; these are noted."""
        if (asked := (target.op(), key)) in self._sides:
            return self._sides[asked]
        whole = [key, "project_id"] if key == "submitter_id" else [key]
        rows = target.filter(target[key].notnull()).select(
            **{name: target[name] for name in dict.fromkeys((key, "project_id", *payload))}
        )
        rows = rows.distinct()
        counted = rows.mutate(same=rows.count().over(group_by=whole))
        double = counted.filter(counted.same > 1).select(*whole).distinct()
        if several := count_of(double.count()):
            said = f"{several} {key}s in {link} have rows that differ: no link by it was followed"
            self.notes.extend([said] if said not in self.notes else [])
        clear = counted.filter(counted.same == 1).drop("same")
        # A table of its own: Ibis takes seconds to write SQL in which this stands again and again.
        name = f"node_link_{len(self._sides)}"
        self._sides[asked] = self.con.create_table(name, clear, temp=True)
        return self._sides[asked]


def _node_of(name: str) -> str:
    """Return the longest known node that a file name starts with: case_RSNA_2022.tsv -> case."""
    stem = name.lower().split(".")[0]
    starts = [n for n in _KNOWN if re.match(rf"{n}s?([^a-z]|$|_(?!file|annotation))", stem)]
    return max(starts, key=len, default=stem)


def together(tables: Sequence[Any]) -> Any:
    """Return the rows of all tables, all columns; None for no table."""
    if not tables:
        return None
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    same = [
        table.select(
            **{c: table[c] if c in table.columns else ibis.null("string") for c in columns}
        )
        for table in tables
    ]
    return reduce(lambda left, right: left.union(right), same)


def first(rows: Any, *names: str) -> Any:
    """Return the first of these columns that is there and not null, as text."""
    there = [rows[name].cast("string") for name in names if name in rows.columns]
    return ibis.coalesce(*there) if there else ibis.null("string")


def only(column: Any) -> Any:
    """Return the one value of a Gen3 list such as CHEST or ["CHEST"]; null for several."""
    bare = column.re_replace(r"[\[\]{}\"']", "").strip().nullif("")
    return ibis.ifelse(bare.contains(","), ibis.null("string"), bare)
