"""The audit log in a real browser: read, searched, verified, its heads signed and downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Download, Page, expect
from sqlalchemy import text

from broker import audit
from linkage.audit_chain import read_heads, verify_export
from tests.audit_log import unlock
from tests.broker_world import World, make_world, running, sign_for, wait_for
from tests.browser.looking import person, services, window
from tests.people import Person

MANY = 130


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A broker with a log of some pages."""
    with running(make_world(tmp_path_factory.mktemp("audit"))) as made:
        broker = services(made)
        for n in range(MANY):
            with broker.database.change() as connection:
                audit.record(
                    connection,
                    actor="person/zoe",
                    action="looked" if n % 2 else "went on",
                    study_id=made.study_id if n % 3 else "",
                    subject=f"run-{n}",
                    detail={"sha256": f"{n % 4:064x}", "rows": n},
                )
        wait_for(lambda: broker.heads.newest() != "", 60)
        broker.database.close()
        other, _ = sign_for(made.home.public(), "other-study")
        made.actor("admin").post("/v1/studies", other).raise_for_status()
        yield made


@pytest.fixture(scope="module")
def auditor(world: World) -> Person:
    return person(world, "otto", "auditor")


def lines(page: Page) -> list[str]:
    return page.locator(".timeline .what").all_inner_texts()


def saved(download: Download, folder: Path) -> Path:
    download.save_as(folder / download.suggested_filename)
    return folder / download.suggested_filename


def test_an_auditor_reads_and_searches_the_log(
    chromium: Browser, world: World, auditor: Person
) -> None:
    with window(chromium, world.url, auditor) as seen:
        seen.go("/")
        seen.page.get_by_role("link", name="Audit", exact=True).click()
        page = seen.page
        expect(page.get_by_role("heading", name="Newest entries")).to_be_visible()
        expect(page.get_by_text("The end fits")).to_be_visible()
        expect(page.locator(".timeline .what")).to_have_count(50)
        page.locator(".timeline summary", has_text="person/zoe").first.click()
        seen.look("audit")
        seen.printed("audit")
        numbers = page.locator(".timeline dd:first-of-type").all_text_contents()
        page.get_by_role("link", name="Older").click()
        expect(page.get_by_role("heading", name="Older entries")).to_be_visible()
        expect(page.locator(".timeline dd:first-of-type")).to_have_count(50)
        older = page.locator(".timeline dd:first-of-type").all_text_contents()
        assert not {*numbers} & {*older}
        page.get_by_role("link", name="Newest", exact=True).click()
        page.get_by_text("Search", exact=True).first.click()
        page.get_by_label("Who", exact=True).fill("person/zoe")
        page.get_by_label("What was done").fill("looked")
        page.get_by_label("Study").fill(world.study_id)
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("heading", name="Found")).to_be_visible()
        found = len([n for n in range(MANY) if n % 2 and n % 3])
        expect(page.locator(".timeline .what")).to_have_count(found)
        assert {*lines(page)} == {"looked"}
        seen.look("audit-found")
        page.locator(".timeline summary").first.click()
        page.get_by_role("link", name="run-127").click()
        expect(page.get_by_label("Run, release")).to_have_value("run-127")
        expect(page.locator(".timeline li")).to_have_count(1)
        page.get_by_role("link", name="Show all").first.click()
        page.get_by_text("Search", exact=True).first.click()
        page.get_by_label("Run, release").fill(f"{3:064x}")
        page.get_by_label("To day (UTC)").fill("2099-12-31")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".timeline li")).to_have_count(len(range(3, MANY, 4)))
        page.get_by_label("To day (UTC)").fill("2001-01-01")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("Nothing was found")).to_be_visible()
        seen.look("audit-nothing")


def test_the_whole_log_is_verified(chromium: Browser, world: World, auditor: Person) -> None:
    with window(chromium, world.url, auditor) as seen:
        page = seen.go("/audit")
        page.get_by_role("button", name="Verify the whole log now").click()
        expect(page.get_by_text("All of it verified")).to_be_visible()
        expect(page.locator("#verification")).to_contain_text("person/otto")
        page.get_by_text("Verify it without trusting").click()
        expect(page.get_by_role("button", name="Copy").first).to_be_visible()
        seen.look("audit-verified")
        seen.printed("audit-verified")
    with window(chromium, world.url, auditor, scripts=False) as seen:
        page = seen.go("/audit")
        page.get_by_role("button", name="Verify the whole log now").click()
        expect(page.get_by_role("heading", name="Verification of the audit log")).to_be_visible()
        expect(page.get_by_text("All of it verified")).to_be_visible()  # the page loads itself anew


