"""
A scored linkage as one HTML page with plots.

    text = page(scored, command="linkage evaluate ids truth.csv")

No script, no outside address, no record: it prints as it shows, and can be sent as one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from linkage.evaluation.charts import Axis, bars, floor_of, polyline
from linkage.evaluation.quality import PairQuality, Reliability
from linkage.evaluation.quality_fields import DIFFERS, MISSING, SAME, lacking
from linkage.evaluation.scored import Curve, Scored

_PANELS = ((190.0, 350.0), (370.0, 530.0), (550.0, 710.0))
_UNIT = Axis(0, 1, 62.0, 402.0)
_UP = Axis(0, 1, 350.0, 10.0)
_RATES = ("precision", "recall", "F1")


def page(scored: Scored, *, command: str) -> str:
    """Return the report. command: how it was made, for whoever wants to repeat it."""
    environment = Environment(
        loader=PackageLoader("linkage.evaluation"), autoescape=True, undefined=StrictUndefined
    )
    quality = scored.quality
    named = [(f"{pair.left} - {pair.right}", pair) for pair in quality.pairs]
    if len(named) > 1:
        named.append(("all", quality.overall))
    groups = [
        (f"{group.column.replace('_', ' ')}: {group.value}", group.overall)
        for group in scored.groups
    ]
    first = next(iter(scored.curves), None)
    return environment.get_template("quality.html.j2").render(
        command=command,
        notes=scored.notes,
        records=", ".join(f"{party} {count:,}" for party, count in quality.records.items()),
        tiles=_tiles(quality.overall),
        pairs=[((name, ""), *_cells(pair)) for name, pair in named],
        forest=_forest(named),
        groups=[
            ((name, ""), (f"{group.people:,}", ""), *_cells(group.overall))
            for (name, _), group in zip(groups, scored.groups, strict=True)
        ],
        group_forest=_forest(groups),
        threshold=scored.threshold,
        curve=_curve(scored.curves[first], scored.threshold) if first else None,
        reliability=_reliability(scored.calibration[first]) if first else None,
        calibration=[
            (
                name,
                f"{sum(part.pairs for part in one.bins):,}",
                f"{one.error:.4f}",
                f"{one.brier:.4f}",
                f"{scored.curves[name].best.threshold:.3f}",
                f"{scored.curves[name].best.f1:.4f}",
            )
            for name, one in scored.calibration.items()
        ],
        false_links=bars(list(scored.false.items()), width=430),
        fields=[
            (
                f"{one.left} - {one.right}",
                [
                    (
                        field.replace("_", " "),
                        *(states[state] for state in (DIFFERS, MISSING, SAME)),
                        *(one.false[field][state] for state in (SAME, DIFFERS, MISSING)),
                    )
                    for field, states in one.missed.items()
                ],
                lacking(one),
            )
            for one in scored.fields
        ],
        missed_links=bars(list(scored.missed.items()), width=430),
    )


def _tiles(whole: PairQuality) -> list[dict[str, str]]:
    tiles = [
        (f"{whole.precision:.4f}", "precision"),
        (f"{whole.recall:.4f}", "recall"),
        (f"{whole.f1:.4f}", "F1"),
        (f"{whole.found:,}", "pairs found"),
        (f"{whole.true:,}", "true pairs"),
        (f"{whole.false:,}", "false"),
        (f"{whole.missed:,}", "missed"),
    ]
    return [{"value": value, "label": label} for value, label in tiles]


def _rates(pair: PairQuality) -> Sequence[tuple[float, tuple[float, float]]]:
    return (
        (pair.precision, pair.precision_interval),
        (pair.recall, pair.recall_interval),
        (pair.f1, pair.f1_interval),
    )


def _cells(pair: PairQuality) -> list[tuple[str, str]]:
    """Return what each cell says, large and small."""
    rates = [(f"{rate:.4f}", f"{low:.3f}-{high:.3f}") for rate, (low, high) in _rates(pair)]
    return [*rates, *((f"{n:,}", "") for n in (pair.found, pair.true, pair.false, pair.missed))]


def _forest(named: Sequence[tuple[str, PairQuality]]) -> dict[str, Any]:
    """Return one row a name and one panel a rate, all on one scale: the rate and its interval."""
    # An interval of a handful of pairs reaches far down; it is cut off rather than squeeze others.
    low, ticks = floor_of([rate for _, pair in named for rate, _ in _rates(pair)])
    panels = [Axis(low, 1.0, *ends) for ends in _PANELS]
    rows = [
        {
            "y": 40 + 24 * i,
            "name": name,
            "dots": [
                {"x": axis.at(rate), "from": axis.at(ends[0]), "to": axis.at(ends[1])}
                for axis, (rate, ends) in zip(panels, _rates(pair), strict=True)
            ],
        }
        for i, (name, pair) in enumerate(named)
    ]
    return {
        "rows": rows,
        "height": 50 + 24 * len(rows) + 20,
        "panels": [
            {"name": name, "x": axis.start, "ticks": axis.ticks(ticks)}
            for name, axis in zip(_RATES, panels, strict=True)
        ],
    }


def _curve(curve: Curve, threshold: float | None) -> dict[str, Any]:
    x = Axis(0, 1, 62.0, 704.0)
    rates = [
        [getattr(point, name) for point in curve.points] for name in ("precision", "recall", "f1")
    ]
    # The ends, where nothing or everything links, may fall as they like.
    low, ticks = floor_of([rate for some in rates for rate in some[5:96]])
    y = Axis(low, 1.0, 250.0, 14.0)
    at = [point.threshold for point in curve.points]
    return {
        "lines": [
            {"points": polyline(zip(at, some, strict=True), x, y), "name": name, "colour": i}
            for i, (name, some) in enumerate(zip(_RATES, rates, strict=True))
        ],
        "x": x.ticks([k / 10 for k in range(11)]),
        "y": y.ticks(ticks),
        "threshold": None if threshold is None else x.at(threshold),
        "best": {
            "x": x.at(curve.best.threshold),
            "y": y.at(curve.best.f1),
            "text": f"best F1 with hindsight {curve.best.f1:.4f} at {curve.best.threshold:.3f}",
        },
    }


def _reliability(found: Reliability) -> dict[str, Any]:
    most = max(part.pairs for part in found.bins)
    counts = Axis(1, max(most, 10), 0.0, 60.0, logarithmic=True)
    return {
        "bins": [
            {
                "x": _UNIT.at(part.said),
                "y": _UP.at(part.true),
                "from": _UP.at(part.true_95[0]),
                "to": _UP.at(part.true_95[1]),
                "left": _UNIT.at(part.low) + 1,
                "width": round(_UNIT.at(part.high) - _UNIT.at(part.low) - 2, 1),
                "height": max(counts.at(part.pairs), 1.5),
                "text": f"{part.pairs:,}",
                "title": f"{part.pairs:,} pairs: said {part.said:.3f}, true {part.true:.3f}",
            }
            for part in found.bins
        ],
        "x": _UNIT.ticks([k / 5 for k in range(6)]),
        "y": _UP.ticks([k / 5 for k in range(6)]),
    }
