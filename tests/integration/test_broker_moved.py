"""
A broker that began on SQLite goes on with PostgreSQL: nothing is lost or altered, the next run
makes of it what the old one would have, a kill leaves nothing half, and what is wrong is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import make_url, text

from broker import audit
from broker.config import create_home, load_home
from broker.container import Broker
from broker.move import ACTION, move
from broker.store.engine import Database
from broker.store.tables import metadata
from linkage.errors import Conflict, LinkageError, PackageRefused, Unreachable
from linkage.messages import ReleaseRequest
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import PROGRAM, World, make_world, running, wait_for
from tests.fuzz.world import PEOPLE, furnished, job
from tests.people import in_session

_LAST_TABLE = "remark"
"""After most others, and small: where a move is stopped, much is copied already."""


def moved(
    home: Path, url_file: Path, *more: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "move", "--home", str(home), "--database-url-file", str(url_file), *more]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | (environment or {})
    )


def rows_of(url: sa.engine.URL) -> dict[str, list[Any]]:
    """Return every row of every table, the audit log but its newest entry of a move."""
    database = Database(url)
    with database.read() as connection:
        found = {
            name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for name, table in metadata.tables.items()
        }
    database.close()
    found["audit"] = [row for row in found["audit"] if ACTION not in row[1]]
    return found


@pytest.fixture
def url_file(tmp_path: Path, postgres_url: str) -> Path:
    path = tmp_path / "database-url"
    path.write_text(postgres_url + "\n")
    return path


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_moved_broker_goes_on_as_the_old_one_would_have(tmp_path: Path, url_file: Path) -> None:
    with furnished(tmp_path) as world:
        placed = received(world)
        in_session(world.home, world.url, "olga", "auditor")
        refused = moved(world.home.path, url_file)
        assert refused.returncode == 1
        assert "a server, a worker or a command of this broker is running" in refused.stderr
    old_url = world.home.database_url()
    before = rows_of(old_url)
    assert sum(map(len, before.values())) > 400
    assert {"person", "link", "job", "item", "proposal", "account", "offered_concept"} <= {
        name for name, rows in before.items() if rows
    }
    twin = replace(world, processes=[])
    shutil.copytree(world.home.path, tmp_path / "twin" / "broker")
    twin.home = load_home(tmp_path / "twin" / "broker")

    looked = json.loads(moved(world.home.path, url_file, "--dry-run", "--json").stdout)
    assert (looked["moved"], looked["change"]) == (False, "")
    assert load_home(world.home.path).database_url() == old_url
    told = json.loads(moved(world.home.path, url_file, "--json").stdout)
    assert told["moved"]
    assert not told["was_there"]
    assert not told["change"]
    assert told["rows"] == looked["rows"] == sum(map(len, before.values()))

    world.home = load_home(world.home.path)
    assert world.home.database_url().get_backend_name() == "postgresql"
    assert rows_of(world.home.database_url()) == before == rows_of(old_url)
    checked = [PROGRAM, "audit", "verify", "--home", str(world.home.path), "--head"]
    assert subprocess.run([*checked, told["audit_head"]]).returncode == 0
    again = moved(world.home.path, url_file)
    assert again.returncode == 1
    assert "on PostgreSQL already" in again.stderr

    ended = [gone_on(one, placed) for one in (twin, world)]
    assert ended[0] == ended[1]
    with Database(world.home.database_url()).read() as connection:
        assert audit.newest(connection).number > len(before["audit"]) + 1


def received(world: World) -> dict[str, bytes]:
    """Return what lies in the enclave's inbox, by item."""
    enclave, inbox = world.actor("enclave"), f"{world.path}/inbox"
    items = [one["item_id"] for one in enclave.get(inbox).raise_for_status().json()["items"]]
    assert items
    return {one: enclave.get(f"{inbox}/{one}").raise_for_status().content for one in items}


