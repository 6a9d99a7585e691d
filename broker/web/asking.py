"""
A researcher asks: a form with help, what it comes to, and the proposal to the enclave.

The reading key is made in the browser; only its public half comes here (ADR 32).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import ValidationError

from broker.policy import Action, require_id
from broker.services.questions import two_sides
from broker.web.concept_help import Act, help_for, names_in
from broker.web.question_form import KINDS, Checked, QuestionForm, checked
from broker.web.question_places import place
from broker.web.question_view import is_researcher
from broker.web.rendering import page, see_other
from broker.web.stewards import read_day
from broker.web.visits import PageMay, Visit
from linkage.cohort.spec_imaging import MODALITIES
from linkage.errors import Conflict, KeyRefused, LinkageError, NotAllowed
from linkage.proposal_messages import Ask, ProposalRequest
from linkage.sealing import PublicIdentity

router = APIRouter(prefix="/studies/{study_id}/questions/new", include_in_schema=False)

Asker = Annotated[Visit, Depends(PageMay(Action.PROPOSE))]
DOMAINS = ("condition", "procedure", "drug", "measurement", "observation", "visit", "death")


@router.get("")
def new(visit: Asker, again: str = "") -> Response:
    """Show the form; again: a proposal whose specification is mended."""
    _require_researcher(visit)
    text = ""
    if known := require_id(again or None):
        body = visit.broker.proposals.one(visit.grant, known).body
        text = body.specification if isinstance(body, Ask) else ""
    return _shown(visit, QuestionForm.empty(text), checked(text) if text else None)


@router.post("")
def check_or_ask(visit: Asker) -> Response:
    """Say what the form comes to; or, where that was pressed, propose the question."""
    _require_researcher(visit)
    form = QuestionForm.of(visit.form)
    found = checked(form.toml)
    if visit.text("act") != "ask" or found.spec is None:
        return _shown(visit, form, found)
    try:
        made = _request(visit, form)
        visit.broker.proposals.make(visit.grant, made)
    except (Conflict, NotAllowed) as refusal:
        return _shown(visit, form, found, refusal)
    return see_other(f"/studies/{visit.grant.study.id}/questions", "question-proposed")


def _shown(
    visit: Visit, form: QuestionForm, found: Checked | None, refusal: LinkageError | None = None
) -> Response:
    """Show the form, or for a script only what it comes to, or the criterion it changed."""
    spec = found.spec if found else None
    if visit.partial and Act.of(visit.text("act")) is None:
        return page(
            visit,
            "question_preview.html",
            found=found,
            named=names_in(visit, spec),
            own_file=bool(form.text),
            place=partial(place, form),
        )
    imaging, enclave = two_sides(visit.grant.study)
    concepts = help_for(visit, form.rows["concept"])
    return page(
        visit,
        "question_concept_part.html" if visit.partial and concepts.act else "question_new.html",
        status=422 if refusal else 200,
        form=form,
        concepts=concepts,
        named=names_in(visit, spec),
        imaging=imaging,
        found=found,
        own_file=bool(form.text),
        place=partial(place, form),
        refusal=refusal,
        act=visit.text("act"),
        kinds=KINDS,
        doubled=[(one, one) for one in DOMAINS],
        modalities=sorted(MODALITIES),
        enclave=enclave,
        last=visit.grant.study.config.study.expires,
    )


def _request(visit: Visit, form: QuestionForm) -> ProposalRequest:
    """Return the proposal to the enclave. Raises Conflict without a reading key."""
    _, enclave = two_sides(visit.grant.study)
    try:
        reader = PublicIdentity(
            name="reader",
            kem="X25519",
            signing=visit.text("reader_signing"),
            sealing=visit.text("reader_sealing"),
        )
        reader.require_keys()
        body = Ask(specification=form.toml, expires=read_day(form.value("expires")), reader=reader)
    except KeyRefused:
        raise Conflict(
            "there is no reading key: a script makes it in your browser, and none ran",
            hint="let scripts run; or save the specification and use linkage-cohort request",
        ) from None
    except ValidationError:
        raise Conflict("the specification is too long", hint="64 KiB at most") from None
    return ProposalRequest(party=enclave, body=body)


def _require_researcher(visit: Visit) -> None:
    if not is_researcher(visit):
        raise NotAllowed(
            "only a researcher of the study asks here",
            hint="a data manager of the enclave asks with linkage-cohort request",
        )
