"""The workflow database is read as JSON and nothing else."""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys

import pytest

PLANT = """
import sys
from broker import durable
from dbos._serialization import DBOSPortableJSON, deserialize_value
from linkage.errors import PackageRefused

durable._refuse_pickles()
try:
    deserialize_value(sys.argv[1], "py_pickle", DBOSPortableJSON)
except PackageRefused as refused:
    print(refused.message)
"""


class Runs:
    """Unpickling this runs code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the pickle ran",)


@pytest.mark.threat("T16")
def test_a_pickle_in_the_database_is_refused() -> None:
    """In a process of its own: the refusal is for a whole worker."""
    planted = base64.b64encode(pickle.dumps(Runs())).decode()
    done = subprocess.run(
        [sys.executable, "-c", PLANT, planted], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "the workflow database holds a pickle"


def test_a_step_ends_in_result_or_failure_never_in_an_exception_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a step returns is written to the workflow database."""
    from broker import durable
    from linkage.errors import MatchingFailed, Unreachable

    def unforeseen() -> None:
        raise ValueError("canary: Mary Smith")

    def refused() -> None:
        raise MatchingFailed("no common field", hint="add one")

    assert durable._guarded(lambda n: n + 1, (1,)) == {"result": 2}
    assert durable._guarded(refused, ()) == {"failure": "no common field. Hint: add one"}
    assert "canary" not in str(durable._guarded(unforeseen, ()))

    waits: list[float] = []
    monkeypatch.setattr(durable.time, "sleep", waits.append)
    tries: list[int] = []

    def out_of_reach() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise Unreachable("gone", hint="wait")
        return "back"

    assert durable._guarded(out_of_reach, ()) == {"result": "back"}
    assert waits == [0.5, 1.0, 2.0]

    def for_ever() -> None:
        raise Unreachable("gone", hint="wait")

    assert durable._guarded(for_ever, ()) == {"failure": "gone. Hint: wait"}
    assert sum(waits[3:]) < 60
