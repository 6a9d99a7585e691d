"""Signing in at an identity provider, over real HTTP, and every way in which it must fail."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import make_url, text

from broker.account_config import AccountSettings, ClaimRule, Oidc
from broker.account_key import AccountKey
from broker.oidc import BACK, Provider
from broker.passwords import Hashes
from broker.person_roles import parse_role
from broker.rate import Attempts
from broker.services.accounts import Accounts
from broker.sessions import Begun, Sessions
from broker.store.engine import Database
from linkage.errors import NotAllowed, NotAuthenticated, NotFound, Unreachable
from tests.oidc_provider import CLIENT, SECRET, TestProvider, provider

ORIGIN = "https://broker.example"
RULES = (
    ClaimRule(claim="groups", value="auditors", role="auditor"),
    ClaimRule(claim="/context/user/projects/phs000178", value="read", role="researcher:s1"),
    ClaimRule(claim="/context/user/is_admin", value="true", role="admin"),
)
Spoil = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.fixture(scope="module")
def there() -> Iterator[TestProvider]:
    with provider() as made:
        yield made


@pytest.fixture
def idp(there: TestProvider) -> TestProvider:
    there.claims = {"sub": "7", "groups": ["staff", "auditors"]}
    there.spoil = lambda header, claims: None
    there.raw_token, there.userinfo = "", {}
    there.signer = there.published[0]
    return there


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, migrated: Path) -> None:
    for folder in (tmp_path, tmp_path / "1", tmp_path / "2", tmp_path / "3"):
        folder.mkdir(exist_ok=True)
        shutil.copy(migrated, folder / "b.sqlite")


@pytest.fixture
def here(tmp_path: Path, idp: TestProvider) -> Provider:
    return made_here(tmp_path, idp)


def made_here(
    folder: Path, idp: TestProvider, *, secret: str = SECRET, **settings: Any
) -> Provider:
    database = Database(make_url(f"sqlite:///{folder / 'b.sqlite'}"))
    key = AccountKey(folder / "accounts.key")
    (folder / "secret").write_text(secret)
    sessions = Sessions(database, key, AccountSettings(), Hashes(), Attempts(60))
    oidc = Oidc(**({"issuer": idp.url, "client_id": CLIENT, "rule": RULES} | settings))
    secret_file = folder / "secret"
    return Provider(
        oidc, origin=ORIGIN, secret_file=secret_file, database=database, key=key, sessions=sessions
    )


def way(here: Provider) -> tuple[dict[str, str], str]:
    """Go to the provider and come back: its answer, and what the browser kept."""
    url, away = here.send()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert asked["redirect_uri"] == ORIGIN + BACK
    assert {"nonce", "state", "code_challenge"} <= set(asked)
    location = httpx.get(url).headers["location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}, away


def arrive(here: Provider) -> Begun:
    return here.receive(*way(here))


def accounts_of(here: Provider) -> Accounts:
    sessions = here._sessions
    return Accounts(here._database, sessions.key, sessions.settings, sessions.hashes)


def test_a_person_signs_in_and_is_the_same_the_next_time(here: Provider, idp: TestProvider) -> None:
    begun = arrive(here)
    assert begun.state.roles == ("auditor",)
    caller = here._sessions.caller(begun.cookie, csrf=None)
    assert (caller.person, caller.actor) == (True, f"person/{begun.state.name}")
    # The provider says less the next time: the role goes, and so does every open session's.
    idp.claims = {"sub": "7", "context": {"user": {"projects": {"phs000178": ["read"]}}}}
    again = arrive(here)
    assert (again.state.name, again.state.roles) == (begun.state.name, ("researcher:s1",))
    assert here._sessions.caller(begun.cookie, csrf=None).roles == {parse_role("researcher:s1")}


def test_another_subject_with_the_same_address_is_somebody_else(
    here: Provider, idp: TestProvider
) -> None:
    same = {"groups": ["auditors"], "email": "a@example.org", "preferred_username": "ada"}
    idp.claims = {"sub": "1"} | same
    first = arrive(here)
    idp.claims = {"sub": "2"} | same
    assert arrive(here).state.name != first.state.name
    assert first.state.name.startswith("oidc-")


def test_who_has_no_role_gets_no_account(here: Provider, idp: TestProvider) -> None:
    idp.claims = {"sub": "stranger", "groups": ["staff"]}
    with pytest.raises(NotAllowed, match="no role"):
        arrive(here)
    assert accounts_of(here).all() == []


def test_roles_that_exclude_each_other_let_nobody_in(here: Provider, idp: TestProvider) -> None:
    idp.claims |= {"context": {"user": {"is_admin": True}}}
    with pytest.raises(NotAllowed, match="exclude each other"):
        arrive(here)


def test_a_disabled_account_stays_out(here: Provider) -> None:
    name = arrive(here).state.name
    accounts_of(here).disable(name)
    with pytest.raises(NotAuthenticated, match="disabled"):
        arrive(here)


def at(name: str, value: Any) -> Spoil:
    def spoil(_header: dict[str, Any], claims: dict[str, Any]) -> None:
        if value is None:
            claims.pop(name)
        else:
            claims[name] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (at("nonce", "another"), "does not hold.*nonce"),
        (at("nonce", None), "does not hold.*nonce"),
        (at("aud", "another-client"), "does not hold.*aud"),
        (at("aud", None), "does not hold.*aud"),
        (at("aud", ["openid", CLIENT]), "does not hold.*azp"),
        (at("azp", "another-client"), "does not hold.*azp"),
        (at("iss", "https://another.example"), "does not hold.*iss"),
        (at("iss", None), "does not hold.*iss"),
        (at("exp", 1_000_000_000), "does not hold"),
        (at("exp", None), "does not hold.*exp"),
        (at("iat", int(time.time()) + 10_000), "does not hold"),
        (at("sub", None), "does not hold.*sub"),
        (at("sub", ""), "does not hold|names nobody"),
        (at("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), "does not hold.*at_hash"),
    ],
)
def test_claims_that_do_not_hold(
    here: Provider, idp: TestProvider, spoil: Spoil, said: str
) -> None:
    idp.spoil = spoil
    with pytest.raises(NotAuthenticated, match=said):
        arrive(here)
    assert accounts_of(here).all() == []


def test_several_audiences_as_gen3_sends_them(here: Provider, idp: TestProvider) -> None:
    idp.claims |= {"aud": ["openid", "user", CLIENT], "azp": CLIENT, "pur": "id"}
    assert arrive(here).state.roles == ("auditor",)


def test_a_key_that_is_not_published_and_one_that_came_later(
    here: Provider, idp: TestProvider
) -> None:
    arrive(here)
    idp.signer = RSAKey.generate_key(2048, {"kid": "k2"})
    with pytest.raises(NotAuthenticated, match="InvalidKeyIdError"):
        arrive(here)
    # The same key id with another key is no better.
    idp.signer = RSAKey.generate_key(2048, {"kid": "k1"})
    with pytest.raises(NotAuthenticated, match="BadSignatureError"):
        arrive(here)
    idp.signer = RSAKey.generate_key(2048, {"kid": "k3"})
    idp.published.append(idp.signer)
    here._now = lambda: time.time() + 61  # keys are not fetched for every stranger's token
    assert arrive(here).state.roles == ("auditor",)


def test_only_the_algorithms_of_the_settings(here: Provider, idp: TestProvider) -> None:
    now = int(time.time())
    claims = {"iss": idp.url, "aud": CLIENT, "sub": "7", "iat": now, "exp": now + 60}
    none = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": "k1"}, claims)
    )
    public = json.dumps(idp.signer.as_dict(private=False))
    by_hmac = jwt.encode({"alg": "HS256", "kid": "k1"}, claims, OctKey.import_key(public))
    by_pss = jwt.encode({"alg": "PS256", "kid": "k1"}, claims, idp.signer, algorithms=["PS256"])
    for token in (none + ".", by_hmac, by_pss, "x", "a.b.c", ""):
        idp.raw_token = token or " "
        with pytest.raises(NotAuthenticated, match="does not hold"):
            arrive(here)


def test_an_answer_that_this_browser_did_not_ask_for(here: Provider, tmp_path: Path) -> None:
    answer, away = way(here)
    other, other_away = way(here)
    for sent, kept, said in [
        (answer, None, "did not begin"),
        (answer, "made-up", "did not begin"),
        (answer, other_away, "not that of this browser"),
        (answer | {"state": ""}, away, "not that of this browser"),
        ({"code": answer["code"]}, away, "not that of this browser"),
        (answer | {"iss": "https://another.example"}, away, "another identity provider"),
        ({"state": answer["state"], "error": "access_denied"}, away, "did not let you in"),
        (answer | {"code": "made-up"}, away, "refused the code"),
        # Another browser's code does not fit this one's PKCE verifier.
        (answer | {"code": other["code"]}, away, "refused the code"),
    ]:
        with pytest.raises(NotAuthenticated, match=said):
            here.receive(sent, kept)
    here.receive(answer, away)
    with pytest.raises(NotAuthenticated, match="refused the code"):
        here.receive(answer, away)


def test_a_wrong_client_secret(tmp_path: Path, idp: TestProvider) -> None:
    with pytest.raises(NotAuthenticated, match="refused the code"):
        arrive(made_here(tmp_path, idp, secret="wrong"))


def test_user_information_must_be_the_same_persons(tmp_path: Path, idp: TestProvider) -> None:
    here = made_here(tmp_path, idp, userinfo=True)
    idp.claims = {"sub": "7"}
    idp.userinfo = {"sub": "7", "groups": ["auditors"]}
    assert arrive(here).state.roles == ("auditor",)
    idp.userinfo["sub"] = "8"
    with pytest.raises(NotAuthenticated, match="somebody else"):
        arrive(here)


def test_a_provider_that_is_not_there_or_is_another(tmp_path: Path, idp: TestProvider) -> None:
    gone = made_here(tmp_path / "1", idp, issuer="http://127.0.0.1:1")
    with pytest.raises(Unreachable, match="does not answer"):
        gone.send()
    with pytest.raises(Unreachable, match="names another issuer"):
        made_here(tmp_path / "2", idp, issuer=idp.url + "/").send()
    with pytest.raises(NotFound, match="no identity provider"):
        made_here(tmp_path / "3", idp, issuer="").send()


def test_the_log_names_nobody_at_the_provider(here: Provider, idp: TestProvider) -> None:
    idp.claims |= {"sub": "very-personal", "email": "ada@example.org"}
    arrive(here)
    with here._database.read() as connection:
        log = "".join(connection.execute(text("SELECT entry FROM audit")).scalars())
    assert "person signed in" in log
    assert "very-personal" not in log
    assert "ada@example.org" not in log
