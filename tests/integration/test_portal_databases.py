"""
Every page of the portal on both databases, with data in it, as every role: none fails, and what
people read is the same. Every form, too, posted empty by everybody: each is answered.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from broker.container import Broker
from broker.store import reviews
from broker.store.reviews import ReviewRow
from broker.web.pages import addresses
from linkage.governance import opt_out_bytes, opt_out_context
from linkage.messages import BROKER, CUSTODIAN, ReleaseRequest
from linkage.proposal_messages import Decide, ProposalRequest
from linkage.sealing import seal
from tests.broker_packages import encoded, pack
from tests.broker_world import STUDY, World, make_world, opened, packages, sign_for, wait_for
from tests.people import Person, in_session
from tests.questions import question
from tests.reviewing import put_review

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

_AT = re.compile(r"\{(\w+)\}")
ROLES = {
    "admin": "admin",
    "auditor": "auditor",
    "steward": "steward:walked-study:imaging",
    "operator": "operator:walked-study:enclave",
    "researcher": "researcher:walked-study",
    "reviewer": "reviewer:walked-study",
    "stranger": "researcher:another-study",
}
COMPARE = "/studies/{study_id}/runs/compare"
SHOWN = (200, 204)
"""204: the part of a run's page that changes, of a run that has ended."""
ENDING = ("/sign-out", "/account/password", "/studies/{study_id}/destruction")
"""Forms that end what the walk needs; test_signing_in and test_studies have them."""

