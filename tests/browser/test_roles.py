"""
Every address of the portal, as every role and from another study: what is not a person's is not
there for it, and no form does anything without its session's token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect

from broker.web.pages import addresses
from tests.broker_world import HTTP, World, make_world, packages, running, sign_for
from tests.browser.looking import person, window
from tests.people import Person

OPEN = {"/sign-in", "/sign-out", "/invitation", "/invitation/accept"}
"""For everybody, also for nobody."""
MINE = {"/", "/account", "/account/password"}
"""For whoever is signed in."""
READERS = {
    "admin": "admin",
    "auditor": "auditor",
    "steward": "steward:STUDY:imaging",
    "operator": "operator:STUDY:imaging",
    "researcher": "researcher:STUDY",
    "reviewer": "reviewer:STUDY",
}


@dataclass(frozen=True, slots=True)
class People:
    """One person a role, and a researcher of another study."""

    by_role: dict[str, Person]
    stranger: Person


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("roles"))) as made:
        for package in packages(made).values():
            made.upload(package)
        made.run()
        other, identities = sign_for(made.home.public(), "other-study")
        World(made.home, other, identities, made.admin, url=made.url).actor("admin").post(
            "/v1/studies", other
        ).raise_for_status()
        yield made


@pytest.fixture(scope="module")
def people(world: World) -> People:
    found = {name: person(world, f"a-{name}", role) for name, role in READERS.items()}
    return People(found, person(world, "a-stranger", "researcher:other-study"))


def filled(world: World, template: str) -> str:
    """An address in the world's study, whose other names are made up, and well formed."""
    names = {"study_id": world.study_id}
    parts = template.split("/")
    return "/".join(names.get(p[1:-1], "1") if p.startswith("{") else p for p in parts)


def test_every_page_is_tried_here() -> None:
    """The framework's own lists have changed their form before; an empty one would pass all."""
    found = {template for _, template in addresses()}
    assert found > OPEN | MINE


def test_nobody_sees_a_page_before_signing_in(world: World) -> None:
    for method, template in addresses():
        if template in OPEN:
            continue
        answer = HTTP.request(
            method,
            world.url + filled(world, template),
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 303, (method, template)
        assert answer.headers["location"].startswith("/sign-in?to="), (method, template)


def test_no_form_does_anything_without_its_token(world: World, people: People) -> None:
    """As the role that may do most; the cookie alone, as another site's page would send it."""
    log = world.home.path / "serve.log"
    for method, template in addresses():
        if method != "POST" or template in OPEN - {"/sign-out"}:
            continue
        for role in ("admin", "steward", "reviewer", "researcher"):
            client = people.by_role[role].client
            answer = client.post(filled(world, template), data={"csrf": "x", "confirm": "x"})
            assert answer.status_code == 401, (template, role)
            assert "CSRF token" in answer.text
    assert "unforeseen" not in log.read_text()


def test_a_study_is_not_there_for_who_has_no_role_in_it(world: World, people: People) -> None:
    theirs = people.stranger
    for method, template in addresses():
        if template in OPEN | MINE:
            continue
        data = {"csrf": theirs.csrf} if method == "POST" else None
        answer = theirs.client.request(method, filled(world, template), data=data)
        wanted = 404 if "{study_id}" in template else 403
        assert answer.status_code in (wanted, 404), (method, template, answer.status_code)
        assert world.signed.study.study.title not in answer.text


def test_what_a_person_is_offered_opens_and_what_it_may_not_is_not_offered(
    chromium: Browser, world: World, people: People
) -> None:
    """Follow every link that a page shows, as every role, two pages deep."""
    for role, who in people.by_role.items():
        with window(chromium, world.url, who) as seen:
            seen.go("/")
            waiting, known = ["/"], {"/"}
            while waiting:
                at = waiting.pop(0)
                answer = seen.page.goto(world.url + at)
                assert answer is not None
                assert answer.status == 200, (role, at, answer.status)
                expect(seen.page.locator("h1")).to_have_count(1)
                for link in seen.page.locator("a[href^='/']:not([download])").all():
                    to = (link.get_attribute("href") or "").partition("#")[0]
                    if to not in known and not to.startswith("/v1") and len(known) < 60:
                        known.add(to)
                        waiting.append(to)
            assert seen.complaints == [], role


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        ("researcher", ["/admin", "/audit", "/studies/STUDY/runs", "/studies/STUDY/reviews"]),
        ("reviewer", ["/admin", "/audit", "/studies/STUDY/runs", "/studies/STUDY/questions"]),
        ("operator", ["/admin", "/audit", "/studies/STUDY/runs", "/studies/STUDY/questions"]),
        ("steward", ["/admin", "/audit", "/studies/STUDY/reviews"]),
        ("auditor", ["/admin", "/studies/STUDY/runs", "/studies/STUDY/questions"]),
    ],
)
def test_a_role_is_refused_what_is_not_its_own(
    chromium: Browser, world: World, people: People, role: str, refused: list[str]
) -> None:
    with window(chromium, world.url, people.by_role[role]) as seen:
        for path in refused:
            answer = seen.page.goto(world.url + path.replace("STUDY", world.study_id))
            assert answer is not None
            assert answer.status in (403, 404), path
            expect(seen.page.get_by_role("link", name="To the studies")).to_be_visible()
