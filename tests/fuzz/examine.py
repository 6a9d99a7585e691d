"""
Schemathesis, run as a program against a broker as one caller: what it sent and what it found.

Its own checks are all on, but two with exceptions that the API's nature asks for: well-formed data
may still be refused (a signature is no property that a schema can state), and what is not the
caller's is 404, as if it were not there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.broker_world import HTTP, World
from tests.fuzz.world import PEOPLE_AS, PROGRAMS, known, person

PROGRAM = str(Path(sys.executable).with_name("schemathesis"))
HOOKS = Path(__file__).with_name("hooks.py")
_PREPARED: dict[str, Mapping[str, Prepared]] = {}
_REFUSALS = ["401", "403", "404", "405", "408", "409", "413", "422", "429"]
_PROBABILITY = 0.8
"""How often a path names something that is there."""


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of one examination. report: as Schemathesis writes it; text: as it prints it."""

    caller: str
    report: dict[str, Any]
    text: str

    @property
    def bad(self) -> bool:
        """Did it find anything, or not come to its end?"""
        return bool(self.report["failures"] or self.report["errors"] or not self.report["complete"])

    def figures(self) -> dict[str, Any]:
        """Return the figures of one line."""
        phases = self.report["phases"] or {}
        return {
            "caller": self.caller,
            "seconds": round(self.report["running_time"] or 0, 1),
            "operations": self.report["operations"],
            "phases": {name: one["status"] for name, one in phases.items()},
            "cases": self.report["test_cases"],
            "failures": self.report["failures"],
            "errors": self.report["errors"],
        }


def examine(
    world: World,
    caller: str,
    out: Path,
    *,
    examples: int,
    seconds: int | None = None,
    seed: int = 1,
    every: int = 1,
) -> Found:
    """
    Send generated requests to every address as `caller` and check every answer.

    examples: of each operation in fuzzing and stateful. seconds: go on with new cases for so long;
    None: every phase once. every: of the cases of the phase coverage, send every so many.
    """
    out.mkdir(parents=True, exist_ok=True)
    who = prepared(world)[caller]
    there = who.there
    config, report = out / f"{caller}.toml", out / f"{caller}.json"
    config.write_text(settings(who, examples, seconds, seed, report))
    environment = os.environ | {
        "FUZZ_CALLER": caller,
        "FUZZ_OPEN": " ".join(open_addresses(world)),
        "FUZZ_KNOWN": json.dumps(there),
        "FUZZ_EVERY": str(every),
    }
    done = subprocess.run(
        [PROGRAM, "--config-file", str(config), "--no-color", "run", f"{world.url}/openapi.json"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=out,
        timeout=(seconds or 180) + 120,
    )
    text = done.stdout + done.stderr
    (out / f"{caller}.txt").write_text(text)
    assert report.exists(), text[-4000:]
    return Found(caller, json.loads(report.read_text()), text)


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    A caller: its lines in schemathesis.toml, and by its name in paths, what is there for it.
    """

    lines: tuple[str, ...]
    there: Mapping[str, list[Any]]


def prepared(world: World) -> Mapping[str, Prepared]:
    """
    Return everybody. All at once: what a fuzzer tries at the doors gets this machine's address
    locked out for a while.
    """
    if world.url not in _PREPARED:
        _PREPARED.clear()
        ways = {"stranger": ()} | {name: _by_token(world, name) for name in PROGRAMS[1:]}
        ways |= {name: _by_session(world, name) for name in PEOPLE_AS}
        _PREPARED[world.url] = {
            caller: Prepared(
                lines, {name: values for name, values in known(world, caller).items() if values}
            )
            for caller, lines in ways.items()
        }
    return _PREPARED[world.url]


def _by_token(world: World, caller: str) -> tuple[str, ...]:
    return ("[auth.openapi.token]", f'bearer = "{sign_in(world, caller)}"')


def _by_session(world: World, caller: str) -> tuple[str, ...]:
    """A person's cookie; ending the session would end the examination."""
    made = person(world, caller)
    [cookie] = made.client.cookies.jar
    return (
        "[headers]",
        f'linkage-csrf = "{made.csrf}"',
        "[auth.openapi.session]",
        f'api_key = "{cookie.value}"',
        "[[operations]]",
        'include-path = "/v1/session/end"',
        "enabled = false",
    )


def sign_in(world: World, caller: str) -> str:
    """Return an access token of a caller."""
    return str(world.actor(caller).sign_in().raise_for_status().json()["access_token"])


def open_addresses(world: World) -> list[str]:
    """Return the addresses that ask for no token; tests/unit/broker/test_policy.py has them all."""
    paths = HTTP.get(f"{world.url}/openapi.json").json()["paths"]
    return [p for p, ways in paths.items() if not all("security" in one for one in ways.values())]


def settings(who: Prepared, examples: int, seconds: int | None, seed: int, report: Path) -> str:
    """Return the text of schemathesis.toml."""
    there = who.there
    lines = [
        f"seed = {seed}",
        *([f"max-time = {seconds}"] if seconds else []),
        f'hooks = "{HOOKS}"',
        "continue-on-failure = true",
        "request-timeout = 20.0",
        "[reports.json]",
        f'path = "{report}"',
        "[generation]",
        f"max-examples = {examples}",
        f"deterministic = {str(seconds is None).lower()}",
        'database = "none"',
        "[checks]",
        f"positive_data_acceptance.expected-statuses = {['2xx', *_REFUSALS]}",
        f"negative_data_rejection.expected-statuses = {['400', *_REFUSALS]}",
        f"missing_required_header.expected-statuses = {['400', *_REFUSALS]}",
    ]
    for name, values in there.items():
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(values)}"]
    lines.append("[parameters]")
    for name in there:
        drawn = f'{{ dictionary = "{name}", probability = {_PROBABILITY} }}'
        lines.append(f'"path.{name}" = {drawn}')
    return "\n".join([*lines, *who.lines]) + "\n"
