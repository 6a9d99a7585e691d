"""The audit log: what is altered, dropped, reordered or cut off is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from broker import audit
from broker.store.engine import Database
from linkage.errors import PackageRefused
from tests.audit_log import unlock


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(make_url(f"sqlite:///{tmp_path / 'x.sqlite'}"))
    made.migrate()
    with made.change() as connection:
        for n in range(1, 6):
            audit.record(connection, actor="console", action=f"act {n}", detail={"n": n})
    yield made
    made.close()


def verified(database: Database, head: str | None = None) -> audit.Head:
    with database.read() as connection:
        return audit.verify(connection, head=head)


def spoil(database: Database, *statements: str) -> None:
    with database.change() as connection:
        unlock(connection)
        for one in statements:
            connection.execute(text(one))


def test_an_untouched_log_verifies(database: Database) -> None:
    head = verified(database)
    assert head.number == 5
    with database.read() as connection:
        assert audit.newest(connection) == head
    assert verified(database, str(head)) == head
    assert verified(database, f"0:{audit.START}") == head


@pytest.mark.threat("T20")
@pytest.mark.parametrize(
    ("statements", "entry"),
    [
        (["UPDATE audit SET entry = replace(entry, 'act 3', 'act 9') WHERE number = 3"], 3),
        (["UPDATE audit SET hash = replace(hash, substr(hash, 1, 1), 'g') WHERE number = 5"], 5),
        (["DELETE FROM audit WHERE number = 2"], 2),
        (["DELETE FROM audit WHERE number = 1"], 1),
        (
            [
                "DELETE FROM audit WHERE number = 2",
                "UPDATE audit SET number = number - 1 WHERE number > 2",
            ],
            2,
        ),
        (
            [
                "UPDATE audit SET number = 99 WHERE number = 2",
                "UPDATE audit SET number = 2 WHERE number = 3",
                "UPDATE audit SET number = 3 WHERE number = 99",
            ],
            2,
        ),
        (["INSERT INTO audit SELECT 6, entry, hash FROM audit WHERE number = 5"], 6),
        (["INSERT INTO audit SELECT 0, entry, hash FROM audit WHERE number = 5"], 1),
        (["UPDATE audit SET entry = 'no json' WHERE number = 4"], 4),
    ],
)
def test_tampering_is_found_where_it_happened(
    database: Database, statements: list[str], entry: int
) -> None:
    spoil(database, *statements)
    with pytest.raises(PackageRefused, match=f"at entry {entry}$|at entry {entry}\\b"):
        verified(database)


@pytest.mark.threat("T20")
def test_a_cut_off_end_is_found_against_a_head_kept_elsewhere(database: Database) -> None:
    head = str(verified(database))
    spoil(database, "DELETE FROM audit WHERE number > 3")
    assert verified(database).number == 3  # alone, the log cannot know
    with pytest.raises(PackageRefused, match="cut off or rewritten"):
        verified(database, head)


@pytest.mark.threat("T20")
def test_a_rewritten_history_is_found_against_an_older_head(database: Database) -> None:
    kept = str(verified(database))
    spoil(database, "DELETE FROM audit")
    with database.change() as connection:
        for n in range(1, 9):
            audit.record(connection, actor="console", action=f"other {n}")
    assert verified(database).number == 8
    with pytest.raises(PackageRefused, match="cut off or rewritten"):
        verified(database, kept)


def test_a_change_that_fails_leaves_no_entry(database: Database) -> None:
    before = verified(database)

    def fail() -> None:
        with database.change() as connection:
            audit.record(connection, actor="console", action="never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert verified(database) == before
