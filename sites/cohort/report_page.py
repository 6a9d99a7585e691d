"""
A cohort report as one page: no script, nothing fetched, light and dark, fit to print.

Its colours and type are those of the other reports (linkage/evaluation/templates/style.css.j2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from linkage.evaluation.charts import Axis
from sites.cohort.disclosure import Shown
from sites.cohort.report_flow import flow

_PLOT_ROW, _PLOT_TOP = 34, 30
_LABELS = 150


def page(template: str, **content: Any) -> str:
    """Return a template of this folder, filled; texts are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("sites.cohort"), jinja2.PackageLoader("linkage.evaluation")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": readable_count, "percent": percent}
    return environment.get_template(template).render(**content)


def html_of(report: Mapping[str, Any]) -> str:
    """Return what report.json holds as one page."""
    steps = report["attrition"]["enclave"]
    return page(
        "report.html.j2",
        report=report,
        persons_flow=flow(steps, report["lost_links"], "persons"),
        missing=[name for name in ("sex", "age", "race", "ethnicity") if not report[name]],
        distances=_distances(report["representativeness"]["variables"]),
    )


def _distances(variables: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the geometry of the plot of distances, one row a variable that could be compared."""
    found = [one for one in variables if "distance" in one]
    if not found:
        return None
    most = max(max(one["high"], one["chance"]) for one in found)
    top = next((t for t in (0.1, 0.2, 0.4, 0.6, 0.8) if most <= t), 1.0)
    axis = Axis(0, top, _LABELS, 700)
    rows = [
        {
            "name": one["name"],
            "y": _PLOT_TOP + _PLOT_ROW * n + 12,
            "dot": axis.at(one["distance"]),
            "from": axis.at(one["low"]),
            "to": axis.at(one["high"]),
            "chance": axis.at(one["chance"]),
            "title": f"{one['name']}: {one['distance']:.3f}, 95 % interval {one['low']:.3f} to "
            f"{one['high']:.3f}; by chance up to {one['chance']:.3f}",
        }
        for n, one in enumerate(found)
    ]
    return {
        "rows": rows,
        "ticks": axis.ticks([round(top * k / 4, 3) for k in range(5)]),
        "height": _PLOT_TOP + _PLOT_ROW * len(rows) + 8,
        "left": _LABELS,
        "told": " ".join(f"{row['title']}." for row in rows),
    }


def readable_count(count: Shown | None) -> str:
    """Return a count as people read it; a dash where there is none."""
    return "–" if count is None else f"{count:,}" if isinstance(count, int) else count  # noqa: RUF001


def percent(share: float | str | None) -> str:
    """Return a share in [0, 1] in percent; what stands for a hidden one as it is."""
    if share is None:
        return "–"  # noqa: RUF001
    return share if isinstance(share, str) else f"{100 * share:.1f} %"
