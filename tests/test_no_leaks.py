"""
Canaries: strings planted in every field are nowhere but in the source itself.

Everything that a linkage leaves behind is searched: what programs print, the site's folder with
its packages and its map, temporary files, the wire, the broker's folder with its database and
logs. Where it goes well, and where it fails in every way that a site meets. All records bear marks
of groups, of which one is planted, too.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linkage.messages import CUSTODIAN, ReleaseRequest
from sites.client import BrokerClient
from sites.crosswalk import fetch_ids
from sites.demo import prepare_demo
from sites.rehearsal import actors, wait_for_job
from sites.strata_config import StrataConfig
from sites.tokenizer import tokenize
from sites.upload import submit_dataset
from tests.programs import program
from tests.studies import cast, excepted, vault_of

FIELDS = ["first_name", "middle_name", "last_name", "date_of_birth", "sex", "ssn"]
FIELDS += ["zip", "phone", "email", "street"]
CANARY = {
    "record_id": "canary-id-770177",
    "first_name": "Canaryfirst",
    "middle_name": "Canarymiddle",
    "last_name": "O'Canarylast",
    "date_of_birth": "03/17/1971",
    "sex": "F",
    "ssn": "912-45-6781",
    "zip": "90755",
    "phone": "617-555-0147",
    "email": "canary.mail@canary-host.test",
    "street": "7719 Canarystreet Road",
    "origin": "canary-origin-5501",
}
STRATA = """
[[strata]]
id = "origin"
groups = ["at home", "abroad"]
[[strata]]
id = "birth-decade"
groups = ["before 1970", "1970s"]
"""
NORMALISED = {
    "last_name": ["ocanarylast", "o-canarylast"],
    "date_of_birth": ["19710317", "1971-03-17"],
    "ssn": ["912456781"],
    "phone": ["16175550147", "6175550147"],
    "street": ["7719 canarystreet rd"],
}
_SHORT = {"sex", "zip"}
"""Too short to be told from chance in sealed bytes."""


def needles() -> list[bytes]:
    """Return every canary as given, normalised, and as base64, hex and UTF-16 would hide it."""
    found: set[bytes] = set()
    for field, value in CANARY.items():
        if field in _SHORT:
            continue
        for text in (value, *NORMALISED.get(field, [])):
            raw = text.lower().encode()
            found |= {raw, raw.hex().encode(), text.lower().encode("utf-16-le")}
            for case in (text, text.lower(), text.upper()):
                # base64 of the middle of a longer text, at each of its three alignments.
                for shift in range(3):
                    coded = base64.b64encode(b"\0" * shift + case.encode())
                    found.add(coded[4:-4].lower())
    return [one for one in found if len(one) >= 8]


NEEDLES = needles()


def leaks(data: bytes) -> list[bytes]:
    low = data.lower()
    return [one for one in NEEDLES if one in low]


def leaking_files(*folders: Path, but: Callable[[Path], bool] = lambda path: False) -> list[str]:
    return [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not but(path) and (leaks(path.read_bytes()) or leaks(bytes(path)))
    ]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    text = "x,y\n1,\xfc " + " ".join(CANARY.values())
    for data in (text.encode(), text.upper().encode(), base64.b64encode(text.encode())):
        assert leaks(data)
    (tmp_path / "log").write_bytes(b"born 19710317")
    assert leaking_files(tmp_path) == [str(tmp_path / "log")]


# A whole linkage that goes well


@contextmanager
def wiretap(url: str, heard: list[bytes]) -> Iterator[str]:
    """Pass every byte to the server at `url` and back, and keep a copy."""
    host, port = url.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            heard.append(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            theirs = socket.create_connection((host, int(port)))
            for ends in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def plant(path: Path, delimiter: str) -> None:
    """Add the canary as one more record of a simulated commons, and its origin to all of them."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    rows = [f"{head}{delimiter}origin", *(f"{one}{delimiter}{CANARY['origin']}" for one in rows)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with path.open(newline="") as file:
        header = next(csv.reader(file, delimiter=delimiter))
    as_dates = {"imaging_pii.psv": "03/17/1971", "enclave_pii.csv": "19710317"}
    other = {"given": "first_name", "mi": "middle_name", "family": "last_name"}
    named = {**CANARY, **{short: CANARY[field] for short, field in other.items()}}
    named["date_of_birth"] = as_dates.get(path.name, "")
    ids = {"person_id", "subject_key"}
    row = [CANARY["record_id"] if n in ids else named.get(n.lower(), "") for n in header]
    assert CANARY["record_id"] in row
    with path.open("a", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerow(row)


class _Silent:
    def stage(self, name: str) -> None:
        """Nobody watches."""

    def progress(self, share: float) -> None:
        """Nobody watches."""


@pytest.mark.threat("P06")
@pytest.mark.long
def test_a_linkage_leaves_no_identifier_anywhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    prepared = prepare_demo(tmp_path / "out", 900, 3)
    commons = tmp_path / "out" / "commons"
    plant(commons / "imaging_pii.psv", "|")
    plant(commons / "enclave_pii.csv", ",")
    plant(commons / "claims_pii.csv", ",")
    with prepared.plan.study_file.open("a", encoding="utf-8") as study_file:
        study_file.write(STRATA)
    names = {"origin": {CANARY["origin"]: "abroad"}}
    heard: list[bytes] = []
    plan = dataclasses.replace(prepared.plan, keep=True)
    with actors(plan, _Silent()) as people, wiretap(people.broker.url, heard) as tapped:
        study = people.signed.study.study.id
        sessions = {}
        for party, session in people.sessions.items():
            subject = f"{study}/{party}"
            client = BrokerClient(
                tapped, subject, session.identity, audience="commons-linkage-broker"
            )
            sessions[party] = dataclasses.replace(session, broker=client)
            config = session.site.source
            assert config is not None
            config = config.model_copy(update={"subgroups": {"origin": ("origin",)}})
            born = "date_of_birth" in people.signed.study.party_named(party).fields
            marks = StrataConfig(send=True, names=names, lacks=() if born else ("birth-decade",))
            done = tokenize(config, party, people.signed, session.vault, strata=marks)
            assert done.rest["origin"] == 0
            submit_dataset(sessions[party], done.dataset)
        from sites.rehearsal import _run

        run, looks = _run(people)
        assert all(one.state == "answered" for one in looks.values())
        assert run.report is not None
        assert [one["uploader"] for one in run.report["strata"]["datasets"]] == sorted(sessions)
        request = ReleaseRequest(run_id=run.run_id, audience=tuple(sessions))
        release = wait_for_job(people, people.admin.start_release(study, request))
        linked = {party: fetch_ids(one, release.job_id) for party, one in sessions.items()}
    assert all(CANARY["record_id"] in ids for ids in linked.values())
    said = capfd.readouterr()
    assert not leaks((said.out + said.err).encode())
    wire = b"".join(heard)
    assert len(wire) > 100_000
    assert not leaks(wire)
    broker = list((tmp_path / "out" / "rehearsal" / "broker").rglob("*"))
    assert any(path.suffix in (".sqlite", ".db", ".sqlite3") for path in broker)
    assert leaking_files(tmp_path, but=lambda path: commons in path.parents) == []


# A tokenization that fails

STUDY = f"""
[study]
id = "leaks"
title = "Leaks"
purpose = "To look for them"
[[party]]
id = "alpha"
fields = {FIELDS}
[[party]]
id = "beta"
fields = {FIELDS}
[[clk]]
id = "one"
fields = [
    {{ field = "first_name" }}, {{ field = "last_name" }}, {{ field = "ssn" }},
    {{ field = "date_of_birth" }}, {{ field = "street" }},
]
[[match_key]]
id = "rule"
fields = ["first_name", "last_name", "date_of_birth"]
{STRATA}""".replace("'", '"')
EVERYONE = cast(excepted(STUDY))
_FINGERPRINT = EVERYONE.signed.pin(CUSTODIAN).fingerprint
HEADER = ",".join(CANARY)
GOOD = ",".join(CANARY.values())


def site(folder: Path, content: str | bytes, **changes: str) -> Path:
    """Write a site's folder around a source of this content."""
    vault_of(EVERYONE, "alpha", folder / "private")
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "people.csv").write_bytes(data)
    lines = {"record_id": "record_id", "date_format": "MM/DD/YYYY", **changes}
    source = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    columns = "".join(f'{field} = "{field}"\n' for field in FIELDS)
    (folder / "site.toml").write_text(
        f'party = "alpha"\n[source]\nfile = "people.csv"\n{source}[source.columns]\n{columns}'
        '[source.subgroups]\norigin = "origin"\n[strata]\nsend = true\n'
        f'[broker]\nurl = "https://broker.invalid"\ncustodian = "{_FINGERPRINT}"\n'
    )
    return folder / "site.toml"


