"""What a site does not believe, and does not show: relayed studies, brokers, others' texts."""

from __future__ import annotations

import dataclasses
import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from linkage import delivery, idtables
from linkage.errors import Conflict, KeyRefused, NotAllowed, PackageRefused, SiteRefused
from linkage.messages import (
    BROKER,
    CUSTODIAN,
    DELIVERY_CROSSWALK,
    Approval,
    QuestionState,
    SealedItem,
)
from linkage.pseudonyms import random_ids
from linkage.sealing import Context, seal
from sites import terminal
from sites.answer_parts import encrypt_days, pack_answer, read_days, unpack_answer
from sites.answers import send_rows
from sites.cohort.attrition import Attrition, Step
from sites.cohort.bundle import SERIES_SCHEMA, bundle_from_bytes, bundle_to_bytes
from sites.cohort_cli import app
from sites.config import BrokerConfig, SiteConfig, load_site
from sites.crosswalk import write_ids
from sites.enclave import _made_of, _open_rows
from sites.packages import load_manifest
from sites.questions import asked_hash, decide, require_approved, require_epoch
from sites.session import Session
from sites.tokenizer import tokenize
from tests.questions import question as asking
from tests.questions import shown
from tests.studies import STUDY, cast, save_map, vault_of
from tests.unit.sites.test_tokenizer import source

EVERYONE = cast()
TOLD = EVERYONE.signed.pin(CUSTODIAN).fingerprint
ASKED = asking("run-1", title="Chest CT", purpose="To test", imaging={"modality": ["CT"]})
QUESTION = shown(ASKED, "imaging", delivery_id="delivery-1")


class Relaying:
    """An adversary: a broker that says whatever it likes."""

    def __init__(self, question: QuestionState) -> None:
        self.says, self.approvals = question, list[Approval]()
        self.sealed: dict[str, bytes] = {}

    def inbox(self, _study: str, *, purpose: str, subject: str) -> tuple[SealedItem, ...]:
        size, digest = len(self.sealed[purpose]), "0" * 64
        return (
            SealedItem(
                item_id="item-1",
                purpose=purpose,
                subject=subject,
                sender=BROKER,
                recipient="beta",
                size=size,
                digest=digest,
            ),
        )

    def fetch(self, _study: str, item: SealedItem) -> bytes:
        return self.sealed[item.purpose]

    def question(self, _study: str, _question: str) -> QuestionState:
        return self.says

    def approve(self, approval: Approval) -> QuestionState:
        self.approvals.append(approval)
        return self.says


def session(folder: Path, party: str = "alpha") -> tuple[Session, Any]:
    broker: Any = Relaying(QUESTION)
    site = SiteConfig(party=party, private=folder, source=source(folder.parent))
    vault = vault_of(EVERYONE, party, folder)
    return Session(site, vault, EVERYONE.signed, EVERYONE.identities[party], broker), broker


@pytest.mark.threat("T10")
def test_a_site_trusts_the_custodian_it_was_told(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    assert vault.signed_study(TOLD).study_hash == EVERYONE.signed.study_hash
    for nobody in (None, "", "  "):
        with pytest.raises(KeyRefused, match="which custodian to trust"):
            vault.signed_study(nobody)
    # Whoever relays the file signs another one, with a study key that it knows.
    vault.signed_study_file.write_text(cast().signed.model_dump_json(), encoding="utf-8")
    with pytest.raises(PackageRefused, match="another custodian"):
        vault.signed_study(TOLD)


@pytest.mark.parametrize(
    ("text", "rehearsal", "message"),
    [
        (STUDY, True, "rehearsal"),
        (STUDY.replace("[[party]]", "expires = 2001-01-01\n[[party]]", 1), False, "expired"),
    ],
)
def test_rehearsals_and_expired_studies_are_refused(
    tmp_path: Path, text: str, rehearsal: bool, message: str
) -> None:
    other = cast(text, rehearsal=rehearsal)
    vault = vault_of(other, "alpha", tmp_path / "private")
    with pytest.raises(KeyRefused, match=message):
        vault.signed_study(other.signed.pin(CUSTODIAN).fingerprint)


def test_tokens_do_not_travel_in_the_clear() -> None:
    for url in ("https://broker.example.org", "http://127.0.0.1:8400", "http://[::1]:1"):
        assert BrokerConfig(url=url).url == url
    for url in ("http://broker.example.org", "http://127.0.0.1.example.org", "http://127.0.0.1@x"):
        with pytest.raises(ValueError, match="in the clear"):
            BrokerConfig(url=url)
    for url in ("broker.example.org", "127.0.0.1:8400", "ftp://broker.example.org", "https://"):
        with pytest.raises(ValueError, match="no web address"):
            BrokerConfig(url=url)
    with pytest.raises(ValueError, match="inside the broker"):
        BrokerConfig(url="https://broker.example.org/v1/")


def test_a_missing_site_file_is_said_with_the_option_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SiteRefused, match="there is no such file") as caught:
        load_site(tmp_path / "site.toml")
    assert "--site" in caught.value.hint


