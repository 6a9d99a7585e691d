"""A steward decides and a researcher asks in a browser: the party's own agent signs, or refuses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from linkage.messages import READER
from linkage.proposal_messages import Allow, Deliver, ProposedRemark
from linkage.sealing import Identity
from sites.agent import plan_of
from sites.counted import open_counts
from tests.broker_world import Actor, make_world, problem, running
from tests.cohort_world import Sites
from tests.people import Person
from tests.proposing import (
    SPECIFICATION,
    about,
    ask,
    decide,
    now,
    propose,
    read,
    researcher,
    says,
    states,
    steward,
)

IMAGING = 'portal = ["ines"]'
ENCLAVE = 'questions = "auto"\nportal = ["ada", "emil"]'
KEY = Identity.generate("reader")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("proposed")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "proposed", imaging=range(60), enclave=range(20, 80))
        yield made
        made.close()


@pytest.fixture(scope="module")
def ada(sites: Sites) -> Person:
    return researcher(sites)


@pytest.fixture(scope="module")
def ines(sites: Sites) -> Person:
    return steward(sites, "imaging", "ines")


@pytest.fixture(scope="module")
def emil(sites: Sites) -> Person:
    return steward(sites, "enclave", "emil")


@pytest.fixture(scope="module")
def question(sites: Sites, ada: Person) -> str:
    """Asked in a browser by ada, and prepared by the broker."""
    sites.write_site("enclave", ENCLAVE)
    made = propose(sites, ada, "enclave", ask(KEY))
    assert (made.state, made.kind, made.person) == ("waiting", "ask", "ada")
    assert made.command == "linkage-cohort request cohort.toml"
    told = states(sites, "enclave")
    asked = now(sites, made.proposal_id)
    assert told == {made.proposal_id: f"done: ask {asked.result}"}
    assert (asked.state, asked.begun, asked.command) == ("done", False, "")
    sites.world.finish(f"{sites.world.path}/jobs/{asked.result}")
    return asked.result


def test_a_researchers_question_is_asked_with_her_key(sites: Sites, question: str) -> None:
    shown = read(sites, question)
    assert shown.title == "Asked in a browser"
    assert shown.reader == KEY.public()
    assert shown.expires, "as linkage-cohort request has it"


def test_counts_are_sealed_to_the_key_in_the_browser(
    sites: Sites, ada: Person, question: str
) -> None:
    sites.write_site("imaging", 'questions = "auto"\n' + IMAGING)
    sites.write_site("enclave", ENCLAVE)
    assert [event.state for event in sites.look("imaging")] == ["done"]
    assert [event.state for event in sites.look("enclave")] == ["done"]
    sealed = ada.call("GET", f"{sites.world.path}/questions/{question}/counts")
    with sites.session("enclave") as session:
        told = open_counts(session, read(sites, question), sealed.content, KEY)
    assert told["persons"], READER


def test_without_the_line_it_waits_and_the_command_is_told(
    sites: Sites, ines: Person, question: str
) -> None:
    sites.write_site("imaging")
    made = propose(sites, ines, "imaging", decide(sites, question, "approve"))
    assert made.command == f"linkage-cohort approve {question}"
    before = len(sites.wires["imaging"].exchanges)
    assert states(sites, "imaging") == {}
    asked = sites.wires["imaging"].exchanges[before:]
    assert not [one for one in asked if "proposals" in one.target], "it does not even ask"
    sites.write_site("imaging", 'portal = ["someone-else"]')
    (said,) = states(sites, "imaging").values()
    assert "does not name 'ines'" in said
    assert f"linkage-cohort approve {question}" in said
    sites.write_site("imaging", IMAGING + '\nportal_kinds = ["remark"]')
    (said,) = states(sites, "imaging").values()
    assert "portal_kinds does not have 'decide'" in said
    assert read(sites, question).approvals == {}
    assert now(sites, made.proposal_id).state == "waiting"
    sites.write_site("imaging", IMAGING)
    with sites.session("imaging") as session:
        (plan,) = [one for one in plan_of(session) if one.subject == made.proposal_id]
    assert plan.said == f"would be carried out, if all is in order: decide {question}"
    assert now(sites, made.proposal_id).state == "waiting"
    path = f"{sites.world.path}/proposals/{made.proposal_id}/withdraw"
    for _ in range(2):
        assert ines.call("POST", path).json()["state"] == "withdrawn"
    sites.write_site("imaging", IMAGING)
    assert states(sites, "imaging") == {}


def test_a_steward_asks_back_and_the_enclave_answers(
    sites: Sites, ines: Person, emil: Person, question: str
) -> None:
    sites.write_site("imaging", IMAGING)
    sites.write_site("enclave", ENCLAVE)
    digest = read(sites, question).spec_hash
    back = ProposedRemark(question_id=question, spec_hash=digest, text="Why CT alone?")
    said = propose(sites, ines, "imaging", back)
    assert states(sites, "imaging") == {said.proposal_id: f"done: remark {question}"}
    reply = ProposedRemark(question_id=question, spec_hash=digest, text="It is lungs.", answers=1)
    propose(sites, emil, "enclave", reply)
    states(sites, "enclave")
    kept = sites.world.actor("admin").get(f"{sites.world.path}/questions/{question}/remarks")
    assert [(one["remark"]["author"], one["remark"]["text"]) for one in kept.json()] == [
        ("imaging", "Why CT alone?"),
        ("enclave", "It is lungs."),
    ]
    refused = {"party": "imaging", "body": reply.model_dump(mode="json")}
    answer = ines.call("POST", f"{sites.world.path}/proposals", json=refused)
    assert problem(answer)[0] == 403


def test_stewards_decide_and_the_newest_counts(
    sites: Sites, ines: Person, emil: Person, question: str
) -> None:
    until = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=20)
    approve = decide(sites, question, "approve", until=until)
    first = propose(sites, ines, "imaging", approve)
    assert propose(sites, ines, "imaging", approve) == first, "the same again is one"
    deny = propose(sites, ines, "imaging", decide(sites, question, "deny"))
    replaced = now(sites, first.proposal_id)
    assert (replaced.state, replaced.note) == ("withdrawn", f"replaced by {deny.proposal_id}")
    again = propose(sites, ines, "imaging", approve)
    assert again.made_at > first.made_at
    propose(sites, emil, "enclave", decide(sites, question, "approve"))
    for party in ("imaging", "enclave"):
        assert list(states(sites, party).values()) == [f"done: approve {question}"]
    shown = read(sites, question)
    assert shown.approvals == {"imaging": "approve", "enclave": "approve"}
    assert shown.decisions["imaging"].expires == until.isoformat()
    assert shown.decisions["imaging"].decided_at == again.made_at


def test_an_older_proposal_does_not_undo_a_newer_decision(
    sites: Sites, ines: Person, question: str
) -> None:
    from sites.questions import decide as by_command

    late = propose(sites, ines, "imaging", decide(sites, question, "approve"))
    with sites.session("imaging") as session:
        by_command(session, question, "revoke")
    said = states(sites, "imaging")[late.proposal_id]
    assert said.startswith("refused: approve"), said
    assert now(sites, late.proposal_id).note.startswith("a later decision of this party")
    assert read(sites, question).approvals["imaging"] == "revoke"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SPECIFICATION.replace("CT", "XX"), "modality"),
        (SPECIFICATION + "[clinical.extra]\n", "is not a known key"),
        (
            SPECIFICATION.replace(
                SPECIFICATION[SPECIFICATION.index("concept_id") :], 'concept_set = "/etc/passwd"\n'
            ),
            "Send the items, not a file",
        ),
        ("x = " + "[" * 60_000, "nested too deeply"),
        ("x = ", "is not valid TOML"),
    ],
)
def test_a_refused_question_says_what_to_mend(
    sites: Sites, ada: Person, text: str, reason: str
) -> None:
    sites.write_site("enclave", ENCLAVE)
    made = propose(sites, ada, "enclave", ask(KEY, text))
    (said,) = states(sites, "enclave").values()
    found = ada.call("GET", f"{sites.world.path}/proposals").json()
    (mine,) = [one for one in found if one["proposal_id"] == made.proposal_id]
    assert said == "refused: ask; ada reads the reasons", "a log may travel: no criterion"
    assert mine["state"] == "refused"
    assert reason in mine["note"], mine["note"]
    assert str(sites.folder) not in mine["note"]


def test_a_thief_of_the_sites_token_does_not_tell_a_steward_that_it_was_done(
    sites: Sites, ines: Person, other: str
) -> None:
    """Who has the token and not the key neither decides, nor says what became of a wish."""
    made = propose(sites, ines, "imaging", decide(sites, other, "deny"))
    one, at = made.proposal_id, f"{sites.world.path}/proposals/{made.proposal_id}"
    site = sites.world.actor("imaging")
    token = site.sign_in().raise_for_status().json()["access_token"]
    own = Identity.generate("imaging", kem="X25519")
    thief = Actor(site.url, site.subject, own, token)
    for step, state in (("begin", "begun"), ("settle", "done"), ("settle", "refused")):
        for forged in (says(thief, one, state), None):
            assert problem(thief.post(f"{at}/{step}", forged))[0] == 422
    # Nor with what the site signed of another step, or another proposal.
    for mine in (says(site, one, "begun"), says(site, "proposal-1", "refused")):
        assert problem(thief.post(f"{at}/settle", mine))[:2] == (422, "package-refused")
    waits = now(sites, one)
    assert (waits.state, waits.begun) == ("waiting", False)
    # Even the site's own agent is believed only where its signed decision is here.
    site.post(f"{at}/begin", says(site, one, "begun")).raise_for_status()
    told = site.post(f"{at}/settle", says(site, one, "done", result=other))
    assert problem(told)[:2] == (409, "conflict")
    assert "signed decision is not here" in problem(told)[2]
    assert now(sites, one).state == "waiting"
    assert read(sites, other).approvals == {}
    site.post(f"{at}/settle", says(site, one, "refused")).raise_for_status()
    assert now(sites, one).state == "refused"


def test_who_sees_and_may_what(
    sites: Sites, ada: Person, ines: Person, emil: Person, question: str
) -> None:
    path, world = f"{sites.world.path}/proposals", sites.world
    mine = propose(sites, ada, "enclave", ask(KEY))

    def seen(who: Person) -> list[str]:
        return [one["proposal_id"] for one in who.call("GET", path).json()]

    assert mine.proposal_id in seen(ada)
    assert mine.proposal_id in seen(emil), "the enclave's steward sees what is asked of it"
    assert mine.proposal_id not in seen(ines), "the clinical half is not hers to read"
    assert mine.proposal_id not in seen(researcher(sites, "bob"))
    assert now(sites, mine.proposal_id).body is None, "an admin reads no words of it"
    assert world.actor("imaging").get(path, state="waiting").json() == []
    one, at = mine.proposal_id, f"{path}/{mine.proposal_id}"
    imaging, enclave = world.actor("imaging"), world.actor("enclave")
    settled = says(enclave, one, "done")
    assert problem(imaging.post(f"{at}/settle", says(imaging, one, "done")))[0] == 404
    assert problem(enclave.post(f"{at}/settle", settled))[0] == 409, "not begun"
    assert problem(ines.call("POST", f"{at}/withdraw"))[0] == 404
    assert problem(emil.call("POST", f"{at}/withdraw"))[0] == 403
    enclave.post(f"{at}/begin", says(enclave, one, "begun")).raise_for_status()
    assert problem(ada.call("POST", f"{at}/withdraw"))[0] == 409, "it is being done"
    refused = says(enclave, one, "refused", note="for a test")
    for _ in range(2):
        enclave.post(f"{at}/settle", refused).raise_for_status()
    assert problem(enclave.post(f"{at}/settle", settled))[0] == 409
    for who, party, body in (
        (ada, "imaging", ask(KEY)),
        (ines, "enclave", ask(KEY)),
        (ada, "imaging", decide(sites, question, "deny")),
        (ines, "enclave", decide(sites, question, "deny")),
        (ines, "claims", decide(sites, question, "deny")),
    ):
        wished = {"party": party, "body": body.model_dump(mode="json")}
        assert problem(who.call("POST", path, json=wished))[:2] == (403, "not-allowed")
    unknown = decide(sites, question, "deny").model_copy(update={"spec_hash": "0" * 64})
    wished = {"party": "imaging", "body": unknown.model_dump(mode="json")}
    assert problem(ines.call("POST", path, json=wished))[0] == 409
    assert problem(world.actor("admin").call("POST", path, json=wished))[0] == 403


@pytest.fixture(scope="module")
def other(sites: Sites) -> str:
    """Another question, that the admin asked; nobody has said anything about it."""
    return sites.ask(imaging={"modality": ["CT"]}, clinical={"any": True})


def test_counts_alone_are_allowed_only_where_the_site_names_the_kind(
    sites: Sites, ines: Person, other: str
) -> None:
    sites.write_site("imaging", IMAGING)
    made = propose(sites, ines, "imaging", about(sites, Allow, other))
    assert made.command == f"linkage-site allow {other}"
    told = states(sites, "imaging")
    assert "portal_kinds does not have 'allow'" in told[made.proposal_id]
    assert not read(sites, other).answered, "not by default"
    sites.write_site("imaging", IMAGING + '\nportal_kinds = ["allow"]')
    assert states(sites, "imaging")[made.proposal_id] == f"done: allow {other}"
    sites.look("imaging")
    shown = read(sites, other)
    assert shown.answered
    assert shown.approvals == {}, "and no rows"


def test_the_enclave_orders_what_all_have_approved(
    sites: Sites, ines: Person, emil: Person, other: str
) -> None:
    from sites.questions import decide as by_command

    path = f"{sites.world.path}/proposals"
    order = about(sites, Deliver, other)
    wished = {"party": "enclave", "body": order.model_dump(mode="json")}
    assert "not approved by: enclave, imaging" in emil.call("POST", path, json=wished).text
    for party in ("imaging", "enclave"):
        with sites.session(party) as session:
            by_command(session, other, "approve")
    for who, party in ((ines, "imaging"), (ines, "enclave"), (emil, "imaging")):
        wrong = {"party": party, "body": order.model_dump(mode="json")}
        assert problem(who.call("POST", path, json=wrong))[:2] == (403, "not-allowed")
    made = propose(sites, emil, "enclave", order)
    sites.write_site("enclave", ENCLAVE)
    assert "does not have 'deliver'" in states(sites, "enclave")[made.proposal_id]
    assert read(sites, other).delivery_id is None, "not by default"
    sites.write_site("enclave", ENCLAVE + '\nportal_kinds = ["deliver"]')
    told = states(sites, "enclave")[made.proposal_id]
    ordered = read(sites, other).delivery_id
    assert told == f"done: deliver {other}"
    assert now(sites, made.proposal_id).result == ordered
    assert ordered
    sites.world.finish(f"{sites.world.path}/jobs/{ordered}")


def test_a_denial_takes_the_place_of_a_yes_and_of_an_order(sites: Sites, ines: Person) -> None:
    question = sites.ask(imaging={"modality": ["CT"]}, clinical={"any": True})
    yes = propose(sites, ines, "imaging", about(sites, Allow, question))
    deny = propose(sites, ines, "imaging", decide(sites, question, "deny"))
    replaced = now(sites, yes.proposal_id)
    assert (replaced.state, replaced.note) == ("withdrawn", f"replaced by {deny.proposal_id}")
    sites.write_site("imaging", IMAGING)
    states(sites, "imaging")
    late = {"party": "imaging", "body": about(sites, Allow, question).model_dump(mode="json")}
    answer = ines.call("POST", f"{sites.world.path}/proposals", json=late)
    assert "denied by: imaging" in answer.text


def test_the_log_has_digests_and_no_words(sites: Sites, question: str) -> None:
    log = sites.world.actor("admin").get("/v1/audit", limit=1000).text
    for words in ("proposal made", "proposal begun", "proposal done", "proposal refused"):
        assert words in log
    for secret in ("Why CT alone", "Asked in a browser", "portal-cohort", "is not a known key"):
        assert secret not in log


def test_a_person_who_lost_the_role_is_not_heard(sites: Sites, question: str) -> None:
    from broker.container import Broker

    gone = steward(sites, "imaging", "gone")
    sites.write_site("imaging", 'portal = ["gone"]')
    made = propose(sites, gone, "imaging", decide(sites, question, "deny"))
    broker = Broker.at(sites.world.home)
    broker.accounts.disable("gone")
    broker.database.close()
    assert states(sites, "imaging") == {}
    assert now(sites, made.proposal_id).state == "withdrawn"
