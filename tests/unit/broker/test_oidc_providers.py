"""
What Gen3 Fence, Keycloak and Microsoft Entra ID send, each in its own way, and the rules of
docs/accounts.md on it. Written from Fence's source (fence/jwt/token.py, fence/jwt/keys.py,
fence/resources/user) and the others' documentation; their services themselves were not asked.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from sqlalchemy import make_url

from broker.account_config import AccountSettings, ClaimRule, Oidc
from broker.account_key import AccountKey
from broker.oidc import Provider
from broker.passwords import Hashes
from broker.rate import Attempts
from broker.sessions import Sessions
from broker.store import accounts
from broker.store.engine import Database
from linkage.errors import NotAllowed, NotAuthenticated, Unreachable
from tests.oidc_provider import CLIENT, SECRET, TestProvider, provider
from tests.unit.broker.test_oidc import ORIGIN, arrive

STEWARD = "steward:lung-study:imaging"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(make_url(f"sqlite:///{tmp_path_factory.mktemp('providers') / 'b.sqlite'}"))
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def idp() -> Iterator[TestProvider]:
    with provider() as made:
        yield made


def here(
    folder: Path, database: Database, idp: TestProvider, *rules: ClaimRule, **settings: Any
) -> Provider:
    """A broker with these rules, at this provider."""
    key = AccountKey(folder / "accounts.key")
    (folder / "secret").write_text(SECRET)
    sessions = Sessions(database, key, AccountSettings(), Hashes(), Attempts(60))
    return Provider(
        Oidc(**({"issuer": idp.url, "client_id": CLIENT, "rule": rules} | settings)),
        origin=ORIGIN,
        secret_file=folder / "secret",
        database=database,
        key=key,
        sessions=sessions,
    )


def half_hash(token: str) -> str:
    """Return `at_hash` of an access token, for RS256."""
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


# Gen3 Fence


@pytest.fixture
def fence(idp: TestProvider) -> TestProvider:
    """The issuer has a path; `key_ops` is a text; several audiences; claims below `context`."""
    idp.base = "/user"
    idp.signer = RSAKey.generate_key(2048, {"kid": "fence_key_2026-01-01T00:00:00Z"})
    idp.published = [idp.signer]
    idp.key_fields = {"use": "sig", "key_ops": "verify", "alg": "RS256"}
    idp.discovery = {
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "response_modes_supported": [],
        "op_policy_url": None,
    }
    idp.answer = {"iss": ""}
    idp.access_token = "an.access.token"
    idp.claims = {
        "pur": "id",
        "sub": "17",
        "jti": "6a7e",
        "auth_time": 1,
        "azp": CLIENT,
        "scope": ["openid", "user"],
        "aud": ["openid", "user", CLIENT, idp.url],
        "at_hash": half_hash(idp.access_token),
        "context": {
            "user": {
                "name": "ADA_AT_NIH",
                "is_admin": False,
                "email": "ada@example.org",
                "display_name": "",
                "phone_number": None,
                "projects": {"phs000178": ["read", "read-storage"], "open": ["read"]},
            }
        },
    }
    return idp


PROJECT = ClaimRule(
    claim="/context/user/projects/phs000178", value="read", role="researcher:lung-study"
)
BY_NAME = ClaimRule(claim="/context/user/name", value="ADA_AT_NIH", role=STEWARD)
FENCE_ADMIN = ClaimRule(claim="/context/user/is_admin", value="true", role="admin")


def test_fence_signs_somebody_in_by_name_or_project(
    tmp_path: Path, database: Database, fence: TestProvider
) -> None:
    broker = here(tmp_path, database, fence, PROJECT, FENCE_ADMIN, scopes=("openid", "user"))
    assert arrive(broker).state.roles == ("researcher:lung-study",)
    assert arrive(here(tmp_path, database, fence, BY_NAME)).state.roles == (STEWARD,)
    # Without the project, or of another name: nothing of it is left.
    fence.claims["context"]["user"] |= {"projects": {"open": ["read"]}, "name": "EVE_AT_NIH"}
    for rules in ((PROJECT, FENCE_ADMIN), (BY_NAME,)):
        with pytest.raises(NotAllowed, match="no role"):
            arrive(here(tmp_path, database, fence, *rules))


def test_fence_has_no_claim_of_roles(
    tmp_path: Path, database: Database, fence: TestProvider
) -> None:
    """Rules for other providers' claims give nobody anything there, nor does half a path."""
    fence.claims["sub"] = "18"
    for claim in ("roles", "groups", "/context/user", "/context/user/projects", "context"):
        rule = ClaimRule(claim=claim, value="read", role="admin")
        with pytest.raises(NotAllowed, match="no role"):
            arrive(here(tmp_path, database, fence, rule))


