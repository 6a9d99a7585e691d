"""
Load: `python -m tests.load [--minutes 10] [--sites 50] [--database both]`, `make load`.

Sites poll a real broker, each about once a second, while its worker links without a pause; the load
generator runs on the same machine. Progress on standard error; on standard output one line of
JSON: times of the status calls in milliseconds, errors, runs done meanwhile. Exit code 0 if 99 % of
the status calls took less than 200 ms and none failed; else 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tests.load.measure import measure


def load(
    minutes: Annotated[float, typer.Option(help="So long on each database.")] = 10,
    sites: Annotated[int, typer.Option(help="How many poll.")] = 50,
    database: Annotated[str, typer.Option(help="sqlite, postgresql or both.")] = "both",
    records: Annotated[int, typer.Option(help="Of each of the two parties linked.")] = 20_000,
    pause: Annotated[float, typer.Option(help="Seconds between two calls of a site, mean.")] = 1,
    idle: Annotated[bool, typer.Option(help="Without runs, for comparison.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep locust's reports and logs here.")] = None,
) -> None:
    """Measure how long status calls take while a run is under way."""
    named = ("sqlite", "postgresql") if database == "both" else (database,)
    found = {
        name: measure(
            name,
            minutes=minutes,
            sites=sites,
            records=records,
            pause=pause,
            linking=not idle,
            keep=keep,
        )
        for name in named
    }
    print(json.dumps(found))
    sys.exit(0 if all(one["ok"] for one in found.values()) else 1)


if __name__ == "__main__":
    typer.run(load)
