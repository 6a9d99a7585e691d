"""Signing in: one way that works, and a refusal of its own for every way that does not."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey
from sqlalchemy import text

from broker.auth import SignIn
from broker.config import Server, Tokens
from broker.policy import Caller
from broker.services.admins import Admins
from broker.services.studies import Studies
from broker.store.engine import Database
from linkage.errors import Conflict, KeyRefused, NotAuthenticated, NotFound, TooManyRequests
from linkage.messages import TokenRequest
from linkage.sealing import Identity
from tests.broker_world import GRANT, Actor, World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("auth"))
    Studies(Database(made.home.database_url()), made.home).register(
        "console", made.signed, custodian_fingerprint=None
    )
    return made


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.shift = 0.0

    def __call__(self) -> float:
        import time

        return time.time() + self.shift


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sign_in(world: World, clock: Clock) -> SignIn:
    return SignIn(Database(world.home.database_url()), Server(), Tokens(), clock)


def refused(sign_in: SignIn, assertion: str) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        sign_in.token(TokenRequest(grant_type=GRANT, assertion=assertion))
    assert caught.value.hint
    return caught.value.message


def signed_in(sign_in: SignIn, assertion: str) -> Caller:
    token = sign_in.token(TokenRequest(grant_type=GRANT, assertion=assertion))
    assert token.expires_in == 900
    return sign_in.caller(f"Bearer {token.access_token}")


def test_a_party_and_an_admin_sign_in(world: World, sign_in: SignIn) -> None:
    party = signed_in(sign_in, world.actor("imaging").assertion())
    assert (party.name, party.study_id, party.actor) == (
        "imaging",
        world.study_id,
        f"{world.study_id}/imaging",
    )
    admin = signed_in(sign_in, world.actor("admin").assertion())
    assert (admin.study_id, admin.actor) == (None, "admin/tester")


@pytest.mark.threat("T22")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aud": "another-broker"}, "meant for another broker"),
        ({"aud": None}, "meant for another broker"),
        ({"aud": ["commons-linkage-broker"]}, "meant for another broker"),
        ({"sub": "small-study/enclave"}, "iss and sub of the assertion differ"),
        ({"exp": None}, "lacks exp or iat"),
        ({"iat": None}, "lacks exp or iat"),
        ({"exp": 1.5}, "lacks exp or iat"),
        ({"exp": True}, "lacks exp or iat"),
        ({"jti": None}, "lacks a jti"),
        ({"jti": "short"}, "lacks a jti"),
        ({"jti": 12345678}, "lacks a jti"),
        ({"iss": "small-study"}, "iss names no caller"),
        ({"iss": "small-study/imaging/x"}, "iss names no caller"),
        ({"iss": None}, "iss names no caller"),
        ({"iss": "no-such-study/imaging"}, "unknown caller"),
        ({"iss": "small-study/stranger"}, "unknown caller"),
        ({"iss": "small-study/broker"}, "unknown caller"),
        ({"iss": "small-study/custodian"}, "unknown caller"),
        ({"iss": "admin/nobody"}, "unknown caller"),
        # Named as another, signed with one's own key.
        ({"iss": "small-study/enclave", "sub": "small-study/enclave"}, "not that of its"),
    ],
)
def test_claims_that_do_not_hold(
    world: World, sign_in: SignIn, changed: dict[str, Any], said: str
) -> None:
    assert said in refused(sign_in, world.actor("imaging").assertion(**changed))


def test_an_assertion_is_good_until_it_expires_and_not_for_longer_than_allowed(
    world: World, sign_in: SignIn, clock: Clock
) -> None:
    imaging, now, skew = world.actor("imaging"), int(clock()), Tokens().clock_skew_seconds
    assert "expired assertion" in refused(sign_in, imaging.assertion(exp=now - skew - 1))
    assert "lives too long" in refused(sign_in, imaging.assertion(exp=now + 300 + skew + 5))
    assert "from the future" in refused(sign_in, imaging.assertion(iat=now + skew + 5))
    signed_in(sign_in, imaging.assertion(exp=now + 300))


def test_an_assertion_is_not_good_before_its_time(
    world: World, sign_in: SignIn, clock: Clock
) -> None:
    """RFC 7523, 3, point 5."""
    imaging, now, skew = world.actor("imaging"), int(clock()), Tokens().clock_skew_seconds
    assert "from the future" in refused(sign_in, imaging.assertion(nbf=now + skew + 5))
    assert "nbf of the assertion is no time" in refused(sign_in, imaging.assertion(nbf="now"))
    signed_in(sign_in, imaging.assertion(nbf=now))


@pytest.mark.parametrize("jti", ["half \ud800 a letter", "line\nafter line"])
def test_a_jti_is_text(world: World, sign_in: SignIn, jti: str) -> None:
    """Signed by hand: what no library writes was an unforeseen error."""
    imaging = world.actor("imaging")
    head, claims, _ = imaging.assertion(jti="in its place").split(".")
    claimed = json.loads(base64.urlsafe_b64decode(claims + "=="))
    made = base64.urlsafe_b64encode(json.dumps(claimed | {"jti": jti}).encode())
    said = f"{head}.{made.rstrip(b'=').decode()}"
    signature = base64.urlsafe_b64encode(imaging.identity.sign(said.encode()))
    assert "lacks a jti" in refused(sign_in, f"{said}.{signature.rstrip(b'=').decode()}")


def test_a_caller_holds_so_many_tokens_and_no_more(
    world: World, sign_in: SignIn, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.auth.MOST_TOKENS", 3)
    clock.shift = 200_000.0  # whatever other tests hold has expired

    def ask(name: str) -> Caller:
        at = int(clock())
        assertion = world.actor(name).assertion(iat=at, exp=at + 120)
        return signed_in(sign_in, assertion)

    for _ in range(3):
        ask("imaging")
    for _ in range(2):
        with pytest.raises(TooManyRequests, match="still valid") as caught:
            ask("imaging")
        assert caught.value.retry_after == 90
    # Nobody else is hindered: not by a stolen key, nor by sharing an address.
    for name in ("enclave", "admin"):
        assert ask(name).name
    clock.shift += 901
    assert ask("imaging").name == "imaging"


@pytest.mark.threat("T22")
def test_an_assertion_is_used_once(world: World, sign_in: SignIn, clock: Clock) -> None:
    assertion = world.actor("imaging").assertion()
    signed_in(sign_in, assertion)
    assert "used before" in refused(sign_in, assertion)
    # Remembered until it has expired, whoever signs in meanwhile.
    clock.shift = 90 + Tokens().clock_skew_seconds
    signed_in(sign_in, world.actor("enclave").assertion(exp=int(clock()) + 60))
    assert "used before" in refused(sign_in, assertion)
    clock.shift += 35
    signed_in(sign_in, world.actor("enclave").assertion(exp=int(clock()) + 60))
    assert "expired assertion" in refused(sign_in, assertion)


def test_the_same_jti_of_another_caller_is_not_a_replay(world: World, sign_in: SignIn) -> None:
    for name in ("imaging", "enclave"):
        signed_in(sign_in, world.actor(name).assertion(jti="the-same-jti"))


@pytest.mark.threat("T22")
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_only_ed25519(world: World, sign_in: SignIn) -> None:
    imaging = world.actor("imaging")
    claims = json.loads(_decoded(imaging.assertion().split(".")[1]))
    public = OctKey.import_key(base64.b64decode(imaging.identity.public().signing))
    by_hmac = jwt.encode({"alg": "HS256"}, claims, public)
    assert "not signed with Ed25519" in refused(sign_in, by_hmac)
    private = OKPKey.import_key(imaging.identity.signing_pem())
    by_eddsa = jwt.encode({"alg": "EdDSA"}, claims, private, algorithms=["EdDSA"])
    assert "not signed with Ed25519" in refused(sign_in, by_eddsa)
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    unsigned = f"{header}.{imaging.assertion().split('.')[1]}."
    assert "Ed25519" in refused(sign_in, unsigned)


def test_a_clock_does_not_tell_who_is_known(world: World, sign_in: SignIn) -> None:
    """An unknown name costs as much processor time as a known one with a wrong signature."""
    import time

    thief = Identity.generate("thief", kem="X25519")
    study = world.study_id
    took: dict[str, list[int]] = {}
    for _ in range(80):
        for subject in (f"{study}/imaging", f"{study}/nobody", "no-study/x1", "admin/nobody"):
            assertion = Actor(lambda: "", subject, thief).assertion(iat=1_000_000, exp=1_000_100)
            request = TokenRequest(grant_type=GRANT, assertion=assertion)
            began = time.process_time_ns()
            with pytest.raises(NotAuthenticated, match="unknown caller"):
                sign_in.token(request)
            took.setdefault(subject, []).append(time.process_time_ns() - began)
    known, *unknown = (min(times) for times in took.values())
    assert all(one > 0.8 * known for one in unknown), took


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a.b", "....", "é.é.é", "x" * 9000])
def test_what_is_no_assertion(sign_in: SignIn, text: str) -> None:
    assert refused(sign_in, text)


def test_tokens_expire_and_unknown_ones_are_told_apart(
    world: World, sign_in: SignIn, clock: Clock
) -> None:
    request = TokenRequest(grant_type=GRANT, assertion=world.actor("imaging").assertion())
    header = f"Bearer {sign_in.token(request).access_token}"
    clock.shift = 840  # and not 899: a busy machine may need seconds to get here
    assert sign_in.caller(header).name == "imaging"
    clock.shift = 901
    for sent, said in [
        (header, "expired token"),
        ("Bearer made-up", "unknown token"),
        ("Basic dXNlcjpwYXNz", "no access token"),
        ("Bearer ", "no access token"),
        (None, "no access token"),
    ]:
        with pytest.raises(NotAuthenticated, match=said):
            sign_in.caller(sent)


def test_the_database_holds_no_token_that_works(world: World, sign_in: SignIn) -> None:
    request = TokenRequest(grant_type=GRANT, assertion=world.actor("imaging").assertion())
    token = sign_in.token(request).access_token
    with sign_in.database.read() as connection:
        stored = connection.execute(text("SELECT digest FROM access_token")).scalars().all()
    assert stored
    assert token not in stored
    with pytest.raises(NotAuthenticated, match="unknown token"):
        sign_in.caller(f"Bearer {stored[0]}")


def test_a_revoked_admin_is_out_at_once(world: World, sign_in: SignIn) -> None:
    admins = Admins(sign_in.database)
    identity = Identity.generate("leaver", kem="X25519")
    public = identity.public().model_dump_json().encode()
    admins.add("leaver", public)
    leaver = world.actor("admin")
    leaver.subject, leaver.identity = "admin/leaver", identity
    request = TokenRequest(grant_type=GRANT, assertion=leaver.assertion())
    header = f"Bearer {sign_in.token(request).access_token}"
    assert sign_in.caller(header).actor == "admin/leaver"
    admins.revoke("leaver")
    with pytest.raises(NotAuthenticated, match="unknown token"):
        sign_in.caller(header)
    assert "unknown caller" in refused(sign_in, leaver.assertion())
    with pytest.raises(NotFound):
        admins.revoke("leaver")
    assert [(a.name, a.revoked_at is None) for a in admins.all()] == [
        ("leaver", False),
        ("tester", True),
    ]
    admins.add("leaver", public)
    signed_in(sign_in, leaver.assertion())


def test_an_admins_keys_are_not_replaced_in_passing(world: World, sign_in: SignIn) -> None:
    admins = Admins(sign_in.database)
    admins.add("tester", world.admin.public().model_dump_json().encode())  # the same again
    other = Identity.generate("tester", kem="X25519").public()
    with pytest.raises(Conflict):
        admins.add("tester", other.model_dump_json().encode())
    with pytest.raises(KeyRefused):
        admins.add("Tester", other.model_dump_json().encode())
    with pytest.raises(KeyRefused):
        admins.add("third", b"{}")


@pytest.mark.threat("T10")
def test_keys_put_into_the_database_do_not_sign_in(tmp_path: Path) -> None:
    """Whoever can write the study's row still cannot pin a key of its own."""
    world = make_world(tmp_path)
    database = Database(world.home.database_url())
    studies = Studies(database, world.home)
    studies.register("console", world.signed, custodian_fingerprint=None)
    thief = Identity.generate("imaging", kem="X25519")
    pins = world.signed.pins | {"imaging": thief.public()}
    altered = world.signed.model_copy(update={"pins": pins}).model_dump_json()
    with database.change() as connection:
        connection.execute(text("UPDATE study SET signed = :s"), {"s": altered})
    actor = world.actor("imaging")
    actor.identity = thief
    sign_in = SignIn(database, Server(), Tokens())
    with pytest.raises(Exception, match="signature is not that of 'custodian'"):
        sign_in.token(TokenRequest(grant_type=GRANT, assertion=actor.assertion()))


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
