"""
Check a delivered folder before anybody sees it, and whenever somebody doubts it.

    check_delivery(folder, local_person_ids=..., local_texts=...)

1. Every table is there, with the columns, types and required values of the CDM and of MI-CDM.
2. Keys are unique.
3. Every reference resolves within the folder, or is null where the layout says what that means.
4. No local id: no id column holds a person_id of the source, no text column one of `local_texts`.
5. Every person has images, and every image a person and a cohort ID.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkage.errors import DeliveryFaulty
from sites.cohort.layout import BY_PATH, OMOP_FOLDER, SIDE_FOLDER, DeliveredTable, Link

Tables = Mapping[str, pa.Table]


def check_delivery(
    folder: Path,
    *,
    local_person_ids: Collection[int] | pa.Array = (),
    local_texts: Collection[str] = (),
) -> dict[str, int]:
    """
    Check the folder as the module says; return rows by table. Raises DeliveryFaulty.

    local_person_ids: person ids of the source. local_texts: local record ids, such as PatientIDs.
    """
    tables = {path: _read(folder, table) for path, table in BY_PATH.items()}
    ids = pa.array(local_person_ids, pa.int64())
    texts = pa.array(local_texts, pa.string())
    for path, table in BY_PATH.items():
        _check_keys(table, tables[path])
        _check_links(table, tables)
        _check_foreign_ids(table, tables[path], ids, texts)
    _check_everybody_has_images(tables)
    return {path: table.num_rows for path, table in tables.items()}


def _read(folder: Path, expected: DeliveredTable) -> pa.Table:
    file = folder / f"{expected.path}.parquet"
    if not file.is_file():
        raise DeliveryFaulty(table=expected.path, rule="is missing")
    table = pq.read_table(file)
    if not table.schema.equals(expected.schema):
        raise DeliveryFaulty(table=expected.path, rule="has other columns or types than it must")
    for field in expected.schema:
        if not field.nullable and table[field.name].null_count:
            raise DeliveryFaulty(table=expected.path, rule=f"required {field.name!r} has nulls")
    return table


def _check_keys(expected: DeliveredTable, table: pa.Table) -> None:
    if not expected.key:
        return
    if len(expected.key) == 1:
        distinct = len(pc.unique(table[expected.key[0]]))
    else:
        distinct = table.group_by(list(expected.key)).aggregate([]).num_rows
    if distinct != table.num_rows:
        named = " and ".join(repr(name) for name in expected.key)
        raise DeliveryFaulty(table=expected.path, rule=f"key {named} occurs twice")


def _check_links(expected: DeliveredTable, tables: Tables) -> None:
    table = tables[expected.path]
    linked = {link.column for link in expected.links}
    for name in expected.ids():
        nulls = table[name].null_count
        if name not in linked and name not in expected.key and nulls < table.num_rows:
            raise DeliveryFaulty(table=expected.path, rule=f"{name!r} refers to nothing known")
        if nulls and name not in expected.nulls:
            raise DeliveryFaulty(table=expected.path, rule=f"{name!r} is null without a reason")
    for link in expected.links:
        _check_link(expected, link, tables)
    for column in {link.column for link in expected.links if link.where}:
        links = [link for link in expected.links if link.column == column and link.where]
        kinds = pa.array([link.where[1] for link in links if link.where], pa.int32())
        which = links[0].where[0] if links[0].where else column
        if not _all(pc.is_in(table[which], value_set=kinds)):
            raise DeliveryFaulty(table=expected.path, rule=f"{which!r} names an unknown table")


def _check_link(expected: DeliveredTable, link: Link, tables: Tables) -> None:
    table = tables[expected.path]
    if link.where:
        table = table.filter(pc.equal(table[link.where[0]], link.where[1]))
    keys = _set(tables[link.table][link.key])
    column = table[link.column]
    if not _all(pc.or_(pc.is_in(column, value_set=keys), pc.is_null(column))):
        rule = f"{link.column!r} refers to no row of {link.table}"
        raise DeliveryFaulty(table=expected.path, rule=rule)


def _check_foreign_ids(
    expected: DeliveredTable, table: pa.Table, ids: pa.Array, texts: pa.Array
) -> None:
    own = [name for name in expected.ids() if name != "cohort_definition_id"]
    checked = [(name, ids, "person") for name in own if len(ids)]
    checked += [
        (field.name, texts, "record")
        for field in table.schema
        if pa.types.is_string(field.type) and len(texts)
    ]
    for name, forbidden, whose in checked:
        column = table[name].cast(forbidden.type)
        if whose == "person" and _above(column, forbidden):
            continue  # the usual case: new ids lie above all of the source's
        if pc.any(pc.is_in(column, value_set=forbidden)).as_py():
            raise DeliveryFaulty(table=expected.path, rule=f"{name!r} holds a local {whose} id")


def _check_everybody_has_images(tables: Tables) -> None:
    person = tables[f"{OMOP_FOLDER}/person"]["person_id"]
    for path in (f"{OMOP_FOLDER}/image_occurrence", f"{SIDE_FOLDER}/cohort_person"):
        if not _all(pc.is_in(person, value_set=_set(tables[path]["person_id"]))):
            raise DeliveryFaulty(table=path, rule="does not have every person of the cohort")


def _above(column: pa.ChunkedArray, forbidden: pa.Array) -> bool:
    least = pc.min(column).as_py()
    return least is None or least > pc.max(forbidden).as_py()


def _all(holds: pa.ChunkedArray) -> bool:
    return bool(pc.all(holds, min_count=0).as_py())


def _set(column: pa.ChunkedArray) -> pa.Array:
    unique: pa.Array = pc.unique(column.combine_chunks())
    return unique