@pytest.mark.parametrize("sub", ["19", 19], ids=["newer-fence", "older-fence"])
def test_fence_tells_permissions_in_its_user_information(
    tmp_path: Path, database: Database, fence: TestProvider, sub: object
) -> None:
    """Its `sub` is a number in older versions, and text in the ID token always."""
    fence.claims["sub"] = "19"
    del fence.claims["context"]["user"]["projects"]
    fence.userinfo = {
        "user_id": 19,
        "sub": sub,
        "username": "ADA_AT_NIH",
        "project_access": {"phs000178": ["read"]},
        "authz": {"/programs/phs000178": [{"service": "*", "method": "read"}]},
    }
    rule = ClaimRule(claim="/project_access/phs000178", value="read", role="researcher:lung-study")
    broker = here(tmp_path, database, fence, rule, userinfo=True)
    assert arrive(broker).state.roles == ("researcher:lung-study",)
    for other in (190, "190", True, 19.0, None, ["19"]):
        fence.userinfo["sub"] = other
        with pytest.raises(NotAuthenticated, match="somebody else"):
            arrive(broker)


def test_a_token_that_fence_made_for_another_client_opens_nothing(
    tmp_path: Path, database: Database, fence: TestProvider
) -> None:
    """Its scopes are audiences, too: that one is among them says nothing; `azp` does."""
    for changed in ({"azp": "another"}, {"aud": ["openid", "user", fence.url]}):
        fence.spoil = lambda _, claims, changed=changed: claims.update(changed)  # type: ignore[misc]
        with pytest.raises(NotAuthenticated, match="does not hold"):
            arrive(here(tmp_path, database, fence, PROJECT))


# Keycloak


