"""A specification that came over a wire, all faults: refused in seconds, with the first of them."""

from __future__ import annotations

import time

import pytest

from linkage.errors import CohortRefused
from sites.proposed import specification

SECONDS = 20
"""Of a processor, for the slowest; each took minutes, or overran the stack, before."""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[cohort]\n" + "".join(f"k{i}=1\n" for i in range(7000)), "is not a known key"),
        ("".join(f"[a{i}]\n" for i in range(8000)), "is not a known key"),
        ("a" + ".a" * 30_000 + " = 1", "a name of a hundred parts"),
        ('"a"' + ' . "a"' * 10_000 + " = 1", "a name of a hundred parts"),
        ("x = " + "{a=" * 15_000, "is nested too deeply"),
        ("x = " + "[" * 60_000, "is nested too deeply"),
        ("a" * 60_000, "is not valid TOML"),
        ('"' * 60_000, "is not valid TOML"),
        ("'." * 30_000, "a name of a hundred parts"),
    ],
)
def test_it_is_refused_in_seconds(text: str, rule: str) -> None:
    began = time.process_time()
    with pytest.raises(CohortRefused, match=rule) as caught:
        specification(text)
    assert time.process_time() - began < SECONDS
    assert len(caught.value.others) < 50


def test_a_purpose_may_have_many_dots() -> None:
    text = f"""\
[cohort]
id = "dotted"
title = "Dots"
purpose = "{"We ask. " * 200}{"a.b " * 100}"

[imaging]
modality = ["CT"]

[clinical]
any = true
"""
    assert specification(text).cohort.id == "dotted"
