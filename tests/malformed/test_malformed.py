"""
The corpus of broken inputs: the exact error of each, as an operator sees it, and no value in any.

An error says the fault, then the remedy. Where a text below reads badly, it is the program that
has to change. Repeated record ids are in tests/unit/sites/test_tokenizer.py.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from linkage.errors import LinkageError
from sites.checking import check_source
from sites.config import SourceConfig
from tests.malformed import databases, delimited, files
from tests.malformed.broken import CANARY, FIELDS, Broken, url

CASES = {**delimited.CASES, **files.CASES, **databases.CASES}
LEAVE_OUT = ', or leave it out: --reject-file, or on_bad_row = "quarantine"'
FEWEST = 60
WITHOUT_CANARY = ("empty", "packed", "wide", "no ")
"""Files that hold nothing, or hold it in another form."""


def refused(broken: Broken, folder: Path) -> LinkageError:
    source = SourceConfig.model_validate(broken(folder))
    with pytest.raises(LinkageError) as caught:
        check_source(source, FIELDS, quarantine=False)
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY.lower() not in shown.lower()
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_a_broken_input_is_refused_in_these_words(name: str, tmp_path: Path) -> None:
    broken, message, hint = CASES[name]
    fault = refused(broken, tmp_path)
    assert (fault.message, fault.hint.removesuffix(LEAVE_OUT)) == (
        message.format(folder=tmp_path),
        hint,
    )


def test_the_corpus_is_large_and_every_input_holds_the_canary(tmp_path: Path) -> None:
    assert len(CASES) >= FEWEST
    without = []
    for number, (name, (broken, _, _)) in enumerate(CASES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        broken(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        held = b"".join(path.read_bytes() for path in files)
        if CANARY.encode() not in held and not name.startswith(WITHOUT_CANARY):
            without.append(name)
    assert without == []


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            {"username": "nobody", "password": CANARY},
            "[source] url: the database refuses this user or password",
            "correct the URL",
        ),
        (
            {"database": "nothing"},
            "[source] url: there is no database of that name",
            "correct the URL",
        ),
        (
            {"query": {"host": "/nowhere"}, "password": CANARY},
            "[source] url: the database does not answer",
            "check host, port and name of the database in the URL",
        ),
    ],
)
def test_a_server_that_refuses_is_told_without_its_password(
    change: dict[str, object],
    message: str,
    hint: str,
    tmp_path: Path,
    new_postgres_url: Callable[[], str],
) -> None:
    made = sa.make_url(new_postgres_url()).set(**change)  # type: ignore[arg-type]
    fault = refused(url(made.render_as_string(hide_password=False)), tmp_path)
    assert (fault.message, fault.hint) == (message, hint)
