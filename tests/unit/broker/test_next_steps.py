"""The next step on the study page: every role in every state that it can find the study in."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from broker.web.next_steps import Facts, Viewer, next_step
from broker.web.study_view import in_words, size
from linkage.messages import PartyState

ADMIN, AUDITOR = Viewer("admin"), Viewer("auditor")
STEWARD, OPERATOR = Viewer("steward", "imaging"), Viewer("operator", "imaging")
RESEARCHER, REVIEWER = Viewer("researcher"), Viewer("reviewer")
EVERYBODY = (ADMIN, AUDITOR, STEWARD, OPERATOR, RESEARCHER, REVIEWER)
STATES = ("draft", "open", "linking", "closed", "destroyed")
LAST = dt.date(2026, 3, 1)


def up(name: str, **how: object) -> PartyState:
    return PartyState.model_validate({"party": name, "uploader": name, "dataset": 1} | how)


HERE = (up("imaging"), up("enclave"), up("claims"))
OPEN = Facts(state="open", epoch=1, uploaders=HERE)
DRAFT = Facts(state="draft", epoch=1, uploaders=HERE, unconfirmed=("imaging", "claims"))
LINKED = replace(OPEN, state="linking", run="done")


def missing(*names: str, **how: object) -> Facts:
    rows = (up(n, dataset=None, **how) if n in names else up(n) for n in ("imaging", "enclave"))
    return replace(OPEN, uploaders=tuple(rows))


@pytest.mark.parametrize(
    ("viewer", "facts", "said", "where"),
    [
        (ADMIN, DRAFT, "Two parties have not confirmed (imaging and claims); remind them.", ""),
        (ADMIN, missing("imaging"), "One party has not uploaded (imaging); remind it.", ""),
        (ADMIN, missing("imaging", "enclave"), "Two parties have not uploaded", ""),
        (ADMIN, OPEN, "Everybody has uploaded: start a run.", "/runs/new"),
        (ADMIN, replace(OPEN, run="cancelled"), "start a run", "/runs/new"),
        (ADMIN, replace(LINKED, run="queued"), "A run is under way", "/runs"),
        (ADMIN, replace(LINKED, run="failed"), "The last run failed", "/runs"),
        (ADMIN, replace(LINKED, newer=True), "uploaded since the last run", "/runs/new"),
        (ADMIN, replace(LINKED, consents={"r": ("claims",)}), "consent of claims", "/releases"),
        (ADMIN, replace(OPEN, retired="on 2026-01-01: lost"), "on 2026-01-01: lost", ""),
        (ADMIN, replace(OPEN, study_over=LAST), "last day was 2026-03-01: close it", "#life"),
        (ADMIN, replace(OPEN, state="closed"), "reopen it, or destroy it", "#life"),
        (ADMIN, replace(OPEN, uploaders=(up("imaging", quarantined=2), up("claims"))),
         "One dataset is in quarantine (imaging)", "#parties"),
        (STEWARD, DRAFT, "Confirm the signed study for imaging", ""),
        (STEWARD, replace(OPEN, over={"imaging": LAST}), "imaging's last day was 2026-03-01", ""),
        (STEWARD, replace(LINKED, consents={"r": ("claims", "imaging"), "s": ("claims",)}),
         "One release waits for imaging's consent", "/releases"),
        (STEWARD, replace(LINKED, questions=("q", "p")), "Two questions wait for imaging's",
         "/questions"),
        (STEWARD, missing("imaging"), "Prepare and upload imaging's data.", ""),
        (OPERATOR, missing("imaging"), "Prepare and upload imaging's data.", ""),
        (OPERATOR, missing("imaging", outdated=3), "Upload imaging's data anew, for epoch 1", ""),
        (OPERATOR, replace(OPEN, uploaders=(up("imaging", quarantined=2, reason="x"),)),
         "Version 2 of imaging cannot be linked", ""),
        (OPERATOR, missing("imaging", suspended=True), "The access of imaging is suspended", ""),
        (RESEARCHER, LINKED, "Ask a question", "/questions"),
        (REVIEWER, replace(LINKED, reviews=("r",)), "One review is open", "/reviews"),
        (AUDITOR, LINKED, "Verify the audit log", "/audit"),
    ],
)  # fmt: skip
def test_there_is_something_to_do(viewer: Viewer, facts: Facts, said: str, where: str) -> None:
    step = next_step([viewer], facts)
    assert said in step.text
    assert not step.waits
    assert step.page == where
    assert bool(step.page) == bool(step.label)


@pytest.mark.parametrize(
    ("viewer", "facts", "said"),
    [
        (ADMIN, LINKED, "Nothing waits for you"),
        (STEWARD, replace(DRAFT, unconfirmed=("claims",)), "opens when claims has, too"),
        (STEWARD, LINKED, "its data are here"),
        (STEWARD, replace(LINKED, consents={"r": ("claims",)}), "its data are here"),
        (OPERATOR, DRAFT, "opens when imaging and claims have confirmed it"),
        (OPERATOR, OPEN, "its data are here"),
        (OPERATOR, replace(OPEN, retired="lost"), "wait for the study's next epoch"),
        (RESEARCHER, OPEN, "once the records were linked"),
        (REVIEWER, LINKED, "No review is open"),
        (STEWARD, replace(OPEN, study_over=LAST), "last day was 2026-03-01"),
        (OPERATOR, replace(OPEN, state="closed"), "The study is closed"),
        (RESEARCHER, replace(OPEN, state="closed"), "The study is closed"),
    ],
)
def test_there_is_something_to_wait_for(viewer: Viewer, facts: Facts, said: str) -> None:
    step = next_step([viewer], facts)
    assert said in step.text
    assert step.waits


@pytest.mark.parametrize("viewer", EVERYBODY)
@pytest.mark.parametrize("state", STATES)
def test_everybody_is_told_one_sentence_in_every_state(viewer: Viewer, state: str) -> None:
    """Also where nothing at all is known besides the state."""
    step = next_step([viewer], Facts(state=state, epoch=1, uploaders=()))
    assert step.text.endswith(".")
    assert ". " not in step.text
    assert "  " not in step.text


def test_a_destroyed_study_asks_for_nothing_but_keeping_the_certificate() -> None:
    gone = replace(LINKED, state="destroyed")
    for viewer in EVERYBODY:
        assert "is destroying" in next_step([viewer], gone).text
        assert next_step([viewer], replace(gone, certificate=True)).page == "#certificate"


def test_the_first_role_with_something_to_do_counts() -> None:
    both = [STEWARD, REVIEWER]
    assert "review is open" in next_step(both, replace(LINKED, reviews=("r",))).text
    assert "its data are here" in next_step(both, LINKED).text
    assert "no role" in next_step([], LINKED).text


def test_a_party_reminds_its_contributors_and_does_not_upload_for_them() -> None:
    theirs = tuple(up("imaging", uploader=one, dataset=None) for one in ("north", "south"))
    facts = replace(OPEN, uploaders=(*theirs, up("enclave")))
    step = next_step([STEWARD], facts)
    assert "(north and south); remind them" in step.text
    assert step.command == ""
    own = next_step([Viewer("operator", "north")], facts)
    assert own.text == "Prepare and upload north's data."
    assert own.command


def test_whose_agreement_is_over_is_not_reminded() -> None:
    facts = replace(missing("imaging"), over={"imaging": LAST})
    assert "start a run" in next_step([ADMIN], facts).text


def test_last_days_are_inclusive_and_in_words() -> None:
    today = dt.date(2026, 3, 1)
    said = {
        0: "ends today, on 1 March 2026",
        1: "ends tomorrow, on 2 March 2026",
        12: "ends in 12 days, on 13 March 2026",
        -1: "ended yesterday, on 28 February 2026",
        -2: "ended 2 days ago, on 27 February 2026",
    }
    for days, words in said.items():
        assert in_words(today + dt.timedelta(days), today) == words
    assert in_words(None, today) == "no last day"


def test_sizes_are_in_words() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_500_000)] == ["0 bytes", "999 bytes", "1.0 kB",
                                                            "1.5 MB"]  # fmt: skip