Words = dict[tuple[str, str], tuple[int, list[str]]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def walked(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[tuple[World, dict[str, str], dict[str, Person]]]:
    """A broker with something on every page; what names in addresses stand for; its people."""
    url = new_postgres_url() if request.param == "postgresql" else None
    made = make_world(tmp_path_factory.mktemp(f"walked-{request.param}"), url=url)
    with ExitStack() as stack:
        stack.callback(made.stop)
        made.serve()
        worker = made.work()
        names = furnish(made)
        # From here on nothing changes by itself.
        worker.terminate()
        worker.wait(180)
        made.processes.remove(worker)
        people = {
            name: in_session(made.home, made.url, f"a-{name}", role) for name, role in ROLES.items()
        }
        yield made, names, people


def furnish(made: World) -> dict[str, str]:
    """Fill a broker: a real study, linked twice, with each thing that a page can show."""
    text = STUDY.replace('"To test with"', '"To test with"\nrelease_to = ["claims", "enclave"]')
    other, _ = sign_for(made.home.public(), "another-study")
    made.actor("admin").post("/v1/studies", other).raise_for_status()
    made.signed, made.identities = sign_for(
        made.home.public(), "walked-study", rehearsal=False, text=text
    )
    admin = made.actor("admin")
    known = made.signed.pin(CUSTODIAN).fingerprint
    admin.post("/v1/studies", made.signed, custodian_fingerprint=known).raise_for_status()
    made.confirm()
    for package in packages(made).values():
        made.upload(package)
    first = made.run(second_look=False)
    assert first["state"] == "done", first["failure"]
    next_second()
    second = made.run(of=first["run_id"], precision=0.97)
    assert second["state"] == "done", second["failure"]
    for audience in (("enclave",), ("claims", "enclave")):
        next_second()
        asked = admin.post(f"{made.path}/releases", ReleaseRequest(audience=audience))
        release = asked.raise_for_status().json()["job_id"]
        if audience == ("enclave",):
            made.finish(f"{made.path}/jobs/{release}")
    asked = admin.post(
        f"{made.path}/questions",
        question(first["run_id"], title="Nodules", purpose="To test with"),
    ).raise_for_status()
    question_id = asked.json()["job_id"]
    made.finish(f"{made.path}/jobs/{question_id}")
    proposal_id = _proposed(made, question_id)
    _opts_out(made)
    spoilt = encoded(made.signed, "claims", range(60))
    spoilt.pseudonyms[1] = spoilt.pseudonyms[0]
    made.upload(pack(made.signed, made.identities["claims"], spoilt, dataset=2))
    assert opened(made, "claims", 2)["state"] == "quarantined"
    made.upload(
        pack(made.signed, made.identities["enclave"],
             encoded(made.signed, "enclave", range(70, 180)), dataset=2)
    )  # fmt: skip
    assert opened(made, "enclave", 2)["state"] == "complete"
    wait_for(
        lambda: not any(one["checking"] for one in admin.get(f"{made.path}/releases").json()), 60
    )
    assert admin.get(f"{made.path}/affected").json()
    _review(made, first["run_id"])
    return {
        "study_id": made.study_id,
        "run_id": first["run_id"],
        "other_run": second["run_id"],
        "review_id": first["run_id"],
        "case_id": f"{0:032x}",
        "release_id": release,
        "question_id": question_id,
        "proposal_id": proposal_id,
        "account": "a-reviewer",
        "actor": "claims",
        "uploader": "claims",
        "dataset": "2",
    }


def next_second() -> None:
    """Wait until the clock shows another: what was asked for in one is listed in any order."""
    now = int(time.time())
    wait_for(lambda: int(time.time()) > now, 5)


def _proposed(made: World, question_id: str) -> str:
    steward = in_session(made.home, made.url, "sam", "steward:walked-study:imaging")
    spec = made.actor("imaging").get(f"{made.path}/questions/{question_id}").json()["spec_hash"]
    body = Decide(question_id=question_id, spec_hash=spec, decision="approve")
    request = ProposalRequest(party="imaging", body=body).model_dump(mode="json")
    answer = steward.call("POST", f"{made.path}/proposals", json=request).raise_for_status()
    return str(answer.json()["proposal_id"])


def _opts_out(made: World) -> None:
    imaging, at = made.actor("imaging"), f"{made.path}/opt-outs"
    sealed = seal(
        opt_out_bytes(encoded(made.signed, "imaging", range(5)).pseudonyms),
        sender=made.identities["imaging"],
        recipient=made.signed.pin(BROKER),
        context=opt_out_context(made.study_id, "imaging", 1, 1),
    )
    imaging.put(f"{at}/1", sealed).raise_for_status()
    wait_for(lambda: imaging.get(at).json()[0]["records"] is not None, 60)


def _review(made: World, run_id: str) -> None:
    """An open review of a few pairs, one of them read."""
    row = ReviewRow(
        run_id=run_id,
        study_id=made.study_id,
        state=reviews.OPEN,
        reviewers="[]",
        opened_at=int(time.time()),
    )
    broker = Broker.at(made.home)
    with broker.database.change() as connection:
        put_review(
            connection,
            row,
            parties=("imaging", "enclave"),
            fields=("last_name",),
            pairs=6,
            readings=[(5, 1, "x")],
        )
    broker.database.close()


def filled(template: str, names: dict[str, str]) -> str:
    """Return an address of something that is there."""
    path = _AT.sub(lambda found: names[found[1]], template)
    query = f"?a={names['run_id']}&b={names['other_run']}" if template.startswith(COMPARE) else ""
    return path + query


def read(text: str) -> list[str]:
    """Return what people read on a page; what differs from broker to broker is left out."""
    text = re.sub(r"<(script|style|head)\b.*?</\1>", " ", text, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", "\n", text))
    # A figure and its unit are held together by a space that does not break.
    text = re.sub(r"[^\S\n]", " ", text)
    for what, instead in (
        (r"\b(run|release|question|proposal)-[0-9a-f]{16}\b", r"\1-ID"),
        (r"\b[0-9a-f]{4}(?:[ -][0-9a-f]{4}){7,}\b", "FINGERPRINT"),
        (r"\b[0-9a-f]{12,}\b", "HEX"),
        (r"\b\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC)?", "WHEN"),
        (r"\b\d+(?:\.\d+)? (?:ms|s|min|h|d|hours?|seconds?|minutes?)\b", "TOOK"),
        (r"\bunder TOOK\b|\bTOOK(?: TOOK)+\b", "TOOK"),
        (r"\b\d+(?:\.\d+)? (?:bytes|kB|MB|GB|TB)\b", "SIZE"),
    ):
        text = re.sub(what, instead, text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line]


COUNTED = (
    "/studies/{study_id}",
    "/studies/{study_id}/releases",
    "/studies/{study_id}/releases/affected",
    "/studies/{study_id}/storage",
)
"""Pages whose every count is the same, too; others tell how fast something went."""


def spelled(words: list[str]) -> list[str]:
    """Return words without their numbers."""
    return [re.sub(r"\d[\d.,\u202f]*", "N", word) for word in words]


def of_the_moment(template: str) -> bool:
    """Does a page say how the broker does just now, or what its log holds, entry by entry?"""
    return template == "/admin" or "/audit" in template


SEEN: dict[str, Words] = {}
"""By database; the second is compared with the first."""


def test_every_page_is_the_same_on_both_databases(
    walked: tuple[World, dict[str, str], dict[str, Person]], request: pytest.FixtureRequest
) -> None:
    made, names, people = walked
    found: Words = {}
    for role, who in people.items():
        for method, template in addresses():
            if method != "GET":
                continue
            answer = who.client.get(filled(template, names))
            assert answer.status_code < 500, (role, template, answer.text)
            found[role, template] = (answer.status_code, read(answer.text))
    opened_by = {template for (_, template), (status, _) in found.items() if status in SHOWN}
    missing = {template for method, template in addresses() if method == "GET"} - opened_by
    assert missing == set(), "every page is seen by somebody"
    assert "unforeseen" not in (made.home.path / "serve.log").read_text()
    SEEN[request.node.callspec.params["walked"]] = found
    if len(SEEN) == 2:
        one, other = SEEN.values()
        assert one.keys() == other.keys()
        differ = []
        for key, (status, words) in one.items():
            told, said = other[key]
            alike = words == said if key[1] in COUNTED else spelled(words) == spelled(said)
            if status != told or not (alike or of_the_moment(key[1])):
                differ.append((key, status, told, sorted(set(words) ^ set(said))[:6]))
        assert differ == []


def test_every_form_is_answered_on_both_databases(
    walked: tuple[World, dict[str, str], dict[str, Person]],
) -> None:
    """After the pages, for some of these forms do what they say."""
    made, names, people = walked
    for role, who in people.items():
        for method, template in addresses():
            if method != "POST" or template in ENDING:
                continue
            form = {"csrf": who.csrf, "confirm": "x"}
            answer = who.client.post(filled(template, names), data=form)
            assert answer.status_code < 500, (role, template, answer.text)
    assert "unforeseen" not in (made.home.path / "serve.log").read_text()
