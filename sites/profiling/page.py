"""
The profile as files: one HTML page that needs nothing else, and the JSON.

    save_profile(report, folder)      # folder/profile.html, folder/profile.json

Both are readable by their owner only: they hold no record, but say much of a site's data.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from linkage.errors import SourceRefused
from linkage.whole_file import write_private
from sites.profiling import plots
from sites.profiling.report import NO_STUDY, ProfileReport
from sites.profiling.words import percent, records

PAGE, DATA = "profile.html", "profile.json"


def save_profile(report: ProfileReport, folder: Path) -> None:
    """Write the page and the JSON in place of earlier ones. Raises SourceRefused if it cannot."""
    try:
        write_private(folder / PAGE, page(report, dt.datetime.now(dt.UTC)).encode())
        data = json.dumps(report.as_json(), indent=1, ensure_ascii=False)
        write_private(folder / DATA, data.encode())
    except OSError as fault:
        raise SourceRefused(
            file="--out",
            rule=f"cannot be written ({type(fault).__name__})",
            hint="choose a folder of your own on a disk with space",
        ) from None


def page(report: ProfileReport, made_at: dt.datetime) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=PackageLoader("sites"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["share"] = percent
    dated = next((one.present for one in report.fields if one.field == "date_of_birth"), 0)
    return environment.get_template("profile.html.j2").render(
        report=report,
        tiles=_tiles(report),
        weight=report.findings[0].weight if report.findings else "fine",
        lost=plots.lost_by_field(report.fields, report.records),
        years=plots.birth_years(report.birth_years or ()),
        days=plots.days(report.days or (), dated),
        calendar=plots.calendar(report.days_of_year),
        subgroups=_subgroups(report),
        said=records(report.records),
        no_study="" if report.effect else NO_STUDY,
        made_at=made_at.strftime("%Y-%m-%d %H:%M UTC"),
        version=importlib.metadata.version("commons-linkage"),
    )


def _tiles(report: ProfileReport) -> list[dict[str, str]]:
    tiles = [(f"{report.records:,}", "records")]
    if report.effect:
        tiles += [
            (percent(one.linkable, report.records), f"can be compared with {one.party}")
            for one in report.effect.parties
            if one.clks or one.match_keys
        ]
        tiles.append((percent(report.effect.keys[2], report.records), "have three or more keys"))
    tiles.append((f"{report.copies:,}", "copies of an earlier record"))
    return [{"value": value, "label": label} for value, label in tiles]


def _subgroups(report: ProfileReport) -> list[dict[str, Any]]:
    if not report.effect:
        return []
    return [
        {"table": one, "plots": plots.subgroup(one, report.effect, report.records)}
        for one in report.effect.subgroups
    ]
