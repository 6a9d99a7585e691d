"""
The fields of a posted form. Only `application/x-www-form-urlencoded`: no page takes a file, so
nothing here parses multipart.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from fastapi import Request

from linkage.errors import PackageRefused

CSRF_FIELD = "csrf"
"""The field with the session's CSRF token, for browsers that run no script."""
_KIND = "application/x-www-form-urlencoded"
_MOST_FIELDS = 2_000

Form = Mapping[str, tuple[str, ...]]
"""Every value of each field, in order, stripped of space around it."""


async def read_form(request: Request) -> Form:
    """
    Return a request's form; empty where it posts none. Its size is capped by broker.limits.

    Raises PackageRefused for another kind of body, or one that is no form.
    """
    if request.method != "POST":
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != _KIND:
        raise PackageRefused("the request holds no form", hint="send it from the portal's page")
    try:
        text = (await request.body()).decode("utf-8")
        found = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise PackageRefused("the form cannot be read", hint="load the page again") from None
    return {name: tuple(value.strip() for value in values) for name, values in found.items()}
