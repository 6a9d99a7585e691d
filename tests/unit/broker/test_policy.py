"""The one object-level check: every role by every action, and closed for what is not foreseen."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
import pkgutil
from pathlib import Path

import pytest

from broker import policy
from broker.person_roles import PersonRole, parse_role, require_compatible
from broker.policy import ALLOWED, Action, Caller, Grant, check, require_id
from broker.registered import RegisteredStudy
from broker.store.studies import StudyRow
from linkage.errors import KeyRefused, NotAllowed, NotFound
from linkage.sealing import Identity
from tests.broker_world import STUDY as STUDY_TEXT
from tests.broker_world import sign_for

SIGNED, _ = sign_for(Identity.generate("broker", kem="X25519").public(), "small-study")
STUDY = RegisteredStudy.of(
    StudyRow(
        id="small-study",
        study_hash=SIGNED.study_hash,
        signed=SIGNED.model_dump_json(),
        registered_at=0,
    )
)
WHO = {
    "admin": Caller("root", None),
    "imaging": Caller("imaging", "small-study"),
    "enclave": Caller("enclave", "small-study"),
    "claims": Caller("claims", "small-study"),
    **{
        role: Caller("ada", None, person=True, roles=frozenset({parse_role(role)}))
        for role in (
            "auditor",
            "steward:small-study:claims",
            "operator:small-study:claims",
            "steward:small-study:imaging",
            "operator:small-study:imaging",
            "researcher:small-study",
            "reviewer:small-study",
        )
    },
    "person admin": Caller("eve", None, person=True, roles=frozenset({PersonRole("admin")})),
}
STEWARDS = {"steward:small-study:claims", "steward:small-study:imaging"}
EVERY_PERSON = {name for name in WHO if ":" in name} | {"auditor"}
MAY = {
    Action.REGISTER_STUDY: {"admin"},
    Action.READ_STUDY: {"admin", "imaging", "enclave", "claims"} | EVERY_PERSON,
    Action.UPLOAD: {"claims"},
    Action.WITHDRAW: {"claims"},
    Action.READ_DATASET: {
        "admin",
        "claims",
        "steward:small-study:claims",
        "operator:small-study:claims",
    },
    Action.READ_STORAGE: {"admin"},
    Action.CHANGE_STORAGE: {"admin"},
    Action.START_RUN: {"admin"},
    Action.CANCEL_RUN: {"admin"},
    Action.OPEN_REVIEW: {"admin"},
    Action.READ_REVIEW: {"admin", "reviewer:small-study"},
    Action.REVIEW: {"reviewer:small-study"},
    Action.READ_RUN: {"admin", "imaging", "enclave", "claims"} | STEWARDS,
    Action.COMPARE_RUNS: {"admin"},
    Action.RELEASE: {"admin"},
    Action.CANCEL_RELEASE: {"admin"},
    Action.READ_AFFECTED: {"admin"},
    Action.READ_RELEASE: {"admin", "imaging", "enclave", "claims"} | STEWARDS,
    Action.CONSENT: {"imaging", "enclave", "claims"},
    Action.PIN_RELEASE: {"imaging", "enclave", "claims"},
    Action.READ_JOB: {"admin", "enclave"},
    Action.ASK: {"admin", "enclave"},
    Action.READ_QUESTION: {"admin", "imaging", "enclave", "claims", "researcher:small-study"}
    | STEWARDS,
    Action.APPROVE: {"imaging", "enclave", "claims"},
    Action.REMARK: {"imaging", "enclave", "claims", "researcher:small-study"},
    Action.PROPOSE: {"researcher:small-study"} | STEWARDS,
    Action.READ_PROPOSALS: {"admin", "imaging", "enclave", "claims", "researcher:small-study"}
    | STEWARDS,
    Action.SETTLE_PROPOSAL: {"imaging", "enclave", "claims"},
    Action.READ_COUNTS: {"enclave", "researcher:small-study"},
    Action.DELIVER: {"admin", "enclave"},
    Action.READ_INBOX: {"imaging", "enclave", "claims"},
    Action.SEND: {"imaging", "enclave"},
    Action.READ_LOOK: {"admin", "claims"},
    Action.ANSWER_LOOK: {"claims"},
    Action.END_LOOK: {"admin"},
    Action.ASSERT: {"claims"},
    Action.READ_ASSERTIONS: {"admin", "claims"},
    Action.READ_AUDIT: {"admin", "auditor"},
    Action.READ_HEADS: {"admin", "imaging", "enclave", "claims", "auditor"} | STEWARDS,
    Action.CONFIRM: {"imaging", "enclave", "claims"},
    Action.READ_CONFIRMATIONS: {"admin", "imaging", "enclave", "claims"} | EVERY_PERSON,
    Action.OPT_OUT: {"claims"},
    Action.READ_OPT_OUTS: {"admin", "claims"},
    Action.OFFER: {"imaging", "enclave", "claims"},
    Action.WITHDRAW_OFFER: {"imaging", "enclave", "claims"},
    Action.READ_OFFERED: {"admin", "imaging", "enclave", "claims", "researcher:small-study"}
    | STEWARDS,
    Action.READ_TAKEN_OUT: {"admin", "claims"} | STEWARDS,
    Action.READ_DESTRUCTION: {"admin", "imaging", "enclave", "claims"} | EVERY_PERSON,
    Action.LIST_STUDIES: {"admin", "imaging", "enclave", "claims"} | EVERY_PERSON,
    Action.CLOSE_STUDY: {"admin"},
    Action.DESTROY_STUDY: {"admin"},
    Action.READ_ACCOUNTS: {"admin"},
    Action.CHANGE_ACCOUNTS: {"admin"},
    Action.READ_SYSTEM: {"admin"},
    Action.READ_ACCESS: {"admin"},
    Action.CHANGE_ACCESS: {"admin"},
}
"""Written out by hand, with the path naming party "claims"; the policy must say the same."""


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("who", WHO)
def test_who_may_do_what(action: Action, who: str) -> None:
    outside = action in policy.OUTSIDE_STUDIES
    study, study_id = (None, None) if outside else (STUDY, "small-study")
    if who in MAY[action] or (who == "person admin" and "admin" in MAY[action]):
        assert (
            check(WHO[who], action, study, study_id=study_id, uploader="claims").caller == WHO[who]
        )
    else:
        with pytest.raises(NotAllowed) as caught:
            check(WHO[who], action, study, study_id=study_id, uploader="claims")
        assert caught.value.hint


def test_what_a_person_sees_of_the_parties() -> None:
    def seen(role: str) -> tuple[bool, str]:
        caller = Caller("ada", None, person=True, roles=frozenset({parse_role(role)}))
        grant = Grant(caller, Action.READ_STUDY, STUDY)
        with pytest.raises(NotAllowed, match="may not read the study"):
            _ = grant.party
        return grant.is_admin, grant.viewer

    assert seen("admin") == (True, "")
    assert seen("steward:small-study:claims") == (False, "claims")
    assert seen("operator:other-study:claims") == (False, "")
    for role in ("auditor", "researcher:small-study", "reviewer:small-study"):
        assert seen(role) == (False, "")


@pytest.mark.parametrize(
    "role", ["steward:other-study:claims", "researcher:other-study", "reviewer:other-study"]
)
def test_a_person_of_another_study_finds_nothing(role: str) -> None:
    caller = Caller("ada", None, person=True, roles=frozenset({parse_role(role)}))
    for action in Action:
        if action is Action.LIST_STUDIES:
            continue  # everybody has a list; what is in it: integration/test_broker_admin
        if action in policy.OUTSIDE_STUDIES:
            with pytest.raises(NotAllowed):
                check(caller, action, None)
        else:
            with pytest.raises(NotFound):
                check(caller, action, STUDY, study_id="small-study", uploader="claims")


def test_a_person_without_roles_may_nothing() -> None:
    for action in set(Action) - {Action.LIST_STUDIES}:
        with pytest.raises((NotAllowed, NotFound)):
            check(Caller("ada", None, person=True), action, STUDY, study_id="small-study")


@pytest.mark.parametrize(
    "text",
    ["", "root", "admin:s1", "auditor:s1", "steward:s1", "reviewer", "researcher:S1", "a:b:c:d"],
)
def test_what_is_no_role(text: str) -> None:
    with pytest.raises(KeyRefused, match="no role"):
        parse_role(text)


def test_roles_that_do_not_go_together() -> None:
    def together(*texts: str) -> None:
        assert {str(one) for one in require_compatible(map(parse_role, texts))} == set(texts)

    together("steward:s1:claims", "operator:s1:claims", "steward:s2:imaging", "researcher:s1")
    together("auditor")
    together()
    for one in (("admin", "auditor"), ("auditor", "reviewer:s1"), ("admin", "operator:s1:claims")):
        with pytest.raises(KeyRefused, match="stands alone"):
            together(*one)
    with pytest.raises(KeyRefused, match="two parties"):
        together("steward:s1:claims", "operator:s1:imaging")


def test_contributors_give_and_get_nothing_back() -> None:
    """And a party with contributors holds no identifiers: it uploads nothing itself."""
    text = STUDY_TEXT.replace('id = "claims"', 'id = "claims"\ncontributors = ["north", "south"]')
    signed, _ = sign_for(Identity.generate("broker", kem="X25519").public(), "s1", text=text)
    row = StudyRow(
        id="s1", study_hash=signed.study_hash, signed=signed.model_dump_json(), registered_at=0
    )
    study, north, claims = RegisteredStudy.of(row), Caller("north", "s1"), Caller("claims", "s1")

    def may(caller: Caller, uploader: str) -> set[Action]:
        allowed = set()
        for action in Action:
            try:
                check(caller, action, study, study_id="s1", uploader=uploader)
                allowed.add(action)
            except NotAllowed:
                pass
        return allowed

    of_its_own = {Action.UPLOAD, Action.READ_DATASET, Action.READ_LOOK, Action.ANSWER_LOOK}
    of_its_own |= {Action.ASSERT, Action.READ_ASSERTIONS, Action.WITHDRAW}
    of_its_own |= {Action.OPT_OUT, Action.READ_OPT_OUTS, Action.READ_TAKEN_OUT}
    always = {Action.READ_STUDY, Action.READ_HEADS, Action.SEND}
    always |= {Action.READ_CONFIRMATIONS, Action.READ_DESTRUCTION, Action.LIST_STUDIES}
    assert may(north, "north") == always | of_its_own
    assert may(north, "south") == always
    assert may(north, "claims") == always
    for uploader in ("claims", "north"):
        assert not may(claims, uploader) & (of_its_own | {Action.SEND})


@pytest.mark.parametrize("action", [a for a in Action if a not in policy.OUTSIDE_STUDIES])
def test_a_study_that_is_not_the_callers_does_not_exist(action: Action) -> None:
    stranger = Caller("imaging", "other-study")
    for registered, study_id in [(STUDY, "small-study"), (None, "small-study"), (STUDY, None)]:
        with pytest.raises(NotFound):
            check(stranger, action, registered, study_id=study_id, uploader="imaging")
    for caller in WHO.values():
        with pytest.raises(NotFound):
            check(caller, action, None, study_id="no-such-study", uploader="imaging")
        with pytest.raises(NotFound):
            check(caller, action, STUDY, study_id="another-name", uploader="imaging")


@pytest.mark.threat("T19")
def test_what_the_table_lacks_is_refused_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {action: roles for action, roles in ALLOWED.items() if action != Action.READ_STUDY}
    monkeypatch.setattr(policy, "ALLOWED", without)
    for caller in WHO.values():
        with pytest.raises(NotAllowed, match="may not read the study"):
            check(caller, Action.READ_STUDY, STUDY, study_id="small-study")


def test_a_party_that_the_study_dropped_may_nothing() -> None:
    # Listing shows what one may read: to it nothing (integration/test_broker_admin).
    for action in set(Action) - {Action.LIST_STUDIES}:
        study = None if action in policy.OUTSIDE_STUDIES else STUDY
        with pytest.raises((NotAllowed, NotFound)):
            check(Caller("gone", "small-study"), action, study, study_id="small-study")


def test_every_action_is_decided() -> None:
    assert set(ALLOWED) == set(Action) == set(MAY)


@pytest.mark.parametrize("text", ["", "-x", "A", "x" * 81, "a/b", "a\x00b", "é", "a b", "../x"])
def test_what_cannot_be_an_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        require_id(text)


@pytest.mark.threat("T19")
def test_every_route_passes_the_check() -> None:
    """A route that forgot its grant would be open to all: none but sign-in and health may."""
    from fastapi.dependencies.models import Dependant
    from fastapi.routing import APIRoute

    import broker.routes
    from broker.routes.common import May

    def checks(dependant: Dependant) -> list[Action]:
        own = [dependant.call.action] if isinstance(dependant.call, May) else []
        return own + [action for one in dependant.dependencies for action in checks(one)]

    open_routes, used = [], set()
    for found in pkgutil.iter_modules(broker.routes.__path__):
        module = importlib.import_module(f"broker.routes.{found.name}")
        for route in module.router.routes if hasattr(module, "router") else ():
            assert isinstance(route, APIRoute)
            assert route.include_in_schema, "the tenants' test finds addresses there"
            actions = checks(route.dependant)
            used |= set(actions)
            if not actions:
                open_routes.append(route.path)
                continue
            assert len(set(actions)) <= 1, route.path
    health = {one for one in open_routes if one.startswith("/health")}
    assert set(open_routes) - health == SIGN_IN
    assert used == set(Action)


SIGN_IN = {
    "/v1/token",
    "/v1/session",
    "/v1/session/end",
    "/v1/session/password",
    "/v1/session/provider",
    "/v1/session/provider/back",
    "/v1/invitations/open",
    "/v1/invitations/accept",
}
"""What is asked before or without a grant."""


def test_routes_are_thin() -> None:
    """A route parses, calls and answers; a rule in it would not be tested where rules are."""
    import ast

    import broker.routes

    for path in Path(broker.routes.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                statements = [one for one in node.body if not isinstance(one, ast.Expr)]
                lines = sum((one.end_lineno or 0) - one.lineno + 1 for one in statements)
                assert lines < 10, f"{path.name}: {node.name}"


LAST_DAY = dt.date(2027, 6, 30)


@pytest.mark.parametrize("action", sorted(policy.BEFORE_EXPIRY, key=lambda one: one.name))
def test_an_expired_study_can_be_read_and_nothing_else(action: Action) -> None:
    header = STUDY.config.study.model_copy(update={"expires": LAST_DAY})
    expiring = dataclasses.replace(STUDY, config=STUDY.config.model_copy(update={"study": header}))
    caller = next(WHO[who] for who in WHO if who in MAY[action])

    def ask(what: Action, today: dt.date | None) -> None:
        check(caller, what, expiring, study_id="small-study", uploader="claims", today=today)

    ask(action, LAST_DAY)
    for too_late in (LAST_DAY + dt.timedelta(days=1), None):
        with pytest.raises(NotAllowed, match="last day was 2027-06-30"):
            ask(action, too_late)
        ask(Action.READ_STUDY, too_late)
        if caller.is_admin:
            ask(Action.CANCEL_RELEASE, too_late)  # to end what waits is always possible
