"""Where a browser goes next: never to another site, and back to the page that it came from."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from broker.browsers import Browsers
from broker.web.pages import page_above
from broker.web.ways import came_from, own_path, sign_in_first

HERE = Browsers(by_tls=False, origin="")


def asked(method: str = "GET", path: str = "/x", query: str = "", **headers: str) -> Request:
    """A request for a page of broker.example."""
    sent = {"host": "broker.example", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Request(
        {
            "type": "http",
            "method": method,
            "scheme": "https",
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in sent.items()],
        }
    )


@pytest.mark.parametrize(
    ("to", "goes"),
    [
        ("/studies/a?page=2", "/studies/a?page=2"),
        ("", "/"),
        ("studies", "/"),
        ("//elsewhere.example", "/"),
        ("/\\elsewhere.example", "/"),
        ("https://elsewhere.example", "/"),
        ("//[", "/"),
        ("/v1/studies", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("/a\x00", "/"),
    ],
)
def test_an_own_path_stays_here(to: str, goes: str) -> None:
    assert own_path(to) == goes


@pytest.mark.parametrize(
    ("referer", "page"),
    [
        ("https://broker.example/studies/a?page=2", "/studies/a?page=2"),
        ("https://broker.example/studies/a?told=proposed&page=2", "/studies/a?page=2"),
        ("https://broker.example", "/"),
        ("https://elsewhere.example/studies/a", ""),
        ("https://broker.example.elsewhere.example/", ""),
        ("https://broker.example//elsewhere.example/", "/"),
        ("https://broker.example/sign-in?to=/x", ""),
        ("https://[", ""),
        ("", ""),
    ],
)
def test_a_page_is_known_by_its_own_address_alone(referer: str, page: str) -> None:
    assert came_from(asked("POST", referer=referer), HERE) == page


def test_behind_a_proxy_the_origin_counts() -> None:
    proxied = Browsers(by_tls=True, origin="https://portal.example")
    assert came_from(asked(referer="https://portal.example/account"), proxied) == "/account"
    assert came_from(asked(referer="https://broker.example/account"), proxied) == ""


def test_signing_in_leads_back_and_says_what_became_of_a_form() -> None:
    page = "https://broker.example/studies/a?page=2"
    assert (
        sign_in_first(asked(path="/a", query="b=c&d=/"), HERE, "/")
        == "/sign-in?to=/a%3Fb%3Dc%26d%3D/"
    )
    over = sign_in_first(asked(path="/a", cookie="linkage-session=old"), HERE, "/")
    assert over == "/sign-in?to=/a&told=session-over"
    sent = sign_in_first(asked("POST", "/a/close", referer=page), HERE, "/a")
    assert sent == "/sign-in?to=/studies/a%3Fpage%3D2&told=not-done"
    unsaid = sign_in_first(asked("POST", "/a/close"), HERE, "/a")
    assert unsaid == "/sign-in?to=/a&told=not-done"
    # A page that asks for a part of itself leads back to the page, not to the part.
    part = sign_in_first(asked(path="/a/live", referer=page, hx_request="true"), HERE, "/")
    assert part == "/sign-in?to=/studies/a%3Fpage%3D2"


@pytest.mark.parametrize(
    ("form", "page"),
    [
        ("/studies/a/destruction", "/studies/a"),
        ("/studies/a/keys/imaging/suspend", "/studies/a/keys"),
        ("/studies/a/releases/r/proposals/p/withdraw", "/studies/a/releases"),
        ("/studies/a/questions/new", "/studies/a/questions/new"),
        ("/invitation/accept", "/invitation"),
        ("/sign-out", "/"),
        ("/nowhere/at/all", "/"),
    ],
)
def test_above_every_form_is_a_page(form: str, page: str) -> None:
    assert page_above(form) == page
