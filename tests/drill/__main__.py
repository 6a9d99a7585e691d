"""
The fault drill: `python -m tests.drill [--kills 50] [--seed N] [--database both]
[--patience 60]`.

Progress on standard error; on standard output one line of JSON. Exit code 0 if nothing was lost,
nothing is there twice, every digest is the same and every fault was survived; else 1.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.drill import kills as killing
from tests.drill.stand import Postgres, postgres
from tests.drill.workload import PATIENCE_SECONDS


def drill(
    kills: Annotated[int, typer.Option(help="So many on each database.")] = 50,
    seed: Annotated[int, typer.Option(help="What is killed where is drawn from it.")] = 20261121,
    database: Annotated[str, typer.Option(help="sqlite, postgresql or both.")] = "both",
    faults: Annotated[bool, typer.Option(help="Also stop databases, fill disks.")] = True,
    patience: Annotated[
        float, typer.Option(help="Seconds that a caller insists; more on a busy machine.")
    ] = PATIENCE_SECONDS,
) -> None:
    """Kill a broker's processes at random points, and see whether anything is lost or doubled."""
    began = time.monotonic()
    named = ("sqlite", "postgresql") if database == "both" else (database,)
    found: dict[str, Any] = {}
    told: dict[str, Any] = {}
    with ExitStack() as stack:
        server = stack.enter_context(postgres()) if "postgresql" in named or faults else None
        for name in named:
            found[name] = _kills(name, server, kills=kills, seed=seed, patience=patience)
        if faults and server is not None:
            from tests.drill.faults import all_faults

            told = all_faults(server, say=_say)
    summary = {
        "kills": sum(one.kills for one in found.values()),
        "lost": sum(len(one.lost) for one in found.values()),
        "duplicates": sum(len(one.duplicates) for one in found.values()),
        "digest_equal": all(one.digest_equal for one in found.values()),
        "databases": {name: one.to_json() for name, one in found.items()},
        "faults": told,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(summary))
    well = not summary["lost"] and not summary["duplicates"] and summary["digest_equal"]
    sys.exit(0 if well and all(one["ok"] for one in told.values() if one["ok"] is not None) else 1)


def _kills(
    name: str, server: Postgres | None, *, kills: int, seed: int, patience: float
) -> killing.Outcome:
    _say(f"{name}: {kills} kills ...")
    url = server.new_url() if server is not None and name == "postgresql" else None
    with tempfile.TemporaryDirectory(prefix="commons-linkage-drill-") as folder:
        outcome = killing.drill(
            Path(folder), kills=kills, seed=seed, say=_say, url=url, patience=patience
        )
    for fault in [*outcome.lost, *outcome.duplicates]:
        _say(f"  {fault}")
    _say(f"  {json.dumps(outcome.to_json())}")
    return outcome


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(drill)
