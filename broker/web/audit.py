"""
The pages of the audit log: its timeline and whether it verifies, for admins and auditors, and its
signed heads for everybody who may keep them.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response

from broker.policy import Action
from broker.routes.audit import Export
from broker.services.audit_log import Wanted
from broker.web.rendering import page, see_other
from broker.web.visits import PageMay, Visit
from linkage.errors import PackageRefused

router = APIRouter(include_in_schema=False)

Auditor = Annotated[Visit, Depends(PageMay(Action.READ_AUDIT))]
HeadReader = Annotated[Visit, Depends(PageMay(Action.READ_HEADS))]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
Before = Annotated[int | None, Query(ge=0, le=2**62)]
_ENTRIES, _HEADS = 50, 20
_DAY = 86_400
_LATE = 3
"""Intervals without a head after which a page asks why."""


class Asked:
    """What the timeline's form asks for: its fields as they came, and the search that they make."""

    def __init__(
        self,
        study: Text = "",
        actor: Text = "",
        action: Text = "",
        subject: Text = "",
        since: Text = "",
        until: Text = "",
    ) -> None:
        """since, until: days in UTC, both included. Raises PackageRefused for what is no day."""
        self.fields: Mapping[str, str] = {
            "study": study.strip(),
            "actor": actor.strip(),
            "action": action.strip(),
            "subject": subject.strip(),
            "since": since,
            "until": until,
        }
        of_entry = {name: self.fields[name] for name in ("study", "actor", "action", "subject")}
        last = _moment(until)
        self.wanted = Wanted(
            **of_entry,
            since=_moment(since),
            until=None if last is None else last + _DAY,
        )

    @property
    def reversed(self) -> bool:
        """Is the first day after the last?"""
        return bool(self.fields["until"]) and self.fields["since"] > self.fields["until"]

    def address(self, **changed: str | int) -> str:
        """Return the address of the timeline with some fields changed."""
        wanted = {name: value for name, value in {**self.fields, **changed}.items() if value}
        return f"/audit?{urlencode(wanted)}" if wanted else "/audit"


@router.get("/audit")
def timeline(visit: Auditor, asked: Annotated[Asked, Depends()], before: Before = None) -> Response:
    """Show the log, newest first, and whether it fits together."""
    log = visit.broker.audit_log
    return page(
        visit,
        "audit.html",
        asked=asked,
        before=before,
        found=log.page(visit.grant, asked.wanted, before=before, limit=_ENTRIES),
        names=log.names(visit.grant),
        tail=log.tail(visit.grant),
        check=log.check.newest,
    )


@router.get("/audit/verification")
def verification(visit: Auditor) -> Response:
    """Show whether the log fits together, and how far a verification of the whole is."""
    log = visit.broker.audit_log
    template = "audit_check_part.html" if visit.partial else "audit_check.html"
    return page(visit, template, tail=log.tail(visit.grant), check=log.check.newest)


@router.post("/audit/verification")
def verify(visit: Auditor) -> Response:
    """Begin to verify the whole log."""
    visit.broker.audit_log.verify(visit.grant)
    return verification(visit) if visit.partial else see_other("/audit/verification")


@router.get("/audit/heads")
def heads(visit: Auditor, before: Before = None) -> Response:
    """List the signed heads, and say how they are used."""
    return _heads(visit, "/audit/heads", before)


@router.post("/audit/heads")
def sign(visit: Auditor) -> Response:
    """Have a head signed now."""
    visit.broker.heads.wish(visit.caller.actor)
    return see_other("/audit/heads", "head-wished")


@router.get("/audit/heads.jsonl")
def heads_file(visit: Auditor) -> Response:
    """Give all signed heads as a file."""
    return _file(Export(visit.broker.heads.lines()), "audit-heads.jsonl")


@router.get("/audit/log.jsonl")
def log_file(visit: Auditor) -> Response:
    """Give the whole log with its heads as a file."""
    return _file(Export(visit.broker.heads.export(visit.broker.home.public())), "log.jsonl")


@router.get("/studies/{study_id}/audit")
def study_heads(visit: HeadReader, before: Before = None) -> Response:
    """List the signed heads for who has a part in a study, and say how they are compared."""
    return _heads(visit, f"/studies/{visit.grant.study.id}/audit", before)


@router.post("/studies/{study_id}/audit")
def sign_for_study(visit: HeadReader) -> Response:
    """Have a head signed now."""
    visit.broker.heads.wish(visit.caller.actor)
    return see_other(f"/studies/{visit.grant.study.id}/audit", "head-wished")


@router.get("/studies/{study_id}/audit/heads.jsonl")
def study_heads_file(visit: HeadReader) -> Response:
    """Give all signed heads as a file."""
    return _file(Export(visit.broker.heads.lines()), "audit-heads.jsonl")


def _heads(visit: Visit, at: str, before: int | None) -> Response:
    found, wished = visit.broker.audit_log.newest_heads(
        visit.grant, before=before, limit=_HEADS + 1
    )
    every = visit.broker.home.config.worker.head_seconds
    newest = found[0].at if found and before is None else None
    return page(
        visit,
        "audit_heads.html",
        at=at,
        heads=found[:_HEADS],
        older=len(found) > _HEADS,
        before=before,
        wished=wished,
        every=every,
        late=newest is not None and time.time() - newest > _LATE * every,
    )


def _file(answer: Response, name: str) -> Response:
    answer.headers["content-disposition"] = f'attachment; filename="{name}"'
    return answer


def _moment(day: str) -> int | None:
    if not day:
        return None
    try:
        found = dt.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        raise PackageRefused("this is no day", hint="write it as 2026-11-22") from None
    return int(found.timestamp())
