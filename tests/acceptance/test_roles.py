"""
A study played by its roles, each with its own folder and the installed programs only.

Custodian, broker admin, two site operators, stewards and the enclave's data manager, with the
mistakes that tired people make on the way.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from linkage.study import load_study
from sites.demo import prepare_demo
from tests.programs import Done, ok, program, run
from tests.studies import certified

pytestmark = pytest.mark.long

PARTIES = ("imaging", "enclave", "claims")


@dataclass(frozen=True, slots=True)
class World:
    """Who sits where: one folder an organisation."""

    root: Path
    url: str

    def of(self, actor: str) -> Path:
        return self.root / actor

    def site(self, party: str, command: str, *arguments: str | Path) -> Done:
        """Run a command at a site, whatever comes of it."""
        return run("linkage-site", command, *arguments, "--site", self.of(party) / "site.toml")


def fingerprint(text: str) -> str:
    found = re.search(r"[0-9a-f]{4}( [0-9a-f]{4}){7}", text)
    assert found, text
    return found.group()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everyone set up, the study signed and registered, the broker running; nothing sent yet."""
    root = tmp_path_factory.mktemp("roles")
    # One machine plays all: each organisation's account remembers its own role only.
    account = pytest.MonkeyPatch()
    account.setenv("XDG_CONFIG_HOME", str(root / "account-of-custodian"))
    commons = prepare_demo(root / "demo", 900, 3).truth.parent
    study = commons / "settings" / "study.toml"
    broker, custodian = root / "broker", root / "custodian"

    ok("linkage-site", "keys", "identity", custodian, "--name", "custodian")
    ok("linkage-site", "keys", "new", custodian / "study.key")
    account.setenv("XDG_CONFIG_HOME", str(root / "account-of-broker"))
    ok("linkage-broker", "init", broker)
    account.setenv("XDG_CONFIG_HOME", str(root / "account-of-custodian"))
    public = ["--public", str(broker / "public.json")]
    for party in PARTIES:
        made = ok("linkage-site", "keys", "identity", root / party / "private", "--name", party)
        fingerprint(made.out)
        public += ["--public", str(root / party / "private" / f"{party}.public.json")]
    signed = root / "signed-study.json"
    keys = ["--key", custodian / "study.key", "--custodian", custodian / "custodian.key"]
    without = run("linkage-site", "study", "sign", study, *keys, *public, "--out", signed)
    assert without.code == 3
    assert "linkage attack study.toml --out gate" in without.err
    gate = certified(load_study(study))
    assert gate is not None
    (root / "certificate.json").write_text(gate.model_dump_json(), encoding="utf-8")
    keys += ["--certificate", root / "certificate.json"]
    said = ok("linkage-site", "study", "sign", study, *keys, *public, "--out", signed)
    told = fingerprint(said.out)
    ok("linkage-site", "keys", "seal", signed, *keys[:4], "--out", root / "sealed")
    account.setenv("XDG_CONFIG_HOME", str(root / "account-of-broker"))
    ok("linkage-broker", "study", "register", signed, "--home", broker,
       "--custodian-fingerprint", told)  # fmt: skip

    ready = root / "ready"
    serving = subprocess.Popen(
        [program("linkage-broker"), "serve", "--home", broker, "--port", "0", "--ready-file", ready]
    )
    working = subprocess.Popen([program("linkage-broker"), "worker", "--home", broker])
    try:
        deadline = time.monotonic() + 240
        while not ready.exists() or not ready.read_text():
            assert time.monotonic() < deadline, "the broker does not start"
            time.sleep(0.1)
        made_world = World(root, ready.read_text().strip())
        for party in PARTIES:
            shutil.copy(signed, root / party / "private" / "signed-study.json")
            settings = (commons / "settings" / f"{party}.toml").read_text(encoding="utf-8")
            settings = settings.replace("../", f"{commons}/")
            settings += f'\n[broker]\nurl = "{made_world.url}"\ncustodian = "{told}"\n'
            (root / party / "site.toml").write_text(settings, encoding="utf-8")
        yield made_world
    finally:
        for process in (serving, working):
            process.terminate()
            process.wait(180)
        account.undo()


def test_mistakes_before_the_first_upload_are_told_with_a_remedy(world: World) -> None:
    early = world.site("imaging", "tokenize")
    assert early.code == 5
    assert "linkage-site keys open" in early.err
    foreign = run("linkage-site", "keys", "open", world.root / "sealed" / "claims.study-key.sealed",
                  "--site", world.of("imaging") / "site.toml")  # fmt: skip
    assert foreign.code == 5
    assert "not signed by 'custodian' for this study, recipient" in " ".join(foreign.err.split())
    assert not (world.of("imaging") / "private" / "study.key").exists()
    nothing = world.site("imaging", "submit")
    assert nothing.code == 5
    assert "tokenize" in nothing.err
    released = world.site("imaging", "ids", "--out", world.root / "no.csv")
    assert released.code == 6
    assert not (world.root / "no.csv").exists()


def test_the_custodian_cannot_also_be_the_broker(world: World) -> None:
    both = run("linkage-broker", "init", world.of("custodian"))
    assert both.code == 1
    assert "different organisations" in both.err


