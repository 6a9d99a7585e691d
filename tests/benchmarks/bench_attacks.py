"""
What every attack finds: plain CLKs, which must fall, and diffused ones.

    python tests/benchmarks/bench_attacks.py [--quick] [--people 1000,2000,4000] [--json FILE]

Simulated people and the CLKs of configs/three-commons. "list" says what the attacker holds: clean,
the very same values; typos, the same people as another desk wrote them down. With an overlap below
1, dataset and list have people of their own besides. CPU seconds are those of the matching alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.encoding.keys import StudyKey
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.attacks.dictionary import dictionary_attack
from linkage.evaluation.attacks.frequency import frequency_attack, same_people
from linkage.evaluation.attacks.graph_matching import match_graphs, score
from linkage.evaluation.attacks.known_people import seeded_attack
from linkage.evaluation.attacks.known_plaintext import learned_attack, relations_attack
from linkage.evaluation.attacks.listed_tokens import listed_tokens
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.pattern_mining import pattern_attack
from linkage.evaluation.attacks.similarity import encoded, expected, observed
from linkage.study import ClkSpec, StudyConfig, load_study

ROOT = Path(__file__).parents[2]
DESKS = {"clean": "imaging", "typos": "enclave"}
KNOWN_SHARE = 0.05
Row = dict[str, Any]


def crowds(clk: ClkSpec, n: int, overlap: float, quality: str) -> tuple[Crowd, Crowd]:
    """Return a dataset and a list of n people each, of whom `overlap` are the same."""
    common = round(overlap * n)
    fields = [one.field.partition(":")[0] for one in clk.fields]
    total = 2 * n - common
    held = simulated(total, seed=1, fields=fields).rows(np.arange(n))
    listed = simulated(total, seed=1, fields=fields, registered=DESKS[quality])
    order = np.random.default_rng(1).permutation(np.arange(n - common, total))
    return held, listed.rows(order)


def truth_of(held: Crowd, listed: Crowd) -> npt.NDArray[np.int64]:
    """Return each record's place in the list, -1 where its person is not in it."""
    where = {int(person): row for row, person in enumerate(listed.person)}
    return np.array([where.get(int(person), -1) for person in held.person], np.int64)


def row(attack: str, found: Reidentified, seconds: float, **facts: Any) -> Row:
    """Return and print a line of the table."""
    made = {"attack": attack, **facts, **found.as_json(), "cpu_seconds": round(seconds, 1)}
    told = "  ".join(f"{name} {value}" for name, value in facts.items())
    print(f"{attack:15} {told:60} share {found.share:.4f}  cpu {seconds:6.1f} s", flush=True)
    return made


def plain(study: StudyConfig, sizes: Sequence[int], overlaps: Sequence[float]) -> Iterator[Row]:
    """Yield graph matching of plain CLKs without anybody known."""
    clk = study.clk[0].model_copy(update={"diffusion": 0})
    for n in sizes:
        for quality in DESKS:
            for overlap in overlaps:
                held, listed = crowds(clk, n, overlap, quality)
                seen = observed(encoded(study, clk, held, StudyKey.generate()))
                guessed = expected(study, clk, listed)
                begun = time.process_time()
                found = score(match_graphs(seen, guessed), truth_of(held, listed))
                facts = {"clk": clk.id, "t": 0, "n": n, "overlap": overlap, "list": quality}
                yield row("graph matching", found, time.process_time() - begun, **facts)


def hardened(
    study: StudyConfig, clks: Sequence[ClkSpec], n: int, depths: Sequence[int]
) -> Iterator[Row]:
    """Yield attacks on diffused CLKs with a clean list of the very same people."""
    for clk in clks:
        held, listed = crowds(clk, n, 1.0, "clean")
        truth = truth_of(held, listed)
        for depth in depths:
            deep = clk.model_copy(update={"diffusion": depth})
            seen = observed(encoded(study, deep, held, StudyKey.generate()))
            guessed = expected(study, deep, listed)
            own = observed(encoded(study, deep, listed, StudyKey.generate()))
            facts = {"clk": clk.id, "t": depth, "n": n, "known": round(KNOWN_SHARE * n)}
            for name, graph, rounds in (
                ("seeded", guessed, None),
                ("seeded, 1 round", guessed, 1),
                ("seeded, own key", own, None),
            ):
                begun = time.process_time()
                more = {} if rounds is None else {"rounds": rounds}
                found = seeded_attack(
                    seen, graph, known=round(KNOWN_SHARE * n), seed=1, truth=truth, **more
                )
                yield row(name, found, time.process_time() - begun, **facts)
            begun = time.process_time()
            found = score(match_graphs(seen, guessed), truth)
            yield row("graph matching", found, time.process_time() - begun, **{**facts, "known": 0})


