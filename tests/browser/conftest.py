"""A real browser for tests of the portal: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

_FLAGS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium, started once. It reaches this machine only."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "no Chromium: apt-get install chromium, or name the program in $CHROMIUM"
    # Five seconds are too few beside other tests; what is there at once is not waited for.
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: `make test-browser` runs them, `make test` does not."""
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker("browser")
