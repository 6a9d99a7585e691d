"""
What the other stories do not pass by: many studies and a huge one with long names, questions in
every stage, refusals and a fault. Their rows are put in place, to be looked at.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import text

from broker.store import jobs
from broker.store.jobs import ItemRow, JobRow
from linkage.messages import DELIVERY_ROWS, QUESTION_ANSWER, QUESTION_COUNTS, READER
from tests.broker_world import STUDY, World, make_world, running, sign_for
from tests.browser.looking import person, services, window
from tests.browser.test_run_states import put
from tests.questions import question

TITLE = "Outcomes of pulmonary nodules found by chance on chest CT in nine states, 2012 to 2025"
LONG = "university-hospital-of-the-northern-and-western-region-part-{:02}"
"""A party's name of 63 characters."""
PARTY = """
[[party]]
id = "{id}"
title = "University Hospital of the Northern and Western Region, {number}"
records = 100_000
fields = ["first_name", "last_name", "date_of_birth", "sex", "zip"]
"""
STAGES = ("asked", "answered", "counted", "prepared", "failed", "ready", "sent", "queued", "lost")


def huge() -> str:
    """A study of twelve parties, nine of them with long names."""
    more = "".join(PARTY.format(id=LONG.format(n), number=n) for n in range(9))
    return STUDY.replace("A small study", TITLE) + more


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("looks"), study_id="huge-study", text=huge())
    with running(made, worker=False):
        yield made


def beside(world: World, study_id: str) -> None:
    """One more study on the same broker."""
    signed, _ = sign_for(world.home.public(), study_id, text=STUDY.replace("A small study", TITLE))
    world.actor("admin").post("/v1/studies", signed).raise_for_status()


def test_many_studies_and_a_huge_one(chromium: Browser, world: World) -> None:
    for number in range(11):
        beside(world, f"study-with-a-name-that-is-rather-long-as-names-go-{number:02}")
    name = "ada-with-a-name-that-somebody-made-as-long-as-an-account-may-be"
    with window(chromium, world.url, person(world, name, "admin")) as seen:
        page = seen.go("/")
        expect(page.locator("main .card")).to_have_count(12)
        seen.look("studies-many")
        seen.go("/studies/huge-study")
        expect(page.locator(".party")).to_have_count(12)
        seen.look("study-huge")
        seen.printed("study-huge")
        seen.go("/studies/huge-study/keys")
        summary = page.locator("summary", has_text=f"Suspend {LONG.format(3)}…")
        assert summary.inner_text().count("university") == 1, "for who hears the page"
        box = summary.bounding_box()
        assert box is not None
        assert box["height"] < 50, "one line for who sees it"
        seen.look("study-keys-huge")
        seen.go("/admin/keys")
        seen.look("admin-keys-many")
        seen.go("/studies/huge-study/runs/new")
        expect(page.locator(".notice.bad")).to_contain_text("12 of them have no complete")
        seen.look("run-new-huge")


