"""The portal as one router, and what it shows in place of a problem document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.responses import Response

from broker.oidc import BACK
from broker.web import 204, 303, 404, APIRoute, APIRouter, Add, Assets, BACK, Back, Each, Exception, FOLDER, FastAPI, GET, Go, Is, Iterator, None, RedirectResponse, Request, Response, Return, SignInFirst, There, Yield, _MODULES, _PROGRAMS, _error, _sign_in_first, a, add_exception_handler, add_portal, added, address, addresses, adds, after, allow, an, and, answer, app, arrival, as, asking, at, audit, back, body, bool, broker, bytes, code, comes, def, detail, directory, document, each, else, every, f, files, for, from, has, headers, health, here, hint, home, html, htmx, hx, identity, if, import, in, include_router, is, is_page, isinstance, it, json, loads, malformed, method, methods, metrics, module, mount, name, need, no, not, of, open_page, openapi, or, page, pages, part, path, people, person, portal, problem, problem_page, problem_part, provider, puts, questions, quote, read, redirect, releases, rendering, request, retry, return, reviews, route, router, routes, runs, s, says, shown, sign, sign_in, somebody, sorted, startswith, static, status, status_code, str, studies, such, template, tests, that, the, to, top, try, tuple, url, v1, visits, wants_page, web, whatever, where, yield, your
