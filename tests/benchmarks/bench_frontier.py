"""
Quality against leakage of a CLK's parameters: what docs/parameters.md shows.

    python -m tests.benchmarks.bench_frontier --out DIR [--data name-dob-sex ...] [--n 10000]
    python -m tests.benchmarks.bench_frontier --out DIR --report    # only tables and plots

Three sets of fields of `configs/three-commons/study.toml`, each on simulated people who were
registered by the desks of its two parties, and variants with other fields or bits. Measures into
DIR/<data>.jsonl and goes on where it was stopped; then writes tables and plots. About ten minutes
a set of fields on two quiet cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from linkage.evaluation.attacks.crowds import simulated
from linkage.evaluation.frontier import advice, measure_all, plot, read_record, table
from linkage.evaluation.sweep import (
    FORETOLD,
    SIZES,
    Setting,
    Sweep,
    common_fields,
    simulated_sides,
)
from linkage.study import StudyConfig, load_study

STUDY = Path(__file__).resolve().parents[2] / "configs" / "three-commons" / "study.toml"
CONTACT = ("zip", "phone", "email")

GRID: dict[tuple[int, float], tuple[int, ...]] = {
    (2048, 1.0): (5, 6, 8, 10, 12, 14, 16, 18, 20),
    (4096, 2.0): (12, 14, 16, 20),
    (2048, 2.0): (6, 8, 10, 12),
    (1024, 1.0): (6, 8, 10),
    (1024, 0.5): (8, 10, 12),
    (2048, 2.8): (5, 6, 8),
    (2048, 1.5): (10, 12, 14),
    (4096, 2.8): (10, 12, 14),
}
"""Depths by length and factor on every field's bits."""

LINKED = {(2048, 1.0): (8, 10, 12, 14, 16, 18, 20), (4096, 2.0): (14, 16), (2048, 2.0): (8, 10)}
"""Where the whole program runs, too."""

VARIANTS: dict[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = {
    "name-dob-sex": (
        (("sex",), ()),
        (("first_name",), ("first_name=160",)),
        (("date_of_birth",), ("date_of_birth=100",)),
        ((), ("zip=100",)),
    ),
    "name-street": (
        (("first_name",), ("first_name=160",)),
        (("street",), ("street=100",)),
        ((), ("phone=100",)),
        ((), ("phone=100", "email=100")),
    ),
    "name-ssn": ((("ssn",), ("ssn=200",)), (("ssn",), ("ssn=100",))),
}
"""Fields left out and put in, each at 2,048 bits and the depths of VARIED."""
VARIED = (14, 16)


def extended(study: StudyConfig) -> StudyConfig:
    """Return the study with zip, telephone and e-mail held by every party."""
    parties = [
        party.model_copy(update={"fields": (*party.fields, *CONTACT)}) for party in study.party
    ]
    return study.model_copy(update={"party": tuple(parties)})


def wanted(data: str) -> tuple[list[Setting], list[Setting]]:
    """Return the grid and the variants of one set of fields."""
    grid = [
        Setting(data, length, t, scale) for (length, scale), depths in GRID.items() for t in depths
    ]
    variants = [
        Setting(data, 2048, t, 1.0, without, added)
        for without, added in VARIANTS[data]
        for t in VARIED
    ]
    return grid, variants


def is_linked(setting: Setting) -> bool:
    if setting.fields:
        return setting.diffusion == VARIED[-1]
    return setting.diffusion in LINKED.get((setting.length, setting.scale), ())


def run(data: str, out: Path, n: int) -> None:
    """Measure one set of fields, its grid and its variants."""
    grid, variants = wanted(data)
    base = load_study(STUDY)
    for study, some, name in (
        (base, grid, data),
        (base, [one for one in variants if not _contact(one)], data),
        (extended(base), [one for one in variants if _contact(one)], f"{data}-contact"),
    ):
        if not some:
            continue
        clk = next(one for one in study.clk if one.id == data)
        crowd = simulated(max(SIZES), seed=1, fields=common_fields(study, clk))
        sweep = Sweep(study, simulated_sides(study, data, n=n), crowd)
        for number, one in enumerate(
            measure_all(sweep, some, out / f"{name}.jsonl", whole=is_linked), start=1
        ):
            s = one.setting
            print(
                f"{name} {number}/{len(some)}: {s.length} x{s.scale:g} t={s.diffusion} {s.fields}"
                f" found {one.found} F1 {one.clk_f1:.4f} {one.linked_f1}",
                file=sys.stderr,
                flush=True,
            )


def _contact(setting: Setting) -> bool:
    return any(text.partition("=")[0] in CONTACT for text in setting.added)


def report(data: str, out: Path, default: int) -> Iterator[str]:
    """Write the plots of one set of fields; yield its tables."""
    found = read_record(out / f"{data}.jsonl")
    grid = [one for one in found.values() if not one.setting.fields]
    variants = [one for one in found.values() if one.setting.fields]
    variants += read_record(out / f"{data}-contact.jsonl").values()
    marked = Setting(data, 2048, default, 1.0)
    for size in FORETOLD[:1]:
        path = out / f"frontier-{data}-{size // 1000}k.svg"
        path.write_text(plot(grid, size=size, default=marked, title=data), encoding="utf-8")
    yield f"### {data}\n"
    yield table(grid)
    yield f"\n#### {data}: other fields, other bits\n"
    yield table(variants)
    yield "\nBest CLK that the gate lets pass, by declared size:\n"
    yield from advice(grid)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--default", type=int, default=18, help="The depth that the plots mark.")
    parser.add_argument("--report", action="store_true", help="Measure nothing.")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    for data in asked.data:
        if not asked.report:
            run(data, asked.out, asked.n)
        print("\n".join(report(data, asked.out, asked.default)))


if __name__ == "__main__":
    main()
