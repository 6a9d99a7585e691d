"""
A thief with a site's access token, but not its key: what it opens, and how it is shut.

What counts has to be signed or sealed by the site's own key; a token alone reads what is sealed to
the site and cannot open it. One thing it can do is told here and in docs/threat-model.md: take back
the site's dataset versions.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from linkage.errors import PackageRefused
from linkage.governance import Confirmation, Withdrawal
from linkage.messages import Approval
from linkage.sealing import Identity
from tests.broker_packages import encoded, pack
from tests.broker_world import HTTP, Actor, World, make_world, problem, running
from tests.protocol.worlds import beside
from tests.questions import question as asking


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("stolen")), worker=False) as made:
        yield made


@pytest.fixture
def thief(world: World) -> Actor:
    """Calls with the token of the imaging party, and signs with a key of its own."""
    token = world.actor("imaging").sign_in().raise_for_status().json()["access_token"]
    own = Identity.generate("imaging", kem="X25519")
    return Actor(lambda: world.url, f"{world.study_id}/imaging", own, token)


def test_nothing_that_counts_is_taken_without_the_key(world: World, thief: Actor) -> None:
    records = encoded(world.signed, "imaging", range(20))
    forged = pack(world.signed, thief.identity, records, dataset=7)
    assert problem(thief.post(f"{world.path}/datasets", forged.manifest))[0] == 422
    # The site's own manifest, seen on the way: parts are not the thief's to make.
    real = pack(world.signed, world.identities["imaging"], records, dataset=7)
    thief.post(f"{world.path}/datasets", real.manifest).raise_for_status()
    at = f"{world.path}/datasets/imaging/7"
    assert problem(thief.put(f"{at}/parts/1", forged.parts[0]))[0] in (413, 422)
    assert problem(thief.post(f"{at}/complete"))[0] == 409
    said = Confirmation(
        study_id=world.study_id, epoch=1, study_hash=world.signed.study_hash, party="imaging"
    ).sign(thief.identity)
    assert problem(thief.post(f"{world.path}/confirmations", said))[0] == 422
    decision = Approval(
        study_id=world.study_id,
        question_id="question-1",
        spec_hash="0" * 64,
        party="imaging",
        decision="approve",
    ).sign(thief.identity)
    asked = thief.post(f"{world.path}/questions/question-1/approvals", decision)
    assert problem(asked)[0] in (404, 422)
    assert problem(thief.put(f"{world.path}/assertions/1", b"x" * 500))[0] == 422


def test_it_opens_its_own_study_as_this_party_only(world: World, thief: Actor) -> None:
    other = beside(world, "another-study", identities=world.identities)
    assert problem(thief.get(other.path))[:2] == (404, "not-found")
    records = encoded(world.signed, "claims", range(20))
    package = pack(world.signed, world.identities["claims"], records)
    assert problem(thief.post(f"{world.path}/datasets", package.manifest))[0] in (403, 422)
    question = asking()
    assert problem(thief.post(f"{world.path}/questions", question))[0] == 403
    for path in ("/v1/audit", f"{world.path}/jobs/release-1"):
        assert problem(thief.get(path))[0] == 403
    with pytest.raises(PackageRefused):
        world.signed.pin("imaging").verify(thief.identity.sign(b"x"), b"x")


@pytest.mark.parametrize(
    "how",
    [
        {"params": {"access_token": "TOKEN"}},
        {"cookies": {"token": "TOKEN"}},
        {"headers": {"Authorization": "Basic TOKEN"}},
        {"headers": {"Authorization": "TOKEN"}},
        {"headers": {"Authorization": "Bearer TOKEN, Bearer TOKEN"}},
        {"headers": {"Authorization": "Bearer \u2009TOKEN".encode()}},
        {"headers": {"X-Forwarded-User": "imaging"}},
    ],
)
def test_a_token_is_taken_in_one_place_only(
    world: World, thief: Actor, how: dict[str, dict[str, str]]
) -> None:
    filled = {
        kind: {
            name: value.replace("TOKEN", thief.token)
            if isinstance(value, str)
            else value.replace(b"TOKEN", thief.token.encode())
            for name, value in given.items()
        }
        for kind, given in how.items()
    }
    cookies = filled.pop("cookies", {})
    sent = "; ".join(f"{name}={value}" for name, value in cookies.items())
    headers = filled.pop("headers", {}) | ({"Cookie": sent} if sent else {})
    answer = HTTP.get(world.url + world.path, headers=headers, **filled)
    assert problem(answer)[:2] == (401, "not-authenticated")


def test_names_that_look_alike_are_other_names(world: World) -> None:
    """Cyrillic, full width, capitals, a null, a line end: none is the party."""
    imaging = world.identities["imaging"]
    for name in ("im\u0430ging", "\uff49maging", "IMAGING", "imaging\0", "imaging\n", "imaging "):
        stranger = Actor(lambda: world.url, f"{world.study_id}/{name}", imaging)
        assert problem(stranger.sign_in())[:2] == (401, "not-authenticated"), name


def test_log_lines_are_the_brokers_own(world: World, thief: Actor) -> None:
    """Nothing that a caller chose reaches the log: no line of its own, no terminal codes."""
    canary = "canary%0A%7B%22level%22:%22error%22%7D%1B[31m"
    for path in (f"/{canary}", f"{world.path}/runs/{canary}?{canary}"):
        thief.get(path)
        HTTP.get(world.url + path, headers={"User-Agent": "canary", "X-Request-Id": "canary"})
    HTTP.request("CANARY", world.url + "/health")
    log = (world.home.path / "serve.log").read_text()
    assert "canary" not in log.lower()
    assert "\x1b" not in log


def test_a_thief_cannot_take_back_what_the_site_sent(world: World, thief: Actor) -> None:
    """Nor with a withdrawal that it once saw: it names the versions that it was about."""
    records = encoded(world.signed, "imaging", range(20))
    world.upload(pack(world.signed, world.identities["imaging"], records, dataset=8))
    path = f"{world.path}/datasets/imaging/withdraw"
    said = Withdrawal(study_id=world.study_id, uploader="imaging", newest=8)
    for forged in (said, said.sign(world.identities["claims"])):
        assert problem(thief.post(path, forged))[:2] == (422, "package-refused")
    seen = said.sign(world.identities["imaging"])
    taken = world.actor("imaging").post(path, seen).raise_for_status().json()
    assert 8 in [one["dataset"] for one in taken]
    assert thief.post(path, seen).raise_for_status().json() == []
    world.upload(pack(world.signed, world.identities["imaging"], records, dataset=9))
    assert thief.post(path, seen).raise_for_status().json() == []
