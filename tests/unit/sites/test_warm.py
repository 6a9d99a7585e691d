"""What the fork server loads for all workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import gc, sys
import sites.warm
print([name for name in ("pandas", "scipy", "cffi", "yaml") if name in sys.modules], gc.isenabled())
import pandas
"""

_READING = """
import sys
from pathlib import Path
import sites.session, sites.tokenizer
from sites.intake import Withdrawn
from sites.sources.config import DelimitedConfig
from sites.sources.delimited import DelimitedSource
config = DelimitedConfig(
    file=Path(sys.argv[1]), record_id="id", columns={"last_name": "last", "first_name": "first"}
)
left_out = Withdrawn(())
records = 0
for batch in DelimitedSource(config, ("first_name", "last_name"), {}).batches():
    records += len(left_out.left_out_of(batch))
print(records, [name for name in ("pandas", "scipy", "numba", "httpx") if name in sys.modules])
"""


def test_who_reads_and_gives_out_the_work_loads_no_large_library(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    rows = [f"{i},ada,byron\n" for i in range(200_000)]  # several pieces of the file
    path.write_text("id,first,last\n" + "".join(rows))
    made = subprocess.run(
        [sys.executable, "-c", _READING, str(path)], capture_output=True, text=True, timeout=120
    )
    assert made.stdout == "200000 []\n", made.stderr[-500:]


def test_workers_do_without_large_libraries_that_others_can_still_load() -> None:
    made = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert made.stdout == "[] True\n", made.stderr[-500:]
    assert made.returncode == 0