def gone_on(world: World, placed: dict[str, bytes]) -> tuple[Any, ...]:
    """Upload anew, link and release; return what must be the same whichever the database."""
    with running(world):
        assert received(world) == placed
        for uploader, people in PEOPLE.items():
            others = range(people.start + 5, people.stop + 5)
            records = encoded(world.signed, uploader, others)
            sender = world.identities[uploader]
            world.upload(pack(world.signed, sender, records, dataset=3))
        # The same request as before the move is still the same run.
        runs = {one["run_id"] for one in world.actor("admin").get(f"{world.path}/runs").json()}
        run = world.run()
        assert run["state"] == "done", run["failure"]
        asked = world.actor("admin").post(f"{world.path}/releases", ReleaseRequest())
        released = world.finish(f"{world.path}/jobs/{job(asked)}")
        assert released["state"] == "done", released["failure"]
        again = world.actor("admin").post(f"{world.path}/runs", RunRequest()).json()["run_id"]
        assert again == run["run_id"]
        assert again not in runs
    with Database(world.home.database_url()).read() as connection:
        linked = [
            sorted(map(tuple, connection.execute(sa.select(metadata.tables[name]))), key=repr)
            for name in ("person", "membership", "link")
        ]
        made = text("SELECT number, terms FROM job WHERE id = :id")
        [release] = connection.execute(made, {"id": released["job_id"]}).all()
    return run["result_digest"], linked, release.number


def test_every_value_of_every_table_arrives(tmp_path: Path, url_file: Path) -> None:
    """Also the largest, the longest and none at all; the old file is not altered."""
    home = make_world(tmp_path).home
    fill(home.database_url())
    before = rows_of(home.database_url())
    assert all(before[name] for name in metadata.tables if name != "audit_head")
    done = move(home.path, url_file)
    assert done.rows == sum(map(len, before.values()))
    assert rows_of(load_home(home.path).database_url()) == before
    assert rows_of(home.database_url()) == before


def fill(url: sa.engine.URL) -> None:
    """Two rows into every table: one with the least and nothing, one with the most."""
    database = Database(url)
    with database.change() as connection:
        for table in metadata.sorted_tables:
            # The log has to verify.
            if table.name not in ("audit", "audit_head"):
                values = [{c.name: value_of(c, n) for c in table.columns} for n in (0, 1)]
                connection.execute(table.insert(), values)
    database.close()


def value_of(column: sa.Column[Any], n: int) -> Any:
    if column.foreign_keys:
        return value_of(next(iter(column.foreign_keys)).column, n)
    if column.nullable and not n:
        return None
    kind = column.type
    if isinstance(kind, sa.LargeBinary):
        return bytes([n, 0, 255, 10, 92, *range(11)])
    if isinstance(kind, sa.Float):
        return (5e-324, 1 / 3)[n]
    if isinstance(kind, sa.BigInteger):
        return (-(2**63), 2**63 - 1)[n]
    if isinstance(kind, sa.Integer):
        return (-(2**31), 2**31 - 1)[n]
    words = ("", "\\N\t\n\r'\"\u2028\u00e9e\u0301\U0001f9ec \ufeff" + "x" * 600)[n]
    return words[: getattr(kind, "length", None) or 100_000]


def test_a_move_that_is_killed_leaves_nothing_and_is_repeated(
    tmp_path: Path, url_file: Path
) -> None:
    home = make_world(tmp_path).home
    fill(home.database_url())
    before = rows_of(home.database_url())
    url = make_url(url_file.read_text().strip())
    database = Database(url)
    database.migrate()
    with database.engine.connect() as holder:
        # The move comes as far as this table, and waits.
        holder.execute(text(f"LOCK TABLE {_LAST_TABLE} IN SHARE MODE"))
        command = [PROGRAM, "move", "--home", str(home.path), "--database-url-file", str(url_file)]
        process = subprocess.Popen(command)
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        with database.engine.connect() as asker:
            asker = asker.execution_options(isolation_level="AUTOCOMMIT")
            wait_for(lambda: bool(asker.execute(waits).scalar_one()), 60)
            meanwhile = subprocess.run(
                [PROGRAM, "run", "list", "small-study", "--home", str(home.path)],
                capture_output=True,
                text=True,
            )
            process.kill()
            process.wait()
            # PostgreSQL notices once it wants to answer.
            holder.rollback()
            wait_for(lambda: not asker.execute(waits).scalar_one(), 60)
    assert "is being moved to another database" in meanwhile.stderr
    assert load_home(home.path).database_url() == home.database_url()
    wait_for(lambda: not any(rows_of(url).values()), 60)
    assert rows_of(home.database_url()) == before
    database.close()
    done = moved(home.path, url_file)
    assert done.returncode == 0, done.stderr
    assert rows_of(url) == before


