"""Purposes, participation, last days and retention of a study file."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import EncodingRefused, NotAllowed, StudyRefused
from linkage.governance import MOST_OPT_OUTS, opt_out_bytes, read_opt_outs
from linkage.participation import FEATURES, RetentionRules
from linkage.study import StudyConfig, parse_study
from tests.studies import STUDY

PURPOSES = """
[[purpose]]
id = "lungs"
title = "Outcomes of lung nodules"

[[purpose]]
id = "hearts"
title = "Outcomes of heart failure"

[[participation]]
party = "alpha"
purpose = "lungs"
features = ["linkage", "questions"]

[[participation]]
party = "beta"
purpose = "lungs"
features = ["linkage", "releases", "questions"]

[[participation]]
party = "alpha"
purpose = "hearts"
features = ["linkage"]

[[participation]]
party = "beta"
purpose = "hearts"
features = ["linkage"]
"""


def study(more: str = "", **changed: str) -> StudyConfig:
    text = STUDY
    for old, new in changed.items():
        text = text.replace(old, new)
    return parse_study(text + more)


def test_without_purposes_everybody_takes_part_in_everything() -> None:
    agreed = study().agreed
    assert agreed.purpose("") == ""
    assert agreed.features("alpha", "") == FEATURES
    agreed.require(["alpha", "beta"], "deliveries", "")
    with pytest.raises(NotAllowed, match="declares no purposes"):
        agreed.purpose("lungs")


def test_what_is_not_named_is_refused_by_name() -> None:
    agreed = study(PURPOSES).agreed
    assert agreed.purpose("hearts") == "hearts"
    for wrong in ("", "brains"):
        with pytest.raises(NotAllowed) as caught:
            agreed.purpose(wrong)
        assert caught.value.hint == "name one of: lungs, hearts"
    agreed.require(["alpha", "beta"], "questions", "lungs")
    with pytest.raises(NotAllowed, match=r"take no part in releases: alpha\. Hint"):
        agreed.require(["alpha", "beta"], "releases", "lungs")
    with pytest.raises(NotAllowed, match="take no part in second-looks: alpha, beta"):
        agreed.require(["beta", "alpha"], "second-looks", "hearts")


def test_commercial_and_non_commercial_use_are_two_purposes() -> None:
    hearts = 'id = "hearts"\ntitle'
    agreed = study(PURPOSES.replace(hearts, 'id = "hearts"\nuse = "commercial"\ntitle', 1)).agreed
    agreed.require_use("non-commercial", "lungs")
    agreed.require_use("commercial", "hearts")
    with pytest.raises(NotAllowed, match="'lungs' is for non-commercial use, and the question"):
        agreed.require_use("commercial", "lungs")
    with pytest.raises(NotAllowed, match="'hearts' is for commercial use"):
        agreed.require_use("non-commercial", "hearts")
    header = {'id = "small-study"': 'id = "small-study"\nuse = "commercial"'}
    study(**header).agreed.require_use("commercial", "")
    with pytest.raises(NotAllowed, match="the study is for non-commercial use"):
        study().agreed.require_use("commercial", "")
    with pytest.raises(StudyRefused, match="says nothing in a study that declares purposes"):
        study(PURPOSES, **header)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (PURPOSES.replace('party = "beta"', 'party = "gamma"', 1), "'gamma' is no party"),
        (PURPOSES.replace('purpose = "hearts"', 'purpose = "liver"', 1), "'liver' is no purpose"),
        (PURPOSES.replace('id = "hearts"', 'id = "lungs"', 1), "two [[purpose]] are named"),
        (PURPOSES.replace('purpose = "hearts"', 'purpose = "lungs"', 1), "has two"),
        (PURPOSES.replace('["linkage", "questions"]', '["questions"]'), "fewer than two parties"),
        (PURPOSES.replace('"questions"]', '"dances"]', 1), "should be 'linkage', 'releases'"),
        (PURPOSES.replace('"questions"]', '"linkage"]', 1), "named twice"),
        (
            PURPOSES.replace('title = "Outcomes of h', 'use = "profit"\ntitle = "Outcomes of h'),
            "use",
        ),
        ("\n[retention]\ninbox_days = 0\n", "inbox_days"),
        ("\n[retention]\nshelf_days = 1\n", "shelf_days"),
    ],
)
def test_a_file_that_means_nothing_is_refused(more: str, said: str) -> None:
    with pytest.raises(StudyRefused) as caught:
        study(more)
    assert said in str(caught.value)


def test_the_earlier_last_day_counts() -> None:
    both = study(
        **{
            'release_to = ["alpha", "beta"]': "expires = 2027-06-30",
            'id = "beta"\nkind': 'id = "beta"\nexpires = 2027-01-31\nkind',
        }
    )
    assert both.last_day("alpha") == dt.date(2027, 6, 30)
    assert both.last_day("beta") == dt.date(2027, 1, 31)
    assert study().last_day("beta") is None


def test_the_shorter_clock_counts() -> None:
    mine = RetentionRules(packages_days=30, inbox_days=7)
    theirs = RetentionRules(packages_days=10, old_epochs_days=5)
    both = mine.shorter(theirs)
    assert both == RetentionRules(packages_days=10, inbox_days=7, old_epochs_days=5)
    assert mine.shorter(None) == mine


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=30))
def test_an_opt_out_list_comes_back_sorted_and_once(names: list[bytes]) -> None:
    made = np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)
    back = read_opt_outs(opt_out_bytes(made), "alpha")
    assert [row.tobytes() for row in back] == sorted(set(names))


def test_what_is_no_opt_out_list_is_refused() -> None:
    good = opt_out_bytes(np.arange(64, dtype=np.uint8).reshape(4, 16))
    head = good.index(b"\n") + 1
    swapped = good[:head] + good[head + 16 : head + 32] + good[head : head + 16]
    twice = good + good[-16:]
    for wrong in (b"", good[:-1], b"x" + good, swapped, twice, good[head:]):
        with pytest.raises(EncodingRefused, match="is none"):
            read_opt_outs(wrong, "alpha")
    many = np.zeros((MOST_OPT_OUTS + 1, 16), np.uint8)
    many[:, :4] = np.arange(len(many), dtype=">u4").view(np.uint8).reshape(-1, 4)
    with pytest.raises(EncodingRefused, match="more than 500,000"):
        opt_out_bytes(many)
