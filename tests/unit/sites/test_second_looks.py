"""Second looks at a site: what is answered, what is refused, and what is left of it."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkage.errors import KeyRefused
from linkage.look_tables import names_of
from linkage.messages import CUSTODIAN
from linkage.pseudonyms import ContributorSecret
from sites.config import load_site
from sites.look_ledger import Ledger, by_record
from sites.second_looks import Outcome, answer_looks, asked_of, waiting_rows, what_leaves
from sites.session import Session, session_of
from sites.tokenizer import tokenize
from tests.look_world import OTHER, Asked, AskingBroker, questions_about
from tests.programs import program, run
from tests.studies import STUDY, cast, vault_of
from tests.test_no_leaks import CANARY, leaking_files, leaks

LOOKS = "\n[second_look]\nmost_per_record = 2\nmost_per_run = 30\nmost_runs = 3\n"
PARTY_FIELDS = ("first_name", "last_name", "date_of_birth", "sex")
EVERYONE = cast(STUDY + LOOKS)
COLUMNS = ("record_id", *PARTY_FIELDS)


def people(count: int) -> list[list[str]]:
    """Return records, ids and names apart; the first is full of canaries."""
    first = [CANARY["record_id"], *(CANARY[field] for field in PARTY_FIELDS)]
    rows = [
        [f"id-{i}", f"Anna{chr(97 + i % 26)}", f"Miller{i}", f"0{i % 9 + 1}/11/19{40 + i}", "F"]
        for i in range(1, count)
    ]
    return [first, *rows]


def write(folder: Path, rows: list[list[str]]) -> None:
    with (folder / "people.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


@pytest.fixture
def broker() -> Iterator[AskingBroker]:
    with AskingBroker(EVERYONE, "alpha") as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path, broker: AskingBroker) -> Path:
    """A site that has tokenized twenty people; its site file names the broker."""
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    write(tmp_path, people(20))
    columns = "".join(f'{one} = "{one}"\n' for one in PARTY_FIELDS)
    (tmp_path / "site.toml").write_text(
        'party = "alpha"\n[source]\nfile = "people.csv"\nrecord_id = "record_id"\n'
        f'date_format = "MM/DD/YYYY"\n[source.columns]\n{columns}'
        f'[broker]\nurl = "{broker.url}"\n'
        f'custodian = "{EVERYONE.signed.pin(CUSTODIAN).fingerprint}"\n'
    )
    tokenize(load_site(tmp_path / "site.toml").source, "alpha", EVERYONE.signed, vault, workers=0)
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Iterator[Session]:
    with session_of(folder / "site.toml") as session:
        yield session


def pseudonyms(session: Session, ids: list[str]) -> list[bytes]:
    made = session.vault.secret().pseudonyms(session.study_id, ids)
    return [one.tobytes() for one in made]


def all_ids(count: int = 20) -> list[str]:
    return [row[0] for row in people(count)]


def ask(broker: AskingBroker, session: Session, ids: list[str], run_id: str = "run-1") -> Asked:
    return broker.ask(questions_about("alpha", "beta", pseudonyms(session, ids)), run_id)


def the_one(outcomes: list[Outcome]) -> Outcome:
    (one,) = outcomes
    return one


def test_every_question_is_answered_with_the_fields_that_both_hold(
    broker: AskingBroker, site: Session
) -> None:
    asked = ask(broker, site, all_ids())
    done = the_one(answer_looks(site))
    assert (done.state, done.fault) == ("answered", None)
    answers = broker.opened(asked, asked.answers[0])
    assert len(answers) == 20
    present = {field: column.present.all() for field, column in answers.filters.items()}
    assert {field for field, there in present.items() if there} == set(PARTY_FIELDS)
    assert not answers.filters["zip"].present.any()
    assert "20 records" in what_leaves(site, [done])
    assert "first_name" in what_leaves(site, [done])
    assert answer_looks(site) == []


def test_two_sites_give_one_filter_for_one_value(
    broker: AskingBroker, site: Session, tmp_path: Path
) -> None:
    other_secret = ContributorSecret.generate()
    mine = pseudonyms(site, all_ids()[:3])
    theirs = [one.tobytes() for one in other_secret.pseudonyms(site.study_id, ["x", "y", "z"])]
    questions = questions_about("alpha", "beta", mine, theirs)
    asked = broker.ask(questions)
    answer_looks(site)
    answers = broker.opened(asked, asked.answers[0])
    from linkage.encoding.columns import Coded
    from linkage.encoding.field_filters import answer
    from linkage.look_tables import Questions, partner_tag
    from tests.look_world import matrix

    tags = [partner_tag(n, m) for n, m in zip(names_of(questions.nonces), mine, strict=True)]
    turned = Questions("beta", questions.nonces, matrix(theirs), ("alpha",) * 3, matrix(tags))
    values = {
        "first_name": Coded.of(["canaryfirst", "annab", "somebody"]),
        "last_name": Coded.of(["ocanarylast", "miller1", "else"]),
        "date_of_birth": Coded.of(["19710317", "19411102", "20000101"]),
        "sex": Coded.of(["f", "f", "m"]),
        "zip": Coded.of(["", "", ""]),
    }
    rows = {name: row for row, name in enumerate(theirs)}
    made = answer(turned, values, rows, study=site.signed.study, key=EVERYONE.key)
    equal = (answers.filters["first_name"].values == made.filters["first_name"].values).all(axis=1)
    assert equal.tolist() == [True, True, False]


def test_a_record_that_changed_stays_unanswered(
    broker: AskingBroker, folder: Path, site: Session
) -> None:
    asked = ask(broker, site, all_ids())
    rows = people(20)
    rows[3][2] = "Married"
    write(folder, rows[:18])
    done = the_one(answer_looks(site))
    assert done.entry is not None
    assert (done.entry.answered, done.entry.changed, done.entry.gone) == (17, 1, 2)
    assert "1 changed since the upload" in done.said
    assert "2 are gone" in done.said
    answered = set(names_of(broker.opened(asked, asked.answers[0]).nonces))
    assert names_of(asked.questions.nonces)[3] not in answered
    assert len(answered) == 17


def test_another_source_answers_nothing(broker: AskingBroker, folder: Path, site: Session) -> None:
    asked = ask(broker, site, all_ids())
    write(folder, [[row[0], "Other", "Person", *row[3:]] for row in people(20)])
    done = the_one(answer_looks(site))
    assert done.state == "failed"
    assert "read otherwise" in done.said
    assert asked.answers == []
    write(folder, people(20))
    assert the_one(answer_looks(site)).state == "answered", "a failure is not for good"


REFUSED = {
    "too many a record": ("most_per_record", lambda s: [s[0]] * 3),
    "too many a run": ("most_per_run", lambda s: [one for one in s for _ in range(2)]),
    "a stranger's record": ("does not have", lambda s: [s[0], OTHER]),
}


@pytest.mark.threat("T14")
@pytest.mark.parametrize("name", REFUSED)
def test_what_goes_beyond_the_study_is_refused(
    broker: AskingBroker, site: Session, name: str
) -> None:
    rule, choose = REFUSED[name]
    asked = broker.ask(questions_about("alpha", "beta", choose(pseudonyms(site, all_ids()))))
    for _ in range(2):
        done = the_one(answer_looks(site))
        assert done.state == "refused"
        assert rule in done.said
        assert "run-1" in done.said
    assert asked.answers == []
    (entry,) = Ledger(site.vault, 1).entries()
    assert rule in entry.refusal
    assert by_record([entry]) == {}


@pytest.mark.threat("T14")
def test_announced_few_and_asked_many(broker: AskingBroker, site: Session) -> None:
    many = [one for one in pseudonyms(site, all_ids()) for _ in range(2)]
    asked = broker.ask(questions_about("alpha", "beta", many), questions=20)
    assert "more than 30 rows" in the_one(answer_looks(site)).said
    assert asked.answers == []


@pytest.mark.threat("T14")
def test_more_runs_than_the_study_allows_are_refused(broker: AskingBroker, site: Session) -> None:
    for number in range(1, 6):
        ask(broker, site, all_ids()[:4], f"run-{number}")
        done = the_one(answer_looks(site))
        assert (done.state == "answered") == (number <= 3)
        if number > 3:
            assert "3 (most_runs)" in done.said
            assert "more than 3 times" in done.said
            del broker.runs[f"run-{number}"]
    ledger = Ledger(site.vault, 1)
    assert set(by_record(ledger.entries()).values()) == {3}
    assert [one.run_id for one in ledger.entries()] == [f"run-{n}" for n in range(1, 6)]


@pytest.mark.threat("T14")
def test_a_run_asks_once(broker: AskingBroker, site: Session) -> None:
    ask(broker, site, all_ids()[:4])
    answer_looks(site)
    asked = ask(broker, site, all_ids()[4:8])
    assert "now asks other questions" in the_one(answer_looks(site)).said
    assert asked.answers == []


@pytest.mark.threat("T14")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study_hash": "0" * 64}, "another signed study"),
        ({"digest": "0" * 64}, "not those that the broker announced"),
        ({"size": 10**7}, "wrong size"),
        ({"questions": 31}, "most_per_run"),
        ({"run_id": "run-2"}, "is not signed by 'broker' for this study, recipient and place"),
        ({"dataset": 2}, "was not made here"),
    ],
)
def test_what_does_not_fit_is_refused(
    broker: AskingBroker, site: Session, change: dict[str, object], said: str
) -> None:
    asked = ask(broker, site, all_ids()[:4])
    asked.state = asked.state.model_copy(update=change)
    broker.runs = {asked.state.run_id: asked}
    done = the_one(answer_looks(site))
    assert done.fault is not None
    assert said in done.said
    assert done.fault.hint
    assert asked.answers == []


def test_a_study_without_second_looks_asks_nobody(broker: AskingBroker, site: Session) -> None:
    ask(broker, site, all_ids()[:4])
    off = cast(STUDY)
    closed = dataclasses.replace(site, signed=off.signed)
    assert asked_of(closed) == []
    assert answer_looks(closed) == []
    assert broker.heard == []


def test_an_answer_is_the_same_bytes_however_often_it_is_sent(
    broker: AskingBroker, site: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sites.client._FIRST_WAIT_S", 0.01)
    asked = ask(broker, site, all_ids()[:4])
    asked.fails = 2
    assert the_one(answer_looks(site)).state == "answered"
    asked.state = asked.state.model_copy(update={"state": "asked"})  # it forgot
    assert the_one(answer_looks(site)).state == "sent again"
    assert len(asked.answers) == 4
    assert len(set(asked.answers)) == 1


def test_an_answer_that_the_broker_cannot_read_is_not_made_twice(
    broker: AskingBroker, site: Session
) -> None:
    asked = ask(broker, site, all_ids()[:4])
    answer_looks(site)
    asked.state = asked.state.model_copy(update={"state": "refused", "refusal": "it is odd"})
    assert "it is odd" in the_one(answer_looks(site)).said
    assert len(asked.answers) == 1


def test_without_the_study_key_nothing_is_answered(broker: AskingBroker, site: Session) -> None:
    ask(broker, site, all_ids()[:4])
    site.vault.study_key_file.unlink()
    with pytest.raises(KeyRefused):
        answer_looks(site)


@pytest.mark.long
def test_killed_with_the_answer_in_hand_it_sends_the_same(
    broker: AskingBroker, folder: Path, site: Session
) -> None:
    asked = ask(broker, site, all_ids())
    asked.kills = 1
    command = [program("linkage-site"), "answer", "--site", str(folder / "site.toml")]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    broker.victim = killed.pid
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    asked.state = asked.state.model_copy(update={"state": "asked"})
    done = run("linkage-site", "answer", "--site", folder / "site.toml", "--json")
    assert done.code == 0, done.err
    assert done.json["second_looks"][0]["state"] == "sent again"
    assert len(asked.answers) >= 2
    assert len(set(asked.answers)) == 1


@pytest.mark.long
def test_killed_at_any_time_there_is_one_answer(
    broker: AskingBroker, folder: Path, site: Session
) -> None:
    asked = ask(broker, site, all_ids())
    command = [program("linkage-site"), "answer", "--site", str(folder / "site.toml")]
    begun = time.monotonic()
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    whole = time.monotonic() - begun
    for number, share in ((2, 0.6), (3, 0.9)):
        asked = ask(broker, site, all_ids(), f"run-{number}")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(share * whole)
        process.kill()
        process.wait()
        answer_looks(site)
        answer_looks(site)
        assert len(set(asked.answers)) == 1


def test_the_command_says_what_leaves_and_keeps_a_ledger(
    broker: AskingBroker, folder: Path, site: Session
) -> None:
    at = ("--site", folder / "site.toml")
    assert "no run asks" in run("linkage-site", "answer", *at).out
    asked = ask(broker, site, all_ids())
    (said,) = waiting_rows(site).values()
    assert "20 questions wait until" in str(said)
    before = sorted((folder / "private").rglob("*"))
    planned = run("linkage-site", "answer", *at, "--dry-run")
    assert "20 questions about 20 records" in planned.out
    assert "date_of_birth" in planned.out
    assert (sorted((folder / "private").rglob("*")), asked.answers) == (before, [])
    done = run("linkage-site", "answer", *at)
    assert (done.code, len(asked.answers)) == (0, 1)
    assert "what leaves" in done.out
    listed = run("linkage-site", "answer", *at, "--ledger", "--json").json
    assert (listed["runs_answered"], listed["most_runs"]) == (1, 3)
    assert listed["runs"][0]["answered"] == 20
    asked = ask(broker, site, all_ids()[4:8])
    refused = run("linkage-site", "answer", *at)
    assert (refused.code, "What to do" in refused.err) == (6, True)
    assert "REFUSED" in run("linkage-site", "answer", *at, "--ledger").out


def test_watching_answers_and_ends_by_ctrl_c(
    broker: AskingBroker, folder: Path, site: Session
) -> None:
    asked = ask(broker, site, all_ids())
    command = [program("linkage-site"), "answer", "--site", str(folder / "site.toml")]
    watching = subprocess.Popen(
        [*command, "--watch", "600", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert watching.stdout is not None
    line = watching.stdout.readline()  # told once it is answered; then it waits
    watching.send_signal(signal.SIGINT)
    rest, err = watching.communicate(timeout=120)
    assert watching.returncode == 130, err
    assert json.loads(line)["second_looks"][0]["state"] == "answered"
    assert (len(asked.answers), rest) == (1, b"")


@pytest.mark.threat("T14")
def test_no_value_and_no_record_id_is_left_or_sent(
    broker: AskingBroker, folder: Path, site: Session
) -> None:
    ask(broker, site, all_ids())
    done = run("linkage-site", "answer", "--site", folder / "site.toml", "--json")
    assert done.json["second_looks"][0]["answered"] == 20
    write(folder, [[row[0], "Other", "Person", *row[3:]] for row in people(20)])
    ask(broker, site, all_ids(), "run-2")
    failed = run("linkage-site", "answer", "--site", folder / "site.toml")
    assert failed.code == 4
    said = done.out + done.err + failed.out + failed.err
    assert not leaks(said.encode())
    assert not leaks(b"".join(broker.heard))
    assert leaking_files(folder, but=lambda path: path.name == "people.csv") == []
    # The account is encrypted: it names no record either.
    kept = b"".join(p.read_bytes() for p in (folder / "private" / "kept").rglob("run-*"))
    for name in pseudonyms(site, all_ids()):
        assert name not in kept
        assert name.hex().encode() not in kept
