"""
`linkage-broker`: set up and run an honest broker.

Exit codes: 0 done; 1 refused, with cause and remedy; 2 wrong usage; 3 the audit log does not
verify; 4 database or port out of reach; 70 an unforeseen error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from broker.audit_cli import audit
from broker.look_cli import look
from broker.person_cli import person
from linkage.errors import HistoryAltered, LinkageError, PackageRefused, Unreachable

if TYPE_CHECKING:
    from broker.config import Home
    from broker.container import Broker
    from broker.policy import Caller
    from linkage.messages import StudyState


class _Refusing(typer.Typer):
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
            # Its text could hold a value; type and place are enough to find it.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {place.filename}, line {place.lineno}"
            _fail(70, LinkageError(f"an unforeseen error, {where}", hint="please report it"))
        finally:
            os.umask(before)


def _fail(code: int, error: LinkageError) -> NoReturn:
    typer.echo(f"linkage-broker: {error}", err=True)
    sys.exit(code)


app = _Refusing(
    help="Set up and run an honest broker: it links encodings and never sees who is who.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
admin = typer.Typer(help="Admins of this broker.", no_args_is_help=True)
study = typer.Typer(help="Studies.", no_args_is_help=True)
run = typer.Typer(help="Linkage runs.", no_args_is_help=True)
release = typer.Typer(help="Releases of cross-commons IDs.", no_args_is_help=True)
for name, group in {
    "admin": admin,
    "study": study,
    "run": run,
    "look": look,
    "release": release,
    "person": person,
    "audit": audit,
}.items():
    app.add_typer(group, name=name)

HomeOption = Annotated[
    Path, typer.Option(envvar="LINKAGE_BROKER_HOME", help="The broker's home folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@app.command()
def init(
    home: Annotated[Path, typer.Argument(help="A new folder.")],
    port: Annotated[int, typer.Option(help="Where `serve` listens.")] = 8400,
    database_url_file: Annotated[
        Path | None, typer.Option(help="File with the PostgreSQL URL; else SQLite.")
    ] = None,
    allow_rehearsal: Annotated[
        bool, typer.Option(help="Take rehearsals: not a broker of record.")
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


@app.command()
def serve(
    home: HomeOption,
    port: Annotated[int | None, typer.Option(help="Instead of the configured one; 0: any.")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Gets the URL once requests are answered.")
    ] = None,
) -> None:
    """Serve the HTTP API."""
    from broker.serve import serve as serve_forever

    serve_forever(_alone(home), port=port, ready_file=ready_file)


@app.command()
def worker(
    home: HomeOption,
    name: Annotated[
        str, typer.Option(help="Keep it over restarts: unfinished work returns to its name.")
    ] = "worker-1",
) -> None:
    """Do the work: open packages, link, prepare releases, questions and deliveries."""
    from broker.worker import work

    work(_alone(home), name)


@app.command()
def migrate(home: HomeOption) -> None:
    """Bring the database to this version. Back it up first."""
    _migrate(_at(home))
    typer.echo("The database is that of this version.")


@app.command()
def identity(home: HomeOption, as_json: JsonOption = False) -> None:
    """Show the broker's fingerprint, to be compared by telephone."""
    public = _at(home).public()
    _show(as_json, public.model_dump() | {"fingerprint": public.fingerprint}, public.fingerprint)


@admin.command("add")
def admin_add(
    name: str,
    public_key: Annotated[Path, typer.Option(help="The admin's public identity, a JSON file.")],
    home: HomeOption,
) -> None:
    """Let an admin sign in with its key."""
    added = _services(home).admins.add(name, _bytes(public_key))
    typer.echo(f"Admin {name} is added. Compare its fingerprint by telephone: {added.fingerprint}")


@admin.command("list")
def admin_list(home: HomeOption, as_json: JsonOption = False) -> None:
    """List the admins."""
    rows = _services(home).admins.all()
    shown = [{"name": r.name, "active": r.revoked_at is None} for r in rows]
    text = "\n".join(f"{r['name']}  {'active' if r['active'] else 'revoked'}" for r in shown)
    _show(as_json, shown, text or "There is no admin yet: `linkage-broker admin add`.")


@admin.command("revoke")
def admin_revoke(name: str, home: HomeOption) -> None:
    """End an admin's access at once."""
    _services(home).admins.revoke(name)
    typer.echo(f"Admin {name} is revoked.")


