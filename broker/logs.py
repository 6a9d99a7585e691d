"""Logs: JSON lines on standard error, with no secrets because none are ever passed to it."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up(level: str = "info") -> None:
    """Configure structlog, and quiet the libraries that would print on their own."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().addHandler(_Template(logging.WARNING))
    for noisy in ("alembic", "sqlalchemy", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Template(logging.Handler):
    """
    What libraries say through `logging`, as our JSON: where, and the template of what, without its
    arguments, which could hold SQL and what is in it. A text without arguments may have had them
    put in before, so it is left out. Without any handler Python would print it all as it is.
    """

    def emit(self, record: logging.LogRecord) -> None:
        template = record.msg if isinstance(record.msg, str) and record.args else ""
        structlog.get_logger(record.name).log(
            record.levelno,
            template or "a library complains",
            logger=record.name,
            place=f"{record.filename}:{record.lineno}",
        )
