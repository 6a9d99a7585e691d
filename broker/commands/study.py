"""`linkage-broker study`: register studies, see them, close or destroy them, retire a key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.console import HomeOption, JsonOption, bytes_of, services, show
from linkage.errors import PackageRefused

if TYPE_CHECKING:
    from linkage.messages import StudyState

study = typer.Typer(help="Studies.", no_args_is_help=True)
StudyArgument = Annotated[str, typer.Argument(help="The study's id.")]


@study.command("register")
def study_register(
    file: Annotated[Path, typer.Argument(help="The signed study.")],
    home: HomeOption,
    custodian_fingerprint: Annotated[
        str | None, typer.Option(help="As the custodian read it out; not for a rehearsal.")
    ] = None,
    allow_changed_parties: Annotated[
        bool,
        typer.Option(
            "--allow-changed-parties", help="A next epoch may have other parties or contributors."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a signed study, or its next epoch: then everybody uploads anew."""
    from linkage.signed_study import load_signed_study

    signed = load_signed_study(file, custodian_fingerprint=custodian_fingerprint)
    state, new = services(home).studies.register(
        "console",
        signed,
        custodian_fingerprint=custodian_fingerprint,
        allow_changed_parties=allow_changed_parties,
    )
    said = "registered" if new else "registered already"
    text = f"Study {state.study_id} is {said}. Release gate: {state.release_gate}."
    if again := [one.uploader for one in state.parties if one.outdated]:
        text += f" Epoch {state.epoch}: to upload anew: {', '.join(again)}."
    if state.state == "draft":
        waiting = ", ".join(services(home).lifecycle.confirmations(state.study_id).waiting)
        text += f" It is a draft until these confirm it with `linkage-site confirm`: {waiting}."
    show(as_json, state.model_dump(mode="json"), text)


@study.command("list")
def study_list(home: HomeOption, as_json: JsonOption = False) -> None:
    """List the studies: epoch, whether each passed the release gate, who has uploaded."""
    states = services(home).studies.all()
    data = [one.model_dump(mode="json") for one in states]
    lines = "\n".join(_study_line(one) for one in states)
    show(as_json, data, lines or "There is no study yet: `linkage-broker study register`.")


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
        notice = Deactivation.model_validate_json(bytes_of(file))
    except ValidationError:
        raise PackageRefused(
            f"{file} is no notice of a deactivation",
            hint="the custodian makes it with `linkage-site keys deactivate`",
        ) from None
    state, new = services(home).studies.deactivate("console", notice)
    said = "deactivated" if new else "deactivated already"
    text = f"The study key of {state.study_id}, epoch {notice.epoch}, is {said}."
    show(as_json, state.model_dump(mode="json"), text)


@study.command("show")
def study_show(study_id: StudyArgument, home: HomeOption, as_json: JsonOption = False) -> None:
    """Show what a study is agreed to be, who has confirmed it, and where it is in its life."""
    from broker.study_shown import lines, shown

    found = shown(services(home), study_id)
    show(as_json, found, "\n".join(lines(found)))


@study.command("close")
def study_close(study_id: StudyArgument, home: HomeOption, as_json: JsonOption = False) -> None:
    """Take no uploads, runs, questions or releases any more; `study reopen` takes it back."""
    state = services(home).lifecycle.close("console", study_id)
    text = f"Study {study_id} is {state}. Runs and jobs under way end by themselves."
    show(as_json, {"study_id": study_id, "state": state}, text)


@study.command("reopen")
def study_reopen(study_id: StudyArgument, home: HomeOption, as_json: JsonOption = False) -> None:
    """Let a closed study go on where it was."""
    state = services(home).lifecycle.reopen("console", study_id)
    text = f"Study {study_id} is {state} again."
    show(as_json, {"study_id": study_id, "state": state}, text)


@study.command("destroy")
def study_destroy(
    study_id: StudyArgument,
    home: HomeOption,
    confirm: Annotated[str, typer.Option(help="The study's id once more.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Destroy a closed study for good: packages, persons, links, results. There is no way back."""
    row = services(home).lifecycle.destroy("console", study_id, confirm=confirm)
    done = row.finished_at is not None
    text = (
        f"Study {study_id} is destroyed."
        if done
        else f"Nothing of study {study_id} is visible any more; the worker is destroying it."
    )
    text += f" Its certificate: `linkage-broker study certificate {study_id}`."
    show(as_json, {"study_id": study_id, "state": "destroyed", "finished": done}, text)


@study.command("certificate")
def study_certificate(
    study_id: StudyArgument,
    home: HomeOption,
    out: Annotated[Path | None, typer.Option(help="A file for it; else it is printed.")] = None,
) -> None:
    """Print the signed certificate of a study's destruction, JSON."""
    text = services(home).lifecycle.certificate(study_id).canonical().decode()
    if out is None:
        typer.echo(text)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"The certificate is in {out}; a party checks it with `linkage-site certificate`.")


def _study_line(state: StudyState) -> str:
    there = sum(one.dataset is not None for one in state.parties)
    return (
        f"{state.study_id}  {state.state}  epoch {state.epoch}"
        f"  {there} of {len(state.parties)} uploaded"
        f"  release gate: {state.release_gate}"
    )
