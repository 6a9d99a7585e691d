"""Days in messages are compared as texts, so they are written in one way."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.questions import question


@pytest.mark.parametrize("day", ["2026-01-31", "2026-12-01", "2028-02-29", ""])
def test_a_day_is_taken(day: str) -> None:
    assert question(expires=day).expires == day


@pytest.mark.parametrize(
    "day",
    ["\uff12\uff10\uff12\uff16-12-31", "2026-12-\u0663\u0661", "2026-99-99", "2026-13-01",
     "2026-00-10", "2026-01-00", "2026-01-32", "2026-1-1", "2026-01-31\n", "20260131"],
)  # fmt: skip
def test_what_would_never_pass_is_no_day(day: str) -> None:
    with pytest.raises(ValidationError):
        question(expires=day)
