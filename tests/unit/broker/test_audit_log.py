"""The log as people read it: newest first, searched, checked entry by entry, and as a whole."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from broker import audit, audit_check
from broker.audit_check import Check
from broker.audit_heads import HeadSigner
from broker.policy import Action, Caller, Grant
from broker.services.audit_log import AuditLog, Wanted
from broker.store.engine import Database
from linkage.sealing import Identity
from tests.audit_log import unlock
from tests.broker_world import wait_for

BROKER = Identity.generate("broker", kem="X25519")
GRANT = Grant(Caller("root", None), Action.READ_AUDIT)
DIGEST = hashlib.sha256(b"x").hexdigest()
N = 60


@pytest.fixture
def database(database: Database) -> Database:
    """Sixty entries of three studies, and a head after the fortieth."""
    for n in range(1, N + 1):
        with database.change() as connection:
            audit.record(
                connection,
                actor="console" if n % 2 else "person/ada",
                action=f"act {n % 5}",
                study_id=f"study-{n % 3}",
                subject=f"run-{n}",
                detail={"n": n} | ({"sha256": DIGEST} if n in (7, 50) else {}),
            )
        if n == 40:
            HeadSigner(database, BROKER, every=600).sign()
    return database


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database, Check(database, BROKER.public))


def found(log: AuditLog, **wanted: str | int) -> list[int]:
    page = log.page(GRANT, Wanted(**wanted), limit=1000)  # type: ignore[arg-type]
    assert all(one.fits for one in page.entries)
    return [one.number for one in page.entries]


def spoil(database: Database, *statements: str) -> None:
    with database.change() as connection:
        unlock(connection)
        for one in statements:
            connection.execute(text(one))


def test_what_is_looked_for_is_found_newest_first(log: AuditLog) -> None:
    assert found(log) == list(range(N, 0, -1))
    assert found(log, study="study-1") == [n for n in range(N, 0, -1) if n % 3 == 1]
    assert found(log, actor="console") == [n for n in range(N, 0, -1) if n % 2]
    both = found(log, actor="person/ada", action="act 2", study="study-0")
    assert both == [n for n in range(N, 0, -1) if n % 2 == 0 and n % 5 == 2 and n % 3 == 0]
    assert found(log, subject="run-12") == [12]
    assert found(log, subject=DIGEST) == [50, 7]
    assert found(log, subject=DIGEST, actor="console") == [7]
    assert found(log, subject="run-") == found(log, actor="ada") == []
    assert log.names(GRANT) == {
        "study": [f"study-{n}" for n in range(3)],
        "actor": ["console", "person/ada"],
        "action": [f"act {n}" for n in range(5)],
    }


def test_times_are_from_the_first_and_before_the_second(database: Database, log: AuditLog) -> None:
    log.catch_up()
    with database.change() as connection:
        connection.execute(text("UPDATE audit_index SET at = 1000 + number"))
    assert found(log, since=1050) == list(range(N, 49, -1))
    assert found(log, until=1003) == [2, 1]
    assert found(log, since=1010, until=1012, study="study-2") == [11]


@pytest.mark.parametrize("wanted", [{}, {"actor": "console"}])
def test_pages_hold_every_entry_once(log: AuditLog, wanted: dict[str, str]) -> None:
    whole, pages, before = found(log, **wanted), [], None
    while True:
        page = log.page(GRANT, Wanted(**wanted), before=before, limit=7)  # type: ignore[arg-type]
        pages += [one.number for one in page.entries]
        if not page.older:
            break
        before = pages[-1]
    assert pages == whole


def test_a_search_says_what_it_does_not_find_yet(
    database: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.services.audit_log._AT_ONCE", 10)
    page = log.page(GRANT, Wanted(actor="console"))
    assert (page.unsearched, [one.number for one in page.entries]) == (N - 10, [9, 7, 5, 3, 1])
    assert log.page(GRANT, Wanted()).unsearched == 0, "a list without a search leaves nothing out"
    while log.catch_up(13):
        pass
    assert len(found(log, actor="console")) == N // 2


@pytest.mark.threat("T20")
@pytest.mark.parametrize(
    ("statement", "odd"),
    [
        ("UPDATE audit SET entry = replace(entry, 'act 3', 'act 4') WHERE number = 13", {13}),
        ("UPDATE audit SET entry = 'no json' WHERE number = 13", {13}),
        ("UPDATE audit SET entry = '[]' WHERE number = 13", {13}),
        ("UPDATE audit SET hash = 'f' WHERE number = 13", {13, 14}),
        ("DELETE FROM audit WHERE number = 13", {14}),
    ],
)
def test_an_entry_that_was_altered_is_shown_as_such(
    database: Database, log: AuditLog, statement: str, odd: set[int]
) -> None:
    log.catch_up()
    spoil(database, statement)
    page = log.page(GRANT, Wanted(), limit=1000)
    assert {one.number for one in page.entries if not one.fits} == odd
    found_too = log.page(GRANT, Wanted(study="study-1"), limit=1000).entries
    assert {one.number for one in found_too if not one.fits} == {n for n in odd if n % 3 == 1}


@pytest.mark.threat("T20")
@pytest.mark.parametrize(
    "entry",
    ["no json", "[]", '{"detail":[1]}', '{"detail":{"x":1},"at":"now","study":{}}',
     '{"at":1e30,"actor":"a\\u0000b"}', '{"at":99999999999999999999}'],
)  # fmt: skip
def test_no_entry_that_was_altered_hinders_a_search(
    database: Database, log: AuditLog, entry: str
) -> None:
    with database.change() as connection:
        unlock(connection)
        connection.execute(text("UPDATE audit SET entry = :e WHERE number = 13"), {"e": entry})
    page = log.page(GRANT, Wanted(actor="console"), limit=1000)
    assert page.unsearched == 0
    assert [one.number for one in page.entries] == [n for n in range(N, 0, -1) if n % 2 and n != 13]


def verified(log: AuditLog) -> audit_check.Progress:
    log.verify(GRANT)

    def over() -> bool:
        return log.check.newest is not None and log.check.newest.ended_at is not None

    wait_for(over, 30)
    assert log.check.newest is not None
    return log.check.newest


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_sound_log_verifies_in_pieces(
    database: Database, log: AuditLog, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.audit_check.PIECE", piece)
    HeadSigner(database, BROKER, every=600).sign()
    HeadSigner(database, BROKER, every=600).sign()
    made = verified(log)
    assert (made.fault, made.entries, made.heads, made.signed) == (None, N, 3, N)
    assert (made.of, made.by) == (N, "admin/root")
    state = log.state(GRANT)
    assert (state.verified_entries, state.verified_fault, state.fault) == (N, "", "")


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    database = Database(make_url(f"sqlite:///{tmp_path / 'y.sqlite'}"))
    database.migrate()
    log = AuditLog(database, Check(database, BROKER.public))
    assert (verified(log).fault, verified(log).entries) == (None, 0)
    assert (log.tail(GRANT).head, log.tail(GRANT).fault) == (None, None)
    assert log.page(GRANT, Wanted()).entries == log.page(GRANT, Wanted(actor="x")).entries == []
    database.close()


@pytest.mark.threat("T20")
@pytest.mark.parametrize(
    ("statement", "told", "at_the_end"),
    [
        ("UPDATE audit SET entry = replace(entry, 'act', 'fact') WHERE number = 3", "entry 3$", 0),
        ("DELETE FROM audit WHERE number = 40", "entry 40$", "entry 40$"),
        ("UPDATE audit SET hash = 'f' WHERE number = 55", "entry 55$", "entry 55$"),
        ("DELETE FROM audit WHERE number >= 40", "entry 39$", "entry 40$"),
        ("DELETE FROM audit_head", "", ""),
        (r"""UPDATE audit_head SET head = replace(head, 'at"\:1', 'at"\:2')""", "signed", "signed"),
        ("UPDATE audit_head SET head = 'x'", "no head", "no head"),
        ("UPDATE audit_head SET number = 41", "head 1 does not cover", "entry 41$"),
    ],
)
@pytest.mark.parametrize("piece", [7, 1000])
def test_what_was_altered_is_found(
    database: Database,
    log: AuditLog,
    statement: str,
    told: str,
    at_the_end: str | int,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """told: by the whole; at_the_end: by the look at the newest head; 0: it looks elsewhere."""
    monkeypatch.setattr("broker.audit_check.PIECE", piece)
    spoil(database, statement)
    made, end = verified(log), log.tail(GRANT)
    assert (made.fault is not None) == bool(told)
    assert made.fault is None or re.search(told, made.fault.message)
    if piece == 1000 and at_the_end != "":
        assert (end.fault is not None) == bool(at_the_end)
        assert end.fault is None or re.search(str(at_the_end), end.fault.message)


def test_the_look_at_the_end_says_what_it_saw(
    database: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = log.tail(GRANT)
    assert end.head is not None
    assert (end.signed, end.checked, end.left) == (40, 20, 0)
    monkeypatch.setattr("broker.audit_check.PIECE", 6)
    assert (log.tail(GRANT).checked, log.tail(GRANT).left) == (6, 14)
    heads, wished = log.newest_heads(GRANT)
    assert ([one.sequence for one in heads], wished) == ([1], False)
    strange = AuditLog(database, Check(database, Identity.generate("x", kem="X25519").public))
    assert strange.tail(GRANT).fault is not None
