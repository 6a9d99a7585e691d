"""
`linkage attack`: the release gate. What an attacker finds in a study's own encodings.

Exit codes besides those of `linkage`: 8 measured, and the study does not pass.
"""

from __future__ import annotations

import datetime as dt
import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

import linkage
from linkage.errors import LinkageError
from linkage.refusals import refusing

if TYPE_CHECKING:
    from linkage.certificate import GateCertificate
    from linkage.evaluation.gate import GateRun
    from linkage.evaluation.gate_choice import Chosen
    from linkage.evaluation.gate_evidence import Progress as Told
    from linkage.evaluation.gate_people import Whom
    from linkage.study import StudyConfig

NOT_PASSED = 8
_err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


@refusing
def attack(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY.toml]", help="Study file; default: the one shipped."),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(help="CSV of people, columns named as fields; default: simulated ones."),
    ] = None,
    date_format: Annotated[
        str | None, typer.Option(help="How --people writes dates, like MM/DD/YYYY; default ISO.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="People measured.")] = 4_000,
    draws: Annotated[int, typer.Option(min=1, help="Key draws; the worst counts.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the people and of whom he knows.")] = 1,
    choose: Annotated[
        bool, typer.Option("--choose", help="Find the smallest diffusion that passes, per CLK.")
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Show what other lengths, bits and depths would give.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for certificate.json and report.html.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Attack a study's encodings as the release gate does; say whether the study may run."""
    from linkage.evaluation.gate import run_gate
    from linkage.evaluation.gate_people import people_for
    from linkage.study import load_study

    path = study or shipped_study()
    config = load_study(path)
    written = _strptime(date_format) if date_format else None
    if out:
        _require_writable(out)
    whom = people_for(config, people, n=n, seed=seed, date_format=written)
    if sweep:
        _sweep(config, whom, n=n, seed=seed, out=out, as_json=as_json)
        return
    chosen: Chosen | None = None
    with _bar(TimeElapsedColumn()) as bar:
        task = bar.add_task("starting", total=1.0)

        def progress(text: str, done: float) -> None:
            bar.update(task, description=text, completed=done)

        if choose:
            chosen, run = _chosen(config, whom, draws=draws, seed=seed, progress=progress)
        else:
            run = run_gate(
                config,
                whom.crowd,
                people=whom.words,
                thinned=whom.thinned,
                draws=draws,
                seed=seed,
                progress=progress,
            )
    software = version("commons-linkage")
    # The command line is where the day comes from; nothing below asks for it.
    day = dt.datetime.now(dt.UTC).date().isoformat()
    certificate = run.certificate(date=day, software=software)
    reasons = certificate.reasons(run.study)
    if out:
        # A chosen depth is not in the study file yet: a certificate for it would fit nothing.
        _write(out, run, certificate, _command(path, people, n, draws, seed), keep=not choose)
    if as_json:
        depths = {"diffusion": chosen.depths()} if chosen else {}
        verdict = {"passed": not reasons, "reasons": reasons}
        said = {**verdict, **run.as_json(), **depths}
        said["certificate"] = certificate.model_dump(mode="json")
        typer.echo(json.dumps(said, indent=1))
    else:
        _say(run, reasons, chosen, out)
    if reasons:
        raise typer.Exit(NOT_PASSED)


def shipped_study() -> Path:
    """Return the example's study file: inside an installed package, else in the checkout."""
    package = Path(linkage.__file__).parent
    for folder in (package / "settings", package.parent / "configs" / "three-commons"):
        if (folder / "study.toml").exists():
            return folder / "study.toml"
    raise LinkageError("the shipped study is not installed", hint="name a study file")


def _require_writable(folder: Path) -> None:
    """Make the folder for the results. Raises LinkageError now, and not after minutes of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        raise LinkageError(
            f"nothing can be written to {folder} ({type(fault).__name__})",
            hint="choose another folder with --out",
        ) from None


def _bar(time: ProgressColumn) -> Progress:
    """Return a progress bar on the terminal, if there is one, that leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        time,
        console=_err,
        transient=True,
        disable=not _err.is_terminal,
    )


def _strptime(text: str) -> str:
    from linkage.encoding.date_formats import readable_format, strptime_format
    from linkage.strict_toml import Fault

    try:
        return strptime_format(readable_format(text))
    except Fault as fault:
        raise typer.BadParameter(
            f"{fault.rule}: {fault.hint}", param_hint="--date-format"
        ) from None


def _chosen(
    study: StudyConfig, whom: Whom, *, draws: int, seed: int, progress: Told
) -> tuple[Chosen, GateRun]:
    """Choose depths, measure, and go deeper where the draws of the keys fail what was foretold."""
    from linkage.evaluation.gate import run_gate
    from linkage.evaluation.gate_choice import choose_diffusion, deeper, failing
    from linkage.evaluation.gate_evidence import expectations

    guesses = expectations(study, whom.crowd, seed=seed, progress=progress)
    progress("choosing diffusion", 0.15)
    chosen = choose_diffusion(study, guesses, thinned=whom.thinned)
    while True:
        run = run_gate(
            chosen.study,
            whom.crowd,
            people=whom.words,
            thinned=whom.thinned,
            draws=draws,
            seed=seed,
            guesses=guesses,
            progress=progress,
        )
        if not (failed := failing(run.evidence, run.records)):
            return chosen, run
        chosen = deeper(chosen, failed)


def _sweep(
    study: StudyConfig, whom: Whom, *, n: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Measure a grid of parameters; say what each costs and gives, and the best that pass."""
    from linkage.evaluation import frontier

    with _bar(TimeRemainingColumn()) as bar:
        task = bar.add_task("settings", total=None)
        made = frontier.sweep_study(
            study,
            whom.crowd,
            whom.words,
            n=n,
            seed=seed,
            out=out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        plain = {clk: [one.as_json() for one in some] for clk, some in made.items()}
        typer.echo(json.dumps(plain, indent=1))
        return
    for clk, some in made.items():
        typer.echo(f"\n{clk}\n\n{frontier.table(some)}\n")
        typer.echo("\n".join(frontier.advice(some)))
    if out:
        typer.echo(f"\nPlots: {out}/frontier-*.svg")


def _command(study: Path, people: Path | None, n: int, draws: int, seed: int) -> str:
    words = ["linkage attack", study.name]
    words += ["--people", people.name] if people else []
    return " ".join([*words, f"--n {n} --draws {draws} --seed {seed}"])


def _write(
    out: Path, run: GateRun, certificate: GateCertificate, command: str, *, keep: bool
) -> None:
    from linkage.evaluation.gate_report import page

    (out / "report.html").write_text(page(run, certificate, command=command), encoding="utf-8")
    if keep:
        text = certificate.model_dump_json(indent=1)
        (out / "certificate.json").write_text(text + "\n", encoding="utf-8")


def _say(run: GateRun, reasons: list[str], chosen: Chosen | None, out: Path | None) -> None:
    console = Console()
    size = f"{run.records:,} records declared" if run.records else "no size declared"
    table = Table(
        Column("evidence", no_wrap=True),
        "t",
        "corre-\nlation",
        "attack-\ner's",
        "found",
        "at declared\nsize",
        "holds\nup to",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{run.study.study.id}: {run.n:,} people, {size}",
    )
    for one in run.evidence:
        figures = one.figures
        table.add_row(
            figures.evidence.replace(":", " "),
            "" if figures.diffusion is None else str(figures.diffusion),
            f"{figures.correlation:.3f}",
            f"{figures.attacker_correlation:.3f}",
            f"{one.worst:.2%}",
            f"{figures.predicted_seeded:.2%}" if run.records else "-",
            f"{figures.holds_up_to:,}" if figures.holds_up_to else "not here",
        )
    table.caption = (
        f"found: of the people whom he did not know, by an attacker who knows {run.known_share:.0%}"
    )
    console.print(table)
    for name, share in (
        ("without diffusion, the same attack finds", run.plain_reidentified),
        ("CLKs and match keys of all parties together", run.combined.share),
        (f"unique by match keys, {run.structure.people:,} records", run.structure.share),
    ):
        console.print(f"  {name}: {share:.2%}", highlight=False)
    if chosen:
        console.print("\nPut these lines into the study file:\n", highlight=False)
        for line in chosen.lines():
            typer.echo(line)
    console.print()
    if reasons:
        console.print("[bold]The study does not pass the release gate.[/bold]", highlight=False)
        for reason in reasons:
            typer.echo(f"  - {reason}")
    else:
        console.print("[bold]The study passes the release gate.[/bold]", highlight=False)
    if out:
        typer.echo(f"{out / 'report.html'}")
