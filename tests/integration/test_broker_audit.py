"""The audit log over HTTP: every answer carries its head, sites keep it, auditors compare."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.cli import app
from linkage.audit_chain import HEADER, AuditHead, read_heads, verify_export
from linkage.errors import HistoryAltered, NotFound
from linkage.messages import BROKER
from sites.audit_heads import HEADS, KeptHeads
from sites.client import BrokerClient
from tests.broker_packages import encoded, pack
from tests.broker_world import AUDIENCE, HTTP, World, make_world, problem, running, wait_for


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("audit"))) as made:
        yield made


def client(world: World, party: str, folder: Path) -> BrokerClient:
    """A party's client, as a site makes it."""
    subject, identity = f"{world.study_id}/{party}", world.identities[party]
    heads = KeptHeads(folder / HEADS, world.signed.pin(BROKER))
    return BrokerClient(world.url, subject, identity, audience=AUDIENCE, heads=heads)


def fresh(world: World, one: BrokerClient) -> AuditHead:
    """Wish for a head and wait until an answer carried it."""
    kept = one._heads
    assert kept is not None
    before = kept.newest()
    one.wish_head(world.study_id)

    def came() -> bool:
        one.study(world.study_id)
        return kept.newest() != before

    wait_for(came, 90)  # a worker takes its time to start where many tests run
    found = kept.newest()
    assert found is not None
    return found


def signed_now(world: World, one: BrokerClient) -> None:
    """Sign a head without a worker, and wait until an answer carried it."""
    kept = one._heads
    assert kept is not None
    code, text = console("audit", "sign", home=world.home.path)
    assert code == 0, text
    number = json.loads(text)["sequence"]

    def came() -> bool:
        one.study(world.study_id)
        found = kept.newest()
        return found is not None and found.sequence >= number

    wait_for(came, 60)


def console(*words: str | Path, home: Path) -> tuple[int, str]:
    out, code = io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(out):
        try:
            app([*map(str, words), "--home", str(home)], prog_name="linkage-broker")
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue()


@pytest.mark.threat("T20")
def test_every_answer_to_a_known_caller_carries_the_newest_head(
    world: World, tmp_path: Path
) -> None:
    with client(world, "imaging", tmp_path) as imaging:
        newest = fresh(world, imaging)
    for answer in (
        world.actor("enclave").get(world.path),
        world.actor("claims").get(f"{world.path}/inbox"),
        world.actor("claims").get("/v1/audit"),  # also a refusal
        world.actor("claims").get(f"{world.path}/runs/none"),
        world.actor("admin").get("/v1/audit"),
    ):
        head = AuditHead.model_validate_json(answer.headers[HEADER])
        head.verify(world.signed.pin(BROKER))
        assert head.sequence >= newest.sequence
    # A stranger gets none: it says how long the broker has been there.
    assert HEADER not in HTTP.get(f"{world.url}/health").headers
    assert HEADER not in HTTP.get(f"{world.url}{world.path}").headers


@pytest.mark.threat("T20")
def test_parties_and_an_auditor_verify_without_trusting_the_broker(
    world: World, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("imaging", "enclave")]
    for folder in folders:
        folder.mkdir()
        with client(world, folder.name, folder) as one:
            fresh(world, one)
    records = encoded(world.signed, "claims", range(30))
    world.upload(pack(world.signed, world.identities["claims"], records))
    with client(world, "imaging", folders[0]) as one:
        fresh(world, one)
    signer = world.signed.pin(BROKER)
    heads = [head for folder in folders for head in read_heads(folder / HEADS, signer)]
    exported = tmp_path / "log.jsonl"
    code, said = console("audit", "export", exported, home=world.home.path)
    assert code == 0, said
    told = verify_export(exported, signer, heads)
    assert told.kept == len(heads) >= 3
    assert told.vouched > 3
    assert not any(x in exported.read_bytes() for x in (b"pseudonym", b"1980-"))


