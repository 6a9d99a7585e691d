"""
Named points at which a process dies in the drill: each a place in the code, before or after it.

They are where a crash leaves the most behind: a file without its row, a row without its answer,
a step that is done and not recorded. Nothing in the programs knows of them; `tests.drill.doomed`
puts them there from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Target = Literal["server", "worker"]


@dataclass(frozen=True, slots=True)
class Point:
    """
    place: module:name, or module:class.name. most: the process dies at one of the first so many
    passings, drawn.
    """

    name: str
    target: Target
    place: str
    when: Literal["before", "after"]
    most: int

    def found(self) -> tuple[Any, str]:
        """Return the object that holds the place, and its name there."""
        module, _, path = self.place.partition(":")
        *holders, name = path.split(".")
        owner: Any = import_module(module)
        for holder in holders:
            owner = getattr(owner, holder)
        return owner, name


_COMMIT = "sqlalchemy.engine.default:DefaultDialect.do_commit"

POINTS = (
    Point("upload synced, not in place", "server", "os:rename", "before", 6),
    Point("upload in place, without a row", "server", "os:rename", "after", 6),
    Point("change not committed", "server", _COMMIT, "before", 30),
    Point("change committed, without an answer", "server", _COMMIT, "after", 30),
    Point("answer not sent", "server", "starlette.responses:Response.__call__", "before", 20),
    Point("step not begun", "worker", "broker.durable:_guarded", "before", 10),
    Point("step done, not recorded", "worker", "broker.durable:_guarded", "after", 10),
    Point("change not committed", "worker", _COMMIT, "before", 60),
    Point("change committed", "worker", _COMMIT, "after", 60),
    Point("result sealed, without a row", "worker", "os:rename", "after", 8),
    Point("result not published", "worker", "broker.results:publish", "before", 1),
    Point("result published, not recorded", "worker", "broker.results:publish", "after", 1),
    Point("release sealed, not placed", "worker", "broker.jobs:JobMaker._place", "before", 1),
    Point("release placed, not recorded", "worker", "broker.jobs:JobMaker._place", "after", 1),
)
