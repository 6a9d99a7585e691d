"""A text that came over a wire, all faults: refused in seconds, with the first of them."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from linkage.cohort.spec import parse_spec
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
        ('x = """\n[' + " " * 60_000 + '\n"""\n', "is not a known key"),
        ("x = " + "1" * 60_000, "a number of thousands of digits"),
    ],
)
def test_it_is_refused_in_seconds(text: str, rule: str) -> None:
    began = time.process_time()
    with pytest.raises(CohortRefused, match=rule) as caught:
        specification(text)
    assert time.process_time() - began < SECONDS
    assert len(caught.value.others) < 50


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{" + "".join(f'"{i:x}":1,' for i in range(30_000)) + '"z":1,"z":1}', "'z' twice"),
        ('{"x": ' + "1" * 60_000 + "}", "a number of thousands of digits"),
        ('{"x": ' + "[" * 900 + "1," * 100_000 + "1" + "]" * 900 + "}", "is not a known key"),
    ],
    ids=["names", "digits", "items at depth"],
)
def test_json_is_refused_in_seconds_and_little_memory(text: str, rule: str) -> None:
    began = time.process_time()
    with pytest.raises(CohortRefused, match=rule):
        parse_spec(text, file="x.json", base=None)
    assert time.process_time() - began < SECONDS
    tracemalloc.start()
    try:
        with pytest.raises(CohortRefused, match=rule):
            parse_spec(text, file="x.json", base=None)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


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