@study.command("register")
def study_register(
    file: Annotated[Path, typer.Argument(help="The signed study.")],
    home: HomeOption,
    custodian_fingerprint: Annotated[
        str | None, typer.Option(help="As the custodian read it out; not for a rehearsal.")
    ] = None,
    allow_changed_parties: Annotated[
        bool, typer.Option(help="A next epoch may have other parties or contributors.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a signed study, or its next epoch: then everybody uploads anew."""
    from linkage.signed_study import load_signed_study

    signed = load_signed_study(file, custodian_fingerprint=custodian_fingerprint)
    state, new = _services(home).studies.register(
        "console",
        signed,
        custodian_fingerprint=custodian_fingerprint,
        allow_changed_parties=allow_changed_parties,
    )
    said = "registered" if new else "registered already"
    text = f"Study {state.study_id} is {said}. Release gate: {state.release_gate}."
    if again := [one.uploader for one in state.parties if one.outdated]:
        text += f" Epoch {state.epoch}: to upload anew: {', '.join(again)}."
    _show(as_json, state.model_dump(mode="json"), text)


@study.command("list")
def study_list(home: HomeOption, as_json: JsonOption = False) -> None:
    """List the studies: epoch, whether each passed the release gate, who has uploaded."""
    states = _services(home).studies.all()
    data = [one.model_dump(mode="json") for one in states]
    lines = "\n".join(_study_line(one) for one in states)
    _show(as_json, data, lines or "There is no study yet: `linkage-broker study register`.")


@study.command("deactivate")
def study_deactivate(
    file: Annotated[Path, typer.Argument(help="The custodian's signed notice.")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Take no more uploads of an epoch whose study key the custodian deactivated."""
    from pydantic import ValidationError

    from linkage.messages import Deactivation

    try:
        notice = Deactivation.model_validate_json(_bytes(file))
    except ValidationError:
        raise PackageRefused(
            f"{file} is no notice of a deactivation",
            hint="the custodian makes it with `linkage-site keys deactivate`",
        ) from None
    state, new = _services(home).studies.deactivate("console", notice)
    said = "deactivated" if new else "deactivated already"
    text = f"The study key of {state.study_id}, epoch {notice.epoch}, is {said}."
    _show(as_json, state.model_dump(mode="json"), text)


@run.command("start")
def run_start(
    study_id: str,
    home: HomeOption,
    seed: int = 1,
    allow_missing: Annotated[
        bool, typer.Option(help="Link the parties that have uploaded, at least two.")
    ] = False,
    second_look: Annotated[
        bool, typer.Option(help="Ask the sites about doubtful pairs, where the study allows it.")
    ] = True,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Precision wanted of the links, .5 to 1. Default: the best F1.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a linkage run; a worker must be running."""
    from broker.policy import Action
    from linkage.matching.estimates import check_precision
    from linkage.run_messages import RunRequest

    check_precision(precision)

    broker = _services(home)
    grant = broker.studies.grant(_console(), Action.START_RUN, study_id=study_id)
    request = RunRequest(seed=seed, second_look=second_look, precision=precision)
    state = broker.runs.start(grant, request, allow_missing=allow_missing)
    _show(as_json, state.model_dump(mode="json"), f"Run {state.run_id} is {state.state}.")


@run.command("list")
def run_list(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List the study's runs, newest first: state, stage, estimated quality."""
    from broker.policy import Action

    broker = _services(home)
    grant = broker.studies.grant(_console(), Action.READ_RUN, study_id=study_id)
    found = [state.model_dump(mode="json") for state in broker.runs.all(grant)]
    _show(as_json, found, "\n".join(map(_run_line, found)) or "No run was started yet.")


@release.command("start")
def release_start(
    study_id: str,
    home: HomeOption,
    run_id: Annotated[str, typer.Option("--run", help="Default: the newest finished.")] = "",
    to: Annotated[
        list[str] | None, typer.Option(help="A party; repeat. Default: as the study says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give every record of the audience a cross-commons ID; a worker must be running."""
    from broker.policy import Action
    from linkage.messages import ReleaseRequest

    broker = _services(home)
    grant = broker.studies.grant(_console(), Action.RELEASE, study_id=study_id)
    state = broker.releases.ask(grant, ReleaseRequest(run_id=run_id, audience=tuple(to or ())))
    _show(as_json, state.model_dump(mode="json"), f"Release {state.job_id} is {state.state}.")


def _at(home: Path) -> Home:
    from broker.config import load_home

    return load_home(home)


def _alone(home: Path) -> Home:
    """Return the home of a broker that starts. Raises KeyRefused beside a custodian's keys."""
    from linkage.roles import require_no_custodian

    found = _at(home)
    if not found.config.server.allow_rehearsal:
        require_no_custodian(home)
    return found


def _services(home: Path) -> Broker:
    from broker.container import Broker

    return Broker.at(_at(home))


def _console() -> Caller:
    from broker.policy import Caller

    return Caller("console", None)


def _study_line(state: StudyState) -> str:
    there = sum(one.dataset is not None for one in state.parties)
    return (
        f"{state.study_id}  epoch {state.epoch}  {there} of {len(state.parties)} uploaded"
        f"  release gate: {state.release_gate}"
    )


def _run_line(run: dict[str, Any]) -> str:
    line = f"{run['run_id']}  {run['state']}"
    if run["state"] in ("queued", "running"):
        line += f"  {run['stage']} {run['progress']:.0%}{_work(run)}"
    if report := run["report"]:
        line += (
            f"  {report['persons']:,} persons; estimated precision"
            f" {report['estimated_precision']:.4f}, recall {report['estimated_recall']:.4f}"
        )
        line += "".join(map(_loss, report.get("losses", ())))
    return f"{line}  {run['failure']}" if run["failure"] else line


def _work(run: dict[str, Any]) -> str:
    """Say how far the search for candidates is."""
    work = run["work"]
    if not work or not run["stage"].startswith("candidates"):
        return ""
    text = (
        f", {work['chunks_done']} of {work['chunks']} chunks, {work['pairs_found']:,} pairs found,"
        f" {work['comparisons_per_second'] / 1e6:,.0f} million comparisons a second"
    )
    if work["seconds_left"] is not None:
        text += f", {_duration(work['seconds_left'])} left"
    if work["phases"] > work["phase"]:
        text += " in this phase; how much the second has to do is known only then"
    return text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _loss(one: dict[str, Any]) -> str:
    return (
        f"; {' and '.join(one['parties'])}: comparing in two phases lost {one['share']:.2%} of the"
        f" matches (95 %: {one['low']:.2%} to {one['high']:.2%})"
    )


def _migrate(home: Home) -> None:
    from broker.durable import migrate_workflows
    from broker.store.engine import Database

    database = Database(home.database_url())
    try:
        database.migrate()
    finally:
        database.close()
    migrate_workflows(home)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise PackageRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check path and permissions"
        ) from None


def _show(as_json: bool, value: Any, text: str) -> None:
    typer.echo(json.dumps(value, indent=1) if as_json else text)
