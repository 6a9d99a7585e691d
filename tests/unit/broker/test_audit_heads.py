"""Signed heads on real databases: made when due, and whatever an admin alters is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from broker import audit, audit_heads
from broker.audit_heads import Heads, HeadSigner
from broker.store import audit as rows
from broker.store.engine import Database
from linkage.audit_chain import AuditHead, Chain, KeptHead, export_lines, verify_export
from linkage.errors import HistoryAltered, LinkageError, Unreachable
from linkage.sealing import Identity
from tests.audit_log import unlock

BROKER = Identity.generate("broker", kem="X25519")
ENTRIES, EVERY = 9, 3


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def act(database: Database, action: str) -> None:
    with database.change() as connection:
        audit.record(connection, actor="console", action=action)


def filled(database: Database, *, mark: str = "") -> list[AuditHead]:
    """Write entries, and a signed head after every third."""
    signer, heads = HeadSigner(database, BROKER, every=600), []
    for n in range(1, ENTRIES + 1):
        act(database, f"act {n}{mark}")
        if n % EVERY == 0:
            heads.append(signer.sign())
    return heads


def kept(heads: list[AuditHead]) -> list[KeptHead]:
    return [KeptHead(head, f"heads, line {i}") for i, head in enumerate(heads, start=1)]


def verified(database: Database, heads: list[AuditHead]) -> int:
    with database.read() as connection:
        return audit_heads.verify(connection, BROKER.public(), kept(heads)).entries


def test_a_head_is_signed_when_it_is_due_or_wished_for(database: Database) -> None:
    clock = Clock()
    signer = HeadSigner(database, BROKER, every=600, now=clock)
    heads = Heads(database)
    first = signer.tend()
    assert first is not None
    assert (first.sequence, first.hash, first.at) == (1, audit.START, 1_800_000_000)
    act(database, "act")
    assert signer.tend() is None
    clock.now += 599
    assert signer.tend() is None
    clock.now += 1
    # Also where nothing happened: how many heads there are says nothing of what was done.
    assert [head.sequence for head in (signer.tend(),) if head] == [2]
    for _ in range(2):
        heads.wish("s/claims")
    heads.wish("s/imaging")
    wished = signer.tend()
    assert wished is not None
    assert wished.sequence == 3
    assert signer.tend() is None
    clock.now -= 10_000  # a clock that was put back does not silence the log
    assert signer.tend() is not None
    assert verified(database, []) == 1
    assert [head.sequence for head in heads.page(after=1, limit=2)] == [2, 3]
    assert '"sequence":4' in heads.newest()


def test_workers_that_share_a_database_sign_one_head(database: Database) -> None:
    clock = Clock()
    signers = [HeadSigner(database, BROKER, every=600, now=clock) for _ in range(3)]
    assert [signer.tend() is not None for signer in signers] == [True, False, False]


def test_an_entry_is_not_to_be_guessed_from_its_hash(database: Database) -> None:
    for _ in range(2):
        act(database, "the same")
    with database.read() as connection:
        entries = [row.entry for row in rows.walk(connection)]
    assert all('"salt":"' in entry for entry in entries)
    assert len({entry.partition('"salt":"')[2][:32] for entry in entries}) == 2


@pytest.mark.threat("T20")
def test_a_slip_changes_nothing_in_the_log(database: Database) -> None:
    filled(database)
    for statement in (
        "UPDATE audit SET entry = '' WHERE number = 2",
        "DELETE FROM audit WHERE number = 9",
        "UPDATE audit_head SET head = '' WHERE sequence = 1",
        "DELETE FROM audit_head",
    ):
        with pytest.raises((DBAPIError, Unreachable)), database.change() as connection:
            connection.execute(text(statement))
    assert verified(database, []) == ENTRIES


@pytest.mark.threat("T20")
def test_nothing_altered_is_signed(database: Database) -> None:
    """Not even by somebody who makes all hashes after it anew."""
    filled(database)
    signer = HeadSigner(database, BROKER, every=600)
    act(database, "after the newest head")
    with database.change() as connection:
        unlock(connection)
        connection.execute(text("UPDATE audit SET entry = '{}' WHERE number = 10"))
    with pytest.raises(HistoryAltered, match="at entry 10"):
        signer.sign()
    with database.change() as connection:
        connection.execute(text("DELETE FROM audit WHERE number > 8"))
    with pytest.raises(HistoryAltered, match="no longer holds entry 9"):
        signer.sign()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, list[AuditHead]]]:
    folder = tmp_path_factory.mktemp("log")
    made = Database(make_url(f"sqlite:///{folder / 'x.sqlite'}"))
    made.migrate()
    yield made, filled(made)
    made.close()


def _rehash(database: Database, *, sign: bool) -> None:
    """Do as a clever admin: number and hash all entries anew and, with the key, sign anew."""
    with database.change() as connection:
        found = [row.entry for row in rows.walk(connection)]
        heads = [row.number for row in rows.walk_heads(connection)]
        connection.execute(text("DELETE FROM audit"))
        chain = Chain()
        for number, entry in enumerate(found, start=1):
            head, _, tail = entry.partition('"number":')
            renumbered = f'{head}"number":{number}{tail[tail.index(",") :]}'
            digest = audit.chained(chain.hash, renumbered.encode())
            chain.entry(renumbered.encode(), digest)
            rows.add(connection, number, renumbered, digest)
        if not sign:
            return
        connection.execute(text("DELETE FROM audit_head"))
        known = {row.number: row.hash for row in rows.walk(connection)}
        before = None
        for sequence, number in enumerate(n for n in heads if n in known):
            made = AuditHead(
                sequence=sequence + 1,
                previous=before.digest if before else audit.START,
                hash=known[number],
                at=1_800_000_000,
            ).sign(BROKER)
            before = made
            text_ = made.canonical().decode()
            rows.add_head(connection, rows.HeadRow(made.sequence, number, text_))


@pytest.mark.threat("T20")
@pytest.mark.parametrize("who", ["careless", "careful", "holds the key"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_what_an_admin_alters_in_the_database_is_found(
    log: tuple[Database, list[AuditHead]], who: str, data: st.DataObject, tmp_path: Path
) -> None:
    """
    Flip, drop, insert, reorder, truncate any entry: in the database and in its export.

    careless: nothing else is done. careful: all hashes are made anew. holds the key: heads, too.
    """
    whole, heads = log
    act = data.draw(st.sampled_from(["flip", "drop", "insert", "reorder", "truncate"]))
    at = data.draw(st.integers(1, ENTRIES))
    other = data.draw(st.integers(1, ENTRIES).filter(lambda n: n != at))
    copy = tmp_path / "copy.sqlite"
    copy.unlink(missing_ok=True)
    source, target = sqlite3.connect(str(whole.engine.url.database)), sqlite3.connect(copy)
    with closing(source), closing(target):
        source.backup(target)
    spoiled = Database(make_url(f"sqlite:///{copy}"))
    try:
        with spoiled.change() as connection:
            unlock(connection)
            run = connection.execute
            if act == "flip":
                run(text(f"UPDATE audit SET entry = replace(entry,'act','act ') WHERE number={at}"))
            elif act == "drop":
                run(text(f"DELETE FROM audit WHERE number = {at}"))
            elif act == "insert":
                run(text(f"UPDATE audit SET number = -number-1 WHERE number >= {at}"))
                run(text(f"INSERT INTO audit SELECT {at}, entry, hash FROM audit WHERE number = 1"))
                if at == 1:
                    run(text("INSERT INTO audit SELECT 1, entry, hash FROM audit WHERE number=-2"))
                run(text("UPDATE audit SET number = -number WHERE number < 0"))
            elif act == "reorder":
                for old, new in ((at, -1), (other, at), (-1, other)):
                    run(text(f"UPDATE audit SET number = {new} WHERE number = {old}"))
            else:
                run(text(f"DELETE FROM audit WHERE number >= {at}"))
        if who != "careless":
            _rehash(spoiled, sign=who == "holds the key")
        with pytest.raises(HistoryAltered):
            verified(spoiled, heads)
        with pytest.raises(HistoryAltered):
            verified(spoiled, heads[-1:])
        exported = tmp_path / "log.jsonl"
        with spoiled.read() as connection:
            lines = export_lines(BROKER.public(), audit_heads.walk(connection))
            exported.write_bytes(b"".join(lines))
        with pytest.raises(LinkageError):
            verify_export(exported, BROKER.public(), kept(heads))
    finally:
        spoiled.close()


@pytest.mark.threat("T20")
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_head WHERE sequence = 2",
        "UPDATE audit_head SET head = (SELECT head FROM audit_head WHERE sequence=1)",
        "UPDATE audit_head SET number = 8 WHERE sequence = 3",
        "UPDATE audit_head SET head = replace(head, 'sequence', 'Sequence') WHERE sequence = 3",
        "UPDATE audit_head SET head = replace(head, 'at', 'at') || ' ' WHERE sequence = 3",
        "UPDATE audit_head SET head = 'x' WHERE sequence = 3",
        "DELETE FROM audit",
    ],
)
def test_altered_heads_are_found_in_the_database_alone(database: Database, statement: str) -> None:
    heads = filled(database)
    assert verified(database, heads) == ENTRIES
    with database.change() as connection:
        unlock(connection)
        connection.execute(text(statement))
    with pytest.raises(HistoryAltered):
        verified(database, [])


def test_a_log_of_an_earlier_version_goes_on(database: Database) -> None:
    """Entries without salt, and heads that begin in the middle."""
    with database.change() as connection:
        entry = '{"action":"old","number":1}'
        rows.add(connection, 1, entry, audit.chained(audit.START, entry.encode()))
    assert verified(database, filled_on(database)) == 2


def filled_on(database: Database) -> list[AuditHead]:
    act(database, "new")
    return [HeadSigner(database, BROKER, every=600).sign()]
