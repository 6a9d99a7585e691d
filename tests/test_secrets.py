"""
Nothing that holds a secret shows it or lets itself be pickled; a new class that holds one is found
by the names of what it keeps, and has to be put into one of the two lists here.
"""

from __future__ import annotations

import ast
import base64
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.account_key import AccountKey
from broker.audit_heads import HeadSigner
from broker.blob_bucket import Credentials
from broker.config import BrokerConfig, DatabaseSettings, Home
from broker.destruction import Destroyer
from broker.effects import EffectsMaker
from broker.governor import Governor
from broker.jobs import JobMaker
from broker.look_answers import AnswerReader
from broker.opt_out_reports import OptOutReader
from broker.quarantine import UploadChecker
from broker.reviewing import ReviewTender
from broker.runs import RunMaker
from broker.scratch import Scratch
from broker.second_look import SecondLooker
from linkage.account_messages import (
    AccountReady,
    Enrolment,
    Invitation,
    InvitationAccepted,
    InvitationOpened,
    PasswordChange,
    PasswordSignIn,
    Proof,
    SessionState,
)
from linkage.errors import KeyRefused
from linkage.messages import Token, TokenRequest
from sites.client import BrokerClient
from sites.cohort.blur import Blur
from sites.config import SiteConfig
from sites.session import Session
from tests.isolated import CHECKOUT
from tests.studies import cast, vault_of

CANARY = "canary-0123456789abcdef"
NAMES = re.compile(
    r"secret|passw|passphrase|token$|^assertion$|^_?key$|_key$|^_?identity$|^url$|pem$"
)
KINDS = re.compile(r"\b(StudyKey|Identity|KeyHolder|ContributorSecret)\b")
EVERYONE = cast()
ALPHA = EVERYONE.identities["alpha"]

SECRET = (
    "StudyKey",
    "Identity",
    "ContributorSecret",
    "Token",
    "TokenRequest",
    "BrokerClient",
    "Session",
    "RunMaker",
    "JobMaker",
    "EffectsMaker",
    "HeadSigner",
    "SecondLooker",
    "AnswerReader",
    "ReviewTender",
    "Destroyer",
    "Governor",
    "OptOutReader",
    "Scratch",
    "UploadChecker",
    "Credentials",
    "DatabaseSettings",
    "AccountKey",
    "AccountReady",
    "Enrolment",
    "Invitation",
    "InvitationAccepted",
    "InvitationOpened",
    "PasswordChange",
    "PasswordSignIn",
    "Proof",
    "SessionState",
    "Blur",
)
"""Classes that hold a secret."""

HOLD_NONE = {
    "ConfigRefused": "key: a setting's name",
    "Table": "key: a column's name",
    "Link": "likewise, in a delivered folder",
    "DeliveredTable": "key: columns' names",
    "UseNotice": "url: where a commons' terms of use are",
    "StudyConfig": "match_key: rules",
    "FeatureBits": "per_token: a number of bits",
    "Tally": "no_key: counts",
    "Server": "tls_key: a path",
    "WorkerSettings": "identity: a path",
    "Effect": "names of rules",
    "PartyReport": "with_key: a count",
    "TokenizeSummary": "no_key: counts",
    "_Tally": "no_key: counts",
    "Hashing": "drawn for one profile, which shows counts only",
    "DatabaseConfig": "url: refused with a password in it",
    "OmopConfig": "url: likewise",
    "AccountSettings": "key: a path",
    "Oidc": "client_secret_file: a path",
    "Accounts": "key: an AccountKey, which is listed",
    "Sessions": "key: likewise",
    "Provider": "_account_key: likewise; _secret_file: a path",
    "AccountRow": "password: an argon2 hash, and not shown",
    "BrokerConfig": "url: an address",
    "BlobSettings": "url: of a bucket; refused with keys in it",
    "Asked": "key: of a repeated request, its caller's own",
    "View": "key: which parties' figures a page shows",
    "LocalBroker": "url: an address on this machine",
    "_Announcing": "url: the address it is bound to",
}
"""Classes whose names look like secrets and are none."""

UNSEEN = {
    "Prepared": "a worker process's own, made inside it",
    "_Making": "one tokenization's own; its workers get an Order without it",
    "ClkEncoder": "derived keys of one worker process",
    "MatchKeyEncoder": "derived keys of one worker process",
}
"""Classes that hold derived secrets for one task: plain ones, whose repr is a type and a place."""