@pytest.mark.threat("T20")
def test_a_history_put_back_and_gone_on_otherwise_stops_the_party(tmp_path: Path) -> None:
    """A backup restored, or an admin who wants to be rid of yesterday."""
    world = make_world(tmp_path)
    home = world.home.path
    folder = tmp_path / "site"
    folder.mkdir()
    with running(world, worker=False), client(world, "enclave", folder) as one:
        signed_now(world, one)
    shutil.copy(home / "broker.sqlite", tmp_path / "yesterday.sqlite")
    with running(world, worker=False), client(world, "enclave", folder) as one:
        signed_now(world, one)
    for left in home.glob("broker.sqlite*"):
        left.unlink()
    shutil.copy(tmp_path / "yesterday.sqlite", home / "broker.sqlite")
    with running(world, worker=False):
        assert console("audit", "verify", home=home)[0] == 0  # by itself it fits
        code, said = console("audit", "verify", "--heads", folder / HEADS, home=home)
        assert (code, "its end was cut off" in said) == (3, True)
        assert console("audit", "sign", home=home)[0] == 0
        with (
            client(world, "enclave", folder) as one,
            pytest.raises(HistoryAltered, match="showed two histories"),
        ):
            # At the latest when the answers carry the head just signed: a second later.
            wait_for(lambda: one.study(world.study_id) is None, 30)


def test_heads_are_paged_and_checked(world: World, tmp_path: Path) -> None:
    with client(world, "imaging", tmp_path) as one:
        fresh(world, one)
        fresh(world, one)
        found = one._missing_heads(0)
        assert [head.sequence for head in found] == list(range(1, len(found) + 1))
        with pytest.raises(NotFound):
            one.wish_head("other-study")
    page = world.actor("enclave").get(f"{world.path}/heads", after=1, limit=1).json()
    assert [head["sequence"] for head in page] == [2]
    wrong = world.actor("enclave").get(f"{world.path}/heads", after=-1)
    assert problem(wrong)[0] == 422


@pytest.mark.threat("P08")
@pytest.mark.parametrize("token", ["", "Bearer made-up"])
@pytest.mark.parametrize("path", ["/v1/studies", "/v1/studies/small-study/datasets", "/v1/token"])
def test_a_strangers_body_is_not_read(world: World, path: str, token: str) -> None:
    """It announces 10 MB, sends 40 kB, and is answered: nobody waits for the rest."""
    parts = urlsplit(world.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=240) as caller:
        head = [
            f"POST {path} HTTP/1.1",
            "Host: broker",
            "Content-Type: application/json",
            "Content-Length: 10000000",
            *([f"Authorization: {token}"] if token else []),
        ]
        caller.sendall("\r\n".join([*head, "", ""]).encode() + b'{"a": "' + b"x" * 40_000)
        answer = b""
        while b"}" not in answer and (more := caller.recv(65_536)):
            answer += more
    # Who asks for a token has none yet: there the cap itself is a stranger's.
    status, code = ("413", "too-large") if path == "/v1/token" else ("401", "not-authenticated")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert code.encode() in answer


def test_a_known_caller_has_a_cap_for_each_address(world: World) -> None:
    kind = {"Content-Type": "application/json"}
    for who, path, size, status in (
        ("admin", f"{world.path}/runs", 70_000, 413),
        ("admin", f"{world.path}/runs", 60_000, 422),
        ("admin", f"{world.path}/questions", 1_100_000, 413),
        ("claims", f"{world.path}/datasets", 1_100_000, 422),
        ("admin", "/v1/studies", 1_100_000, 422),
        ("admin", "/v1/studies", 17_000_000, 413),
    ):
        body = b'{"a": "' + b"x" * size + b'"}'
        answer = world.actor(who).call("POST", path, content=body, headers=kind)
        assert problem(answer)[0] == status, path


def test_the_console_speaks_json(world: World) -> None:
    code, said = console("audit", "verify", "--json", home=world.home.path)
    assert (code, json.loads(said)["kept_heads"]) == (0, 0)
