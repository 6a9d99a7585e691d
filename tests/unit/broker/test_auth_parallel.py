"""Many sign in at once, on both databases: an assertion is used once, no stranger holds a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.auth import SignIn
from broker.config import Server, Tokens
from broker.services.admins import Admins
from broker.services.studies import Studies
from broker.store.engine import Database
from linkage.errors import NotAuthenticated
from linkage.messages import TokenRequest
from linkage.sealing import Identity
from tests.broker_world import GRANT, Actor, World, make_world


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> World:
    url = new_postgres_url() if request.param == "postgresql" else None
    made = make_world(tmp_path_factory.mktemp("parallel"), url=url)
    database = Database(made.home.database_url())
    Studies(database, made.home).register("console", made.signed, custodian_fingerprint=None)
    database.close()
    return made


@pytest.fixture
def database(world: World) -> Iterator[Database]:
    made = Database(world.home.database_url())
    yield made
    made.close()


@pytest.fixture
def sign_in(database: Database) -> SignIn:
    return SignIn(database, Server(), Tokens())


def outcome(sign_in: SignIn, assertion: str) -> str:
    try:
        sign_in.token(TokenRequest(grant_type=GRANT, assertion=assertion))
    except NotAuthenticated as refusal:
        return refusal.message
    return "signed in"


def test_of_one_assertion_sent_many_times_at_once_one_is_taken(
    world: World, sign_in: SignIn
) -> None:
    assertion = world.actor("imaging").assertion()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: outcome(sign_in, assertion), range(24)))
    assert sorted(found) == ["signed in"] + ["the assertion was used before"] * 23


def test_everybody_at_once_signs_in(world: World, sign_in: SignIn) -> None:
    names = ["imaging", "enclave", "claims", "admin"] * 5
    assertions = [world.actor(name).assertion() for name in names]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda one: outcome(sign_in, one), assertions)) == {"signed in"}


def test_a_strangers_assertion_does_not_wait_for_the_writer(
    world: World, database: Database, sign_in: SignIn
) -> None:
    stranger = Actor(lambda: "", f"{world.study_id}/imaging", Identity.generate("x", kem="X25519"))
    late = world.actor("imaging").assertion(exp=int(time.time()) - 600)
    with database.change(), ThreadPoolExecutor(2) as pool:
        wrong = pool.submit(outcome, sign_in, stranger.assertion())
        expired = pool.submit(outcome, sign_in, late)
        # Before, they queued for the lock that is held here.
        assert wrong.result(timeout=30).startswith("unknown caller")
        assert expired.result(timeout=30) == "expired assertion"


def test_who_is_revoked_while_waiting_gets_no_token(world: World, database: Database) -> None:
    tester = Identity.generate("ada", kem="X25519")
    admins = Admins(database)
    admins.add("ada", tester.public().model_dump_json().encode())

    def now() -> float:
        """The clock is read after the signature was checked, before the writer's turn."""
        if any(row.name == "ada" and row.revoked_at is None for row in admins.all()):
            admins.revoke("ada")
        return time.time()

    assertion = Actor(lambda: "", "admin/ada", tester).assertion()
    found = outcome(SignIn(database, Server(), Tokens(), now), assertion)
    assert found.startswith("unknown caller")


def test_who_waits_until_its_assertion_is_forgotten_gets_no_token(
    world: World, database: Database
) -> None:
    """Else an assertion used once could be used again by a request that was held up."""
    times = iter([0.0, 600.0])
    late = SignIn(database, Server(), Tokens(), lambda: time.time() + next(times))
    assert outcome(late, world.actor("claims").assertion()) == "expired assertion"