def test_a_file_of_ids_is_its_owners(tmp_path: Path) -> None:
    out = tmp_path / "ids" / "alpha.csv"
    for ids in ({"r2": "B", "r1": "A"}, {"r1": "C"}):
        write_ids(ids, out)
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.read_text() == "record_id,cross_commons_id\nr1,C\n"


@pytest.mark.threat("T04")
def test_the_manifest_gives_no_exact_count_of_nulls(tmp_path: Path) -> None:
    people = [("r1", "Ada", "Byron", "12/10/1915", "F"), ("r2", "Ann", "Byron", "12/10/1915", "F")]
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(source(tmp_path, people), "alpha", EVERYONE.signed, vault)
    assert load_manifest(done.package).null_reasons["sound-dob"] == {"repeated": 5}
    assert done.no_key["sound-dob"] == 2


def test_a_package_never_appears_without_its_map(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    in_the_way = vault.folder / "map-1"
    in_the_way.write_text("")
    with pytest.raises(NotADirectoryError):
        tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    assert vault.newest_dataset() == 0


@pytest.mark.threat("T11")
def test_the_length_of_an_answer_does_not_tell_how_many_qualify() -> None:
    asked = random_ids(5_000)
    sizes = set()
    for count in (0, 7, 4_999, 5_000):
        steps = (Step(label="series", subjects=count),)
        answer = Attrition(side="imaging", steps=steps)
        packed = pack_answer(answer, asked[:count], size=len(asked))
        sizes.add(len(packed))
        opened = unpack_answer(packed)
        ids = opened.question_ids
        assert (opened.attrition, opened.days) == (answer, None)
        assert len(ids) == len(asked)
        mine = {one.tobytes() for one in ids} & {one.tobytes() for one in asked}
        assert mine == {one.tobytes() for one in asked[:count]}
        assert np.array_equal(ids, ids[np.lexsort(ids.T)])
    assert len(sizes) == 1


@pytest.mark.threat("T11")
def test_days_open_for_own_persons_only_and_no_length_tells() -> None:
    """An answer that counts days from the image: cells of those who fit among as long noise."""
    size, keys = 500, np.frombuffer(bytes(range(250)) * 64, np.uint8).reshape(-1, 32)
    everyone = {"question_id": random_ids(size), "answer_key": keys[:size]}
    answer, sizes = Attrition(side="imaging", steps=(Step(label="series", subjects=1),)), set()
    for count in (0, 3, size):
        mine = {name: column[:count] for name, column in everyone.items()}
        each = [[i, i + 7, i] for i in range(count)]
        days = encrypt_days(mine, each, frame="true")
        packed = pack_answer(answer, mine["question_id"], size=size, days=days)
        sizes.add(len(packed))
        opened = unpack_answer(packed)
        assert opened.days is not None
        assert (opened.days.frame, opened.days.index_event, opened.days.cut) == ("true", None, 0)
        found = read_days(opened, everyone)
        names = [one.tobytes().hex() for one in mine["question_id"]]
        assert found == {name: (i, i + 7) for i, name in enumerate(names)}
        stranger = {"question_id": random_ids(5), "answer_key": keys[:5]}
        assert read_days(opened, stranger) == {}
        if count == 3:
            wrong = {"question_id": mine["question_id"], "answer_key": keys[100:103]}
            with pytest.raises(PackageRefused, match="does not open"):
                read_days(opened, wrong)
    assert len(sizes) == 1
    with pytest.raises(PackageRefused, match="has no days"):
        read_days(unpack_answer(pack_answer(answer, everyone["question_id"], size=size)), everyone)


def changed(**changes: object) -> Callable[[QuestionState], QuestionState]:
    return lambda question: question.model_copy(update=changes)


@pytest.mark.threat("T22")
@pytest.mark.parametrize(
    "change",
    [
        changed(imaging={"any": True}),
        changed(purpose="Another one"),
        changed(spec_hash="1" * 64),
        changed(run_id="run-2"),
        changed(question_id="question-2"),
    ],
)
def test_only_what_the_steward_approved_is_delivered(
    tmp_path: Path, change: Callable[[QuestionState], QuestionState]
) -> None:
    here, broker = session(tmp_path / "private")
    with pytest.raises(NotAllowed, match="did not approve"):
        send_rows(here, "question-1", "delivery-1")
    decide(here, "question-1", "approve")
    require_approved(here, QUESTION)
    later = QUESTION.model_copy(update={"state": "running", "approvals": {"alpha": "approve"}})
    require_approved(here, later)
    broker.says = change(QUESTION)
    assert asked_hash(broker.says) != asked_hash(QUESTION)
    with pytest.raises((NotAllowed, PackageRefused), match=r"did not approve|commits to"):
        send_rows(here, "question-1", "delivery-1")
    with pytest.raises(NotAllowed, match="did not approve"):
        require_approved(here, broker.says)


@pytest.mark.threat("T22")
def test_an_approval_ends_by_itself_and_is_taken_back(tmp_path: Path) -> None:
    here, broker = session(tmp_path / "private")
    decide(here, "question-1", "approve", expires="2001-01-01")
    with pytest.raises(NotAllowed, match="not until today"):
        require_approved(here, QUESTION)
    decide(here, "question-1", "approve", expires="2999-01-01")
    require_approved(here, QUESTION)
    ended = {"stopped": "revoked by: beta", "newer": "question-2"}
    with pytest.raises(Conflict, match="revoked by: beta") as caught:
        require_approved(here, QUESTION.model_copy(update=ended))
    assert "question-2" in caught.value.hint
    decide(here, "question-1", "revoke")
    with pytest.raises(NotAllowed):
        require_approved(here, QUESTION)
    assert [one.decision for one in broker.approvals] == ["approve", "approve", "revoke"]


@pytest.mark.threat("T22")
def test_a_question_of_another_epoch_is_not_delivered(tmp_path: Path) -> None:
    here, _ = session(tmp_path / "private")
    decide(here, "question-1", "approve")
    require_epoch(here, QUESTION)
    other = QUESTION.model_copy(update={"study_hash": "0" * 64})
    with pytest.raises(Conflict, match="another signed study"):
        require_epoch(here, other)
    later = cast(STUDY.replace("[study]", "[study]\nepoch = 2", 1)).signed
    assert later.study.study.epoch == 2
    with pytest.raises(Conflict, match="epoch 2"):
        require_epoch(dataclasses.replace(here, signed=later), QUESTION)


@pytest.mark.threat("T22")
def test_a_sequestered_party_delivers_no_rows(tmp_path: Path) -> None:
    text = STUDY.replace('id = "alpha"', 'id = "alpha"\nsequestered = true', 1)
    apart = cast(text).signed
    here, broker = session(tmp_path / "private")
    decide(here, "question-1", "approve")
    here = dataclasses.replace(here, signed=apart)
    with pytest.raises(NotAllowed, match="counts only") as caught:
        decide(here, "question-1", "approve")
    assert "linkage-site allow" in caught.value.hint
    with pytest.raises((NotAllowed, Conflict)):
        send_rows(here, "question-1", "delivery-1")
    decide(here, "question-1", "deny")
    assert [one.decision for one in broker.approvals] == ["approve", "deny"]


@pytest.mark.threat("T22")
def test_a_denial_stands_whatever_the_broker_says(tmp_path: Path) -> None:
    here, broker = session(tmp_path / "private")
    decide(here, "question-1", "approve")
    decide(here, "question-1", "deny")
    broker.says = QUESTION.model_copy(update={"approvals": {"alpha": "approve"}})
    with pytest.raises(NotAllowed):
        require_approved(here, broker.says)


def test_another_partys_approval_is_none(tmp_path: Path) -> None:
    here, _ = session(tmp_path / "private")
    decide(here, "question-1", "approve")
    beta = dataclasses.replace(here, identity=EVERYONE.identities["beta"])
    with pytest.raises(NotAllowed):
        require_approved(beta, QUESTION)


def test_anothers_text_cannot_rewrite_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=200))
    terminal.show("\x1b[2Ktitle", {"purpose": "fine\n  decisions  approved\x1b[1A[red]\x07"})
    seen = screen.getvalue()
    assert not {"\x1b", "\x07"} & set(seen)
    assert "[red]" in seen
    assert seen.count("\n") == 2


