"""
Worker processes for long work on records, and what keeps records out of crash reports.

    with Workers(count, prepare, order) as workers:
        for answer in workers.each(job, inputs): ...

`prepare(order)` makes what a worker needs, once a process; `job(prepared, input)` is called with
it. Both are functions of a module, because they travel by name, and not of the program that was
started: no worker loads that. With no processes all is done here, by the same code. A fault that
is not ours to explain loses its text: it could hold a value.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection, forkserver
from multiprocessing.context import (
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)
from types import TracebackType
from typing import Any, Self, TypeVar

from linkage.errors import LinkageError
from linkage.foreign_letters import foreign_letter

P = TypeVar("P")
I = TypeVar("I")  # noqa: E741
A = TypeVar("A")

_AHEAD = 2
"""Inputs given out a worker, so that none waits for the reader and memory stays bounded."""

_WARM = "sites.warm"

_SOCKET_BYTES = 107 - len("/pymp-12345678/listener-12345678")
"""So long may TMPDIR be for the fork server's socket in it: unix(7)."""

A_BUG = "a bug: "
"""How the text of a fault that nobody foresaw begins."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_NOT_ALLOWED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
)  # fmt: skip
"""Of a path that somebody gave: no bug, and the operating system's words hold no value."""

_prepared: Any = None


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def no_core_dumps() -> None:
    """Let no crash write this process's memory, which holds records and a key, to a disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def keep_freed_memory() -> None:
    """
    Let the C library use freed memory again and not give it back at once: every batch needs the
    same few arrays of some MB, and having them mapped and cleared anew took a tenth of the time.

    Only glibc has this; elsewhere nothing happens. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def collect_seldom() -> None:
    """
    Look for unreachable cycles seldom: records are many small objects without any, and looking
    through all that is remembered of them took a seventh of the time.
    """
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


def without_values(fault: BaseException) -> LinkageError:
    """Return an error that says where an unexpected fault arose and nothing of its text."""
    if _disk_is_full(fault):
        return LinkageError(
            "no space is left to write to: the disk is full, or a quota or file size limit reached",
            hint="free space in the private folder, or let `private` in the site file name a folder"
            " on a larger disk; then run the same command again, it goes on where it stopped",
        )
    if isinstance(fault, OSError) and fault.errno in _NOT_ALLOWED and fault.filename:
        return LinkageError(
            f"{os.fsdecode(fault.filename)} cannot be read or written ({type(fault).__name__})",
            hint="check the path, and that this account may use it and its folder",
        )
    if (said := foreign_letter(fault)) is not None:
        return said
    frames = traceback.extract_tb(fault.__traceback__)
    at = "; ".join(f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in frames[-4:])
    return LinkageError(
        f"{A_BUG}{type(fault).__name__} at {at}",
        hint="report these two lines; they hold no value",
    )


def _disk_is_full(fault: BaseException) -> bool:
    # numpy says how much it wrote, and no reason; that text is two numbers.
    short = re.fullmatch(r"\d+ requested and \d+ written", str(fault))
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(fault, OSError) and (fault.errno in full or short is not None)


def start_early() -> None:
    """Start the fork server: what workers need is loaded while this process still gets ready."""
    if isinstance(_context(), ForkServerContext):
        forkserver.ensure_running()


def _context() -> ForkServerContext | SpawnContext:
    """
    Return the server that imports and compiles what all workers need, then forks them. Where its
    socket would have too long a path, as below a cluster's TMPDIR, each worker loads it by itself.
    """
    if len(os.fsencode(tempfile.gettempdir())) > _SOCKET_BYTES:
        return _Alone()
    context = _Server()
    context.set_forkserver_preload([_WARM])
    return context


@contextmanager
def _no_program() -> Iterator[None]:
    """
    Let a worker that starts meanwhile not load the program it was started by: jobs are found in
    their own modules, and the whole command line, imported again by each, took a third of a second.
    """
    main: dict[str, Any] = sys.modules["__main__"].__dict__
    kept: dict[str, Any] = {n: main[n] for n in ("__file__", "__spec__") if n in main}
    main.update(dict.fromkeys(kept))  # what it would be found by
    try:
        yield
    finally:
        main.update(kept)


class _Forked(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 (multiprocessing's name)
        with _no_program():
            return ForkServerProcess._Popen(process_obj)


class _Spawned(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        with _no_program():
            return SpawnProcess._Popen(process_obj)


class _Server(ForkServerContext):
    Process = _Forked


class _Alone(SpawnContext):
    Process = _Spawned


class Workers:
    """
    `count` processes, or none for 0. A context manager; leaving it waits for them.

    Raises LinkageError where a process dies (no memory is left, or somebody killed it).
    """

    def __init__(self, count: int, prepare: Callable[[Any], P], order: Any) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._count = count
        self._collecting = gc.get_threshold()
        collect_seldom()
        keep_freed_memory()
        if count:
            self._pool = ProcessPoolExecutor(
                count,
                mp_context=_context(),
                initializer=_start,
                initargs=(prepare, order),
            )
        else:
            _keep(prepare(order))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        _keep(None)
        gc.set_threshold(*self._collecting)
        gc.unfreeze()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def dismiss(self) -> None:
        """Let the processes end while the caller goes on: no job will follow."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def each(self, job: Callable[[Any, I], A], inputs: Iterable[I]) -> Iterator[A]:
        """
        Yield the answers in the order in which they are ready. Raises what the first failing job
        did, after the answers of all that had been begun: whoever resumes need not repeat them.
        """
        if self._pool is None:
            for one in inputs:
                yield _run(job, one)
            return
        remaining = iter(inputs)
        waiting: set[Future[A]] = set()
        try:
            while True:
                for one in islice(remaining, _AHEAD * self._count - len(waiting)):
                    waiting.add(self._pool.submit(_run, job, one))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                failed = [future for future in done if future.exception() is not None]
                if failed:
                    begun = {future for future in waiting if not future.cancel()}
                    done |= wait(begun).done
                for future in done:
                    if future.exception() is None:
                        yield future.result()
                if failed:
                    failed[0].result()
        except BrokenProcessPool:
            raise LinkageError(
                "a worker process died: out of memory, or killed",
                hint="run the same command again, it goes on where it stopped; --workers 1"
                " needs the least memory",
            ) from None


def _start(prepare: Callable[[Any], Any], order: Any) -> None:
    no_core_dumps()
    keep_freed_memory()
    collect_seldom()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _keep(prepare(order))


def _end_with_parent() -> None:
    """End this process with its parent: it holds keys, and would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _keep(prepared: Any) -> None:
    global _prepared
    _prepared = prepared


def _run(job: Callable[[Any, Any], Any], one: Any) -> Any:
    try:
        return job(_prepared, one)
    except LinkageError:
        raise
    except Exception as fault:
        raise without_values(fault) from None
