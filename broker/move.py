"""
Move a broker from SQLite to PostgreSQL: the rows, the proof, the line in its settings.

    1. The home is ours alone, and so is the old database. It verifies, and no work is unfinished.
    2. The new one is PostgreSQL, in UTF-8, and holds nothing.
    3. Tables are made: a kill leaves empty ones, which the next attempt takes.
    4. In one transaction: every row, counts and digests compared, the log verified, and one entry
       in it that says so. A kill leaves nothing of it.
    5. config.toml names the new database. A kill before that: the next attempt compares both and
       goes on here.

The old database is only read. Packages, keys and settings stay where they are, and so do pseudonyms
and signed heads: no party notices. Remaining weakness: whoever takes the line out of config.toml
again works on the old database, as on a backup; the log then forks, which parties' heads show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from broker import audit, audit_heads, in_use
from broker.config import Home, load_home, url_in
from broker.database_line import name_database
from broker.durable import migrate_workflows_at
from broker.store import audit as audit_rows
from broker.store import moving
from broker.store.engine import Database
from broker.store.moving import Copied
from linkage.audit_chain import Verdict
from linkage.errors import Conflict, Unreachable

ACTION = "moved to PostgreSQL"


@dataclass(frozen=True, slots=True)
class Moved:
    """
    tables: what was copied, without digests in a dry run. head: the old log's newest entry,
    number:hash. home: whose settings now name the new database; where `change` says something,
    a person has to do that first. was_there: all of it came with an earlier attempt.
    """

    home: Home
    tables: tuple[Copied, ...]
    head: str
    was_there: bool = False
    change: str = ""

    @property
    def rows(self) -> int:
        """How many rows that is."""
        return sum(one.rows for one in self.tables)


def move(
    path: Path, url_file: Path, *, dry_run: bool = False, told: moving.Told = lambda _: None
) -> Moved:
    """
    Move the broker in this home to the PostgreSQL that `url_file` names. dry_run: only look. told:
    how far it is.

    Raises Conflict while anything uses the broker, for unfinished work and for a database that is
    not PostgreSQL or not empty, HistoryAltered where the audit log does not verify, PackageRefused
    where rows do not arrive as they were, Unreachable where a database does not answer. Then
    nothing was changed.
    """
    url_file = url_file.absolute()
    with in_use.alone(path):
        home = load_home(path)
        old_url, new_url = home.database_url(), _required(url_in(url_file))
        if old_url.get_backend_name() != "sqlite":
            raise Conflict(
                "the broker is on PostgreSQL already",
                hint="another PostgreSQL is a matter of pg_dump, or of backup and restore",
            )
        with moving.alone(old_url) as old:
            log = audit_heads.verify(old, home.public())
            moving.require_ended(old)
            with _new(new_url) as database:
                found = _moved_before(old, database, log, told)
                if found is None and dry_run:
                    counted = moving.counts(old).items()
                    found = [Copied(table, rows, "") for table, rows in counted]
                was_there = found is not None and not dry_run
                if found is None:
                    found = _move(old, database, new_url, home, log, told)
            change = "" if dry_run else name_database(home, url_file)
    return Moved(home, tuple(found), f"{log.entries}:{log.hash}", was_there, change)


def _required(url: URL) -> URL:
    if url.get_backend_name() == "sqlite":
        raise Conflict(
            "the new database is SQLite, too",
            hint="name a PostgreSQL; a broker's folder moves with backup and restore",
        )
    return url


@contextmanager
def _new(url: URL) -> Iterator[Database]:
    """Open the new database. Raises Conflict where it cannot be used, Unreachable, in its name."""
    database = Database(url)
    try:
        with database.read() as connection:
            moving.require_able(connection)
        yield database
    except Unreachable:
        raise Unreachable(
            "the new database does not answer",
            hint="look at the URL in the file, at role and password, and whether the server runs;"
            " then start again",
        ) from None
    finally:
        database.close()


def _moved_before(
    old: Connection, database: Database, log: Verdict, told: moving.Told
) -> list[Copied] | None:
    """Return what an earlier attempt copied whole, None where there is nothing."""
    with database.read() as new:
        if not moving.is_filled(new):
            return None
        last = audit_rows.last(new)
        entry = json.loads(last.entry) if last else {}
        detail = entry.get("detail", {})
        if entry.get("action") != ACTION or detail.get("hash") != log.hash:
            raise Conflict(
                "the new database is not empty",
                hint="make an empty one; if this broker was moved there and works on it already,"
                " let url_file in [database] name it",
            )
        found = moving.digests(old, told)
        moving.require_same(found, moving.digests(new, told, entries=log.entries))
    return found


def _move(
    old: Connection, database: Database, url: URL, home: Home, log: Verdict, told: moving.Told
) -> list[Copied]:
    """Steps 3 and 4."""
    _made(database.migrate)
    _made(lambda: migrate_workflows_at(url))
    with database.change() as new:
        # Once more, alone: somebody may have begun on it, or moved another broker there.
        if moving.is_filled(new):
            raise Conflict("the new database was filled meanwhile", hint="make an empty one")
        copied = moving.copy(old, new, told)
        audit.record(
            new,
            actor="console",
            action=ACTION,
            detail={
                "entries": log.entries,
                "hash": log.hash,
                "heads": log.heads,
                "tables": len(copied),
                "rows": sum(one.rows for one in copied),
            },
        )
        audit_heads.verify(new, home.public())
    return copied


def _made(make: Callable[[], None]) -> None:
    try:
        make()
    except DBAPIError as fault:
        raise Conflict(
            f"the tables cannot be made in the new database ({type(fault.orig).__name__})",
            hint="let the role own the database, and start again",
        ) from None
