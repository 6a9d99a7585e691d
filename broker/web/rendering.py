"""Templates to answers: one environment, one content-security policy, and what each page knows."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from broker.policy import Action
from broker.web.notices import NOTICES, UNDONE
from broker.web.visits import Visit

_WORD = 20
"""Letters of a word that fit into a line of a phone."""
_COMMAND = re.compile(r"`([^`]+)`")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX 9)."""
_ADDRESS = re.compile(r"[:;,]? ?(?:GET|POST|PUT) /v1[/\w{}-]*")
FOLDER = Path(__file__).parent
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Of every page: nothing inline, nothing from outside."""
# With "no-referrer", as on other answers, a browser would send its own forms with Origin: null.
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "same-origin",
    # A window that another site opened is no handle on what is in it.
    "cross-origin-opener-policy": "same-origin",
}


class Assets(StaticFiles):
    """The portal's own files. Their addresses hold a digest, so browsers may keep them for ever."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, *_: Any) -> Response:
        """Answer with a file."""
        answer = super().file_response(full_path, stat_result, scope)
        # A module names another without a digest: a browser asks whether that is still the same.
        kept = "public, max-age=31536000, immutable" if scope["query_string"] else "no-cache"
        answer.headers["cache-control"] = kept
        return answer


def page(visit: Visit, template: str, *, status: int = 200, **what: Any) -> HTMLResponse:
    """Render a page for somebody who is signed in."""
    return _answer(visit.request, template, status, {"visit": visit, "tabs": _tabs(visit), **what})


def open_page(request: Request, template: str, *, status: int = 200, **what: Any) -> HTMLResponse:
    """Render a page for anybody."""
    return _answer(request, template, status, {"visit": None, "tabs": (), **what})


def see_other(path: str, told: str = "") -> RedirectResponse:
    """Send the browser to a page after something was done. told: a key of NOTICES."""
    return RedirectResponse(f"{path}?told={told}" if told else path, status_code=303)


def _answer(request: Request, template: str, status: int, what: dict[str, Any]) -> HTMLResponse:
    told = request.query_params.get("told", "")
    notice = (NOTICES.get(told, ""), "wait" if told in UNDONE else "good")
    text = (
        _environment().get_template(template).render(notice=notice, here=request.url.path, **what)
    )
    return HTMLResponse(text, status, HEADERS)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(asset=_asset, Action=Action)
    made.filters.update(day=_day, moment=_moment, number=_number, plural=_plural)
    made.filters.update(capitalize_first=_capitalize_first, say=_say, plain=_plain, tight=_tight)
    made.filters.update(fours=_fours)
    return made


def _seen(value: Any) -> Any:
    """Show signs that turn the direction of what follows: a title must not read as another."""
    # Markup is a str of its own kind: it was looked at when it was made of texts.
    plain = type(value) is not str or value.isascii()
    return value if plain else _TURNING.sub("\N{REPLACEMENT CHARACTER}", value)


@cache
def _asset(name: str) -> str:
    """Return the address of one of the portal's files, with its digest."""
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def _moment(seconds: float) -> str:
    """Unix seconds as the text of a <time>; UTC, which the script turns into the viewer's zone."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _number(value: float) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{_number(count)} {one if count == 1 else many or one + 's'}"


def _capitalize_first(text: str) -> str:
    """Begin with a capital, and leave names within as they are; Jinja's own lowers the rest."""
    return text[:1].upper() + text[1:]


def _plain(text: str) -> str:
    """Write a message that holds its hint as sentences, its thousands apart as elsewhere."""
    cause, hint, remedy = text.partition(". Hint: ")
    if hint:
        text = f"{cause}. {_capitalize_first(remedy).rstrip('.')}."
    return _THOUSANDS.sub("\N{NARROW NO-BREAK SPACE}", _capitalize_first(text))


def _tight(text: str) -> str:
    """Keep a number and its unit on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _fours(text: str) -> str:
    """Part letters that somebody types off, four by four."""
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _say(text: str) -> Markup:
    """Write a message of ours for people: commands as such, and no address of the API."""
    parts = _COMMAND.split(_ADDRESS.sub("", _capitalize_first(text)))
    return Markup("").join(
        Markup("<code>{}</code>").format(_command(part)) if at % 2 else escape(part)
        for at, part in enumerate(parts)
    )


def _command(text: str) -> Markup:
    """Keep the words of a command whole: none breaks at its hyphen. Paths may."""
    return Markup(" ").join(
        Markup('<span class="nobr">{}</span>').format(word) if len(word) <= _WORD else escape(word)
        for word in text.split(" ")
    )


_ADMIN = (
    ("This broker", "/admin"),
    ("Register", "/admin/studies"),
    ("People", "/admin/people"),
    ("Keys", "/admin/keys"),
    ("Retention", "/admin/retention"),
)


def _tabs(visit: Visit) -> tuple[tuple[str, str], ...]:
    study_id = visit.request.path_params.get("study_id")
    if visit.request.url.path.startswith("/admin"):
        return _ADMIN
    if study_id is None:
        return ()
    return tuple(_study_tabs(visit, f"/studies/{study_id}"))


def _study_tabs(visit: Visit, at: str) -> Iterator[tuple[str, str]]:
    yield "Study", at
    if visit.may(Action.READ_RUN):
        yield "Runs", f"{at}/runs"
    if visit.may(Action.READ_REVIEW):
        yield "Review", f"{at}/reviews"
    if visit.may(Action.READ_QUESTION):
        yield "Questions", f"{at}/questions"
    if visit.may(Action.READ_RELEASE):
        yield "Releases", f"{at}/releases"
    if visit.may(Action.READ_ACCESS):
        yield "Keys", f"{at}/keys"
    if visit.may(Action.READ_STORAGE):
        yield "Storage", f"{at}/storage"
    if visit.may(Action.READ_HEADS):
        yield "Audit", f"{at}/audit"
