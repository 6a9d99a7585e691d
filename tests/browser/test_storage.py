"""What a study keeps here: quotas, versions opened again, and what withdrawals affected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from linkage.messages import ReleaseRequest
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import World, make_world, opened, packages, problem, running, wait_for
from tests.browser.looking import person, window
from tests.protocol.worlds import beside

AT = "/studies/small-study/storage"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("storage"))) as made:
        yield made


def spoilt(made: World, party: str, dataset: int) -> Package:
    """A package that the worker puts into quarantine."""
    records = encoded(made.signed, party, range(60))
    records.pseudonyms[1] = records.pseudonyms[0]
    return pack(made.signed, made.identities[party], records, dataset=dataset)


@pytest.mark.parametrize("scripts", [True, False])
def test_the_admin_sets_a_quota_and_has_a_version_opened_again(
    chromium: Browser, world: World, scripts: bool
) -> None:
    admin = person(world, f"store-admin-{scripts}".lower(), "admin")
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go("/studies/small-study")
        page.get_by_role("link", name="Storage").click()
        if scripts:
            expect(page.get_by_role("heading", name="Nothing was announced yet")).to_be_visible()
            seen.look("storage-empty")
            for package in packages(world).values():
                world.upload(package)
            world.upload(spoilt(world, "claims", 2))
            opened(world, "claims", 2)
        page.reload()
        expect(page.get_by_role("heading", name="claims, version 2")).to_be_visible()
        expect(page.get_by_text("in quarantine")).to_be_visible()
        expect(page.get_by_text("occurs twice")).to_be_visible()
        if scripts:
            seen.look("storage")
        page.get_by_role("button", name="Open version 2 of claims again").click()
        expect(page.get_by_role("status")).to_contain_text("The worker opens it again")
        opened(world, "claims", 2)
        page.reload()
        expect(page.get_by_text("in quarantine")).to_be_visible()

        page.get_by_text("Set another quota…").nth(1).click()
        page.get_by_label("Megabytes for imaging").fill("0")
        page.get_by_role("button", name="Set it for imaging").click()
        expect(page.get_by_role("status")).to_contain_text("The quota is set")
        expect(page.get_by_text("over its quota")).to_be_visible()
        if scripts:
            seen.look("storage-over")
            more = pack(world.signed, world.identities["imaging"],
                        encoded(world.signed, "imaging", range(9)), dataset=2)  # fmt: skip
            refused = world.actor("imaging").post(f"{world.path}/datasets", more.manifest)
            assert problem(refused)[:2] == (413, "too-large")
        page.get_by_text("Set another quota…").nth(1).click()
        page.get_by_label("Megabytes for imaging").fill("500")
        page.get_by_role("button", name="Set it for imaging").click()
        expect(page.get_by_text("of 500.0 MB")).to_be_visible()
    log = world.actor("admin").get("/v1/audit", limit=1000).json()
    done = [(e["action"], e["subject"]) for e in log if e["actor"] == f"person/{admin.name}"]
    for wanted in (("quota set", "imaging"), ("dataset to be checked again", "claims/2")):
        assert wanted in done


def test_over_http_the_same_and_nobody_else(world: World) -> None:
    admin, steward = world.actor("admin"), person(world, "store-steward", "steward:STUDY:imaging")
    at = f"{world.path}/storage"
    told = admin.get(at).raise_for_status().json()
    assert [one["party"] for one in told["usage"]] == ["", "imaging", "enclave", "claims"]
    assert {one["uploader"] for one in told["datasets"]} <= {"imaging", "enclave", "claims"}
    body = {"party": "claims", "bytes": 7_000_000}
    done = admin.call("PUT", f"{at}/quota", json=body).raise_for_status().json()
    assert (done["quota"], done["set_by_admin"]) == (7_000_000, True)
    for wrong in (
        {"party": "nobody", "bytes": 1},
        {"party": "claims", "bytes": -1},
        {"bytes": "x"},
    ):
        assert admin.call("PUT", f"{at}/quota", json=wrong).status_code in (404, 422), wrong
    assert admin.post(f"{world.path}/datasets/claims/9/recheck").status_code == 404
    for call in (steward.call, world.actor("imaging").call):
        assert problem(call("GET", at))[0] == 403
        assert problem(call("PUT", f"{at}/quota", json=body))[0] == 403
        assert problem(call("POST", f"{world.path}/datasets/imaging/1/recheck"))[0] == 403
        assert problem(call("GET", f"{world.path}/affected"))[0] == 403
    who = person(world, "store-http", "admin")
    for wrong in ("", "x", "1.5", "-1", "9" * 30):
        data = {"csrf": who.csrf, "party": "imaging", "megabytes": wrong}
        answer = who.client.post(f"{AT}/quota", data=data)
        assert (answer.status_code, "whole number" in answer.text) == (422, True), wrong
    answer = who.client.post(
        f"{AT}/quota", data={"csrf": who.csrf, "party": "NO", "megabytes": "1"}
    )
    assert answer.status_code == 422
    again = who.client.post(f"{AT}/claims/9/recheck", data={"csrf": who.csrf})
    assert (again.status_code, "has no dataset version" in again.text) == (422, True)
    for path in (AT, "/studies/small-study/releases/affected"):
        assert steward.client.get(path).status_code == 403


def test_what_withdrawals_affected_is_listed(chromium: Browser, world: World) -> None:
    made = beside(world, "affected-study")
    admin = person(made, "affected-admin", "admin")
    at = "/studies/affected-study/releases"
    with window(chromium, world.url, admin) as seen:
        page = seen.go(f"{at}/affected")
        expect(page.get_by_role("heading", name="Nothing is affected")).to_be_visible()
        seen.look("affected-empty")
        for package in packages(made).values():
            made.upload(package)
        done = made.run(second_look=False)
        assert done["state"] == "done", done["failure"]
        asked = made.actor("admin").post(
            f"{made.path}/releases", ReleaseRequest(audience=("enclave",))
        )
        release = asked.raise_for_status().json()["job_id"]
        assert made.finish(f"{made.path}/jobs/{release}")["state"] == "done"
        pin = {"name": "lung-cohort", "holds": True}
        made.actor("enclave").call(
            "POST", f"{made.path}/releases/{release}/pins", json=pin
        ).raise_for_status()
        fewer = encoded(made.signed, "enclave", range(70, 180))
        made.upload(pack(made.signed, made.identities["enclave"], fewer, dataset=2))
        caller = made.actor("admin")
        wait_for(lambda: caller.get(f"{made.path}/affected").json() != [], 60)
        seen.go(at)
        page.get_by_role("link", name="What withdrawals affected").click()
        expect(page.locator("section.card")).to_contain_text("10 records, first seen")
        expect(page.locator("section.card")).to_contain_text("lung-cohort: tell them")
        seen.look("affected")
