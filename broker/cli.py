"""
`linkage-broker`: set up and run an honest broker.

Exit codes: 0 done; 1 refused, with cause and remedy; 2 wrong usage; 3 the audit log does not
verify; 4 database or port out of reach; 70 an unforeseen error.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from broker.commands.access import access
from broker.commands.account import account
from broker.commands.admin import admin
from broker.commands.audit import audit
from broker.commands.backup import backup, restore
from broker.commands.config import config
from broker.commands.look import look
from broker.commands.move import move
from broker.commands.person import person
from broker.commands.release import release
from broker.commands.retention import retention
from broker.commands.review import review
from broker.commands.run import run
from broker.commands.study import study
from broker.commands.upload import upload
from broker.console import HomeOption, JsonOption, home_alone, home_at, show
from linkage.errors import HistoryAltered, LinkageError, Unreachable
from linkage.foreign_letters import foreign_letter
from linkage.program import Program
from linkage.shown_text import plain_lines

if TYPE_CHECKING:
    from broker.config import Home


class _Refusing(Program):
    """A command line whose every refusal is one line with its remedy."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Databases, blobs and logs say who is whom among pseudonyms: nobody else reads them.
        before = os.umask(0o077)
        try:
            return super().__call__(*args, **kwargs)
        except Unreachable as error:
            _fail(4, error)
        except HistoryAltered as error:
            _fail(3, error)
        except LinkageError as error:
            _fail(1, error)
        except Exception as error:
            if (said := foreign_letter(error)) is not None:
                _fail(1, said)
            # Its text could hold a value; type and place are enough to find it.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {place.filename}, line {place.lineno}"
            _fail(70, LinkageError(f"an unforeseen error, {where}", hint="please report it"))
        finally:
            os.umask(before)


def _fail(code: int, error: LinkageError) -> NoReturn:
    typer.echo(plain_lines(f"linkage-broker: {error}"), err=True)
    sys.exit(code)


app = _Refusing(
    help="Set up and run an honest broker: it links encodings and never sees who is who.",
)


def init(
    home: Annotated[Path, typer.Argument(help="A new folder.")],
    port: Annotated[int, typer.Option(help="Where `serve` listens.")] = 8400,
    database_url_file: Annotated[
        Path | None, typer.Option(help="File with the PostgreSQL URL; else SQLite.")
    ] = None,
    allow_rehearsal: Annotated[
        bool,
        typer.Option("--allow-rehearsal", help="Take rehearsals: not a broker of record."),
    ] = False,
) -> None:
    """Make a broker: folder, keys, configuration and database."""
    from broker.config import create_home
    from linkage.roles import remember

    made = create_home(
        home, port=port, database_url_file=database_url_file, allow_rehearsal=allow_rehearsal
    )
    _migrate(made)
    if not allow_rehearsal:
        remember("broker", home)
    public = made.public()
    typer.echo(f"The broker is set up in {home}.")
    typer.echo(f"Give the custodian {home / 'public.json'}; read out its fingerprint by telephone:")
    typer.echo(f"  {public.fingerprint}")
    typer.echo("Then start both, each in a terminal or as a service:")
    for command in ("serve", "worker"):
        typer.echo(f"  linkage-broker {command} --home {home}")
    typer.echo("docs/broker.md goes on from here: admins, studies, runs.")


def serve(
    home: HomeOption,
    port: Annotated[int | None, typer.Option(help="Instead of the configured one; 0: any.")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Gets the URL once requests are answered.")
    ] = None,
) -> None:
    """Serve the HTTP API."""
    from broker.serve import serve as serve_forever

    serve_forever(home_alone(home), port=port, ready_file=ready_file)


def worker(
    home: HomeOption,
    name: Annotated[
        str, typer.Option(help="Keep it over restarts: unfinished work returns to its name.")
    ] = "worker-1",
) -> None:
    """Do the work: open packages, link, prepare releases, questions and deliveries."""
    from broker.worker import work

    work(home_alone(home), name)


def migrate(home: HomeOption) -> None:
    """Bring the database to this version. Back it up first."""
    _migrate(home_at(home))
    typer.echo("The database is that of this version.")


def identity(home: HomeOption, as_json: JsonOption = False) -> None:
    """Show the broker's fingerprint, to be compared by telephone."""
    public = home_at(home).public()
    show(as_json, public.model_dump() | {"fingerprint": public.fingerprint}, public.fingerprint)


def _migrate(home: Home) -> None:
    from broker.durable import migrate_workflows
    from broker.store.engine import Database

    database = Database(home.database_url())
    try:
        database.migrate()
    finally:
        database.close()
    migrate_workflows(home)


app.add_panels(
    {
        "Set up and run": {
            "init": init,
            "serve": serve,
            "worker": worker,
            "identity": identity,
            "config": config,
        },
        "Who may do what": {"admin": admin, "account": account, "access": access},
        "Studies: link and give out": {
            "study": study,
            "upload": upload,
            "run": run,
            "look": look,
            "review": review,
            "release": release,
            "person": person,
        },
        "Keep: log, backup, versions": {
            "audit": audit,
            "retention": retention,
            "backup": backup,
            "restore": restore,
            "migrate": migrate,
            "move": move,
        },
    }
)