@pytest.mark.parametrize("hostile", [r"\[bold red]Error:[/] x", r"no end \[/b]", "\\", ":bomb:"])
def test_anothers_text_is_no_markup(monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    """A backslash before a bracket once began markup, or ended the command as a bug."""
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=200, force_terminal=True))
    monkeypatch.setattr(terminal, "err", Console(file=screen, width=200, force_terminal=True))
    terminal.show(hostile, {hostile: hostile})

    @terminal.told
    def refused() -> None:
        raise NotAllowed(hostile, hint=hostile)

    with pytest.raises(typer.Exit):
        refused()
    seen = screen.getvalue()
    assert seen.count(hostile) == 5
    assert "\x1b[1;31m" + "Error:" in seen
    assert seen.count("\x1b[1;31m") == 1


def test_a_specification_of_others_cannot_rewrite_the_screen(tmp_path: Path) -> None:
    spec = tmp_path / "cohort.toml"
    spec.write_text(
        '[cohort]\nid = "of-others"\ntitle = "a \\u001b[2J\\u202eb"\npurpose = "why"\n'
        '[imaging]\nmodality = ["CT"]\n[clinical]\nany = true\n'
    )
    done = CliRunner().invoke(app, ["validate", str(spec)])
    assert done.exit_code == 0, done.output
    assert "a \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b\n" in done.output


