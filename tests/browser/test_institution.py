"""Signing in at an institution, from another site and back, in a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.broker_world import make_world, wait_for
from tests.browser.looking import window
from tests.oidc_provider import CLIENT, SECRET, provider


def test_a_person_of_an_institution_comes_back_signed_in(
    chromium: Browser, tmp_path: Path, free_port: int
) -> None:
    """The provider is another site: 127.0.0.1 beside the broker's localhost."""
    with provider() as idp:
        made = make_world(tmp_path)
        (made.home.path / "secret").write_text(SECRET + "\n")
        origin = f"http://localhost:{free_port}"
        with (made.home.path / "config.toml").open("a") as config:
            config.write(
                f'[accounts]\norigin = "{origin}"\n[oidc]\nissuer = "{idp.url}"\n'
                f'client_id = "{CLIENT}"\nclient_secret_file = "secret"\n'
                '[[oidc.rule]]\nclaim = "groups"\nvalue = "linkage-auditors"\nrole = "auditor"\n'
            )
        ready = made.home.path / "ready"
        made.spawn("serve", "--port", str(free_port), "--ready-file", str(ready), log="serve")
        try:
            wait_for(ready.exists, 60)
            with window(chromium, origin) as seen:
                page = seen.go("/")
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
            with window(chromium, origin, scripts=False) as seen:
                page = seen.go("/sign-in")
                page.get_by_role("link", name="Sign in at your institution").click()
                expect(page.get_by_role("heading", name="Studies", level=1)).to_be_visible()
        finally:
            made.stop()