def many(count: int) -> str:
    """Return `count` records of canaries, ids apart."""
    rest = GOOD.partition(",")[2]
    return f"{HEADER}\n" + "".join(f"{CANARY['record_id']}-{i},{rest}\n" for i in range(count))


BROKEN: dict[str, tuple[str | bytes, dict[str, str]]] = {
    "a ragged row": (f"{HEADER}\n{GOOD},more\n", {}),
    "an id twice": (f"{HEADER}\n{GOOD}\n{GOOD}\n", {}),
    "no id": (f"{HEADER}\n,{GOOD.partition(',')[2]}\n", {}),
    "no header": (f"{GOOD}\n{GOOD}\n", {}),
    "an open quote": (f'{HEADER}\n"{GOOD}\n', {}),
    "another encoding": (f"{HEADER}\n{GOOD}\xfc\n".encode("latin-1"), {"encoding": "utf-8"}),
    "another date format": (many(40), {"date_format": "YYYYMMDD"}),
    "a nul byte": (f"{HEADER}\n{GOOD}\0\n", {}),
    "columns exchanged": (many(40).replace("date_of_birth,sex", "sex,date_of_birth", 1), {}),
}


def run(folder: Path, *more: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    (folder / "scratch").mkdir(exist_ok=True)
    return subprocess.run(
        [program("linkage-site"), "tokenize", "--site", str(folder / "site.toml"), *more],
        capture_output=True,
        cwd=folder / "scratch",
        env={**os.environ, "TMPDIR": str(folder / "scratch"), "PYTHONFAULTHANDLER": "1"},
        timeout=120,
        **options,  # type: ignore[call-overload]
    )


def nothing_leaked(folder: Path, said: bytes) -> None:
    assert not leaks(said), said.decode(errors="replace")
    assert leaking_files(folder, but=lambda path: path.name == "people.csv") == []


@pytest.mark.threat("P06")
@pytest.mark.parametrize("name", BROKEN)
def test_a_refusal_shows_no_value(tmp_path: Path, name: str) -> None:
    content, changes = BROKEN[name]
    site(tmp_path, content, **changes)
    done = run(tmp_path)
    assert done.returncode == 4, done.stderr.decode()
    assert b"What to do" in done.stderr
    nothing_leaked(tmp_path, done.stdout + done.stderr)


def test_a_reject_file_shows_no_value(tmp_path: Path) -> None:
    site(tmp_path, many(30) + f"{GOOD},more\n{GOOD.replace('03/17/1971', '99/99/1971')}\n")
    done = run(tmp_path, "--reject-file", str(tmp_path / "rejects.csv"), "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert len((tmp_path / "rejects.csv").read_text().splitlines()) == 3
    nothing_leaked(tmp_path, done.stdout + done.stderr)


def test_a_full_disk_shows_no_value(tmp_path: Path) -> None:
    site(tmp_path, many(2_000))

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run(tmp_path, "--workers", "0", preexec_fn=small_files)
    assert done.returncode != 0
    assert b"Error" in done.stderr
    nothing_leaked(tmp_path, done.stdout + done.stderr)
    assert not (tmp_path / "private" / "packages" / "1").exists()


def _as_much_core_as_allowed() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)  # 0 after a command in this very process
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


@pytest.mark.threat("P06")
@pytest.mark.parametrize("fatal", [signal.SIGABRT, signal.SIGSEGV, signal.SIGTERM, signal.SIGINT])
def test_a_crash_shows_no_value_and_leaves_no_core(tmp_path: Path, fatal: signal.Signals) -> None:
    site(tmp_path, many(30_000))
    (tmp_path / "scratch").mkdir()
    running = subprocess.Popen(
        [program("linkage-site"), "tokenize", "--site", str(tmp_path / "site.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path / "scratch",
        env={**os.environ, "TMPDIR": str(tmp_path / "scratch"), "PYTHONFAULTHANDLER": "1"},
        preexec_fn=_as_much_core_as_allowed,
    )
    spool, deadline = tmp_path / "private" / "spool" / "1", time.monotonic() + 240
    while running.poll() is None and time.monotonic() < deadline and not spool.exists():
        time.sleep(0.01)
    time.sleep(0.3)  # it reads and encodes now
    running.send_signal(fatal)
    said, _ = running.communicate(timeout=240)
    assert running.returncode != 0
    nothing_leaked(tmp_path, said)
    assert not list((tmp_path / "scratch").glob("core*"))
