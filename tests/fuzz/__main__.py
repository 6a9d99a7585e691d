"""
The deep form: python -m tests.fuzz [--examples N] [--seconds N] [--seed N] [--caller NAME].
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz.examine import examine
from tests.fuzz.world import CALLERS, furnished


def main() -> int:
    """Examine the broker as each caller; print one JSON line a caller, return 1 for any finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="of each operation and phase")
    parser.add_argument("--seconds", type=int, default=600, help="at most, of each caller")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--caller", action="append", choices=CALLERS, help="default: everybody")
    parser.add_argument("--out", type=Path, help="keep reports and texts here")
    chosen = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        out = chosen.out or Path(folder) / "out"
        with furnished(Path(folder)) as world:
            for caller in chosen.caller or CALLERS:
                found = examine(
                    world,
                    caller,
                    out,
                    examples=chosen.examples,
                    seconds=chosen.seconds,
                    seed=chosen.seed,
                )
                print(json.dumps(found.figures()), flush=True)
                if found.bad:
                    bad = True
                    print(found.text, file=sys.stderr, flush=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
