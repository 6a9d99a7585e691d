"""
Looking at pages as people do: at three widths, light and dark, with axe-core's rules of WCAG 2.2
AA, and with an eye on what a browser would complain of. Pictures are kept under build/screenshots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from broker.container import Broker
from tests.broker_world import World
from tests.people import Person, signed_in

WIDTHS = (320, 768, 1280)
PAPER = 718
"""What A4 leaves between margins of a centimetre, in CSS pixels."""
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_OFF_PAPER = """
(width) => [...document.querySelectorAll("body *")]
  .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden, .skip"))
  .filter((one) => one.getBoundingClientRect().right > width + 1)
  .map((one) => one.outerHTML.slice(0, 120))
"""
_EXPECTED = re.compile(r"the server responded with a status of 4\d\d")


@dataclass(slots=True)
class Window:
    """One person's browser window, and what it complained of: both must stay empty of faults."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        """Open a path of the portal."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def look(self, name: str) -> None:
        """
        Take pictures of the page at every width, light and dark, and check each: WCAG 2.2 AA by
        axe-core, nothing wider than the window, no complaint of the browser.
        """
        faults: list[str] = []
        self.page.wait_for_load_state("load")  # times in the viewer's zone, buttons to copy
        for colours in ("light", "dark"):
            self.page.emulate_media(color_scheme=colours)
            for width in WIDTHS:
                self.page.set_viewport_size({"width": width, "height": 900})
                wide = self.page.evaluate("document.scrollingElement.scrollWidth")
                if wide > width:
                    faults.append(f"{width} px, {colours}: the page is {wide} px wide")
                self._picture(f"{name}-{width}-{colours}")
            faults += [f"{colours}: {fault}" for fault in self._axe()]
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        assert faults == [], "\n".join(faults)
        assert self.complaints == [], "\n".join(self.complaints)

    def printed(self, name: str) -> None:
        """
        Take a picture of the page as it is printed, from a window that is dark: nothing is cut off
        at the paper's edge, nothing is left to press, and the ink is dark on white.
        """
        self.page.wait_for_load_state("load")
        self.page.emulate_media(media="print", color_scheme="dark")
        self.page.set_viewport_size({"width": PAPER, "height": 1047})
        self._picture(f"{name}-print")
        faults = [f"off the paper: {one}" for one in self.page.evaluate(_OFF_PAPER, PAPER)]
        left = (kind for kind in ("button", "nav", "input") if self._seen(kind))
        faults += [f"printed: {kind}" for kind in left]
        faults += self._axe()
        self.page.emulate_media(media="screen", color_scheme="light")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        assert faults == [], "\n".join(faults)

    def _seen(self, kind: str) -> bool:
        return self.page.locator(kind).locator("visible=true").count() > 0

    def _picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        # A picture hides the caret by a style of each field, and leaves that there, empty: what
        # htmx puts in its place would have it too, and the content-security policy complains.
        self.page.evaluate(
            """document.querySelectorAll('[style=""]').forEach(e => e.removeAttribute('style'))"""
        )

    def _axe(self) -> list[str]:
        options: dict[str, Any] = {"runOnly": {"type": "tag", "values": _RULES}}
        found = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:200]} {node.get('failureSummary', '')}"
            for one in found
            for node in one["nodes"]
        ]

    def heard(self, message: ConsoleMessage) -> None:
        """Keep what the console says; that a page was refused is no complaint."""
        if message.type in ("error", "warning") and not _EXPECTED.search(message.text):
            self.complaints.append(f"{message.type}: {message.text}")

    def sent(self, request: Request) -> None:
        """Keep every request to an address that is not the portal's."""
        parts = urlsplit(request.url)
        if parts.scheme != "data" and f"{parts.scheme}://{parts.netloc}" != self.url:
            self.complaints.append(f"a request to outside: {parts.scheme}://{parts.netloc}")


@contextmanager
def window(
    chromium: Browser, url: str, person: Person | None = None, *, scripts: bool = True
) -> Iterator[Window]:
    """Open a window for a person who is signed in, or for nobody. scripts: do they run?"""
    context = chromium.new_context(java_script_enabled=scripts, timezone_id="America/Chicago")
    context.set_default_timeout(60_000)
    if person is not None:
        _keep(context, url, person)
    made = Window(context.new_page(), url)
    made.page.on("console", lambda message: made.heard(message))
    made.page.on("pageerror", lambda error: made.complaints.append(f"script: {error}"))
    made.page.on("request", lambda request: made.sent(request))
    yield made
    context.close()


def person(world: World, name: str, *roles: str) -> Person:
    """Enrol a person on a running broker and sign in. "STUDY" in a role is the world's study."""
    named = [role.replace("STUDY", world.study_id) for role in roles]
    return signed_in(world.home, world.url, name, *named)


def services(world: World) -> Broker:
    """The broker's services over the same database, to put in place what a page shows."""
    return Broker.at(world.home)


def _keep(context: BrowserContext, url: str, person: Person) -> None:
    context.add_cookies(
        [
            {"name": name, "value": value, "url": url}
            for name, value in person.client.cookies.items()
        ]
    )
