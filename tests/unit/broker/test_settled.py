"""A server that is up has no long garbage collection before it: nobody waits for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.broker_world import make_world
from tests.isolated import CHECKOUT

PROGRAM = """
import gc, sys
from pathlib import Path
from broker import serve
from broker.config import load_home

def run(self, sockets):
    # In place of answering: how many objects does a collection look at, and how many not?
    print(gc.get_freeze_count(), len(gc.get_objects()))

serve._Announcing.run = run
serve.serve(load_home(Path(sys.argv[1])), port=0)
"""


def test_what_stays_is_not_collected_again_and_again(tmp_path: Path) -> None:
    home = make_world(tmp_path).home.path
    command = [sys.executable, "-c", PROGRAM, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    frozen, looked_at = map(int, done.stdout.split()[-2:])
    assert frozen > 50_000
    assert looked_at < frozen / 20
