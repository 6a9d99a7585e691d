"""
Links that stewards assert: lists written by two sites' command, sealed, settled by the worker, and
told in the history; and what the broker refuses.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from broker.cli import app as broker_app
from linkage import assertions
from linkage.assertions import AssertionList
from linkage.encoding.keys import StudyKey
from linkage.messages import ASSERTIONS, BROKER, CUSTODIAN
from linkage.records import EncodedRecords, FixedColumn
from linkage.sealing import Context, seal
from sites.cli import app as site_app
from sites.vault import Vault
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, problem, running, sign_for
from tests.studies import save_map

HELD = {"imaging": range(90), "enclave": range(60, 180), "claims": range(60, 150)}


class Sites:
    """Three sites beside one real broker, each with a private folder and a site file."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.key = world, folder, StudyKey.generate()
        signed, identities = sign_for(world.home.public(), "asserted-study", rehearsal=False)
        checked = {"key_check": self.key.key_check(signed.study)}
        signed = signed.model_copy(update=checked).sign(identities[CUSTODIAN])
        self.told = signed.pin(CUSTODIAN).fingerprint
        world.actor("admin").post(
            "/v1/studies", signed, custodian_fingerprint=self.told
        ).raise_for_status()
        world.signed, world.identities = signed, identities
        world.confirm()
        for party in HELD:
            self.submit(party, HELD[party])

    def vault(self, party: str) -> Vault:
        return Vault(self.folder / party / "private")

    def submit(self, party: str, people: range, dataset: int = 1) -> None:
        """Upload people under this site's own pseudonyms, and keep the map of their record ids."""
        vault, world = self.vault(party), self.world
        if dataset == 1:
            vault.folder.mkdir(parents=True, mode=0o700)
            world.identities[party].save(vault.identity_file)
            self.key.save(vault.study_key_file)
            vault.signed_study_file.write_text(world.signed.model_dump_json())
            (self.folder / party / "site.toml").write_text(
                f'party = "{party}"\n[broker]\nurl = "{world.url}"\ncustodian = "{self.told}"\n'
            )
        ids = [f"{party}-{person}" for person in people]
        names = vault.secret().pseudonyms(world.study_id, ids)
        order = np.argsort(names.view("S16").ravel())
        made = encoded(world.signed, party, people)  # its rows by made-up pseudonyms
        said = [f"pseudonym/{world.study_id}/{party}/{person}" for person in people]
        by_name = sorted(range(len(ids)), key=lambda i: hashlib.sha256(said[i].encode()).digest())
        rows = np.argsort(by_name)[order]

        def sort(columns: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
            return {n: FixedColumn(c.values[rows], c.present[rows]) for n, c in columns.items()}

        records = EncodedRecords(names[order], made.groups, sort(made.clks), sort(made.match_keys))
        world.upload(pack(world.signed, world.identities[party], records, dataset=dataset))
        save_map(vault, dataset, names[order], [ids[i] for i in order])
        vault.package(dataset).mkdir(parents=True)

    def name(self, party: str, person: int) -> str:
        """Return a record's pseudonym in hex."""
        secret = self.vault(party).secret()
        return secret.pseudonyms(self.world.study_id, [f"{party}-{person}"])[0].tobytes().hex()

    def call(self, party: str, rows: list[tuple[object, str, str]], *more: str) -> tuple[int, str]:
        """Let a site assert; rows: person or text, assertion id, verdict."""
        path = self.folder / party / "assertions.csv"
        lines = [f"{f'{party}-{r}' if isinstance(r, int) else r},{a},{v}\n" for r, a, v in rows]
        path.write_text("record_id,assertion_id,verdict\n" + "".join(lines))
        words = ["assert", str(path), "--site", str(self.folder / party / "site.toml"), *more]
        done = CliRunner().invoke(site_app, words)
        return done.exit_code, done.stdout + done.stderr

    def say(self, party: str, *rows: tuple[object, str, str]) -> None:
        code, said = self.call(party, list(rows))
        assert code == 0, said

    def run(self) -> dict[str, Any]:
        run = self.world.run()
        assert run["state"] == "done", run["failure"]
        return run

    def history(self, record: str) -> dict[str, Any]:
        out = io.StringIO()
        command = ["person", "history", self.world.study_id, record, "--json"]
        with redirect_stdout(out), pytest.raises(SystemExit) as ended:
            broker_app([*command, "--home", str(self.world.home.path)], prog_name="linkage-broker")
        assert not ended.value.code
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def together(self, *records: tuple[str, int]) -> bool:
        """Are these records one person after the newest run?"""
        held = {one["record"] for one in self.history(self.name(*records[0]))["then"]["records"]}
        return {self.name(*one) for one in records} <= held


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("asserted")
    with running(make_world(folder)) as world:
        yield Sites(world, folder)


def test_assertions_through_their_whole_life(sites: Sites) -> None:
    first = sites.run()
    assert first["report"]["asserted"]["lists"] == {}
    assert not sites.together(("imaging", 3), ("enclave", 170))
    assert sites.together(("imaging", 70), ("enclave", 70))

    # One side only: nothing.
    sites.say("imaging", (3, "case-1", "same"), (70, "case-2", "different"))
    one_sided = sites.run()
    assert one_sided["run_id"] != first["run_id"]
    assert one_sided["report"]["asserted"]["one_side_only"] == 2
    assert one_sided["result_digest"] == first["result_digest"]

    # Both sides: tied together, and taken apart. A chain to the third party.
    sites.say(
        "enclave", (170, "case-1", "same"), (70, "case-2", "different"), (170, "case-3", "same")
    )
    sites.say("claims", (149, "case-3", "same"))
    both = sites.run()
    told = both["report"]["asserted"]
    assert (told["same"], told["different"], told["contradictions"]) == (2, 1, 0)
    assert told["lists"] == {"imaging": 1, "enclave": 1, "claims": 1}
    assert both["report"]["links"]["asserted"] == 2
    assert sites.together(("imaging", 3), ("enclave", 170), ("claims", 149))
    assert not sites.together(("imaging", 70), ("enclave", 70))
    links = sites.history(sites.name("imaging", 3))["then"]["links"]
    pair = {sites.name("imaging", 3), sites.name("enclave", 170)}
    (mine,) = [one for one in links if {one["left"], one["right"]} == pair]
    assert (mine["method"], mine["tier"]) == ("asserted", "asserted")
    # The same again is the same run.
    assert sites.run()["run_id"] == both["run_id"]

    # What contradicts itself counts nowhere, and its tokens lead to the rows.
    sites.say("imaging", (3, "case-1", "same"), (4, "case-4", "same"))
    sites.say("enclave", (170, "case-1", "same"), (170, "case-4", "same"))
    against = sites.run()["report"]["asserted"]
    assert (against["same"], against["contradictions"]) == (0, 1)
    (named,) = against["contradicting"]
    assert (named["why"], named["uploaders"]) == (
        "two records of one dataset along a chain",
        ["enclave", "imaging"],
    )
    code, said = sites.call(
        "imaging", [(3, "case-1", "same"), (4, "case-4", "same")], "--dry-run", "--json"
    )
    assert code == 0, said
    assert sorted(json.loads(said)["tokens"].values()) == named["tokens"]

    # Withdrawn: all is as it was before anybody asserted anything.
    sites.say("imaging", (3, "case-1", "withdrawn"), (4, "case-4", "withdrawn"))
    sites.say("enclave")
    again = sites.run()
    assert again["result_digest"] == first["result_digest"]
    assert not sites.together(("imaging", 3), ("enclave", 170))
    assert sites.together(("imaging", 70), ("enclave", 70))

    # A record that a later version lacks says nothing any more.
    sites.say("imaging", (3, "case-5", "same"))
    sites.say("enclave", (170, "case-5", "same"))
    sites.submit("imaging", range(10, 90), dataset=2)
    gone = sites.run()["report"]["asserted"]
    assert (gone["unknown_records"], gone["same"]) == ({"imaging": 1}, 0)
    entries = sites.world.actor("admin").get("/v1/audit", limit=1000).json()
    sent = [one for one in entries if one["action"] == "assertion list received"]
    assert len(sent) >= 7
    assert "case-" not in json.dumps(entries)


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([(80, "a", "same"), (81, "a", "same")], "row 3, field 'assertion_id': is that of row 2"),
        ([("claims-7777", "a", "same")], "row 2, field 'record_id': names no record of dataset"),
        ([(80, "a", "maybe")], "row 2, field 'verdict': is no verdict"),
        ([(80, "", "same")], "row 2, field 'assertion_id': has not 1 to 200 characters"),
        ([("", "a", "same")], "row 2, field 'record_id': is empty"),
        ([(80, "a,b", "same")], "row 2: has 4 columns"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_sent(
    sites: Sites, rows: list[tuple[object, str, str]], rule: str
) -> None:
    lists = sites.world.actor("claims").get(f"{sites.world.path}/assertions").json()
    code, said = sites.call("claims", rows)
    assert code == 4
    assert rule in " ".join(said.split())
    assert "7777" not in said
    assert "maybe" not in said
    assert sites.world.actor("claims").get(f"{sites.world.path}/assertions").json() == lists


def test_another_header_is_refused(sites: Sites) -> None:
    path = sites.folder / "wrong.csv"
    for text in ("", "record,assertion,verdict\n"):
        path.write_text(text)
        words = ["assert", str(path), "--site", str(sites.folder / "claims" / "site.toml")]
        done = CliRunner().invoke(site_app, words)
        assert done.exit_code == 4
        assert "first row must be: record_id,assertion_id,verdict" in " ".join(done.stderr.split())


def _sealed(sites: Sites, sender: str, data: bytes, *details: str) -> bytes:
    world = sites.world
    context = Context(world.study_id, sender, BROKER, ASSERTIONS, details)
    identity = world.identities[sender]
    return seal(data, sender=identity, recipient=world.signed.pin(BROKER), context=context)


def _next(sites: Sites, uploader: str) -> int:
    lists = sites.world.actor(uploader).get(f"{sites.world.path}/assertions").json()
    return 1 + max((one["number"] for one in lists), default=0)


def test_the_broker_takes_a_list_for_its_place_only(sites: Sites) -> None:
    world, number = sites.world, _next(sites, "claims")
    claims, path = world.actor("claims"), f"{sites.world.path}/assertions"
    data = assertions.to_bytes(_list("claims", 0))
    for wrong in (
        _sealed(sites, "imaging", data, "1", str(number)),
        _sealed(sites, "claims", data, "2", str(number)),
        _sealed(sites, "claims", data, "1", str(number + 1)),
        b"",
    ):
        assert problem(claims.put(f"{path}/{number}", wrong))[:2] == (422, "package-refused")
    right = _sealed(sites, "claims", data, "1", str(number))
    answers = [claims.put(f"{path}/{number}", right).status_code for _ in range(2)]
    assert answers == [201, 200]
    other = _sealed(sites, "claims", data, "1", str(number))
    assert problem(claims.put(f"{path}/{number}", other))[:2] == (409, "conflict")
    late = _sealed(sites, "claims", data, "1", str(number + 5))
    assert problem(claims.put(f"{path}/{number + 5}", late))[:2] == (409, "conflict")
    assert problem(world.actor("admin").put(f"{path}/1", right))[:2] == (403, "not-allowed")
    # Who sent which list is for the admin; a party sees its own.
    seen = {one["uploader"] for one in world.actor("admin").get(path).json()}
    assert seen >= {"imaging", "enclave", "claims"}
    assert {one["uploader"] for one in claims.get(path).json()} == {"claims"}


def test_a_list_that_is_none_fails_the_run_by_name_until_another_comes(sites: Sites) -> None:
    world, number = sites.world, _next(sites, "claims")
    path = f"{world.path}/assertions"
    garbled = _sealed(sites, "claims", b"no table at all", "1", str(number))
    world.actor("claims").put(f"{path}/{number}", garbled).raise_for_status()
    run = world.run()
    assert run["state"] == "failed"
    assert "'claims' sent as its assertion list is no table" in run["failure"]
    sites.say("claims")
    assert sites.run()["report"]["asserted"]["same"] == 0


def _list(uploader: str, size: int) -> AssertionList:
    nothing = np.zeros((size, 16), np.uint8)
    return AssertionList(uploader, nothing, nothing, np.zeros(size, np.bool_))