def others(study: StudyConfig, n: int, depths: Sequence[int]) -> Iterator[Row]:
    """Yield the attacks that look at bits and not at similarities."""
    key = StudyKey.generate()
    for depth in depths:
        clk = study.clk[0].model_copy(update={"diffusion": depth})
        for quality in DESKS:
            held, listed = crowds(clk, n, 1.0, quality)
            column = encoded(study, clk, held, key)
            facts = {"clk": clk.id, "t": depth, "n": n, "list": quality}
            begun = time.process_time()
            found = pattern_attack(
                column, listed_tokens(clk, listed), seed=1, truth=truth_of(held, listed)
            )
            yield row("pattern mining", found, time.process_time() - begun, **facts)
            begun = time.process_time()
            ours, theirs = same_people(clk, held, listed)
            found = frequency_attack(column.values, ours, theirs)
            yield row("frequency", found, time.process_time() - begun, **facts)
            begun = time.process_time()
            result = dictionary_attack(study, clk, held, listed, key, timer=time.perf_counter)
            facts["candidates/s"] = round(result.rate)
            yield row("dictionary", result.found, time.process_time() - begun, **facts)
        begun = time.process_time()
        known = round(KNOWN_SHARE * n)
        held = crowds(clk, n, 1.0, "clean")[0]
        found = learned_attack(
            encoded(study, clk, held, key), listed_tokens(clk, held, least=2), known=known, seed=1
        )
        facts = {"clk": clk.id, "t": depth, "n": n, "known": known}
        yield row("known plaintext", found, time.process_time() - begun, **facts)


def relations(study: StudyConfig, known: int, depths: Sequence[int]) -> Iterator[Row]:
    """Yield what likeness to known people and relations of four records name, of 60 targets."""
    spec = study.clk[0]
    held = crowds(spec, 2000, 1.0, "clean")[0]
    for depth in depths:
        begun = time.process_time()
        found = relations_attack(
            study,
            spec.model_copy(update={"diffusion": depth}),
            held,
            StudyKey.generate(),
            known=known,
            targets=60,
            seed=1,
        )
        seconds = time.process_time() - begun
        facts = {"clk": spec.id, "t": depth, "known": known}
        yield row("likeness", found.likeness, seconds, **facts)
        yield row("triples", found.triples, seconds, **facts)
        yield row("both", found.both, seconds, **facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="1,000 people, one CLK, few depths")
    parser.add_argument("--people", default="1000,2000,4000")
    parser.add_argument("--depths", default="5,8,10,11,12,14")
    parser.add_argument("--parts", default="plain,others,relations,hardened")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    study = load_study(ROOT / "configs/three-commons/study.toml")
    sizes = [1000] if asked.quick else [int(text) for text in asked.people.split(",")]
    depths = [8, 14] if asked.quick else [int(text) for text in asked.depths.split(",")]
    overlaps = (1.0, 0.5) if asked.quick else (1.0, 0.8, 0.5, 0.1)
    clks = study.clk[:1] if asked.quick else study.clk
    parts = {
        "plain": lambda: plain(study, sizes, overlaps),
        "others": lambda: others(study, sizes[0], [0, depths[-1]]),
        "relations": lambda: relations(study, 60 if asked.quick else 150, [6, 8, 10]),
        "hardened": lambda: hardened(study, clks, max(sizes), depths),
    }
    rows = [one for part in asked.parts.split(",") for one in parts[part]()]
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
