"""Every line of the log is JSON, whoever wrote it, and no library's arguments are in it."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from broker import logs
logs.set_up()
logging.getLogger("psycopg").warning("error ignored terminating %r: %s", "SELECT secret", "lost")
logging.getLogger("psycopg").info("nobody asked")
logging.getLogger("dbos").error(ValueError("SELECT secret"))
logging.getLogger("uvicorn").error("put in before: SELECT secret")
"""


def test_what_libraries_log_is_json_without_arguments() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(one["logger"], one["level"]) for one in lines] == [
        ("psycopg", "warning"),
        ("dbos", "error"),
        ("uvicorn", "error"),
    ]
    assert "secret" not in done.stderr
