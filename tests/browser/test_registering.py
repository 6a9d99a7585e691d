"""What the custodian signed comes in by the portal: studies, epochs, keys that are out of use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from linkage.messages import CUSTODIAN, Deactivation
from tests.broker_world import STUDY, World, make_world, running, sign_for
from tests.browser.looking import person, window

AT = "/admin/studies"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("registering")), worker=False) as made:
        yield made


@pytest.mark.parametrize("scripts", [True, False])
def test_a_signed_study_is_read_then_registered(
    chromium: Browser, world: World, tmp_path: Path, scripts: bool
) -> None:
    study_id = f"lung-{scripts}".lower()
    signed, identities = sign_for(world.home.public(), study_id, rehearsal=False)
    file = tmp_path / "signed-study.json"
    file.write_text(signed.model_dump_json())
    admin = person(world, f"reg-admin-{scripts}".lower(), "admin")
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go("/admin")
        page.get_by_role("link", name="Register").click()
        if scripts:
            seen.look("register-empty")
            page.get_by_label("Open the file").set_input_files(file)
        else:
            page.get_by_label("The signed study").fill(file.read_text())
        page.get_by_role("button", name="See what it is").click()
        expect(page.get_by_text(signed.study_hash)).to_be_visible()
        expect(page.get_by_text("the study is new here")).to_be_visible()
        if scripts:
            seen.look("register-read")
        # Its fingerprint is not shown: the custodian has to read it out.
        assert signed.pin(CUSTODIAN).fingerprint not in page.content()
        page.get_by_role("button", name="Register it").click()
        expect(page.get_by_role("alert")).to_contain_text("fingerprint was not given")
        page.get_by_label("The custodian's fingerprint").fill(world.home.public().fingerprint)
        page.get_by_role("button", name="See what it is").click()
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_role("button", name="Register it")).to_have_count(0)
        page.get_by_label("The custodian's fingerprint").fill(signed.pin(CUSTODIAN).fingerprint)
        page.get_by_role("button", name="See what it is").click()
        page.get_by_role("button", name="Register it").click()
        expect(page.get_by_role("status")).to_contain_text("The study is registered.")
        expect(page.locator("section.next")).to_contain_text("Three parties have not confirmed")

        notice = Deactivation(
            study_id=study_id, epoch=1, key_check=signed.key_check, date="2026-05-31",
            reason="a laptop was stolen",
        ).sign(identities[CUSTODIAN])  # fmt: skip
        seen.go(AT)
        page.get_by_label("The signed notice").fill(notice.model_dump_json())
        page.get_by_label("To go on, type the study's name").fill("another")
        page.get_by_role("button", name="Take the notice").click()
        expect(page.get_by_role("alert")).to_contain_text("about another study")
        page.get_by_label("To go on, type the study's name").fill(study_id)
        page.get_by_role("button", name="Take the notice").click()
        expect(page.get_by_role("status")).to_contain_text("The notice is taken")
        expect(page.get_by_text("The study key is out of use").first).to_be_visible()


def test_an_epoch_with_other_parties_wants_a_tick(world: World, chromium: Browser) -> None:
    admin = person(world, "epoch-admin", "admin")
    text = STUDY.replace('title = "A small study"', 'title = "A small study"\nepoch = 2')
    text = text.replace(
        """[[party]]
id = "claims\"""",
        """[[party]]
id = "second\"""",
    )
    assert text.count('id = "second"') == 1
    known = {name: key for name, key in world.identities.items() if name != "claims"}
    signed, _ = sign_for(world.home.public(), "small-study", text=text, identities=known)
    form = {"csrf": admin.csrf, "text": signed.model_dump_json(), "act": "register"}
    answer = admin.client.post(AT, data=form)
    assert answer.status_code == 422
    with window(chromium, world.url, admin) as seen:
        page = seen.go(AT)
        page.get_by_label("The signed study").fill(signed.model_dump_json())
        page.get_by_role("button", name="See what it is").click()
        expect(page.get_by_text("here is epoch 1: everybody confirms")).to_be_visible()
        seen.look("register-epoch")
        page.get_by_label("Its next epoch may have other parties").check()
        page.get_by_role("button", name="Register it").click()
        expect(page.get_by_role("status")).to_contain_text("The study is registered.")


def test_what_is_none_is_said_and_nobody_else_registers(world: World) -> None:
    admin, steward = person(world, "no-reg", "admin"), person(world, "no-st", "researcher:STUDY")
    for text in ("", "{", "[]", '{"version": 1}', "x" * 100_000):
        for act in ("see", "register"):
            form = {"csrf": admin.csrf, "text": text, "act": act}
            answer = admin.client.post(AT, data=form)
            assert (answer.status_code, "no signed study" in answer.text) == (422, True)
        form = {"csrf": admin.csrf, "notice": text, "confirm": "small-study"}
        answer = admin.client.post(f"{AT}/deactivation", data=form)
        assert answer.status_code in (413, 422), text[:9]
    altered = world.signed.model_copy(update={"key_check": "cd" * 16}).model_dump_json()
    form = {"csrf": admin.csrf, "text": altered, "act": "register"}
    answer = admin.client.post(AT, data=form)
    assert (answer.status_code, "Register it" in answer.text) == (422, False)
    assert steward.client.get(AT).status_code == 403
    for path in (AT, f"{AT}/deactivation"):
        sent = {"csrf": steward.csrf, "text": "{}", "notice": "{}"}
        assert steward.client.post(path, data=sent).status_code == 403
