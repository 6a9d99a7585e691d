"""
Who uses a broker's home: any number of its processes, or one that wants it alone.

Every command holds the home from before it reads the settings until it ends. `linkage-broker move`
wants it alone: what others wrote to the old database while it is copied, or after they had read the
old settings, would be lost. The lock is the system's (flock, on the folder) and goes with the
process. Remaining weakness: another machine on a shared folder, or an earlier version, may hold
none; the lock of SQLite itself (broker.store.moving) finds whoever has the database open.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linkage.errors import Conflict, NotFound

_held: dict[Path, int] = {}


def hold(home: Path) -> None:
    """Use this home until the process ends. Raises Conflict while another has it alone."""
    place = home.resolve()
    if place in _held or not place.is_dir():
        return
    try:
        handle = os.open(place, os.O_RDONLY)
    except OSError:
        return  # whoever reads the settings next says it better
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(
            "the broker is being moved to another database",
            hint="wait until `linkage-broker move` has ended, then start again",
        ) from None
    except OSError:
        pass  # a file system without locks; SQLite's own is left
    _held[place] = handle


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Have this home alone. Raises Conflict while another process uses it, NotFound without one."""
    try:
        handle = os.open(home, os.O_RDONLY)
    except OSError as fault:
        raise NotFound(
            f"{home} cannot be opened ({type(fault).__name__})", hint="check --home"
        ) from None
    try:
        _have_alone(handle)
        yield
    finally:
        os.close(handle)


def _have_alone(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(
            "a server, a worker or a command of this broker is running",
            hint="stop `serve` and every `worker`, let other commands end, then start again",
        ) from None
