"""`linkage-site try-spec`: a specification on this site's own data, before anybody asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from sites.trying import TriedHalf


@told
def try_spec(
    spec: Annotated[Path, typer.Argument(help="The cohort specification (TOML or JSON).")],
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say how many of this site's own subjects meet its half, step by step. Nothing leaves."""
    from linkage.cohort.spec import load_spec
    from sites.config import load_site
    from sites.trying import minimum_of
    from sites.trying import try_spec as tried

    loaded, asked = load_site(site), load_spec(spec)
    if dry_run:
        would(
            "count this site's own subjects", {"specification": asked.cohort.title}, as_json=as_json
        )
        return
    minimum = minimum_of(loaded)
    halves = tried(asked, loaded, minimum=minimum)
    if not as_json:
        for half in halves:
            show(f"The {half.side} half, on this site's own data", _rows(half))
    data = {"minimum_cell": minimum} | {
        half.side: {"steps": half.steps, "notes": half.notes} for half in halves
    }
    show("For this site's eyes: two such tables can be subtracted", {}, as_json=as_json, data=data)


def _rows(half: TriedHalf) -> dict[str, object]:
    rows: dict[str, object] = {
        f"{n}. {label}": count for n, (label, count) in enumerate(half.steps, start=1)
    }
    return rows | {f"note {n}": note for n, note in enumerate(half.notes, start=1)}