def test_killed_before_the_settings_it_is_finished_by_the_next(
    tmp_path: Path, url_file: Path
) -> None:
    home = make_world(tmp_path).home
    config = home.path / "config.toml"
    settings = config.read_text()
    move(home.path, url_file)
    config.write_text(settings)  # as it is where a kill came between
    done = moved(home.path, url_file)
    assert done.returncode == 0, done.stderr
    assert "were there already, whole" in done.stdout
    assert load_home(home.path).database_url().get_backend_name() == "postgresql"
    # Once somebody has worked on either of them, they are two brokers.
    config.write_text(settings)
    database = Database(home.database_url())
    with database.change() as connection:
        audit.record(connection, actor="console", action="went on")
    database.close()
    refused = moved(home.path, url_file)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert config.read_text() == settings


def test_a_database_that_does_not_fit_is_refused(
    tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    home = make_world(tmp_path).home
    before, settings = rows_of(home.database_url()), (home.path / "config.toml").read_text()

    def refused(url: str, error: type[LinkageError], match: str) -> None:
        file = tmp_path / "database-url"
        file.write_text(url)
        with pytest.raises(error, match=match) as caught:
            move(home.path, file)
        assert caught.value.hint
        assert (home.path / "config.toml").read_text() == settings

    refused(f"sqlite:///{tmp_path / 'new.sqlite'}", Conflict, "SQLite, too")
    refused("mysql://u:secret@host/db", LinkageError, "names another database system")
    refused("no url", LinkageError, "is no URL")
    nowhere = "postgresql+psycopg://u:open-sesame@127.0.0.1:1/nowhere"
    refused(nowhere, Unreachable, "the new database does not answer")
    gone = moved(home.path, tmp_path / "database-url")
    assert gone.returncode == 4
    assert "open-sesame" not in gone.stdout + gone.stderr
    missing = moved(home.path, tmp_path / "no-file")
    assert missing.returncode == 1
    assert "cannot be read" in missing.stderr

    strange = new_postgres_url()
    run_sql(strange, "CREATE TABLE theirs (x int)")
    refused(strange, Conflict, "is not empty")
    run_sql(strange, "DROP TABLE theirs", "CREATE TABLE study (id int)")
    refused(strange, Conflict, "is not empty")
    older = new_postgres_url()
    database = Database(make_url(older))
    database.migrate("0018")
    database.close()
    refused(older, Conflict, "the tables of another version")
    other = new_postgres_url()
    (tmp_path / "other").mkdir()
    make_world(tmp_path / "other", url=other)
    refused(other, Conflict, "is not empty")
    added = new_postgres_url()
    database = Database(make_url(added))
    database.migrate()
    database.close()
    run_sql(added, "ALTER TABLE study ADD COLUMN more int")
    refused(added, Conflict, "other tables or columns")
    run_sql(strange, "CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    narrow = make_url(strange).set(database="narrow").render_as_string(hide_password=False)
    refused(narrow, Conflict, "encoding LATIN1")
    guest = new_postgres_url()
    run_sql(guest, "CREATE ROLE guest LOGIN PASSWORD 'open-sesame'")
    limited = make_url(guest).set(username="guest", password="open-sesame")
    refused(limited.render_as_string(hide_password=False), Conflict, "may not make tables")
    assert rows_of(home.database_url()) == before


def run_sql(url: str, *statements: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for one in statements:
            connection.execute(text(one))
    engine.dispose()


def test_a_broker_that_is_in_use_or_not_well_is_refused(tmp_path: Path, url_file: Path) -> None:
    world = make_world(tmp_path)
    home = world.home
    file = Path(str(home.database_url().database))
    url = make_url(url_file.read_text().strip())

    def refused(error: type[LinkageError], match: str) -> None:
        with pytest.raises(error, match=match):
            move(home.path, url_file)
        with pytest.raises(error, match=match):
            move(home.path, url_file, dry_run=True)
        assert load_home(home.path).database_url() == home.database_url()

    # Nobody asks it anything, and it could write at any moment.
    reader = sqlite3.connect(file)
    reader.execute("SELECT count(*) FROM study").fetchone()
    refused(Conflict, "has the broker's database open")
    reader.close()
    with running(world, worker=False):
        world.actor("admin").get("/v1/studies").raise_for_status()
        refused(Conflict, "is running")
    database = Database(home.database_url())
    queued = "INSERT INTO run (id, study_id, seed, inputs, software, state, stage, progress,"
    queued += " seconds, started_at) VALUES ('r', 'small-study', 1, '{}', '', 'queued', '', 0,"
    queued += " '{}', 1)"
    with database.change() as connection:
        connection.execute(text(queued))
    database.close()
    refused(Conflict, "work is unfinished: 1 runs")
    database = Database(home.database_url())
    with database.change() as connection:
        ended = text("UPDATE run SET state = 'cancelled', failure = :words")
        connection.execute(ended, {"words": "a\x00b"})
    database.close()
    # SQLite keeps a zero byte in a text, PostgreSQL none: said, and nothing stays behind.
    with pytest.raises(PackageRefused, match="row 1 of the table run does not fit") as caught:
        move(home.path, url_file)
    assert "a\x00b" not in str(caught.value)
    assert not any(rows_of(url).values())
    database = Database(home.database_url())
    with database.change() as connection:
        connection.execute(text("UPDATE run SET failure = 'ab'"))
    database.close()
    shutil.copyfile(file, tmp_path / "kept")
    with sqlite3.connect(file) as altered:
        altered.execute("DROP TRIGGER audit_no_update")
        altered.execute("UPDATE audit SET entry = replace(entry, 'console', 'nobody')")
    altered.close()
    assert moved(home.path, url_file).returncode == 3
    shutil.copyfile(tmp_path / "kept", file)
    with sqlite3.connect(file) as altered:
        altered.execute("CREATE TABLE by_hand (x int)")
    altered.close()
    refused(Conflict, "other tables or columns")
    shutil.copyfile(tmp_path / "kept", file)
    assert moved(home.path, url_file).returncode == 0
    Broker.at(load_home(home.path)).database.close()


def test_settings_keep_their_words(tmp_path: Path, url_file: Path) -> None:
    home = create_home(tmp_path / "broker", allow_rehearsal=True)
    database = Database(home.database_url())
    database.migrate()
    database.close()
    config = home.path / "config.toml"
    made = config.read_text()
    named = made.replace(
        "[database]\n", f'[database] # ours\nurl = "{home.database_url()}" # here\n'
    )
    config.write_text(f"{named}\n[logs]\nlevel = 'debug' # for now\n")
    move(home.path, url_file)
    after = config.read_text()
    assert f'[database] # ours\nurl_file = "{url_file}"\n# url = ' in after
    assert after.endswith("[logs]\nlevel = 'debug' # for now\n")
    assert config.stat().st_mode & 0o777 == 0o600
    # What cannot be rewritten is left, and said.
    kept = made.replace("[database]", "[tokens]").replace("[server]", "database.url = ''\n[server]")
    config.write_text(kept)
    told = move(home.path, url_file)
    assert told.was_there
    assert "in place of what names the old one" in told.change
    assert config.read_text() == kept
    config.write_text(made)
    old = tmp_path / "old-url"
    old.write_text(home.database_url().render_as_string())
    said = moved(home.path, url_file, environment={"LINKAGE_BROKER_DATABASE_URL_FILE": str(old)})
    assert said.returncode == 0, said.stderr
    assert "let the environment variable LINKAGE_BROKER_DATABASE_URL_FILE name" in said.stdout
    assert config.read_text() == made
