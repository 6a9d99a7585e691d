"""
What the custodian signed comes in: a study, its next epoch, or that a study key is out of use.

A file is opened by the browser and goes in as text; the admin reads what it is before it counts.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import ValidationError

from broker.policy import Action
from broker.web.rendering import page, see_other
from broker.web.visits import PageMay, Visit
from linkage.errors import Conflict, LinkageError, PackageRefused
from linkage.messages import Deactivation
from linkage.signed_study import SignedStudy

router = APIRouter(prefix="/admin/studies", include_in_schema=False)

Registering = Annotated[Visit, Depends(PageMay(Action.REGISTER_STUDY))]


@router.get("")
def form(visit: Registering) -> Response:
    """Ask for what the custodian signed."""
    return _form(visit)


@router.post("")
def register(visit: Registering) -> Response:
    """Say what a signed study is; with act=register take it."""
    signed: SignedStudy | None = None
    try:
        signed = _signed(visit)
        if visit.text("act") != "register":
            return _form(visit, signed)
        state, new = visit.broker.studies.register(
            visit.caller.actor,
            signed,
            custodian_fingerprint=visit.text("fingerprint") or None,
            allow_changed_parties=bool(visit.text("changed")),
        )
    except LinkageError as refusal:
        return _form(visit, signed, refusal)
    return see_other(f"/studies/{state.study_id}", "study-registered" if new else "study-known")


@router.post("/deactivation")
def deactivate(visit: Registering) -> Response:
    """Take the custodian's notice that a study key is out of use."""
    try:
        notice = _notice(visit)
        if visit.text("confirm") != notice.study_id:
            raise Conflict("the notice is about another study", hint="nothing was done")
        state, _ = visit.broker.studies.deactivate(visit.caller.actor, notice)
    except LinkageError as refusal:
        return _form(visit, None, refusal)
    return see_other(f"/studies/{state.study_id}", "key-retired")


def _signed(visit: Visit) -> SignedStudy:
    """Return the signed study that was posted; its signatures fit. Raises LinkageError."""
    try:
        signed = SignedStudy.model_validate_json(visit.text("text"))
    except ValidationError:
        raise PackageRefused(
            "this is no signed study", hint="open the file that the custodian sent, as it is"
        ) from None
    signed.check(custodian_fingerprint=visit.text("fingerprint") or None)
    return signed


def _notice(visit: Visit) -> Deactivation:
    try:
        return Deactivation.model_validate_json(visit.text("notice"))
    except ValidationError:
        raise PackageRefused(
            "this is no notice of a deactivation", hint="open the file that the custodian sent"
        ) from None


def _form(
    visit: Visit, signed: SignedStudy | None = None, refusal: LinkageError | None = None
) -> Response:
    known = {one.study_id: one for one in visit.broker.studies.seen_by(visit.caller)}
    return page(
        visit,
        "registering.html",
        status=422 if refusal else 200,
        text=visit.text("text"),
        fingerprint=visit.text("fingerprint"),
        changed=bool(visit.text("changed")),
        notice_text=visit.text("notice"),
        signed=signed,
        study=signed.study if signed else None,
        before=known.get(signed.study.study.id) if signed else None,
        refusal=refusal,
    )
