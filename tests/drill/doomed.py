"""
`linkage-broker` that kills itself, as kill -9 does, the n-th time it passes a named point.

    python -m tests.drill.doomed NUMBER N serve --home HOME ...      NUMBER: place in POINTS
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from typing import Any

from tests.drill.points import POINTS, Point


def doom(point: Point, passing: int) -> None:
    """Have this process die at the passing-th passing of a point, from 1."""
    owner, name = point.found()
    original = getattr(owner, name)
    passed, lock = 0, threading.Lock()

    def strike() -> None:
        nonlocal passed
        with lock:
            passed += 1
            if passed == passing:
                os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    def wrapped(*args: Any, **named: Any) -> Any:
        if point.when == "before":
            strike()
        result = original(*args, **named)
        if point.when == "after":
            strike()
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    number, passing, *arguments = sys.argv[1:]
    doom(POINTS[int(number)], int(passing))
    from broker.cli import app

    sys.argv = ["linkage-broker", *arguments]
    app()
