"""
The next step of whoever looks at a study, in one sentence: a function of role and state, no query.

Who has several roles in a study gets the step of the first that has something to do. What a step
says the role may read: nothing here knows more than the study's state as the API tells it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from linkage.messages import PartyState

Role = Literal["admin", "steward", "operator", "researcher", "reviewer", "auditor"]

_UNDER_WAY = ("queued", "running")
_UPLOAD = "linkage-site tokenize --site site.toml\nlinkage-site submit --site site.toml"
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. party: of a steward or operator."""

    role: Role
    party: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """
    A next step. command: to run at the site. page: of the study, "" for none, with its label.
    waits: nothing is for this viewer to do now.
    """

    text: str
    command: str = ""
    page: str = ""
    label: str = ""
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What a next step depends on; what the viewer may not read stays empty.

    uploaders: as `StudyState.parties`. unconfirmed: parties. over: parties whose last day is over.
    retired: since when and why the study key is out of use. run: state of the newest run, ""
    without one; newer: something was uploaded since. consents: by waiting release, who is missing.
    questions: that wait for the viewer's party. reviews: open ones. certificate: of a destruction.
    """

    state: str
    epoch: int
    uploaders: Sequence[PartyState]
    unconfirmed: Sequence[str] = ()
    over: Mapping[str, dt.date] = field(default_factory=dict)
    study_over: dt.date | None = None
    retired: str = ""
    run: str = ""
    newer: bool = False
    consents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    questions: Sequence[str] = ()
    reviews: Sequence[str] = ()
    certificate: bool = False


def next_step(viewers: Sequence[Viewer], facts: Facts) -> Step:
    """Return the first thing to do of any role, else what is waited for."""
    steps = [_step(viewer, facts) for viewer in viewers]
    nothing = Step("You have no role in this study any more.", waits=True)
    return next((step for step in steps if not step.waits), steps[0] if steps else nothing)


def _step(viewer: Viewer, facts: Facts) -> Step:
    if facts.state == "destroyed":
        return _destroyed(facts)
    if viewer.role == "admin":
        return _of_admin(facts)
    if viewer.role == "auditor":
        # Outside studies: the link leads to the whole log.
        return Step("Verify the audit log; it holds every step of this study.", page="/audit",
                    label="Open the audit log")  # fmt: skip
    if facts.state == "closed":
        return Step("The study is closed: nothing new is taken; what was given out stays "
                    "readable.", waits=True)  # fmt: skip
    if facts.study_over is not None:
        return Step(f"The study's last day was {facts.study_over}: nothing new is taken unless "
                    "the parties agree anew.", waits=True)  # fmt: skip
    if viewer.role == "steward":
        return _of_steward(viewer.party, facts)
    if viewer.role == "operator":
        return _of_operator(viewer.party, facts)
    return _of_reviewer(facts) if viewer.role == "reviewer" else _of_researcher(facts)


def _destroyed(facts: Facts) -> Step:
    if facts.certificate:
        return Step("The study is destroyed; keep its certificate.", page="#certificate",
                    label="See the certificate")  # fmt: skip
    return Step("The broker's worker is destroying the study; its certificate comes here.",
                waits=True)  # fmt: skip


def _of_admin(facts: Facts) -> Step:
    if facts.state == "closed":
        return Step("The study is closed: reopen it, or destroy it when the agreements say so.",
                    page="#life", label="To the study's life")  # fmt: skip
    if facts.study_over is not None:
        return Step(f"The study's last day was {facts.study_over}: close it, or have a file with "
                    "a later day signed.", page="#life", label="To the study's life")  # fmt: skip
    if facts.state == "draft":
        return _remind(facts.unconfirmed, ("has not confirmed", "have not confirmed"))
    if facts.retired:
        return Step(f"The study key is out of use, {facts.retired}: have the custodian sign the "
                    "next epoch.")  # fmt: skip
    return next(_of_admin_in_use(facts))


def _of_admin_in_use(facts: Facts) -> Iterator[Step]:
    active = [one for one in facts.uploaders if one.party not in facts.over]
    if bad := [_name(one) for one in active if _in_quarantine(one)]:
        yield Step(f"{_some(bad, 'dataset is', 'datasets are')} in quarantine ({_list(bad)}); ask "
                   "for a corrected version.", page="#parties", label="See why")  # fmt: skip
    if missing := [_name(one) for one in active if one.dataset is None]:
        yield _remind(missing, ("has not uploaded", "have not uploaded"))
    if facts.run in _UNDER_WAY:
        yield Step("A run is under way; watch it.", page="/runs", label="See the run")
    if facts.run == "failed":
        yield Step("The last run failed: read why, then start another.", page="/runs",
                   label="See the run")  # fmt: skip
    if facts.run != "done":
        yield Step("Everybody has uploaded: start a run.", page="/runs/new", label="Start a run")
    if facts.newer:
        yield Step("Something was uploaded since the last run: start another.", page="/runs/new",
                   label="Start a run")  # fmt: skip
    for missing_consents in facts.consents.values():
        yield Step(f"A release waits for the consent of {_list(missing_consents)}; remind "
                   f"{'it' if len(missing_consents) == 1 else 'them'}.", page="/releases",
                   label="See the release")  # fmt: skip
    yield Step("Nothing waits for you: the newest run is over all that was uploaded.", waits=True)


def _of_steward(party: str, facts: Facts) -> Step:
    if facts.state == "draft":
        if party in facts.unconfirmed:
            return Step(f"Confirm the signed study for {party}: compare it with your own copy and "
                        "send your word for it.",
                        command="linkage-site confirm --site site.toml")  # fmt: skip
        return Step(f"{party} has confirmed; the study opens when {_list(facts.unconfirmed)} "
                    f"{_has(facts.unconfirmed)}, too.", waits=True)  # fmt: skip
    if party in facts.over:
        return _over(party, facts)
    if waiting := [one for one, missing in facts.consents.items() if party in missing]:
        return Step(f"{_some(waiting, 'release waits', 'releases wait')} for {party}'s consent: "
                    "read and decide.", page="/releases", label="Decide")  # fmt: skip
    if facts.questions:
        return Step(f"{_some(facts.questions, 'question waits', 'questions wait')} for {party}'s "
                    "decision: read and decide.", page="/questions",
                    label="Decide")  # fmt: skip
    return _of_uploads(party, facts)


def _of_operator(name: str, facts: Facts) -> Step:
    if facts.state == "draft":
        return Step(f"The study opens when {_list(facts.unconfirmed)} {_has(facts.unconfirmed)} "
                    "confirmed it; prepare the data until then.",
                    command="linkage-site profile --site site.toml", waits=True)  # fmt: skip
    mine = next((one.party for one in facts.uploaders if name in (one.party, _name(one))), name)
    return _over(mine, facts) if mine in facts.over else _of_uploads(name, facts)


def _of_uploads(name: str, facts: Facts) -> Step:
    """The step about the data of a party or contributor."""
    own = [one for one in facts.uploaders if name in (one.party, _name(one))]
    if away := [_name(one) for one in own if one.suspended]:
        return Step(f"The access of {_list(away)} is suspended: call the broker's admin.")
    itself = len(own) == 1 and _name(own[0]) == name
    if bad := [one for one in own if _in_quarantine(one)]:
        if not itself:
            return Step(f"Ask {_list([_name(one) for one in bad])} for a corrected version: what "
                        "came cannot be linked.", page="#parties", label="See why")  # fmt: skip
        return Step(f"Version {bad[0].quarantined} of {name} cannot be linked: correct it and "
                    "upload the next version.", command=_UPLOAD)  # fmt: skip
    if facts.retired:
        return Step("The study key is out of use: wait for the study's next epoch.", waits=True)
    if missing := [one for one in own if one.dataset is None]:
        if not itself:
            return _remind([_name(one) for one in missing], ("has not uploaded",
                           "have not uploaded"))  # fmt: skip
        anew = f"Upload {name}'s data anew, for epoch {facts.epoch}: epochs never compare."
        first = f"Prepare and upload {name}'s data."
        return Step(anew if missing[0].outdated else first, command=_UPLOAD)
    return Step(f"Nothing waits for {name}: its data are here.", waits=True)


def _of_researcher(facts: Facts) -> Step:
    if facts.state == "linking":
        return Step("Ask a question, and follow those that were asked.", page="/questions",
                    label="To the questions")  # fmt: skip
    return Step("Questions can be asked once the records were linked; the parties and the broker's "
                "admin see to it.", waits=True)  # fmt: skip


def _of_reviewer(facts: Facts) -> Step:
    if facts.reviews:
        return Step(f"{_some(facts.reviews, 'review is', 'reviews are')} open: look at the pairs.",
                    page="/reviews", label="To the review")  # fmt: skip
    return Step("No review is open; the broker's admin opens the next one.", waits=True)


def _over(party: str, facts: Facts) -> Step:
    return Step(f"{party}'s last day was {facts.over[party]}: agree anew, and have the custodian "
                "sign a file with a later day.")  # fmt: skip


def _remind(names: Sequence[str], has: tuple[str, str]) -> Step:
    said = f"{_some(names, 'party', 'parties')} {has[len(names) != 1]} ({_list(names)}); remind "
    return Step(said + ("it." if len(names) == 1 else "them."))


def _in_quarantine(one: PartyState) -> bool:
    return one.quarantined is not None and (one.dataset or 0) < one.quarantined


def _name(one: PartyState) -> str:
    return one.uploader or one.party


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _some(things: Sequence[object], one: str, many: str) -> str:
    count = len(things)
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"{number} {one if count == 1 else many}"


def _list(names: Sequence[str]) -> str:
    """Names in words, the first five of many."""
    shown = list(names[:5])
    if len(names) > len(shown):
        return f"{', '.join(shown)} and {len(names) - len(shown)} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else "nobody"
