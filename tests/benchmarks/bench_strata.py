"""
What marks of groups cost a site: the whole way from a CSV to a sealed package.

    python -m tests.benchmarks.bench_strata [--records 1000000] [--workers 0]

Four fields of simulated people, one CLK, two match keys; sex, decade of birth and a made-up column
as groups. Without marks (twice: the first loads and compiles), with marks drawn for everybody, and
once more, when everybody has them.
Seconds of the whole, and of this process's processors: of all there is where no workers are.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

from linkage.evaluation import bench_encode
from sites.config import SourceConfig
from sites.strata_config import StrataConfig
from sites.tokenizer import tokenize
from tests.studies import STUDY, cast, vault_of

STRATA = """
[[strata]]
id = "sex"
groups = ["female", "male"]
[[strata]]
id = "birth-decade"
groups = ["before 1940", "1940s", "1950s", "1960s", "1970s", "1980s", "1990 or later"]
[[strata]]
id = "race"
groups = ["asian", "black", "white"]
"""
FIELDS = ("first_name", "last_name", "date_of_birth", "sex")


def written(folder: Path, n: int) -> SourceConfig:
    """Write people as a site would hold them."""
    people = bench_encode._people(n)
    groups = [("asian", "black", "white", "white", "none")[i % 5] for i in range(n)]
    with (folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", *FIELDS, "race"))
        columns = (people[field] for field in FIELDS)
        writer.writerows(zip(map(str, range(n)), *columns, groups, strict=True))
    return SourceConfig.model_validate(
        {
            "file": folder / "people.csv",
            "record_id": "id",
            "date_format": "YYYYMMDD",
            "columns": {field: field for field in FIELDS},
            "subgroups": {"race": "race"},
        }
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--workers", type=int, default=0)
    asked = arguments.parse_args()
    n, workers = asked.records, asked.workers
    # The size declared must be that of the source or more.
    everyone = cast(STUDY.replace("100_000", str(max(n, 100_000))) + STRATA)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = written(folder, n)
        vault = vault_of(everyone, "alpha", folder / "private")
        for what, send in (
            ("first", False),
            ("without", False),
            ("drawn", True),
            ("kept", True),
        ):
            start, spent = time.perf_counter(), time.process_time()
            strata = StrataConfig(send=send)
            tokenize(source, "alpha", everyone.signed, vault, workers=workers, strata=strata)
            seconds, cpu = time.perf_counter() - start, time.process_time() - spent
            print(f"{what:<10}{seconds:>8.1f} s{cpu:>8.1f} s of processor", flush=True)


if __name__ == "__main__":
    main()