@pytest.fixture
def keycloak(idp: TestProvider) -> TestProvider:
    """A realm in the path; a key for encryption beside the one for signatures; nested roles."""
    idp.base = "/realms/research"
    other = RSAKey.generate_key(2048, {"kid": "enc-1"}).as_dict(private=False)
    idp.more_keys = [
        dict(other) | {"use": "enc", "alg": "RSA-OAEP", "x5c": ["MIIC"], "x5t": "x"},
        {"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "new-1", "use": "sig"},
        {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "new-2", "use": "sig"},
    ]
    idp.key_fields = {"use": "sig", "alg": "RS256", "x5c": ["MIIC"], "x5t#S256": "x"}
    idp.discovery = {
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"]
    }
    idp.answer = {"session_state": "f1c4"}
    idp.claims = {
        "sub": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
        "typ": "ID",
        "azp": CLIENT,
        "acr": "1",
        "sid": "4c0a3a8a",
        "at_hash": half_hash(idp.access_token),
        "preferred_username": "ada",
        "email_verified": True,
        "realm_access": {"roles": ["default-roles-research", "linkage-auditor"]},
        "resource_access": {"https://broker.example": {"roles": ["imaging-steward"]}},
        "groups": ["linkage-auditors"],
    }
    return idp


@pytest.mark.parametrize(
    ("claim", "value", "role"),
    [
        ("groups", "linkage-auditors", "auditor"),
        ("/groups", "linkage-auditors", "auditor"),
        ("/realm_access/roles", "linkage-auditor", "auditor"),
        # "/" of a client's id is "~1" in a pointer.
        ("/resource_access/https:~1~1broker.example/roles", "imaging-steward", STEWARD),
    ],
)
def test_keycloak_signs_somebody_in(
    tmp_path: Path, database: Database, keycloak: TestProvider, claim: str, value: str, role: str
) -> None:
    rule = ClaimRule(claim=claim, value=value, role=role)
    assert arrive(here(tmp_path, database, keycloak, rule)).state.roles == (role,)


def test_keycloaks_groups_are_whole_paths_unless_its_mapper_says_otherwise(
    tmp_path: Path, database: Database, keycloak: TestProvider
) -> None:
    """So a rule names the path as it is sent; a group of this name elsewhere is another group."""
    keycloak.claims |= {"sub": "path", "groups": ["/staff/linkage-auditors"]}
    bare = ClaimRule(claim="groups", value="linkage-auditors", role="auditor")
    with pytest.raises(NotAllowed, match="no role"):
        arrive(here(tmp_path, database, keycloak, bare))
    whole = bare.model_copy(update={"value": "/staff/linkage-auditors"})
    assert arrive(here(tmp_path, database, keycloak, whole)).state.roles == ("auditor",)


def test_another_realm_of_the_same_keycloak_is_another_provider(
    tmp_path: Path, database: Database, keycloak: TestProvider
) -> None:
    rule = ClaimRule(claim="groups", value="linkage-auditors", role="auditor")
    broker = here(tmp_path, database, keycloak, rule)
    keycloak.claims["iss"] = keycloak.host + "/realms/master"
    with pytest.raises(NotAuthenticated, match=r"does not hold.*iss"):
        arrive(broker)


def test_a_key_for_encryption_signs_nothing(
    tmp_path: Path, database: Database, keycloak: TestProvider
) -> None:
    rule = ClaimRule(claim="groups", value="linkage-auditors", role="auditor")
    odd: tuple[dict[str, Any], ...] = ({"key_ops": None}, {"key_ops": 7})
    for fields in ({"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": []}, *odd):
        keycloak.key_fields = fields
        with pytest.raises(NotAuthenticated, match="does not hold"):
            arrive(here(tmp_path, database, keycloak, rule))


# Microsoft Entra ID


@pytest.fixture
def entra(idp: TestProvider) -> TestProvider:
    """The tenant is in the issuer; `sub` is another for each client; no `iss` in the answer."""
    tenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
    idp.base = f"/{tenant}/v2.0"
    idp.key_fields = {"use": "sig", "x5t": "x", "x5c": ["MIIC"], "issuer": idp.url}
    idp.by_body = True
    idp.discovery = {
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"]
    }
    idp.answer = {"iss": "", "session_state": "00aa"}
    idp.claims = {
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
        "tid": tenant,
        "ver": "2.0",
        "rh": "0.AXoA",
        "uti": "x",
        "preferred_username": "ada@hospital.example",
        "roles": ["Linkage.Auditor"],
    }
    return idp


APP_ROLE = ClaimRule(claim="roles", value="Linkage.Auditor", role="auditor")
GROUP = ClaimRule(claim="groups", value="bf2ad8ec-75d1-4b31-9ca4-94d04b5f5e4e", role="auditor")


def test_entra_signs_somebody_in_by_app_role_group_or_object_id(
    tmp_path: Path, database: Database, entra: TestProvider
) -> None:
    assert arrive(here(tmp_path, database, entra, APP_ROLE)).state.roles == ("auditor",)
    entra.claims |= {"sub": "another", "roles": [], "groups": [GROUP.value]}
    assert arrive(here(tmp_path, database, entra, GROUP)).state.roles == ("auditor",)
    person = ClaimRule(claim="oid", value=str(entra.claims["oid"]), role=STEWARD)
    assert arrive(here(tmp_path, database, entra, person)).state.roles == (STEWARD,)


def test_entra_leaves_groups_out_where_they_are_too_many(
    tmp_path: Path, database: Database, entra: TestProvider
) -> None:
    """Nobody gets in by what is not there, and the admin is told why and what to do."""
    entra.claims |= {"sub": "in-too-many", "groups": [GROUP.value]}
    del entra.claims["roles"]
    broker = here(tmp_path, database, entra, GROUP)
    name = arrive(broker).state.name
    del entra.claims["groups"]
    entra.claims |= {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.example/getMemberObjects"}},
    }
    with pytest.raises(NotAllowed, match="no role") as refused:
        arrive(broker)
    assert "left out the groups" in refused.value.hint
    assert "app roles" in refused.value.hint
    # The role of the sign-in before is gone, too.
    with database.read() as connection:
        assert accounts.roles(connection, name) == set()


def test_another_tenant_of_entra_is_another_provider(
    tmp_path: Path, database: Database, entra: TestProvider
) -> None:
    rules = (APP_ROLE,)
    entra.spoil = lambda _, claims: claims.update(iss=f"{entra.host}/another-tenant/v2.0")
    with pytest.raises(NotAuthenticated, match=r"does not hold.*iss"):
        arrive(here(tmp_path, database, entra, *rules))
    # "common" names no tenant: everybody at Microsoft would be let in.
    entra.discovery = {"issuer": f"{entra.host}/{{tenantid}}/v2.0"}
    with pytest.raises(Unreachable, match="another issuer"):
        arrive(here(tmp_path, database, entra, *rules))
