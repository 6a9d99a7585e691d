"""`linkage-broker release`: cross-commons IDs for an audience."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.console import HomeOption, JsonOption, granted, services, show

if TYPE_CHECKING:
    from linkage.release_messages import ReleaseState

release = typer.Typer(help="Releases of cross-commons IDs.", no_args_is_help=True)


@release.callback()
def _group() -> None:
    """Releases of cross-commons IDs."""


@release.command("start")
def release_start(
    study_id: str,
    home: HomeOption,
    run_id: Annotated[str, typer.Option("--run", help="Default: the newest finished.")] = "",
    to: Annotated[
        list[str] | None, typer.Option(help="A party; repeat. Default: as the study says.")
    ] = None,
    methods: Annotated[
        bool, typer.Option("--methods", help="Tell the enclave also how each ID was linked.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give every record of the audience a cross-commons ID; a worker must be running."""
    from broker.policy import Action
    from linkage.messages import ReleaseRequest

    broker = services(home)
    grant = granted(broker, Action.RELEASE, study_id)
    request = ReleaseRequest(run_id=run_id, audience=tuple(to or ()), methods=methods)
    state = broker.releases.ask(grant, request)
    said = f"Release {state.job_id} is {state.state}."
    if state.state == "waiting":
        said += (
            " It is made once the steward of every party consents:"
            f" linkage-site release approve {state.job_id}"
        )
    show(as_json, state.model_dump(mode="json"), said)


@release.command("list")
def release_list(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List the study's releases, newest first: for whom, which is current, which is affected."""
    from broker.policy import Action

    broker = services(home)
    found = broker.releases.all(granted(broker, Action.READ_RELEASE, study_id))
    data = [one.model_dump(mode="json") for one in found]
    show(as_json, data, "\n".join(_line(one) for one in found) or "No release yet.")


@release.command("show")
def release_show(
    study_id: str, release_id: str, home: HomeOption, as_json: JsonOption = False
) -> None:
    """Show a release: its terms, who consented, rows by party, what was withdrawn since."""
    from broker.policy import Action

    broker = services(home)
    one = broker.releases.one(granted(broker, Action.READ_RELEASE, study_id), release_id)
    show(as_json, one.model_dump(mode="json"), _described(one))


@release.command("cancel")
def release_cancel(
    study_id: str, release_id: str, home: HomeOption, as_json: JsonOption = False
) -> None:
    """End a release that waits for the stewards' consent; one that was made stays made."""
    from broker.policy import Action

    broker = services(home)
    one = broker.consents.cancel(granted(broker, Action.CANCEL_RELEASE, study_id), release_id)
    show(as_json, one.model_dump(mode="json"), f"Release {release_id} is cancelled.")


@release.command("affected")
def release_affected(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List every release, question and delivery of which records were withdrawn since."""
    from broker.policy import Action

    broker = services(home)
    rows, _ = broker.releases.affected(granted(broker, Action.READ_AFFECTED, study_id))
    found = [one.model_dump(mode="json", exclude={"version"}) for one in rows]
    lines = [_affected_line(one) for one in found]
    show(as_json, found, "\n".join(lines) or "Nothing that was given out is affected.")


def _line(one: ReleaseState) -> str:
    number = f"number {one.number}" if one.number else one.state
    return f"{one.release_id}  {number}  to {', '.join(one.terms.audience)}  {_standing(one)}"


def _standing(one: ReleaseState) -> str:
    if one.needs:
        return f"needs the consent of {', '.join(one.needs)}"
    if one.state != "done":
        return one.failure or ""
    said = "current" if one.current else "superseded"
    if one.affected:
        said += f", AFFECTED: withdrawn since {_counts(one.withdrawn)}"
    if one.checking:
        said += ", being checked for withdrawals"
    return said + (f", pinned by {_pins(one)}" if one.pins else "")


def _described(one: ReleaseState) -> str:
    decided = {party: consent.decision for party, consent in one.consents.items()}
    rows = {
        "state": one.state,
        "number": one.number or "not made",
        "standing": _standing(one),
        "audience": ", ".join(one.terms.audience),
        "how IDs were linked": "told to the enclave" if one.terms.methods else "not told",
        "run": one.terms.run_id,
        "estimated precision": one.precision,
        "estimated recall": one.recall,
        "last day": one.terms.expires or "none",
        "consents": _pairs(decided) or ("none yet" if one.needs else "none needed"),
        "rows": _counts(one.records),
        "withdrawn since": ", ".join(
            f"{party} {n:,} (seen {_day(one.withdrawn_since[party])})"
            for party, n in one.withdrawn.items()
        )
        or "nothing",
        "take instead": one.newest or "-",
        "pins": _pins(one) or "none",
    }
    width = max(len(label) for label in rows)
    return "\n".join([one.release_id, *(f"  {k:<{width}}  {v}" for k, v in rows.items())])


def _affected_line(one: dict[str, Any]) -> str:
    gone = ", ".join(
        f"{p} {n:,} (seen {_day(one['since'][p])})" for p, n in one["withdrawn"].items()
    )
    pins = ", ".join(_named(one["pins"].items()))
    return f"{one['id']}  withdrawn since: {gone}" + (f"  pinned by {pins}" if pins else "")


def _counts(by_party: dict[str, int]) -> str:
    return ", ".join(f"{party} {n:,}" for party, n in by_party.items()) or "none"


def _pairs(by_party: Mapping[str, str]) -> str:
    return ", ".join(f"{party}: {said}" for party, said in by_party.items())


def _pins(one: ReleaseState) -> str:
    return ", ".join(_named(one.pins.items()))


def _named(pins: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    return [f"{party}/{name}" for party, names in pins for name in names]


def _day(at: int) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d}"
