"""
The privacy report of a study: what the release gate measured, as one HTML page for its readers.

    text = page(run, certificate, command="linkage attack study.toml")

No script, no outside address: it prints as it shows, and can be sent as one file. It holds figures
of encodings and no value of anybody. The verdict is that of linkage.certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from linkage.certificate import (
    MOST_CORRELATION,
    MOST_REIDENTIFIED,
    MOST_UNIQUE,
    PLAIN_AT_LEAST,
    GateCertificate,
)
from linkage.evaluation.charts import Axis, polyline
from linkage.evaluation.gate import GateRun
from linkage.evaluation.gate_evidence import SIZES, Measured
from linkage.evaluation.prediction import MOST_PEOPLE
from linkage.study import StudyConfig

_PEOPLE = Axis(SIZES[0], SIZES[-1], 62.0, 704.0, logarithmic=True)
_SHARES = Axis(1e-4, 1.0, 250.0, 14.0, logarithmic=True)
_COLOURS = 8


def page(run: GateRun, certificate: GateCertificate, *, command: str) -> str:
    """Return the report. command: how it was measured, for whoever wants to repeat it."""
    environment = Environment(
        loader=PackageLoader("linkage.evaluation"), autoescape=True, undefined=StrictUndefined
    )
    study = run.study
    return environment.get_template("gate.html.j2").render(
        study=study.study,
        certificate=certificate,
        reasons=[_pieces(reason) for reason in certificate.reasons(study)],
        command=command,
        tiles=_tiles(run),
        sees=list(_sees(study)),
        plot=_plot(run),
        bars=_correlations(run),
        pairs=_plain_and_hardened(run),
        figures=[_row(run, one) for one in run.evidence],
        structure=run.structure,
        combined=run.combined,
        fits=[
            (one.figures.evidence, fit.people, _percent(fit.predicted), _percent(fit.found))
            for one in run.evidence
            for fit in one.fit
        ],
        limits={
            "correlation": f"{MOST_CORRELATION:g}",
            "reidentified": _percent(MOST_REIDENTIFIED),
            "unique": _percent(MOST_UNIQUE),
            "plain": _percent(PLAIN_AT_LEAST),
        },
        run=run,
        percent=_percent,
    )


def _percent(share: float) -> str:
    """Return a share with two or three figures: 0.05 %, 1.2 %, 97 %."""
    hundred = 100 * share
    if 0 < hundred < 0.005:
        return "under 0.01 %"
    digits = 2 if hundred < 1 else 1 if hundred < 20 else 0
    return f"{hundred:.{digits}f}".rstrip("0").rstrip(".") + " %" if digits else f"{hundred:.0f} %"


def _pieces(reason: str) -> list[tuple[str, bool]]:
    """Return the pieces of a reason; True: a command, which it has between backticks."""
    return [(piece, i % 2 == 1) for i, piece in enumerate(reason.split("`"))]


def _tiles(run: GateRun) -> list[dict[str, str]]:
    worst = max(run.evidence, key=lambda one: one.worst)
    correlated = max(run.evidence, key=lambda one: one.figures.correlation)
    tiles = [
        (f"{run.records:,}" if run.records else "none", "records declared"),
        (_percent(run.plain_reidentified), "found without diffusion"),
        (_percent(worst.worst), f"found with it, of {run.n:,}"),
    ]
    if run.records:
        most = max(one.figures.predicted_seeded for one in run.evidence)
        tiles.append((_percent(most), "foretold at that size"))
    tiles += [
        (f"{correlated.figures.correlation:.3f}", "correlation, the worst"),
        (_percent(run.combined.share), "found by all evidence together"),
        (_percent(run.structure.share), "unique by match keys"),
    ]
    return [{"value": value, "label": label} for value, label in tiles]


def _sees(study: StudyConfig) -> Iterator[tuple[str, str, str, str]]:
    """Yield for each party: its name, the fields it holds, the CLKs and rules it sends."""
    for party in study.party:
        clks = ", ".join(
            f"{clk.id} (t = {study.diffusion_of(clk)})" for clk in study.clks_of(party)
        )
        fields = ", ".join(field.replace("_", " ") for field in party.fields)
        size = f"{party.records:,}" if party.records else "not declared"
        rules = len(study.rules_of(party))
        yield party.title or party.id, fields, f"{clks or 'no CLK'}; {rules} match keys", size


def _row(run: GateRun, one: Measured) -> list[str]:
    figures = one.figures
    holds = f"{figures.holds_up_to:,}" if figures.holds_up_to else "not here"
    if figures.holds_up_to >= MOST_PEOPLE:
        holds += " or more"
    return [
        _name(one),
        "" if figures.diffusion is None else str(figures.diffusion),
        f"{figures.correlation:.3f}",
        f"{figures.attacker_correlation:.3f}",
        _percent(figures.seeded),
        _percent(one.blind.share),
        _percent(figures.predicted_seeded) if run.records else "-",
        holds,
    ]


def _name(one: Measured) -> str:
    kind, _, name = one.figures.evidence.partition(":")
    return name if kind == "clk" else f"all of {name}"


def _plot(run: GateRun) -> dict[str, Any]:
    """Return lines of the share foretold by number of people; both axes are logarithmic."""
    lines = []
    for i, one in enumerate(run.evidence):
        lines.append(
            {
                "points": polyline(one.curve, _PEOPLE, _SHARES),
                "colour": i % _COLOURS,
                "dashed": one.figures.evidence.startswith("party:"),
                "name": _name(one),
                "dot": {"x": _PEOPLE.at(one.people), "y": _SHARES.at(one.figures.seeded)},
                "title": f"{_name(one)}: {_percent(one.figures.seeded)} found of {one.people:,}",
            }
        )
    powers = range(round(math.log10(SIZES[0])), round(math.log10(SIZES[-1])) + 1)
    shares = [10**k for k in range(-4, 1)]
    return {
        "lines": lines,
        "people": [{"at": _PEOPLE.at(10**k), "text": _short(10**k)} for k in powers],
        "shares": [{"at": _SHARES.at(s), "text": f"{100 * s:g} %"} for s in shares],
        "limit": _SHARES.at(MOST_REIDENTIFIED),
        "declared": _PEOPLE.at(run.records) if run.records else None,
        "declared_text": f"{run.records:,} declared",
        "flip": bool(run.records) and _PEOPLE.at(run.records) > 560,
    }


def _short(number: int) -> str:
    return f"{number // 10**6} M" if number >= 10**6 else f"{number:,}"


def _correlations(run: GateRun) -> dict[str, Any]:
    """Return two bars a piece of evidence, on one scale with the limit."""
    most = max(
        1.2 * MOST_CORRELATION,
        *(max(one.figures.correlation, one.figures.attacker_correlation) for one in run.evidence),
    )

    def width(value: float) -> float:
        return round(430 * max(value, 0) / most, 1)

    rows = [
        {
            "y": 34 + 46 * i,
            "name": _name(one),
            "two_keys": width(one.figures.correlation),
            "two_keys_text": f"{one.figures.correlation:.3f}",
            "attacker": width(one.figures.attacker_correlation),
            "attacker_text": f"{one.figures.attacker_correlation:.3f}",
        }
        for i, one in enumerate(run.evidence)
    ]
    return {
        "rows": rows,
        "limit": round(200 + width(MOST_CORRELATION), 1),
        "height": 46 + 46 * len(rows),
    }


def _plain_and_hardened(run: GateRun) -> dict[str, Any]:
    """Return for each CLK the shares found without diffusion and with it, as bars."""
    hardened = {one.figures.evidence: one.worst for one in run.evidence}
    rows = []
    for i, (clk, found) in enumerate(run.plain):
        with_it = hardened[f"clk:{clk}"]
        rows.append(
            {
                "y": 12 + 46 * i,
                "name": clk,
                "plain": round(430 * found.share, 1),
                "plain_text": _percent(found.share),
                "hardened": round(max(430 * with_it, 1), 1),
                "hardened_text": _percent(with_it),
            }
        )
    return {"rows": rows, "height": 20 + 46 * len(rows)}
