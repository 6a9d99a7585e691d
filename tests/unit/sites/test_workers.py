"""Worker processes: bounded, in order of readiness, and silent about what they hold."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer

from linkage.encoding.columns import Coded
from linkage.errors import LinkageError, RowRejected, SourceRefused
from sites.sources.base import RawBatch
from sites.terminal import exit_code, told
from sites.workers import Workers, without_values


def prepare(order: int) -> int:
    return order * 10


def add(prepared: int, one: int) -> int:
    return prepared + one


def fail(prepared: int, one: int) -> int:
    if one == 3:
        raise ValueError("CANARY in the text of a fault")
    return one


def refuse(prepared: int, one: int) -> int:
    raise RowRejected(file="people.csv", row=7, field="ssn", rule="is wrong", hint="mend it")


def die(prepared: int, one: int) -> int:
    if one == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return one


@pytest.mark.parametrize("count", [0, 2])
def test_every_input_is_answered_once_and_few_are_given_out_ahead(count: int) -> None:
    given: list[int] = []

    def inputs() -> Iterator[int]:
        for one in range(20):
            given.append(one)
            yield one

    with Workers(count, prepare, 4) as workers:
        answers = []
        for answer in workers.each(add, inputs()):
            answers.append(answer)
            assert len(given) - len(answers) <= 2 * max(1, count) * 2
    assert sorted(answers) == [40 + one for one in range(20)]


_STARTED = """
import sys
from pathlib import Path
from tests.unit.sites.test_workers import add, prepare
from sites.workers import Workers
with Path(sys.argv[1]).open("a") as file:
    file.write(f"{__name__}\\n")
if __name__ == "__main__":
    with Workers(2, prepare, 4) as workers:
        print(sorted(workers.each(add, range(3))), __file__ is None, __spec__)
"""


@pytest.mark.parametrize("folder", ["short", "as-of-a-job-of-a-cluster-" * 5])
def test_no_worker_loads_the_program_that_started_it(tmp_path: Path, folder: str) -> None:
    """Nor where the folder of temporary files has no room for the name of a socket."""
    program, loaded = tmp_path / "program.py", tmp_path / "loaded"
    (tmp_path / folder).mkdir()
    program.write_text(_STARTED)
    made = subprocess.run(
        [sys.executable, program, loaded],
        capture_output=True,
        text=True,
        timeout=240,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "TMPDIR": str(tmp_path / folder),
        },
    )
    assert made.stdout == "[40, 41, 42] False None\n", made.stderr[-500:]
    assert loaded.read_text() == "__main__\n"


@pytest.mark.parametrize("count", [0, 1])
def test_an_unexpected_fault_loses_its_text_and_says_where(count: int) -> None:
    with Workers(count, prepare, 1) as workers, pytest.raises(LinkageError) as caught:
        list(workers.each(fail, range(5)))
    shown = f"{caught.value} {caught.value.__cause__} {caught.getrepr(style='short')}"
    assert "a bug: ValueError at" in caught.value.message
    assert exit_code(caught.value) == 1
    assert "test_workers.py" in caught.value.message
    assert "CANARY" not in str(caught.value)
    assert "CANARY in the text" not in str(caught.value.__cause__), shown


def fill(prepared: int, one: int) -> int:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "big.npy", np.zeros(one))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return one


@pytest.mark.parametrize("count", [0, 1])
def test_a_full_disk_is_no_bug(count: int) -> None:
    with Workers(count, prepare, 1) as workers, pytest.raises(LinkageError) as caught:
        list(workers.each(fill, [100_000]))
    assert "the disk is full" in caught.value.message
    assert "same command again" in caught.value.hint
    assert exit_code(caught.value) == 7


@pytest.mark.parametrize("count", [0, 1])
def test_a_refusal_comes_back_whole(count: int) -> None:
    with Workers(count, prepare, 1) as workers, pytest.raises(RowRejected) as caught:
        list(workers.each(refuse, [1]))
    fault = caught.value
    assert (fault.row, fault.field, fault.rule, fault.hint) == (7, "ssn", "is wrong", "mend it")
    assert fault.message == "people.csv, row 7, field 'ssn': is wrong"


def test_a_full_disk_is_known_by_its_number_too() -> None:
    for number, said in ((errno.ENOSPC, "the disk is full"), (errno.EIO, "a bug: OSError")):
        assert said in without_values(OSError(number, "CANARY")).message


def test_a_place_that_is_not_ours_to_use_is_no_bug(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    with pytest.raises(NotADirectoryError) as caught:
        below.mkdir()
    fault = without_values(caught.value)
    assert fault.message == f"{below} cannot be read or written (NotADirectoryError)"
    assert exit_code(fault) == 7
    assert "a bug" in without_values(PermissionError(errno.EACCES, "CANARY")).message


def test_ctrl_c_ends_in_one_line_and_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    @told
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_killed_worker_is_said_with_a_remedy() -> None:
    with Workers(1, prepare, 1) as workers, pytest.raises(LinkageError) as caught:
        list(workers.each(die, range(5)))
    assert "worker process died" in caught.value.message
    assert "same command again" in caught.value.hint


@pytest.mark.parametrize(
    "fault",
    [
        LinkageError("plain", hint="h"),
        SourceRefused(file="f", rule="r"),
        RowRejected(file="f", row=1, field="x", rule="r", unit="line"),
    ],
)
def test_errors_travel_between_processes(fault: LinkageError) -> None:
    again = pickle.loads(pickle.dumps(fault))  # noqa: S301
    assert type(again) is type(fault)
    assert str(again) == str(fault)
    assert again.__dict__ == fault.__dict__


def test_what_holds_identifiers_shows_nothing_and_refuses_pickling() -> None:
    column = Coded.of(["CANARY"])
    batch = RawBatch(pa.array(["CANARY"]), {"ssn": pa.array(["CANARY"])}, np.zeros(1, np.int64))
    for held in (column, batch):
        assert "CANARY" not in repr(held)
        with pytest.raises(TypeError, match="refuses pickling"):
            pickle.dumps(held)
