"""Settings of people who sign in: what is refused, with line and remedy."""

from __future__ import annotations

import pytest

from broker.config import BrokerConfig
from linkage import strict_toml
from linkage.errors import BrokerRefused

ORIGIN = '[accounts]\norigin = "https://broker.example"\n'
OIDC = '[oidc]\nissuer = "https://idp.example"\nclient_id = "c"\n'
RULE = '[[oidc.rule]]\nclaim = "groups"\nvalue = "a"\nrole = "auditor"\n'


def parsed(text: str) -> BrokerConfig:
    return strict_toml.parse(text, BrokerConfig, BrokerRefused, file="config.toml")


def test_a_provider_that_is_whole() -> None:
    found = parsed(ORIGIN + OIDC + RULE).oidc
    assert (found.issuer, found.algorithms) == ("https://idp.example", ("RS256", "ES256"))
    assert found.rule[0].role == "auditor"
    assert parsed("").oidc.issuer == ""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (ORIGIN + '[oidc]\nissuer = "https://idp.example"\n', 3, "needs a client_id"),
        (ORIGIN + OIDC, 4, "without a rule nobody gets a role"),
        (ORIGIN + OIDC.replace("https", "http") + RULE, 4, "is not https"),
        (OIDC + RULE, 2, "must know where people come back to"),
        (ORIGIN + OIDC + 'scopes = ["email"]\n' + RULE, 6, "lack openid"),
        (ORIGIN + OIDC + RULE.replace("auditor", "root"), 9, "no role of a person"),
        (ORIGIN + OIDC + RULE.replace("auditor", "steward:s1"), 9, "steward:STUDY:PARTY"),
        ('[oidc]\nalgorithms = ["none"]\n', 2, "should be 'RS256'"),
        ('[oidc]\nalgorithms = ["HS256"]\n', 2, "should be 'RS256'"),
        ('[accounts]\norigin = "https://broker.example/"\n', 2, "should match pattern"),
        ('[accounts]\norigin = "broker.example"\n', 2, "should match pattern"),
        ("[accounts]\nidle_seconds = 59\n", 2, "greater than or equal to 60"),
        ("[accounts]\nsession_seconds = 86401\n", 2, "less than or equal to 86400"),
    ],
)
def test_settings_that_are_refused(text: str, line: int, said: str) -> None:
    with pytest.raises(BrokerRefused) as caught:
        parsed(text)
    assert caught.value.line == line
    assert said in str(caught.value)
    assert caught.value.hint
