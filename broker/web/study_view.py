"""What the study page shows, in words, of what the services tell this viewer and no more."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from broker.policy import Action, Grant
from broker.services.overviews import Life
from broker.web.next_steps import Facts, Step, Viewer, next_step
from broker.web.visits import Visit
from linkage import strata
from linkage.governance import Confirmations, TakenOut
from linkage.messages import PartyState, StudyState
from linkage.participation import RetentionRules
from linkage.study import Party, StudyConfig

T = TypeVar("T")
KINDS = {"imaging": "imaging", "enclave": "enclave", "records": "records only"}
LIVES = (
    ("draft", "Draft", "The custodian has signed it; every party confirms."),
    ("open", "Open", "Parties upload."),
    ("linking", "Linking", "Runs, releases, questions."),
    ("closed", "Closed", "Nothing new; it can be reopened."),
    ("destroyed", "Destroyed", "For good; the certificate stays."),
)
CLOCKS = (
    ("packages_days", "Sealed packages", "after the study is closed"),
    ("old_epochs_days", "Packages of an earlier epoch", "after the next one replaced it"),
    ("intermediates_days", "What a run leaves between its steps", "after the run ended"),
    ("inbox_days", "Sealed objects that wait for a party", "after they came"),
)


@dataclass(frozen=True, slots=True)
class Badge:
    """A state in words. kind: as the macro `badge` has it."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class UploaderRow:
    """Who uploads: how far it is. said: more of it, for who may know. kept: storage in words."""

    name: str
    badges: tuple[Badge, ...]
    said: str
    kept: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PartyRow:
    """A party. mine: the viewer acts for it. agreement: its last day in words."""

    party: Party
    kind: str
    mine: bool
    confirmed_at: int | None
    fingerprint: str
    agreement: str
    ended: bool
    uploaders: tuple[UploaderRow, ...]


@dataclass(frozen=True, slots=True)
class StudyView:
    """All of the study page but its forms. taken_out: None where the viewer may not know."""

    state: StudyState
    life: Life
    config: StudyConfig
    step: Step
    step_href: str
    parties: tuple[PartyRow, ...]
    last_day: str
    decides: tuple[tuple[str, str], ...]
    clocks: tuple[str, ...]
    taken_out: tuple[TakenOut, ...] | None
    destroying: bool
    certificate: bool

    @property
    def marks(self) -> str:
        """What groups sites may mark their records with; "" where none."""
        return strata.in_words(self.config.strata) if self.config.strata else ""


def study_view(visit: Visit, today: dt.date) -> StudyView:
    """Ask the services, each for what the visitor may read."""
    broker, grant = visit.broker, visit.grant
    config, state = grant.study.config, broker.studies.state(grant)
    confirmed = broker.lifecycle.confirmations(grant.study.id)
    order = broker.overviews.destruction(grant)
    certificate = order is not None and order.finished_at is not None
    facts = _facts(visit, state, confirmed, today, certificate=certificate)
    step = next_step(_viewers(visit), facts)
    life = broker.overviews.life(grant)
    return StudyView(
        state=state,
        life=life,
        config=config,
        step=step,
        step_href=_href(grant.study.id, step.page),
        parties=tuple(_party(visit, one, state, confirmed, today) for one in config.party),
        last_day=in_words(config.study.expires, today),
        decides=tuple(_decides(config)),
        clocks=tuple(_clocks(visit, config, life)),
        taken_out=_taken_out(visit),
        destroying=state.state == "destroyed" and not certificate,
        certificate=certificate,
    )


def in_words(last: dt.date | None, today: dt.date) -> str:
    """Return a last day, inclusive, as people say it."""
    if last is None:
        return "no last day"
    left, day = (last - today).days, f"{last.day} {last:%B %Y}"
    if left < 0:
        return f"ended {'yesterday' if left == -1 else f'{-left} days ago'}, on {day}"
    soon = {0: "today", 1: "tomorrow"}
    return f"ends {soon.get(left, f'in {left} days')}, on {day}"


def _viewers(visit: Visit) -> list[Viewer]:
    if visit.caller.is_admin:
        return [Viewer("admin")]
    mine = {visit.grant.study.id, None}
    roles = [role for role in visit.caller.roles if role.study_id in mine]
    order = ("steward", "operator", "reviewer", "researcher", "auditor")
    ranked = sorted(roles, key=lambda role: order.index(role.kind))
    return [Viewer(role.kind, role.party or "") for role in ranked]


def _of(visit: Visit, action: Action, ask: Callable[[Grant], T]) -> T | None:
    """Ask a service what this action tells; None for who may not."""
    return ask(visit.grant_for(action)) if visit.may(action) else None


def _facts(
    visit: Visit,
    state: StudyState,
    confirmed: Confirmations,
    today: dt.date,
    *,
    certificate: bool,
) -> Facts:
    overviews, config = visit.broker.overviews, visit.grant.study.config
    steward = next((one.party for one in _viewers(visit) if one.role == "steward"), "")
    # The two sides of a question decide about it, nobody else.
    sides = {party.id for party in config.party if party.kind in ("imaging", "enclave")}

    def questions(grant: Grant) -> Sequence[str]:
        return overviews.questions(grant, steward) if steward in sides else ()

    run = _of(visit, Action.READ_RUN, overviews.newest_run)
    last, days = config.study.expires, {p.id: config.last_day(p.id) for p in config.party}
    return Facts(
        state=state.state,
        epoch=state.epoch,
        uploaders=state.parties,
        unconfirmed=confirmed.waiting,
        over={party: day for party, day in days.items() if day is not None and day < today},
        study_over=last if last is not None and last < today else None,
        retired=state.deactivated or "",
        run=run.state if run else "",
        newer=run.newer if run else False,
        consents=_of(visit, Action.READ_RELEASE, overviews.consents) or {},
        questions=_of(visit, Action.READ_QUESTION, questions) or (),
        reviews=_of(visit, Action.READ_REVIEW, overviews.reviews) or (),
        certificate=certificate,
    )


