"""
The frontier of quality against leakage: many settings measured in a row, and shown.

    for one in measure_all(sweep, settings(study, "name-dob-sex"), Path("sweep.jsonl")): ...
    print(table(measured)); Path("frontier.svg").write_text(plot(measured, size=20_000))

`sweep_study` does all of it for every CLK of a study, as `linkage attack --sweep` shows it.
`measure_all` keeps what it measured in a file of JSON lines and goes on where it was stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.sweep import FORETOLD, LOST, Measured, Setting, Sweep, simulated_sides
from linkage.study import StudyConfig, expected_density

SWEPT = (8, 10, 12, 14, 16, 18, 20)
MOST_FOUND = 0.01
"""What a release gate allows, drawn as a line."""
LEAST_FOUND = 1e-4
"""Where the axis of the plot begins; less is drawn there."""
_COLOURS = ("#1b6ca8", "#c4501b", "#2e7d4f", "#8e44ad", "#b8860b", "#555555", "#c2185b", "#00838f")
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 620.0, 46.0, 400.0

Progress = Callable[[int, int], None]


def settings(
    study: StudyConfig,
    clk_id: str,
    *,
    lengths: Iterable[int] = (1024, 2048, 4096),
    scales: Iterable[float] = (0.5, 1.0, 2.0),
    depths: Iterable[int] = (6, 8, 10, 12, 14, 16),
    density: tuple[float, float] = (0.10, 0.55),
) -> list[Setting]:
    """
    Return the grid of settings of one CLK that a study file may have; t changes fastest.

    density: the least and the most, inclusive; a field has 20 to 400 bits (linkage.study).
    """
    grid = product(lengths, scales, depths)
    made = [Setting(clk_id, length, t, scale) for length, scale, t in grid]
    low, high = density
    specs = [(one, one.spec(study)) for one in made]
    return [
        one
        for one, clk in specs
        if low <= expected_density(clk) <= high and all(20 <= f.bits <= 400 for f in clk.fields)
    ]


def measure_all(
    sweep: Sweep,
    wanted: Sequence[Setting],
    record: Path | None = None,
    *,
    whole: Callable[[Setting], bool] = lambda setting: False,
    progress: Progress | None = None,
) -> Iterator[Measured]:
    """
    Measure the settings in order. What `record` (JSON lines) holds already is not measured again.

    whole: for which settings the whole program runs, too. A broken last line, as a killed run
    leaves it, is dropped. Raises LinkageError where the file is of other people or another seed.
    """
    tell = progress or (lambda done, total: None)
    done = {} if record is None else read_record(record, sweep.run)
    for number, setting in enumerate(wanted):
        tell(number, len(wanted))
        known = done.get(setting)
        if known is None or (known.linked_f1 is None and whole(setting)):
            known = sweep.measure(setting, whole=whole(setting))
            if record is not None:
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"run": sweep.run, **known.as_json()}) + "\n")
        yield known
    tell(len(wanted), len(wanted))


def sweep_study(
    study: StudyConfig,
    crowd: Crowd,
    whom: str,
    *,
    n: int,
    seed: int,
    lengths: Sequence[int] = (1024, 2048, 4096),
    depths: Sequence[int] = SWEPT,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Measured]]:
    """
    Measure a grid of settings for every CLK that two parties compute; by CLK id.

    Leakage is that of the crowd, `whom` in words. Quality is that of `n` simulated people a side,
    for nobody knows who is who in real files. out: a folder for `sweep-<clk>.jsonl`, with which a
    stopped sweep goes on, and `frontier-<clk>.svg`. Raises LinkageError where no CLK can be swept.
    """
    tell = progress or (lambda done, total: None)
    grids = {
        clk.id: settings(study, clk.id, lengths=lengths, depths=depths)
        for clk in study.clk
        if sum(clk in study.clks_of(party) for party in study.party) > 1
    }
    if not grids:
        raise LinkageError("no CLK is computed by two parties", hint="check the parties' fields")
    total, done = sum(map(len, grids.values())), 0
    made: dict[str, list[Measured]] = {}
    for clk, grid in grids.items():
        sides = simulated_sides(study, clk, n=n, seed=seed)
        sweep = Sweep(study, sides, crowd, whom=whom, sizes=(len(crowd),), seed=seed)
        record = None if out is None else out / f"sweep-{clk}.jsonl"
        made[clk] = []
        for one in measure_all(sweep, grid, record):
            made[clk].append(one)
            done += 1
            tell(done, total)
        if out is not None:
            path = out / f"frontier-{clk}.svg"
            title = f"{study.study.id}: {clk}"
            now = next(one for one in study.clk if one.id == clk)
            default = Setting(clk, now.length, study.diffusion_of(now))
            drawn = plot(made[clk], size=FORETOLD[0], default=default, title=title)
            path.write_text(drawn, encoding="utf-8")
    return made


def read_record(record: Path, run: Mapping[str, Any] | None = None) -> dict[Setting, Measured]:
    """Read what `measure_all` kept; with `run`, all of it must be of that run."""
    if not record.exists():
        return {}
    lines = record.read_text(encoding="utf-8").split("\n")
    if lines[-1]:  # killed while writing: what comes next starts a line of its own
        record.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
    found: dict[Setting, Measured] = {}
    for line in lines[:-1]:
        plain = json.loads(line)
        if run not in (None, plain.pop("run")):
            raise LinkageError(
                f"{record.name} holds a sweep of another study or other people",
                hint="name another file, or delete it",
            )
        one = Measured.from_json(plain)
        found[one.setting] = one
    return found


def best(measured: Iterable[Measured], *, size: int, most: float = MOST_FOUND) -> Measured | None:
    """
    Return the setting of the best CLK of those with at most `most` found at `size` people.

    By `clk_f1`; on a tie the smaller t. None if none passes.
    """
    passing = [one for one in measured if share_at(one, size) <= most]
    return max(passing, key=lambda one: (one.clk_f1, -one.setting.diffusion), default=None)


def advice(measured: Sequence[Measured]) -> Iterator[str]:
    """Yield, for each size known, the setting of the best CLK that the gate lets pass."""
    for size in sorted({n for one in measured for n in (*one.found, *one.foretold)}):
        one = best(measured, size=size)
        if one is None:
            yield f"- {size:,} people: none of these passes"
            continue
        clk = one.setting
        yield (
            f"- {size:,} people: {clk.length} bits, density {one.density:.2f}, t = {clk.diffusion}:"
            f" F1 of the CLK alone {one.clk_f1:.4f}, {share_at(one, size):.2%} found"
        )


def share_at(one: Measured, size: int) -> float:
    """
    Return the share found at `size` people, measured or foretold; at the next larger size known.

    Past a size at which most is lost, that share: at least as much is found. Raises LinkageError
    beyond the largest size.
    """
    shares = dict(one.found)
    for n, share in one.foretold.items():
        # One round is measured; what is foretold takes sure guesses for known, and may find more.
        shares[n] = max(share, shares.get(n, 0.0))
    largest = max(shares)
    if size > largest and shares[largest] <= LOST:
        raise LinkageError(
            f"nothing is known of {size:,} people", hint=f"at most {largest:,} were reckoned"
        )
    return shares[min((n for n in shares if n >= size), default=largest)]


def table(measured: Sequence[Measured]) -> str:
    """Return the settings as a table in Markdown, in the order given. Foretold shares have a ~."""
    sizes = sorted({n for one in measured for n in (*one.found, *one.foretold)})
    head = ["bits", "density", "t", "fields", "correlation, two keys", "with what is expected"]
    head += [f"found of {n:,}" for n in sizes]
    head += ["F1, CLK alone", "F1, program", "precision (said)", "recall (said)"]
    rows = [head, ["---"] * len(head)]
    for one in measured:
        setting = one.setting
        row = [str(setting.length), f"{one.density:.2f}", str(setting.diffusion), setting.fields]
        row += [f"{one.correlation:.3f}", f"{one.attacker_correlation:.3f}"]
        row += [_share(one, n) for n in sizes]
        row += [f"{one.clk_f1:.4f}", "" if one.linked_f1 is None else f"{one.linked_f1:.4f}"]
        row += [
            f"{one.linked_precision:.4f} ({one.said_precision:.4f})" if one.linked_f1 else "",
            f"{one.linked_recall:.4f} ({one.said_recall:.4f})" if one.linked_f1 else "",
        ]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _share(one: Measured, size: int) -> str:
    if size in one.found:
        return f"{one.found[size]:.1%}"
    return f"~{one.foretold[size]:.2%}" if size in one.foretold else "more"


def plot(
    measured: Sequence[Measured], *, size: int, default: Setting | None = None, title: str = ""
) -> str:
    """
    Return an SVG: across, share found at `size` people (logarithmic); up, F1 of the CLK alone.

    One line for each length, density and choice of fields, t written at its points; `default` is
    ringed. No script and no outside address.
    """
    lines: dict[Setting, list[Measured]] = {}
    for one in measured:
        lines.setdefault(replace(one.setting, diffusion=0), []).append(one)
    worst = min((one.clk_f1 for one in measured), default=0.9)
    floor = math.floor(worst * 100) / 100
    parts = [_frame(floor, size, title)]
    for number, (family, ones) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        dashes = "" if number < len(_COLOURS) else ' stroke-dasharray="5 3"'
        ones = sorted(ones, key=lambda one: one.setting.diffusion)
        places = [(_across(share_at(one, size)), _up(one.clk_f1, floor)) for one in ones]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"{dashes}/>')
        for one, (x, y) in zip(ones, places, strict=True):
            t = one.setting.diffusion
            said = f"{_named(family, one)}, t = {t}: {share_at(one, size):.2%}, F1 {one.clk_f1:.4f}"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">'
                f"<title>{escape(said)}</title></circle>"
                f'<text x="{x + 4:.1f}" y="{y - 4:.1f}" fill="{colour}" font-size="10">{t}</text>'
            )
            if one.setting == default:
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="#000" '
                    'stroke-width="2"><title>the default</title></circle>'
                )
        y = _TOP + 16 * number
        parts.append(
            f'<line x1="640" y1="{y}" x2="662" y2="{y}" stroke="{colour}" '
            f'stroke-width="2"{dashes}/>'
            f'<text x="668" y="{y + 4}" font-size="11">{escape(_named(family, ones[0]))}</text>'
        )
    parts.append("</svg>\n")
    return "\n".join(parts)


def _named(family: Setting, one: Measured) -> str:
    return f"{family.length} bits, density {one.density:.2f} {family.fields}".strip()


def _frame(floor: float, size: int, title: str) -> str:
    """Return the opening of the SVG, its axes, and the line of what a release gate allows."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 450" role="img" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        '<rect width="900" height="450" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for power in range(round(math.log10(LEAST_FOUND)), 1):
        x, share = _across(10.0**power), 100 * 10.0**power
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_BOTTOM}" stroke="#ddd"/>'
            f'<text x="{x:.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{share:g} %</text>'
        )
    for step in range(6):
        f1 = floor + (1 - floor) * step / 5
        y = _up(f1, floor)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{f1:.3f}</text>'
        )
    x = _across(MOST_FOUND)
    parts.append(
        f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_BOTTOM}" stroke="#b00" '
        'stroke-dasharray="4 3"/>'
        f'<text x="{x + 4:.1f}" y="{_BOTTOM - 6}" fill="#b00">the gate allows</text>'
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 38}" text-anchor="middle">'
        f"named by an attacker who knows 5 % of {size:,} people; numbers at the points: t</text>"
        f'<text x="20" y="{(_TOP + _BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 20 {(_TOP + _BOTTOM) / 2})">F1 of the CLK alone</text>'
    )
    return "\n".join(parts)


def _across(share: float) -> float:
    low = math.log10(LEAST_FOUND)
    return _LEFT + (_RIGHT - _LEFT) * (math.log10(max(share, LEAST_FOUND)) - low) / -low


def _up(f1: float, floor: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (f1 - floor) / max(1 - floor, 1e-9)