def test_questions_in_every_stage(chromium: Browser, world: World) -> None:
    """As the broker's rows have them: forty questions on two pages, their stages by turns."""
    run = put(world, 77, state="done", stage="identity", sequence=1, report="{}")
    asked = question(run, title=TITLE, purpose=f"{TITLE}. {TITLE}.", expires="2099-01-31")
    broker, terms = services(world), {"epoch": 1, "study_hash": world.signed.study_hash}
    like = JobRow(
        id="",
        study_id=world.study_id,
        kind="question",
        run_id=run,
        request=asked.model_dump_json(),
        state="done",
        asked_at=1_790_000_000,
        terms=json.dumps(terms),
    )
    ids: dict[str, str] = {}
    with broker.database.change() as connection:
        for number in range(40):
            stage = STAGES[number % len(STAGES)]
            at = ids[stage] = f"question-{number:016x}"
            state = {"queued": "queued", "lost": "failed"}.get(stage, "done")
            why = "the run's result is gone" if stage == "lost" else None
            new = dataclasses.replace(like, id=at, asked_at=like.asked_at + number)
            jobs.add(connection, dataclasses.replace(new, state=state, failure=why))
            if stage not in ("asked", "queued", "lost"):
                jobs.add_item(connection, item(world, at, "imaging", "enclave", QUESTION_ANSWER))
            if stage in STAGES[2:7]:
                jobs.add_item(connection, item(world, at, "enclave", READER, QUESTION_COUNTS))
            if stage in STAGES[3:7]:
                ordered = f"delivery-{number:016x}"
                state = {"prepared": "running", "failed": "failed"}.get(stage, "done")
                why = "a stored package is no longer there" if stage == "failed" else None
                delivery = dataclasses.replace(new, id=ordered, kind="delivery", about=at)
                delivery = dataclasses.replace(delivery, state=state, failure=why, request="{}")
                jobs.add(connection, delivery)
                if stage == "sent":
                    rows = item(world, ordered, "imaging", "enclave", DELIVERY_ROWS)
                    jobs.add_item(connection, rows)
    broker.database.close()
    with window(chromium, world.url, person(world, "emil", "steward:STUDY:enclave")) as seen:
        page = seen.go("/studies/huge-study/questions")
        expect(page.get_by_text("Page 1 of 2")).to_be_visible()
        seen.look("questions-many")
        for stage in ("prepared", "failed", "ready", "sent"):
            seen.go(f"/studies/huge-study/questions/{ids[stage]}")
            expect(page.locator("#delivery li").first).to_have_text("Ordered")
            seen.look(f"question-delivery-{stage}")


def item(world: World, subject: str, sender: str, recipient: str, purpose: str) -> ItemRow:
    """A sealed object of the relay, of which only the row is there."""
    name = f"{subject}-{purpose}-{recipient}"
    return ItemRow(
        id=f"{abs(hash(name)):032x}"[:32],
        study_id=world.study_id,
        sender=sender,
        recipient=recipient,
        purpose=purpose,
        subject=subject,
        blob_id=f"{abs(hash(name)):032x}"[:32],
        size=1,
        digest="0" * 64,
        placed_at=1_790_000_100,
    )


def test_what_is_refused_says_so_and_where_to_go(chromium: Browser, world: World) -> None:
    with window(chromium, world.url, person(world, "rita", "researcher:STUDY")) as seen:
        page = seen.go("/admin")
        expect(page.get_by_role("link", name="To the studies")).to_be_visible()
        seen.look("not-allowed")
        seen.go("/studies/another-study")
        expect(page.get_by_role("link", name="To the studies")).to_be_visible()
        seen.look("no-such-study")
    with window(chromium, world.url) as seen:
        page = seen.go("/sign-in")
        for _ in range(2):
            page.get_by_label("Name").fill("nobody-here")
            page.get_by_label("Password").fill("one two three four five")
            page.get_by_label("Code").fill("123456")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_be_visible()
        seen.look("sign-in-refused")


def test_a_fault_names_the_request_and_tells_nothing_else(chromium: Browser, world: World) -> None:
    """A table is away, as where a database was restored in part."""
    away, back = "ALTER TABLE review RENAME TO away", "ALTER TABLE away RENAME TO review"
    broker = services(world)
    with window(chromium, world.url, person(world, "fay", "reviewer:STUDY")) as seen:
        with broker.database.change() as connection:
            connection.execute(text(away))
        try:
            page = seen.go("/studies/huge-study/reviews")
            seen.complaints.clear()  # that the server had a fault is what is looked at
            expect(page.get_by_text(re.compile("name this request"))).to_be_visible()
            assert "review" not in page.locator("main").inner_text()
            seen.look("fault")
        finally:
            with broker.database.change() as connection:
                connection.execute(text(back))
            broker.database.close()
