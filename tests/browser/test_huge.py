"""
What grows over years, to be looked at: 10,000 pairs to review, 500 runs, 200 accounts, releases
and questions of which records were withdrawn, twelve parties with long names. Rows are put in
place, to be looked at.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from broker.person_roles import parse_role
from broker.services.runs import SOFTWARE
from broker.store import jobs, releases, reviews, runs
from broker.store.engine import Connection
from broker.store.jobs import JobRow
from broker.store.reviews import ReviewRow
from linkage.release_messages import ReleaseTerms
from linkage.study import FIELDS
from tests.broker_world import World, make_world, running
from tests.browser.looking import Window, person, services, window
from tests.browser.test_looks import LONG, beside, huge
from tests.browser.test_run_states import PARTIES, huge_report
from tests.browser.test_studies import close, order
from tests.people import PASSWORD
from tests.reviewing import put_review

RUNS, PAIRS, ACCOUNTS, AFFECTED = 500, 10_000, 200, 60
TWELVE = ("imaging", "enclave", "claims", *(LONG.format(n) for n in range(9)))
AT = "/studies/huge-study"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("huge"), study_id="huge-study", text=huge())
    with running(made, worker=False):
        broker = services(made)
        with broker.database.change() as connection:
            for number in range(RUNS):
                runs.add(connection, a_run(made.study_id, number))
        broker.database.close()
        yield made


def a_run(study_id: str, number: int) -> runs.RunRow:
    """One of many; the newest and every tenth is done."""
    done = number % 10 == 9
    return runs.RunRow(
        id=f"run-{number:016x}",
        study_id=study_id,
        seed=number,
        epoch=1,
        inputs=json.dumps(dict.fromkeys(TWELVE, 1)),
        software=SOFTWARE,
        started_at=1_790_000_000 + 60 * number,
        state="done" if done else "failed",
        stage="identity" if done else "candidates",
        finished_at=1_790_000_100 + 60 * number,
        sequence=number + 1 if done else None,
        report=json.dumps(of_long_names()) if number == RUNS - 1 else "{}" if done else None,
        failure=None if done else "a stored package is no longer there",
    )


def of_long_names() -> dict[str, Any]:
    """A report of nine parties with names of 63 letters."""
    said = json.dumps(huge_report())
    for number, name in enumerate(PARTIES):
        said = said.replace(name, LONG.format(number))
    report: dict[str, Any] = json.loads(said)
    return report


NEWEST = f"run-{RUNS - 1:016x}"


def test_five_hundred_runs_come_by_pages(chromium: Browser, world: World) -> None:
    with window(chromium, world.url, person(world, "runa", "admin")) as seen:
        page = seen.go(f"{AT}/runs")
        expect(page.get_by_role("link", name=NEWEST)).to_be_visible()
        expect(page.locator(".inputs").first).to_have_text("12")
        page.set_viewport_size({"width": 768, "height": 900})
        table = page.locator(".scroll").first
        assert table.evaluate("one => one.scrollWidth <= one.clientWidth"), "a column out of sight"
        seen.look("runs-huge")
        page.get_by_role("link", name="Older runs").click()
        expect(page.get_by_text("newest first")).to_be_visible()
        expect(page.get_by_role("link", name="Newest runs")).to_be_visible()
        seen.look("runs-huge-older")


def test_a_run_of_long_names_can_be_read(chromium: Browser, world: World) -> None:
    with window(chromium, world.url, person(world, "lena", "admin")) as seen:
        page = seen.go(f"{AT}/runs/{NEWEST}")
        expect(page.get_by_role("heading", name="Who is where")).to_be_visible()
        seen.look("run-long-names")
        seen.printed("run-long-names")


def test_a_review_of_ten_thousand_pairs(chromium: Browser, world: World) -> None:
    broker = services(world)
    with broker.database.change() as connection:
        a_review(connection, world.study_id)
    broker.database.close()
    with window(chromium, world.url, person(world, "rosa", "admin")) as seen:
        page = seen.go(f"{AT}/reviews/{NEWEST}")
        expect(page.locator(".figures")).to_contain_text(re.compile("Pairs\\s*10.000"))
        seen.look("review-huge")
        seen.printed("review-huge")
    with window(chromium, world.url, person(world, "rudi", "reviewer:STUDY")) as seen:
        page = seen.go(f"{AT}/reviews/{NEWEST}")
        expect(page.get_by_text(re.compile("pairs left for you"))).to_be_visible()
        page.get_by_text("How to read a pair").click()
        seen.look("review-pair-huge")


def a_review(connection: Connection, study_id: str) -> None:
    """Open, of two parties with long names and of all fields; a third of it is read."""
    row = ReviewRow(
        run_id=NEWEST,
        study_id=study_id,
        state=reviews.OPEN,
        reviewers="[]",
        opened_at=1_790_040_000,
    )
    readings = [
        (number, reading, who)
        for number in range(0, PAIRS, 6)
        for reading, who in ((1, "ada"), (2, "ben"))
    ]
    put_review(
        connection,
        row,
        parties=(TWELVE[-2], TWELVE[-1]),
        fields=FIELDS,
        pairs=PAIRS,
        readings=readings,
    )


def test_two_hundred_accounts_come_by_pages(chromium: Browser, world: World) -> None:
    roles = [f"steward:huge-study:{TWELVE[-1]}", "researcher:huge-study", "reviewer:huge-study"]
    broker = services(world)
    for number in range(ACCOUNTS):
        name = f"{number:03}-somebody-whose-name-is-as-long-as-an-account-may-be-here"
        broker.accounts.invite(f"n{name}", [parse_role(role) for role in roles])
    broker.database.close()
    with window(chromium, world.url, person(world, "paul", "admin")) as seen:
        page = seen.go("/admin/people?page=2")
        expect(page.locator(".people li")).to_have_count(25)
        seen.look("people-huge")


def test_what_is_released_and_withdrawn_at_twelve_parties(chromium: Browser, world: World) -> None:
    broker, now = services(world), int(time.time())
    with broker.database.change() as connection:
        mark = releases.mark(connection, world.study_id)
        for number in range(AFFECTED):
            row = replace(a_release(world, number), checked=mark)
            jobs.add(connection, row)
            if number:
                lost = {"enclave": 10 + number, TWELVE[-1]: 1_000 + number}
                releases.set_affected(connection, row.id, lost, now)
                for use in ("lung-cohort", "a-cohort-with-a-name-as-long-as-they-may-be-here"):
                    releases.set_pin(connection, row.id, "enclave", use, holds=True, now=now)
    broker.database.close()
    with window(chromium, world.url, person(world, "rhea", "admin")) as seen:
        page = seen.go(f"{AT}/releases")
        expect(page.get_by_text("Records of it were withdrawn").first).to_be_visible()
        expect(page.get_by_role("heading", name="Release 59 for 12 parties")).to_be_visible()
        seen.look("releases-withdrawn")
        seen.go(f"{AT}/releases/affected")
        expect(page.get_by_text("lung-cohort").first).to_be_visible()
        seen.look("affected-huge")
        seen.go(f"{AT}/storage")
        expect(page.locator(".party").first).to_be_visible()
        seen.look("storage-huge")


def a_release(world: World, number: int) -> JobRow:
    """For everybody; the first waits for consent, the others are made."""
    name = f"release-{number:016x}"
    terms = ReleaseTerms(
        study_id=world.study_id,
        study_hash=world.signed.study_hash,
        release_id=name,
        run_id=NEWEST,
        audience=tuple(sorted(TWELVE)),
    )
    return JobRow(
        id=name,
        study_id=world.study_id,
        kind="release",
        run_id=NEWEST,
        request=json.dumps({"audience": sorted(TWELVE)}),
        state="done" if number else "waiting",
        asked_at=1_790_060_000 - 60 * number,
        finished_at=1_790_061_000 - 60 * number if number else None,
        number=AFFECTED - number if number else None,
        terms=terms.model_dump_json(),
        made=json.dumps({"records": dict.fromkeys(TWELVE, 1_234_567), "left_out": {}}),
    )


def test_a_study_that_is_being_destroyed_says_so(chromium: Browser, world: World) -> None:
    """No worker is there: it stays so."""
    beside(world, "ending-study")
    admin = person(world, "edna", "admin")
    with window(chromium, world.url, admin) as seen:
        page = seen.go("/studies/ending-study")
        close(page, "ending-study", scripts=True)
        order(page, "ending-study", PASSWORD, admin.recovery.pop(0))
        expect(page.get_by_text("The worker is deleting it")).to_be_visible()
        seen.look("study-destroying")


def test_who_fails_to_sign_in_too_often_waits(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = make_world(tmp_path_factory.mktemp("often"))
    with (made.home.path / "config.toml").open("a") as config:
        config.write("\n[accounts]\nfailed_per_minute = 5\n")
    with running(made, worker=False), window(chromium, made.url) as seen:
        page = seen.go("/sign-in")
        for _ in range(6):
            sign_in(seen)
        expect(page.get_by_role("alert")).to_contain_text(
            re.compile("too many failed", re.IGNORECASE)
        )
        seen.look("sign-in-too-often")
        page = seen.go("/invitation")
        page.get_by_label("Code of the invitation").fill("not-the-code")
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("alert")).to_be_visible()
        seen.look("invitation-too-often")


def sign_in(seen: Window) -> None:
    page = seen.page
    page.get_by_label("Name").fill("nobody-here")
    page.get_by_label("Password").fill("one two three four five")
    page.get_by_label("Code").fill("123456")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
