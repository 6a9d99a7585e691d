"""What a failed run or job says: cause and remedy, never a value."""

from __future__ import annotations

import secrets

import structlog

from broker import problems
from linkage.errors import LinkageError

_log = structlog.get_logger("linkage.worker")


def failure_of(error: BaseException) -> str:
    """Return cause and remedy; an unforeseen error becomes an id, with its places in the log."""
    if isinstance(error, LinkageError):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"the worker's machine refused a file operation ({type(error).__name__}"
            f" {error.errno}). Hint: check disk space and permissions, then start again"
        )
    if isinstance(error, MemoryError):
        return "the worker ran out of memory. Hint: give it more, or link fewer records"
    error_id = secrets.token_hex(8)
    _log.error("unforeseen error", error_id=error_id, **problems.described(error))
    return f"an unforeseen error, id {error_id}. Hint: look for the id in the worker's log"
