"""
Who is unique by the structure of match keys, at size: the table of docs/threat-model.md.

    python tests/benchmarks/bench_structure.py [STUDY.toml] [--people 10000,300000,1000000]
        [--seed 1] [--without RULE,RULE] [--unlimited] [--leave-one-out] [--json OUT.json]

For every two of the study's parties together and for all of them: the share of records that colour
refinement tells from all others, with nulls to be seen, with null keys filled, and with null CLKs
filled too; what of it is left to an attacker with a list without the datasets' mistakes; and the
share of people in both datasets whose records have a key in common. 10,000 people take seconds, a
million about five minutes and 2 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from linkage.evaluation.attacks.registers import persons_of, simulated_registers
from linkage.evaluation.attacks.structure import (
    named_by_structure,
    repeated_keys,
    unique_by_structure,
)
from linkage.records import EncodedRecords
from linkage.study import load_study

SHIPPED = Path(__file__).parents[2] / "configs" / "three-commons" / "study.toml"
GUARDS = (("nulls seen", False, False), ("keys filled", True, False), ("all filled", True, True))

Row = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("study", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--people", default="10000,300000,1000000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", default="", help="rules left out")
    parser.add_argument("--unlimited", action="store_true", help="also with repeated keys kept")
    parser.add_argument("--leave-one-out", action="store_true", help="also without each rule")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    study = load_study(asked.study)
    dropped = set(filter(None, asked.without.split(",")))
    rules = [rule.id for rule in study.match_key if rule.id not in dropped]
    rows: list[Row] = []
    print(
        f"{study.study.id}, {len(rows or rules)} rules, seed {asked.seed}; shares of records in %"
    )
    print(f"{'records':>9} {'keys':22} {'datasets':24} " + _heads())
    for people in map(int, asked.people.split(",")):
        print(f"{people:,} people")
        sent, listed = (
            simulated_registers(study, people, seed=asked.seed, listed=clean)
            for clean in (False, True)
        )
        rows += _table(sent, listed, rules, note="r = 1")
        if asked.leave_one_out:
            for rule in rules:
                kept = [one for one in rules if one != rule]
                rows += _table(sent, listed, kept, note=f"- {rule}")
        if asked.unlimited:
            sent, listed = (
                simulated_registers(study, people, seed=asked.seed, nulled=False, listed=clean)
                for clean in (False, True)
            )
            rows += _table(sent, listed, rules, note="unlimited")
        for row in rows:
            row.setdefault("people", people)
        print(
            f"{'':9} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at most"
        )
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


def _heads() -> str:
    heads = [*(name for name, _, _ in GUARDS), "by a list", "filled", "reach", "seconds"]
    return " ".join(f"{head:>11}" for head in heads)


def _table(
    sent: dict[str, EncodedRecords],
    listed: dict[str, EncodedRecords],
    rules: Sequence[str],
    *,
    note: str,
) -> list[Row]:
    begun = time.perf_counter()
    rows = []
    for size in range(2, len(sent) + 1) if len(sent) > 2 else (2,):
        if 2 < size < len(sent):
            continue
        for names in combinations(sent, size):
            seen = [sent[name] for name in names]
            guess = [listed[name] for name in names]
            who = np.concatenate([persons_of(one) for one in seen])
            row: Row = {"keys": note, "rules": list(rules), "datasets": list(names)}
            shares = []
            for name, keys, clks in GUARDS:
                found = unique_by_structure(seen, rules=rules, fillers=keys, clk_fillers=clks)
                row[name] = found.as_json()
                shares.append(found.share)
            for name, keys in (("by a list", False), ("by a list, all filled", True)):
                named = named_by_structure(
                    seen, guess, (who, who), rules=rules, fillers=keys, clk_fillers=keys
                )
                row[name] = named.as_json()
                shares.append(named.share)
            row["reach"] = reach = _reach(seen[0], seen[1], rules) if size == 2 else None
            row["repeated"] = _repeated(seen, rules)
            rows.append(row)
            label = "+".join(names) if size < 3 else f"all {size}"
            said = " ".join(f"{share:11.3%}" for share in shares)
            tail = f"{'':11}" if reach is None else f"{reach:11.4f}"
            spent = time.perf_counter() - begun
            print(f"{len(who):9,} {note:22} {label:24} {said} {tail} {spent:11.0f}", flush=True)
    return rows


def _reach(one: EncodedRecords, other: EncodedRecords, rules: Sequence[str]) -> float:
    """Return the share of people in both datasets whose records have a key in common."""
    _, i, j = np.intersect1d(persons_of(one), persons_of(other), return_indices=True)
    agree = np.zeros(len(i), bool)
    for rule in set(rules) & set(one.match_keys) & set(other.match_keys):
        a, b = one.match_keys[rule], other.match_keys[rule]
        agree |= a.present[i] & b.present[j] & (a.values[i] == b.values[j]).all(axis=1)
    return float(agree.mean())


def _repeated(datasets: Sequence[EncodedRecords], rules: Sequence[str]) -> dict[str, object]:
    """Return what counting keys inside one dataset shows, summed over datasets and rules."""
    found = [
        repeated_keys(one.match_keys[rule], one.groups)
        for one in datasets
        for rule in rules
        if rule in one.match_keys
    ]
    return {
        "records": sum(one.records for one in found),
        "most": max((one.most for one in found), default=0),
        "named": sum(one.named for one in found),
    }


if __name__ == "__main__":
    main()
