"""
What each step of encoding costs, in microseconds of processor time a record.

    python -m tests.benchmarks.bench_encoding [--records 200000]

Six fields of simulated people, one CLK of 2,048 bits with t = 10, ten match keys: batches as a
worker gets them, normalised before. Then the rate of plain CLKs of five fields with one and two
processes. `linkage bench encode` measures the whole way, beside clkhash.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from linkage.encoding.clk import ClkEncoder
from linkage.encoding.columns import Coded
from linkage.encoding.encoder import BatchEncoder
from linkage.encoding.fields import Normaliser, Reading, apply, require_normalised
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import MatchKeyEncoder
from linkage.encoding.spelt import Spelt
from linkage.evaluation import bench_encode
from linkage.study import parse_field, parse_study

BATCH = 50_000
STUDY = (
    bench_encode._HEAD
    + bench_encode._PARTY.format(id="one")
    + bench_encode._PARTY.format(id="two")
    + bench_encode._HARDENED_CLK
    + bench_encode._rules()
)


def batches_of(people: dict[str, list[str]], n: int) -> list[dict[str, Coded]]:
    """Return the people normalised, in batches."""
    reading = Reading(date_format="%Y%m%d")
    normalisers = {field: Normaliser(field, reading) for field in people}
    return [
        {
            field: normalisers[field].column(values[start : start + BATCH]).column
            for field, values in people.items()
        }
        for start in range(0, n, BATCH)
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    arguments.add_argument("--records", type=int, default=200_000)
    n = arguments.parse_args().records
    study, key = parse_study(STUDY), StudyKey.generate()
    party = study.party[0]
    people = bench_encode._people(n)
    batches = batches_of(people, n)

    def told(name: str, work: Callable[[int], object]) -> None:
        work(0)  # compiles, or loads what was compiled before
        start = time.process_time()
        for i in range(len(batches)):
            work(i)
        print(f"{name:<44}{(time.process_time() - start) / n * 1e6:>8.3f} us a record")

    encoder = BatchEncoder(study, party, key)
    clk = ClkEncoder(study, study.clk[0], key)
    rules = [MatchKeyEncoder(rule, study, key) for rule in study.match_key]
    refs = sorted({ref for one in (clk, *rules) for ref in one.refs})
    values = [{ref: apply(ref, one[parse_field(ref)[0]]) for ref in refs} for one in batches]
    spelt = [{ref: Spelt.of(column) for ref, column in one.items()} for one in values]
    told("everything", lambda i: encoder.encode(batches[i]))
    told("is it normalised", lambda i: [require_normalised(*one) for one in batches[i].items()])
    told("transforms", lambda i: [apply(r, batches[i][parse_field(r)[0]]) for r in refs])
    told("plain CLK", lambda i: clk.plain(values[i]))
    told("plain CLK and diffusion", lambda i: clk.encode(values[i]))
    told("spelling columns for match keys", lambda i: [Spelt.of(c) for c in values[i].values()])
    told("ten match keys", lambda i: [rule.encode(spelt[i]) for rule in rules])
    secret = bytes(range(32))
    plain = [tuple(record) for record in zip(*(people[f] for f in bench_encode.PLAIN), strict=True)]
    told(
        "plain CLK of five fields, from records",
        lambda i: bench_encode._encoded(plain[i * BATCH : (i + 1) * BATCH], secret),
    )
    for processes in (1, 2):
        seconds, _ = bench_encode._plain(plain, secret, processes)
        print(f"plain CLKs, {processes} process(es){n / seconds / 1e6:>28.2f} M records/s")


if __name__ == "__main__":
    main()
