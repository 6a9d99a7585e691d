"""
Which of the enclave's records a delivered cohort holds: kept, encrypted, to refresh it later, and
to make a report of it that may be shared (sites.sharing).

IDs are new in each delivery, so nothing in two folders says who is the same. Only the enclave that
joined them can tell, by its own record ids; they stay in its private folder.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import pyarrow as pa

from linkage.errors import NotFound
from sites.session import Session


def remember(
    session: Session, delivery_id: str, cohort_of: Mapping[str, str], delivered: Collection[str]
) -> None:
    """Keep who is in a delivery. cohort_of: cohort ID by record id; delivered: the cohort IDs."""
    kept = {record: one for record, one in sorted(cohort_of.items()) if one in set(delivered)}
    session.vault.keep(_name(delivery_id), json.dumps(kept).encode())


def remembered(session: Session, delivery_id: str) -> dict[str, str]:
    """Return cohort ID by record id of a delivery joined here. Raises NotFound for another."""
    content = session.vault.kept(_name(delivery_id)) if delivery_id else None
    if content is None:
        raise NotFound(
            "this site did not join the earlier cohort, or its private folder is another one",
            hint="refresh where the cohort was joined, with the same private folder",
        )
    return dict(json.loads(content))


def remember_people(
    session: Session, delivery_id: str, described: pa.Table, records: Mapping[str, int]
) -> None:
    """
    Keep what the delivered are, under the names by which the ledger of counts knows them.

    described: ClinicalResult.persons; records: person_id by record id.
    """
    names = {person: record for record, person in records.items()}
    who = pa.array([names[one] for one in described["person_id"].to_pylist()], pa.string())
    columns = described.select(["unit", "sex", "age", "race", "ethnicity"])
    table = columns.append_column("name", who)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    session.vault.keep(_people(delivery_id), sink.getvalue().to_pybytes())


def remembered_people(session: Session, delivery_id: str) -> pa.Table:
    """
    Return the delivered: unit (cohort ID), name (record id), sex, age, race, ethnicity.

    Raises NotFound where no cohort of the delivery was joined here, or by an older version.
    """
    content = session.vault.kept(_people(delivery_id))
    if content is None:
        raise NotFound(
            "this site did not join this cohort, or an older version of the software did",
            hint="join it again, into a new folder: linkage-site join; the tables are the same",
        )
    return pa.ipc.open_stream(content).read_all().combine_chunks()


def _people(delivery_id: str) -> str:
    return f"cohort-people-{delivery_id}"


def _name(delivery_id: str) -> str:
    return f"cohort-{delivery_id}"