def test_all_rows_of_a_person_open_each_once(tmp_path: Path) -> None:
    """Two subjects of the imaging party and two records of the enclave are one person."""
    here, broker = session(tmp_path / "private", "beta")
    k, subjects, records = b"k" * 32, random_ids(2), random_ids(2)
    save_map(here.vault, 1, records, ["r1", "r2"])
    here.vault.package(1).mkdir(parents=True)
    encrypted = []
    for number, subject in enumerate(subjects):
        row = {f.name: None for f in SERIES_SCHEMA} | {
            "study_uid": "1.2",
            "series_uid": f"1.2.{number}",
            "modality": "CT",
            "date_frame": "absent",
        }
        rows = pa.Table.from_pylist([row], SERIES_SCHEMA)
        encrypted.append(
            delivery.encrypt_rows(k, subject.tobytes(), bundle_to_bytes({"series": rows}))
        )
    pairs = [(record, subject.tobytes()) for record in records for subject in subjects]
    table = {
        "record_pseudonym": np.array([record for record, _ in pairs]),
        "cohort_id": np.repeat(random_ids(1), 4, axis=0),
        "row_id": _bytes([delivery.row_id(k, subject) for _, subject in pairs]),
        "row_key": _bytes([delivery.row_key(k, subject) for _, subject in pairs]),
    }
    broker.sealed[DELIVERY_CROSSWALK] = seal(
        idtables.pack(table, idtables.DELIVERY_CROSSWALK),
        sender=EVERYONE.identities[BROKER],
        recipient=EVERYONE.signed.pin("beta"),
        context=Context("small-study", BROKER, "beta", DELIVERY_CROSSWALK, ("delivery-1",)),
    )
    received = _open_rows(here, "delivery-1", delivery.pack_rows(encrypted))
    (bundles,) = received.images.values()
    series = [bundle_from_bytes(content)["series"] for content in bundles]
    assert sorted(table["series_uid"][0].as_py() for table in series) == ["1.2.0", "1.2.1"]
    assert set(received.cohort_of) == {"r1", "r2"}


def test_a_delivery_keeps_its_seed_and_time_in_the_vault(tmp_path: Path) -> None:
    here, _ = session(tmp_path / "private", "beta")
    made = _made_of(here, "delivery-1")
    assert made == _made_of(here, "delivery-1")
    assert made[0] != _made_of(here, "delivery-2")[0]
    kept = [path.read_bytes() for path in here.vault.folder.rglob("delivery-made-*")]
    assert len(kept) == 2
    assert not any(made[0] in content for content in kept)


def _bytes(rows: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