def held(folder: Path) -> dict[str, Callable[[], Any]]:
    """Every class that holds a secret, and how to make one with a known secret in it."""
    client = BrokerClient("https://broker.example", "s/alpha", ALPHA, audience="a")
    client._token = CANARY
    broker: Any = None
    home = Home(folder, BrokerConfig(database=DatabaseSettings(url=f"postgresql://u:{CANARY}@h/d")))
    vault = vault_of(EVERYONE, "alpha", folder / "private")
    vault.secret()
    site = SiteConfig(party="alpha", private=folder / "private")
    return {
        "StudyKey": lambda: EVERYONE.key,
        "Identity": lambda: ALPHA,
        "ContributorSecret": lambda: vault.secret(),
        "Token": lambda: Token(access_token=CANARY, expires_in=1),
        "TokenRequest": lambda: TokenRequest(
            grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=CANARY
        ),
        "BrokerClient": lambda: client,
        "Session": lambda: Session(site, vault, EVERYONE.signed, ALPHA, client),
        "RunMaker": lambda: RunMaker(broker, ALPHA),
        "JobMaker": lambda: JobMaker(broker, ALPHA),
        "EffectsMaker": lambda: EffectsMaker(broker, ALPHA),
        "HeadSigner": lambda: HeadSigner(broker, ALPHA, every=600),
        "SecondLooker": lambda: SecondLooker(broker, ALPHA),
        "AnswerReader": lambda: AnswerReader(broker, ALPHA),
        "Destroyer": lambda: Destroyer(broker, ALPHA),
        "Governor": lambda: Governor(broker, ALPHA),
        "OptOutReader": lambda: OptOutReader(broker, ALPHA),
        "ReviewTender": lambda: ReviewTender(broker, ALPHA),
        "UploadChecker": lambda: UploadChecker(broker, ALPHA),
        "Credentials": lambda: Credentials("a", CANARY),
        "Scratch": lambda: Scratch(broker, ALPHA, "s", "run-1"),
        "DatabaseSettings": lambda: home,
        "AccountKey": lambda: AccountKey(folder / "accounts.key"),
        "AccountReady": lambda: AccountReady(name="x", recovery_codes=(CANARY,)),
        "Enrolment": lambda: Enrolment(
            name="x", totp_secret=CANARY, expires_at=1, least=12, least_alone=0
        ),
        "InvitationAccepted": lambda: InvitationAccepted(
            invitation_secret=CANARY, password=CANARY, code=CANARY
        ),
        "InvitationOpened": lambda: InvitationOpened(invitation_secret=CANARY),
        "PasswordChange": lambda: PasswordChange(password=CANARY, new_password=CANARY),
        "PasswordSignIn": lambda: PasswordSignIn(name="x", password=CANARY, code=CANARY),
        "Invitation": lambda: Invitation(name="x", invitation_secret=CANARY, expires_at=1),
        "Proof": lambda: Proof(password=CANARY, code=CANARY, assertion=CANARY),
        "SessionState": lambda: SessionState(
            name="x", roles=(), csrf_token=CANARY, expires_at=1, idle_seconds=1
        ),
        "Blur": lambda: Blur(CANARY.encode(), 6),
    }


PICKLED = {"DatabaseSettings"}
"""Settings are sent between processes of one machine, over pipes."""


def test_every_class_that_keeps_a_secret_is_known(tmp_path: Path) -> None:
    assert set(held(tmp_path)) == set(SECRET)
    known = {*SECRET, *HOLD_NONE, *UNSEEN}
    found = {name: fields for name, fields in _classes() if fields}
    assert len(found) >= 15, "the walk finds nothing any more"
    assert not {name: fields for name, fields in found.items() if name not in known}


@pytest.mark.parametrize("name", SECRET)
def test_it_shows_nothing_and_is_not_pickled(name: str, tmp_path: Path) -> None:
    one = held(tmp_path)[name]()
    for shown in (repr(one), str(one), f"{one}", ascii(one), f"{[one]}", repr({"x": one})):
        for secret in _forms(tmp_path):
            assert secret not in shown
    if name not in PICKLED:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises((TypeError, KeyRefused)):
                pickle.dumps(one, protocol)


def test_what_is_unseen_is_a_plain_class() -> None:
    """A dataclass would show its fields."""
    for path in _sources():
        for one in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(one, ast.ClassDef) and one.name in UNSEEN:
                marks = " ".join(ast.unparse(mark) for mark in one.decorator_list)
                assert "dataclass" not in marks or "repr=False" in marks, one.name


def _forms(folder: Path) -> Iterator[str]:
    """Every way in which a secret of the cast could be written."""
    yield CANARY
    key = EVERYONE.key.secret_bytes()
    private = [line for line in ALPHA.signing_pem().decode().splitlines() if "-" not in line]
    own = (folder / "private" / "contributor.secret").read_text().splitlines()[-1]
    yield from (key.hex(), base64.b64encode(key).decode(), repr(key)[2:-1], *private, own)


def _classes() -> Iterator[tuple[str, set[str]]]:
    for path in _sources():
        for one in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(one, ast.ClassDef):
                yield one.name, set(_kept(one))


def _kept(one: ast.ClassDef) -> Iterator[str]:
    """Names of fields and attributes that sound like a secret, or are annotated as one."""
    for part in one.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            name = part.target.id
            if NAMES.search(name) or KINDS.search(ast.unparse(part.annotation)):
                yield name
    for stored in ast.walk(one):
        if not isinstance(stored, ast.Attribute) or not isinstance(stored.ctx, ast.Store):
            continue
        if ast.unparse(stored.value) == "self" and NAMES.search(stored.attr):
            yield stored.attr


def _sources() -> Iterator[Path]:
    for package in ("linkage", "broker", "sites"):
        yield from sorted((CHECKOUT / package).rglob("*.py"))