def _href(study_id: str, page: str) -> str:
    return f"/studies/{study_id}{page}" if page.startswith("/") and page != "/audit" else page


def _party(
    visit: Visit, party: Party, state: StudyState, confirmed: Confirmations, today: dt.date
) -> PartyRow:
    study = visit.grant.study
    last = study.config.last_day(party.id)
    viewer = visit.grant.viewer
    at = {one.party: one.confirmed_at for one in confirmed.parties}
    return PartyRow(
        party=party,
        kind=KINDS[party.kind],
        mine=viewer in (party.id, *party.contributors),
        confirmed_at=at.get(party.id),
        fingerprint=study.pin(party.id).fingerprint,
        agreement=in_words(last, today),
        ended=last is not None and last < today,
        uploaders=tuple(
            _uploader(visit, one, state) for one in state.parties if one.party == party.id
        ),
    )


def _uploader(visit: Visit, one: PartyState, state: StudyState) -> UploaderRow:
    name = one.uploader or one.party
    bad = one.quarantined is not None and one.quarantined > (one.dataset or 0)
    if state.state == "destroyed":
        one = PartyState(party=one.party, uploader=one.uploader, suspended=one.suspended)
    said = ""
    if one.dataset is not None:
        said = f"Version {one.dataset}"
    if one.records is not None:
        said += f", {spaced(one.records)} records"
    if bad:
        said += f"{'; v' if said else 'V'}ersion {one.quarantined} cannot be linked"
        said += f": {one.reason}" if one.reason else ""
    if one.outdated is not None:
        said = f"Version {one.outdated} is of an earlier epoch"
    return UploaderRow(
        name=name,
        badges=tuple(_badges(one, state, bad=bad)),
        said=said,
        kept=_kept(one),
        fingerprint=visit.grant.study.pin(name).fingerprint,
    )


def _badges(one: PartyState, state: StudyState, *, bad: bool) -> Iterator[Badge]:
    if one.suspended:
        yield Badge("access suspended", "bad")
    if state.state == "destroyed":
        yield Badge("destroyed", "off")
    elif bad:
        yield Badge("in quarantine", "bad")
    elif one.dataset is not None:
        yield Badge("uploaded", "good")
    elif one.outdated is not None:
        yield Badge("only of an earlier epoch", "wait")
    else:
        yield Badge("not uploaded", "off" if state.state == "draft" else "wait")


def _kept(one: PartyState) -> str:
    if not one.bytes_kept or one.bytes_allowed is None:
        return ""
    return f"{size(one.bytes_kept)} of {size(one.bytes_allowed)} kept here"


def spaced(count: int) -> str:
    """Return a count with thin spaces between thousands, as elsewhere in the portal."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(count: int) -> str:
    """Return bytes as people say them, in powers of 1000."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _decides(config: StudyConfig) -> Iterator[tuple[str, str]]:
    """What is decided in a study, and who decides it."""
    parties = len(config.party)
    yield "What the study is: parties, keys, rules", "the custodian signs it"
    yield "That it begins, each epoch", f"the steward of every party, all {parties}"
    yield "Runs, closing, reopening, destroying", "the broker's admin"
    enclave = config.party_of_kind("enclave")
    beyond = set(config.study.release_to) - ({enclave.id} if enclave else set())
    if enclave:
        yield f"IDs for {enclave.id} alone", "the broker's admin"
    if beyond:
        yield (
            f"IDs for {', '.join(sorted(beyond))} too",
            f"the steward of every party, all {parties}",
        )
    sides = [party.id for party in config.party if party.kind in ("imaging", "enclave")]
    if len(sides) == 2:
        yield "A question's rows", f"the stewards of {' and '.join(sides)}"
    if config.reviews:
        yield "Pairs in doubt", "reviewers, who see field agreements and no value"
    yield "Opting records out", "whoever tokenizes them, at any time"


def _clocks(visit: Visit, config: StudyConfig, life: Life) -> Iterator[str]:
    """What is deleted by itself; the broker's own rules are for its admin to read."""
    rules = config.retention or RetentionRules()
    if visit.caller.is_admin:
        rules = visit.broker.home.config.retention.shorter(config.retention)
    for name, what, when in CLOCKS:
        days = getattr(rules, name)
        if days is None:
            continue
        said = f"{what}: {days} {'day' if days == 1 else 'days'} {when}"
        if name == "packages_days" and life.state == "closed" and life.since:
            due = dt.datetime.fromtimestamp(life.since + days * 86_400, dt.UTC).date()
            said += f", which is from {due.day} {due:%B %Y} on"
        yield said


def _taken_out(visit: Visit) -> tuple[TakenOut, ...] | None:
    """Whose records stand taken out; none of an uploader that took nothing out, but for itself."""
    found = _of(visit, Action.READ_TAKEN_OUT, visit.broker.opt_outs.taken_out)
    if found is None or not visit.caller.is_admin:
        # Of a party with contributors there is nothing to tell: each tells it itself.
        return tuple(found) if found else None
    return tuple(one for one in found if one.number or one.withdrawn)