def test_heads_are_signed_and_downloaded_and_verify(
    chromium: Browser, world: World, auditor: Person, tmp_path: Path
) -> None:
    signer = world.home.public()
    with window(chromium, world.url, auditor) as seen:
        page = seen.go("/audit/heads")
        before = page.locator("tbody tr").count()
        page.get_by_role("button", name="Have one signed now").click()
        expect(page.get_by_text("A worker signs a head within seconds")).to_be_visible()
        expect(page.get_by_role("button", name="Have one signed now")).to_be_visible()
        expect(page.locator("tbody tr")).to_have_count(before + 1)
        seen.look("audit-heads")
        with page.expect_download() as got:
            page.get_by_role("link", name="Download all").click()
        kept = read_heads(saved(got.value, tmp_path), signer)
        page.get_by_role("link", name="To the audit log").click()
        with page.expect_download() as got:
            page.get_by_role("link", name="Download the log").click()
        told = verify_export(saved(got.value, tmp_path), signer, kept)
        assert (told.kept, told.heads) == (before + 1, before + 1)
        assert told.entries >= MANY


def test_a_steward_compares_heads_and_reads_no_entry(
    chromium: Browser, world: World, tmp_path: Path
) -> None:
    steward = person(world, "sten", "steward:STUDY:imaging")
    with window(chromium, world.url, steward) as seen:
        page = seen.go(f"/studies/{world.study_id}")
        assert page.get_by_label("Portal").get_by_role("link", name="Audit").count() == 0
        page.get_by_label("This study").get_by_role("link", name="Audit").click()
        expect(page.get_by_text("linkage audit compare")).to_be_visible()
        seen.look("audit-study")
        before = page.locator("tbody tr").count()
        page.get_by_role("button", name="Have one signed now").click()
        expect(page.locator("tbody tr")).to_have_count(before + 1)
        with page.expect_download() as got:
            page.get_by_role("link", name="Download all").click()
        assert len(read_heads(saved(got.value, tmp_path), world.home.public())) == before + 1
    for path in ("/audit", "/audit/heads", "/audit/log.jsonl", "/audit/heads.jsonl"):
        assert steward.client.get(path).status_code == 403, path
    for path in ("/audit/verification", "/audit/heads"):
        assert steward.client.post(path, data={"csrf": steward.csrf}).status_code == 403


def test_who_may_not_read_heads_is_not_offered_them(chromium: Browser, world: World) -> None:
    for role in ("researcher:STUDY", "reviewer:STUDY"):
        other = person(world, f"no-{role[:4]}", role)
        path = f"/studies/{world.study_id}"
        with window(chromium, world.url, other) as seen:
            seen.go(path)
            assert seen.page.get_by_role("link", name="Audit").count() == 0
        for at in (f"{path}/audit", f"{path}/audit/heads.jsonl", "/audit"):
            assert other.client.get(at).status_code == 403, at
    stranger = person(world, "away", "steward:other-study:imaging")
    assert stranger.client.get(f"/studies/{world.study_id}/audit").status_code == 404


def test_what_somebody_types_into_an_address_is_told_and_not_run(
    world: World, auditor: Person
) -> None:
    get = auditor.client.get
    assert get("/audit", params={"since": "yesterday"}).status_code == 422
    turned = get("/audit", params={"since": "2026-02-01", "until": "2026-01-31"}).text
    assert "the first day is after the last" in turned
    assert get("/audit", params={"before": "-1"}).status_code == 422
    shown = get("/audit", params={"actor": "<script>alert(1)</script>"})
    assert shown.status_code == 200
    assert "<script>alert" not in shown.text
    assert get("/audit", params={"study": "a\0b"}).status_code == 422


def test_an_altered_log_is_shown_as_such(chromium: Browser, world: World, auditor: Person) -> None:
    """The last: the log is spoiled after it."""
    broker = services(world)
    with broker.database.change() as connection:
        unlock(connection)
        last = connection.execute(text("SELECT max(number) FROM audit")).scalar_one()
        for number in (20, last - 2):
            row = connection.execute(
                text("SELECT entry FROM audit WHERE number = :n"), {"n": number}
            ).scalar_one()
            spoiled = json.dumps(json.loads(row) | {"actor": "nobody"})
            changed = text("UPDATE audit SET entry = :e WHERE number = :n")
            connection.execute(changed, {"e": spoiled, "n": number})
    broker.database.close()
    with window(chromium, world.url, auditor) as seen:
        page = seen.go("/audit")
        expect(page.locator(".timeline .odd")).to_have_count(1)
        page.locator(".timeline .odd summary").click()
        expect(page.get_by_text("one of both was altered or is missing")).to_be_visible()
        page.get_by_role("button", name="Verify the whole log now").click()
        expect(page.get_by_text("The whole log does not verify")).to_be_visible()
        expect(page.locator("#verification")).to_contain_text(re.compile(r"at entry 20\b"))
        seen.look("audit-altered")
