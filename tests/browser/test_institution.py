"""Signing in at an institution, from another site and back, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect
from sqlalchemy import update

from broker.front_door import FRESH_SECONDS
from broker.store.tables import session
from tests.broker_world import World, make_world, wait_for
from tests.browser.looking import services, window
from tests.oidc_provider import CLIENT, SECRET, TestProvider, provider


@contextmanager
def of_institution(
    tmp_path: Path, port: int, *, group: str, role: str
) -> Iterator[tuple[World, TestProvider]]:
    """A broker whose people sign in at another site: 127.0.0.1 beside the broker's localhost."""
    with provider() as idp:
        made = make_world(tmp_path)
        (made.home.path / "secret").write_text(SECRET + "\n")
        with (made.home.path / "config.toml").open("a") as config:
            config.write(
                f'[accounts]\norigin = "http://localhost:{port}"\n[oidc]\nissuer = "{idp.url}"\n'
                f'client_id = "{CLIENT}"\nclient_secret_file = "secret"\n'
                f'[[oidc.rule]]\nclaim = "groups"\nvalue = "{group}"\nrole = "{role}"\n'
            )
        ready = made.home.path / "ready"
        made.spawn("serve", "--port", str(port), "--ready-file", str(ready), log="serve")
        try:
            wait_for(ready.exists, 60)
            made.url = f"http://localhost:{port}"
            yield made, idp
        finally:
            made.stop()


def test_a_person_of_an_institution_comes_back_signed_in(
    chromium: Browser, tmp_path: Path, free_port: int
) -> None:
    auditors = of_institution(tmp_path, free_port, group="linkage-auditors", role="auditor")
    with auditors as (made, idp):
        with window(chromium, made.url) as seen:
            page = seen.go("/")
            seen.look("sign-in-institution")
            idp.claims = {"sub": "u-2", "groups": ["somebody-else"]}
            page.get_by_role("link", name="Sign in at your institution").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("no role")
            seen.complaints.clear()  # that the provider's address was asked is no fault here
            seen.look("institution-no-role")
            idp.claims = {"sub": "u-1", "groups": ["linkage-auditors"]}
            seen.go("/sign-in")
            page.get_by_role("link", name="Sign in at your institution").click()
            expect(page.get_by_role("heading", name="Studies", level=1)).to_be_visible()
            expect(page.get_by_role("link", name="Audit")).to_be_visible()
        with window(chromium, made.url, scripts=False) as seen:
            page = seen.go("/sign-in")
            page.get_by_role("link", name="Sign in at your institution").click()
            expect(page.get_by_role("heading", name="Studies", level=1)).to_be_visible()


def test_an_admin_of_an_institution_proves_by_coming_from_there_anew(
    chromium: Browser, tmp_path: Path, free_port: int
) -> None:
    admins = of_institution(tmp_path, free_port, group="linkage-admins", role="admin")
    with admins as (made, idp):
        idp.claims = {"sub": "u-1", "groups": ["linkage-admins"]}
        made.actor("admin").post("/v1/studies", made.signed).raise_for_status()
        with window(chromium, made.url) as seen:
            page = seen.go("/sign-in")
            page.get_by_role("link", name="Sign in at your institution").click()
            expect(page.get_by_role("heading", name="Studies", level=1)).to_be_visible()
            seen.complaints.clear()
            broker = services(made)
            with broker.database.change() as connection:
                # As if an hour had gone by since.
                older = {"expires_at": session.c.expires_at - FRESH_SECONDS - 1}
                connection.execute(update(session).values(**older))
            broker.database.close()
            seen.go(f"/studies/{made.study_id}/keys")
            page.get_by_text("Suspend imaging…").click()
            form = page.locator("form", has=page.get_by_role("button", name="Suspend imaging"))
            expect(form.get_by_text("Your institution says who you are")).to_be_visible()
            expect(form.get_by_label("Your password")).to_have_count(0)
            form.get_by_label("Why").fill("key stolen")
            form.get_by_label("To go on, type").fill("imaging")
            seen.look("institution-proof")
            form.get_by_role("button").click()
            expect(page.get_by_role("alert")).to_contain_text("begun in the last five minutes")
            assert broker_suspended(made) == []

            form.get_by_role("link", name="sign in there again").click()
            expect(page.get_by_role("heading", name="Studies", level=1)).to_be_visible()
            seen.go(f"/studies/{made.study_id}/keys")
            page.get_by_text("Suspend imaging…").click()
            form.get_by_label("Why").fill("key stolen")
            form.get_by_label("To go on, type").fill("imaging")
            form.get_by_role("button").click()
            expect(page.get_by_role("status")).to_contain_text("access is suspended")
            assert broker_suspended(made) == ["imaging"]


def broker_suspended(made: World) -> list[str]:
    listed = made.actor("admin").get(f"{made.path}/access").raise_for_status().json()
    return [one["name"] for one in listed if one["suspended_at"] is not None]
