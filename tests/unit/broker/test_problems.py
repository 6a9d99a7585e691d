"""Errors to problem documents: every class of ours has a status, strangers lose their text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import structlog

from broker import problems
from broker.faults import failure_of
from linkage import errors
from linkage.errors import LinkageError


def all_errors() -> list[type[LinkageError]]:
    found, queue = [], [LinkageError]
    while queue:
        one = queue.pop()
        found.append(one)
        queue += one.__subclasses__()
    return [one for one in found if one.__module__ == errors.__name__]


PAGE = Path(__file__).parents[3] / "docs" / "problems.md"


def documented() -> dict[str, set[int]]:
    """Return the statuses of each code in the table of docs/problems.md."""
    found: dict[str, set[int]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            codes, statuses, meaning, remedy = line.strip("| ").split(" | ")
            assert meaning
            assert remedy
            for code in re.findall(r"`([a-z-]+)`", codes):
                assert code not in found
                found[code] = {int(one) for one in statuses.split(", ")}
    return found


def test_every_code_is_documented_with_its_status_and_no_other() -> None:
    said = documented()
    for kind in all_errors():
        assert said.pop(kind.code) == {problems.of_error(made(kind)).status_code}, kind.code
    assert said.pop("unforeseen-error") == {problems.of_unknown(ValueError()).status_code}
    assert said.pop("malformed-request") >= {404, 405, 422}
    assert said == {}


def made(kind: type[LinkageError]) -> LinkageError:
    error = kind.__new__(kind)
    LinkageError.__init__(error, "what is wrong", hint="what to do")
    return error


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_of_ours_has_its_document(kind: type[LinkageError]) -> None:
    answer = problems.of_error(made(kind))
    told = json.loads(bytes(answer.body))
    assert 400 <= answer.status_code < 600
    assert answer.status_code != 500
    assert answer.media_type == "application/problem+json"
    assert (told["code"], told["detail"], told["hint"]) == (
        kind.code,
        "what is wrong",
        "what to do",
    )
    assert (answer.headers.get("www-authenticate") == "Bearer") == (answer.status_code == 401)


@pytest.mark.threat("P06")
def test_an_unforeseen_error_loses_its_text_in_answer_and_log() -> None:
    def fail() -> None:
        raise ValueError("canary: Mary Smith")

    with structlog.testing.capture_logs() as logged:
        try:
            fail()
        except ValueError as error:
            answer = problems.of_unknown(error)
            failure = failure_of(error)
    said = bytes(answer.body).decode() + failure + repr(logged)
    assert answer.status_code == 500
    assert "canary" not in said
    assert "ValueError" in repr(logged)
    assert "in fail" in repr(logged) or " fail" in repr(logged)
    assert [one["error_id"] for one in logged] == [
        next(word.rstrip(".") for word in text.split() if len(word.rstrip(".")) == 16)
        for text in (json.loads(bytes(answer.body))["detail"], failure)
    ]


def test_failures_name_a_remedy() -> None:
    for error in (OSError(28, "No space left on device"), MemoryError(), ValueError("x")):
        assert ". Hint: " in failure_of(error)
    assert failure_of(made(errors.Conflict)) == "what is wrong. Hint: what to do"