def test_the_study_is_played_to_its_end(world: World) -> None:
    broker = ["--home", world.of("broker")]
    for party in PARTIES:
        sealed = world.root / "sealed" / f"{party}.study-key.sealed"
        site = ["--site", world.of(party) / "site.toml"]
        ok("linkage-site", "keys", "open", sealed, *site)
        ok("linkage-site", "tokenize", *site)
    draft = run("linkage-site", "submit", "--site", world.of("imaging") / "site.toml")
    assert draft.code == 6
    assert "linkage-site confirm" in draft.err
    for party in PARTIES:
        site = ["--site", world.of(party) / "site.toml"]
        read = ok("linkage-site", "confirm", *site)
        assert "Dry run: would confirm" in read.out
        confirmed = ok("linkage-site", "confirm", "--yes", *site)
        assert "Study confirmed" in confirmed.out
    too_early = run("linkage-broker", "run", "start", "three-commons", *broker)
    assert too_early.code == 1
    assert "imaging" in too_early.err
    for party in PARTIES:
        site = ["--site", world.of(party) / "site.toml"]
        ok("linkage-site", "submit", *site)
        ok("linkage-site", "submit", *site)  # twice does no harm
    state = ok("linkage-site", "status", "--site", world.of("claims") / "site.toml", "--json").json
    assert [one["dataset"] for one in state["parties"]] == [1, 1, 1]

    ok("linkage-broker", "run", "start", "three-commons", *broker)
    with _agents(world):
        done = _wait_for_run(world)
    assert done["report"]["estimated_precision"] > 0.9
    assert done["report"]["second_look"].get("silent", []) == []
    said = ok("linkage-broker", "release", "start", "three-commons", *broker, "--json").json
    assert said["state"] == "waiting", "IDs for the parties need every steward"
    for party in PARTIES:
        early = _ids(world, party)
        assert early.code == 6
        assert "no IDs are released yet" in early.err
        seen = world.site(party, "release", "list").out
        assert "YOU: linkage-site release show" in seen
        site = ["--site", world.of(party) / "site.toml"]
        ok("linkage-site", "release", "approve", said["job_id"], *site)
    for party in PARTIES:
        _wait_until(lambda party=party: _ids(world, party).code == 0)  # type: ignore[misc]
    ids = {party: _read(world.root / f"{party}.csv") for party in PARTIES}
    assert len(set(ids["imaging"].values()) & set(ids["enclave"].values())) > 100

    spec = world.root / "demo" / "commons" / "settings" / "cohort.toml"
    enclave, imaging = (world.of(party) / "site.toml" for party in ("enclave", "imaging"))
    ok("linkage-cohort", "validate", spec)
    keys = ("--site", enclave, "--folder", world.root / "questions")
    asked = ok("linkage-cohort", "request", spec, *keys, "--json").json["question"]
    refused = run("linkage-cohort", "deliver", asked, "--site", enclave)
    assert refused.code == 6
    assert "enclave, imaging" in refused.err
    _wait_until(lambda: "waits for this party's steward" in _answer(imaging))
    unanswered = run("linkage-site", "counts", asked, "--site", enclave)
    assert unanswered.code == 6, "the enclave must learn nothing before the steward's yes"
    ok("linkage-cohort", "approve", asked, "--site", imaging)
    _wait_until(lambda: "subjects fit" in _answer(imaging))
    counts = ok("linkage-site", "counts", asked, "--site", enclave, "--json").json
    assert counts["persons"] > 20
    assert ok("linkage-cohort", "counts", asked, *keys, "--json").json == counts
    shown = ok("linkage-cohort", "show", asked, "--site", imaging, "--json").json
    assert shown["counts"]["persons"] == counts["persons"]
    seen = ok("linkage-cohort", "status", "--site", imaging).out
    assert "chest" in seen.lower()
    assert "4163872" not in seen, "the imaging party must not see the clinical criteria"
    ok("linkage-cohort", "approve", asked, "--site", enclave)
    ok("linkage-cohort", "deliver", asked, "--site", enclave)
    _wait_until(lambda: "rows of" in _answer(imaging))
    joined = ok("linkage-site", "join", asked, "--site", enclave, "--out", world.root / "cohort")
    assert "Cohort delivered" in joined.out
    again = run("linkage-site", "join", asked, "--site", enclave, "--out", world.root / "cohort")
    assert again.code == 6
    verified = ok("linkage-broker", "audit", "verify", *broker)
    assert "fits together" in verified.out


def test_nothing_at_the_broker_reads_as_a_person(world: World) -> None:
    with (world.root / "demo" / "commons" / "enclave_pii.csv").open(encoding="utf-8") as file:
        people = list(csv.DictReader(file))[:200]
    ssns = [row["ssn"].encode() for row in people if row["ssn"]]
    names = [f"{row['first_name']}".encode() for row in people if len(row["first_name"]) > 6]
    for path in world.of("broker").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in ssns if one in data or one.replace(b"-", b"") in data]
            assert not [one for one in names if one in data or one.lower() in data]


@contextmanager
def _agents(world: World) -> Iterator[None]:
    """Every site's agent, which answers second looks by itself."""
    agents = [
        subprocess.Popen(
            [program("linkage-site"), "answer", "--watch", "5"],
            cwd=world.of(party),
            stdout=subprocess.DEVNULL,
        )
        for party in PARTIES
    ]
    try:
        yield
    finally:
        for agent in agents:
            agent.terminate()
            agent.wait(180)


def _answer(site: Path) -> str:
    return ok("linkage-site", "answer", "--site", site).out


def _wait_for_run(world: World) -> dict[str, object]:
    home = world.of("broker")
    runs: list[dict[str, object]] = []

    def ended() -> bool:
        runs[:] = ok(
            "linkage-broker", "run", "list", "three-commons", "--home", home, "--json"
        ).json
        return runs[0]["state"] in ("done", "failed")

    _wait_until(ended, 1_200)  # its sites answer a second look meanwhile
    assert runs[0]["state"] == "done", json.dumps(runs[0])
    return runs[0]


def _wait_until(happens: Callable[[], bool], seconds: float = 360) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.3)


def _ids(world: World, party: str) -> Done:
    return world.site(party, "ids", "--out", world.root / f"{party}.csv")


def _read(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["record_id"]: row["cross_commons_id"] for row in csv.DictReader(file)}
