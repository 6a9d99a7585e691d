"""Where a browser goes next: only to pages of this portal, whatever an address or a header says."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from fastapi import Request

from broker.browsers import READING, Browsers

_SIGN_IN = "/sign-in"


def own_path(to: str) -> str:
    """Return `to` where it is a path of this portal, else "/"."""
    try:
        parts = urlsplit(to)
    except ValueError:
        return "/"
    own = to.startswith("/") and not to.startswith(("//", "/\\", "/v1/"))
    return to if own and not parts.scheme and not parts.netloc and to.isprintable() else "/"


def came_from(request: Request, browsers: Browsers) -> str:
    """Return the page whose form or script sent a request, "" where that was none of ours."""
    try:
        said = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    if browsers.origin:
        own = f"{said.scheme}://{said.netloc}" == browsers.origin
    else:
        own = said.netloc == request.headers.get("host", "")
    if not own or said.path.startswith(_SIGN_IN):
        return ""
    return own_path(_with_query(said.path or "/", said.query))


def sign_in_first(request: Request, browsers: Browsers, fallback: str) -> str:
    """
    Return the address of the sign-in page, which leads back to the page that was open and says
    what became of what was sent. fallback: where to go back to from a form whose page is not said.
    """
    changing = request.method not in READING
    if changing or "hx-request" in request.headers:
        to = came_from(request, browsers) or fallback
    else:
        to = own_path(_with_query(request.url.path, request.url.query))
    query = {"to": to}
    if changing:
        query["told"] = "not-done"
    elif browsers.sent(request.headers, browsers.cookie):
        query["told"] = "session-over"
    return f"{_SIGN_IN}?{urlencode(query, safe='/')}"


def _with_query(path: str, query: str) -> str:
    # What a page said once is not said again.
    kept = "&".join(part for part in query.split("&") if not part.startswith("told="))
    return f"{path}?{kept}" if kept else path
